"""Files and options that cannot be read: each refused in one line that says why."""

import io
import os
import pickle
import re

import numpy as np
import pytest

from events.errors import ConfigError, DamagedRecording, EventsError, UnknownFormat
from events.readers.registry import READERS, identify, open_recording
from events.recording import ReadOptions


def refused(path, error, message, **options):
    """Opening and reading fails with that error, whose message starts with the path and is one line."""
    with pytest.raises(error) as caught:
        open_recording(path, ReadOptions(**options)).read()
    text = str(caught.value)
    assert re.search(message, text), text
    assert "\n" not in text
    return text


def saved(array, **details) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **details)
    return stream.getvalue()


@pytest.mark.parametrize("file_format", [None, *READERS])
def test_empty_file(tmp_path, file_format):
    (tmp_path / "a.aedat").write_bytes(b"")
    refused(
        tmp_path / "a.aedat",
        UnknownFormat,
        r"a\.aedat: is empty \(0 bytes\), expected a recording",
        format=file_format,
    )


def test_header_only_is_a_recording_of_no_events(tmp_path):
    (tmp_path / "a.aedat").write_bytes(b"#!AER-DAT2.0\r\n# created today\r\n")
    recording = open_recording(tmp_path / "a.aedat", ReadOptions(damage="strict"))
    assert list(recording.chunks()) == []
    assert recording.report.notes == ["no events: no whole record in the file"]
    assert not recording.report.damaged


def test_file_that_ends_inside_its_header(tmp_path):
    path = tmp_path / "a.aedat"
    path.write_bytes(b"#!AER-DAT2.0\r\n# created tod")
    refused(path, DamagedRecording, "a.aedat: byte 27: the file ends inside its header", damage="strict")
    recording = open_recording(path)
    assert len(recording.read()) == 0
    assert recording.report.first_damage_byte == 27


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [40, 4096, 100_000])
def test_noise_called_aedat(tmp_path, seed, size):
    path = tmp_path / "noise.aedat"
    path.write_bytes(np.random.default_rng(seed).bytes(size))
    refused(
        path,
        UnknownFormat,
        rf"noise\.aedat: its {size} bytes are no recording known here, nor records in order",
    )


@pytest.mark.parametrize("content", [bytes(5000), b"\xff" * 6000, bytes(range(256)) * 30, b"#" + bytes(4999)])
def test_regular_bytes_are_no_recording(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    refused(tmp_path / "a", UnknownFormat, "a: its .* bytes are no recording known here")


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"MATLAB 7.3 MAT-file, Platform", "a MATLAB 7.3 file; save it with -v7"),
        (b"\x1f\x8b\x08", "gzip; unpack it first"),
        (b"<!DOCTYPE html><html>", "an HTML page, perhaps a failed download"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer; fetch the file itself"),
    ],
)
def test_known_formats_are_called_by_name(tmp_path, start, name):
    (tmp_path / "a.aedat").write_bytes(start + bytes(100))
    refused(tmp_path / "a.aedat", UnknownFormat, rf"a\.aedat: {name}: this version reads AEDAT 1 to 4, ")


def test_zip_archive_of_recordings(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("airplane/cifar10_airplane_0.aedat", b"#!AER-DAT2.0\r\n")
    refused(tmp_path / "a.zip", UnknownFormat, "a.zip: a zip archive without NumPy arrays; unpack it first")


def test_folder(tmp_path):
    refused(tmp_path, EventsError, "is a folder, expected one recording file; name a file in it")


def test_missing_file(tmp_path):
    refused(tmp_path / "absent", EventsError, "absent: no such file; check the path")


def test_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", EventsError, "pipe: is no regular file")


def test_file_without_permission(tmp_path, monkeypatch):
    path = tmp_path / "secret"
    path.write_bytes(b"#!AER-DAT2.0\r\n")
    path.chmod(0)
    if os.geteuid() == 0:  # root may read anything, so the refusal is the operating system's in name only

        def deny(*args, **kwargs):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("events.readers.source.os.open", deny)
    refused(path, EventsError, "secret: no permission to read it; change its owner or mode")


@pytest.mark.parametrize(
    ("file_format", "size", "header"), [("aedat2", 8, b"#!AER-DAT2.0\r\n"), ("bin40", 5, b"")]
)
def test_truncated_record(tmp_path, file_format, size, header):
    path = tmp_path / "cut"
    path.write_bytes(header + bytes(10 * size + 3))
    byte = len(header) + 10 * size
    message = rf"cut: byte {byte}: the file ends inside a record, 3 of {size} bytes; read with damage 'skip'"
    refused(path, DamagedRecording, message, damage="strict", format=file_format)
    recording = open_recording(path, ReadOptions(format=file_format))
    assert len(recording.read()) == 10
    assert (recording.report.partial_records, recording.report.first_damage_byte) == (1, byte)


def test_too_few_records_to_tell_the_format(tmp_path):
    path = tmp_path / "short.bin"
    path.write_bytes(b"".join(bytes([i, i, 0, 0, i]) for i in range(7)))
    refused(path, UnknownFormat, "if it is one of these, name the format")
    assert len(open_recording(path, ReadOptions(format="bin40")).read()) == 7
    path.write_bytes(b"".join(bytes([i, i, 0, 0, i]) for i in range(8)))
    assert identify(path) == "bin40"


def test_unknown_format_names_the_nearest(tmp_path):
    with pytest.raises(
        ConfigError, match=r"format 'aedat' has no reader; known are .*; did you mean 'aedat4'"
    ):
        open_recording(tmp_path / "a", ReadOptions(format="aedat"))


def test_version_other_than_asked_for(tmp_path):
    (tmp_path / "a").write_bytes(b"#!AER-DAT1.0\r\n" + bytes(60))
    refused(
        tmp_path / "a",
        UnknownFormat,
        "the header says AEDAT 1.0, asked to read it as AEDAT 2.0",
        format="aedat2",
    )


def test_version_that_is_none(tmp_path):
    (tmp_path / "a").write_bytes(b"#!AER-DATx\r\n" + bytes(60))
    refused(
        tmp_path / "a", UnknownFormat, "first line '#!AER-DATx' names no AEDAT version; expected 1.0, 2.0"
    )


def test_chip_whose_addresses_are_unknown(tmp_path):
    (tmp_path / "a").write_bytes(
        b"#!AER-DAT2.0\r\n# AEChip: ch.unizh.ini.jaer.chip.cochlea.CochleaAMS1c\r\n" + bytes(80)
    )
    refused(tmp_path / "a", UnknownFormat, r"recorded by '.*CochleaAMS1c', whose addresses are not known")
    assert len(open_recording(tmp_path / "a", ReadOptions(orientation="raw")).read()) == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"orientation": "dat2mat"},
            "orientation 'dat2mat' is about AEDAT 1 and 2, not the 5-byte format; leave it at",
        ),
        (
            {"timestamps": "dat2mat"},
            "timestamps 'dat2mat' is about AEDAT 1 and 2, not the 5-byte format; leave it at",
        ),
    ],
)
def test_conventions_that_a_format_does_not_have(tmp_path, options, message):
    (tmp_path / "a").write_bytes(bytes(50))
    refused(tmp_path / "a", ConfigError, message, format="bin40", **options)


def test_orientation_of_another_sensor(tmp_path):
    (tmp_path / "a").write_bytes(b"#!AER-DAT2.0\r\n# AEChip: Davis346red\r\n" + bytes(80))
    refused(
        tmp_path / "a", ConfigError, "'dat2mat' is about a DVS128, and this is a DAVIS", orientation="dat2mat"
    )


def test_unknown_orientation(tmp_path):
    (tmp_path / "a").write_bytes(b"#!AER-DAT2.0\r\n" + bytes(80))
    refused(tmp_path / "a", ConfigError, "orientation 'mirror' is unknown; known are", orientation="mirror")


def test_pickled_objects_are_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "trapped"),))

    (tmp_path / "a.npy").write_bytes(saved(np.array([Trap()], dtype=object), allow_pickle=True))
    refused(
        tmp_path / "a.npy",
        UnknownFormat,
        "holds pickled objects, which may run code when loaded; save t, x, y, p",
    )
    np.savez(tmp_path / "b.npz", t=np.array([Trap()], dtype=object), x=[1], y=[1], p=[1])
    refused(tmp_path / "b.npz", UnknownFormat, "array 't': holds pickled objects")
    (tmp_path / "c.pkl").write_bytes(pickle.dumps({"events": list(range(1000))}, protocol=4))
    refused(tmp_path / "c.pkl", UnknownFormat, "a Python pickle, which is never loaded")
    assert not (tmp_path / "trapped").exists()


def test_arrays_without_names(tmp_path):
    array = np.array([[1, 2, 1, 5], [3, 4, 0, 6]])
    (tmp_path / "a.npy").write_bytes(saved(array))
    refused(
        tmp_path / "a.npy",
        UnknownFormat,
        "4 columns without names, so order and unit of time are unknown; say them",
    )
    events = open_recording(tmp_path / "a.npy", ReadOptions(columns="x,y,p,t:ms")).read()
    assert events[["t", "x", "y", "p"]].tolist() == [(5000, 1, 2, True), (6000, 3, 4, False)]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("t,x,y", "columns 't,x,y' must name t, x, y and p once each"),
        ("t:ns,x,y,p", "unit 'ns' of t is unknown; known are us, ms, s"),
    ],
)
def test_columns_that_say_too_little(tmp_path, columns, message):
    (tmp_path / "a.npy").write_bytes(saved(np.zeros((3, 4))))
    refused(tmp_path / "a.npy", ConfigError, message, columns=columns)


def test_fields_of_another_name(tmp_path):
    (tmp_path / "a.npy").write_bytes(
        saved(np.zeros(3, [("when", "i8"), ("x", "i2"), ("y", "i2"), ("p", "i1")]))
    )
    refused(tmp_path / "a.npy", UnknownFormat, "fields when, x, y, p; expected t, x, y and p, rename them so")
    np.savez(tmp_path / "b.npz", frames=np.zeros((2, 2)), label=np.zeros(1))
    refused(tmp_path / "b.npz", UnknownFormat, "holds the arrays frames, label; expected t, x, y and p")


def test_arrays_of_different_lengths(tmp_path):
    np.savez(tmp_path / "a.npz", t=[1, 2], x=[1], y=[1], p=[1])
    refused(tmp_path / "a.npz", DamagedRecording, "arrays of different shapes")


def test_archive_with_a_wrong_checksum(tmp_path):
    np.savez(tmp_path / "a.npz", t=np.arange(100), x=np.arange(100), y=np.arange(100), p=np.zeros(100, int))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[500] ^= 1
    (tmp_path / "a.npz").write_bytes(data)
    refused(tmp_path / "a.npz", DamagedRecording, "archive damaged, or cut at byte .*: Bad CRC-32")


@pytest.mark.parametrize("damage", ["skip", "strict"])
def test_rows_that_are_no_events(tmp_path, damage):
    path = tmp_path / "a.csv"
    path.write_text("t,x,y,p\n1,1,1,1\n2,oops,1,1\n\n3,1,1,7\n4,-1,1,0\n5,2,2,0\n")
    if damage == "strict":
        refused(
            path,
            DamagedRecording,
            r"byte 16: line '2,oops,1,1' is no event; read with damage 'skip'",
            damage=damage,
        )
        return
    recording = open_recording(path)
    assert recording.read()["t"].tolist() == [1, 5]
    report = recording.report
    assert (report.first_damage_byte, report.out_of_sensor, report.bytes_skipped) == (16, 1, 11)
    assert len(report.notes) == 2


@pytest.mark.parametrize(
    ("content", "columns"), [("1 2 3 1\n2 3 4 0\n", "t,x,y,p"), ("5,6,1,100\n5,6,0,101\n", "x,y,p,t")]
)
def test_text_whose_order_is_unknown(tmp_path, content, columns):
    (tmp_path / "a.txt").write_text(content)
    message = (
        "4 columns without names, whose order is not in the file; say it with columns, such as 't,x,y,p'"
    )
    refused(tmp_path / "a.txt", UnknownFormat, message)
    assert len(open_recording(tmp_path / "a.txt", ReadOptions(columns=columns)).read()) == 2


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("0.000001 3 4 1\n2.5 5 6 0\n", [(1, 3, 4, True), (2_500_000, 5, 6, False)]),
        ("%geometry:1280,720\n3,4,1,1\n5,6,0,7\n", [(1, 3, 4, True), (7, 5, 6, False)]),
        ("timestamp,x,y,polarity\n1,3,4,True\n7,5,6,False\n", [(1, 3, 4, True), (7, 5, 6, False)]),
        ("x;y;pol;ts\n3;4;1;1\n5;6;-1;7\n", [(1, 3, 4, True), (7, 5, 6, False)]),
        ("# t x y p\n1e-6\t3\t4\t1\n7e-6\t5\t6\t-1\n", [(1, 3, 4, True), (7, 5, 6, False)]),
        ("t,x,y,p\n1,3,4,1\n7,5,6,0", [(1, 3, 4, True), (7, 5, 6, False)]),
    ],
)
def test_text_whose_order_is_known(tmp_path, content, expected):
    (tmp_path / "a").write_text(content)
    recording = open_recording(tmp_path / "a", ReadOptions(damage="strict"))
    assert recording.read()[["t", "x", "y", "p"]].tolist() == expected
    assert recording.sensor_hw == ((720, 1280) if "geometry" in content else (7, 6))


@pytest.mark.parametrize(
    "content", ["# Notes\n\nNothing to read here.\n", "a,b,c\n1,2,3\n", "\n\n", "x,y,t\n1,2,3\n"]
)
def test_other_text_is_no_recording(tmp_path, content):
    (tmp_path / "README.md").write_text(content)
    refused(tmp_path / "README.md", UnknownFormat, "bytes are no recording known here")

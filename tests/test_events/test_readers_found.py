"""Inputs that once broke a reader, found by benchmarks/fuzz: each is refused in one line."""

import pytest
from suites.reader_suite import random_events

from events.errors import DamagedRecording, EventsError
from events.readers.registry import open_recording
from events.writers.registry import write_recording

NPY = b"\x93NUMPY\x01\x00"


@pytest.mark.parametrize(
    "content",
    [
        NPY + (64).to_bytes(2, "little") + b"{'descr': [('t', '<i8'),\x00 (".ljust(63) + b"\n",
        NPY + (64).to_bytes(2, "little") + b"{'descr': [('t', '<i8'), (".ljust(63) + b"\n",
        NPY + (64).to_bytes(2, "little") + b"{'descr': '<i8', 'shape': [1,".ljust(63) + b"\n",
        NPY + (64).to_bytes(2, "little") + "{'descr': ¨".encode("latin-1").ljust(63) + b"\n",
    ],
    ids=["zero byte", "no end", "no end of a list", "no Python"],
)
def test_a_header_that_is_no_python_text(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DamagedRecording, match=r"byte \d+: no NumPy header: [^\n]+; make or fetch it again"):
        open_recording(tmp_path / "a.npy")


@pytest.mark.parametrize("version", [b"\x01\x01", b"\x02\x00", b"\x03\x00"])
def test_a_header_that_claims_a_gigabyte(tmp_path, version):
    (tmp_path / "a.npy").write_bytes(NPY[:6] + version + (1 << 30).to_bytes(4, "little") + b"{}")
    with pytest.raises(DamagedRecording, match="a header of 1073741824 bytes, expected 65536 at most"):
        open_recording(tmp_path / "a.npy")


def test_an_archive_with_any_byte_changed(tmp_path):
    path = tmp_path / "a.npz"
    events = random_events(1, 5, sensor_hw=(8, 8), span_us=100)
    write_recording(path, events, format="npz", sensor_hw=(8, 8))
    data = path.read_bytes()
    outcomes = set()
    for at in range(0, len(data), 3):
        for change in (0x01, 0x80):
            path.write_bytes(data[:at] + bytes([data[at] ^ change]) + data[at + 1 :])
            try:
                outcomes.add(len(open_recording(path).read()))
            except EventsError as error:
                outcomes.add("refused")
                outcomes.add("lines" if "\n" in str(error) else "line")
    assert {"refused", 5} <= outcomes
    assert "lines" not in outcomes


def test_bytes_of_a_line_that_is_no_text_are_counted_as_they_are(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"t,x,y,p\n1,2,3,1\n\xff\xfe\xfd\xfc\n2,2,3,1\n")
    recording = open_recording(tmp_path / "a.csv")
    assert len(recording.read()) == 2
    report = recording.report
    assert (report.bytes_skipped, report.bytes_read, report.first_damage_byte) == (5, 24, 16)

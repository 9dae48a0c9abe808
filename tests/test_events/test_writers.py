"""What the writers promise beyond being read back, which the reader suite tests."""

import struct
from pathlib import Path

import numpy as np
import pytest
from suites.reader_suite import random_events

from events.errors import ConfigError, EventsError
from events.readers.registry import READERS, open_recording
from events.recording import EVENT_DTYPE, ReadOptions
from events.writers.atomic import atomic_file, parts_folder, remove_leftovers
from events.writers.registry import WRITERS, write_recording

SENSOR_HW = (128, 128)


def events_at(times, x=1, y=2) -> np.ndarray:
    events = np.zeros(len(times), EVENT_DTYPE)
    events["t"], events["x"], events["y"] = times, x, y
    return events


def write(path, events, file_format="aedat2", sensor_hw=SENSOR_HW, **details):
    write_recording(path, events, format=file_format, sensor_hw=sensor_hw, **details)


def test_every_format_that_is_read_is_written():
    assert set(WRITERS) <= set(READERS)


def test_aedat2_bytes(tmp_path):
    """jAER's lines, then the published example: x 117, y 107, ON is xb 10, yb 20, bit 0."""
    event = events_at([258], x=117, y=107)
    event["p"] = True
    write(tmp_path / "a", event, comments=("made by hand",))
    lines = (tmp_path / "a").read_bytes().split(b"\r\n")
    assert lines[0] == b"#!AER-DAT2.0"
    assert lines[-3:] == [
        b"# made by hand",
        b"#End Of ASCII Header",
        struct.pack(">II", 20 << 8 | 10 << 1, 258),
    ]
    assert all(line.startswith(b"#") for line in lines[:-1])


def test_aedat1_and_5_byte_bytes(tmp_path):
    event = events_at([0x012345], x=3, y=4)
    write(tmp_path / "a", event, "aedat1")
    assert (tmp_path / "a").read_bytes()[-6:] == struct.pack(">HI", 123 << 8 | 124 << 1 | 1, 0x012345)
    write(tmp_path / "b", event, "bin40")
    assert (tmp_path / "b").read_bytes() == bytes([3, 4, 0x01, 0x23, 0x45])


@pytest.mark.parametrize("file_format", ["aedat1", "aedat2"])
@pytest.mark.parametrize("polarity", ["on1", "raw"])
@pytest.mark.parametrize("orientation", ["jaer", "dat2mat", "spikingjelly", "raw"])
def test_every_orientation_comes_back(tmp_path, orientation, polarity, file_format):
    events = random_events(2, 500, sensor_hw=SENSOR_HW, span_us=10_000)
    write(tmp_path / "a", events, file_format, orientation=orientation, polarity=polarity)
    found = open_recording(tmp_path / "a", ReadOptions(orientation=orientation, polarity=polarity)).read()
    np.testing.assert_array_equal(found, events)


def test_header_cannot_be_mistaken_for_records_nor_records_for_it(tmp_path):
    """A first record of '#' and a line end, which only the last header line tells from a comment."""
    event = events_at([0x0A0A0A0A] * 3, x=127 - (0x41 >> 1), y=127 - 35)
    write(tmp_path / "a", event, "aedat1")
    assert (tmp_path / "a").read_bytes().endswith(b"\r\n" + b"#A\n\n\n\n" * 3)
    np.testing.assert_array_equal(open_recording(tmp_path / "a").read(), event)


def test_overflow_markers_only_where_time_needs_them(tmp_path):
    """23 bits hold 8,388,607 us; each marker adds 8192 us to what follows."""
    times = [8_388_607, 8_388_608, 8_396_799, 8_396_800]
    write(tmp_path / "a", events_at(times), "bin40", (34, 34))
    records = np.frombuffer((tmp_path / "a").read_bytes(), np.uint8).reshape(-1, 5)
    assert (records[:, 1] == 240).tolist() == [False, True, False, False, True, False]
    recording = open_recording(tmp_path / "a", ReadOptions(format="bin40", damage="strict"))
    assert recording.read()["t"].tolist() == times


def test_markers_go_on_from_chunk_to_chunk(tmp_path):
    times = np.arange(0, 30_000_000, 10_000)
    events = events_at(times)
    write(tmp_path / "a", iter(np.array_split(events, 7)), "bin40", (34, 34))
    np.testing.assert_array_equal(open_recording(tmp_path / "a").read(), events)


def test_records_that_begin_with_markers_alone_are_known_by_their_content(tmp_path):
    """41 s are 4,000 markers before the first event; then one every few events."""
    events = events_at(np.arange(41_000_000, 41_300_000, 3000))
    write(tmp_path / "late", events, "bin40", (34, 34))
    np.testing.assert_array_equal(open_recording(tmp_path / "late").read(), events)
    write(tmp_path / "nine", events_at(np.arange(8_388_000, 8_800_000, 3000)), "bin40", (34, 34))
    assert open_recording(tmp_path / "nine").format == "bin40"


@pytest.mark.parametrize(
    ("file_format", "sensor_hw", "times", "message"),
    [
        ("aedat2", (128, 128), [-1], "first time -1 us does not fit 32 bits; subtract it from all"),
        ("aedat2", (128, 128), [2**32], "first time 4294967296 us does not fit 32 bits"),
        ("aedat2", (128, 128), [0, 2**31], "a step of 2147483648 us do not fit AEDAT"),
        ("aedat2", (480, 640), [0], None),
        ("aedat2", (720, 1280), [0], "a sensor of 720x1280 does not fit AEDAT 2.0; use csv or npz"),
        ("aedat1", (260, 346), [0], "a sensor of 260x346 does not fit AEDAT 1.0; use csv or npz"),
        ("bin40", (260, 346), [0], "a sensor of 260x346 does not fit 5-byte records, which hold 240x256"),
        ("bin40", (34, 34), [-1], "times -1 to -1 us do not fit 5-byte records"),
        ("bin40", (34, 34), [9_000_000, 10], "a time falls further back than 5-byte records can say"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(tmp_path, file_format, sensor_hw, times, message):
    if message is None:
        write(tmp_path / "a", events_at(times), file_format, sensor_hw)
        assert open_recording(tmp_path / "a").sensor_hw == sensor_hw
        return
    with pytest.raises(ConfigError, match=message):
        write(tmp_path / "a", events_at(times), file_format, sensor_hw)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file_format", sorted(WRITERS))
def test_event_outside_the_sensor_is_refused(tmp_path, file_format):
    with pytest.raises(
        ConfigError, match="event at x=30, y=2 is outside the sensor of 30x30; leave it out or"
    ):
        write(tmp_path / "a", events_at([5], x=30), file_format, (30, 30))
    assert list(tmp_path.iterdir()) == []


def test_refusals_that_name_the_argument(tmp_path):
    with pytest.raises(ConfigError, match="format 'aedat9' has no writer; known are aedat1, aedat2"):
        write(tmp_path / "a", events_at([1]), "aedat9")
    with pytest.raises(ConfigError, match="events of type int64 cannot be written"):
        write(tmp_path / "a", np.zeros((3, 4), np.int64))
    with pytest.raises(ConfigError, match="orientation 'dat2mat' is about a DVS128, not a DAVIS"):
        write(tmp_path / "a", events_at([1]), sensor_hw=(260, 346), orientation="dat2mat")
    with pytest.raises(ConfigError, match="orientation 'up' is unknown"):
        write(tmp_path / "a", events_at([1]), orientation="up")
    with pytest.raises(ConfigError, match="must not hold line ends"):
        write(tmp_path / "a", events_at([1]), comments=("two\nlines",))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file_format", sorted(WRITERS))
def test_recording_without_events(tmp_path, file_format):
    write(tmp_path / "a", events_at([]), file_format)
    if file_format == "bin40":  # nothing says that an empty file is a recording
        assert (tmp_path / "a").stat().st_size == 0
        return
    assert len(open_recording(tmp_path / "a", ReadOptions(damage="strict")).read()) == 0


def test_sensor_of_an_npz_comes_back(tmp_path):
    write(tmp_path / "a", events_at([1]), "npz", (99, 77))
    assert open_recording(tmp_path / "a").sensor_hw == (99, 77)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fails_later():
        yield events_at([1])
        raise RuntimeError("source broke")

    with pytest.raises(RuntimeError, match="source broke"):
        write(path, fails_later())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_only_what_nobody_writes_is_a_leftover(tmp_path):
    """Of several files beside `a.csv`: those of its name, that no process holds, with the parts of a bag."""
    left, other, similar = (
        tmp_path / name
        for name in (".a.csv.0123abcd.partial", ".b.csv.0123abcd.partial", ".a.csv.note.partial")
    )
    for path in (left, other, similar):
        path.write_bytes(b"half")
    parts_folder(left).mkdir()
    (parts_folder(left) / "part").write_bytes(b"half")
    with atomic_file(tmp_path / "a.csv") as stream:
        stream.write(b"all")
        assert remove_leftovers(tmp_path / "a.csv") == 1
    assert set(tmp_path.iterdir()) == {tmp_path / "a.csv", other, similar}
    assert (tmp_path / "a.csv").read_bytes() == b"all"
    assert remove_leftovers(tmp_path / "absent" / "a.csv") == 0


def test_a_file_taken_for_a_leftover_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    locked = []

    def take_the_first(stream, how):
        if not locked:
            Path(stream.name).unlink()
        locked.append(how)

    monkeypatch.setattr("events.writers.atomic.fcntl.flock", take_the_first)
    with atomic_file(tmp_path / "a") as stream:
        stream.write(b"all")
    assert len(locked) == 2
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"all"]


def test_a_write_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "new" / "folder" / "a"
    for content in (b"one", b"two"):
        with atomic_file(path) as stream:
            stream.write(content)
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(
        EventsError, match=r"file/a: cannot be written: .*; check the folder and its free space"
    ):
        write(tmp_path / "file" / "a", events_at([1]))


def test_a_full_disk_is_one_line(tmp_path):
    def full(chunks):
        yield chunks
        raise OSError(28, "No space left on device")

    with pytest.raises(EventsError, match="a: cannot be written: No space left on device; check the folder"):
        write(tmp_path / "a", full(events_at([1])))
    assert list(tmp_path.iterdir()) == []

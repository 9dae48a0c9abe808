"""Reading files in threads, and files that somebody cuts meanwhile."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from events.readers import record_recording
from events.readers.column_events import ColumnRecording
from events.readers.registry import open_recording
from events.recording import EVENT_DTYPE
from events.writers.registry import write_recording

EVENTS = 400_000
SENSOR_HW = (128, 128)
# Format, suffix and options of the writer.
FILES = [
    ("aedat1", ".aedat", {}),
    ("aedat2", ".aedat", {}),
    ("aedat4", ".aedat4", {"compression": "none"}),
    ("aedat4", ".aedat4", {"compression": "LZ4"}),
    ("bin40", ".bin", {}),
    ("dat", ".dat", {}),
    ("evt2", ".raw", {}),
]


def some_events() -> np.ndarray:
    """Return events of several blocks of a file, 10 us apart."""
    rng = np.random.default_rng(3)
    events = np.zeros(EVENTS, EVENT_DTYPE)
    events["t"] = np.arange(EVENTS) * 10
    events["x"], events["y"] = rng.integers(0, 128, (2, EVENTS))
    events["p"] = rng.integers(0, 2, EVENTS)
    return events


@pytest.mark.parametrize(("name", "suffix", "options"), FILES)
def test_a_file_cut_while_it_is_read_ends_there(tmp_path, name, suffix, options):
    path = tmp_path / f"cut{suffix}"
    events = some_events()
    write_recording(path, events, format=name, sensor_hw=SENSOR_HW, **options)
    recording = open_recording(path)
    read = []
    for chunk in recording.chunks(count=1000):
        if not read:
            with path.open("rb+") as stream:
                stream.truncate(path.stat().st_size * 4 // 5)
        read.append(chunk.copy())
    found = np.concatenate(read)
    assert 0 < len(found) < EVENTS
    np.testing.assert_array_equal(found, events[: len(found)])
    assert recording.report.events == len(found)
    if name == "aedat4":
        assert recording.report.partial_records == 1
    assert recording.report.bytes_read <= recording.report.bytes_total


def test_two_threads_look_for_the_size_of_a_sensor_at_once(tmp_path, monkeypatch):
    both = Barrier(2)
    find = record_recording.last_row_and_column

    def find_with_the_other(reading, *, room):
        both.wait(timeout=30)
        return find(reading, room=room)

    monkeypatch.setattr(record_recording, "last_row_and_column", find_with_the_other)
    paths = [tmp_path / f"{number}.bin" for number in range(2)]
    for path in paths:
        write_recording(path, some_events(), format="bin40", sensor_hw=SENSOR_HW)
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda path: open_recording(path).sensor_hw, paths))
    assert found == [SENSOR_HW, SENSOR_HW]


def test_two_threads_look_for_the_size_of_a_sensor_in_columns_at_once(tmp_path, monkeypatch):
    both = Barrier(2)
    pack = ColumnRecording._events

    def pack_with_the_other(recording, block, room):
        both.wait(timeout=30)
        return pack(recording, block, room)

    paths = [tmp_path / f"{number}.csv" for number in range(2)]
    for path in paths:
        write_recording(path, some_events()[:1000], format="csv", sensor_hw=SENSOR_HW)
    expected = open_recording(paths[0]).sensor_hw
    monkeypatch.setattr(ColumnRecording, "_events", pack_with_the_other)
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda path: open_recording(path).sensor_hw, paths))
    assert found == [expected, expected]

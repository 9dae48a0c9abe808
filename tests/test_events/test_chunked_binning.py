"""Binning chunk by chunk: the frames of all events at once, whatever they hold, in memory of the frames."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.binning import numba_cpu, reference
from events.binning.chunked import bin_chunked
from events.binning.settings import BinSettings
from events.errors import ConfigError, DamagedRecording
from events.readers.registry import open_recording
from events.recording import EVENT_DTYPE, FileReport, Recording
from events.store.task import bin_recording
from events.writers.registry import write_recording

SENSOR_HW = (9, 13)

VALUES = [
    {"value": "last_time"},
    {"value": "last_time", "dtype": "uint16", "size_hw": (4, 5)},
    {"value": "last_polarity"},
    {"value": "last_polarity", "size_hw": (3, 13)},
    {"resize": "area", "size_hw": (4, 5)},
    {"resize": "area", "size_hw": (9, 13)},
    {"resize": "area", "size_hw": (20, 17), "dtype": "uint16"},
    {"value": "count"},
    {"value": "binary", "size_hw": (5, 5)},
]

SPLITS = [
    {"frames": 7},
    {"frames": 7, "tail": "drop"},
    {"frames": 5, "split": "time"},
    {"frames": 5, "split": "time", "tail": "drop"},
    {"frames": 5, "split": "time", "tail": "own"},
    {"frames": 8, "split": "duration", "window_us": 90},
    {"frames": 8, "split": "duration", "window_us": 90, "tail": "drop"},
    {"frames": 2000},
]


class Chunks(Recording):
    """Events in memory, given in chunks of a few."""

    def __init__(self, events, *, chunk, sensor_hw=SENSOR_HW):
        self.events, self.chunk, self.sensor_hw = events, chunk, sensor_hw
        self.path, self.report = "memory", FileReport("memory", "memory")

    def decode_chunks(self, *, max_events=0):
        for first in range(0, len(self.events), self.chunk):
            yield self.events[first : first + self.chunk].copy()


def some_events(seed, n, *, backward):
    rng = np.random.default_rng(seed)
    events = rng.integers(0, 256, 16 * n, dtype=np.uint8).view(EVENT_DTYPE)
    times = rng.integers(-400, 400, n)
    events["t"] = times if backward else np.sort(times)
    events["x"] = rng.integers(0, SENSOR_HW[1], n)
    events["y"] = rng.integers(0, SENSOR_HW[0], n)
    events["p"] = rng.integers(0, 2, n)
    events["x"][: n // 2], events["y"][: n // 2] = 2, 3  # a pixel whose count is too large for a byte
    return events


def assert_same(found, expected):
    np.testing.assert_array_equal(found.frames, expected.frames)
    assert found.frames.dtype == expected.frames.dtype
    np.testing.assert_array_equal(found.t_edges_us, expected.t_edges_us)
    assert found[2:] == expected[2:]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("value", VALUES)
def test_frames_are_those_of_all_events(value, split):
    chosen = BinSettings(**value, **split)
    for seed, n, chunk, backward in ((0, 1500, 111, True), (1, 1500, 1499, False), (2, 3, 1, True)):
        events = some_events(seed, n, backward=backward)
        found = bin_chunked(Chunks(events, chunk=chunk), chosen)
        assert_same(found, numba_cpu.bin_events(events, settings=chosen, sensor_hw=SENSOR_HW))
        assert_same(found, reference.bin_events(events, settings=chosen, sensor_hw=SENSOR_HW))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 300),
    chunk=st.integers(1, 301),
    backward=st.booleans(),
    value=st.sampled_from(VALUES),
    split=st.sampled_from(SPLITS[:-1]),
)
def test_frames_do_not_depend_on_the_chunks(seed, n, chunk, backward, value, split):
    chosen = BinSettings(**value, **split)
    events = some_events(seed, n, backward=backward)
    found = bin_chunked(Chunks(events, chunk=chunk), chosen)
    assert_same(found, numba_cpu.bin_events(events, settings=chosen, sensor_hw=SENSOR_HW))


@pytest.mark.parametrize("large_events", [1, 100_000])
@pytest.mark.parametrize("value", VALUES)
def test_parts_of_a_large_recording_are_those_of_its_events(tmp_path, monkeypatch, value, large_events):
    monkeypatch.setattr("events.store.task.LARGE_BYTES", 1)
    monkeypatch.setattr("events.store.task.LARGE_EVENTS", large_events)
    monkeypatch.setattr("events.seek.BLOCK_EVENTS", 100)
    events = some_events(4, 3000, backward=True)
    events["t"] += 1000
    write_recording(tmp_path / "a.dat", events, format="dat", sensor_hw=SENSOR_HW)
    chosen = BinSettings(frames=5, **value)
    recording = open_recording(tmp_path / "a.dat")
    for start, stop in ((600, 900), (900, 1300)):
        found = bin_recording(recording, chosen, t_range_us=(start, stop))
        part = events[(events["t"] >= start) & (events["t"] < stop)]
        assert_same(found, numba_cpu.bin_events(part, settings=chosen, sensor_hw=SENSOR_HW))
        assert recording.report.events == 3000


@pytest.mark.parametrize("value", VALUES)
def test_an_event_outside_the_sensor_is_refused(value):
    events = some_events(3, 100, backward=False)
    events["y"][60] = SENSOR_HW[0]
    with pytest.raises(ConfigError, match="outside the sensor of 9x13"):
        bin_chunked(Chunks(events, chunk=30), BinSettings(frames=3, **value))


def test_times_of_a_frame_of_years_are_refused():
    events = some_events(3, 100, backward=False)
    events["t"][-1] = 1 << 60
    with pytest.raises(DamagedRecording, match="more than four years"):
        bin_chunked(Chunks(events, chunk=30), BinSettings(frames=3, split="time", value="last_time"))
    assert bin_chunked(Chunks(events[:0], chunk=30), BinSettings(value="last_time")) is None


GROWTH = """
import resource, sys
from events.binning.chunked import bin_chunked
from events.binning.settings import BinSettings
from events.readers.registry import open_recording
from events.store.task import bin_recording
small, large = sys.argv[1:]
area = BinSettings(size_hw=(60, 76), resize="area")
kinds = [area, BinSettings(value="last_time"), BinSettings(value="last_polarity")]
for binning in kinds:
    bin_chunked(open_recording(small), binning)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for binning in kinds:
    bin_recording(open_recording(large), binning)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_large_recording_takes_little_memory(tmp_path):
    """Ten million events, 160 MB as an array of events."""
    events = np.zeros((10_000_000, 2), "<u4")
    events[:, 0] = np.arange(10_000_000) // 3
    events[:, 1] = (np.arange(10_000_000) * 7919 % 304) | (np.arange(10_000_000) * 31 % 240) << 14
    head = b"% Height 240\n% Width 304\n\x00\x08"
    paths = [tmp_path / "small", tmp_path / "large"]
    for path, records in zip(paths, (events[:1000], events), strict=True):
        path.write_bytes(head + records.tobytes())
    ran = subprocess.run(
        [sys.executable, "-c", GROWTH, *map(str, paths)], capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) < 60

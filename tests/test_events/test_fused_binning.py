"""Binning from the bytes: the same frames and report as decoding first, none where there is doubt."""

import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest

from events.binning.chunked import bin_chunked
from events.binning.fused import BLOCK_BYTES, bin_fused
from events.binning.numba_cpu import bin_events
from events.binning.settings import BinSettings
from events.readers.registry import open_recording
from events.recording import EVENT_DTYPE, ReadOptions
from events.store.task import bin_recording
from events.writers.registry import write_recording

SENSOR_HW = {"dat": (240, 304), "aedat1": (128, 128), "aedat2": (128, 128), "bin40": (34, 34)}

SETTINGS = [
    BinSettings(frames=7),
    BinSettings(frames=7, tail="drop", value="binary"),
    BinSettings(frames=3, dtype="uint16", size_hw=(20, 30)),
    BinSettings(frames=1),
    BinSettings(frames=9, split="time"),
    BinSettings(frames=9, split="time", tail="drop"),
    BinSettings(frames=9, split="time", tail="own"),
    BinSettings(frames=12, split="duration", window_us=5_000),
    BinSettings(frames=400, split="duration", window_us=900, tail="drop", size_hw=(8, 8)),
    BinSettings(frames=60_000, size_hw=(2, 2)),
    BinSettings(frames=60_000, tail="drop", size_hw=(2, 2)),
]


def events_of(format: str, n: int, *, span_us: int = 100_000) -> np.ndarray:
    rng = np.random.default_rng(5)
    events = np.zeros(n, EVENT_DTYPE)
    height, width = SENSOR_HW[format]
    events["t"] = np.sort(rng.integers(100, span_us, n))
    events["x"] = rng.integers(0, width, n)
    events["y"] = rng.integers(0, height, n)
    events["p"] = rng.integers(0, 2, n)
    events["x"][: n // 3] = 5  # a pixel whose count is too large for a byte
    events["y"][: n // 3] = 6
    return events


def written(tmp_path, format, events):
    path = tmp_path / f"recording.{format}"
    write_recording(path, events, format=format, sensor_hw=SENSOR_HW[format])
    return path


def assert_like_decoding(path, settings, options):
    fused, decoded = open_recording(path, options), open_recording(path, options)
    found = bin_fused(fused, settings)
    expected = bin_events(decoded.read(), settings=settings, sensor_hw=decoded.sensor_hw)
    assert found is not None
    np.testing.assert_array_equal(found.frames, expected.frames)
    np.testing.assert_array_equal(found.t_edges_us, expected.t_edges_us)
    assert found[2:] == expected[2:]
    assert asdict(fused.report) == asdict(decoded.report)


@pytest.mark.parametrize("format", ["dat", "aedat2"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_frames_and_report_are_those_of_decoding(tmp_path, format, settings):
    path = written(tmp_path, format, events_of(format, 2 * (BLOCK_BYTES // 5) + 77))
    assert_like_decoding(path, settings, ReadOptions(sensor_hw=SENSOR_HW[format]))


@pytest.mark.parametrize("n", [1, 2, 5, 2048, 15_360])
@pytest.mark.parametrize("settings", SETTINGS[:8])
def test_few_events(tmp_path, n, settings):
    assert_like_decoding(written(tmp_path, "dat", events_of("dat", n)), settings, ReadOptions())


@pytest.mark.parametrize("orientation", ["jaer", "dat2mat", "spikingjelly", "raw"])
@pytest.mark.parametrize("polarity", ["on1", "raw"])
def test_every_orientation(tmp_path, orientation, polarity):
    path = written(tmp_path, "aedat2", events_of("aedat2", 3000))
    options = ReadOptions(orientation=orientation, polarity=polarity)
    assert_like_decoding(path, SETTINGS[0], options)


def fallen(events):
    events["t"][1000:] -= 50
    return events


def outside(events):
    events["x"] %= 303
    events["x"][4000] = 303
    return events


@pytest.mark.parametrize("damage", ["skip", "strict", "salvage"])
def test_a_clock_that_falls_is_left_to_the_reader(tmp_path, damage):
    path = written(tmp_path, "dat", fallen(events_of("dat", 5000)))
    for settings in SETTINGS[:8]:
        assert bin_fused(open_recording(path, ReadOptions(damage=damage)), settings) is None


def test_an_event_outside_is_left_to_the_reader(tmp_path):
    path = written(tmp_path, "dat", outside(events_of("dat", 5000)))
    narrow = ReadOptions(sensor_hw=(240, 303))
    assert bin_fused(open_recording(path, narrow), SETTINGS[0]) is None
    recording = open_recording(path, narrow)
    assert bin_recording(recording, SETTINGS[0]).n_events == 4999
    assert recording.report.out_of_sensor == 1


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_record_cut_short_is_left_to_the_reader(tmp_path, cut):
    path = written(tmp_path, "dat", events_of("dat", 500))
    path.write_bytes(path.read_bytes()[:-cut])
    assert bin_fused(open_recording(path), SETTINGS[0]) is None
    recording = open_recording(path)
    assert bin_recording(recording, SETTINGS[0]).n_events == 499
    assert recording.report.partial_records == 1


@pytest.mark.parametrize("byte", range(8))
@pytest.mark.parametrize("bit", range(8))
def test_whatever_bit_is_wrong_frames_are_those_of_the_reader(tmp_path, byte, bit):
    path = written(tmp_path, "dat", events_of("dat", 300))
    content = bytearray(path.read_bytes())
    content[-8 * 100 + byte] ^= 1 << bit
    path.write_bytes(content)
    fused, decoded = open_recording(path), open_recording(path)
    found = bin_recording(fused, SETTINGS[4])
    expected = bin_events(decoded.read(), settings=SETTINGS[4], sensor_hw=decoded.sensor_hw)
    np.testing.assert_array_equal(found.frames, expected.frames)
    np.testing.assert_array_equal(found.t_edges_us, expected.t_edges_us)
    assert asdict(fused.report) == asdict(decoded.report)


@pytest.mark.parametrize(
    "settings",
    [
        BinSettings(value="last_time"),
        BinSettings(value="last_polarity"),
        BinSettings(resize="area", size_hw=(16, 16)),
    ],
)
def test_settings_without_this_way_are_left_to_the_reader(tmp_path, settings):
    path = written(tmp_path, "dat", events_of("dat", 500))
    assert bin_fused(open_recording(path), settings) is None


@pytest.mark.parametrize("format", ["npz", "aedat1", "bin40"])
def test_other_formats_are_left_to_the_reader(tmp_path, format):
    path = tmp_path / f"recording.{format}"
    write_recording(path, events_of("bin40", 500), format=format, sensor_hw=SENSOR_HW["bin40"])
    assert bin_fused(open_recording(path), SETTINGS[0]) is None


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("n", [3, 5000])
def test_in_chunks_the_frames_are_those_of_all_events(tmp_path, settings, n, monkeypatch):
    monkeypatch.setattr("events.recording.DEFAULT_CHUNK_EVENTS", 700)
    path = written(tmp_path, "dat", fallen(events_of("dat", n)))
    chunked, decoded = open_recording(path), open_recording(path)
    found = bin_chunked(chunked, settings)
    expected = bin_events(decoded.read(), settings=settings, sensor_hw=decoded.sensor_hw)
    assert found is not None
    np.testing.assert_array_equal(found.frames, expected.frames)
    np.testing.assert_array_equal(found.t_edges_us, expected.t_edges_us)
    assert found[2:] == expected[2:]
    assert asdict(chunked.report) == asdict(decoded.report)


GROWTH = """
import resource, sys
from events.binning.settings import BinSettings
from events.readers.registry import open_recording
from events.store.task import bin_recording
small, large = sys.argv[1:]
bin_recording(open_recording(small), BinSettings())
from events.binning.chunked import bin_chunked
bin_chunked(open_recording(small), BinSettings())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
bin_recording(open_recording(large), BinSettings())
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("falls", [False, True])
def test_a_large_recording_takes_little_memory(tmp_path, falls):
    part = events_of("dat", 500_000)
    small = written(tmp_path, "dat", part[:1000])
    small = small.rename(tmp_path / "small.dat")
    large = written(tmp_path, "dat", part)
    content = large.read_bytes()
    head, records = content[: -8 * len(part)], np.frombuffer(content[-8 * len(part) :], "<u4").copy()
    with large.open("wb") as file:  # 10 M events, 160 MB as an array of events
        file.write(head)
        for number in range(20):
            file.write(records.tobytes())
            records[::2] += np.uint32(0 if falls and number == 5 else 200_000)
    ran = subprocess.run(
        [sys.executable, "-c", GROWTH, str(small), str(large)], capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) < 60

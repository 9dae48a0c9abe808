"""Chunks of one length, windows of time and ranges, however the reader cuts the stream."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suites.reader_suite import random_events

from events import stream
from events.errors import ConfigError, DamagedRecording
from events.readers.registry import open_recording
from events.recording import EVENT_DTYPE, FileReport, ReadOptions, Recording
from events.writers.registry import write_recording


class CutRecording(Recording):
    """Events in memory, delivered in the pieces that are asked for."""

    def __init__(self, events: np.ndarray, cuts: list[int]) -> None:
        self.path, self.format, self.facts = Path("memory"), "memory", {}
        self.sensor_hw = (128, 128)
        self.report = FileReport("memory", "memory")
        self._pieces = np.split(events, sorted(cut for cut in cuts if 0 < cut < len(events)))

    def decode_chunks(self, *, max_events=1 << 20):
        self.report = FileReport("memory", "memory")
        buffer = np.empty(max(len(piece) for piece in self._pieces), EVENT_DTYPE)
        for piece in self._pieces:
            for start in range(0, len(piece), max_events):
                part = piece[start : start + max_events]
                buffer[: len(part)] = part  # the next chunk overwrites this one
                yield buffer[: len(part)]


def timed(times):
    events = np.zeros(len(times), EVENT_DTYPE)
    events["t"] = times
    events["x"] = np.arange(len(times))
    return events


def copies(chunks):
    return [chunk.copy() for chunk in chunks]


def windows_one_by_one(events, duration_us, start_us=None):
    """The rule of `Recording.chunks`, event by event."""
    origin = start_us
    windows, late = [], 0
    for event in events:
        if start_us is not None and event["t"] < start_us:
            continue
        if origin is None:
            origin = event["t"]
        if not windows:
            windows.append([])
        while event["t"] >= origin + len(windows) * duration_us:
            windows.append([])
        late += event["t"] < origin + (len(windows) - 1) * duration_us
        windows[-1].append(event)
    return windows, late


times = st.lists(st.integers(0, 300), min_size=1, max_size=60)
cuts = st.lists(st.integers(1, 59), max_size=10)


@settings(deadline=None)
@given(times=times, cuts=cuts, duration_us=st.integers(1, 90), start_us=st.none() | st.integers(-50, 350))
def test_windows_follow_the_rule_for_any_times_and_cuts(times, cuts, duration_us, start_us):
    events = timed(times)
    recording = CutRecording(events, cuts)
    found = copies(recording.chunks(duration_us=duration_us, start_us=start_us))
    expected, late = windows_one_by_one(events, duration_us, start_us)
    assert [window["x"].tolist() for window in found] == [[e["x"] for e in window] for window in expected]
    assert recording.report.late_events == late


@settings(deadline=None)
@given(times=times, cuts=cuts, count=st.integers(1, 70))
def test_counts_are_exact_whatever_the_reader_delivers(times, cuts, count):
    events = timed(times)
    found = copies(CutRecording(events, cuts).chunks(count=count))
    assert [len(chunk) for chunk in found[:-1]] == [count] * (len(found) - 1)
    assert 0 < len(found[-1]) <= count
    np.testing.assert_array_equal(np.concatenate(found), events)


@settings(deadline=None)
@given(
    times=times,
    cuts=cuts,
    limits=st.tuples(st.integers(0, 300), st.integers(0, 300)).map(sorted),
    positions=st.tuples(st.integers(0, 70), st.integers(0, 70)).map(sorted),
)
def test_ranges_of_time_and_of_events(times, cuts, limits, positions):
    events = timed(times)
    recording = CutRecording(events, cuts)
    found = copies(
        recording.chunks(
            start_us=limits[0], stop_us=limits[1], start_event=positions[0], stop_event=positions[1]
        )
    )
    expected = [e for e in events[positions[0] : positions[1]] if limits[0] <= e["t"] < limits[1]]
    assert [e for chunk in found for e in chunk] == expected


def test_windows_counted_by_hand():
    recording = CutRecording(timed([100, 109, 110, 141, 128, 142]), [3])
    found = copies(recording.chunks(duration_us=10))
    assert [window["t"].tolist() for window in found] == [[100, 109], [110], [], [], [141, 128, 142]]
    assert recording.report.late_events == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 3, "duration_us": 5}, r"count \(3\) and duration_us \(5\) exclude each other"),
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"duration_us": -1}, "duration_us must be at least 1, got -1"),
        ({"start_us": 5, "stop_us": 4}, r"stop_us \(4\) must not be below start_us \(5\)"),
        ({"start_event": 5, "stop_event": 4}, r"stop_event \(4\) must not be below start_event \(5\)"),
        ({"start_event": -1}, "start_event must be at least 0, got -1"),
    ],
)
def test_impossible_cuts_are_refused_at_once(given, message):
    with pytest.raises(ConfigError, match=message):
        CutRecording(timed([1]), []).chunks(**given)


@pytest.mark.parametrize("cut", [{"count": 1000}, {"duration_us": 1_000_000}, {}])
def test_what_is_good_comes_before_the_error(tmp_path, cut):
    events = random_events(1, 50, sensor_hw=(128, 128), span_us=10_000)
    write_recording(tmp_path / "a", events, format="aedat2", sensor_hw=(128, 128))
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:-3])
    chunks = open_recording(tmp_path / "a", ReadOptions(damage="strict")).chunks(**cut)
    np.testing.assert_array_equal(next(chunks).copy(), events[:49])
    with pytest.raises(DamagedRecording, match="ends inside a record"):
        next(chunks)


@pytest.mark.parametrize("cut", [{"count": 10_000}, {"duration_us": 20_000}, {"stop_event": 2_000_000}])
def test_memory_is_that_of_a_chunk(tmp_path, cut):
    events = random_events(2, 1_500_000, sensor_hw=(128, 128), span_us=3_000_000)
    write_recording(tmp_path / "a", events, format="aedat2", sensor_hw=(128, 128))
    del events
    recording = open_recording(tmp_path / "a")
    for _ in recording.chunks(count=1000, stop_event=2000):
        pass  # compile outside the measurement
    tracemalloc.start()
    try:
        total = sum(len(chunk) for chunk in recording.chunks(**cut))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 1_500_000
    # A reader's chunk of 2^20 events is 16 MiB; windows are cut from smaller ones.
    assert peak < {"count": 2, "duration_us": 6, "stop_event": 20}[next(iter(cut))] * (1 << 20)


def test_a_wrong_time_gives_no_windows_without_end_and_swallows_nothing():
    recording = CutRecording(timed([100, 109, 2**40, 131, 141, 2**40 + 5, 2**40 + 6, 150]), [3, 6])
    found = copies(recording.chunks(duration_us=10, start_us=90))
    wrong = [[2**40], [2**40 + 5, 2**40 + 6]]
    assert [window["t"].tolist() for window in found] == [
        [],
        [100, 109],
        wrong[0],
        [131],
        [141],
        wrong[1],
        [150],
    ]
    assert (recording.report.late_events, recording.report.clock_leaps) == (0, 4)
    assert recording.report.notes == [
        "left out the windows of 10 us over which the clock leaps to t = 1099511627776 us and 3 times more"
    ]
    recording.damage = "strict"
    chunks = recording.chunks(duration_us=10, start_us=90)
    assert [next(chunks)["t"].tolist() for _ in range(2)] == [[], [100, 109]]
    with pytest.raises(
        DamagedRecording, match="t = 1099511627776 us the clock leaps over 109951162766 windows"
    ):
        next(chunks)


@pytest.mark.parametrize("times", [[2**62, -(2**62)], [-(2**63), 2**63 - 1, 0], [0, 2**63 - 1, -(2**63)]])
@pytest.mark.parametrize("start_us", [None, 0])
def test_no_times_give_windows_without_end(times, start_us):
    recording = CutRecording(timed(times), [])
    found = copies(recording.chunks(duration_us=1, start_us=start_us, stop_us=2**63 - 1))
    assert sum(len(window) for window in found) == sum(
        t < 2**63 - 1 for t in times if start_us is None or t >= 0
    )


def test_the_longest_pause_is_yielded_window_by_window(monkeypatch):
    monkeypatch.setattr(stream, "MOST_EMPTY_WINDOWS", 3)
    for windows, leaps in ((3, 0), (4, 1)):
        recording = CutRecording(timed([100, 100 + 10 * (windows + 1)]), [])
        found = copies(recording.chunks(duration_us=10))
        assert len(found) == 2 + (windows if leaps == 0 else 0)
        assert recording.report.clock_leaps == leaps

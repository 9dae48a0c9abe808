"""Cutting a recording into windows, and what is done with windows that wait; no network."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from suites.stream_stand_ins import SetClock, moving_events, recorded

from events.readers.registry import open_recording
from pipelines.errors import ExperimentError
from pipelines.stream.pace import MOST_JOINED, Pace, PaceSettings
from pipelines.stream.windows import CutCounts, Window, WindowCut, cut_windows, join_windows


@pytest.fixture
def file(tmp_path):
    return recorded(tmp_path / "spot.dat", moving_events(start_us=12_345))


def windows_of(path, cut):
    counts = CutCounts()
    return [window.copy() for window in cut_windows(open_recording(path), cut, counts)], counts


def same(events, expected):
    return all(np.array_equal(events[name], expected[name]) for name in "txyp")


@pytest.mark.parametrize(("step_us", "window_us"), [(30_000, 30_000), (20_000, 50_000), (50_000, 20_000)])
def test_windows_of_time_end_on_the_grid_and_hold_what_is_before(file, step_us, window_us):
    windows, counts = windows_of(file, WindowCut(step_us, window_us))
    events = open_recording(file).read()
    assert counts.events == len(events)
    assert [window.stop_us for window in windows] == list(
        range(step_us * (12_345 // step_us + 1), int(events["t"][-1]) + step_us + 1, step_us)
    )
    for window in windows:
        assert window.stop_us - window.start_us == window_us
        inside = (events["t"] >= window.start_us) & (events["t"] < window.stop_us)
        kept = (window.events["t"] >= window.start_us) & (window.events["t"] < window.stop_us)
        assert same(window.events[kept], events[inside])


def test_windows_of_events_follow_on_one_another(file):
    windows, _ = windows_of(file, WindowCut(events=7_000))
    events = open_recording(file).read()
    assert [len(window.events) for window in windows] == [7_000] * 8 + [4_000]
    assert same(np.concatenate([window.events for window in windows]), events)
    assert all(b.start_us == a.stop_us for a, b in pairwise(windows))
    assert windows[-1].stop_us == int(events["t"][-1]) + 1


def test_quiet_windows_are_there_too(tmp_path):
    events = moving_events(span_us=10_000)
    later = events.copy()
    later["t"] += 200_000
    path = recorded(tmp_path / "pause.npz", np.concatenate([events, later]))
    windows, _ = windows_of(path, WindowCut(50_000, 50_000))
    assert [len(window.events) for window in windows] == [len(events), 0, 0, 0, len(events)]


@pytest.mark.parametrize("cut", [WindowCut(20_000, 20_000), WindowCut(20_000, 60_000), WindowCut(events=500)])
def test_ends_rise_whatever_the_clock_does(tmp_path, cut):
    events = moving_events(span_us=100_000, seed=3)
    events["t"][5_000:] -= 60_000
    # Over more windows than are gone through, and back.
    events["t"][9_000:12_000] += 10**11
    path = recorded(tmp_path / "leaps.npz", events)
    windows, counts = windows_of(path, cut)
    stops = [window.stop_us for window in windows]
    assert all(b > a for a, b in pairwise(stops))
    # None is lost without being counted, and every event of a window is where its window says.
    assert counts.events == len(events)
    assert counts.windows_back > 0
    assert counts.notes
    if not cut.overlapping:
        assert sum(len(window.events) for window in windows) + counts.events_back == len(events)


def test_memory_is_that_of_a_window(tmp_path):
    path = recorded(tmp_path / "long.dat", moving_events(span_us=20_000_000, rate=100_000))
    cut = WindowCut(20_000, 40_000)
    for _ in cut_windows(open_recording(path), cut, CutCounts()):
        pass
    tracemalloc.start()
    peaks = []
    for window in cut_windows(open_recording(path), cut, CutCounts()):
        if window.number % 250 == 249:
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.reset_peak()
    tracemalloc.stop()
    # 32 MB of events went by.
    assert len(peaks) == 4
    assert max(peaks) < 8e6
    assert peaks[-1] < peaks[1] + 1e6


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "expected the first two, or the last alone"),
        ({"step_us": 5}, "expected the first two, or the last alone"),
        ({"step_us": 5, "window_us": 5, "events": 5}, "expected the first two, or the last alone"),
        ({"events": 0}, "found events 0, expected at least 1"),
        ({"step_us": 0, "window_us": 5}, "found step_us 0, expected at least 1"),
    ],
)
def test_cuts_that_cannot_be(given, words):
    with pytest.raises(ExperimentError, match=words):
        WindowCut(**given)


def steady(count, *, step_us=10_000, events=3):
    """Windows side by side; every one has events at its start."""
    for number in range(count):
        found = moving_events(span_us=step_us, rate=events * 1e6 / step_us, seed=number)
        found["t"] += number * step_us
        yield Window(number, number * step_us, (number + 1) * step_us, found)


def worked_off(policy, *, windows=20, work_s, speed=1.0):
    """What arrives where every window takes so long; times of the work, too."""
    clock = SetClock()
    pace = Pace(steady(windows), PaceSettings(speed, policy), least_step_us=10_000, clock=clock)
    found = []
    for arrival in pace:
        assert clock.now() >= arrival.arrived_s
        found.append((arrival.window, arrival.arrived_s, clock.now()))
        clock.sleep(work_s)
    return found, pace, clock


def test_windows_arrive_when_they_are_over():
    found, pace, clock = worked_off("wait", work_s=0.004)
    assert [window.number for window, _, _ in found] == list(range(20))
    np.testing.assert_allclose([arrived for _, arrived, _ in found], 0.01 * np.arange(1, 21))
    np.testing.assert_allclose([began for _, _, began in found], 0.01 * np.arange(1, 21))
    assert clock.now() == pytest.approx(0.2 + 0.004)
    assert pace.slept_s == pytest.approx(0.2 - 19 * 0.004)


def test_at_twice_the_speed_they_arrive_in_half_the_time():
    found, _, _ = worked_off("wait", work_s=0.001, speed=2.0)
    np.testing.assert_allclose([arrived for _, arrived, _ in found], 0.005 * np.arange(1, 21))


def test_waiting_windows_are_worked_off_later_and_later():
    found, pace, _ = worked_off("wait", work_s=0.025)
    assert [window.number for window, _, _ in found] == list(range(20))
    late = [began - arrived for _, arrived, began in found]
    np.testing.assert_allclose(late, 0.015 * np.arange(20), atol=1e-9)
    assert pace.dropped == pace.joined == 0


def test_the_oldest_are_dropped():
    found, pace, _ = worked_off("drop-oldest", work_s=0.025)
    # Worked on at 10, 35, 60, ... ms, when 1, 3, 6, ... windows are over.
    assert [window.number for window, _, _ in found][:5] == [0, 2, 5, 7, 10]
    assert len(found) + pace.dropped == 20
    assert pace.dropped_events == 3 * pace.dropped
    assert max(began - arrived for _, arrived, began in found) < 0.01 + 1e-9


def test_waiting_windows_become_one():
    found, pace, _ = worked_off("widen", work_s=0.025)
    assert [(w.start_us, w.stop_us, w.joined) for w, _, _ in found][:3] == [
        (0, 10_000, 1), (10_000, 30_000, 2), (30_000, 60_000, 3),
    ]  # fmt: skip
    assert sum(window.joined for window, _, _ in found) == 20
    assert pace.joined == 20 - len(found)
    assert sum(len(window.events) for window, _, _ in found) == 60
    assert all(np.all(np.diff(window.events["t"]) >= 0) for window, _, _ in found)


def test_no_more_than_so_many_become_one():
    found, _, _ = worked_off("widen", windows=100, work_s=1.0)
    assert [window.joined for window, _, _ in found] == [1] + [MOST_JOINED] * 12 + [3]


def test_joined_windows_that_overlap_hold_every_event_once(tmp_path):
    path = recorded(tmp_path / "spot.dat", moving_events())
    windows, _ = windows_of(path, WindowCut(20_000, 50_000))
    joined = join_windows(windows[4:7])
    events = open_recording(path).read()
    inside = (events["t"] >= joined.start_us) & (events["t"] < joined.stop_us)
    kept = (joined.events["t"] >= joined.start_us) & (joined.events["t"] < joined.stop_us)
    assert same(joined.events[kept], events[inside])
    assert (joined.start_us, joined.stop_us) == (windows[4].start_us, windows[6].stop_us)


def test_stopping_ends_a_sleep():
    clock = SetClock()

    pace = Pace(
        steady(3, step_us=60_000_000),
        PaceSettings(1.0),
        least_step_us=60_000_000,
        clock=clock,
        stop=lambda: clock.now() > 0.5,
    )
    assert not list(pace)
    assert clock.now() < 1.0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"policy": "hurry", "speed": 1.0}, "found 'hurry', expected one of wait, drop-oldest, widen"),
        ({"policy": "widen"}, "add --realtime"),
        ({"speed": 0.0}, "found a speed of 0.0, expected a number above 0"),
    ],
)
def test_paces_that_cannot_be(given, words):
    with pytest.raises(ExperimentError, match=words):
        PaceSettings(**given)

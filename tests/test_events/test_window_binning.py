"""Frames of windows: voxel cubes, stacked histograms and counts, defined and fast."""

from dataclasses import replace
from math import floor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from events.binning import numba_cpu, reference, window, window_numba
from events.binning.settings import PRESETS, BinSettings
from events.errors import ConfigError
from events.recording import EVENT_DTYPE

SENSOR_HW = (6, 8)
CUBE, STACK, RVT, COUNTS = (PRESETS[name] for name in ("cube", "stack", "rvt", "counts"))
BOTH = pytest.mark.parametrize(
    "bin_window", [window.bin_window, window_numba.bin_window], ids=["def", "numba"]
)


def events_of(*rows) -> np.ndarray:
    """Return events from rows (t, x, y, p)."""
    return np.array(list(rows), EVENT_DTYPE) if rows else np.empty(0, EVENT_DTYPE)


def some_events(seed: int, n: int, *, start_us: int, stop_us: int) -> np.ndarray:
    """Return events on few pixels, some before and some behind the span, in any order."""
    rng = np.random.default_rng(seed)
    events = np.empty(n, EVENT_DTYPE)
    margin = max(1, (stop_us - start_us) // 4)
    events["t"] = rng.integers(start_us - margin, stop_us + margin, n)
    events["x"], events["y"] = rng.integers(0, SENSOR_HW[1], n), rng.integers(0, SENSOR_HW[0], n)
    events["p"] = rng.random(n) < 0.5
    return events


def cube_by_hand(events, *, stop_us: int, span_us: int, frames: int, micro: int) -> set[tuple[int, ...]]:
    """Return the cells of a voxel cube by the published rule, with a channel for each (p, m)."""
    cells = set()
    for t, x, y, p in events.tolist():
        u = t - (stop_us - span_us)
        if 0 <= u < span_us:
            k = floor(u * frames / span_us)
            m = floor((u * frames % span_us) * micro / span_us)
            cells.add((k, int(p) * micro + m, y, x))
    return cells


@BOTH
def test_repeated_events_count_once(bin_window):
    events = events_of(
        (5, 1, 2, True),
        (5, 1, 2, True),  # again
        (5, 1, 2, False),  # of the other polarity
        (5, 1, 3, True),  # of another pixel
        (5, 1, 2, True),  # again, with others between
        (6, 1, 2, True),  # later
        (-1, 1, 2, True),  # before the window
    )
    settings = replace(COUNTS, window_us=10, frames=1, dedup=True)
    found = bin_window(events, settings=settings, sensor_hw=SENSOR_HW, stop_us=10)
    assert found.n_events == 4
    assert found.frames[0, 1, 2, 1] == 2
    assert found.frames[0, 0, 2, 1] == 1
    assert found.frames[0, 1, 3, 1] == 1
    assert found.frames.sum() == 4
    assert replace(settings, dedup=False).dedup is None
    assert (
        bin_window(events, settings=replace(settings, dedup=None), sensor_hw=SENSOR_HW, stop_us=10).n_events
        == 6
    )
    outside = events_of((5, SENSOR_HW[1], 2, True))
    with pytest.raises(ConfigError):
        bin_window(outside, settings=settings, sensor_hw=SENSOR_HW, stop_us=10)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 300))
def test_windows_without_repeated_events_agree(seed, n):
    events = some_events(seed, n, start_us=0, stop_us=8)  # so few times and pixels that many are equal
    settings = replace(STACK, window_us=8, micro_bins=2, dedup=True)
    given = {"settings": settings, "sensor_hw": SENSOR_HW, "stop_us": 8}
    defined, fast = (module.bin_window(events, **given) for module in (window, window_numba))
    np.testing.assert_array_equal(defined.frames, fast.frames)
    assert defined[2:] == fast[2:]


def test_dedup_needs_windows():
    with pytest.raises(ConfigError, match="dedup need split 'window', got 'count'"):
        BinSettings(dedup=True)


@BOTH
def test_cube_of_five_events_counted_by_hand(bin_window):
    # Parts of 10 ms: frame 0 is [0, 20) ms with micro bins [0, 10) and [10, 20).
    events = events_of(
        (0, 1, 2, False),
        (9_999, 1, 2, False),
        (10_000, 1, 2, True),
        (45_000, 3, 0, True),
        (99_999, 7, 5, False),
    )
    frames = bin_window(events, settings=CUBE, sensor_hw=SENSOR_HW, stop_us=100_000).frames
    assert frames.shape == (5, 4, 6, 8)
    assert set(zip(*np.nonzero(frames), strict=True)) == {
        (0, 0, 2, 1), (0, 3, 2, 1), (2, 2, 0, 3), (4, 1, 5, 7)
    }  # fmt: skip
    assert frames.max() == 1


@BOTH
def test_every_channel_is_reached_once(bin_window):
    """One event in each part of each polarity fills as many channels as there are."""
    events = events_of(*[(10_000 * part, 0, 0, p) for part in range(10) for p in (False, True)])
    frames = bin_window(events, settings=CUBE, sensor_hw=SENSOR_HW, stop_us=100_000).frames
    assert frames[:, :, 0, 0].tolist() == [[1, 1, 1, 1]] * 5


@BOTH
def test_window_holds_its_start_and_not_its_end(bin_window):
    events = events_of((-1, 0, 0, True), (0, 1, 0, True), (99_999, 2, 0, True), (100_000, 3, 0, True))
    binned = bin_window(events, settings=COUNTS, sensor_hw=SENSOR_HW, stop_us=100_000)
    assert binned.frames.sum(axis=(0, 1, 2)).tolist() == [0, 1, 1, 0, 0, 0, 0, 0]
    assert binned.n_events == 2


@BOTH
@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(0, 200), frames=st.integers(1, 7), micro=st.integers(1, 4)
)
def test_cube_is_the_set_of_its_cells(bin_window, seed, n, frames, micro):
    settings = replace(CUBE, frames=frames, micro_bins=micro, window_us=997)
    events = some_events(seed, n, start_us=4_003, stop_us=5_000)
    found = bin_window(events, settings=settings, sensor_hw=SENSOR_HW, stop_us=5_000).frames
    cells = cube_by_hand(events, stop_us=5_000, span_us=997, frames=frames, micro=micro)
    assert set(zip(*np.nonzero(found), strict=True)) == cells
    assert found.sum() == len(cells)


@BOTH
@given(seed=st.integers(0, 2**32 - 1), shift=st.integers(-(2**40), 2**40))
def test_a_shifted_clock_changes_nothing(bin_window, seed, shift):
    events = some_events(seed, 80, start_us=0, stop_us=50_000)
    moved = events.copy()
    moved["t"] += shift
    for settings in (STACK, RVT):
        one = bin_window(events, settings=settings, sensor_hw=SENSOR_HW, stop_us=50_000)
        other = bin_window(moved, settings=settings, sensor_hw=SENSOR_HW, stop_us=50_000 + shift)
        np.testing.assert_array_equal(one.frames, other.frames)
        np.testing.assert_array_equal(one.t_edges_us + shift, other.t_edges_us)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 400),
    settings=st.sampled_from(
        [
            CUBE, STACK, RVT, COUNTS, replace(STACK, cutoff=1), replace(COUNTS, dtype="uint16"),
            replace(CUBE, size_hw=(3, 5)), replace(STACK, size_hw=(2, 2), frames=3),
            replace(RVT, cutoff=None), replace(CUBE, window_events=40), replace(COUNTS, window_events=1),
        ]
    ),
)  # fmt: skip
def test_numba_agrees_with_the_definition(seed, n, settings):
    settings = replace(settings, window_us=1_001)
    events = some_events(seed, n, start_us=999, stop_us=2_000)
    before = events.copy()
    slow = window.bin_window(events, settings=settings, sensor_hw=SENSOR_HW, stop_us=2_000)
    out = np.full(settings.frame_shape(SENSOR_HW), 77, settings.dtype)
    fast = window_numba.bin_window(events, settings=settings, sensor_hw=SENSOR_HW, stop_us=2_000, out=out)
    assert fast.frames is out
    np.testing.assert_array_equal(fast.frames, slow.frames)
    np.testing.assert_array_equal(fast.t_edges_us, slow.t_edges_us)
    assert (fast.n_events, fast.n_saturated) == (slow.n_events, slow.n_saturated)
    np.testing.assert_array_equal(events, before)


@BOTH
def test_counts_stop_at_the_cutoff(bin_window):
    events = events_of(*[(0, 2, 3, True)] * 300, *[(0, 0, 0, False)] * 10)
    binned = bin_window(events, settings=STACK, sensor_hw=SENSOR_HW, stop_us=50_000)
    assert (binned.frames[0, 10, 3, 2], binned.frames[0, 0, 0, 0]) == (10, 10)
    assert (binned.n_events, binned.n_saturated) == (310, 1)


@BOTH
def test_rvt_stretches_a_quiet_window_and_wraps(bin_window):
    """Two events 10 us apart are in the first and the last bin, and 257 events count as one."""
    events = events_of((20_000, 0, 0, True), (20_010, 0, 0, True), *[(20_000, 5, 5, False)] * 257)
    ours = bin_window(events, settings=STACK, sensor_hw=SENSOR_HW, stop_us=50_000).frames
    theirs = bin_window(events, settings=RVT, sensor_hw=SENSOR_HW, stop_us=50_000).frames
    assert ours[0, :, 0, 0].tolist() == [0] * 14 + [2] + [0] * 5
    assert theirs[0, :, 0, 0].tolist() == [0] * 10 + [1] + [0] * 8 + [1]
    assert (ours[0, 4, 5, 5], theirs[0, 0, 5, 5]) == (10, 1)


@BOTH
def test_rvt_includes_the_time_at_which_a_window_ends(bin_window):
    events = events_of((-1, 0, 0, True), (0, 1, 0, True), (50_000, 2, 0, True), (50_001, 3, 0, True))
    binned = bin_window(events, settings=RVT, sensor_hw=SENSOR_HW, stop_us=50_000)
    assert binned.frames.sum(axis=(0, 1, 2)).tolist() == [0, 1, 1, 0, 0, 0, 0, 0]
    assert binned.t_edges_us.tolist() == [0, 50_001]


@given(seed=st.integers(0, 2**32 - 1), span=st.integers(1, 50_000), bins=st.integers(1, 12))
def test_rvt_bins_round_as_torch_does(seed, span, bins):
    """Whole tensors are divided in float32, which puts some times into another bin than exact division."""
    rng = np.random.default_rng(seed)
    events = np.zeros(64, EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(0, span, 64))
    times = torch.from_numpy(events["t"] - events["t"][0])
    part = torch.floor(times / torch.clamp(times[-1], min=1) * bins).clamp(max=bins - 1).long()
    settings = replace(RVT, micro_bins=bins, cutoff=None)
    for module in (window, window_numba):
        frames = module.bin_window(events, settings=settings, sensor_hw=(1, 1), stop_us=50_000).frames
        assert frames[0, :bins, 0, 0].tolist() == torch.bincount(part, minlength=bins).tolist()


@BOTH
def test_a_window_without_events_is_frames_of_zeros(bin_window):
    binned = bin_window(events_of(), settings=CUBE, sensor_hw=SENSOR_HW, stop_us=50_000)
    assert binned.frames.sum() == 0
    assert binned.t_edges_us.tolist() == [-50_000, -30_000, -10_000, 10_000, 30_000, 50_000]


@BOTH
def test_an_event_outside_the_sensor_is_refused(bin_window):
    for event in ((10, 8, 0, True), (10, 0, 6, False)):
        with pytest.raises(ConfigError, match="lies outside the sensor of 6x8"):
            bin_window(events_of(event), settings=CUBE, sensor_hw=SENSOR_HW, stop_us=100)


def test_edges_are_the_first_microseconds_of_frames():
    """An event one microsecond before an edge is in the frame before it."""
    settings = replace(COUNTS, frames=3, window_us=100)
    assert window.window_edges(100, settings).tolist() == [0, 34, 67, 100]
    events = events_of((33, 0, 0, True), (34, 1, 0, True), (66, 2, 0, True), (67, 3, 0, True))
    frames = window.bin_window(events, settings=settings, sensor_hw=SENSOR_HW, stop_us=100).frames
    assert [np.flatnonzero(frame.sum(axis=(0, 1))).tolist() for frame in frames] == [[0], [1, 2], [3]]


def test_micro_bins_become_frames_of_two_polarities():
    events = events_of((0, 1, 2, False), (10_000, 1, 2, True), (95_000, 7, 5, True))
    binned = window.bin_window(events, settings=CUBE, sensor_hw=SENSOR_HW, stop_us=100_000)
    frames, edges = window.split_micro_bins(binned.frames, binned.t_edges_us)
    assert frames.shape == (10, 2, 6, 8)
    assert set(zip(*np.nonzero(frames), strict=True)) == {(0, 0, 2, 1), (1, 1, 2, 1), (9, 1, 5, 7)}
    assert edges.tolist() == list(range(0, 100_001, 10_000))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"split": "count", "window_us": None}, "micro_bins need split 'window', got 'count'"),
        ({"window_us": None}, "window_us belongs to split 'duration' or 'window'"),
        ({"value": "last_time"}, "needs value 'count' or 'binary'"),
        ({"micro_bins": 0}, "micro_bins must be at least 1, got 0"),
        ({"cutoff": 3}, "cutoff 3 needs value 'count'"),
        ({"rvt_compat": True}, "rvt_compat needs value 'count', one frame"),
        ({"window_events": 0}, "window_events must be at least 1, got 0"),
        ({"split": "count", "window_us": None, "micro_bins": None, "window_events": 9}, "window_events need"),
        (
            {"rvt_compat": True, "window_events": 9, "value": "count", "frames": 1},
            "rvt_compat and window_events exclude each other",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        replace(CUBE, **changes)


@BOTH
def test_windows_of_so_many_events_counted_by_hand(bin_window):
    """Of seven before 100 us the last three; of the two at 40 us the later in the file; none at 100."""
    events = events_of(
        (90, 4, 0, True),  # the clock steps back behind it
        (10, 0, 0, True), (40, 1, 0, True), (40, 2, 0, False), (70, 3, 0, True),
        (9, 6, 0, True), (8, 7, 0, True), (100, 5, 0, True), (130, 5, 0, True),
    )  # fmt: skip
    settings = BinSettings(frames=3, split="window", window_us=1_000, window_events=3)
    found = bin_window(events, settings=settings, sensor_hw=SENSOR_HW, stop_us=100)
    # From 40 to 100 us, three frames of 20 us.
    assert set(zip(*np.nonzero(found.frames), strict=True)) == {(0, 0, 0, 2), (1, 1, 0, 3), (2, 1, 0, 4)}
    assert found.t_edges_us.tolist() == [40, 60, 80, 100]
    assert (found.n_events, int(found.frames.sum())) == (3, 3)


@BOTH
def test_fewer_events_than_asked_for_are_all_taken(bin_window):
    events = events_of((10, 0, 0, True), (40, 1, 0, True), (70, 3, 0, True))
    settings = BinSettings(frames=1, split="window", window_us=60, window_events=3)
    found = bin_window(events, settings=settings, sensor_hw=SENSOR_HW, stop_us=100)
    # 10 us is more than 60 before the end.
    assert (found.n_events, found.t_edges_us.tolist()) == (2, [40, 100])
    nothing = bin_window(events, settings=settings, sensor_hw=SENSOR_HW, stop_us=5)
    assert (nothing.n_events, nothing.t_edges_us.tolist(), int(nothing.frames.sum())) == (0, [-55, 5], 0)


def test_binning_whole_recordings_refuses_windows():
    for module in (reference, numba_cpu):
        with pytest.raises(ConfigError, match="split 'window' needs the window's bounds"):
            module.bin_events(events_of(), settings=CUBE, sensor_hw=SENSOR_HW)
    with pytest.raises(ConfigError, match="has no window before a time"):
        window.bin_window(events_of(), settings=BinSettings(), sensor_hw=SENSOR_HW, stop_us=0)

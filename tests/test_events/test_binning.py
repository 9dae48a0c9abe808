"""Binning: counted by hand, and the fast version against the reference for every option."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.binning import numba_cpu, reference
from events.binning.settings import PRESETS, BinSettings
from events.errors import ConfigError, DamagedRecording
from events.recording import EVENT_DTYPE

BINNERS = pytest.mark.parametrize(
    "bin_events", [reference.bin_events, numba_cpu.bin_events], ids=["numpy", "numba"]
)


def events_at(times, *, x=0, y=0, p=1):
    events = np.zeros(len(times), EVENT_DTYPE)
    events["t"], events["x"], events["y"], events["p"] = times, x, y, p
    return events


def random_events(seed, n, *, sensor_hw, span_us, backward):
    rng = np.random.default_rng(seed)
    # Padding bytes of the records are left as random as a reader may leave them.
    events = rng.integers(0, 256, 16 * n, dtype=np.uint8).view(EVENT_DTYPE)
    times = rng.integers(-span_us, span_us + 1, n)
    events["t"] = times if backward else np.sort(times)
    events["x"] = rng.integers(0, sensor_hw[1], n)
    events["y"] = rng.integers(0, sensor_hw[0], n)
    events["p"] = rng.integers(0, 2, n)
    return events


def per_frame(result):
    return result.frames.sum(axis=(1, 2, 3)).tolist()


@BINNERS
def test_by_count_the_tail_joins_the_last_frame_or_is_dropped(bin_events):
    events = events_at([10, 11, 12, 13, 14, 15, 16, 17])  # 8 events, 3 frames: k = 2, tail of 2
    last = bin_events(events, settings=BinSettings(frames=3), sensor_hw=(1, 1))
    assert per_frame(last) == [2, 2, 4]
    assert last.t_edges_us.tolist() == [10, 12, 14, 18]
    assert last.n_events == 8
    drop = bin_events(events, settings=BinSettings(frames=3, tail="drop"), sensor_hw=(1, 1))
    assert per_frame(drop) == [2, 2, 2]
    assert drop.t_edges_us.tolist() == [10, 12, 14, 16]
    assert drop.n_events == 6


@BINNERS
def test_by_time_follows_spikingjelly_and_tonic(bin_events):
    # dt = (107 - 100) // 3 = 2: frames [100, 102), [102, 104), [104, 106); 106 and 107 are the tail.
    events = events_at([100, 101, 102, 105, 106, 107])
    last = bin_events(events, settings=BinSettings(frames=3, split="time"), sensor_hw=(1, 1))
    assert per_frame(last) == [2, 1, 3]
    assert last.t_edges_us.tolist() == [100, 102, 104, 108]
    drop = bin_events(events, settings=BinSettings(frames=3, split="time", tail="drop"), sensor_hw=(1, 1))
    assert per_frame(drop) == [2, 1, 1]
    assert drop.t_edges_us.tolist() == [100, 102, 104, 106]
    assert drop.n_events == 4


@BINNERS
def test_by_time_drops_the_last_event_even_where_the_span_divides(bin_events):
    # dt = 6 // 3 = 2: the event at 6 is at the end of the third frame, hence outside of it (tonic).
    events = events_at([0, 2, 4, 6])
    drop = bin_events(events, settings=BinSettings(frames=3, split="time", tail="drop"), sensor_hw=(1, 1))
    assert per_frame(drop) == [1, 1, 1]


@BINNERS
def test_by_time_the_tail_gets_a_frame_of_its_own(bin_events):
    # dt = (111 - 100) // (4 - 1) = 3: frames [100, 103), [103, 106), [106, 109), and what is left over.
    events = events_at([100, 102, 103, 108, 109, 110, 111])
    chosen = BinSettings(frames=4, split="time", tail="own")
    own = bin_events(events, settings=chosen, sensor_hw=(1, 1))
    assert per_frame(own) == [2, 1, 1, 3]
    assert own.t_edges_us.tolist() == [100, 103, 106, 109, 112]
    alone = bin_events(events, settings=replace(chosen, frames=1), sensor_hw=(1, 1))
    assert per_frame(alone) == [7]


@BINNERS
def test_by_duration_windows_are_padded_cut_and_left_out(bin_events):
    events = events_at(
        [50, 59, 60, 79, 80, 84]
    )  # windows of 10 from 50: 2, 1, 1, 2 events, the last unfinished
    kept = BinSettings(frames=6, split="duration", window_us=10)
    result = bin_events(events, settings=kept, sensor_hw=(1, 1))
    assert per_frame(result) == [2, 1, 1, 2, 0, 0]
    assert result.t_edges_us.tolist() == [50, 60, 70, 80, 90, 100, 110]
    complete = bin_events(events, settings=replace(kept, tail="drop"), sensor_hw=(1, 1))
    assert per_frame(complete) == [2, 1, 1, 0, 0, 0]
    cut = bin_events(events, settings=replace(kept, frames=2), sensor_hw=(1, 1))
    assert per_frame(cut) == [2, 1]
    assert cut.n_events == 3


@BINNERS
def test_fewer_events_than_frames(bin_events):
    events = events_at([5, 7])  # k = 2 // 4 = 0: all of it is tail
    assert per_frame(bin_events(events, settings=BinSettings(frames=4), sensor_hw=(1, 1))) == [0, 0, 0, 2]
    dropped = bin_events(events, settings=BinSettings(frames=4, tail="drop"), sensor_hw=(1, 1))
    assert per_frame(dropped) == [0, 0, 0, 0]
    assert dropped.n_events == 0
    # dt = max(1, 2 // 4) = 1 microsecond
    by_time = bin_events(events, settings=BinSettings(frames=4, split="time"), sensor_hw=(1, 1))
    assert per_frame(by_time) == [1, 0, 1, 0]
    assert by_time.t_edges_us.tolist() == [5, 6, 7, 8, 9]


@BINNERS
@pytest.mark.parametrize("tail", ["last", "drop", "own"])
def test_all_events_at_one_time_fall_in_the_first_frame_by_time(bin_events, tail):
    result = bin_events(
        events_at([9] * 5), settings=BinSettings(frames=3, split="time", tail=tail), sensor_hw=(1, 1)
    )
    assert per_frame(result) == [5, 0, 0]


@BINNERS
@pytest.mark.parametrize("split", ["count", "time", "duration"])
@pytest.mark.parametrize("value", ["count", "binary", "last_time", "last_polarity"])
def test_no_events_give_zero_frames(bin_events, split, value):
    chosen = BinSettings(frames=3, split=split, value=value, window_us=7 if split == "duration" else None)
    result = bin_events(np.empty(0, EVENT_DTYPE), settings=chosen, sensor_hw=(2, 4))
    assert result.frames.shape == (3, 2, 2, 4)
    assert not result.frames.any()
    assert result.t_edges_us.tolist() == [0, 0, 0, 0]
    assert (result.n_events, result.n_saturated) == (0, 0)


@BINNERS
def test_a_clock_that_steps_back(bin_events):
    events = events_at([100, 110, 104, 119, 101, 105])  # earliest 100, latest 119: dt = 9
    by_time = bin_events(events, settings=BinSettings(frames=2, split="time"), sensor_hw=(1, 1))
    assert per_frame(by_time) == [4, 2]
    assert by_time.t_edges_us.tolist() == [100, 109, 120]
    by_count = bin_events(events, settings=BinSettings(frames=3), sensor_hw=(1, 1))
    assert per_frame(by_count) == [2, 2, 2]
    assert by_count.t_edges_us.tolist() == [100, 104, 104, 106]  # the third starts at 101: held at 104


@BINNERS
def test_polarity_row_and_column(bin_events):
    events = events_at([0, 1, 2], x=[3, 3, 0], y=[1, 1, 2], p=[1, 1, 0])
    frames = bin_events(events, settings=BinSettings(frames=1), sensor_hw=(3, 4)).frames
    assert frames.shape == (1, 2, 3, 4)
    assert frames[0, 1, 1, 3] == 2
    assert frames[0, 0, 2, 0] == 1
    assert frames.sum() == 3


@BINNERS
@pytest.mark.parametrize(("dtype", "top"), [("uint8", 255), ("uint16", 65535)])
def test_counts_stop_at_the_largest_value(bin_events, dtype, top):
    # Pixel 0 gets exactly `top`, pixel 1 one more, pixel 2 so many that a wrapped count is `top` again.
    x = np.repeat([0, 1, 2], [top, top + 1, 2 * top + 1])
    result = bin_events(
        events_at(np.zeros(len(x)), x=x), settings=BinSettings(frames=1, dtype=dtype), sensor_hw=(1, 3)
    )
    assert result.frames.dtype == dtype
    assert result.frames[0, 1, 0].tolist() == [top, top, top]
    assert result.n_saturated == 2
    assert result.n_events == len(x)


@BINNERS
def test_binary_is_one_however_often(bin_events):
    events = events_at(np.arange(600), x=np.repeat([0, 2], 300))
    result = bin_events(events, settings=BinSettings(frames=1, value="binary"), sensor_hw=(1, 3))
    assert result.frames[0, 1, 0].tolist() == [1, 0, 1]
    assert result.n_saturated == 0


@BINNERS
def test_last_polarity_goes_by_place_in_the_file(bin_events):
    # x 0: ON then OFF. x 1: OFF, then ON at an earlier time. x 2: two pixels of the sensor, the last one ON.
    events = events_at([5, 6, 9, 7, 8, 8], x=[0, 0, 2, 2, 4, 5], p=[1, 0, 0, 1, 0, 1])
    chosen = BinSettings(frames=1, value="last_polarity", size_hw=(1, 4))
    result = bin_events(events, settings=chosen, sensor_hw=(1, 8))
    assert result.frames[0, :, 0].tolist() == [[1, 0, 0, 0], [0, 1, 1, 0]]
    assert (result.n_events, result.n_saturated) == (6, 0)


@BINNERS
def test_last_time_counted_by_hand(bin_events):
    # One frame from 1000 to 1100: value = 1 + (t - 1000) * 254 // 100.
    events = events_at([1000, 1050, 1010, 1099, 1100], x=[0, 1, 1, 2, 3])
    result = bin_events(events, settings=BinSettings(frames=1, value="last_time"), sensor_hw=(1, 5))
    assert result.frames[0, 1, 0].tolist() == [1, 128, 252, 255, 0]


@BINNERS
def test_last_time_refuses_a_broken_clock(bin_events):
    events = events_at([0, 1 << 50])
    with pytest.raises(
        DamagedRecording, match="more than four years; the clock of this recording is damaged"
    ):
        bin_events(events, settings=BinSettings(frames=1, value="last_time"), sensor_hw=(1, 1))


@BINNERS
def test_direct_to_a_smaller_grid(bin_events):
    # 5 columns into 2 cells: x * 2 // 5 sends 0, 1, 2 left and 3, 4 right.
    events = events_at(np.arange(5), x=np.arange(5))
    result = bin_events(events, settings=BinSettings(frames=1, size_hw=(1, 2)), sensor_hw=(2, 5))
    assert result.frames[0, 1].tolist() == [[3, 2]]


@BINNERS
def test_area_shares_a_pixel_between_cells(bin_events):
    # 3 columns into 2 cells of 1.5 pixels: the middle pixel gives half of its 3 events to each.
    events = events_at(np.arange(8), x=[0, 0, 0, 0, 1, 1, 1, 2])
    result = bin_events(
        events, settings=BinSettings(frames=1, size_hw=(1, 2), resize="area"), sensor_hw=(1, 3)
    )
    assert result.frames[0, 1].tolist() == [[6, 3]]  # 5.5 and 2.5, halves rounded up
    assert result.frames[0, 0].tolist() == [[0, 0]]


@BINNERS
def test_area_saturates_after_summing(bin_events):
    events = events_at(np.zeros(400), x=np.repeat([0, 1], 200))
    chosen = BinSettings(frames=1, size_hw=(1, 1), resize="area")
    result = bin_events(events, settings=chosen, sensor_hw=(1, 2))
    assert result.frames[0, 1, 0, 0] == 255
    assert result.n_saturated == 1


@BINNERS
@pytest.mark.parametrize("value", ["count", "binary", "last_time", "last_polarity"])
@pytest.mark.parametrize(("x", "y"), [(4, 0), (0, 3), (65535, 65535)])
def test_an_event_outside_the_sensor_is_named(bin_events, value, x, y):
    events = events_at(np.arange(300), x=[0] * 299 + [x], y=[0] * 299 + [y])
    with pytest.raises(
        ConfigError, match=rf"event 299 at x={x}, y={y} lies outside the sensor of 3x4 .*0 more"
    ):
        bin_events(events, settings=BinSettings(frames=3, value=value), sensor_hw=(3, 4))


@BINNERS
def test_area_names_an_event_outside_the_sensor(bin_events):
    events = events_at([0, 1], x=[0, 4])
    with pytest.raises(ConfigError, match="event 1 at x=4, y=0 lies outside"):
        bin_events(events, settings=BinSettings(frames=1, size_hw=(2, 2), resize="area"), sensor_hw=(3, 4))


@BINNERS
def test_anything_but_an_event_array_is_refused(bin_events):
    with pytest.raises(
        ConfigError, match=r"events must be an array \[N\] of EVENT_DTYPE, got shape \(3,\) of int64"
    ):
        bin_events(np.zeros(3, np.int64), settings=BinSettings(), sensor_hw=(3, 4))


option_sets = st.builds(
    lambda split, tail, window_us, area, **rest: BinSettings(
        split=split,
        tail=tail if split == "time" or tail != "own" else "last",
        window_us=window_us if split == "duration" else None,
        resize="area" if area and rest["value"] == "count" else "direct",
        **rest,
    ),
    frames=st.integers(1, 7),
    split=st.sampled_from(["count", "time", "duration"]),
    tail=st.sampled_from(["last", "drop", "own"]),
    window_us=st.integers(1, 200),
    value=st.sampled_from(["count", "binary", "last_time", "last_polarity"]),
    size_hw=st.one_of(st.none(), st.tuples(st.integers(1, 12), st.integers(1, 12))),
    area=st.booleans(),
    dtype=st.sampled_from(["uint8", "uint16"]),
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    chosen=option_sets,
    seed=st.integers(0, 2**32 - 1),
    n=st.one_of(st.integers(0, 40), st.integers(0, 3_000)),
    sensor_hw=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    span_us=st.integers(0, 1_000),
    backward=st.booleans(),
)
def test_numba_equals_the_reference(chosen, seed, n, sensor_hw, span_us, backward):
    events = random_events(seed, n, sensor_hw=sensor_hw, span_us=span_us, backward=backward)
    before = events.copy()
    expected = reference.bin_events(events, settings=chosen, sensor_hw=sensor_hw)
    out = np.full(chosen.frame_shape(sensor_hw), 7, chosen.dtype)
    for found in (
        numba_cpu.bin_events(events, settings=chosen, sensor_hw=sensor_hw),
        numba_cpu.bin_events(events, settings=chosen, sensor_hw=sensor_hw, out=out),
    ):
        np.testing.assert_array_equal(found.frames, expected.frames)
        np.testing.assert_array_equal(found.t_edges_us, expected.t_edges_us)
        assert found.frames.dtype == expected.frames.dtype == chosen.dtype
        assert found.t_edges_us.dtype == expected.t_edges_us.dtype == np.int64
        assert (found.n_events, found.n_saturated) == (expected.n_events, expected.n_saturated)
    np.testing.assert_array_equal(events, before)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(chosen=option_sets, seed=st.integers(0, 2**32 - 1), n=st.integers(0, 200))
def test_every_event_is_counted_once_and_edges_never_fall(chosen, seed, n):
    counted = replace(chosen, value="count", resize="direct", dtype="uint16")
    events = random_events(seed, n, sensor_hw=(6, 5), span_us=500, backward=False)
    result = reference.bin_events(events, settings=counted, sensor_hw=(6, 5))
    assert result.frames.sum() == result.n_events
    assert (np.diff(result.t_edges_us) >= 0).all()
    if counted.tail != "drop" and counted.split != "duration":
        assert result.n_events == n


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), size_hw=st.tuples(st.integers(1, 20), st.integers(1, 20)))
def test_area_keeps_the_sum_up_to_rounding(seed, size_hw):
    events = random_events(seed, 500, sensor_hw=(7, 11), span_us=500, backward=False)
    chosen = BinSettings(frames=1, size_hw=size_hw, resize="area", dtype="uint16")
    frames = numba_cpu.bin_events(events, settings=chosen, sensor_hw=(7, 11)).frames.astype(float)
    assert abs(frames.sum() - 500) <= 0.5 * frames.size


def test_a_strided_event_array_is_accepted():
    events = random_events(5, 400, sensor_hw=(8, 8), span_us=100, backward=False)
    thinned = numba_cpu.bin_events(events[::3], settings=BinSettings(), sensor_hw=(8, 8))
    copied = reference.bin_events(events[::3].copy(), settings=BinSettings(), sensor_hw=(8, 8))
    np.testing.assert_array_equal(thinned.frames, copied.frames)


def test_output_is_written_in_place_and_must_fit():
    events = events_at([0, 1], x=[0, 1])
    out = np.full((2, 2, 1, 2), 9, np.uint8)
    result = numba_cpu.bin_events(events, settings=BinSettings(frames=2), sensor_hw=(1, 2), out=out)
    assert result.frames is out
    assert out.tolist() == [[[[0, 0]], [[1, 0]]], [[[0, 0]], [[0, 1]]]]
    with pytest.raises(ConfigError, match=r"out must be a C-contiguous uint8 array of shape \(2, 2, 1, 2\)"):
        numba_cpu.bin_events(
            events, settings=BinSettings(frames=2), sensor_hw=(1, 2), out=out.astype(np.uint16)
        )
    with pytest.raises(ConfigError, match="not contiguous"):
        numba_cpu.bin_events(events, settings=BinSettings(frames=2), sensor_hw=(1, 2), out=out[:, ::-1])


@BINNERS
def test_the_published_frames_bit_for_bit(bin_events, golden):
    stored = np.load(golden("mlif/events_to_frames.npz"))
    events = events_at(stored["t"], x=stored["x"], y=stored["y"], p=stored["p"] > 0)
    chosen = PRESETS["mlif80"]
    assert chosen.frames == int(stored["T"])
    frames = bin_events(events, settings=chosen, sensor_hw=(128, 128)).frames
    # The published code's axes are [frame, polarity, x, y]; ours are [frame, polarity, y, x].
    bits = np.packbits(frames.transpose(0, 1, 3, 2))
    np.testing.assert_array_equal(bits, stored["frames_bits"])


@BINNERS
def test_tet10_are_masks_of_equal_event_count(bin_events):
    events = events_at(np.arange(25), x=np.repeat(np.arange(12), [3, *[2] * 11]))
    result = bin_events(events, settings=PRESETS["tet10"], sensor_hw=(1, 12))
    # k = 2: events 0-1 at x 0; 2-3 at x 0, 1; then always one event left over from the pair before.
    assert result.n_events == 20
    assert per_frame(result) == [1] + [2] * 9
    assert result.frames.max() == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": 0}, "frames must be at least 1, got 0"),
        ({"split": "size"}, "split must be one of count, time, duration, window; got 'size'"),
        ({"dtype": "int8"}, "dtype must be one of uint8, uint16; got 'int8'"),
        ({"split": "duration"}, "window_us belongs to split 'duration' or 'window' and only there"),
        ({"window_us": 5}, "window_us belongs to split 'duration' or 'window' and only there"),
        ({"split": "duration", "window_us": 0}, "window_us must be at least 1 microsecond, got 0"),
        ({"size_hw": (0, 4)}, r"size_hw must be at least 1x1, got \(0, 4\)"),
        ({"tail": "own"}, "tail 'own' needs split 'time', got 'count'; use tail 'last' or 'drop'"),
        ({"resize": "area", "value": "binary"}, "resize 'area' needs value 'count'"),
    ],
)
def test_settings_that_cannot_be_used(wrong, message):
    with pytest.raises(ConfigError, match=message):
        BinSettings(**wrong)

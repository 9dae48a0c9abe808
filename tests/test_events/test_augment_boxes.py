"""Augmentation with boxes, and the control without shape: events, frames and boxes go together."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.augment_boxes import (
    AUGMENTED_LIKE_RVT,
    BoxAugmentation,
    BoxAugmentSettings,
    augmented_boxes,
    augmented_events,
    augmented_frames,
    draw_augmentation,
)
from events.errors import ConfigError
from events.recording import EVENT_DTYPE
from events.shuffle import pixel_permutation, shuffle_events, shuffle_frames

HW = (14, 20)
END_US = 10_000


def random_events(seed, n, hw=HW):
    random = np.random.default_rng(seed)
    events = np.zeros(n, EVENT_DTYPE)
    events["t"] = np.sort(random.integers(0, END_US, n))
    events["x"], events["y"] = random.integers(0, hw[1], n), random.integers(0, hw[0], n)
    events["p"] = random.integers(0, 2, n)
    return events


def counted(events, hw=HW, steps=2):
    counts = np.zeros((steps, 2, *hw), np.int64)
    np.add.at(counts, (events["t"] * steps // END_US, events["p"].astype(int), events["y"], events["x"]), 1)
    return counts


def drawn_events(box, hw=HW):
    """One event in every pixel of a box of whole pixels."""
    x0, y0, x1, y1 = box
    y, x = (part.ravel() for part in np.mgrid[y0:y1, x0:x1])
    events = np.zeros(len(x), EVENT_DTYPE)
    events["t"], events["x"], events["y"] = 9_000, x, y
    return events


def as_they_are(events):
    return [tuple(event) for event in events.tolist()]


geometry = st.builds(
    BoxAugmentation,
    sensor_hw=st.just(HW),
    flip=st.booleans(),
    scale=st.floats(0.3, 3),
    dx=st.floats(-25, 25),
    dy=st.floats(-25, 25),
    polarity_flip=st.booleans(),
)


@settings(max_examples=80, deadline=None)
@given(drawn=geometry, seed=st.integers(0, 1000))
def test_binning_before_gives_what_binning_after_does(drawn, seed):
    events = random_events(seed, 300)
    before = events.copy()
    moved = augmented_events(events, drawn, t_end_us=END_US)
    np.testing.assert_array_equal(counted(moved), augmented_frames(counted(events), drawn))
    np.testing.assert_array_equal(events, before)
    assert (np.diff(moved["t"]) >= 0).all()


@settings(max_examples=80, deadline=None)
@given(
    drawn=geometry,
    corner=st.tuples(st.integers(0, 15), st.integers(0, 10)),
    size=st.tuples(st.integers(1, 5), st.integers(1, 4)),
)
def test_events_of_a_box_stay_in_it_and_fill_it(drawn, corner, size):
    x0, y0 = corner
    box = np.array([[x0, y0, x0 + size[0], y0 + size[1]]], np.float32)
    events = augmented_events(drawn_events(box[0].astype(int)), drawn, t_end_us=END_US)
    moved = augmented_boxes(box, drawn)
    # Worked out pixel by pixel: those whose centre lies in the moved box.
    ox, oy = np.arange(HW[1]) + 0.5, np.arange(HW[0]) + 0.5
    fx0, fx1 = (HW[1] - box[0, 2], HW[1] - box[0, 0]) if drawn.flip else (box[0, 0], box[0, 2])
    left, right = fx0 * drawn.scale + drawn.dx, fx1 * drawn.scale + drawn.dx
    upper, lower = box[0, 1] * drawn.scale + drawn.dy, box[0, 3] * drawn.scale + drawn.dy
    least, most = (
        ((ox > left - edge) & (ox < right + edge)).sum() * ((oy > upper - edge) & (oy < lower + edge)).sum()
        for edge in (-1e-6, 1e-6)
    )
    assert least <= len(events) <= most
    if len(events):
        bx0, by0, bx1, by1 = moved.xyxy[0]
        tolerance = 1e-4
        assert (events["x"] + 0.5 > bx0 - tolerance).all()
        assert (events["x"] + 0.5 < bx1 + tolerance).all()
        assert (events["y"] + 0.5 > by0 - tolerance).all()
        assert (events["y"] + 0.5 < by1 + tolerance).all()


def test_a_mirror_and_a_shift_counted_by_hand():
    events = drawn_events([2, 3, 5, 5])
    drawn = BoxAugmentation(HW, flip=True, dx=-14, dy=2)
    moved = augmented_events(events, drawn, t_end_us=END_US)
    # 20 - 5 - 14 = 1 to 20 - 2 - 14 = 4, rows 5 to 7.
    assert {(int(e["x"]), int(e["y"])) for e in moved} == {(x, y) for x in (1, 2, 3) for y in (5, 6)}
    assert augmented_boxes(np.array([[2, 3, 5, 5]], np.float32), drawn).xyxy.tolist() == [[1, 5, 4, 7]]


def test_an_enlarged_pixel_is_a_square_and_a_reduced_one_may_be_lost():
    events = drawn_events([2, 3, 4, 4])
    double = augmented_events(events, BoxAugmentation(HW, scale=2.0), t_end_us=END_US)
    assert [(int(e["x"]), int(e["y"])) for e in double] == [
        *((4, 6), (5, 6), (4, 7), (5, 7)),
        *((6, 6), (7, 6), (6, 7), (7, 7)),
    ]
    # Half as large, pixel o shows pixel 2 o + 1: row 3 and column 3 are seen, column 2 is not.
    half = augmented_events(events, BoxAugmentation(HW, scale=0.5), t_end_us=END_US)
    assert [(int(e["x"]), int(e["y"])) for e in half] == [(1, 1)]


def test_boxes_beyond_the_frame_are_left_out_and_cut_ones_marked():
    boxes = np.array([[0, 0, 10, 4], [12, 0, 16, 4], [0, 10, 4, 14], [15, 0, 19, 4]], np.float32)
    moved = augmented_boxes(boxes, BoxAugmentation(HW, dx=-8, dy=0, least_share=0.3))
    assert moved.kept.tolist() == [0, 1, 3]
    assert moved.xyxy.tolist() == [[0, 0, 2, 4], [4, 0, 8, 4], [7, 0, 11, 4]]
    assert moved.ignore.tolist() == [True, False, False]  # 2 of 10 columns are left
    assert moved.xyxy.dtype == np.float32
    none = augmented_boxes(np.zeros((0, 4), np.float32), BoxAugmentation(HW, flip=True, scale=2.0))
    assert none.xyxy.shape == (0, 4)
    assert len(none.kept) == 0


def test_time_is_stretched_from_the_end_of_the_window():
    events = random_events(1, 4)
    events["t"] = [0, 4_000, 9_990, 9_999]
    slow = augmented_events(events, BoxAugmentation(HW, time_scale=1.5), t_end_us=END_US)
    assert slow["t"].tolist() == [-5_000, 1_000, 9_985, 9_998]
    # No event reaches the end, however much time is shrunk.
    fast = augmented_events(events, BoxAugmentation(HW, time_scale=0.25), t_end_us=END_US)
    assert fast["t"].tolist() == [7_500, 8_500, 9_997, 9_999]


def test_polarities_are_exchanged_in_events_and_in_halves_of_the_channels():
    events = random_events(2, 50)
    swapped = BoxAugmentation(HW, polarity_flip=True)
    np.testing.assert_array_equal(augmented_events(events, swapped, t_end_us=END_US)["p"], ~events["p"])
    frames = np.arange(4)[None, :, None, None] * np.ones((1, 4, *HW), np.uint8)  # channel p * 2 + m
    assert augmented_frames(frames, swapped)[0, :, 0, 0].tolist() == [2, 3, 0, 1]


def test_as_many_events_are_dropped_as_asked():
    events = random_events(3, 20_000)
    drawn = BoxAugmentation(HW, drop=0.3, seed=(1, 2, 3))
    left = augmented_events(events, drawn, t_end_us=END_US)
    assert len(left) == pytest.approx(14_000, abs=300)  # 4.6 standard deviations
    frames = counted(events).astype(np.uint16)
    thinned = augmented_frames(frames, drawn)
    assert thinned.dtype == np.uint16
    assert int(thinned.sum()) == pytest.approx(14_000, abs=300)
    assert (thinned <= frames).all()


def test_the_draw_depends_on_seed_epoch_and_sample_alone():
    chosen = replace(
        AUGMENTED_LIKE_RVT, zoom=1.0, translate_px=5, time_scale=1.5, polarity_flip=0.5, drop=0.3
    )

    def drawn(**changed):
        return draw_augmentation(chosen, sensor_hw=HW, **({"seed": 1, "epoch": 2, "sample": 3} | changed))

    assert drawn() == drawn()
    assert len({drawn(**{name: 9}) for name in ("seed", "epoch", "sample")} | {drawn()}) == 4
    events = random_events(4, 200)
    twice = [augmented_events(events, drawn(), t_end_us=END_US) for _ in range(2)]
    assert as_they_are(twice[0]) == as_they_are(twice[1])
    # One setting does not change what the others draw.
    other = draw_augmentation(replace(chosen, flip=0.0), sensor_hw=HW, seed=1, epoch=2, sample=3)
    assert replace(other, flip=drawn().flip) == drawn()


def test_draws_are_spread_as_asked():
    chosen = BoxAugmentSettings(flip=0.5, zoom=0.8, polarity_flip=0.25, time_scale=2.0, drop=0.4)
    drawn = [draw_augmentation(chosen, sensor_hw=HW, seed=0, epoch=0, sample=i) for i in range(2_000)]
    scales = np.array([one.scale for one in drawn])
    assert np.mean(scales > 1) == pytest.approx(0.64, abs=0.05)
    assert np.mean(scales < 1) == pytest.approx(0.16, abs=0.04)
    assert 1.48 < scales.max() <= 1.5
    assert 1 / 1.2 <= scales.min() < 1 / 1.18
    assert np.mean([one.flip for one in drawn]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([one.polarity_flip for one in drawn]) == pytest.approx(0.25, abs=0.05)
    stretches = np.array([one.time_scale for one in drawn])
    assert np.mean(stretches > 1) == pytest.approx(0.5, abs=0.05)
    assert 0.5 <= stretches.min() < 0.52 < 1.96 < stretches.max() <= 2
    for one in drawn:
        # Enlarged, the frame is full; reduced, all of the recording is seen: first and last edge, x and y.
        first, last = (np.array([one.dx, one.dy]) + one.scale * edge for edge in (0, np.array(HW)[::-1]))
        outwards = 1 if one.scale > 1 else -1
        assert (outwards * first <= 1e-9).all()
        assert (outwards * (last - np.array(HW)[::-1]) >= -1e-9).all()


def test_the_default_changes_nothing():
    drawn = draw_augmentation(BoxAugmentSettings(), sensor_hw=HW, seed=5, epoch=6, sample=7)
    events = random_events(6, 100)
    boxes = np.array([[0, 0, 20, 14], [1.5, 2, 3, 9]], np.float32)
    assert as_they_are(augmented_events(events, drawn, t_end_us=END_US)) == as_they_are(events)
    np.testing.assert_array_equal(augmented_frames(counted(events), drawn), counted(events))
    moved = augmented_boxes(boxes, drawn)
    np.testing.assert_array_equal(moved.xyxy, boxes)
    assert not moved.ignore.any()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"flip": 1.5}, "flip must be from 0 to 1, got 1.5"),
        ({"zoom_in": 0.5}, "zoom_in is a factor of at least 1, got 0.5"),
        ({"time_scale": float("nan")}, "time_scale is a factor of at least 1, got nan"),
        ({"translate_px": -1}, "translate_px must be at least 0 pixels, got -1"),
        ({"drop": 1.0}, "drop is a share from 0 to below 1, got 1.0"),
    ],
)
def test_changes_that_cannot_be_made(wrong, message):
    with pytest.raises(ConfigError, match=message):
        BoxAugmentSettings(**wrong)


def test_what_does_not_fit_the_frame_is_refused():
    drawn = BoxAugmentation(HW)
    with pytest.raises(ConfigError, match=r"events reach x 20, y 0; expected a sensor of \(14, 20\)"):
        augmented_events(drawn_events([20, 0, 21, 1]), drawn, t_end_us=END_US)
    with pytest.raises(ConfigError, match=r"shape \[2, 3, 14, 20\]; expected \[T, C, 14, 20\] with an even"):
        augmented_frames(np.zeros((2, 3, *HW)), drawn)


def test_shuffled_events_are_as_many_at_other_places():
    events = random_events(8, 2_000)
    goes_to = pixel_permutation(HW, seed=1, sample=2)
    shuffled = shuffle_events(events, goes_to, sensor_hw=HW)
    np.testing.assert_array_equal(counted(shuffled), shuffle_frames(counted(events), goes_to))
    for name in ("t", "p"):
        np.testing.assert_array_equal(shuffled[name], events[name])
    # As many pixels with each number of events as before.
    before, after = (np.sort(counted(some).sum(axis=(0, 1)).ravel()) for some in (events, shuffled))
    np.testing.assert_array_equal(before, after)
    # Of two neighbours, hardly any are left side by side.
    side_by_side = np.diff(goes_to.reshape(HW), axis=1)
    assert (side_by_side == 1).mean() < 0.03
    assert (goes_to != pixel_permutation(HW, seed=1, sample=3)).mean() > 0.9
    np.testing.assert_array_equal(goes_to, pixel_permutation(HW, seed=1, sample=2))


def test_a_permutation_of_another_sensor_is_refused():
    goes_to = pixel_permutation((3, 4), seed=0, sample=0)
    with pytest.raises(ConfigError, match=r"a permutation of 12 pixels does not fit a sensor of \(14, 20\)"):
        shuffle_events(random_events(0, 5), goes_to, sensor_hw=HW)
    with pytest.raises(ConfigError, match="does not fit"):
        shuffle_frames(np.zeros((2, 2, *HW)), goes_to)
    with pytest.raises(ConfigError, match=r"events reach x 4, y 0; expected a sensor of \(3, 4\)"):
        shuffle_events(drawn_events([4, 0, 5, 1]), goes_to, sensor_hw=(3, 4))

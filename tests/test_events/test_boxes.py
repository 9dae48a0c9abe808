"""Boxes, and events moved with them, counted by hand."""

import numpy as np
import pytest

from events.augment_events import EventAugmentSettings, augment_events, flip_events, shift_events
from events.boxes import (
    clip_boxes,
    corners_to_xyxy,
    flip_boxes,
    flip_corners,
    moved_corners,
    xywh_to_xyxy,
    xyxy_to_xywh,
)
from events.errors import ConfigError
from events.recording import EVENT_DTYPE

HW = (6, 10)


def events_in(box):
    """One event in every pixel of a box."""
    x0, y0, x1, y1 = (int(side) for side in box)
    y, x = (axis.ravel() for axis in np.mgrid[y0:y1, x0:x1])
    events = np.zeros(len(x), EVENT_DTYPE)
    events["x"], events["y"], events["t"] = x, y, np.arange(len(x))
    return events


def hull(events):
    return [events["x"].min(), events["y"].min(), events["x"].max() + 1, events["y"].max() + 1]


def test_conversions_are_each_others_inverse():
    boxes = np.array([[1.0, 2.0, 3.0, 4.5]])
    assert xywh_to_xyxy(boxes).tolist() == [[1, 2, 4, 6.5]]
    assert xyxy_to_xywh(xywh_to_xyxy(boxes)).tolist() == boxes.tolist()


def test_clipped_boxes_keep_the_edges_that_are_inside():
    boxes = np.array([[-3.0, 1, 4, 9], [20, 20, 25, 25], [2, 2, 10, 6]])
    assert clip_boxes(boxes, sensor_hw=HW).tolist() == [[0, 1, 4, 6], [10, 6, 10, 6], [2, 2, 10, 6]]
    published = clip_boxes(boxes, sensor_hw=HW, rule="published")
    assert published.tolist() == [[0, 1, 7, 5], [9, 5, 9, 5], [2, 2, 9, 5]]
    with pytest.raises(ConfigError, match="rule must be one of edges, published; got 'x'"):
        clip_boxes(boxes, sensor_hw=HW, rule="x")


def test_a_box_is_mirrored_with_the_events_in_it():
    box = [1, 2, 4, 6]
    mirrored = flip_boxes(np.array([box]), width=10)
    assert mirrored.tolist() == [[6, 2, 9, 6]]
    assert hull(flip_events(events_in(box), width=10)) == mirrored[0].tolist()
    corners = np.array([[1, 2], [3, 2], [3, 5], [1, 5]])
    assert corners_to_xyxy(corners).tolist() == box
    assert corners_to_xyxy(flip_corners(corners, width=10)).tolist() == mirrored[0].tolist()
    assert corners.tolist() == [[1, 2], [3, 2], [3, 5], [1, 5]]


def test_shifted_events_leave_the_sensor():
    events = events_in([0, 0, 2, 2])
    moved = shift_events(events, dx=-1, dy=5, sensor_hw=HW)
    assert moved[["t", "x", "y"]].tolist() == [(1, 0, 5)]
    assert hull(events) == [0, 0, 2, 2]


def test_an_object_moves_along_a_triangle_and_stays_on_the_sensor():
    corners = np.array([[1, 2], [236, 2], [236, 9], [1, 9]])
    times_us = np.array([0, 50_000, 100_000, 200_000, 300_000, 900_000])
    moved = moved_corners(corners, times_us, sensor_hw=(180, 240))
    assert moved[:, 0].tolist() == [[1, 2], [2.75, 5.5], [4.5, 9], [8, 2], [1, 2], [1, 2]]
    assert moved[:, 1, 0].tolist() == [236, 237.75, 239, 239, 236, 236]


@pytest.mark.parametrize("box", [[1, 2, 4, 6], [0, 0, 10, 6], [9, 5, 10, 6]])
def test_boxes_stay_on_the_sensor_and_on_their_events(box):
    chosen = EventAugmentSettings(flip=0.5, shift_px=4)
    seen = set()
    for sample in range(60):
        events, boxes = augment_events(
            events_in(box), np.array([box]), sensor_hw=HW, settings=chosen, seed=3, epoch=0, sample=sample
        )
        assert hull(events) == boxes[0].tolist()
        seen.add(tuple(boxes[0].tolist()))
    assert (len(seen) == 1) == (box == [0, 0, 10, 6])


def test_the_draw_depends_on_seed_epoch_and_sample_alone():
    def drawn(**changed):
        given = {"seed": 1, "epoch": 2, "sample": 3} | changed
        return augment_events(
            events_in([50, 50, 51, 51]),
            np.zeros((0, 4)),
            sensor_hw=(100, 100),
            settings=EventAugmentSettings(shift_px=40),
            **given,
        )[0].tolist()

    assert drawn() == drawn()
    assert len({str(drawn(**{name: 9})) for name in ("seed", "epoch", "sample")} | {str(drawn())}) == 4
    unchanged = augment_events(
        events_in([50, 50, 51, 51]),
        np.zeros((0, 4)),
        sensor_hw=(100, 100),
        settings=EventAugmentSettings(),
        seed=0,
        epoch=0,
        sample=0,
    )
    assert unchanged[0].tolist() == events_in([50, 50, 51, 51]).tolist()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"flip": 1.5}, "flip is a probability"), ({"shift_px": -1}, "shift_px must be at least 0 pixels")],
)
def test_settings_that_cannot_be_used(wrong, message):
    with pytest.raises(ConfigError, match=message):
        EventAugmentSettings(**wrong)

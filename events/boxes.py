"""Boxes in NumPy: their corners, clipping, mirroring, and how N-Caltech101's boxes move.

A box is x0, y0, x1, y1 in pixels from the top left; it covers the pixels x0 <= x < x1 and y0 <= y < y1.
`corners` are points on pixels, as N-Caltech101's annotations have them: x, y from the top left, clockwise.
"""

from typing import Literal

import numpy as np

from events.errors import ConfigError

ClipRule = Literal["edges", "published"]

# Shift of an object in N-Caltech101 at the beginning and end of each saccade of 100 ms, x and y in pixels:
# three lines of a triangle. Source: Orchard et al., "Converting static image datasets to spiking neuromorphic
# datasets using saccades", Frontiers in Neuroscience 2015; numbers of LT-SNN's released event readers.
SACCADE_US = 100_000
SACCADE_PX = np.array([[0.0, 0.0], [3.5, 7.0], [7.0, 0.0], [0.0, 0.0]])


def xywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """Return x0, y0, x1, y1 of boxes given by top left corner, width and height; shape [N, 4]."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def xyxy_to_xywh(boxes: np.ndarray) -> np.ndarray:
    """Return top left corner, width and height of boxes x0, y0, x1, y1; shape [N, 4]."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def clip_boxes(boxes: np.ndarray, *, sensor_hw: tuple[int, int], rule: ClipRule = "edges") -> np.ndarray:
    """Cut boxes x0, y0, x1, y1 down to the sensor; those outside become empty, none is left out.

    Args:
        boxes: Shape [N, 4], pixels.
        sensor_hw: Height and width of the sensor in pixels.
        rule: `edges`: every coordinate is moved to 0 to W or 0 to H. `published`, LT-SNN's detector: the
            top left corner is moved to 0 to W - 1 and 0 to H - 1 and the width and height, not otherwise
            changed, are held within the last pixel. So a box that begins outside keeps its size and ends
            further to the right than it did, and the last row and column belong to no box.
    """
    height, width = sensor_hw
    if rule == "edges":
        return np.clip(boxes, 0, np.array([width, height, width, height]))
    if rule != "published":
        raise ConfigError(f"rule must be one of edges, published; got {rule!r}")
    last = np.array([width - 1, height - 1])
    corner = np.clip(boxes[:, :2], 0, last)
    size = np.minimum(boxes[:, 2:] - boxes[:, :2], last - corner)
    return np.concatenate([corner, corner + size], axis=1)


def flip_boxes(boxes: np.ndarray, *, width: int) -> np.ndarray:
    """Mirror boxes x0, y0, x1, y1 left and right, as `flip_events` does pixels; shape [N, 4]."""
    x0, y0, x1, y1 = boxes.T
    return np.stack([width - x1, y0, width - x0, y1], axis=1)


def flip_corners(corners: np.ndarray, *, width: int) -> np.ndarray:
    """Mirror corners left and right, shape [4, 2], and put them in order again: top left, then clockwise."""
    flipped = corners[[1, 0, 3, 2]]
    flipped[:, 0] = width - 1 - flipped[:, 0]
    return flipped


def corners_to_xyxy(corners: np.ndarray) -> np.ndarray:
    """Return x0, y0, x1, y1 of the smallest boxes over corners on pixels; [..., 4, 2] gives [..., 4]."""
    return np.concatenate([corners.min(axis=-2), corners.max(axis=-2) + 1], axis=-1)


def moved_corners(corners: np.ndarray, times_us: np.ndarray, *, sensor_hw: tuple[int, int]) -> np.ndarray:
    """Return where the corners of an N-Caltech101 object are, as the sensor moves in three saccades.

    The annotation says where the object is at the beginning. It moves along the three lines of
    `SACCADE_PX`, each in `SACCADE_US`, and is back for all times after. Corners are held on the sensor.

    Args:
        corners: Corners at the beginning, shape [4, 2], x and y in pixels.
        times_us: Microseconds since the beginning of the recording, none below 0, shape [N].
        sensor_hw: Height and width of the sensor in pixels.

    Returns:
        Corners, float64, shape [N, 4, 2].
    """
    ends_us = np.arange(len(SACCADE_PX)) * SACCADE_US
    shift = np.stack([np.interp(times_us, ends_us, SACCADE_PX[:, axis]) for axis in (0, 1)], axis=1)
    height, width = sensor_hw
    return np.clip(corners + shift[:, None], 0, np.array([width - 1, height - 1]))

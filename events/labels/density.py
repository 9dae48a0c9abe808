"""How many events a box holds in the time before its label, counted in one pass over the recording.

A parked car before an event camera that does not move sends no event: no detector can find it.
"""

from collections.abc import Iterable

import numpy as np

from events.errors import ConfigError
from events.labels.table import LabelTable


def count_box_events(
    chunks: Iterable[np.ndarray],
    labels: LabelTable,
    *,
    sensor_hw: tuple[int, int],
    window_us: int = 100_000,
) -> np.ndarray:
    """Return how many events each box holds in [t - window_us, t).

    A pixel belongs to a box where x0 <= x < x1 and y0 <= y < y1.

    Args:
        chunks: Events in file order, EVENT_DTYPE, as `Recording.chunks` yields them; the clock may step back.
        labels: The boxes.
        sensor_hw: Height and width of the recording in pixels.
        window_us: How long before a label events count, above 0.

    Returns:
        int64, shape [M].
    """
    if window_us <= 0:
        raise ConfigError(f"window_us must be above 0, got {window_us}")
    counts = np.zeros(len(labels), np.int64)
    edges = _pixel_edges(labels.xyxy, sensor_hw)
    for chunk in chunks:
        t = chunk["t"]
        if len(t) == 0 or len(labels) == 0:
            continue
        pixel = chunk["y"].astype(np.int64) * sensor_hw[1] + chunk["x"]
        if (np.diff(t) < 0).any():
            order = np.argsort(t, kind="stable")
            t, pixel = t[order], pixel[order]
        # Frames whose window the chunk touches.
        first = np.searchsorted(labels.frame_t, int(t[0]), side="right")
        last = np.searchsorted(labels.frame_t, int(t[-1]) + window_us, side="right")
        for frame in range(first, last):
            stop_us = int(labels.frame_t[frame])
            start, stop = np.searchsorted(t, [stop_us - window_us, stop_us])
            rows = slice(*labels.frame_ptr[frame : frame + 2])
            counts[rows] += _inside(pixel[start:stop], edges[rows], sensor_hw)
    return counts


def _pixel_edges(xyxy: np.ndarray, sensor_hw: tuple[int, int]) -> np.ndarray:
    """Return the first and the first no longer covered pixel of boxes, held on the sensor: int64, [M, 4]."""
    height, width = sensor_hw
    return np.ceil(np.clip(xyxy.astype(np.float64), 0, [width, height, width, height])).astype(np.int64)


def _inside(pixel: np.ndarray, edges: np.ndarray, sensor_hw: tuple[int, int]) -> np.ndarray:
    """Return the events in each box, int64 [n], through sums over all pixels left of and above a point."""
    height, width = sensor_hw
    sums = np.zeros((height + 1, width + 1), np.int64)
    np.bincount(pixel, minlength=height * width).reshape(height, width).cumsum(axis=0, out=sums[1:, 1:])
    sums[1:, 1:].cumsum(axis=1, out=sums[1:, 1:])
    x0, y0, x1, y1 = edges.T
    return np.asarray(sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0])

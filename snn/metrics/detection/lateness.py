"""What a detector would score if its boxes stood for another time: mean average precision over a shift of it.

Labels are only at times of their own, and what is found is held against the nearest of them, whatever the
difference. So it is the true boxes that are moved, along their tracks, to where they are at the shifted time.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from snn.errors import DetectionError
from snn.metrics.detection.columns import BoxColumns, moments_of
from snn.metrics.detection.evaluate import evaluate_detections
from snn.metrics.detection.protocols import Protocol

SHIFTS_US = (-50_000, -20_000, -10_000, 0, 10_000, 20_000, 50_000)


def boxes_at(truth: BoxColumns, tracks: np.ndarray, shift_us: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where true boxes are some time later, by a straight line between the labels of their track.

    Args:
        truth: True boxes.
        tracks: Track of each in its recording, int64, shape [M]; negative where it has none.
        shift_us: Microseconds after their time; negative for before.

    Returns:
        x0, y0, x1, y1 in pixels, float64, shape [M, 4], and where their track has labels on both sides of
        that time, bool, shape [M]; elsewhere boxes stay where they are.
    """
    xyxy, known = truth.xyxy.astype(np.float64), np.zeros(len(truth), np.bool_)
    order = np.lexsort((truth.t, tracks, truth.class_id, truth.recording))
    key = np.stack([truth.recording, truth.class_id, tracks], axis=1)[order]
    begins = np.flatnonzero((np.diff(key, axis=0, prepend=key[:1] - 1) != 0).any(axis=1))
    for rows in np.split(order, begins)[1:]:
        if tracks[rows[0]] < 0:
            continue
        t, at = truth.t[rows], truth.t[rows] + shift_us
        inside = (at >= t[0]) & (at <= t[-1])
        known[rows] = inside
        for corner in range(4):
            moved = np.interp(at, t, truth.xyxy[rows, corner].astype(np.float64))
            xyxy[rows[inside], corner] = moved[inside]
    return xyxy, known


def score_by_shift(
    truth: BoxColumns,
    tracks: np.ndarray,
    detections: BoxColumns,
    protocol: str | Protocol,
    *,
    shifts_us: Sequence[int] = SHIFTS_US,
    **evaluation: Any,
) -> dict[int, float]:
    """Return the mean average precision of detections held against where objects are some time later.

    A detector whose boxes are those of the end of what it saw scores highest at 0; one that lags behind, at a
    shift below 0. Label times with a box whose track does not reach over all shifts are left out at every
    one, so that all are of the same boxes.

    Args:
        truth, detections, protocol: As of `evaluate.evaluate_detections`.
        tracks: As of `boxes_at`.
        shifts_us: How much later, microseconds.
        evaluation: Other arguments of `evaluate.evaluate_detections`.

    Returns:
        By shift; empty where no label time is left with a box.

    Raises:
        DetectionError: As `evaluate.evaluate_detections`.
    """
    tracks = np.asarray(tracks)
    if tracks.shape != truth.t.shape:
        raise DetectionError(f"tracks: found shape {list(tracks.shape)}, expected [{len(truth)}]")
    places = {int(shift): boxes_at(truth, tracks, int(shift)) for shift in shifts_us}
    unknown = ~np.all([known for _, known in places.values()], axis=0) & ~truth.ignore
    moments, moment = moments_of(truth.recording, truth.t)
    rows = np.bincount(moment, unknown, len(moments.t))[moment] == 0
    if truth.ignore[rows].all():
        return {}
    return {
        shift: evaluate_detections(
            replace(truth, xyxy=xyxy).take(rows), detections, protocol, **evaluation
        ).mean_ap
        for shift, (xyxy, _) in places.items()
    }

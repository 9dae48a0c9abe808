"""Whether scores mean what they say: of detections with a score of 0.8, 80 % should be right."""

from typing import Any, NamedTuple

import numpy as np

from snn.errors import DetectionError
from snn.metrics.detection.coco import FrameBoxes, without_ignored
from snn.metrics.detection.columns import BoxColumns, moments_of, overlaps, rows_by
from snn.metrics.detection.filters import filter_boxes
from snn.metrics.detection.matching import ByTime, Results, match_times
from snn.metrics.detection.protocols import TOLERANCE_US, Match, Protocol, protocol_named

BINS = 10


class Calibration(NamedTuple):
    """Detections by score, in bins of equal width: ((b - 1) / bins, b / bins], 0 in the first.

    Attributes:
        detections: How many, int64, shape [bins].
        mean_score: Their mean score, float64, shape [bins]; NaN in an empty bin.
        right: Share of them that are right, float64, shape [bins]; NaN in an empty bin.
        error: Expected calibration error, mean over detections of |right - mean_score| of their bin; NaN
            without detections.
    """

    detections: np.ndarray
    mean_score: np.ndarray
    right: np.ndarray
    error: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain lists and numbers; None for NaN."""
        shares = {
            name: [None if np.isnan(share) else float(share) for share in getattr(self, name)]
            for name in ("mean_score", "right")
        }
        error = None if np.isnan(self.error) else self.error
        return {"detections": self.detections.tolist()} | shares | {"error": error}


def calibration(
    truth: BoxColumns,
    detections: BoxColumns,
    protocol: str | Protocol,
    *,
    sensor_hw: tuple[int, int],
    match: Match = "nearest",
    tolerance_us: int = TOLERANCE_US,
    results: Results | None = None,
    bins: int = BINS,
) -> Calibration:
    """Return how often detections of each score are right, under a protocol.

    A detection is right where it overlaps, by 0.5, a true box of its class in its frame that no surer one
    took: from the highest score down, each takes the free box it overlaps most. Detections of boxes to ignore
    count nowhere. What a detector never hands out, below its least score, is not known.

    Source: Guo et al., "On calibration of modern neural networks", ICML 2017, section 2; of detections, by
    score alone: Kueppers et al., "Multivariate confidence calibration for object detection", CVPRW 2020.

    Args:
        truth, detections, sensor_hw, match, tolerance_us, results: As of `evaluate.evaluate_detections`.
        protocol: Which boxes count.
        bins: Number of bins, at least 1.

    Raises:
        DetectionError: A score is not from 0 to 1.
    """
    protocol = protocol_named(protocol)
    wrong = (detections.score < 0) | (detections.score > 1)
    if wrong.any():
        row = int(wrong.argmax())
        raise DetectionError(f"score, row {row}: found {detections.score[row]}, expected 0 to 1")
    kept, _, _ = filter_boxes(truth, protocol, sensor_hw=sensor_hw, truth=True)
    found, _, _ = filter_boxes(detections, protocol, sensor_hw=sensor_hw, truth=False)
    source = truth if protocol.keep_emptied else kept
    frames, _ = moments_of(source.recording, source.t)
    both = np.concatenate([frames.recording, kept.recording]), np.concatenate([frames.t, kept.t])
    there = FrameBoxes(moments_of(*both)[1][len(frames.t) :], kept)
    pairs = match_times(frames, ByTime(found, results), match=match, tolerance_us=tolerance_us)
    there, held = without_ignored(there, FrameBoxes(pairs.frame, found.take(pairs.row)))
    right, score = which_are_right(there, held), held.boxes.score.astype(np.float64)
    place = (np.ceil(score * bins).astype(np.int64) - 1).clip(0, bins - 1)
    count = np.bincount(place, minlength=bins)
    nothing = np.full(bins, np.nan)
    mean_score, share = (
        np.divide(np.bincount(place, values, bins), count, out=nothing.copy(), where=count > 0)
        for values in (score, right)
    )
    error = float(np.nansum(np.abs(share - mean_score) * count) / count.sum()) if len(score) else float("nan")
    return Calibration(count, mean_score, share, error)


def which_are_right(truth: FrameBoxes, found: FrameBoxes, *, overlap: float = 0.5) -> np.ndarray:
    """Return which detections are right, bool, shape [M]; see `calibration`."""
    classes = 1 + int(max(truth.boxes.class_id.max(initial=0), found.boxes.class_id.max(initial=0)))
    true_rows, found_rows = (rows_by(part.frame * classes + part.boxes.class_id) for part in (truth, found))
    right = np.zeros(len(found.frame), np.bool_)
    for key, rows in found_rows.items():
        if key not in true_rows:
            continue
        rows = rows[np.argsort(-found.boxes.score[rows], kind="stable")]
        shared = overlaps(found.boxes.xyxy[rows], truth.boxes.xyxy[true_rows[key]])
        for row, of_row in zip(rows, shared, strict=True):
            best = int(of_row.argmax())
            if of_row[best] >= overlap:
                right[row] = True
                shared[:, best] = -1
    return right

"""Average precision as COCO has it, computed by hotcoco (agreement with pycocotools: the tests).

Everything here is about frames: the labels of one moment and the detections held against them.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from snn.metrics.detection.columns import BoxColumns, overlaps, rows_by, shared_area

# Thresholds of overlap and recall, areas in pixels, detections counted in a frame and class.
# Source: pycocotools, cocoeval.Params.setDetParams.
OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
MOST_DETECTIONS = 100


class FrameBoxes(NamedTuple):
    """Boxes of frames, in the order given among those of a frame.

    Attributes:
        frame: Position of the frame, int64, shape [M].
        boxes: The boxes, M of them.
    """

    frame: np.ndarray
    boxes: BoxColumns


@dataclass(frozen=True)
class Curves:
    """What detections reach, by overlap, recall and class; NaN where there is no truth.

    Attributes:
        precision: Best precision at a recall or above, float64, shape [10, 101, K, areas].
        recall: Largest recall, float64, shape [10, K, areas].
        score: Score of the detection at which a recall is reached, float64, shape [10, 101, K, areas]; 0
            where it is never reached.
    """

    precision: np.ndarray
    recall: np.ndarray
    score: np.ndarray

    def average_precision(self, *, overlap: float | None = None, area: int = 0) -> np.ndarray:
        """Return the average precision of each class, shape [K]; over all overlaps, or at one of them."""
        chosen = slice(None) if overlap is None else np.isclose(OVERLAPS, overlap)
        return self.precision[chosen, :, :, area].mean(axis=(0, 1))


def mean_of_known(values: np.ndarray) -> float:
    """Return the mean of what is not NaN; NaN where nothing is left."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def coco_curves(
    truth: FrameBoxes,
    found: FrameBoxes,
    *,
    frames: int,
    classes: int,
    areas: tuple[tuple[float, float], ...] = AREAS,
    band: np.ndarray | None = None,
) -> Curves:
    """Match detections with the truth, frame by frame, and return the curves of precision over recall.

    True boxes to ignore are COCO's crowds: a detection that lies in one counts neither as right nor as
    wrong, however many there are.

    Args:
        truth: True boxes.
        found: Detections.
        frames: Number of frames, also those without boxes.
        classes: Number of classes K.
        areas: Ranges of box areas in px², a curve for each; both limits belong to the range.
        band: Whether a true box is in the band looked at, bool, shape [M]; takes the place of `areas`. A
            detection of a box outside the band is neither right nor wrong; one of no box is wrong.
    """
    evaluator = _evaluator(truth, found, frames=frames, classes=classes, band=band)
    params = evaluator.params
    params.area_rng = [[1.0, 1.0]] if band is not None else [list(area) for area in areas]
    params.area_rng_lbl = [str(n) for n in range(len(params.area_rng))]
    params.max_dets = [MOST_DETECTIONS]
    evaluator.evaluate()
    evaluator.accumulate()
    result = evaluator.eval
    precision, recall, score = (
        np.where(result[name] < 0, np.nan, result[name])[..., 0] for name in ("precision", "recall", "scores")
    )
    return Curves(precision, recall, score)


def confusion(
    truth: FrameBoxes,
    found: FrameBoxes,
    *,
    frames: int,
    classes: int,
    least_score: float,
    overlap: float = 0.5,
) -> np.ndarray:
    """Return how often a class was taken for another, int64, shape [K + 1, K + 1].

    Rows are the truth, columns the detections; the last row counts detections of nothing, the last column
    boxes that were missed. Detections are matched from the highest score down, whatever their class. Boxes
    to ignore, and detections half inside one, are left out.
    """
    sure = found.boxes.score >= least_score
    found = FrameBoxes(found.frame[sure], found.boxes.take(sure))
    truth, found = without_ignored(truth, found)
    evaluator = _evaluator(truth, found, frames=frames, classes=classes)
    matrix = evaluator.confusion_matrix(iou_thr=overlap, max_det=MOST_DETECTIONS)["matrix"]
    return np.asarray(matrix).astype(np.int64)


def without_ignored(truth: FrameBoxes, found: FrameBoxes) -> tuple[FrameBoxes, FrameBoxes]:
    """Leave out true boxes to ignore, and detections of them.

    A detection is of one where at least half of its area lies in it, and no box that counts overlaps it by
    0.5 or more.
    """
    ignored = truth.boxes.ignore
    if not ignored.any():
        return truth, found
    counting = FrameBoxes(truth.frame[~ignored], truth.boxes.take(~ignored))
    left_out = np.zeros(len(found.frame), np.bool_)
    rows_of, counting_of = rows_by(found.frame), rows_by(counting.frame)
    none = np.zeros(0, np.int64)
    for frame, region in zip(truth.frame[ignored].tolist(), truth.boxes.xyxy[ignored], strict=True):
        rows = rows_of.get(frame, none)
        others = counting.boxes.xyxy[counting_of.get(frame, none)]
        inside = shared_area(found.boxes.xyxy[rows], region[None])[:, 0]
        free = ~(overlaps(found.boxes.xyxy[rows], others) >= 0.5).any(axis=1)
        left_out[rows] |= free & (inside >= 0.5 * found.boxes.sides()[rows].prod(axis=1))
    return counting, FrameBoxes(found.frame[~left_out], found.boxes.take(~left_out))


def _evaluator(
    truth: FrameBoxes, found: FrameBoxes, *, frames: int, classes: int, band: np.ndarray | None = None
) -> Any:
    """Return hotcoco's evaluator; frames and classes have numbers from 1 there."""
    from hotcoco import COCO, COCOeval

    images = [{"id": number} for number in range(1, frames + 1)]
    categories = [{"id": number, "name": str(number)} for number in range(1, classes + 1)]
    there = COCO.from_arrays(
        images,
        categories,
        truth.frame + 1,
        truth.boxes.class_id + 1,
        _xywh(truth.boxes),
        area=truth.boxes.sides().prod(axis=1) if band is None else band.astype(np.float64),
        iscrowd=truth.boxes.ignore,
    )
    columns = [found.frame + 1, *_xywh(found.boxes).T, found.boxes.score, found.boxes.class_id + 1]
    detected = there.load_res(np.stack([np.asarray(column, np.float64) for column in columns], axis=1))
    if band is not None:
        detected.update_anns(ids=np.arange(1, len(found.frame) + 1), area=np.ones(len(found.frame)))
    return COCOeval(there, detected, "bbox")


def _xywh(boxes: BoxColumns) -> np.ndarray:
    return np.concatenate([boxes.xyxy[:, :2].astype(np.float64), boxes.sides()], axis=1)

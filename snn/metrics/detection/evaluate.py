"""Score detections under a published protocol.

The filters, the times that detections are held against and the streaming rule are here; average precision
is hotcoco's (`coco.py`) or VOC's (`snn.metrics.voc`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from snn.errors import DetectionError
from snn.metrics.detection.alarms import false_alarms
from snn.metrics.detection.bands import DENSITY_BANDS, SPEED_BANDS, Band, BandScores, band_scores
from snn.metrics.detection.coco import (
    OVERLAPS,
    RECALLS,
    Curves,
    FrameBoxes,
    coco_curves,
    confusion,
    mean_of_known,
    without_ignored,
)
from snn.metrics.detection.columns import BoxColumns, Moments, moments_of
from snn.metrics.detection.filters import filter_boxes
from snn.metrics.detection.matching import ByTime, Pairs, Results, match_ready, match_times
from snn.metrics.detection.protocols import TOLERANCE_US, Match, Protocol, protocol_named
from snn.metrics.detection.scores import ClassScores, DetectionScores, PrecisionRecall, StreamingScores
from snn.metrics.voc import ImageBoxes, average_precision

# pycocotools adds 2e-16 below its fractions, so that a perfect score is this close to 1, not 1.
PERFECT = 1 - 1e-9


@dataclass(frozen=True, eq=False)
class _ByClass:
    """Average precision of each class under either engine, shape [K], and the curves of COCO's."""

    ap: np.ndarray
    ap50: np.ndarray
    ap75: np.ndarray
    recall: np.ndarray
    areas: tuple[float, float, float]
    curves: Curves | None


def evaluate_detections(
    truth: BoxColumns,
    detections: BoxColumns,
    protocol: str | Protocol = "rvt",
    *,
    class_names: Sequence[str],
    sensor_hw: tuple[int, int],
    match: Match = "nearest",
    tolerance_us: int = TOLERANCE_US,
    results: Results | None = None,
    coverage: np.ndarray | None = None,
    operating_score: float = 0.5,
    speed_px_s: np.ndarray | None = None,
    events_in_box: np.ndarray | None = None,
) -> DetectionScores:
    """Return the scores of detections under a protocol; raises DetectionError where they would mean nothing.

    Before anything else the truth is held against itself: under rules that do not give it 1 (Prophesee's
    window at labels above 10 Hz, more than 100 boxes of a class in a frame) a detector's score says more
    about the rules than about the detector, and there is none.

    Args:
        truth: All true boxes, not filtered; those of `ignore` make detections neither right nor wrong.
        detections: All detections, not filtered.
        protocol: A name from PROTOCOLS, or a protocol.
        class_names: Names of the K classes. Of 1 megapixel recordings, published work scores the first
            three alone: give `replace(protocol, classes=3)`.
        sensor_hw: Height and width of the sensor in pixels.
        match: How detections are held against label times: `nearest`, or `window` as published.
        tolerance_us: How far apart the two may be.
        results: All times the detector looked, also where it found nothing, and when its answers were
            there. Without it, the times of detections are taken for all; without its `ready_us`, there is
            no streaming score.
        coverage: Recording, start and stop of spans in which no box means no object, int64, shape [K, 3];
            without it, false positives are not counted by the minute.
        operating_score: Least score of the detections counted in `confusion` and as false positives.
        speed_px_s: Speed of each true box (`bands.box_speed`), shape [M]; without it, no scores by speed.
        events_in_box: Events in each true box in the time before its label, shape [M]; without it, no
            scores by density.
    """
    protocol = protocol_named(protocol)
    classes = len(class_names)
    _check(truth, detections, classes, {"speed_px_s": speed_px_s, "events_in_box": events_in_box})
    kept, rows, truth_counts = filter_boxes(truth, protocol, sensor_hw=sensor_hw, truth=True)
    if kept.ignore.all():
        raise DetectionError(
            f"truth: found no box to score under {protocol.name!r} ({truth_counts.text()}), expected one or "
            "more; choose another protocol, or check sensor_hw"
        )
    found, _, detection_counts = filter_boxes(detections, protocol, sensor_hw=sensor_hw, truth=False)
    source = truth if protocol.keep_emptied else kept
    frames, _ = moments_of(source.recording, source.t)
    there = FrameBoxes(_frame_of(frames, kept), kept)
    score = _scorer(protocol, len(frames.t), classes)
    checked = _self_check(kept, there, frames, match, tolerance_us, score, protocol)

    by_time = ByTime(found, results)
    pairs = match_times(frames, by_time, match=match, tolerance_us=tolerance_us)
    held = _held(found, pairs)
    by_class = score(there, held)

    def bands(values: np.ndarray | None, edges: tuple[Band, ...]) -> dict[str, BandScores]:
        if values is None:
            return {}
        return band_scores(there, held, values, edges, frames=len(frames.t), classes=classes)

    speeds = None if speed_px_s is None else np.asarray(speed_px_s)[rows]
    density = None if events_in_box is None else np.asarray(events_in_box)[rows] / kept.sides().prod(axis=1)
    alarms = (
        (None, None)
        if coverage is None
        else false_alarms(truth, found, coverage=coverage, least_score=operating_score)
    )
    return DetectionScores(
        protocol=protocol.name,
        match=match,
        tolerance_us=tolerance_us,
        limits_px=protocol.limits(sensor_hw),
        mean_ap=mean_of_known(by_class.ap),
        ap50=mean_of_known(by_class.ap50),
        ap75=mean_of_known(by_class.ap75),
        ap_small=by_class.areas[0],
        ap_medium=by_class.areas[1],
        ap_large=by_class.areas[2],
        recall=mean_of_known(by_class.recall),
        classes=_class_scores(class_names, by_class, kept, held.boxes),
        frames=len(frames.t),
        frames_unmatched=len(frames.t) - len(np.unique(pairs.frame)),
        truth_counts=truth_counts,
        detection_counts=detection_counts,
        detections_unmatched=len(found) - len(np.unique(pairs.row)),
        self_check=checked,
        operating_score=operating_score,
        confusion=confusion(there, held, frames=len(frames.t), classes=classes, least_score=operating_score),
        curves=_precision_recall(by_class.curves),
        by_speed=bands(speeds, SPEED_BANDS),
        by_density=bands(density, DENSITY_BANDS),
        false_positives=alarms[0],
        covered_minutes=alarms[1],
        streaming=_streaming(frames, there, found, by_time, results, score),
    )


_Scorer = Callable[[FrameBoxes, FrameBoxes], _ByClass]


def _check(
    truth: BoxColumns, detections: BoxColumns, classes: int, columns: dict[str, np.ndarray | None]
) -> None:
    """Raise DetectionError where a class has no name, or a column another length than the truth."""
    for name, boxes in (("truth", truth), ("detections", detections)):
        largest = int(boxes.class_id.max(initial=-1))
        if largest >= classes:
            raise DetectionError(
                f"{name}: found class {largest}, expected below {classes}, the number of class_names"
            )
    for name, column in columns.items():
        if column is not None and len(column) != len(truth):
            raise DetectionError(
                f"{name}: found {len(column)} values, expected one for each of {len(truth)} true boxes"
            )


def _frame_of(frames: Moments, boxes: BoxColumns) -> np.ndarray:
    """Return the position of each box's time among frames that have it; int64 [M]."""
    both = np.concatenate([frames.recording, boxes.recording]), np.concatenate([frames.t, boxes.t])
    return moments_of(*both)[1][len(frames.t) :]


def _held(found: BoxColumns, pairs: Pairs) -> FrameBoxes:
    return FrameBoxes(pairs.frame, found.take(pairs.row))


def _scorer(protocol: Protocol, frames: int, classes: int) -> _Scorer:
    """Return what scores the boxes of frames under a protocol's engine."""

    def coco(truth: FrameBoxes, found: FrameBoxes) -> _ByClass:
        curves = coco_curves(truth, found, frames=frames, classes=classes)
        ap50, ap75 = (curves.average_precision(overlap=overlap) for overlap in (0.5, 0.75))
        small, medium, large = (mean_of_known(curves.average_precision(area=n)) for n in (1, 2, 3))
        recall = curves.recall[:, :, 0].mean(axis=0)
        return _ByClass(curves.average_precision(), ap50, ap75, recall, (small, medium, large), curves)

    def voc(truth: FrameBoxes, found: FrameBoxes) -> _ByClass:
        truth, found = without_ignored(truth, found)
        result = average_precision(
            _images(found, frames), _images(truth, frames), classes=classes, area="inclusive"
        )
        unknown = np.full(classes, np.nan)
        recall = np.divide(result.right, result.boxes, out=unknown.copy(), where=result.boxes > 0)
        nan = float("nan")
        ap50 = result.average_precision
        return _ByClass(ap50, ap50, unknown, recall, (nan, nan, nan), curves=None)

    return coco if protocol.engine == "coco" else voc


def _images(boxes: FrameBoxes, frames: int) -> list[ImageBoxes]:
    order = np.argsort(boxes.frame, kind="stable")
    ends = np.cumsum(np.bincount(boxes.frame, minlength=frames))[:-1]
    return [
        ImageBoxes(boxes.boxes.xyxy[rows], boxes.boxes.class_id[rows], boxes.boxes.score[rows])
        for rows in np.split(order, ends)
    ]


def _self_check(
    kept: BoxColumns,
    there: FrameBoxes,
    frames: Moments,
    match: Match,
    tolerance_us: int,
    score: _Scorer,
    protocol: Protocol,
) -> float:
    """Return the score of the truth held against itself; raises DetectionError unless it is 1."""
    copy = replace(kept.take(~kept.ignore), score=np.ones(int((~kept.ignore).sum())))
    held = _held(copy, match_times(frames, ByTime(copy), match=match, tolerance_us=tolerance_us))
    checked = mean_of_known(score(there, held).ap)
    if checked < PERFECT:
        advice = (
            "labels nearer to each other than the tolerance: use match='nearest'"
            if match == "window"
            else "more than 100 boxes of a class at one time, or a box twice?"
        )
        raise DetectionError(
            f"truth against itself: found a mean average precision of {checked:.4f} under {protocol.name!r} "
            f"with match={match!r}, expected 1; {advice}"
        )
    return checked


def _class_scores(
    names: Sequence[str], by_class: _ByClass, kept: BoxColumns, held: BoxColumns
) -> tuple[ClassScores, ...]:
    boxes = np.bincount(kept.class_id[~kept.ignore], minlength=len(names))
    detections = np.bincount(held.class_id, minlength=len(names))
    return tuple(
        ClassScores(
            name,
            ap=float(by_class.ap[k]),
            ap50=float(by_class.ap50[k]),
            ap75=float(by_class.ap75[k]),
            recall=float(by_class.recall[k]),
            boxes=int(boxes[k]),
            detections=int(detections[k]),
        )
        for k, name in enumerate(names)
    )


def _precision_recall(curves: Curves | None) -> PrecisionRecall | None:
    if curves is None:
        return None
    at50, at75 = (int(np.argmin(np.abs(OVERLAPS - overlap))) for overlap in (0.5, 0.75))
    precision, score = curves.precision[..., 0], curves.score[..., 0]
    return PrecisionRecall(RECALLS, precision[at50].T, precision[at75].T, score[at50].T)


def _streaming(
    frames: Moments,
    there: FrameBoxes,
    found: BoxColumns,
    by_time: ByTime,
    results: Results | None,
    score: _Scorer,
) -> StreamingScores | None:
    if results is None or results.ready_us is None:
        return None
    pairs, unanswered = match_ready(frames, by_time, results)
    by_class = score(there, _held(found, pairs))
    delay_us = np.asarray(results.ready_us, np.int64) - np.asarray(results.t, np.int64)
    late = float(delay_us.mean()) if len(delay_us) else float("nan")
    return StreamingScores(mean_of_known(by_class.ap), mean_of_known(by_class.ap50), late, unanswered)

"""Leave out the boxes that a protocol does not count, and say how many fell to which rule."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np

from snn.metrics.detection.columns import BoxColumns, moments_of
from snn.metrics.detection.protocols import Protocol

# RVT's labels of Gen1 are 250 ms apart, those of others about 100 ms; 2 ms of jitter are allowed, and the
# first is at or after 100 ms. Sides under 5 px of the 1 megapixel camera do not make a label time.
# Source: RVT, scripts/genx/preprocess_dataset.py (labels_and_ev_repr_timestamps, conservative_bbox_filter).
GEN1_HW = (240, 304)
GEN1_STEP_US = 250_000
RVT_FIRST_US = 100_000
RVT_JITTER_US = 2_000
RVT_RATE_HZ = 10
RVT_SHARE_OF_WIDTH = 5 / 1280


@dataclass(frozen=True)
class FilterCounts:
    """How many boxes there were, how many fell to each rule (the first that applies), how many are left.

    Attributes:
        before: Boxes given.
        class_left_out: Of a class that the protocol does not know.
        outside: Without area, after clipping where the protocol clips.
        diagonal: With a shorter diagonal than counts.
        side: With a shorter side than counts.
        off_grid: At a time that the protocol passes over.
        early: At a time before the first that counts.
        kept: Boxes left.
    """

    before: int
    class_left_out: int
    outside: int
    diagonal: int
    side: int
    off_grid: int
    early: int
    kept: int

    def text(self) -> str:
        """Return the counts as words, without the rules that nothing fell to."""
        fell = {name: count for name, count in asdict(self).items() if name not in ("before", "kept")}
        said = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in fell.items() if count)
        return f"{self.kept} of {self.before} boxes count" + (f"; left out: {said}" if said else "")


def filter_boxes(
    boxes: BoxColumns, protocol: Protocol, *, sensor_hw: tuple[int, int], truth: bool
) -> tuple[BoxColumns, np.ndarray, FilterCounts]:
    """Return the boxes that count under a protocol, their rows in what was given, int64 [M], and counts.

    Args:
        boxes: Truth or detections.
        protocol: Whose filters.
        sensor_hw: Height and width of the sensor in pixels; decides the limits.
        truth: Whether the boxes are the truth: only its times are thinned out to a grid, and only it is
            clipped where the protocol leaves detections alone.
    """
    rows, before = np.arange(len(boxes)), len(boxes)
    dropped: dict[str, int] = {}

    def keep(rule: str, mask: np.ndarray) -> None:
        nonlocal boxes, rows
        dropped[rule] = int((~mask).sum())
        if dropped[rule]:
            boxes, rows = boxes.take(mask), rows[mask]

    keep("class_left_out", boxes.class_id < protocol.classes if protocol.classes is not None else _all(boxes))
    if protocol.clip_px is not None and (truth or protocol.clip_detections):
        boxes = replace(boxes, xyxy=_clip(boxes.xyxy, sensor_hw, protocol.clip_px))
    # A true box without area overlaps nothing, not even itself.
    keep("outside", np.all(boxes.sides() > 0, axis=1) if truth or protocol.clip_detections else _all(boxes))
    diagonal_px, side_px = protocol.limits(sensor_hw)
    times = rvt_grid(boxes, sensor_hw, diagonal_px, side_px) if truth and protocol.grid == "rvt" else None
    keep("diagonal", (boxes.sides() ** 2).sum(axis=1) >= diagonal_px**2)
    keep("side", np.all(boxes.sides() >= side_px, axis=1))
    keep("off_grid", times(boxes) if times is not None else _all(boxes))
    keep("early", boxes.t > protocol.after_us if protocol.after_us is not None else _all(boxes))
    return boxes, rows, FilterCounts(before=before, kept=len(boxes), **dropped)


def _all(boxes: BoxColumns) -> np.ndarray:
    return np.ones(len(boxes), np.bool_)


def _clip(xyxy: np.ndarray, sensor_hw: tuple[int, int], less_px: int) -> np.ndarray:
    height, width = sensor_hw
    far = np.array([width, height, width, height], np.float32) - np.float32(less_px)
    return np.clip(xyxy, 0, far)


def rvt_grid(
    boxes: BoxColumns, sensor_hw: tuple[int, int], diagonal_px: float, side_px: float
) -> Callable[[BoxColumns], np.ndarray]:
    """Return the function that says which boxes are at the times RVT keeps, bool [M].

    The first label at or after 100 ms is kept, then every label whose distance from the last one kept is a
    multiple of the step, within 2 ms. The step is 250 ms for Gen1; for others as many labels as there are
    in about 100 ms, by the median distance of the recording's labels.
    """
    sides = boxes.sides()
    if sensor_hw == GEN1_HW:
        large = ((sides**2).sum(axis=1) >= diagonal_px**2) & (sides >= side_px).all(axis=1)
    else:
        large = (sides >= RVT_SHARE_OF_WIDTH * sensor_hw[1]).all(axis=1)
    moments, _ = moments_of(boxes.recording[large], boxes.t[large])
    kept: set[tuple[int, int]] = set()
    for recording, span in moments.spans():
        step_us = GEN1_STEP_US if sensor_hw == GEN1_HW else _step_us(moments.t[span])
        kept.update((recording, t) for t in _every_step(moments.t[span].tolist(), step_us))

    def at_kept_times(rest: BoxColumns) -> np.ndarray:
        times, position = moments_of(rest.recording, rest.t)
        pairs = zip(times.recording.tolist(), times.t.tolist(), strict=True)
        return np.fromiter((pair in kept for pair in pairs), np.bool_, len(times.t))[position]

    return at_kept_times


def _step_us(times: np.ndarray) -> int:
    """Return the distance of labels about 100 ms apart, from the rate of all."""
    if len(times) < 2:
        return 1_000_000 // RVT_RATE_HZ
    distance_us = float(np.median(np.diff(times)))
    return int(max(round(1e6 / distance_us / RVT_RATE_HZ), 1) * distance_us)


def _every_step(times: list[int], step_us: int) -> list[int]:
    kept: list[int] = []
    for t in times:
        if not kept:
            if t >= RVT_FIRST_US:
                kept.append(t)
            continue
        distance_us = t - kept[-1]
        if abs(distance_us - round(distance_us / step_us) * step_us) <= RVT_JITTER_US < distance_us:
            kept.append(t)
    return kept

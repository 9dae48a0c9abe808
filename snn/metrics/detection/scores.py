"""What an evaluation found, to print, to store as JSON, and to draw."""

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from snn.metrics.detection.bands import BandScores
from snn.metrics.detection.filters import FilterCounts


class ClassScores(NamedTuple):
    """Scores of a class.

    Attributes:
        name: Its name.
        ap: Average precision over ten overlaps (of `voc50`, at 0.5); NaN where no box of it is there.
        ap50: At an overlap of 0.5.
        ap75: At an overlap of 0.75.
        recall: Largest recall, mean over the overlaps.
        boxes: True boxes that count.
        detections: Detections held against frames.
    """

    name: str
    ap: float
    ap50: float
    ap75: float
    recall: float
    boxes: int
    detections: int


class StreamingScores(NamedTuple):
    """Scores where a detection counts from the moment it is there.

    Attributes:
        mean_ap: Over ten overlaps; of `voc50`, at 0.5.
        ap50: At an overlap of 0.5.
        mean_delay_us: From the end of what the detector saw to its answer, mean over all answers.
        frames_unanswered: Frames before the first answer of their recording.
    """

    mean_ap: float
    ap50: float
    mean_delay_us: float
    frames_unanswered: int


class PrecisionRecall(NamedTuple):
    """Curves of precision over recall.

    Attributes:
        recall: float64, shape [101].
        precision50: At an overlap of 0.5, float64, shape [K, 101]; NaN for a class without boxes.
        precision75: At 0.75.
        score50: Score from which on a recall is reached at an overlap of 0.5; 0 where it never is.
    """

    recall: np.ndarray
    precision50: np.ndarray
    precision75: np.ndarray
    score50: np.ndarray


@dataclass(frozen=True, eq=False)
class DetectionScores:
    """Scores of detections under a protocol; all from 0 to 1, NaN where there is nothing to score.

    Attributes:
        protocol: Name of the protocol.
        match: How detections were held against label times.
        tolerance_us: How far apart they may be.
        limits_px: Shortest diagonal and side that count.
        mean_ap: Mean of the classes' `ap`.
        ap50: The same at an overlap of 0.5.
        ap75: At 0.75.
        ap_small: Of boxes up to 32² px; NaN under `voc50`, as the next two.
        ap_medium: From 32² to 96² px.
        ap_large: From 96² px.
        recall: Mean of the classes' `recall`.
        classes: Scores of each class.
        frames: Label times that count.
        frames_unmatched: Of those, frames that no detection is held against.
        truth_counts: What the filters left of the truth.
        detection_counts: What they left of the detections.
        detections_unmatched: Of these, detections held against no frame.
        self_check: Mean average precision of the truth held against itself: 1, or there are no scores.
        operating_score: Least score of detections in `confusion` and `false_positives`.
        confusion: Truth by detection, the last row and column being nothing, int64, shape [K + 1, K + 1].
        curves: Curves of precision over recall; None under `voc50`.
        by_speed: Scores by how fast boxes move; empty where speeds were not given.
        by_density: Scores by events in the box; empty where these were not given.
        false_positives: Detections of nothing in the spans covered; None where spans were not given.
        covered_minutes: Length of these spans.
        streaming: Scores with the detector's delay; None where it was not given.
    """

    protocol: str
    match: str
    tolerance_us: int
    limits_px: tuple[float, float]
    mean_ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    recall: float
    classes: tuple[ClassScores, ...]
    frames: int
    frames_unmatched: int
    truth_counts: FilterCounts
    detection_counts: FilterCounts
    detections_unmatched: int
    self_check: float
    operating_score: float
    confusion: np.ndarray
    curves: PrecisionRecall | None
    by_speed: dict[str, BandScores]
    by_density: dict[str, BandScores]
    false_positives: int | None
    covered_minutes: float | None
    streaming: StreamingScores | None

    @property
    def false_positives_per_minute(self) -> float | None:
        """Detections of nothing for each minute covered; None where no span was given."""
        if self.false_positives is None or not self.covered_minutes:
            return None
        return self.false_positives / self.covered_minutes

    def as_dict(self) -> dict[str, Any]:
        """Return all scores as what JSON can hold: lists for arrays, None for NaN."""
        named = {
            **asdict(self),
            "classes": [one._asdict() for one in self.classes],
            "by_speed": {name: band._asdict() for name, band in self.by_speed.items()},
            "by_density": {name: band._asdict() for name, band in self.by_density.items()},
            "curves": self.curves._asdict() if self.curves else None,
            "streaming": self.streaming._asdict() if self.streaming else None,
            "false_positives_per_minute": self.false_positives_per_minute,
        }
        return {name: _plain(value) for name, value in named.items()}

    def lines(self) -> list[str]:
        """Return the scores as lines of text, the protocol first."""
        diagonal_px, side_px = self.limits_px
        lines = [
            f"protocol {self.protocol}: diagonal >= {diagonal_px:g} px, sides >= {side_px:g} px, "
            f"match {self.match} within {self.tolerance_us / 1000:g} ms",
            f"mAP {_percent(self.mean_ap)}  AP50 {_percent(self.ap50)}  AP75 {_percent(self.ap75)}  "
            f"small {_percent(self.ap_small)}  medium {_percent(self.ap_medium)}  "
            f"large {_percent(self.ap_large)}",
            f"{self.frames} frames, {self.frames_unmatched} without a detection near enough",
            f"truth: {self.truth_counts.text()}",
            f"detections: {self.detection_counts.text()}; {self.detections_unmatched} near no label",
        ]
        for one in self.classes:
            lines.append(
                f"{one.name}: AP {_percent(one.ap)}  AP50 {_percent(one.ap50)}  AP75 {_percent(one.ap75)}  "
                f"recall {_percent(one.recall)}  {one.boxes} boxes, {one.detections} detections"
            )
        for name, band in {**self.by_speed, **self.by_density}.items():
            lines.append(
                f"{name}: mAP {_percent(band.mean_ap)}  AP50 {_percent(band.ap50)}  {band.boxes} boxes"
            )
        if self.false_positives_per_minute is not None and self.covered_minutes is not None:
            minutes = self.covered_minutes
            covered = f"{minutes:.1f} min" if minutes >= 1 else f"{60 * minutes:.1f} s"
            lines.append(
                f"detections of nothing (overlap below 0.1): {self.false_positives:,} in {covered}, "
                f"{self.false_positives_per_minute:.2f} a minute, from a score of {self.operating_score:g}"
            )
        if self.streaming is not None:
            lines.append(
                f"streaming: mAP {_percent(self.streaming.mean_ap)}  AP50 {_percent(self.streaming.ap50)}  "
                f"answers {self.streaming.mean_delay_us / 1000:.1f} ms late, "
                f"{self.streaming.frames_unanswered} frames before the first"
            )
        return lines


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f}"


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

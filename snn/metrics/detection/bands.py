"""Scores of the boxes that move fast or slowly, that have many events or few."""

from typing import NamedTuple

import numpy as np

from snn.errors import DetectionError
from snn.metrics.detection.coco import FrameBoxes, coco_curves, mean_of_known
from snn.metrics.detection.columns import BoxColumns


class Band(NamedTuple):
    """A range of values, `low` in it, `high` no longer."""

    name: str
    low: float
    high: float


class BandScores(NamedTuple):
    """What detections reach among the boxes of a band.

    Attributes:
        mean_ap: Over ten overlaps and the classes that have a box in the band; NaN where none has.
        ap50: The same at an overlap of 0.5.
        boxes: True boxes in the band.
    """

    mean_ap: float
    ap50: float
    boxes: int


# Our own limits. Of speed: pixels a second of the centre. A parked car has no events and cannot be seen.
SPEED_BANDS = (
    Band("still, below 5 px/s", 0, 5),
    Band("slow, 5 to 50 px/s", 5, 50),
    Band("fast, from 50 px/s", 50, float("inf")),
)
# Of density: events a pixel of the box, in the time before the label that the caller counts them in.
DENSITY_BANDS = (
    Band("below 0.01 events/px", 0, 0.01),
    Band("0.01 to 0.1 events/px", 0.01, 0.1),
    Band("from 0.1 events/px", 0.1, float("inf")),
    Band("all from 0.01 events/px", 0.01, float("inf")),
)


def box_speed(boxes: BoxColumns, track_id: np.ndarray) -> np.ndarray:
    """Return how fast the centre of each box moves, pixels a second, float64, shape [M].

    From the label of the same track before to the one after; at the ends of a track from or to the box
    itself. NaN where a box is alone in its track, or in none.

    Args:
        boxes: True boxes.
        track_id: The same number for the same object of a recording, negative for none, shape [M].
    """
    if len(track_id) != len(boxes):
        raise DetectionError(f"track_id: found {len(track_id)} numbers, expected {len(boxes)}, one a box")
    order = np.lexsort((boxes.t, track_id, boxes.recording))
    centre = (boxes.xyxy[:, :2].astype(np.float64) + boxes.xyxy[:, 2:])[order] / 2
    t, track, recording = boxes.t[order], np.asarray(track_id)[order], boxes.recording[order]
    same = (track[1:] == track[:-1]) & (recording[1:] == recording[:-1]) & (track[1:] >= 0)
    row = np.arange(len(order))
    before = np.where(np.concatenate([[False], same]), row - 1, row)[: len(row)]
    after = np.where(np.concatenate([same, [False]]), row + 1, row)[: len(row)]
    seconds = (t[after] - t[before]) / 1e6
    distance = np.sqrt(((centre[after] - centre[before]) ** 2).sum(axis=1))
    speed = np.full(len(order), np.nan)
    np.divide(distance, seconds, out=speed, where=seconds > 0)
    result = np.empty_like(speed)
    result[order] = speed
    return result


def band_scores(
    truth: FrameBoxes,
    found: FrameBoxes,
    values: np.ndarray,
    bands: tuple[Band, ...],
    *,
    frames: int,
    classes: int,
) -> dict[str, BandScores]:
    """Return the scores of each band.

    A detection of a box outside the band is neither right nor wrong; a detection of no box is wrong in
    every band, so a band of few boxes scores lower than the same detections do on all.

    Args:
        truth: True boxes.
        found: Detections.
        values: What the bands are of, shape [M] of the truth; NaN belongs to none.
        bands: Bands; they may overlap.
        frames: Number of frames.
        classes: Number of classes.
    """
    scores = {}
    for band in bands:
        inside = (values >= band.low) & (values < band.high)
        curves = coco_curves(truth, found, frames=frames, classes=classes, band=inside)
        scores[band.name] = BandScores(
            mean_of_known(curves.average_precision()),
            mean_of_known(curves.average_precision(overlap=0.5)),
            int((inside & ~truth.boxes.ignore).sum()),
        )
    return scores

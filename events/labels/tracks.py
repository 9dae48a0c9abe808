"""Boxes of one object, label after label: links by track id or by overlap, and labels between them."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.optimize import linear_sum_assignment

from events.errors import ConfigError
from events.labels.overlap import box_overlaps
from events.labels.table import AUTO, INTERPOLATED, MANUAL, NO_TRACK, LabelTable, make_table

Association = Literal["auto", "tracks", "overlap"]

# Ids are taken for tracks where at least this share of the boxes has the id of a box at another time.
TRACKED_SHARE = 0.5


@dataclass(frozen=True)
class InterpolateSettings:
    """Where labels are put between labels.

    Attributes:
        every_us: Labels at the multiples of this time.
        max_gap_us: Boxes further apart in time are not joined.
        max_speed: Boxes are not joined where the object would move faster than so many of its larger box's
            diagonals per second: two objects with one id, or a wrong association.
        association: `tracks` goes by track ids, `overlap` by the best overlap with the boxes of the next
            labelled time, `auto` by ids where they are tracks (`ids_are_tracks`; Gen1's are none).
        min_overlap: With `overlap`, intersection over union that two boxes of one object have at least.
    """

    every_us: int = 50_000
    max_gap_us: int = 1_000_000
    max_speed: float = 10.0
    association: Association = "auto"
    min_overlap: float = 0.3

    def __post_init__(self) -> None:
        for name in ("every_us", "max_gap_us", "max_speed", "min_overlap"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.association not in ("auto", "tracks", "overlap"):
            raise ConfigError(f"association {self.association!r} is unknown; known are auto, tracks, overlap")


def ids_are_tracks(labels: LabelTable) -> bool:
    """Whether track ids say which boxes are one object.

    That is where most boxes share their id with a box of another time, and no two boxes of a time have one.
    """
    known = labels.track_id != NO_TRACK
    if not known.any():
        return False
    ids, at = np.unique(labels.track_id[known], return_inverse=True)
    moments = np.unique(np.column_stack([at, labels.t[known]]), axis=0)
    if len(moments) < int(known.sum()):
        return False
    times = np.bincount(moments[:, 0], minlength=len(ids))
    return bool((times[at] > 1).sum() >= TRACKED_SHARE * len(labels))


def link_tracks(labels: LabelTable) -> np.ndarray:
    """Return rows of one track id, one labelled time after the other: int64, shape [L, 2], earlier first."""
    rows = np.flatnonzero(labels.track_id != NO_TRACK)
    rows = rows[np.lexsort((rows, labels.t[rows], labels.track_id[rows]))]
    same = (labels.track_id[rows[1:]] == labels.track_id[rows[:-1]]) & (
        labels.t[rows[1:]] > labels.t[rows[:-1]]
    )
    return np.column_stack([rows[:-1][same], rows[1:][same]])


def link_overlaps(labels: LabelTable, *, min_overlap: float, max_gap_us: int) -> np.ndarray:
    """Return rows of boxes of one class that overlap from one labelled time to the next: int64, [L, 2].

    Of all pairings of two times, the one of the largest sum of overlaps (Hungarian algorithm).
    """
    links: list[np.ndarray] = []
    for frame in range(len(labels.frame_t) - 1):
        if labels.frame_t[frame + 1] - labels.frame_t[frame] > max_gap_us:
            continue
        a, b = (np.arange(*labels.frame_ptr[i : i + 2]) for i in (frame, frame + 1))
        overlaps = box_overlaps(labels.xyxy[a], labels.xyxy[b])
        overlaps[labels.class_id[a][:, None] != labels.class_id[b][None]] = 0
        overlaps[overlaps < min_overlap] = 0
        one, other = linear_sum_assignment(-overlaps)
        good = overlaps[one, other] > 0
        links.append(np.column_stack([a[one[good]], b[other[good]]]))
    return np.concatenate(links) if links else np.zeros((0, 2), np.int64)


def speeds(labels: LabelTable, links: np.ndarray) -> np.ndarray:
    """Return how fast linked boxes move: diagonals of the larger box per second, float64, shape [L]."""
    a, b = (labels.xyxy[links[:, i]].astype(np.float64) for i in (0, 1))
    moved = np.hypot(*((b[:, :2] + b[:, 2:] - a[:, :2] - a[:, 2:]) / 2).T)
    diagonals = [np.hypot(*(boxes[:, 2:] - boxes[:, :2]).T) for boxes in (a, b)]
    seconds = (labels.t[links[:, 1]] - labels.t[links[:, 0]]) / 1e6
    return np.asarray(moved / np.maximum(np.maximum(*diagonals), 1) / seconds)


def interpolate_labels(labels: LabelTable, settings: InterpolateSettings | None = None) -> LabelTable:
    """Return labels with rows between the boxes of an object, marked INTERPOLATED: for training only.

    Between two linked boxes the centre moves in a straight line and the logarithm of the sides as well; a box
    without width or height is not joined. Class and track are the earlier box's; the score is the lower, and
    a row is to be ignored where one of the two is. Rows that are INTERPOLATED or PREDICTED are no ends, and a
    time between that has a MANUAL or AUTO label of any object gets no row, for its label is the truth.

    An object that appears or leaves between two labels has no box until its first or after its last: frames
    of interpolated rows may lack objects, and are no truth to measure a detector by.
    """
    settings = settings or InterpolateSettings()
    sides = labels.xyxy[:, 2:] - labels.xyxy[:, :2]
    ends = labels.where(((labels.kind == MANUAL) | (labels.kind == AUTO)) & (sides > 0).all(axis=1))
    by_ids = settings.association == "tracks" or (settings.association == "auto" and ids_are_tracks(labels))
    links = (
        link_tracks(ends)
        if by_ids
        else link_overlaps(ends, min_overlap=settings.min_overlap, max_gap_us=settings.max_gap_us)
    )
    gaps = ends.t[links[:, 1]] - ends.t[links[:, 0]]
    same_class = ends.class_id[links[:, 0]] == ends.class_id[links[:, 1]]
    links = links[(gaps <= settings.max_gap_us) & same_class]
    links = links[speeds(ends, links) <= settings.max_speed]
    a, b = links.T
    first = ends.t[a] // settings.every_us + 1
    count = np.maximum((ends.t[b] - 1) // settings.every_us - first + 1, 0)
    link = np.repeat(np.arange(len(links)), count)
    step = np.arange(len(link)) - np.repeat(np.cumsum(count) - count, count)
    t = (first[link] + step) * settings.every_us
    labelled = np.isin(t, labels.t[(labels.kind == MANUAL) | (labels.kind == AUTO)])
    link, t = link[~labelled], t[~labelled]
    a, b = a[link], b[link]
    share = ((t - ends.t[a]) / (ends.t[b] - ends.t[a]))[:, None] if len(t) else np.zeros((0, 1))
    boxes = between_boxes(ends.xyxy[a], ends.xyxy[b], share)
    new: dict[str, Any] = {
        "t": t,
        "xyxy": boxes,
        "class_id": ends.class_id[a],
        "track_id": ends.track_id[a],
        "score": np.minimum(ends.score[a], ends.score[b]),
        "kind": np.full(len(t), INTERPOLATED),
        "ignore": ends.ignore[a] | ends.ignore[b],
    }
    joined: dict[str, Any] = {
        name: np.concatenate([column, new[name]]) for name, column in labels.columns().items()
    }
    return make_table(
        **joined, class_names=labels.class_names, sensor_hw=labels.sensor_hw, coverage=labels.coverage
    )


def between_boxes(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return boxes on the way from a to b: centre linear, sides linear in their logarithm.

    Args:
        a: Boxes x0, y0, x1, y1 with sides above 0, shape [N, 4].
        b: The same, shape [N, 4].
        share: How much of the way, from 0 to 1, shape [N, 1].

    Returns:
        float64, shape [N, 4].
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    centre = [(boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (a, b)]
    sides = [np.log(boxes[:, 2:] - boxes[:, :2]) for boxes in (a, b)]
    middle = centre[0] + share * (centre[1] - centre[0])
    half = np.exp(sides[0] + share * (sides[1] - sides[0])) / 2
    return np.concatenate([middle - half, middle + half], axis=1)

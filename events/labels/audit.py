"""What is doubtful about labels: boxes without events, twice the same box, tracks that jump, and the like.

Nothing is changed. The limits are those of `AuditSettings`; what is found is a mask over the rows for each
kind, so that a picture of it can be drawn and a training can leave it out.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from events.errors import ConfigError
from events.labels.fit import wholly_outside
from events.labels.overlap import box_overlaps
from events.labels.table import KIND_NAMES, NO_TRACK, LabelTable
from events.labels.tracks import ids_are_tracks, link_tracks, speeds

# What can be found, and what it means, in the order in which it is shown.
FINDINGS = {
    "empty": "boxes without an event before their label",
    "faint": "boxes with few events before their label",
    "duplicate": "boxes that lie on another of their class and time",
    "jump": "boxes that are too far from the one before of their track",
    "class_change": "boxes of another class than the one before of their track",
    "frame_wide": "boxes as wide as the sensor",
    "off_screen": "boxes of which much lies outside the sensor",
    "flat": "boxes without width or height",
}


@dataclass(frozen=True)
class AuditSettings:
    """From where on a box is called doubtful.

    Attributes:
        window_us: Events count for so long before the label.
        few_events: Boxes with fewer events, but not none, are faint.
        overlap: Boxes of one class and time with at least this intersection over union are duplicates.
        max_speed: Boxes of a track jump where they move faster than so many diagonals of the larger box per
            second, and by more than one diagonal.
        wide: Boxes of more than this share of the sensor's width are as wide as the sensor. Source: RVT's
            preprocessing, which leaves out those above 0.9 in training.
        outside: Boxes of which more than this share of the area is outside the sensor are off screen.
    """

    window_us: int = 100_000
    few_events: int = 10
    overlap: float = 0.9
    max_speed: float = 10.0
    wide: float = 0.9
    outside: float = 0.5

    def __post_init__(self) -> None:
        for name in ("window_us", "few_events", "max_speed"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("overlap", "wide", "outside"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be above 0 and at most 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class LabelAudit:
    """What was found.

    Attributes:
        labels: The labels.
        found: Rows by finding, a key of `FINDINGS`; bool, shape [M]. A finding is missing where what it takes
            is not known: the events, the sensor, or tracks.
        events: Events of each box before its label, int64, shape [M]; None without a recording.
        off_screen_share: Share of all boxes' area that is outside the sensor; None where it is not known.
        tracked: Whether track ids say which boxes are one object.
    """

    labels: LabelTable
    found: dict[str, np.ndarray] = field(default_factory=dict)
    events: np.ndarray | None = None
    off_screen_share: float | None = None
    tracked: bool = False

    def doubtful(self) -> np.ndarray:
        """Return the rows of any finding, bool, shape [M]."""
        return np.any(np.stack([np.zeros(len(self.labels), bool), *self.found.values()]), axis=0)

    def as_dict(self) -> dict[str, Any]:
        """Return counts and shares as plain JSON types, and the rows of every finding."""
        labels, boxes = self.labels, max(len(self.labels), 1)
        names = labels.class_names
        ids, counts = np.unique(labels.class_id, return_counts=True)
        seconds = int(labels.t[-1] - labels.t[0]) / 1e6 if len(labels) else 0.0
        return {
            "boxes": len(labels),
            "labelled_times": len(labels.frame_t),
            "t_first_us": int(labels.t[0]) if len(labels) else None,
            "t_last_us": int(labels.t[-1]) if len(labels) else None,
            "label_rate_hz": (len(labels.frame_t) - 1) / seconds if seconds else None,
            "classes": {
                (names[i] if names else str(i)): n for i, n in zip(ids.tolist(), counts.tolist(), strict=True)
            },
            "kinds": {
                name: int((labels.kind == kind).sum())
                for kind, name in enumerate(KIND_NAMES)
                if (labels.kind == kind).any()
            },
            "tracks": len(np.unique(labels.track_id[labels.track_id != NO_TRACK])),
            "ids_are_tracks": self.tracked,
            "sensor": labels.sensor_hw,
            "off_screen_share": self.off_screen_share,
            "doubtful": int(self.doubtful().sum()),
            "doubtful_share": float(self.doubtful().sum() / boxes),
            "findings": {
                name: {
                    "boxes": int(rows.sum()),
                    "share": float(rows.sum() / boxes),
                    "meaning": FINDINGS[name],
                }
                for name, rows in self.found.items()
            },
            "rows": {name: np.flatnonzero(rows).tolist() for name, rows in self.found.items() if rows.any()},
        }


def audit_labels(
    labels: LabelTable, *, events: np.ndarray | None = None, settings: AuditSettings | None = None
) -> LabelAudit:
    """Look for what is doubtful about the labels of one recording.

    Args:
        labels: The labels; where `sensor_hw` is known, boxes are held against the sensor.
        events: Events of each box before its label, shape [M], as `count_box_events` returns; None where
            there is no recording.
        settings: From where on a box is called doubtful.
    """
    settings = settings or AuditSettings()
    found: dict[str, np.ndarray] = {}
    if events is not None:
        found["empty"] = events == 0
        found["faint"] = (events > 0) & (events < settings.few_events)
    found["duplicate"] = find_duplicates(labels, overlap=settings.overlap)
    tracked = ids_are_tracks(labels)
    if tracked:
        found["jump"], found["class_change"] = _broken_tracks(labels, settings.max_speed)
    sides = labels.xyxy[:, 2:].astype(np.float64) - labels.xyxy[:, :2]
    share = None
    if labels.sensor_hw is not None:
        outside = outside_shares(labels.xyxy, labels.sensor_hw)
        found["frame_wide"] = sides[:, 0] > settings.wide * labels.sensor_hw[1]
        found["off_screen"] = outside > settings.outside
        area = sides.prod(axis=1)
        share = float((outside * area).sum() / max(area.sum(), 1e-9))
    found["flat"] = (sides <= 0).any(axis=1)
    return LabelAudit(
        labels,
        {name: found[name] for name in FINDINGS if name in found},
        events=events,
        off_screen_share=share,
        tracked=tracked,
    )


def find_duplicates(labels: LabelTable, *, overlap: float) -> np.ndarray:
    """Return the rows that lie on an earlier row of their class and time; the earliest is none; bool [M]."""
    rows = np.zeros(len(labels), bool)
    for start, stop in zip(labels.frame_ptr[:-1], labels.frame_ptr[1:], strict=True):
        boxes, classes = labels.xyxy[start:stop], labels.class_id[start:stop]
        same = (box_overlaps(boxes, boxes) >= overlap) & (classes[:, None] == classes[None])
        # Boxes of no area overlap with nothing, not even with themselves.
        same |= (boxes[:, None] == boxes[None]).all(axis=2) & (classes[:, None] == classes[None])
        rows[start:stop] = np.tril(same, -1).any(axis=1)
    return rows


def outside_shares(xyxy: np.ndarray, sensor_hw: tuple[int, int]) -> np.ndarray:
    """Return the share of each box's area, shape [M, 4], outside the sensor; float64 [M], 0 to 1.

    Of a box without area it is 1 where no point of it is on the sensor, else 0.
    """
    height, width = sensor_hw
    boxes = xyxy.astype(np.float64)
    clipped = np.clip(boxes, 0, [width, height, width, height])
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    left = (clipped[:, 2:] - clipped[:, :2]).prod(axis=1)
    flat = wholly_outside(boxes, sensor_hw).astype(np.float64)
    return np.where(area > 0, 1 - left / np.where(area > 0, area, 1), flat)


def _broken_tracks(labels: LabelTable, max_speed: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the later rows of links that jump, and of those that change the class; bool [M] each."""
    links = link_tracks(labels)
    speed = speeds(labels, links)
    diagonals = speed * (labels.t[links[:, 1]] - labels.t[links[:, 0]]) / 1e6
    jump, change = np.zeros(len(labels), bool), np.zeros(len(labels), bool)
    jump[links[(speed > max_speed) & (diagonals > 1), 1]] = True
    change[links[labels.class_id[links[:, 0]] != labels.class_id[links[:, 1]], 1]] = True
    return jump, change

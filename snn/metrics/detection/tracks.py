"""Say which detections are the same object: overlap with where each object should be by now.

An object goes on with the velocity it had and keeps its size. Detections are given to objects so that the
sum of overlaps is largest, first those that are sure, then the others, as a doubtful detection may go on
with a track but not begin one.

Sources: Bewley et al., "Simple online and realtime tracking", ICIP 2016 (overlap with a predicted box,
assignment, least overlap 0.3); Zhang et al., "ByteTrack", ECCV 2022 (sure detections first). Both predict
with a Kalman filter whose steps are equally long. Windows of an event camera are not, where they hold
equally many events or some were passed over, so that here velocity is a distance by the time between.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from snn.errors import DetectionError
from snn.metrics.detection.columns import BoxColumns, moments_of, overlaps

# The track of a detection that belongs to none.
NO_TRACK = -1


@dataclass(frozen=True)
class TrackSettings:
    """How detections become tracks.

    Attributes:
        least_overlap: Smallest overlap of a detection with where an object should be, above 0.
        start_score: Least score of a detection that begins a track, and is matched among the first.
        least_score: Detections that are less sure belong to no track.
        forget_us: A track that was not seen for longer ends, in microseconds.
        velocity_share: Share of the newest velocity in that of a track, above 0 to 1; the rest is what it
            had before.
    """

    least_overlap: float = 0.3
    start_score: float = 0.5
    least_score: float = 0.1
    forget_us: int = 500_000
    velocity_share: float = 0.5

    def __post_init__(self) -> None:
        for name, low, high in (("least_overlap", 0.0, 1.0), ("velocity_share", 0.0, 1.0)):
            if not low < getattr(self, name) <= high:
                raise DetectionError(
                    f"{name}: found {getattr(self, name)}, expected above {low:g} to {high:g}"
                )
        if self.least_score > self.start_score:
            raise DetectionError(
                f"least_score: found {self.least_score}, expected at most start_score, {self.start_score}"
            )
        if self.forget_us < 0:
            raise DetectionError(f"forget_us: found {self.forget_us}, expected 0 or more")


@dataclass
class Track:
    """An object that was seen no longer ago than is remembered.

    Attributes:
        number: Its number, from 0 in the order in which tracks began.
        class_id: Class of its detections.
        xyxy: Box when it was last seen, float64, shape [4].
        t: When that was, microseconds.
        velocity: Of its centre, px/µs, float64, shape [2].
        seen: How many detections it has.
    """

    number: int
    class_id: int
    xyxy: np.ndarray
    t: int
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2))
    seen: int = 1

    def box_at(self, t: int) -> np.ndarray:
        """Return where it should be at a time, float64, shape [4]."""
        return self.xyxy + np.tile(self.velocity * (t - self.t), 2)

    def see(self, xyxy: np.ndarray, t: int, velocity_share: float) -> None:
        """Go on with a detection."""
        moved = (xyxy[:2] + xyxy[2:] - self.xyxy[:2] - self.xyxy[2:]) / 2
        newest = moved / (t - self.t)
        share = 1.0 if self.seen == 1 else velocity_share
        self.velocity = share * newest + (1 - share) * self.velocity
        self.xyxy, self.t, self.seen = xyxy, t, self.seen + 1


class Tracker:
    """Tracks of one recording, detection time by detection time; keeps the tracks that still go on.

    Attributes:
        tracks: Those tracks, in the order of their numbers.
    """

    def __init__(self, settings: TrackSettings | None = None) -> None:
        self.settings = settings or TrackSettings()
        self.tracks: list[Track] = []
        self._next = 0
        self._t: int | None = None

    def update(self, t: int, xyxy: np.ndarray, class_id: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Return the track of each detection, NO_TRACK for none; int64, shape [N].

        The same detections in the same order give the same tracks. Of equal sums of overlaps, the first
        that SciPy's assignment finds counts.

        Args:
            t: Time of the detections in microseconds, later than that of the call before.
            xyxy: Boxes x0, y0, x1, y1 in pixels, shape [N, 4].
            class_id: Classes, shape [N]; a track has one.
            score: Scores, shape [N].
        """
        t = int(t)
        if self._t is not None and t <= self._t:
            raise DetectionError(f"t: found {t}, expected later than the detections before, at {self._t}")
        self._t = t
        xyxy = np.asarray(xyxy, np.float64).reshape(-1, 4)
        class_id, score = np.asarray(class_id), np.asarray(score)
        self.tracks = [track for track in self.tracks if t - track.t <= self.settings.forget_us]
        result = np.full(len(xyxy), NO_TRACK, np.int64)
        free = list(self.tracks)
        sure = score >= self.settings.start_score
        for mask in (sure, ~sure & (score >= self.settings.least_score)):
            free = self._match(np.flatnonzero(mask), free, result, t, xyxy, class_id)
        for row in np.flatnonzero(sure & (result == NO_TRACK)):
            self.tracks.append(Track(self._next, int(class_id[row]), xyxy[row], t))
            result[row] = self._next
            self._next += 1
        return result

    def _match(
        self,
        rows: np.ndarray,
        free: list[Track],
        result: np.ndarray,
        t: int,
        xyxy: np.ndarray,
        class_id: np.ndarray,
    ) -> list[Track]:
        """Give detections to tracks; write their numbers to `result` and return the tracks left."""
        if not len(rows) or not free:
            return free
        predicted = np.stack([track.box_at(t) for track in free])
        shared = overlaps(xyxy[rows], predicted)
        same_class = class_id[rows][:, None] == np.array([track.class_id for track in free])
        shared = np.where(same_class & (shared >= self.settings.least_overlap), shared, 0.0)
        taken = set()
        for n, m in zip(*linear_sum_assignment(shared, maximize=True), strict=True):
            if shared[n, m] > 0:
                free[m].see(xyxy[rows[n]], t, self.settings.velocity_share)
                result[rows[n]] = free[m].number
                taken.add(m)
        return [track for m, track in enumerate(free) if m not in taken]


def track_boxes(boxes: BoxColumns, settings: TrackSettings | None = None) -> np.ndarray:
    """Return the track of each box, NO_TRACK for none; int64, shape [M].

    Numbers begin at 0 in every recording, in the order in which tracks began.

    Args:
        boxes: Detections, or truth without tracks, in any order.
        settings: How they become tracks.
    """
    result = np.full(len(boxes), NO_TRACK, np.int64)
    _, position = moments_of(boxes.recording, boxes.t)
    order = np.argsort(position, kind="stable")
    begins = np.flatnonzero(np.diff(position[order])) + 1
    tracker, recording = Tracker(settings), None
    for rows in np.split(order, begins) if len(order) else []:
        if boxes.recording[rows[0]] != recording:
            tracker, recording = Tracker(settings), boxes.recording[rows[0]]
        result[rows] = tracker.update(
            int(boxes.t[rows[0]]), boxes.xyxy[rows], boxes.class_id[rows], boxes.score[rows]
        )
    return result

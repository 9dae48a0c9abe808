"""Which detections are held against the labels of a moment.

Labels and detections have clocks of their own: labels at 1 to 60 Hz, detections at whatever rate the
detector runs. `nearest` gives each label time the detections of one detection time. `window`, as published
by Prophesee, gives it all within 50 ms: where labels or detections come faster than that, the same object
is detected several times in one frame, and all but one of them are wrong.
"""

from typing import NamedTuple

import numpy as np

from snn.errors import DetectionError
from snn.metrics.detection.columns import BoxColumns, Moments, moments_of
from snn.metrics.detection.protocols import Match


class Results(NamedTuple):
    """Every time that the detector looked, also where it found nothing.

    Attributes:
        recording: Number of the recording, int64, shape [R].
        t: End of what the detector had seen, microseconds, int64, shape [R].
        ready_us: When its answer was there, on the same clock, int64, shape [R]; None where not measured.
    """

    recording: np.ndarray
    t: np.ndarray
    ready_us: np.ndarray | None = None


class Pairs(NamedTuple):
    """Detections held against the labels of frames; a detection may be there several times, or never.

    Attributes:
        frame: Position of the frame, int64, shape [P], ascending.
        row: Row of the detection, int64, shape [P]; in the order given among those of a frame and a time.
    """

    frame: np.ndarray
    row: np.ndarray


class ByTime:
    """Detections sorted by (recording, t), to take those of a range of times together.

    Args:
        detections: Detections.
        results: The times of all answers; without it, the times that have a detection are taken for all.
    """

    def __init__(self, detections: BoxColumns, results: Results | None = None) -> None:
        recording, t = detections.recording, detections.t
        if results is not None:
            recording = np.concatenate([np.asarray(results.recording, np.int64), recording])
            t = np.concatenate([np.asarray(results.t, np.int64), t])
        self.times, position = moments_of(recording, t)
        if results is not None:
            _check_listed(position, len(detections), detections)
        position = position[len(position) - len(detections) :]
        self._order = np.argsort(position, kind="stable")
        counts = np.bincount(position, minlength=len(self.times.t))
        self._begin = np.concatenate([[0], np.cumsum(counts)])

    def rows(self, start: np.ndarray, stop: np.ndarray) -> Pairs:
        """Return the detections of the times start to stop, positions [F] for each frame."""
        begin, end = self._begin[start], self._begin[np.maximum(start, stop)]
        counts = end - begin
        frame = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return Pairs(frame, self._order[np.repeat(begin, counts) + within])


def _check_listed(position: np.ndarray, count: int, detections: BoxColumns) -> None:
    listed = np.zeros(position.max(initial=-1) + 1, np.bool_)
    listed[position[: len(position) - count]] = True
    missing = ~listed[position[len(position) - count :]]
    if missing.any():
        row = int(missing.argmax())
        raise DetectionError(
            f"results: found no answer of recording {detections.recording[row]} at t {detections.t[row]}, "
            f"where detection {row} is; expected every time that the detector looked"
        )


def match_times(frames: Moments, by_time: ByTime, *, match: Match, tolerance_us: int) -> Pairs:
    """Return the detections held against each frame's labels.

    Args:
        frames: Times of labels.
        by_time: Detections.
        match: `nearest`: those of the nearest detection time of the recording, the earlier of two equally
            near. `window`: those of all detection times no further than the tolerance.
        tolerance_us: Detections further than this from the label are not held against it.
    """
    if match not in ("nearest", "window"):
        raise DetectionError(f"match: found {match!r}, expected nearest or window")
    start, stop = np.zeros(len(frames.t), np.int64), np.zeros(len(frames.t), np.int64)
    spans = dict(by_time.times.spans())
    for recording, span in frames.spans():
        if recording not in spans:
            continue
        labels, times = frames.t[span], by_time.times.t[spans[recording]]
        first = np.searchsorted(times, labels - tolerance_us, "left")
        last = np.searchsorted(times, labels + tolerance_us, "right")
        if match == "nearest":
            after = np.searchsorted(times, labels, "left").clip(0, len(times) - 1)
            before = (after - 1).clip(0)
            nearer = np.where(np.abs(times[after] - labels) < np.abs(times[before] - labels), after, before)
            inside = (nearer >= first) & (nearer < last)
            first, last = nearer, np.where(inside, nearer + 1, nearer)
        start[span], stop[span] = first + spans[recording].start, last + spans[recording].start
    return by_time.rows(start, stop)


def match_ready(frames: Moments, by_time: ByTime, results: Results) -> tuple[Pairs, int]:
    """Return the detections of the newest answer there at the time of each frame, and how many have none.

    Of the answers ready at the frame's time or before, the one that was ready last; of two ready at once,
    the one that had seen more. A frame before the first answer has none.

    Source: Li et al., "Towards streaming perception", ECCV 2020, section 3.1.
    """
    if results.ready_us is None:
        raise DetectionError("results: found no ready_us, expected the time each answer was there")
    ready_us = np.asarray(results.ready_us, np.int64)
    early = ready_us < np.asarray(results.t)
    if early.any():
        row = int(early.argmax())
        raise DetectionError(
            f"results: answer {row} was ready at {ready_us[row]}, before the end of what it saw, "
            f"{results.t[row]}; expected times of one clock"
        )
    newest = np.full(len(frames.t), -1)
    _, position = moments_of(np.asarray(results.recording), np.asarray(results.t))
    order = np.lexsort((results.t, ready_us, results.recording))
    sorted_by_ready = Moments(np.asarray(results.recording)[order], ready_us[order])
    spans = dict(sorted_by_ready.spans())
    for recording, span in frames.spans():
        if recording in spans:
            there = np.searchsorted(sorted_by_ready.t[spans[recording]], frames.t[span], "right")
            newest[span] = np.where(there > 0, there - 1 + spans[recording].start, -1)
    answered = newest >= 0
    start = np.where(answered, position[order[newest.clip(0)]], 0) if len(order) else np.zeros_like(newest)
    return by_time.rows(start, start + answered), int((~answered).sum())

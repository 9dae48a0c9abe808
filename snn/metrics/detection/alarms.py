"""False alarms over the whole time that is labelled, also where there is no object.

Average precision looks only at times that have a label: whatever a detector reports on an empty street is
free. Labels that say in which spans no box means no object make it count.
"""

import numpy as np

from snn.errors import DetectionError
from snn.metrics.detection.columns import BoxColumns, overlaps, rows_by

# A detection that overlaps every object by less is one of the background.
# Source: Bolya et al., "TIDE", ECCV 2020, section 2.2 (t_b).
BACKGROUND_OVERLAP = 0.1

# Labels further than this from a detection say nothing about it: two periods of the slowest rate of Gen1's
# labels, 1 Hz.
LABEL_REACH_US = 2_000_000


def false_alarms(
    truth: BoxColumns, detections: BoxColumns, *, coverage: np.ndarray, least_score: float
) -> tuple[int, float]:
    """Return how many detections in the spans covered are of nothing, and the minutes covered.

    A detection is of something where it overlaps, by 0.1 or more, a box of the last label time before it
    or the first after it (at its own time, of that alone), no more than 2 s away. The class plays no part:
    this counts what is reported where there is nothing.

    Args:
        truth: All true boxes, also small ones and those to ignore.
        detections: Detections at all times.
        coverage: Recording, start and stop in microseconds of spans [start, stop) in which no box means no
            object, int64, shape [K, 3]; those of a recording do not overlap.
        least_score: Detections that are less sure are left out.
    """
    coverage = np.asarray(coverage, np.int64)
    if coverage.ndim != 2 or coverage.shape[1] != 3 or (coverage[:, 2] <= coverage[:, 1]).any():
        raise DetectionError(
            f"coverage: found shape {list(coverage.shape)}, expected [K, 3]: recording, start, a later stop"
        )
    alarms = 0
    detections = detections.take(detections.score >= least_score)
    true_rows, found_rows, none = (
        rows_by(truth.recording),
        rows_by(detections.recording),
        np.zeros(0, np.int64),
    )
    for recording, of in rows_by(coverage[:, 0]).items():
        boxes = _by_time(truth.take(true_rows.get(recording, none)))
        found = _by_time(detections.take(found_rows.get(recording, none)))
        inside = np.zeros(len(found), np.bool_)
        for start, stop in coverage[of, 1:]:
            inside |= (found.t >= start) & (found.t < stop)
        alarms += int((~_of_something(boxes, found.take(inside))).sum())
    return alarms, float((coverage[:, 2] - coverage[:, 1]).sum() / 60e6)


def _by_time(boxes: BoxColumns) -> BoxColumns:
    return boxes.take(np.argsort(boxes.t, kind="stable"))


def _of_something(boxes: BoxColumns, detections: BoxColumns) -> np.ndarray:
    """Return whether each detection overlaps a box of the label times around it; both sorted by time."""
    seen = np.zeros(len(detections), np.bool_)
    labels = np.unique(boxes.t)
    moments, begin = np.unique(detections.t, return_index=True)
    for t, start, stop in zip(moments, begin, [*begin, len(detections)][1:], strict=True):
        after = int(np.searchsorted(labels, t, "left"))
        exact = after < len(labels) and labels[after] == t
        around = labels[after : after + 1] if exact else labels[max(after - 1, 0) : after + 1]
        around = around[np.abs(around - t) <= LABEL_REACH_US]
        if len(around):
            first = np.searchsorted(boxes.t, around[0], "left")
            last = np.searchsorted(boxes.t, around[-1], "right")
            near = overlaps(detections.xyxy[start:stop], boxes.xyxy[first:last])
            seen[start:stop] = (near >= BACKGROUND_OVERLAP).any(axis=1)
    return seen

"""Whether labels and a recording belong together: files in pairs, times and places within the recording."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from events.errors import LabelError
from events.labels.table import LabelTable

# How far a label may lie before the first event or behind the last. A detector that sees the usual 100 ms
# before a label would see no event at all.
SLACK_US = 100_000

# Ends of names of recordings, and that of their box file. Source: the folders of Gen1, 1Mpx and eTraM, and
# RVT's raw layout.
RECORDING_ENDS = ("_td.dat", "_td.raw", "_td.dat.h5", "_td.h5", ".raw")
LABEL_END = "_bbox.npy"


def check_fit(
    labels: LabelTable,
    *,
    where: str,
    span_us: tuple[int, int] | None = None,
    sensor_hw: tuple[int, int] | None = None,
) -> None:
    """Refuse labels that cannot be of a recording.

    Published labels have boxes that reach beyond the sensor, and some that are not on it at all; most of them
    are on it.

    Args:
        labels: The labels.
        where: Begins the message: the label file.
        span_us: Times of the recording's first and last event; None where there is none or it is not known.
        sensor_hw: Height and width of the recording in pixels.

    Raises:
        LabelError: The sensor is not that of the labels, a time is further than SLACK_US outside the
            recording, or more than half of the boxes lie wholly outside the sensor.
    """
    if len(labels) and span_us is not None:
        first, last = span_us
        outside = (labels.t < first - SLACK_US) | (labels.t > last + SLACK_US)
        if outside.any():
            raise LabelError(
                f"{where}: {int(outside.sum())} of {len(labels)} boxes are outside its recording's time; "
                f"labels are from {labels.t[0]} to {labels.t[-1]} us, events from {first} to {last} us; "
                "take the label file of this recording, or give its clock's offset"
            )
    if sensor_hw is None:
        return
    if labels.sensor_hw is not None and tuple(labels.sensor_hw) != tuple(sensor_hw):
        raise LabelError(
            f"{where}: labels are for a sensor of {labels.sensor_hw[0]}x{labels.sensor_hw[1]} "
            f"(height x width), its recording has {sensor_hw[0]}x{sensor_hw[1]}; take the label file of this "
            "recording"
        )
    if len(labels) == 0:
        return
    outside = wholly_outside(labels.xyxy, sensor_hw)
    if outside.sum() * 2 > len(labels):
        largest = labels.xyxy[:, 2:].max(axis=0)
        raise LabelError(
            f"{where}: {int(outside.sum())} of {len(labels)} boxes lie outside its recording's sensor of "
            f"{sensor_hw[0]}x{sensor_hw[1]} (height x width); they reach to x {largest[0]:g}, "
            f"y {largest[1]:g}; take the label file of this recording"
        )


def wholly_outside(xyxy: np.ndarray, sensor_hw: tuple[int, int]) -> np.ndarray:
    """Whether no part of each box, shape [M, 4], is on the sensor; bool [M]."""
    height, width = sensor_hw
    x0, y0, x1, y1 = xyxy.T
    return np.asarray((x1 <= 0) | (y1 <= 0) | (x0 >= width) | (y0 >= height))


@dataclass(frozen=True)
class LabelPairs:
    """Recordings and their label files.

    Attributes:
        pairs: Recording and label file, in order of names.
        problems: One line for each file whose other half is missing.
    """

    pairs: list[tuple[Path, Path]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def find_pairs(folder: Path) -> LabelPairs:
    """Return the recordings below a folder with their `_bbox.npy`, which lies beside them and is named alike.

    `a_td.dat`, `a_td.raw`, `a_td.h5`, `a_td.dat.h5` and `a.raw` all go with `a_bbox.npy`; of several
    recordings of a name, the first in that order.
    """
    recordings: dict[Path, Path] = {}
    labels: dict[Path, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.name.endswith(LABEL_END):
            labels[path.with_name(path.name.removesuffix(LABEL_END))] = path
        for end in RECORDING_ENDS:
            if path.name.endswith(end):
                name = path.with_name(path.name.removesuffix(end))
                if name not in recordings or _rank(path) < _rank(recordings[name]):
                    recordings[name] = path
                break
    both = [name for name in recordings if name in labels]
    problems = [
        f"{path.relative_to(folder)}: has no {name.name}{LABEL_END} beside it"
        for name, path in recordings.items()
        if name not in labels
    ]
    problems += [
        f"{path.relative_to(folder)}: has no recording {name.name}{RECORDING_ENDS[0]} beside it"
        for name, path in labels.items()
        if name not in recordings
    ]
    return LabelPairs([(recordings[name], labels[name]) for name in both], sorted(problems))


def _rank(path: Path) -> int:
    return next(i for i, end in enumerate(RECORDING_ENDS) if path.name.endswith(end))

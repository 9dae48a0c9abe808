"""Boxes of many recordings as columns: the truth, or what was detected.

A box is x0, y0, x1, y1 in float32 pixels from the top left, far edges exclusive. Times are microseconds on
the clock of the box's recording. Recordings have numbers, the same in all columns that belong together.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np

from snn.errors import DetectionError

# Columns and their types; `xyxy` has the shape [M, 4], the others [M].
COLUMNS: dict[str, np.dtype[Any]] = {
    "recording": np.dtype("i8"),
    "t": np.dtype("i8"),
    "xyxy": np.dtype("f4"),
    "class_id": np.dtype("i8"),
    "score": np.dtype("f4"),
    "ignore": np.dtype("?"),
}


def not_given() -> np.ndarray:
    """Return an empty column, which stands for the same value in every row."""
    return np.zeros(0)


@dataclass(frozen=True, eq=False)
class BoxColumns:
    """Boxes, converted to the types below; raises DetectionError where one is no box.

    Attributes:
        recording: Number of the recording, int64, shape [M].
        t: Time in microseconds, int64, shape [M]; of a detection, the end of what the detector had seen.
        xyxy: x0, y0, x1, y1 in pixels, float32, shape [M, 4]; x1 >= x0, y1 >= y0, all finite.
        class_id: Position in the names of the classes, int64, shape [M].
        score: How sure a detection is, float32, shape [M], finite; all 1 where not given.
        ignore: Of the truth: a detection of this box is neither right nor wrong. Bool, shape [M]; all
            False where not given.
    """

    recording: np.ndarray
    t: np.ndarray
    xyxy: np.ndarray
    class_id: np.ndarray
    score: np.ndarray = field(default_factory=not_given)
    ignore: np.ndarray = field(default_factory=not_given)

    def __post_init__(self) -> None:
        count = len(self.t)
        defaults = {"score": np.ones(count), "ignore": np.zeros(count, np.bool_)}
        for name, dtype in COLUMNS.items():
            given = getattr(self, name)
            column = np.ascontiguousarray(
                defaults[name] if name in defaults and len(given) == 0 else given, dtype
            )
            shape = (count, 4) if name == "xyxy" else (count,)
            if name == "xyxy" and column.size == 0:
                column = column.reshape(0, 4)
            if column.shape != shape:
                raise DetectionError(f"{name}: found shape {list(column.shape)}, expected {list(shape)}")
            object.__setattr__(self, name, column)
        self._check_values()

    def _check_values(self) -> None:
        finite = np.isfinite(self.xyxy).all(axis=1)
        for wrong, what, expected in (
            (~finite, "xyxy", "finite numbers"),
            ((self.xyxy[:, 2:] < self.xyxy[:, :2]).any(axis=1), "xyxy", "x1 >= x0 and y1 >= y0"),
            (~np.isfinite(self.score), "score", "a finite number"),
            (self.class_id < 0, "class_id", "0 or more"),
        ):
            if wrong.any():
                row = int(wrong.argmax())
                found = getattr(self, what)[row].tolist()
                raise DetectionError(
                    f"{what}, row {row} (recording {self.recording[row]}, t {self.t[row]}): found {found}, "
                    f"expected {expected}; {int(wrong.sum())} rows are so, leave them out"
                )

    def __len__(self) -> int:
        return len(self.t)

    def take(self, rows: np.ndarray) -> "BoxColumns":
        """Return the rows a mask or positions choose."""
        return BoxColumns(*(getattr(self, column.name)[rows] for column in fields(self)))

    def sides(self) -> np.ndarray:
        """Return width and height in pixels, float64, shape [M, 2]."""
        corners = self.xyxy.astype(np.float64)
        return corners[:, 2:] - corners[:, :2]


def no_boxes() -> BoxColumns:
    """Return columns without a row."""
    return BoxColumns(np.zeros(0), np.zeros(0), np.zeros((0, 4)), np.zeros(0))


class Moments(NamedTuple):
    """Times of recordings, sorted by (recording, t), none twice.

    Attributes:
        recording: int64, shape [F].
        t: Microseconds, int64, shape [F].
    """

    recording: np.ndarray
    t: np.ndarray

    def spans(self) -> Iterator[tuple[int, slice]]:
        """Give each recording and where its times are."""
        begins = np.flatnonzero(np.diff(self.recording, prepend=self.recording[:1] - 1))
        for start, stop in zip(begins, [*begins, len(self.recording)][1:], strict=True):
            yield int(self.recording[start]), slice(int(start), int(stop))


def moments_of(recording: np.ndarray, t: np.ndarray) -> tuple[Moments, np.ndarray]:
    """Return the distinct (recording, t) and, of each row, the position of its own; int64 [M]."""
    order = np.lexsort((t, recording))
    recordings, times = recording[order], t[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = (np.diff(recordings) != 0) | (np.diff(times) != 0)
    position = np.empty(len(order), np.int64)
    position[order] = np.cumsum(first) - 1
    return Moments(recordings[first], times[first]), position


def rows_by(number: np.ndarray) -> dict[int, np.ndarray]:
    """Return the rows of each number that occurs, ascending."""
    order = np.argsort(number, kind="stable")
    numbers, begin = np.unique(number[order], return_index=True)
    return dict(zip(numbers.tolist(), np.split(order, begin[1:])[: len(numbers)], strict=True))


def shared_area(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the area that boxes x0, y0, x1, y1 share, all pairs, px², float64, shape [N, M]."""
    first, second = first.astype(np.float64)[:, None], second.astype(np.float64)[None]
    near, far = np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:])
    return (far - near).clip(0).prod(axis=-1)


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return intersection over union of boxes x0, y0, x1, y1, all pairs, float64, shape [N, M].

    Boxes without area overlap nothing.
    """
    shared = shared_area(first, second)
    areas = [(boxes[:, 2:].astype(np.float64) - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)

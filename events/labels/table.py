"""The label table: all boxes of one recording as columns, whatever file they came from.

A box is x0, y0, x1, y1 in float32 pixels from the top left, far edges exclusive. Times are microseconds on
the clock of the recording's events. Most times of a recording have no label, and that says nothing about
them; `coverage` lists the spans in which it does: there, a time without a box is a time without an object.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from events.errors import LabelError

# Where a row comes from.
MANUAL, AUTO, INTERPOLATED, PREDICTED = range(4)
KIND_NAMES = ("manual", "auto", "interpolated", "predicted")

# Track of a box that belongs to none.
NO_TRACK = -1

# Columns and their types; `xyxy` has the shape [M, 4], the others [M].
COLUMNS: dict[str, np.dtype[Any]] = {
    "t": np.dtype("i8"),
    "xyxy": np.dtype("f4"),
    "class_id": np.dtype("u2"),
    "track_id": np.dtype("i8"),
    "score": np.dtype("f4"),
    "kind": np.dtype("u1"),
    "ignore": np.dtype("?"),
}


def no_coverage() -> np.ndarray:
    """Return no spans, int64, shape [0, 2]: nothing is known of times without a box."""
    return np.zeros((0, 2), np.int64)


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Boxes of one recording, sorted by (t, track_id); `make_table` sorts and converts what it is given.

    Attributes:
        t: Time in microseconds, int64, shape [M].
        xyxy: Boxes x0, y0, x1, y1 in pixels, float32, shape [M, 4].
        class_id: Position in `class_names`, uint16, shape [M].
        track_id: The same number for the same object, NO_TRACK for none, int64, shape [M]. Those of Gen1 are
            no tracks: a parked car gets a new one with every label (reported for Prophesee's
            toolbox).
        score: Confidence from 0 to 1, float32, shape [M].
        kind: MANUAL, AUTO, INTERPOLATED or PREDICTED, uint8, shape [M].
        ignore: Whether a detection of this box is neither right nor wrong, bool, shape [M].
        class_names: Names of the classes; empty where nobody has said them.
        sensor_hw: Height and width in pixels; None where nobody has said them.
        coverage: Spans [start, stop) in microseconds in which no box means no object, int64, shape [K, 2],
            in order, none touching the next.
    """

    t: np.ndarray
    xyxy: np.ndarray
    class_id: np.ndarray
    track_id: np.ndarray
    score: np.ndarray
    kind: np.ndarray
    ignore: np.ndarray
    class_names: tuple[str, ...] = ()
    sensor_hw: tuple[int, int] | None = None
    coverage: np.ndarray = field(default_factory=no_coverage)

    def __len__(self) -> int:
        return len(self.t)

    @cached_property
    def frame_t(self) -> np.ndarray:
        """Distinct times that have a box, ascending, int64, shape [F]."""
        return np.unique(self.t)

    @cached_property
    def frame_ptr(self) -> np.ndarray:
        """Rows by distinct time: frame i has those from frame_ptr[i] to frame_ptr[i + 1]; int64, [F + 1]."""
        return np.append(np.searchsorted(self.t, self.frame_t), len(self)).astype(np.int64)

    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns by name, in the order of `COLUMNS`."""
        return {name: getattr(self, name) for name in COLUMNS}

    def where(self, rows: np.ndarray) -> "LabelTable":
        """Return the rows of a mask, bool [M], or of positions in rising order; coverage stays."""
        return replace(self, **{name: column[rows] for name, column in self.columns().items()})

    def between(self, start_us: int, stop_us: int) -> "LabelTable":
        """Return the rows with start_us <= t < stop_us, and the coverage within."""
        first, last = np.searchsorted(self.t, [start_us, max(start_us, stop_us)])
        spans = np.clip(self.coverage, start_us, stop_us)
        kept = replace(self, coverage=spans[spans[:, 0] < spans[:, 1]])
        return kept.where(np.arange(first, last))

    def at(self, t_us: int) -> "LabelTable":
        """Return the rows of exactly that time."""
        first, last = np.searchsorted(self.t, [t_us, t_us + 1])
        return self.where(np.arange(first, last))

    def covers(self, times_us: np.ndarray) -> np.ndarray:
        """Whether each time, shape [N], lies in a span of the coverage; bool [N]."""
        span = np.searchsorted(self.coverage[:, 0], times_us, side="right") - 1
        stops = np.append(self.coverage[:, 1], np.iinfo(np.int64).min)
        return np.asarray((span >= 0) & (np.asarray(times_us) < stops[span]))

    def check(self, where: str = "labels") -> None:
        """Refuse what no label can be.

        Zero-sized boxes and boxes that reach beyond the sensor are found in published labels and are kept;
        `events labels audit` counts them.

        Args:
            where: Begins the message: the file.

        Raises:
            LabelError: Columns of other types or lengths, rows out of order, a coordinate or score that is no
                finite number, a box of negative width or height, a class without a name, a kind that is none,
                or coverage that is no list of spans.
        """
        self._check_shapes(where)
        numbers = np.column_stack([self.xyxy, self.score])
        self._refuse(
            where, ~np.isfinite(numbers).all(1), "has a coordinate or score that is no finite number"
        )
        sizes = self.xyxy[:, 2:] - self.xyxy[:, :2]
        self._refuse(where, (sizes < 0).any(1), "has a negative width or height")
        if self.class_names:
            known = f"known are 0 to {len(self.class_names) - 1} ({', '.join(self.class_names)})"
            self._refuse(where, self.class_id >= len(self.class_names), f"is of an unknown class; {known}")
        self._refuse(where, self.kind >= len(KIND_NAMES), f"has a kind beyond {len(KIND_NAMES) - 1}")
        later = np.append(self.t[1:], np.iinfo(np.int64).max), np.append(self.track_id[1:], 0)
        early = (later[0] < self.t) | ((later[0] == self.t) & (later[1] < self.track_id))
        self._refuse(where, early, "is out of order; sort by time, then track, as make_table does")
        spans = self.coverage.ravel()
        if (np.diff(spans) <= 0).any():
            raise LabelError(
                f"{where}: coverage {self.coverage.tolist()} is no list of separate spans [start, stop) "
                f"in order of time"
            )

    def _check_shapes(self, where: str) -> None:
        rows = len(self.t)
        for name, column in self.columns().items():
            shape = (rows, 4) if name == "xyxy" else (rows,)
            if column.shape != shape or column.dtype != COLUMNS[name]:
                raise LabelError(
                    f"{where}: column {name} is {column.dtype} {list(column.shape)}; expected "
                    f"{COLUMNS[name]} {list(shape)}; make_table converts"
                )
        if self.coverage.ndim != 2 or self.coverage.shape[1] != 2 or self.coverage.dtype != np.int64:
            raise LabelError(
                f"{where}: coverage is {self.coverage.dtype} {list(self.coverage.shape)}; "
                f"expected int64 [K, 2]"
            )

    def _refuse(self, where: str, wrong: np.ndarray, what: str) -> None:
        if wrong.any():
            row = int(np.argmax(wrong))
            corners = " ".join(f"{float(value):g}" for value in self.xyxy[row])
            raise LabelError(
                f"{where}: {int(wrong.sum())} of {len(self)} boxes cannot be used; that of row {row} "
                f"(t {self.t[row]} us, class {self.class_id[row]}, x0 y0 x1 y1 {corners}) {what}"
            )


def make_table(
    t: Any,
    xyxy: Any,
    class_id: Any,
    *,
    track_id: Any = None,
    score: Any = None,
    kind: Any = MANUAL,
    ignore: Any = None,
    class_names: Sequence[str] = (),
    sensor_hw: tuple[int, int] | None = None,
    coverage: Any = None,
    where: str = "labels",
) -> LabelTable:
    """Return a table of columns in any order and of any numeric types, sorted and checked.

    Args:
        t: Times in microseconds, shape [M].
        xyxy: Boxes x0, y0, x1, y1 in pixels, shape [M, 4].
        class_id: Classes, shape [M].
        track_id: Tracks, shape [M]; None gives NO_TRACK.
        score: Confidence, shape [M]; None gives 1.
        kind: MANUAL, AUTO, INTERPOLATED or PREDICTED: one for all, or shape [M].
        ignore: Shape [M]; None gives False.
        class_names: Names of the classes.
        sensor_hw: Height and width in pixels, where known.
        coverage: Spans [start, stop), shape [K, 2]; they are sorted, and joined where they touch.
        where: Begins the message of an error: the file.

    Raises:
        LabelError: Columns of different lengths, a time or class that does not fit its type, or what
            `LabelTable.check` refuses.
    """
    t = _whole(t, "t", where)
    columns = {
        "t": t,
        "xyxy": np.asarray(xyxy, np.float32).reshape(-1, 4),
        "class_id": _whole(class_id, "class_id", where),
        "track_id": np.full(len(t), NO_TRACK) if track_id is None else _whole(track_id, "track_id", where),
        "score": np.ones(len(t), np.float32) if score is None else np.asarray(score, np.float32),
        "kind": np.full(len(t), kind) if np.ndim(kind) == 0 else _whole(kind, "kind", where),
        "ignore": np.zeros(len(t), bool) if ignore is None else np.asarray(ignore, bool),
    }
    for name, column in columns.items():
        if len(column) != len(t):
            raise LabelError(f"{where}: {len(column)} values of {name} for {len(t)} times; expected as many")
    order = np.lexsort((columns["track_id"], t))
    table = LabelTable(
        **{name: np.asarray(column, COLUMNS[name])[order] for name, column in columns.items()},
        class_names=tuple(class_names),
        sensor_hw=sensor_hw,
        coverage=_joined(coverage),
    )
    table.check(where)
    return table


def _whole(values: Any, name: str, where: str) -> np.ndarray:
    """Return whole numbers as int64, shape [M], refusing those that are none or do not fit the column."""
    given = np.asarray(values).ravel()
    if given.size == 0:
        return np.zeros(0, np.int64)
    limit = np.iinfo(COLUMNS[name])
    lowest = limit.min if name != "track_id" else NO_TRACK
    # Compared before the cast: unsigned values above int64 would come out negative.
    whole = given.dtype.kind in "iub" or (
        given.dtype.kind == "f" and bool(np.isfinite(given).all() and (given == np.floor(given)).all())
    )
    if not whole:
        raise LabelError(f"{where}: {name} holds {given.dtype} values that are no whole numbers")
    low, high = given.min(), given.max()
    if int(low) < lowest or int(high) > limit.max:
        raise LabelError(f"{where}: {name} runs from {low} to {high}; expected {lowest} to {limit.max}")
    return given.astype(np.int64)


def _joined(coverage: Any) -> np.ndarray:
    """Return spans in order, those that touch or overlap as one, int64 [K, 2]."""
    if coverage is None:
        return no_coverage()
    spans = np.asarray(coverage, np.int64).reshape(-1, 2)
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    joined: list[list[int]] = []
    for start, stop in spans.tolist():
        if joined and start <= joined[-1][1] and start < stop:
            joined[-1][1] = max(joined[-1][1], stop)
        else:
            joined.append([start, stop])
    return np.array(joined, np.int64).reshape(-1, 2)

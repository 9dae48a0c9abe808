"""Turn columns of numbers into events: the shared part of the NumPy and the text reader."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from events.errors import ConfigError, DamagedRecording
from events.readers.column_rows import count_falls, pack_rows
from events.readers.source import Source
from events.recording import (
    DEFAULT_CHUNK_EVENTS,
    EVENT_DTYPE,
    EventBuffer,
    FileReport,
    ReadOptions,
    Recording,
)

US_PER_UNIT = {"us": 1, "ms": 1_000, "s": 1_000_000}

FIELD_NAMES: dict[str, tuple[str, ...]] = {
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "x": ("x", "xs", "x_pos"),
    "y": ("y", "ys", "y_pos"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on"),
}


class Columns(NamedTuple):
    """Which column of a table holds what.

    Attributes:
        t, x, y, p: Names or positions of the columns.
        unit: `us`, `ms` or `s`; None where the type says it: whole numbers are microseconds, others seconds.
    """

    t: Any
    x: Any
    y: Any
    p: Any
    unit: str | None = None


def match_names(names: list[str]) -> dict[str, str] | None:
    """Return the column name for each of t, x, y and p, whatever it is called; None where one is missing."""
    found = {}
    for field, known in FIELD_NAMES.items():
        name = next((name for name in names if name.strip().lower() in known), None)
        if name is None:
            return None
        found[field] = name
    return found


def parse_columns(text: str) -> Columns:
    """Return the columns that `ReadOptions.columns` describes, by position.

    Raises:
        ConfigError: It does not name each of t, x, y and p once.
    """
    names, unit = [], None
    for item in text.split(","):
        name, _, given = item.strip().partition(":")
        if name == "t" and given:
            unit = given
        names.append(name)
    if not {"t", "x", "y", "p"} <= set(names) or len(set(names)) != len(names):
        raise ConfigError(f"columns {text!r} must name t, x, y and p once each, such as 't:ms,x,y,p'")
    if unit is not None and unit not in US_PER_UNIT:
        raise ConfigError(
            f"columns {text!r}: unit {unit!r} of t is unknown; known are {', '.join(US_PER_UNIT)}"
        )
    t, x, y, p = (names.index(field) for field in "txyp")
    return Columns(t, x, y, p, unit)


class Places(Protocol):
    """Where rows are: an array, or something that works it out for the few that are asked for."""

    def __getitem__(self, row: int, /) -> Any:
        """Return the byte of a row."""


@dataclass(frozen=True)
class EvenPlaces:
    """Rows that lie one behind the other.

    Attributes:
        start: Byte of row 0.
        row_bytes: From one row to the next.
    """

    start: int
    row_bytes: int

    def __getitem__(self, row: int, /) -> int:
        """Return the byte of a row."""
        return self.start + row * self.row_bytes


@dataclass(frozen=True)
class Block:
    """Some rows of a table.

    Attributes:
        t, x, y, p: The columns, shape [n], any number type.
        position: Gives the byte of a row in the file by its number, or of the part that holds all of them.
        row_bytes: Length of a row, or 0 where rows have no length of their own.
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    position: Places
    row_bytes: int


# Opens the table for one pass, reporting rows it cannot even split into columns.
OpenTable = Callable[[FileReport], AbstractContextManager[Iterator[Block]]]


class ColumnRecording(Recording):
    """A recording whose events are rows of a table."""

    def __init__(
        self,
        source: Source,
        options: ReadOptions,
        *,
        name: str,
        open_table: OpenTable,
        unit: str | None,
        sensor_hw: tuple[int, int] | None,
        facts: dict[str, Any],
    ) -> None:
        """Describe the table; no row is read yet. `sensor_hw` None takes it from the events."""
        self.path = source.path
        self.format = name
        self.facts = facts
        self.report = FileReport(str(source.path), name, bytes_total=source.size)
        self._size = source.size
        self._strict = options.damage == "strict"
        self._open_table = open_table
        self._unit = unit
        self._sensor_hw = options.sensor_hw or sensor_hw
        self._room = EventBuffer()

    @cached_property
    def sensor_hw(self) -> tuple[int, int]:  # type: ignore[override]
        """Height and width in pixels; where nothing says them, just large enough for every event."""
        if self._sensor_hw is not None:
            return self._sensor_hw
        last_y = last_x = 0
        with self._open_table(FileReport("", self.format)) as blocks:
            for block in blocks:
                events, _ = self._events(block, None)
                last_y = max(last_y, int(events["y"].max(initial=0)))
                last_x = max(last_x, int(events["x"].max(initial=0)))
        return last_y + 1, last_x + 1

    def decode_chunks(self, *, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[np.ndarray]:
        """Yield the events in file order, at most `max_events` at a time; see `Recording.decode_chunks`."""
        if max_events < 1:
            raise ConfigError(f"max_events must be at least 1, got {max_events}")
        sensor_hw = self.sensor_hw
        self.report = FileReport(str(self.path), self.format, bytes_total=self._size)
        with self._open_table(self.report) as blocks:
            for block in blocks:
                events, bad = self._events(block, sensor_hw)
                good = self._leave_out(block, bad)
                if good < len(bad):  # strict: first deliver what is good
                    events = events[: good - int(np.count_nonzero(bad[:good]))]
                for start in range(0, len(events), max_events):
                    yield self._counted(events[start : start + max_events])
                if good < len(bad):
                    self._raise_damage(block, good, sensor_hw)
        self.report.bytes_read = self._size - self.report.bytes_skipped

    def _events(self, block: Block, sensor_hw: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the good rows as events, and which rows are bad: shape [n], 1 outside, 2 no event at all."""
        if all(column.dtype.kind in "iu" for column in (block.t, block.x, block.y, block.p)):
            return self._whole_events(block, sensor_hw or (1 << 16, 1 << 16))
        height, width = sensor_hw or (1 << 16, 1 << 16)
        inside = (block.x >= 0) & (block.x < width) & (block.y >= 0) & (block.y < height)
        whole = (block.x == np.floor(block.x)) & (block.y == np.floor(block.y))
        polarity = (block.p == 0) | (block.p == 1) | (block.p == -1)
        sound = np.isfinite(block.t) & whole & polarity
        bad = np.where(sound, np.where(inside, 0, 1), 2)
        good = bad == 0
        events = np.zeros(int(np.count_nonzero(good)), EVENT_DTYPE)
        events["t"] = self._microseconds(block.t[good])
        events["x"] = block.x[good]
        events["y"] = block.y[good]
        events["p"] = block.p[good] > 0
        return events, bad

    def _whole_events(self, block: Block, sensor_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the same as `_events`, in memory that the next call overwrites, for whole numbers."""
        rows = len(block.t)
        room = self._room.room(rows)
        bad = np.empty(rows, np.uint8)
        x, y, p = (column.astype(np.int64) for column in (block.x, block.y, block.p))
        t = self._microseconds(block.t)
        n = pack_rows(t, x, y, p, sensor_hw, room.view(np.int64), bad)
        return room[:n], bad

    def _microseconds(self, t: np.ndarray) -> np.ndarray:
        """Return times as int64 microseconds, rounded to the nearest."""
        whole = np.issubdtype(t.dtype, np.integer)
        factor = US_PER_UNIT[self._unit or ("us" if whole else "s")]
        if whole:
            return t.astype(np.int64) * factor
        return np.rint(t * factor).astype(np.int64)

    def _leave_out(self, block: Block, bad: np.ndarray) -> int:
        """Count the rows left out; return how many rows to deliver, all of them unless strict."""
        rows = np.flatnonzero(bad)
        if len(rows) == 0:
            return len(bad)
        if self.report.first_damage_byte is None:
            self.report.first_damage_byte = int(block.position[int(rows[0])])
        if self._strict:
            return int(rows[0])
        self.report.out_of_sensor += int(np.count_nonzero(bad == 1))
        self.report.bytes_skipped += int(np.count_nonzero(bad == 2)) * block.row_bytes
        if np.any(bad == 2):
            self._note("rows without a whole pixel, a time and a polarity of -1, 0 or 1 are left out")
        return len(bad)

    def _note(self, note: str) -> None:
        """Add a note once."""
        if note not in self.report.notes:
            self.report.notes.append(note)

    def _raise_damage(self, block: Block, row: int, sensor_hw: tuple[int, int]) -> None:
        """Raise for a row that is no event of this sensor."""
        found = ", ".join(f"{name}={getattr(block, name)[row]}" for name in "txyp")
        raise DamagedRecording(
            f"{self.path}: byte {int(block.position[row])}: {found} is no event of a sensor of "
            f"{sensor_hw[0]}x{sensor_hw[1]}; read with damage 'skip' to leave it out"
        )

    def _counted(self, events: np.ndarray) -> np.ndarray:
        """Add events to the report and return them."""
        report = self.report
        previous = report.t_last_us if report.t_last_us is not None else int(events["t"][0])
        falls, deepest = count_falls(events.view(np.int64), previous)
        report.backward_steps += falls
        report.largest_backward_us = max(report.largest_backward_us, deepest)
        if report.t_first_us is None:
            report.t_first_us = int(events["t"][0])
        report.t_last_us = int(events["t"][-1])
        report.events += len(events)
        return events

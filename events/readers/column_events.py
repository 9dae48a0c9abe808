"""Turn columns of numbers into events: the shared part of the NumPy and the text reader."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from events.errors import ConfigError, DamagedRecording
from events.readers.column_rows import count_falls, pack_rows, pack_sound
from events.readers.once import Once
from events.readers.source import Source
from events.recording import (
    DEFAULT_CHUNK_EVENTS,
    Bookmark,
    EventBuffer,
    FileReport,
    ReadOptions,
    Recording,
)

# Rows and columns have 16 bits in memory; where nothing says the sensor, all of them may be.
LARGEST_HW = (1 << 16, 1 << 16)

# Types of x and y that are packed as they lie, with the first number beyond those that are not negative.
SHORT = {np.dtype(np.uint16): 1 << 16, np.dtype(np.int16): 1 << 15}

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
        stop: Place behind the last row, in whatever the table counts: rows, or bytes of the file.
        t_offset_us: Added to every time, microseconds.
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    position: Places
    row_bytes: int
    stop: int
    t_offset_us: int = 0


# Opens the table at a place for one pass, reporting rows it cannot even split into columns.
OpenTable = Callable[[FileReport, int], AbstractContextManager[Iterator[Block]]]


class TablePlace(NamedTuple):
    """Where decoding stood.

    Attributes:
        place: Of the table, at or before the rows at hand: where these are decoded from once more.
        report: What had been found up to there.
        events: Events behind it that have been delivered.
    """

    place: int
    report: FileReport
    events: int


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
        rows: int,
        first_place: int = 0,
    ) -> None:
        """Describe the table; no row is read yet.

        `sensor_hw` None takes it from the events; `rows` is about how many there are, at most one for each
        byte of the file is believed; `first_place` is that of the first row.
        """
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
        self._falls = 0, 0  # among the events packed last, where all rows were sound
        self._likely_events = min(rows, source.size)
        self._first_place = first_place
        self._reached: TablePlace | None = None

    @Once
    def sensor_hw(self) -> tuple[int, int]:
        """Height and width in pixels; where nothing says them, just large enough for every event."""
        if self._sensor_hw is not None:
            return self._sensor_hw
        last_y = last_x = 0
        with self._open_table(FileReport("", self.format), self._first_place) as blocks:
            for block in blocks:
                events, _ = self._events(block, self._room.room(len(block.t)))
                last_y = max(last_y, int(events["y"].max(initial=0)))
                last_x = max(last_x, int(events["x"].max(initial=0)))
        return last_y + 1, last_x + 1

    def decode_chunks(self, *, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[np.ndarray]:
        """Yield the events in file order, at most `max_events` at a time; see `Recording.decode_chunks`."""
        yield from self._decode(self._start(), max_events, self._room.room)

    def read_into(self, buffer: EventBuffer) -> np.ndarray:
        """Return all events in memory that the next call overwrites; see `Recording.read_into`."""
        buffer.room(self._likely_events)
        events = 0

        def behind(rows: int) -> np.ndarray:
            return buffer.grow(events + rows, kept=events)[events:]

        for chunk in self._decode(self._start(), sys.maxsize, behind):
            events += len(chunk)
        return buffer.room(events)

    def bookmark(self) -> Bookmark | None:
        """Return the place behind the chunk yielded last; see `Recording.bookmark`."""
        return None if self._reached is None else Bookmark(self._reached, self.report.copy())

    def decode_from(self, place: Bookmark, *, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[np.ndarray]:
        """Yield the events behind a bookmark; see `Recording.decode_from`."""
        yield from self._decode(place.at, max_events, self._room.room)

    def _start(self) -> TablePlace:
        """Return the place before the first row."""
        return TablePlace(
            self._first_place, FileReport(str(self.path), self.format, bytes_total=self._size), 0
        )

    def _decode(
        self, reached: TablePlace, max_events: int, room: Callable[[int], np.ndarray]
    ) -> Iterator[np.ndarray]:
        """Yield the events behind a place; `room` gives memory for those of so many rows."""
        if max_events < 1:
            raise ConfigError(f"max_events must be at least 1, got {max_events}")
        place, before, known = reached
        self.report, self._reached = before.copy(), None
        with self._open_table(self.report, place) as blocks:
            for block in blocks:
                rows = len(block.t)
                events, bad = self._events(block, room(rows))
                good = rows if bad is None else self._leave_out(block, bad)
                if bad is not None and good < rows:  # strict: first deliver what is good
                    events = events[: good - int(np.count_nonzero(bad[:good]))]
                start = min(known, len(events))
                if start:
                    self._count(events[:start])
                known -= start
                for first in range(start, len(events), max_events):
                    chunk = events[first : first + max_events]
                    self._count(chunk, self._falls if bad is None and len(chunk) == rows else None)
                    self._reached = TablePlace(place, before, first + len(chunk))
                    yield chunk
                if good < rows:
                    self._raise_damage(block, good)
                place, before = block.stop, self.report.copy()
        self.report.bytes_read = self._size - self.report.bytes_skipped

    @property
    def _bounds(self) -> tuple[int, int]:
        """Height and width within which rows are events."""
        return self._sensor_hw or LARGEST_HW

    def _events(self, block: Block, room: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the good rows as events in `room`, and which are bad; None where none is.

        Bad rows: uint8, shape [n], 1 outside the sensor, 2 no event at all.
        """
        if all(column.dtype.kind in "iu" for column in (block.x, block.y, block.p)):
            t = self._microseconds(block.t)
            if t is not None:
                return self._whole_events(block, t, room)
        height, width = self._bounds
        inside = (block.x >= 0) & (block.x < width) & (block.y >= 0) & (block.y < height)
        whole = (block.x == np.floor(block.x)) & (block.y == np.floor(block.y))
        polarity = (block.p == 0) | (block.p == 1) | (block.p == -1)
        sound = np.isfinite(block.t) & whole & polarity
        bad = np.where(sound, np.where(inside, 0, 1), 2)
        good = bad == 0
        events = room[: int(np.count_nonzero(good))]
        events.view(np.int64)[:] = 0
        events["t"] = self._microseconds(block.t[good])
        events["t"] += block.t_offset_us
        events["x"] = block.x[good]
        events["y"] = block.y[good]
        events["p"] = block.p[good] > 0
        return events, bad

    def _whole_events(
        self, block: Block, t: np.ndarray, room: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the same as `_events` for whole numbers, with the times in microseconds."""
        words, offset_us, (height, width) = room.view(np.int64), block.t_offset_us, self._bounds
        if block.x.dtype in SHORT and block.y.dtype in SHORT and np.can_cast(block.p.dtype, np.int16):
            # A negative number of 16 bits is, without its sign, above all of those that are not.
            bounds = min(height, SHORT[block.y.dtype]), min(width, SHORT[block.x.dtype])
            x, y = block.x.view(np.uint16), block.y.view(np.uint16)
            p = block.p.astype(np.int16, copy=False)
            sound, self._falls = pack_sound(t, offset_us, x, y, p, bounds, words)
            if sound:
                return room[: len(t)], None
        t64, x64, y64, p64 = (np.ascontiguousarray(part, np.int64) for part in (t, block.x, block.y, block.p))
        sound, self._falls = pack_sound(t64, offset_us, x64, y64, p64, (height, width), words)
        if sound:
            return room[: len(t)], None
        bad = np.empty(len(t), np.uint8)
        n = pack_rows(t64 + offset_us, x64, y64, p64, (height, width), words, bad)
        return room[:n], bad

    def _microseconds(self, t: np.ndarray) -> np.ndarray | None:
        """Return times as whole microseconds, rounded to the nearest; None where some are no numbers."""
        whole = np.issubdtype(t.dtype, np.integer)
        factor = US_PER_UNIT[self._unit or ("us" if whole else "s")]
        if not whole:
            return np.rint(t * factor).astype(np.int64) if np.isfinite(t).all() else None
        if factor == 1:
            return t if t.dtype == np.uint32 else t.astype(np.int64, copy=False)
        return t.astype(np.int64) * factor

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

    def _raise_damage(self, block: Block, row: int) -> None:
        """Raise for a row that is no event of this sensor."""
        height, width = self._bounds
        t = block.t[row] + block.t_offset_us
        found = ", ".join([f"t={t}", *(f"{name}={getattr(block, name)[row]}" for name in "xyp")])
        raise DamagedRecording(
            f"{self.path}: byte {int(block.position[row])}: {found} is no event of a sensor of "
            f"{height}x{width}; read with damage 'skip' to leave it out"
        )

    def _count(self, events: np.ndarray, falls: tuple[int, int] | None = None) -> None:
        """Add events, at least one, to the report, with what `count_falls` says of them where it is known."""
        report, first_us = self.report, int(events["t"][0])
        steps, deepest = falls or count_falls(events.view(np.int64))
        before_us = first_us if report.t_last_us is None else report.t_last_us
        report.backward_steps += steps + (before_us > first_us)
        fall = before_us - first_us
        report.largest_backward_us = max(report.largest_backward_us, deepest, fall if fall < 1 << 63 else 0)
        if report.t_first_us is None:
            report.t_first_us = first_us
        report.t_last_us = int(events["t"][-1])
        report.events += len(events)

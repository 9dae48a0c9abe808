"""Text columns: one event a line, separated by commas, semicolons, tabs or spaces.

The order of the columns is taken from, first to last: `ReadOptions.columns`; a first line of names (also as
a `#` or `%` comment), each any of `column_events.FIELD_NAMES`; comments that start with `%`, which
Prophesee's tools write above x,y,p,t; four columns of which the first alone has a decimal point, which is
the Robotics and Perception Group's "t x y p" in seconds. Anything else could mean anything and is refused.

Time is microseconds where the column has no decimal point in the first lines, and seconds where it has.
A last line without a line end is taken for cut off, unless polarity is the last column and is there.
Blank lines and comments are passed over anywhere. The sensor's size is taken from Prophesee's `% geometry`
comment, or from a first line of width and height, with which the text files of rpg_e2vid begin. `salvage`
does the same as `skip`: lines have no place to get out of step.
"""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from events.errors import DamagedRecording, UnknownFormat
from events.readers.byte_window import READ_BYTES, ByteWindow
from events.readers.column_events import Block, ColumnRecording, Columns, match_names, parse_columns
from events.readers.conventions import only_plain_conventions
from events.readers.source import Source
from events.readers.text_lines import LINE, POLARITY, SHORTEST_LINE, SPACE, TAB, TIME, X, Y, parse_lines
from events.recording import FileReport, ReadOptions

# Lines at the start that tell the unit of time.
LOOKED_AT_LINES = 100

# Powers of ten that make microseconds of a time.
MICROSECONDS = {"us": 0, "ms": 3, "s": 6}

NOT_TEXT = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\Z")
POLARITY_WORDS = ("true", "false")

# Prophesee's metavision_file_to_csv writes x,y,p,t. Source: openeb, metavision_file_to_csv.cpp.
GEOMETRY = re.compile(r"%\s*geometry[:\s]\s*(\d{1,5})\s*[x,]\s*(\d{1,5})\s*\Z", re.IGNORECASE)
PROPHESEE_COLUMNS = Columns(t=3, x=0, y=1, p=2)
RPG_COLUMNS = Columns(t=0, x=1, y=2, p=3, unit="s")


@dataclass(frozen=True)
class TextLayout:
    """How lines become events.

    Attributes:
        delimiter: Between columns; None for any white space.
        separator: The byte that it most often is.
        columns: Which column holds what, with the unit of time.
        data_offset: Byte of the first line of data.
        sensor_hw: Height and width in pixels; None where the first lines do not say.
    """

    delimiter: str | None
    separator: int
    columns: Columns
    data_offset: int
    sensor_hw: tuple[int, int] | None = None


def is_text(head: bytes) -> bool:
    """Whether these are lines of columns: comments, perhaps a line of names, then numbers."""
    if NOT_TEXT.search(head):
        return False
    start = first_lines(head)
    return bool(start.row) or match_names(start.names) is not None


def open_csv(source: Source, options: ReadOptions) -> ColumnRecording:
    """Open a text file of events."""
    only_plain_conventions(options, format_name="a text file")
    layout = text_layout(source, options)

    @contextmanager
    def table(report: FileReport, start: int) -> Iterator[Iterator[Block]]:
        with closing(ByteWindow(source, start)) as window:
            yield read_blocks(window, source, layout, report, strict=options.damage == "strict")

    order = sorted("txyp", key=lambda field: getattr(layout.columns, field))
    facts = {"columns": ",".join(order), "unit": layout.columns.unit}
    return ColumnRecording(
        source,
        options,
        name="csv",
        open_table=table,
        unit="us",
        sensor_hw=layout.sensor_hw,
        facts=facts,
        rows=source.size // SHORTEST_LINE,
        first_place=layout.data_offset,
    )


def split(line: str, delimiter: str | None) -> list[str]:
    """Return the columns of a line."""
    return [item.strip() for item in line.split(delimiter)]


def delimiter_of(line: str) -> str | None:
    """Return what separates the columns of a line; None for white space."""
    return next((mark for mark in (",", ";") if mark in line), None)


class Start(NamedTuple):
    """What the first lines of a file are.

    Attributes:
        comments: Lines before the data that start with `#` or `%`.
        names: The line of names, split; empty where there is none.
        row: The first row of numbers, split; empty where there is none.
        line: The line that shows how columns are separated: that row, or else the names.
        data_offset: Byte after the comments and the names.
    """

    comments: list[str]
    names: list[str]
    row: list[str]
    line: str
    data_offset: int


def first_lines(head: bytes) -> Start:
    """Look at the lines up to the first row of numbers."""
    comments: list[str] = []
    names: list[str] = []
    named_line = ""
    offset = data_offset = 0
    for raw in head.splitlines(keepends=True):
        line = raw.decode("utf-8", errors="replace").strip().lstrip("\ufeff")
        offset += len(raw)
        items = split(line, delimiter_of(line))
        if line.startswith(("#", "%")) and not names:
            comments.append(line)
            data_offset = offset
        elif len(items) >= 4 and all(NUMBER.match(item) or item.lower() in POLARITY_WORDS for item in items):
            return Start(comments, names, items, line, data_offset)
        elif line and names:
            break
        elif line:
            names, named_line, data_offset = items, line, offset
    return Start(comments, names, [], named_line, data_offset)


def text_layout(source: Source, options: ReadOptions) -> TextLayout:
    """Find out how the lines become events.

    Raises:
        UnknownFormat: The order of the columns cannot be known.
    """
    start = first_lines(source.head)
    if not start.row and match_names(start.names) is None:
        raise UnknownFormat(
            f"{source.path}: byte 0: no line of column names and no row of four numbers; expected t, x, y, p"
        )
    delimiter = delimiter_of(start.line)
    columns = order_of(start, delimiter, options)
    if columns is None:
        raise UnknownFormat(
            f"{source.path}: {len(start.row)} columns without names, whose order is not in the file; "
            "say it with columns, such as 't,x,y,p', or add a first line of names"
        )
    if start.row and max(columns[:4]) >= len(start.row):
        raise UnknownFormat(
            f"{source.path}: byte {start.data_offset}: {len(start.row)} columns, fewer than named; "
            "expected t, x, y, p"
        )
    if columns.unit is None:
        head = source.head[start.data_offset :].decode("utf-8", errors="replace")
        lines = head.splitlines()[:LOOKED_AT_LINES]
        times = [
            items[columns.t] for items in (split(line, delimiter) for line in lines) if len(items) > columns.t
        ]
        columns = columns._replace(
            unit="s" if any(mark in time for time in times for mark in ".eE") else "us"
        )
    separator = ord(delimiter) if delimiter else TAB if "\t" in start.line else SPACE
    return TextLayout(delimiter, separator, columns, start.data_offset, sensor_of(start))


def sensor_of(start: Start) -> tuple[int, int] | None:
    """Return height and width from Prophesee's comment, or from a first line of width and height alone."""
    said = [match.groups() for text in start.comments if (match := GEOMETRY.match(text))]
    if not said and len(start.names) == 2 and all(name.isdecimal() for name in start.names):
        said = [(start.names[0], start.names[1])]
    if not said:
        return None
    width, height = int(said[0][0]), int(said[0][1])
    return (height, width) if 0 < height <= 65536 and 0 < width <= 65536 else None


def order_of(start: Start, delimiter: str | None, options: ReadOptions) -> Columns | None:
    """Return which column is which, or None where nothing says it."""
    if options.columns is not None:
        return parse_columns(options.columns)
    comments, row = start.comments, start.row
    for candidate in [start.names, *(split(text.lstrip("#% "), delimiter) for text in reversed(comments))]:
        found = match_names(candidate)
        if found is not None:
            t, x, y, p = (candidate.index(found[field]) for field in "txyp")
            return Columns(t, x, y, p)
    pointed = ["." in item for item in row]
    if pointed == [True, False, False, False] and row[3] in ("0", "1", "-1"):
        return RPG_COLUMNS
    if any(text.startswith("%") for text in comments) and pointed == [False] * 4:
        return PROPHESEE_COLUMNS
    return None


@dataclass(frozen=True)
class LinePlaces:
    """Where lines are, some of which lie between `base` and the next piece of the file."""

    base: int
    lines: np.ndarray

    def __getitem__(self, row: int, /) -> int:
        """Return the byte of a row."""
        return self.base + int(self.lines[row])


def read_blocks(
    window: ByteWindow, source: Source, layout: TextLayout, report: FileReport, *, strict: bool
) -> Iterator[Block]:
    """Yield the rows of the file, some 512 KiB of lines at a time; each block voids the one before."""
    columns = np.empty((5, READ_BYTES // SHORTEST_LINE), np.int64)
    pending = 0  # bytes of a line whose end has not been read
    while window.have(2 * pending + 1) or window.stop > window.at + pending:
        base = window.position - window.at
        rows, damage = parse_window(window, layout, columns, strict=strict)
        stopped = strict and damage[0]
        pending = 0 if stopped or rows == columns.shape[1] else window.stop - window.at
        if damage[0] and not (stopped and rows):
            note_malformed(window, damage, base, source.path, report, strict=strict)
        if rows:
            yield block_of(columns[:, :rows], base, window.position)
    if window.stop > window.at:
        yield from last_line(window, source.path, layout, columns, report, strict=strict)


def parse_window(
    window: ByteWindow, layout: TextLayout, columns: np.ndarray, *, strict: bool
) -> tuple[int, np.ndarray]:
    """Parse the whole lines in a window; return the rows written and the damage, as `parse_lines` does."""
    fields = np.full(max(layout.columns[:4]) + 1, LINE)
    fields[list(layout.columns[:4])] = TIME, X, Y, POLARITY
    damage = np.empty(3, np.int64)
    unit = MICROSECONDS[layout.columns.unit or "us"]
    after, rows = parse_lines(
        window.raw, window.at, window.stop, layout.separator, fields, unit, strict, columns, damage
    )
    window.at = int(after)
    return int(rows), damage


def block_of(columns: np.ndarray, base: int, stop: int) -> Block:
    """Return rows as `parse_lines` writes them, of lines counted from byte `base` of the file."""
    return Block(
        t=columns[TIME],
        x=columns[X],
        y=columns[Y],
        p=columns[POLARITY],
        position=LinePlaces(base, columns[LINE]),
        row_bytes=0,
        stop=stop,
    )


def note_malformed(
    window: ByteWindow, damage: np.ndarray, base: int, path: Path, report: FileReport, *, strict: bool
) -> None:
    """Report lines that are no event."""
    first = int(damage[2])
    if report.first_damage_byte is None:
        report.first_damage_byte = base + first
    if strict:
        line = window.raw[first : first + 400].tobytes().split(b"\n")[0].decode("utf-8", errors="replace")
        raise DamagedRecording(
            f"{path}: byte {base + first}: line {line.strip()[:60]!r} is no event; "
            "read with damage 'skip' to leave it out"
        )
    report.bytes_skipped += int(damage[1])
    note = "lines that are no event are left out"
    if note not in report.notes:
        report.notes.append(note)


def last_line(
    window: ByteWindow,
    path: Path,
    layout: TextLayout,
    columns: np.ndarray,
    report: FileReport,
    *,
    strict: bool,
) -> Iterator[Block]:
    """Yield the last line, which has no end, if it can be whole."""
    position = window.position
    rest = window.raw[window.at : window.stop].tobytes()
    if not rest.strip():
        return
    order = layout.columns[:4]
    items = split(rest.decode("utf-8", errors="replace"), layout.delimiter)
    if layout.columns.p == max(order) == len(items) - 1:
        window.raw, window.at, window.stop = np.frombuffer(rest + b"\n", np.uint8), 0, len(rest) + 1
        rows, _ = parse_window(window, layout, columns, strict=True)
        if rows:
            yield block_of(columns[:, :rows], position, position + len(rest))
            return
    if report.first_damage_byte is None:
        report.first_damage_byte = position
    if strict:
        raise DamagedRecording(
            f"{path}: byte {position}: the file ends inside a line; read with damage 'skip' to leave it out, "
            "or add a line end if it is whole"
        )
    report.partial_records = 1

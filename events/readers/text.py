"""Text columns: one event a line, separated by commas, semicolons, tabs or spaces.

The order of the columns is taken from, first to last: `ReadOptions.columns`; a first line of names (also as
a `#` or `%` comment), each any of `column_events.FIELD_NAMES`; comments that start with `%`, which
Prophesee's tools write above x,y,p,t; four columns of which the first alone has a decimal point, which is
the Robotics and Perception Group's "t x y p" in seconds. Anything else could mean anything and is refused.

Time is microseconds where the column has no decimal point in the first lines, and seconds where it has.
A last line without a line end is taken for cut off, unless polarity is the last column and is there.
The sensor's size is taken from Prophesee's `% geometry` comment, or from a first line of width and height,
with which the text files of rpg_e2vid begin. `salvage` does the same as `skip`: lines have no place to get
out of step.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from events.errors import DamagedRecording, UnknownFormat
from events.readers.column_events import Block, ColumnRecording, Columns, match_names, parse_columns
from events.readers.columns import open_file
from events.readers.conventions import only_plain_conventions
from events.readers.source import Source
from events.recording import FileReport, ReadOptions

# Bytes of lines parsed at a time.
PIECE_BYTES = 1 << 20

NOT_TEXT = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\Z")
POLARITY_WORDS = {"true": 1.0, "false": 0.0}

# Prophesee's metavision_file_to_csv writes x,y,p,t. Source: openeb, metavision_file_to_csv.cpp.
GEOMETRY = re.compile(r"%\s*geometry[:\s]\s*(\d{1,5})\s*[x,]\s*(\d{1,5})\s*\Z", re.IGNORECASE)
PROPHESEE_COLUMNS = Columns(t=3, x=0, y=1, p=2)
RPG_COLUMNS = Columns(t=0, x=1, y=2, p=3, unit="s")


@dataclass(frozen=True)
class TextLayout:
    """How lines become events.

    Attributes:
        delimiter: Between columns; None for any white space.
        columns: Which column holds what, with the unit of time.
        data_offset: Byte of the first line of data.
        sensor_hw: Height and width in pixels; None where the first lines do not say.
    """

    delimiter: str | None
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
    def table(report: FileReport) -> Iterator[Iterator[Block]]:
        yield read_blocks(source.path, layout, report, strict=options.damage == "strict")

    order = sorted("txyp", key=lambda field: getattr(layout.columns, field))
    facts = {"columns": ",".join(order), "unit": layout.columns.unit}
    return ColumnRecording(
        source,
        options,
        name="csv",
        open_table=table,
        unit=layout.columns.unit,
        sensor_hw=layout.sensor_hw,
        facts=facts,
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
        lines = source.head[start.data_offset :].decode("utf-8", errors="replace").splitlines()
        times = [
            items[columns.t] for items in (split(line, delimiter) for line in lines) if len(items) > columns.t
        ]
        columns = columns._replace(
            unit="s" if any(mark in time for time in times for mark in ".eE") else "us"
        )
    return TextLayout(delimiter, columns, start.data_offset, sensor_of(start))


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
    if any(text.startswith("%") for text in comments) and len(row) == 4:
        return PROPHESEE_COLUMNS
    pointed = ["." in item for item in row]
    if pointed == [True, False, False, False] and row[3] in ("0", "1", "-1"):
        return RPG_COLUMNS
    return None


def read_blocks(path: Path, layout: TextLayout, report: FileReport, *, strict: bool) -> Iterator[Block]:
    """Yield the rows of the file, some 1 MiB of lines at a time."""
    with open_file(path) as stream:
        position = layout.data_offset
        stream.seek(position)
        rest = b""
        while piece := stream.read(PIECE_BYTES):
            lines, mark, rest = (rest + piece).rpartition(b"\n")
            if mark:
                yield parse(lines + mark, position, path, layout, report, strict)
                position += len(lines) + 1
        if rest.strip():
            yield from last_line(rest, position, path, layout, report, strict)


def parse(
    lines: bytes, position: int, path: Path, layout: TextLayout, report: FileReport, strict: bool
) -> Block:
    """Turn whole lines into columns; lines that are none are reported and left out."""
    starts = (
        position + np.concatenate(([0], np.flatnonzero(np.frombuffer(lines, np.uint8) == ord("\n")) + 1))[:-1]
    )
    text = lines.decode("utf-8", errors="replace").split("\n")[:-1]
    order = layout.columns[:4]
    try:
        rows = np.loadtxt(text, delimiter=layout.delimiter, usecols=order, ndmin=2, comments=None)
    except ValueError:
        rows = np.empty((0, 4))
    if len(rows) != len(text):  # blank or malformed lines: find out which
        parsed = [numbers(line, layout) for line in text]
        lengths = np.diff(starts, append=position + len(lines))
        for line, start, length, row in zip(text, starts, lengths, parsed, strict=True):
            if row is None and line.strip():
                report_malformed(line, int(start), int(length), path, report, strict)
        kept = [i for i, row in enumerate(parsed) if row is not None]
        rows = np.array([parsed[i] for i in kept], dtype=np.float64).reshape(-1, 4)
        starts = starts[kept]
    t = rows[:, 0]
    return Block(t, rows[:, 1], rows[:, 2], rows[:, 3], position=starts, row_bytes=0)


def numbers(line: str, layout: TextLayout) -> list[float] | None:
    """Return t, x, y and p of a line, or None where it is no event."""
    items = split(line, layout.delimiter)
    if len(items) <= max(layout.columns[:4]):
        return None
    picked = [items[column] for column in layout.columns[:4]]
    picked[3] = str(POLARITY_WORDS.get(picked[3].lower(), picked[3]))
    return [float(item) for item in picked] if all(NUMBER.match(item) for item in picked) else None


def report_malformed(
    line: str, position: int, length: int, path: Path, report: FileReport, strict: bool
) -> None:
    """Report a line that is no event; it has `length` bytes with its end."""
    if report.first_damage_byte is None:
        report.first_damage_byte = position
    if strict:
        raise DamagedRecording(
            f"{path}: byte {position}: line {line.strip()[:60]!r} is no event; "
            "read with damage 'skip' to leave it out"
        )
    report.bytes_skipped += length
    note = "lines that are no event are left out"
    if note not in report.notes:
        report.notes.append(note)


def last_line(
    rest: bytes, position: int, path: Path, layout: TextLayout, report: FileReport, strict: bool
) -> Iterator[Block]:
    """Yield the last line, which has no end, if it can be whole."""
    columns = layout.columns
    items = split(rest.decode("utf-8", errors="replace"), layout.delimiter)
    if columns.p == max(columns[:4]) == len(items) - 1 and numbers(
        rest.decode("utf-8", errors="replace"), layout
    ):
        yield parse(rest + b"\n", position, path, layout, report, strict)
        return
    if report.first_damage_byte is None:
        report.first_damage_byte = position
    if strict:
        raise DamagedRecording(
            f"{path}: byte {position}: the file ends inside a line; read with damage 'skip' to leave it out, "
            "or add a line end if it is whole"
        )
    report.partial_records = 1

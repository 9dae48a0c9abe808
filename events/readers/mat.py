"""MATLAB files (`.mat`, level 5) with the column vectors ts, x, y and pol, as those of ASL-DVS.

Times are microseconds, or seconds where some are no whole numbers; MATLAB stores whole doubles as integers,
so the type tells nothing. x and y count from 0, and y from the bottom: y becomes height - 1 - y. The sensor
is not in the file; it is taken for the DAVIS240C of ASL-DVS, 180 x 240, unless `ReadOptions.sensor_hw` says
another. A column is unpacked whole, so those of more than `LARGEST_BYTES` are refused.
Source: Bi et al., "Graph-based object classification for neuromorphic vision sensing", 2019.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from events.errors import DamagedRecording, UnknownFormat
from events.readers.column_events import Block, ColumnRecording, EvenPlaces, match_names
from events.readers.conventions import only_plain_conventions
from events.readers.mat_file import HEADER_BYTES, MatVariable, list_variables, read_numbers
from events.readers.source import Source
from events.recording import FileReport, ReadOptions

MAT_MARK = b"MATLAB 5.0 MAT-file"
DAVIS240C = (180, 240)
LARGEST_BYTES = 1 << 29
# Bytes that one byte of zlib can become at most. Source: zlib, technical details.
LARGEST_RATIO = 1032
ROWS_AT_A_TIME = 1 << 17


def open_mat(source: Source, options: ReadOptions) -> ColumnRecording:
    """Open a MATLAB file of events.

    Raises:
        DamagedRecording: It is cut off, or its columns do not fit each other.
        UnknownFormat: It has no columns of events.
    """
    only_plain_conventions(options, format_name="a MATLAB file")
    columns, rows = find_columns(source)
    sensor_hw = options.sensor_hw or DAVIS240C

    @contextmanager
    def table(_report: FileReport, start: int) -> Iterator[Iterator[Block]]:
        yield read_blocks(source, columns, range(start, rows), sensor_hw[0])

    facts = {
        "variables": ", ".join(column.name for column in columns.values()),
        "origin": "bottom left in the file, y flipped to the top left",
    }
    if options.sensor_hw is None:
        facts["note"] = "sensor size not in the file: that of a DAVIS240C"
    return ColumnRecording(
        source, options, name="mat", open_table=table, unit=None, sensor_hw=sensor_hw, facts=facts, rows=rows
    )


def find_columns(source: Source) -> tuple[dict[str, MatVariable], int]:
    """Return the variable for each of t, x, y and p, and how many events they hold.

    Raises:
        DamagedRecording: They are of different shapes, no numbers, or not to be read.
        UnknownFormat: There are none such.
    """
    listed = {variable.name: variable for variable in list_variables(source)}
    names = match_names(list(listed))
    if names is None:
        found = ", ".join(listed) or "nothing"
        raise UnknownFormat(
            f"{source.path}: byte {source.size}: a MATLAB file that ends here with the variables {found}; "
            "expected ts, x, y and pol"
        )
    columns = {field: listed[name] for field, name in names.items()}
    for column in columns.values():
        if column.kind != "number":
            raise DamagedRecording(
                f"{source.path}: byte {column.position}: {column.name} is of class {column.kind}; "
                "expected real numbers"
            )
    lengths = {column.name: length(column.shape) for column in columns.values()}
    if len(set(lengths.values())) > 1 or None in lengths.values():
        said = ", ".join(f"{c.name} {'x'.join(map(str, c.shape))}" for c in columns.values())
        raise DamagedRecording(
            f"{source.path}: byte {HEADER_BYTES}: columns of different shapes ({said}); "
            "expected one value per event in each"
        )
    rows = lengths[columns["t"].name] or 0
    if rows > source.size * LARGEST_RATIO or rows * 8 > LARGEST_BYTES:
        raise DamagedRecording(
            f"{source.path}: byte {HEADER_BYTES}: claims {rows} events; expected no more than its "
            f"{source.size} bytes can hold and {LARGEST_BYTES // 8}, save them in another format"
        )
    return columns, rows


def length(shape: tuple[int, ...]) -> int | None:
    """Return how many values a column or a row has; None for what is neither."""
    if len(shape) == 2 and (1 in shape or 0 in shape):
        return shape[0] * shape[1]
    return None


def read_blocks(
    source: Source, variables: dict[str, MatVariable], rows: range, height: int
) -> Iterator[Block]:
    """Yield some events, y counted from the top of `height` rows."""
    most = LARGEST_BYTES + (1 << 16)
    columns = {field: read_numbers(source, variable, most) for field, variable in variables.items()}
    columns["t"] = whole_times(columns["t"])
    y = columns["y"]
    columns["y"] = height - 1 - (y if y.dtype.kind == "f" else y.astype(np.int64))
    places = EvenPlaces(variables["t"].position, 0)
    for first in rows[::ROWS_AT_A_TIME]:
        part: dict[str, Any] = {
            field: column[first : first + ROWS_AT_A_TIME] for field, column in columns.items()
        }
        yield Block(**part, position=places, row_bytes=0, stop=first + ROWS_AT_A_TIME)


def whole_times(t: np.ndarray) -> np.ndarray:
    """Return times in microseconds as int64, or as they are where some are no whole numbers."""
    if t.dtype.kind != "f" or not np.all(np.isfinite(t)) or not np.all(t == np.floor(t)):
        return t
    if np.abs(t).max(initial=0) >= 2**62:
        return t
    return t.astype(np.int64)

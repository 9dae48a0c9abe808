"""MATLAB files (`.mat`, level 5) with the column vectors ts, x, y and pol, as those of ASL-DVS.

Times are microseconds, or seconds where some are no whole numbers; MATLAB stores whole doubles as integers,
so the type tells nothing. x and y count from 0, and y from the bottom: y becomes height - 1 - y. The sensor
is not in the file; it is taken for the DAVIS240C of ASL-DVS, 180 x 240, unless `ReadOptions.sensor_hw` says
another. SciPy reads the container, whole, so files of more than `LARGEST_BYTES` of columns are refused.
Source: Bi et al., "Graph-based object classification for neuromorphic vision sensing", 2019.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from events.errors import DamagedRecording, UnknownFormat
from events.readers.column_events import Block, ColumnRecording, EvenPlaces, match_names
from events.readers.columns import plain
from events.readers.conventions import only_plain_conventions
from events.readers.source import Source
from events.recording import FileReport, ReadOptions

MAT_MARK = b"MATLAB 5.0 MAT-file"
HEADER_BYTES = 128
DAVIS240C = (180, 240)
LARGEST_BYTES = 1 << 31
# Bytes that one byte of zlib can become at most. Source: zlib, technical details.
LARGEST_RATIO = 1032
ROWS_AT_A_TIME = 1 << 17

# Names of classes as SciPy lists them, and what a number of it may take.
NUMBER_CLASSES = frozenset(
    ["double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))]
)
# What SciPy raises for damaged files.
MAT_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OSError,
    EOFError,
    MemoryError,
    zlib.error,
    struct.error,
)


def open_mat(source: Source, options: ReadOptions) -> ColumnRecording:
    """Open a MATLAB file of events.

    Raises:
        DamagedRecording: SciPy cannot make sense of it, or its columns do not fit each other.
        UnknownFormat: It has no columns of events.
    """
    only_plain_conventions(options, format_name="a MATLAB file")
    names, rows = find_columns(source)
    sensor_hw = options.sensor_hw or DAVIS240C

    @contextmanager
    def table(_report: FileReport) -> Iterator[Iterator[Block]]:
        yield read_blocks(source, names, rows, sensor_hw[0])

    facts = {
        "variables": ", ".join(names.values()),
        "origin": "bottom left in the file, y flipped to the top left",
    }
    if options.sensor_hw is None:
        facts["note"] = "sensor size not in the file: that of a DAVIS240C"
    return ColumnRecording(
        source, options, name="mat", open_table=table, unit=None, sensor_hw=sensor_hw, facts=facts
    )


def find_columns(source: Source) -> tuple[dict[str, str], int]:
    """Return the variable for each of t, x, y and p, and how many events they hold.

    Raises:
        DamagedRecording: They are of different lengths, no numbers, or not to be read.
        UnknownFormat: There are none such.
    """
    from scipy.io import whosmat

    with scipy_errors(source):
        listed = {name: (shape, kind) for name, shape, kind in whosmat(source.path, appendmat=False)}
    names = match_names(list(listed))
    if names is None:
        found = ", ".join(listed) or "nothing"
        raise UnknownFormat(
            f"{source.path}: byte {source.size}: a MATLAB file that ends here with the variables {found}; "
            "expected ts, x, y and pol"
        )
    lengths = {name: listed[name][0] for name in names.values()}
    rows = int(np.prod(lengths[names["t"]]))
    columns = all((len(shape) == 2 and 1 in shape) or shape == (0, 0) for shape in lengths.values())
    if not columns or len({int(np.prod(shape)) for shape in lengths.values()}) > 1:
        said = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in lengths.items())
        raise DamagedRecording(
            f"{source.path}: byte {HEADER_BYTES}: columns of different shapes ({said}); "
            "expected one value per event in each"
        )
    for name in names.values():
        if listed[name][1] not in NUMBER_CLASSES:
            raise DamagedRecording(
                f"{source.path}: byte {HEADER_BYTES}: {name} is of class {listed[name][1]}; expected numbers"
            )
    if rows > source.size * LARGEST_RATIO:
        raise DamagedRecording(
            f"{source.path}: byte {source.size}: the file ends here and claims {rows} events; fetch it again"
        )
    if rows * 4 * 8 > LARGEST_BYTES:
        raise UnknownFormat(
            f"{source.path}: {rows} events, which a MATLAB file gives only all at once; "
            "save them in another format"
        )
    return names, rows


def read_blocks(source: Source, names: dict[str, str], rows: int, height: int) -> Iterator[Block]:
    """Yield the events, y counted from the top of `height` rows."""
    from scipy.io import loadmat

    with scipy_errors(source):
        loaded = loadmat(source.path, variable_names=list(names.values()), appendmat=False)
        columns = {field: plain(np.asarray(loaded[name]).reshape(rows)) for field, name in names.items()}
    if any(column.dtype.kind not in "iuf" for column in columns.values()):
        raise DamagedRecording(f"{source.path}: byte {HEADER_BYTES}: columns that are no real numbers")
    columns["t"] = whole_times(columns["t"])
    y = columns["y"]
    columns["y"] = height - 1 - (y if y.dtype.kind == "f" else y.astype(np.int64))
    for first in range(0, rows, ROWS_AT_A_TIME):
        part = {field: column[first : first + ROWS_AT_A_TIME] for field, column in columns.items()}
        yield Block(**part, position=EvenPlaces(HEADER_BYTES, 0), row_bytes=0)


def whole_times(t: np.ndarray) -> np.ndarray:
    """Return times in microseconds as int64, or as they are where some are no whole numbers."""
    if t.dtype.kind != "f" or not np.all(np.isfinite(t)) or not np.all(t == np.floor(t)):
        return t
    return t.astype(np.int64)


@contextmanager
def scipy_errors(source: Source) -> Iterator[None]:
    """Make one message of what SciPy raises.

    Raises:
        DamagedRecording: SciPy cannot make sense of the file.
    """
    from scipy.io.matlab import MatReadError

    try:
        yield
    except (*MAT_ERRORS, MatReadError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DamagedRecording(
            f"{source.path}: MATLAB file damaged, or cut at byte {source.size}: {reason}; "
            "make or fetch it again"
        ) from None

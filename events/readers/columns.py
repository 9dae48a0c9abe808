"""NumPy files: events by field name, in one structured `.npy` or in the arrays of an `.npz`.

Fields go by any of the names in `column_events.FIELD_NAMES`. Time is whole microseconds or floating-point
seconds, told by its type; polarity is 0/1, -1/1 or bool. Origin top left. SpikingJelly's event files
(`t`, `x`, `y`, `p` in an `.npz`) are of this kind; they hold its own orientation, see `events.readers.aedat`.

Plain arrays without names are read only where `ReadOptions.columns` says which column is which, since public
files of the same shape disagree: tonic's DVS128 Gesture is x, y, p, t in milliseconds, PEDRo t, x, y, p in
microseconds.

Arrays are streamed, so that memory stays bounded. Pickled objects are refused, since loading them runs code
from the file. `salvage` does the same as `skip`: rows have no place to get out of step.
"""

import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np

from events.errors import DamagedRecording, EventsError, UnknownFormat
from events.readers.column_events import Block, ColumnRecording, EvenPlaces, match_names, parse_columns
from events.readers.conventions import only_plain_conventions
from events.readers.source import Source
from events.recording import FileReport, ReadOptions

NPY_MARK = b"\x93NUMPY"
ZIP_MARKS = (b"PK\x03\x04", b"PK\x05\x06")

# Taken at a time: with less, unpacking four arrays side by side takes a tenth longer.
BYTES_AT_A_TIME = 1 << 22

# More is no event, but a header that claims memory.
LARGEST_ROW_BYTES = 1 << 10

# What zipfile and zlib raise for damaged archives.
# RuntimeError where a member claims to be encrypted, OSError where an offset is before the file.
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,
    ValueError,
    OverflowError,
)

# What NumPy raises for a header that is none: it reads Python text.
HEADER_ERRORS = (ValueError, EOFError, SyntaxError, TokenError, TypeError, KeyError, RecursionError)

# No header of columns is longer; NumPy would take memory for what the file says.
LARGEST_HEADER_BYTES = 1 << 16


@dataclass(frozen=True)
class Part:
    """One array of a file, and which event fields it holds.

    Attributes:
        name: Its name in the archive; "" in a `.npy`.
        shape, dtype: As its header says.
        start: First byte of its rows.
        by_column: Whether it holds one whole column after the other.
        picks: For each field of an event in it, the name or number of its column; None for the whole array.
        unit: Unit of time where it was given.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    start: int
    by_column: bool
    picks: dict[str, Any]
    unit: str | None = None

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, that is, one item along the first axis."""
        return self.dtype.itemsize * math.prod(self.shape[1:])


def holds_arrays(source: Source) -> bool:
    """Whether the first file in a zip archive is a NumPy array."""
    length = int.from_bytes(source.head[26:28], "little")
    return source.head[30 : 30 + length].endswith(b".npy")


def open_npy(source: Source, options: ReadOptions) -> ColumnRecording:
    """Open a `.npy` of events."""
    only_plain_conventions(options, format_name="a NumPy file")
    with open_file(source.path) as stream:
        parts = pick_fields(read_header(stream, source.path, ""), options, source.path)
        check_numbers(parts, source.path)

    @contextmanager
    def table(report: FileReport, start: int) -> Iterator[Iterator[Block]]:
        with ExitStack() as stack:
            streams = [stack.enter_context(open_file(source.path)) for _ in parts]
            base = parts[0].start
            yield read_blocks(parts, streams, source.path, report, base, start, options.damage == "strict")

    return recording_of(parts, source, options, name="npy", open_table=table, sensor_hw=None)


def open_npz(source: Source, options: ReadOptions) -> ColumnRecording:
    """Open an `.npz` of events."""
    only_plain_conventions(options, format_name="a NumPy file")
    with open_archive(source.path) as archive:
        parts = choose_parts(archive, options, source.path)
        check_numbers(parts, source.path)
        sensor_hw = read_sensor(archive, source.path)
        base = archive.getinfo(f"{parts[0].name}.npy").header_offset

    @contextmanager
    def table(report: FileReport, start: int) -> Iterator[Iterator[Block]]:
        with open_archive(source.path) as archive, ExitStack() as stack:
            streams = [stack.enter_context(archive.open(f"{part.name}.npy")) for part in parts]
            yield read_blocks(parts, streams, source.path, report, base, start, options.damage == "strict")

    return recording_of(parts, source, options, name="npz", open_table=table, sensor_hw=sensor_hw)


def recording_of(parts: list[Part], source: Source, options: ReadOptions, **details: Any) -> ColumnRecording:
    """Return the recording whose columns are in some arrays; `details` are those of `ColumnRecording`."""
    unit, rows = parts[0].unit, parts[0].shape[0]
    return ColumnRecording(
        source, options, unit=unit, rows=rows, facts={"arrays": describe(parts)}, **details
    )


@contextmanager
def open_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that was readable a moment ago."""
    try:
        stream = path.open("rb")
    except OSError as error:
        raise EventsError(f"{path}: cannot be opened: {error.strerror}; check the path") from None
    with stream:
        yield stream


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive; what is wrong with it is a damaged recording."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except ZIP_ERRORS as error:
        size = path.stat().st_size
        raise DamagedRecording(
            f"{path}: archive damaged, or cut at byte {size}: {error}; make or fetch it again"
        ) from None


def choose_parts(archive: zipfile.ZipFile, options: ReadOptions, path: Path) -> list[Part]:
    """Return the arrays with the events: four by field name, or the only one, or the one called `events`."""
    names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    found = match_names(names)
    if found is not None:
        parts = [
            replace(read_member(archive, name, path), picks={field: None}) for field, name in found.items()
        ]
        lengths = {part.name: part.shape for part in parts}
        if len({shape[:1] for shape in lengths.values()}) != 1 or any(
            len(shape) != 1 for shape in lengths.values()
        ):
            raise DamagedRecording(
                f"{path}: arrays of different shapes {lengths}; expected one value per event in each"
            )
        return parts
    only = names[0] if len(names) == 1 else "events"
    if only not in names:
        raise UnknownFormat(
            f"{path}: holds the arrays {', '.join(names)}; expected t, x, y and p, save them by these names"
        )
    return pick_fields(read_member(archive, only, path), options, path)


def read_member(archive: zipfile.ZipFile, name: str, path: Path) -> Part:
    """Read the header of one array of an archive."""
    with archive.open(f"{name}.npy") as stream:
        return read_header(stream, path, name)


def read_sensor(archive: zipfile.ZipFile, path: Path) -> tuple[int, int] | None:
    """Return height and width where the archive holds them as `sensor_hw`."""
    if "sensor_hw.npy" not in archive.namelist():
        return None
    part = read_member(archive, "sensor_hw", path)
    if part.shape != (2,) or not np.issubdtype(part.dtype, np.integer):
        raise DamagedRecording(f"{path}: sensor_hw is {part.dtype} {part.shape}; expected two whole numbers")
    with archive.open("sensor_hw.npy") as stream:
        stream.seek(part.start)
        height, width = np.frombuffer(stream.read(part.row_bytes * 2), part.dtype)
    return int(height), int(width)


def read_header(stream: IO[bytes], path: Path, name: str) -> Part:
    """Read the header of an array; the stream then stands before its first row.

    Raises:
        UnknownFormat: It holds pickled objects.
        DamagedRecording: It is no header.
    """
    where = f"{path}: array {name!r}" if name else f"{path}"
    try:
        check_header_length(stream)
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran_order, dtype = read(stream)
    except HEADER_ERRORS as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DamagedRecording(
            f"{where}: byte {stream.tell()}: no NumPy header: {reason}; make or fetch it again"
        ) from None
    if dtype.hasobject:
        raise UnknownFormat(
            f"{where}: holds pickled objects, which may run code when loaded; save t, x, y, p as numbers"
        )
    if len(shape) == 0:
        raise UnknownFormat(f"{where}: a single {dtype}; expected one value or row per event")
    return Part(name, shape, dtype, stream.tell(), fortran_order and len(shape) > 1, {})


def check_header_length(stream: IO[bytes]) -> None:
    """Refuse a header longer than any; the stream stays where it is.

    Raises:
        ValueError: It says that it is.
    """
    start = stream.tell()
    head = stream.read(12)
    stream.seek(start)
    length = int.from_bytes(head[8 : 10 if head[6:8] == b"\x01\x00" else 12], "little")
    if length > LARGEST_HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes, expected {LARGEST_HEADER_BYTES} at most")


def pick_fields(part: Part, options: ReadOptions, path: Path) -> list[Part]:
    """Say which columns of an array are t, x, y and p; one stored by columns becomes four arrays.

    Raises:
        UnknownFormat: It does not say, and nobody else does.
    """
    if part.dtype.names is not None and len(part.shape) == 1:
        found = match_names(list(part.dtype.names))
        if found is not None:
            return [replace(part, picks=dict(found))]
        raise UnknownFormat(
            f"{path}: fields {', '.join(part.dtype.names)}; expected t, x, y and p, rename them so"
        )
    if len(part.shape) != 2 or not 4 <= part.shape[1] <= 64:
        raise UnknownFormat(
            f"{path}: an array of {part.dtype} {part.shape}; expected fields t, x, y, p or rows of four"
        )
    if options.columns is None:
        raise UnknownFormat(
            f"{path}: {part.shape[1]} columns without names, so order and unit of time are unknown; "
            "say them with columns, such as 't:us,x,y,p' or 'x,y,p,t:ms'"
        )
    columns = parse_columns(options.columns)
    picks = {field: getattr(columns, field) for field in "txyp"}
    if max(picks.values()) >= part.shape[1]:
        raise UnknownFormat(f"{path}: {part.shape[1]} columns, fewer than columns {options.columns!r} names")
    if not part.by_column:
        return [replace(part, picks=picks, unit=columns.unit)]
    column_bytes = part.shape[0] * part.dtype.itemsize
    whole = replace(part, shape=part.shape[:1], by_column=False, unit=columns.unit)
    return [
        replace(whole, start=part.start + column * column_bytes, picks={field: None})
        for field, column in picks.items()
    ]


def check_numbers(parts: list[Part], path: Path) -> None:
    """Refuse columns that are no real numbers.

    Raises:
        DamagedRecording: One is text, a date, complex, or an array in each row; rows claim more memory than
            events take.
    """
    for part in parts:
        if part.row_bytes > LARGEST_ROW_BYTES:
            raise DamagedRecording(
                f"{path}: byte {part.start}: rows of {part.row_bytes} bytes; expected events, at most "
                f"{LARGEST_ROW_BYTES} each"
            )
        for field, pick in part.picks.items():
            dtype = part.dtype[pick] if isinstance(pick, str) else part.dtype
            if dtype.subdtype is not None or dtype.kind not in "iufb":
                raise DamagedRecording(
                    f"{path}: byte {part.start}: {field} is of type {dtype}; expected numbers"
                )


def describe(parts: list[Part]) -> dict[str, str]:
    """Return type and shape of each array, for people."""
    return {part.name or "array": f"{part.dtype} {list(part.shape)}" for part in parts}


def read_blocks(
    parts: list[Part],
    streams: Sequence[IO[bytes]],
    path: Path,
    report: FileReport,
    base: int,
    start: int,
    strict: bool,
) -> Iterator[Block]:
    """Yield the rows from `start` on of arrays of one length, read side by side; `base` is the byte of row 0.

    In an archive, whose rows have no byte of their own, positions are those in the unpacked first array.
    """
    for part, stream in zip(parts, streams, strict=True):
        stream.seek(part.start + start * part.row_bytes)
    rows = parts[0].shape[0]
    row_bytes = sum(part.row_bytes for part in parts)
    most = min(BYTES_AT_A_TIME // row_bytes, rows)
    room = [memoryview(bytearray(most * part.row_bytes)) for part in parts]
    for first in range(start, rows, max(most, 1)):
        count = min(most, rows - first)
        pieces = [
            memory[: fill(stream, memory[: count * part.row_bytes])]
            for part, stream, memory in zip(parts, streams, room, strict=True)
        ]
        whole = min(len(piece) // part.row_bytes for part, piece in zip(parts, pieces, strict=True))
        columns: dict[str, Any] = {}
        for part, piece in zip(parts, pieces, strict=True):
            array = np.frombuffer(piece, part.dtype, whole * max(1, part.row_bytes // part.dtype.itemsize))
            array = array.reshape(whole, *part.shape[1:])
            for field, pick in part.picks.items():
                columns[field] = plain(
                    array if pick is None else array[:, pick] if array.ndim == 2 else array[pick]
                )
        positions = EvenPlaces(base + first * parts[0].row_bytes, parts[0].row_bytes)
        yield Block(**columns, position=positions, row_bytes=row_bytes, stop=first + whole)
        if whole < count:
            row = first + whole
            inside = any(
                len(piece) > whole * part.row_bytes for part, piece in zip(parts, pieces, strict=True)
            )
            position = base + row * parts[0].row_bytes
            end_early(row, rows, position, path, report, strict=strict, inside=inside)
            return


def fill(stream: IO[bytes], target: memoryview) -> int:
    """Read into `target` until it is full or the stream ends; return how many bytes there were."""
    done = 0
    while done < len(target) and (count := stream.readinto(target[done:])):  # type: ignore[attr-defined]
        done += count
    return done


def plain(column: np.ndarray) -> np.ndarray:
    """Return a column of numbers; bool becomes 0 and 1."""
    return column.view(np.uint8) if column.dtype == np.bool_ else column


def end_early(
    row: int, rows: int, position: int, path: Path, report: FileReport, *, strict: bool, inside: bool
) -> None:
    """Report that the file ends before its last row, `inside` one or between two."""
    if report.first_damage_byte is None:
        report.first_damage_byte = position
    if strict:
        raise DamagedRecording(
            f"{path}: byte {position}: the file ends after {row} of {rows} rows; "
            "read with damage 'skip' to keep these"
        )
    report.partial_records = int(inside)
    report.notes.append(f"the file ends after {row} of {rows} rows")

"""Read the columns of an HDF5 file side by side, in blocks of whole chunks and in bounded memory."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from events.errors import DamagedRecording, EventsError
from events.readers.column_events import Block
from events.readers.columns import plain
from events.readers.ecf import ECF_FILTER, REASONS, EcfDecoder
from events.readers.hdf5_layout import Hdf5Layout, data_set
from events.recording import FileReport

if TYPE_CHECKING:
    import h5py

# Rows of a block, rounded up to whole chunks: few enough to stay in the cache.
ROWS_AT_A_TIME = 1 << 16
# Read ahead at most: rows of one column after the other, in whose memory HDF5 unpacks the next chunk.
BYTES_AT_A_TIME = 1 << 22
# A chunk is unpacked whole, so its size is memory; those of public data sets have some hundred kilobytes.
LARGEST_CHUNK_BYTES = 1 << 28

FILTERS = {32001: "Blosc", 32015: "Zstandard", 32004: "LZ4", 32008: "bitshuffle", 32026: "Blosc2"}


class RowReader:
    """Reads rows of a data set, in their type there, into memory that the next call overwrites.

    Attributes:
        rows: Those read last.
    """

    def __init__(self, found: "h5py.Dataset") -> None:
        """Read nothing yet."""
        import h5py

        self._id = found.id
        self._file_space = found.id.get_space()
        self._memory_space = h5py.h5s.create_simple((0,), (h5py.h5s.UNLIMITED,))
        self._type = h5py.h5t.py_create(found.dtype)
        self._room = self.rows = np.empty(0, found.dtype)

    def read(self, first: int, stop: int) -> None:
        """Read rows. Raises what h5py raises where they cannot be unpacked."""
        count = (stop - first,)
        if len(self._room) < stop - first:
            self._room = np.empty(count, self._room.dtype)
        self.rows = self._room[: stop - first]
        self._file_space.select_hyperslab((first,), count)
        self._memory_space.set_extent_simple(count)
        self._id.read(self._memory_space, self._file_space, self.rows, self._type)


class Hdf5Events:
    """The columns of the events of an open file, checked against each other.

    Attributes:
        file: The open file.
        path: Where it is, for messages.
        fields: For each of t, x, y and p its data set, and the field in it or None.
        data_sets: Those of the fields, each once.
        readers: What reads each of these.
        picks: For each of t, x, y and p its reader, and the field in it or None.
        rows: Events.
        row_bytes: Bytes of one event, unpacked.
        t_offset_us: Added to every time.
        ecf: Whether the events are records compressed with ECF.
        longest_chunk: Rows of the longest chunk; 1 where there are no chunks.
        step: Rows of a block: whole chunks of the column whose chunks are the longest.
        steps_ahead: Steps that are read at a time at most.
    """

    def __init__(self, file: "h5py.File", layout: Hdf5Layout, path: Path) -> None:
        """Look the columns up.

        Raises:
            DamagedRecording: They are missing, no numbers, of different lengths, or not all there.
            EventsError: They are compressed in a way for which no filter is installed.
        """
        self.file = file
        self.path = path
        self.fields: dict[str, tuple[h5py.Dataset, str | None]] = {}
        for name, (place, field) in layout.columns.items():
            found = data_set(file, place)
            if found is None:
                raise DamagedRecording(f"{path}: byte 0: {place} is gone; make or fetch it again")
            self.fields[name] = (found, field)
        self.t_offset_us = layout.t_offset_us
        names = {field: found.name for field, (found, _) in self.fields.items()}
        data_sets = {names[name]: found for name, (found, _) in self.fields.items()}
        self.data_sets = list(data_sets.values())
        number_types(self)
        for found in self.data_sets:
            check_data_set(found, path)
        self.rows = int(self.data_sets[0].shape[0])
        readers = {name: RowReader(found) for name, found in data_sets.items()}
        self.readers = list(readers.values())
        self.picks = {name: (readers[names[name]], field) for name, (_, field) in self.fields.items()}
        self.row_bytes = sum(found.dtype.itemsize for found in self.data_sets)
        lengths = {name: int(found.shape[0]) for name, found in data_sets.items()}
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{name} {rows}" for name, rows in lengths.items())
            raise DamagedRecording(
                f"{path}: byte {place_of(self.data_sets[0], 0)}: columns of different lengths ({said}); "
                "expected one value per event in each, make or fetch it again"
            )
        self.ecf = len(self.data_sets) == 1 and ECF_FILTER in filters_of(self.data_sets[0])
        self.longest_chunk = max(found.chunks[0] if found.chunks else 1 for found in self.data_sets)
        chunks = 1 if self.ecf else -(-ROWS_AT_A_TIME // self.longest_chunk)
        self.step = chunks * self.longest_chunk
        self.steps_ahead = 1 if self.ecf else max(1, BYTES_AT_A_TIME // (self.step * self.row_bytes))

    @property
    def cache_bytes(self) -> int:
        """Memory for chunks of a column of which a step needs only a part; 0 where there are none such.

        Kept chunks are copied once more, and what unpacks the next gets new memory, so none are without need.
        """
        chunked = [found for found in self.data_sets if found.chunks]
        if all(self.step % found.chunks[0] == 0 for found in chunked):
            return 0
        return 2 * max(found.chunks[0] * found.dtype.itemsize for found in chunked)


def number_types(where: Hdf5Events) -> dict[str, str]:
    """Return the type of each column.

    Raises:
        DamagedRecording: One is no number.
    """
    types = {}
    for name, (found, field) in where.fields.items():
        dtype = found.dtype if field is None else found.dtype[field]
        if dtype.subdtype is not None or dtype.kind not in "iufb" or found.dtype.hasobject:
            raise DamagedRecording(
                f"{where.path}: byte {place_of(found, 0)}: {name} in {found.name} is of type {dtype}; "
                "expected numbers, make or fetch it again"
            )
        types[name] = str(dtype)
    return types


def check_data_set(found: "h5py.Dataset", path: Path) -> None:
    """Refuse a data set that is no column, or that cannot be unpacked here.

    Raises:
        DamagedRecording: It has more than one dimension, lies in another file, or a part of it is missing.
        EventsError: No filter for its compression is installed.
    """
    if fault := fault_of(found):
        raise DamagedRecording(f"{path}: byte {place_of(found, 0)}: {found.name}{fault}")
    if found.chunks is not None:
        check_filters(found, path)


def fault_of(found: "h5py.Dataset") -> str | None:
    """Say why a data set is no column, or which part of it is missing; None where it is one."""
    shape, chunks, row_bytes = found.shape, found.chunks, found.dtype.itemsize
    if shape is None or len(shape) != 1:
        return f" has the shape {shape}; expected one value per event"
    if found.is_virtual or found.external:
        return " lies in another file; copy it into this one"
    if chunks is None:
        if shape[0] and found.id.get_storage_size() < shape[0] * row_bytes:
            return f" says {shape[0]} values that are not in the file; fetch it again"
        return None
    if chunks[0] * row_bytes > LARGEST_CHUNK_BYTES:
        return f" has chunks of {chunks[0]} values; expected at most 256 MiB"
    expected, stored = -(-shape[0] // chunks[0]), found.id.get_num_chunks()
    if stored < expected:
        return f": {expected - stored} of {expected} chunks are missing; fetch it again"
    return None


def filters_of(found: "h5py.Dataset") -> list[int]:
    """Return the numbers of the filters of a data set."""
    created = found.id.get_create_plist()
    return [created.get_filter(i)[0] for i in range(created.get_nfilters())]


def check_filters(found: "h5py.Dataset", path: Path) -> None:
    """Load what unpacks a data set.

    Raises:
        EventsError: It is not installed, or unknown.
    """
    import h5py

    used = filters_of(found)
    numbers = [number for number in used if number != ECF_FILTER]
    if ECF_FILTER in used and (numbers or set(found.dtype.names or ()) != set("xypt")):
        raise EventsError(
            f"{path}: {found.name} is compressed with ECF and more, or is no record of x, y, p, t; "
            "convert it first"
        )
    if all(h5py.h5z.filter_avail(number) for number in numbers):
        return
    with suppress(ImportError):
        import hdf5plugin  # noqa: F401  (registers its filters)
    for number in numbers:
        if not h5py.h5z.filter_avail(number):
            name = FILTERS.get(number, f"filter {number}")
            raise EventsError(
                f"{path}: {found.name} is compressed with {name}, which is not installed here; "
                "install it with: pip install hdf5plugin"
            )


def place_of(found: "h5py.Dataset", row: int) -> int:
    """Return the byte of the file where a row is, or the chunk that it is in; 0 where it has none."""
    if found.chunks is None:
        start = found.id.get_offset()
        return 0 if start is None else int(start) + row * found.dtype.itemsize
    if len(found.chunks) != 1 or not found.shape[0]:
        return 0
    row = min(row, found.shape[0] - 1)
    place = found.id.get_chunk_info_by_coord((row // found.chunks[0] * found.chunks[0],)).byte_offset
    return 0 if place is None else int(place)


def read_blocks(
    where: Hdf5Events, report: FileReport, *, first_row: int = 0, strict: bool
) -> Iterator[Block]:
    """Yield the events in blocks of whole chunks; what cannot be unpacked is reported and left out.

    `first_row` is the first to be read.

    Raises:
        DamagedRecording: A chunk cannot be unpacked and `strict` is set.
    """
    read = read_ecf if where.ecf else read_rows
    step = where.step
    smallest = where.longest_chunk if where.longest_chunk > 1 else step
    decoder = EcfDecoder()
    for part in parts_of(where, first_row):
        pending = [part]
        while pending:
            first, stop = pending.pop(0)
            columns, reason = read(where, first, stop, decoder)
            if reason is None:
                for at in range(first, stop, step):
                    rows = slice(at - first, at - first + step)
                    yield block_of(where, {name: column[rows] for name, column in columns.items()}, at)
                continue
            size = step if stop - first > step else smallest
            if stop - first > size:  # find out which chunk it is
                pending[:0] = [(at, min(at + size, stop)) for at in range(first, stop, size)]
            else:
                leave_out(where, (first, stop), reason, report, strict=strict)


def parts_of(where: Hdf5Events, first_row: int) -> Iterator[tuple[int, int]]:
    """Yield the first row of what is read at a time, and that behind its last.

    As many steps as half of those before, so that little is read for nothing where only some are wanted.
    """
    first, done = first_row, 0
    while first < where.rows:
        steps = min(max(1, done // 2), where.steps_ahead)
        stop = min((first // where.step + steps) * where.step, where.rows)
        yield first, stop
        first, done = stop, done + steps


def find_row(where: Hdf5Events, t_us: int) -> int:
    """Return the first row at a time or later, in microseconds, by halving; right where time never falls.

    Raises:
        DamagedRecording: A chunk that is looked at cannot be unpacked.
    """
    found = where.fields["t"][0]
    step = found.chunks[0] if found.chunks else ROWS_AT_A_TIME
    decoder = EcfDecoder()
    low, high = 0, -(-where.rows // step)  # the step looked for is the last that begins before the time
    while low < high:
        middle = (low + high) // 2
        if int(read_times(where, middle * step, middle * step + 1, decoder)[0]) < t_us:
            low = middle + 1
        else:
            high = middle
    if low == 0:
        return 0
    first = (low - 1) * step
    return first + int(np.searchsorted(read_times(where, first, first + step, decoder), t_us))


def read_times(where: Hdf5Events, first: int, stop: int, decoder: EcfDecoder) -> np.ndarray:
    """Return the times of some rows of one chunk in microseconds, int64, shape [n].

    Raises:
        DamagedRecording: They cannot be unpacked.
    """
    read = read_ecf if where.ecf else read_rows
    columns, reason = read(where, first, min(stop, where.rows), decoder)
    if reason is not None:
        leave_out(where, (first, stop), reason, FileReport(str(where.path), "hdf5"), strict=True)
    t = columns["t"]
    whole = t.astype(np.int64) if t.dtype.kind in "iu" else np.rint(t * 1e6).astype(np.int64)
    return whole + where.t_offset_us


def block_of(where: Hdf5Events, columns: dict[str, Any], first: int) -> Block:
    """Return some rows as a block, with the offset of the times, which are seconds where they are floats."""
    t, offset = columns["t"], where.t_offset_us
    if offset and t.dtype.kind == "f":
        columns["t"], offset = t + offset / 1e6, 0
    places = RowPlaces(where.fields["t"][0], first)
    stop = first + len(t)
    return Block(**columns, position=places, row_bytes=where.row_bytes, stop=stop, t_offset_us=offset)


@dataclass(frozen=True)
class RowPlaces:
    """Where the rows of a data set from the row `first` on are, or the chunks that they are in."""

    found: "h5py.Dataset"
    first: int

    def __getitem__(self, row: int, /) -> int:
        """Return the byte of a row."""
        return place_of(self.found, self.first + row)


Columns = tuple[dict[str, Any], str | None]


def read_rows(where: Hdf5Events, first: int, stop: int, _decoder: EcfDecoder) -> Columns:
    """Return the columns of some rows, or why they cannot be had."""
    try:
        for reader in where.readers:
            reader.read(first, stop)
    except (OSError, RuntimeError, ValueError) as error:
        return {}, " ".join(str(error).split())
    return {
        name: plain(reader.rows if field is None else reader.rows[field])
        for name, (reader, field) in where.picks.items()
    }, None


def read_ecf(where: Hdf5Events, first: int, stop: int, decoder: EcfDecoder) -> Columns:
    """Return the columns of rows of one chunk compressed with ECF, or why they cannot be had."""
    found = where.data_sets[0]
    start = first // found.chunks[0] * found.chunks[0]
    try:
        skipped, chunk = found.id.read_direct_chunk((start,))
    except (OSError, RuntimeError) as error:
        return {}, " ".join(str(error).split())
    wanted, rows = stop - start, slice(first - start, stop - start)
    if skipped:  # the writer left the chunk as it was
        if len(chunk) < wanted * found.dtype.itemsize:
            return {}, f"the chunk has {len(chunk)} bytes, fewer than {wanted} records"
        records = np.frombuffer(chunk, found.dtype, wanted)[rows]
        return {name: records[field] for name, (_, field) in where.fields.items()}, None
    events = decoder.decode(chunk)
    if events < wanted:
        return {}, REASONS.get(events, f"the chunk has {events} events, expected {wanted}")
    return {name: getattr(decoder, name)[rows] for name in "txyp"}, None


def leave_out(
    where: Hdf5Events, rows: tuple[int, int], reason: str, report: FileReport, *, strict: bool
) -> None:
    """Report rows that cannot be unpacked."""
    place = place_of(where.fields["t"][0], rows[0])
    if report.first_damage_byte is None:
        report.first_damage_byte = place
    if strict:
        raise DamagedRecording(
            f"{where.path}: byte {place}: events {rows[0]} to {rows[1] - 1} cannot be unpacked: {reason}; "
            "read with damage 'skip' to leave them out"
        )
    report.bytes_skipped += sum(stored_bytes(found, rows) for found in where.data_sets)
    report.notes.append(f"events {rows[0]} to {rows[1] - 1} cannot be unpacked and are left out: {reason}")


def stored_bytes(found: "h5py.Dataset", rows: tuple[int, int]) -> int:
    """Return how many bytes of the file some rows take."""
    if found.chunks is None:
        return int((rows[1] - rows[0]) * found.dtype.itemsize)
    starts = range(rows[0] // found.chunks[0] * found.chunks[0], rows[1], found.chunks[0])
    return sum(int(found.id.get_chunk_info_by_coord((start,)).size) for start in starts)

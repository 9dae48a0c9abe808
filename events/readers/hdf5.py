"""HDF5 recordings: which layout a file has, and its events.

Each layout has a file of its own, `hdf5_*.py`. They are tried in the order of `LAYOUTS`, since the last takes
any columns that are named so. h5py reads the container, hdf5plugin unpacks Blosc and Zstandard, ECF is
unpacked in `events.readers.ecf`. HDF5 finds everything by addresses, so a file that is cut off holds nothing
that could be read; a damaged chunk is left out whole. `salvage` does the same as `skip`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from events.errors import ConfigError, DamagedRecording, EventsError, UnknownFormat
from events.readers.column_events import Block, ColumnRecording
from events.readers.conventions import only_plain_conventions
from events.readers.hdf5_blocks import Hdf5Events, check_data_set, find_row, number_types, read_blocks
from events.readers.hdf5_dsec import find_dsec
from events.readers.hdf5_layout import Hdf5Layout, data_set
from events.readers.hdf5_m3ed import find_m3ed
from events.readers.hdf5_named import find_named, members
from events.readers.hdf5_prophesee import TRIGGERS, find_prophesee
from events.readers.hdf5_seek import ToldPlace, index_of
from events.readers.source import Source
from events.recording import DEFAULT_CHUNK_EVENTS, TRIGGER_DTYPE, Bookmark, FileReport, ReadOptions
from events.seek import SeekIndex

if TYPE_CHECKING:
    import h5py

HDF5_MARK = b"\x89HDF\r\n\x1a\n"

LAYOUTS: tuple[Callable[["h5py.File"], list[Hdf5Layout]], ...] = (
    find_prophesee,
    find_m3ed,
    find_dsec,
    find_named,
)

# Members of a file that a message or a report lists.
SHOWN = 8

# What h5py raises for damaged files, by what is damaged in them.
HDF5_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError)


class Hdf5Recording(ColumnRecording):
    """A recording in an HDF5 file."""

    def __init__(
        self,
        source: Source,
        options: ReadOptions,
        layout: Hdf5Layout,
        where: Hdf5Events,
        *,
        first_row: int,
        notes: list[str],
    ) -> None:
        """Describe the file; see `open_hdf5`. Rows before `first_row` are not read."""
        self._source = source
        self._options = options
        self._layout = layout
        self._notes = notes
        self._cache_bytes = where.cache_bytes
        self._first_row = first_row

        @contextmanager
        def table(report: FileReport, start: int) -> Iterator[Iterator[Block]]:
            if start == first_row:
                report.notes.extend(notes)
            with self._open_events() as opened:
                yield read_blocks(opened, report, first_row=start, strict=options.damage == "strict")

        facts = {"layout": layout.name, "place": layout.place, "columns": number_types(where)}
        super().__init__(
            source,
            options,
            name="hdf5",
            open_table=table,
            unit=None,
            sensor_hw=layout.sensor_hw,
            rows=where.rows,
            facts=facts | layout.facts,
            first_place=first_row,
        )

    @contextmanager
    def _open_events(self) -> Iterator[Hdf5Events]:
        """Open the file and look its columns up."""
        with open_hdf5_file(self._source.path, self._source.size, self._cache_bytes) as file:
            yield Hdf5Events(file, self._layout, self._source.path)

    def start_at(self, t_us: int) -> "Hdf5Recording":
        """Return the same recording from the first event at a time on, without reading what is before it.

        The place is found by halving, so where time falls it may be the wrong one.

        Args:
            t_us: Microseconds, on the clock of the events.

        Raises:
            DamagedRecording: A chunk that is looked at cannot be unpacked.
        """
        with self._open_events() as where:
            row = find_row(where, t_us)
            notes = [*self._notes, f"the {row} events before {t_us} us are not read"]
            return Hdf5Recording(self._source, self._options, self._layout, where, first_row=row, notes=notes)

    def stored_index(self) -> SeekIndex | None:
        """Return an index by the file's own index of time; see `Recording.stored_index`.

        Under `strict` everything is read before anything is trusted; where the options name a sensor, or
        the first rows are not read, the numbers in the file are not those of the events.
        """
        options, told_by = self._options, self._layout.time_index
        if told_by is None or options.damage == "strict" or options.sensor_hw or self._first_row:
            return None
        report = FileReport(str(self.path), self.format, bytes_total=self._source.size, notes=[*self._notes])
        try:
            with self._open_events() as where:
                return index_of(where, told_by, report) if where.rows else None
        except EventsError:  # the index, the first or the last event is damaged: reading through will say it
            return None

    def decode_from(self, place: Bookmark, *, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[np.ndarray]:
        """Yield the events behind a bookmark; see `Recording.decode_from`."""
        if not isinstance(place.at, ToldPlace):
            yield from super().decode_from(place, max_events=max_events)
            return
        blocks, number = place.at
        self.report, self._reached = place.report.copy(), None
        row = number * blocks.step
        with self._open_events() as where:
            read = read_blocks(where, self.report, first_row=row, strict=False)
            for at, block in enumerate(read, number):
                events, _ = self._events(block, self._room.room(len(block.t)))
                blocks.check(at, block.stop - len(block.t), events)
                row = block.stop
                for first in range(0, len(events), max_events):
                    chunk = events[first : first + max_events]
                    self._count(chunk)
                    yield chunk
        if row < blocks.rows:  # what could not be unpacked
            raise blocks.contradicted(row // blocks.step)

    def triggers(self) -> np.ndarray:
        """Return the edges of external signals, shape [n], TRIGGER_DTYPE; Prophesee's files have them.

        Raises:
            DamagedRecording: They cannot be unpacked.
        """
        with open_hdf5_file(self.path, self._source.size) as file:
            found = data_set(file, TRIGGERS)
            if found is None or not {"p", "t", "id"} <= set(found.dtype.names or ()) or found.dtype.hasobject:
                return np.empty(0, TRIGGER_DTYPE)
            check_data_set(found, self.path)
            rows = found[()]
        triggers = np.zeros(len(rows), TRIGGER_DTYPE)
        triggers["t"], triggers["channel"], triggers["rising"] = rows["t"], rows["id"], rows["p"] > 0
        return triggers


def open_hdf5(source: Source, options: ReadOptions) -> Hdf5Recording:
    """Open a recording in an HDF5 file; of several streams the one that `ReadOptions.stream` numbers from 0.

    Raises:
        ConfigError: There is no such stream.
        DamagedRecording: The file is cut off, or its columns do not fit each other.
        UnknownFormat: It has no columns t, x, y and p.
    """
    only_plain_conventions(options, format_name="an HDF5 file")
    with open_hdf5_file(source.path, source.size) as file:
        layouts = find_layouts(file, source)
        number = options.stream or 0
        if not 0 <= number < len(layouts):
            told = ", ".join(f"{i} {layout.place}" for i, layout in enumerate(layouts))
            raise ConfigError(f"{source.path}: stream {number} holds no events; the streams are {told}")
        layout = layouts[number]
        notes = [
            f"the events of {other.place} are not read, only those of {layout.place}; stream {i} is these"
            for i, other in enumerate(layouts[:SHOWN])
            if i != number
        ]
        where = Hdf5Events(file, layout, source.path)
        return Hdf5Recording(source, options, layout, where, first_row=0, notes=notes)


def find_layouts(file: "h5py.File", source: Source) -> list[Hdf5Layout]:
    """Return the layout of each stream of events in a file, at least one.

    Raises:
        UnknownFormat: There is none.
    """
    for find in LAYOUTS:
        layouts = find(file)
        if layouts:
            return layouts
    paths = members(file)
    shown = ", ".join(paths[:SHOWN]) + (", ..." if len(paths) > SHOWN else "")
    raise UnknownFormat(
        f"{source.path}: an HDF5 file of {shown or 'nothing'}, where no group has events; "
        "expected data sets or fields t, x, y and p"
    )


@contextmanager
def open_hdf5_file(path: object, size: int, cache_bytes: int = 0) -> Iterator["h5py.File"]:
    """Open an HDF5 file; what is wrong with it is a damaged recording.

    `cache_bytes` is room for chunks of each data set.

    Raises:
        DamagedRecording: HDF5 cannot make sense of it.
        EventsError: h5py is missing.
    """
    try:
        import h5py
    except ImportError:
        raise EventsError(f"{path}: HDF5 files need h5py; install it with: pip install h5py") from None
    try:
        with h5py.File(path, "r", rdcc_nbytes=cache_bytes, locking=False) as file:
            yield file
    except EventsError:
        raise
    except HDF5_ERRORS as error:
        reason = " ".join(str(error).split())
        raise DamagedRecording(
            f"{path}: HDF5 damaged, or cut at byte {size}: {reason}; make or fetch it again"
        ) from None

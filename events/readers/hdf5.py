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

from events.errors import DamagedRecording, EventsError, UnknownFormat
from events.readers.column_events import Block, ColumnRecording
from events.readers.conventions import only_plain_conventions
from events.readers.hdf5_blocks import Hdf5Events, number_types, read_blocks
from events.readers.hdf5_dsec import find_dsec
from events.readers.hdf5_layout import Hdf5Layout, data_set
from events.readers.hdf5_m3ed import find_m3ed
from events.readers.hdf5_named import find_named, members
from events.readers.hdf5_prophesee import TRIGGERS, find_prophesee
from events.readers.source import Source
from events.recording import TRIGGER_DTYPE, FileReport, ReadOptions

if TYPE_CHECKING:
    import h5py

HDF5_MARK = b"\x89HDF\r\n\x1a\n"

LAYOUTS: tuple[Callable[["h5py.File"], Hdf5Layout | None], ...] = (
    find_prophesee,
    find_m3ed,
    find_dsec,
    find_named,
)

# Room for one chunk of each column, so that none is unpacked twice.
CHUNK_CACHE_BYTES = 1 << 26

# What h5py raises for damaged files, by what is damaged in them.
HDF5_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError)


class Hdf5Recording(ColumnRecording):
    """A recording in an HDF5 file."""

    def triggers(self) -> np.ndarray:
        """Return the edges of external signals, shape [n], TRIGGER_DTYPE; Prophesee's files have them."""
        with open_hdf5_file(self.path, self.report.bytes_total) as file:
            found = data_set(file, TRIGGERS)
            if found is None or not {"p", "t", "id"} <= set(found.dtype.names or ()):
                return np.empty(0, TRIGGER_DTYPE)
            rows = found[()]
        triggers = np.zeros(len(rows), TRIGGER_DTYPE)
        triggers["t"], triggers["channel"], triggers["rising"] = rows["t"], rows["id"], rows["p"] > 0
        return triggers


def open_hdf5(source: Source, options: ReadOptions) -> Hdf5Recording:
    """Open a recording in an HDF5 file.

    Raises:
        DamagedRecording: The file is cut off, or its columns do not fit each other.
        UnknownFormat: It has no columns t, x, y and p.
    """
    only_plain_conventions(options, format_name="an HDF5 file")
    with open_hdf5_file(source.path, source.size) as file:
        layout = find_layout(file, source)
        types = number_types(Hdf5Events(file, layout, source.path))

    @contextmanager
    def table(report: FileReport) -> Iterator[Iterator[Block]]:
        with open_hdf5_file(source.path, source.size) as file:
            report.notes.extend(layout.notes)
            where = Hdf5Events(file, layout, source.path)
            yield read_blocks(where, report, strict=options.damage == "strict")

    facts = {"layout": layout.name, "columns": types, **layout.facts}
    return Hdf5Recording(
        source, options, name="hdf5", open_table=table, unit=None, sensor_hw=layout.sensor_hw, facts=facts
    )


def find_layout(file: "h5py.File", source: Source) -> Hdf5Layout:
    """Return the layout of a file.

    Raises:
        UnknownFormat: It has none of those known.
    """
    for find in LAYOUTS:
        layout = find(file)
        if layout is not None:
            return layout
    paths = members(file)
    shown = ", ".join(paths[:8]) + (", ..." if len(paths) > 8 else "")
    raise UnknownFormat(
        f"{source.path}: an HDF5 file of {shown or 'nothing'}, where no group has events; "
        "expected data sets or fields t, x, y and p"
    )


@contextmanager
def open_hdf5_file(path: object, size: int) -> Iterator["h5py.File"]:
    """Open an HDF5 file; what is wrong with it is a damaged recording.

    Raises:
        DamagedRecording: HDF5 cannot make sense of it.
        EventsError: h5py is missing.
    """
    try:
        import h5py
    except ImportError:
        raise EventsError(f"{path}: HDF5 files need h5py; install it with: pip install h5py") from None
    try:
        with h5py.File(path, "r", rdcc_nbytes=CHUNK_CACHE_BYTES, locking=False) as file:
            yield file
    except EventsError:
        raise
    except HDF5_ERRORS as error:
        reason = " ".join(str(error).split())
        raise DamagedRecording(
            f"{path}: HDF5 damaged, or cut at byte {size}: {reason}; make or fetch it again"
        ) from None

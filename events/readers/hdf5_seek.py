"""To a time or an event of an HDF5 file by its own index of time, without reading what lies before.

DSEC's `/ms_to_idx`, M3ED's `ms_map_idx` and Prophesee's `/CD/indexes` give the number of the first event at
each step of time or later. From that follows between which times the events of every block of rows lie. Each
block is compared with it before any of its events is delivered, and so are its neighbours, whose times show
that nothing else can belong to a range, as long as time does not fall. Where they differ, the recording is
read through instead, and the report says so.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from events.readers.ecf import EcfDecoder
from events.readers.hdf5_blocks import Hdf5Events, check_data_set, read_times
from events.readers.hdf5_layout import TimeIndex, data_set
from events.recording import Bookmark, FileReport
from events.seek import Block, IndexContradicted, SeekIndex, times_of

if TYPE_CHECKING:
    import h5py

# Before any time and, as the limit that no time reaches, after all.
LONG_AGO_US, NEVER_US = -(1 << 63), (1 << 63) - 1

# Entries of an index: a day of milliseconds many times over.
MOST_ENTRIES = 1 << 28


class ToldBlocks(NamedTuple):
    """What an index of time says of the blocks of a recording.

    Attributes:
        path: Of the index in the file.
        step: Rows of each block but the last.
        rows: Of the recording.
        firsts_us, stops_us: No event of a block is before the one, and all are before the other; int64,
            shape [blocks].
    """

    path: str
    step: int
    rows: int
    firsts_us: np.ndarray
    stops_us: np.ndarray

    def check(self, number: int, first_row: int, events: np.ndarray) -> None:
        """Compare a block with what is told of it.

        Raises:
            IndexContradicted: It has other rows, rows that are no event, or times that are not as told.
        """
        start = number * self.step
        rows = min(self.step, self.rows - start)
        if (first_row, len(events)) != (start, rows):
            raise self.contradicted(number)
        first_us, last_us = times_of(events)
        if first_us < self.firsts_us[number] or last_us >= self.stops_us[number]:
            raise self.contradicted(number)

    def contradicted(self, number: int) -> IndexContradicted:
        """Return what is said where a block is not as told."""
        start = number * self.step
        stop = min(start + self.step, self.rows)
        return IndexContradicted(
            f"events {start} to {stop - 1} are not all there, from {self.firsts_us[number]} us on and before "
            f"{self.stops_us[number]} us, as {self.path} tells; the recording was read through"
        )


class ToldPlace(NamedTuple):
    """A place of a bookmark that an index of time has told: before the block of a number."""

    blocks: ToldBlocks
    number: int


def index_of(where: Hdf5Events, told_by: TimeIndex, new_report: FileReport) -> SeekIndex | None:
    """Return an index of all events; None where the file has none that could be true.

    Args:
        where: The events of the open file, at least one.
        told_by: Where its index is.
        new_report: Report of a reading that has not begun.
    """
    entries = read_entries(where, told_by)
    if entries is None:
        return None
    step, rows = where.step, where.rows
    times_us, numbers = entries
    starts = np.arange(0, rows, step)
    stops = np.minimum(starts + step, rows)
    # The last entry at or before a block's first row, and the first at or behind its end.
    times_us = np.concatenate([[LONG_AGO_US], times_us, [NEVER_US]])
    firsts_us = times_us[np.searchsorted(numbers, starts, side="right")]
    stops_us = times_us[np.searchsorted(numbers, stops, side="left") + 1]
    blocks = ToldBlocks(told_by.path, step, rows, firsts_us, stops_us)
    decoder = EcfDecoder()
    first_us, last_us = (int(read_times(where, at, at + 1, decoder)[0]) for at in (0, rows - 1))
    report = new_report.copy()
    report.notes.append(f"told by {told_by.path}; the recording was not read through")
    index = SeekIndex(told=True)
    # To the times of the neighbours, so that these are read and compared too.
    wide_first = [LONG_AGO_US, *firsts_us[:-1].tolist()]
    wide_last = [*(stops_us[1:] - 1).tolist(), NEVER_US]
    for number, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
        before = replace(report.copy(), events=start, t_first_us=first_us if start else None)
        place = Bookmark(ToldPlace(blocks, number), before)
        index.blocks.append(Block(start, stop, (wide_first[number], wide_last[number]), place))
    index.report = replace(
        report.copy(), events=rows, bytes_read=report.bytes_total, t_first_us=first_us, t_last_us=last_us
    )
    return index


def read_entries(where: Hdf5Events, told_by: TimeIndex) -> tuple[np.ndarray, np.ndarray] | None:
    """Return times in microseconds and the number of the first event at each or later, int64, shape [n].

    None where there is no such index, or it is not in order.
    """
    found = data_set(where.file, told_by.path)
    if found is None or found.dtype.hasobject:
        return None
    check_data_set(found, where.path)
    if not 0 < found.shape[0] <= MOST_ENTRIES:
        return None
    names = found.dtype.names
    if names is None and found.dtype.kind in "iu":
        numbers = found[()].astype(np.int64)
        times_us = np.arange(len(numbers), dtype=np.int64) * told_by.step_us
    elif names is not None and {"id", "ts"} <= set(names) and not shifted(found):
        rows = found[()]
        numbers, times_us = rows["id"].astype(np.int64), rows["ts"].astype(np.int64)
    else:
        return None
    in_order = np.all(numbers[1:] >= numbers[:-1]) and np.all(times_us[1:] > times_us[:-1])
    if not in_order or numbers[0] < 0 or numbers[-1] > where.rows:
        return None
    return times_us + where.t_offset_us, numbers


def shifted(found: "h5py.Dataset") -> bool:
    """Whether an index of Prophesee's counts its times from another one than its events."""
    import h5py

    if not h5py.h5a.exists(found.id, b"offset"):
        return False
    attribute = h5py.h5a.open(found.id, b"offset")
    whole = isinstance(attribute.get_type(), h5py.h5t.TypeIntegerID) and attribute.shape in ((), (1,))
    return not whole or bool(np.any(found.attrs["offset"] != 0))

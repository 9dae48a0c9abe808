"""Binning straight from the bytes of a file of records of eight bytes, without an array of events in between.

Only where every record is plainly an event and the clock never falls: that is checked on the way, block by
block in the cache, and at the first doubt nothing is returned and the caller decodes and bins as ever. So
what a damaged file gives, and what its report says, is decided in one place, the reader.

Which records a frame takes is known before the counting starts: a file of plain records says their number,
and in times that never fall the ends of a frame are found by bisection. One pass over the file does.
"""

import os

import numpy as np
from numba import njit

from events.binning.levels import group_edges, stored_lanes, sub_frames_of
from events.binning.numba_cpu import add_sub_frame, axis_offsets, checked_output, look_up
from events.binning.reference import frame_edges, frame_width_us
from events.binning.resize import resize_frames
from events.binning.settings import BinSettings, Frames
from events.readers.record_layout import RecordLayout, load, swap_words
from events.readers.record_recording import PlainRecords, RecordRecording
from events.readers.source import open_descriptor
from events.recording import EVENT_DTYPE, Recording

# Bytes read at a time; a whole number of records. Stays in the second-level cache.
BLOCK_BYTES = 256 * 1024

# Records checked, then counted: they stay in the first-level cache in between.
CHECKED_RECORDS = 2048

# A frame, then where a row outside, a column outside, or both lead.
_BUFFER_FRAMES = 3


def bin_fused(recording: Recording, settings: BinSettings, *, out: np.ndarray | None = None) -> Frames | None:
    """Bin a recording from its bytes, with the result of `bin_events` on all its events.

    Args:
        recording: An opened recording; its report is filled where frames are returned.
        settings: What falls in which frame and what a frame holds.
        out: Where to put the frames, C-contiguous, of the settings' shape and dtype; None makes a new array.

    Returns:
        None where the format or the settings have no such way, or a record is not plainly an event.
    """
    if settings.value in ("last_time", "last_polarity") or settings.resize == "area":
        return None
    if settings.split == "window":
        return None
    if not isinstance(recording, RecordRecording):
        return None
    records = recording.plain_records()
    # Shorter records take longer this way than decoded first.
    if records is None or records.layout.record_bytes != 8:
        return None
    shape = settings.frame_shape(recording.sensor_hw)
    frames = np.empty(shape, settings.dtype) if out is None else checked_output(out, shape, settings.dtype)
    if settings.resizes_lanes:
        lanes = bin_fused(recording, settings.before_resizing)
        return None if lanes is None else resize_frames(lanes, settings, frames)
    descriptor = open_descriptor(recording.path)
    try:
        plan = _plan(_Times(descriptor, records), settings.cut)
        if plan is None:
            return None
        positions, t_edges_us, first_us, last_us = plan
        flat = frames.reshape(shape[0], -1)
        n_saturated = _count_file(descriptor, records, positions, recording.sensor_hw, settings, flat)
    finally:
        os.close(descriptor)
    if n_saturated is None:
        return None
    recording.report_plain(records.records, first_us, last_us)
    if settings.levels is not None:
        t_edges_us = group_edges(t_edges_us, settings.frames, settings.levels)
    return Frames(frames, t_edges_us, int(positions[-1] - positions[0]), n_saturated)


class _Times:
    """Stored times of a file's records by position."""

    def __init__(self, descriptor: int, records: PlainRecords) -> None:
        self._descriptor = descriptor
        self._records = records
        self.count = records.records

    def __getitem__(self, position: int) -> int:
        record = os.pread(self._descriptor, 8, self._records.offset + 8 * position)
        # Where somebody cut the file meanwhile this is 0, and the count then finds too few records.
        if self._records.layout.little == 1:
            return int.from_bytes(record[:4], "little")
        return int.from_bytes(record[4:], "big")

    def first_at(self, time_us: int) -> int:
        """Return the first position whose time is not below, in times that never fall."""
        low, high = 0, self.count
        while low < high:
            middle = (low + high) // 2
            if self[middle] < time_us:
                low = middle + 1
            else:
                high = middle
        return low


def _plan(times: _Times, settings: BinSettings) -> tuple[np.ndarray, np.ndarray, int, int] | None:
    """Return where each frame begins and the last ends, `Frames.t_edges_us`, and the first and last time.

    None where the clock has fallen, so that nothing of this would be right.
    """
    n, T = times.count, settings.frames
    first_us, last_us = times[0], times[n - 1]
    if last_us < first_us:
        return None
    if settings.split == "count":
        per_frame = settings.events_per_piece(n)
        positions = np.arange(T + 1) * per_frame
        if settings.tail == "last":
            positions[-1] = n
        starts = [times[position] for position in (np.arange(T) * per_frame).tolist()]
        stop = int(positions[-1])
        end = times[stop - 1] + 1 if stop else starts[-1]
        return positions, np.maximum.accumulate(np.array([*starts, end], np.int64)), first_us, last_us
    ends = np.zeros(2, EVENT_DTYPE)
    ends["t"] = first_us, last_us
    width_us = frame_width_us(ends, settings)
    kept = T
    if settings.split == "duration" and settings.tail == "drop":
        kept = min(T, (last_us - first_us) // width_us)
    starts_us = first_us + np.minimum(np.arange(T + 1), kept) * width_us
    positions = np.array([times.first_at(start) if start <= last_us else n for start in starts_us.tolist()])
    if settings.split == "time" and settings.tail != "drop":
        positions[-1] = n
    return np.maximum.accumulate(positions), frame_edges(ends, settings), first_us, last_us


def _count_file(
    descriptor: int,
    records: PlainRecords,
    positions: np.ndarray,
    sensor_hw: tuple[int, int],
    settings: BinSettings,
    out: np.ndarray,
) -> int | None:
    """Count a file into frames [T, P*H*W]; return the number of saturated pixels, None for any doubt."""
    height, width = settings.size_hw or sensor_hw
    plane = height * width
    cells = _cells(records.layout, sensor_hw, (height, width))
    if cells is None:
        return None
    # Where only presence matters a byte will do, so that the buffer is four times smaller.
    marks = settings.value in ("binary", "lane")
    counts = np.zeros(_BUFFER_FRAMES * 2 * plane, np.uint8 if marks else np.uint32)
    raw = np.empty(BLOCK_BYTES, np.uint8)
    top = 1 if settings.value == "binary" else settings.largest_value
    group, lanes = 0, stored_lanes(1)
    if settings.levels is not None:
        group, lanes = sub_frames_of(settings.levels), stored_lanes(settings.levels)
    state = np.zeros(3, np.int64)  # frame, saturated pixels, time of the last record
    state[2] = -1
    size, bits = records.layout.record_bytes, tuple(records.layout)
    done = 0
    while done < records.records:
        wanted = min(BLOCK_BYTES // size, records.records - done)
        target = raw[: wanted * size]
        if os.preadv(descriptor, [target.data], records.offset + done * size) < wanted * size:
            return None
        if not _count_block(
            target, done, positions, state, bits, records.limit_us, cells, counts, top, group, lanes, out
        ):
            return None
        done += wanted
    if counts[2 * plane :].any():
        return None
    return 0 if settings.value == "binary" else int(state[1])


# The part of an address that says one coordinate: table[address >> shift & mask], as (table, shift, mask).
_Axis = tuple[np.ndarray, int, int]


def _cells(
    layout: RecordLayout, sensor_hw: tuple[int, int], size_hw: tuple[int, int]
) -> tuple[_Axis, _Axis] | None:
    """Return where the addresses of a layout lead: the sum of what the tables of row and column say.

    Flips, resizing and the sensor's borders are in the tables, and so is polarity, in that of the axis whose
    bits it is next to. None where it is next to neither.
    """
    plane = size_hw[0] * size_hw[1]
    y_bits = np.arange(layout.y_mask + 1)
    x_bits = np.arange(layout.x_mask + 1)
    y = ((y_bits ^ layout.y_flip) + layout.y_add) & 0xFFFF
    x = ((x_bits ^ layout.x_flip) + layout.x_add) & 0xFFFF
    row = axis_offsets(sensor_hw[0], size_hw[0], size_hw[1], 2 * plane)[y]
    column = axis_offsets(sensor_hw[1], size_hw[1], 1, 2 * plane)[x]
    row[y >= layout.height] = 2 * plane
    column[x >= layout.width] = 2 * plane
    rows = (row.astype(np.uint32), layout.y_shift, layout.y_mask)
    columns = (column.astype(np.uint32), layout.x_shift, layout.x_mask)
    rows_with, columns_with = _with_polarity(rows, layout, plane), _with_polarity(columns, layout, plane)
    if rows_with is not None:
        return rows_with, columns
    return None if columns_with is None else (rows, columns_with)


def _with_polarity(axis: _Axis, layout: RecordLayout, plane: int) -> _Axis | None:
    """Return an axis with the bit of polarity, None where it is not next to it."""
    table, shift, mask = axis
    by_bit = [table, table + np.uint32(plane)]
    if layout.p_flip:
        by_bit.reverse()
    if layout.p_shift == shift + mask.bit_length():
        return np.concatenate(by_bit), shift, 2 * mask + 1
    if layout.p_shift == shift - 1:
        return np.stack(by_bit, axis=1).reshape(-1), shift - 1, 2 * mask + 1
    return None


@njit(cache=True, nogil=True)
def _count_block(  # type: ignore[no-untyped-def]
    raw, done, positions, state, bits, limit_us, cells, counts, top, group, lanes, out
):
    """Check and count whole records, finishing the frames that end among them; False for any doubt.

    With a group above 0, as many sub-frames make a frame, whose counts become lanes.
    `bits` is a RecordLayout as a plain tuple: of a named one, Numba takes 10 us to tell the type.
    """
    layout = RecordLayout(*bits)
    size = layout.record_bytes
    n = len(raw) // size
    frame = state[0]
    i = 0
    while i < n:
        if state[2] < 0:
            state[2] = np.int64(load(raw, 0, layout)[1])
        checked = min(n, i + CHECKED_RECORDS)
        if not _plain(raw[i * size : checked * size], layout, np.uint64(state[2]), np.uint64(limit_us)):
            return False
        state[2] = np.int64(load(raw, (checked - 1) * size, layout)[1])
        while frame < len(positions) - 1 and positions[frame + 1] - done <= checked:
            stop = positions[frame + 1] - done
            _count(raw[i * size : stop * size], layout, cells, counts)
            i = stop
            if group > 0:
                _finish_sub_frame(counts, frame, len(positions) - 2, group, lanes, out[frame // group])
            else:
                state[1] += _finish_frame(counts, top, out[frame])
            frame += 1
        _count(raw[i * size : checked * size], layout, cells, counts)
        i = checked
    state[0] = frame
    return True


@njit(cache=True, nogil=True)
def _plain(raw, layout, previous, limit_us):  # type: ignore[no-untyped-def]
    """Whether no record has bits that no event has, and each time is 0 to `limit_us` after the one before.

    Without a branch, so that the compiler makes vector instructions of it.
    """
    known = np.uint64(layout.garbage_mask | layout.special_mask)
    unsteady = np.uint64(0)
    strange = np.uint64(0)
    low = np.uint64(0xFFFFFFFF)
    if layout.little == 1:
        words = raw.view(np.uint64)
        first = (words[0] & low) - previous
        unsteady |= first | (limit_us - first)
        strange |= words[0] >> np.uint64(32)
        for i in range(1, len(words)):
            step = (words[i] & low) - (words[i - 1] & low)
            unsteady |= step | (limit_us - step)
            strange |= words[i] >> np.uint64(32)
    else:
        words = raw.view(np.uint64)
        for i in range(len(words)):
            record = swap_words(words[i])
            step = (record & low) - previous
            unsteady |= step | (limit_us - step)
            strange |= record >> np.uint64(32)
            previous = record & low
    return (unsteady >> np.uint64(63)) == 0 and (strange & known) == 0


@njit(cache=True, nogil=True)
def _count(raw, layout, cells, counts):  # type: ignore[no-untyped-def]
    """Add the records to the counts, or mark them with 1 where counts are bytes.

    One loop for each way to count and to load them, which is faster.
    """
    (rows, row_shift, row_mask), (columns, column_shift, column_mask) = cells
    row_shift, row_mask = np.uint64(row_shift), np.uint64(row_mask)
    column_shift, column_mask = np.uint64(column_shift), np.uint64(column_mask)
    words = raw.view(np.uint64)
    if counts.itemsize == 1:
        for i in range(len(words)):
            address = (words[i] if layout.little == 1 else swap_words(words[i])) >> np.uint64(32)
            cell = np.uint64(rows[(address >> row_shift) & row_mask])
            counts[cell + np.uint64(columns[(address >> column_shift) & column_mask])] = 1
    elif layout.little == 1:
        for i in range(len(words)):
            address = words[i] >> np.uint64(32)
            cell = np.uint64(rows[(address >> row_shift) & row_mask])
            counts[cell + np.uint64(columns[(address >> column_shift) & column_mask])] += np.uint32(1)
    else:
        for i in range(len(words)):
            address = swap_words(words[i]) >> np.uint64(32)
            cell = np.uint64(rows[(address >> row_shift) & row_mask])
            counts[cell + np.uint64(columns[(address >> column_shift) & column_mask])] += np.uint32(1)


@njit(cache=True, nogil=True)
def _finish_frame(counts, top, frame):  # type: ignore[no-untyped-def]
    """Move the counts to their frame and clear them; return how many were above the largest value."""
    saturated = 0
    for cell in range(len(frame)):
        saturated += counts[cell] > top
        frame[cell] = min(counts[cell], np.uint32(top))
        counts[cell] = 0
    return saturated


@njit(cache=True, nogil=True)
def _finish_sub_frame(counts, sub_frame, last, group, lanes, frame):  # type: ignore[no-untyped-def]
    """Add the cells that have counts to their frame, and clear them; the group's last makes lanes of it."""
    if sub_frame % group == 0:
        frame[:] = 0
    add_sub_frame(counts, frame)
    if (sub_frame + 1) % group == 0 or sub_frame == last:
        look_up(lanes, frame)

"""Binning in Numba: the rules of `reference.py`, fifty times as fast.

Events are planned into runs first (a run is a stretch of events of one frame), then each frame is
filled in one go in a scratch buffer that stays in the cache. No check is made per event. Two tables
lead from a coordinate to its place in the buffer, and a coordinate outside the sensor leads past the
frame, into the buffer's margin. Counts wrap around, and after each frame their sum is compared with
the number of events: where it differs, a count was too large or an event outside, and the frame is
counted again the slow and exact way.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit

from events.binning.levels import group_edges, stored_lanes, sub_frames_of
from events.binning.reference import (
    LONGEST_LAST_TIME_US,
    area_overlaps,
    check_events,
    frame_edges,
    frame_width_us,
)
from events.binning.resize import resize_frames
from events.binning.settings import BinSettings, Frames
from events.errors import ConfigError, DamagedRecording
from events.recording import EVENT_DTYPE
from events.seek import times_of

# Kernels fill a buffer this many frames long: the frame, then the margin that a row outside, a column
# outside, or both lead to.
_BUFFER_FRAMES = 3


class _Runs(NamedTuple):
    """Which events each frame takes: run r is events start[r] to stop[r], and frame i takes the runs
    first[i] to first[i + 1]."""

    start: np.ndarray
    stop: np.ndarray
    first: np.ndarray


def bin_events(
    events: np.ndarray,
    *,
    settings: BinSettings,
    sensor_hw: tuple[int, int],
    out: np.ndarray | None = None,
) -> Frames:
    """Turn the events of one recording into frames; the rules are those of `BinSettings`.

    The input is not changed.

    Args:
        events: Shape [N], EVENT_DTYPE, in file order, all inside the sensor.
        settings: What falls in which frame and what a frame holds.
        sensor_hw: Height and width of the sensor in pixels.
        out: Where to put the frames, C-contiguous, of `settings.frame_shape(sensor_hw)` and dtype;
            overwritten. None makes a new array. Reusing one saves the first touch of new memory.

    Returns:
        Frames [T, P, H, W] and what is known about them.

    Raises:
        ConfigError: The array is no event array, an event lies outside the sensor, `out` does not fit, or
            the settings are of a window of given bounds.
        DamagedRecording: `last_time` is asked for and a frame spans more than four years.
    """
    if settings.split == "window":
        raise ConfigError(
            "split 'window' needs the window's bounds; use events.binning.window_numba.bin_window"
        )
    if events.dtype != EVENT_DTYPE or events.ndim != 1:
        check_events(events, sensor_hw)
    events = np.ascontiguousarray(events)
    shape = settings.frame_shape(sensor_hw)
    frames = np.empty(shape, settings.dtype) if out is None else checked_output(out, shape, settings.dtype)
    flat = frames.reshape(shape[0], -1)
    if settings.resizes_lanes:
        lanes = bin_events(events, settings=settings.before_resizing, sensor_hw=sensor_hw)
        return resize_frames(lanes, settings, frames)
    runs, t_edges_us = _plan(events, settings.cut)
    n_saturated = _fill(flat, events, runs, t_edges_us, settings, sensor_hw)
    if n_saturated < 0:
        check_events(events, sensor_hw)
    if settings.levels is not None:
        t_edges_us = group_edges(t_edges_us, settings.frames, settings.levels)
    return Frames(frames, t_edges_us, int((runs.stop - runs.start).sum()), n_saturated)


def checked_output(out: np.ndarray, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return memory given for frames, or raise ConfigError where it is not of their shape and dtype."""
    if out.shape != shape or out.dtype != np.dtype(dtype) or not out.flags.c_contiguous:
        raise ConfigError(
            f"out must be a C-contiguous {dtype} array of shape {shape}, got {out.dtype} {out.shape}"
            f"{'' if out.flags.c_contiguous else ', not contiguous'}"
        )
    return out


def _fill(
    flat: np.ndarray,
    events: np.ndarray,
    runs: _Runs,
    t_edges_us: np.ndarray,
    settings: BinSettings,
    sensor_hw: tuple[int, int],
) -> int:
    """Fill frames [T, P*H*W] and return the number of saturated pixels, -1 for an event outside."""
    words = events.view(np.uint64)
    by_area = settings.resize == "area" and settings.size_hw is not None
    height, width = sensor_hw if by_area else settings.size_hw or sensor_hw
    size = 2 * height * width
    row_offset = row_offsets(sensor_hw[0], height, width)
    column_offset = axis_offsets(sensor_hw[1], width, 1, size)
    if settings.levels is not None:
        group, lanes = sub_frames_of(settings.levels), stored_lanes(settings.levels)
        return _fill_lanes(words, *runs, row_offset, column_offset, group, lanes, flat)
    if settings.value == "binary":
        return _fill_binary(words, *runs, row_offset, column_offset, flat)
    if settings.value == "last_polarity":
        return _fill_last_polarities(words, *runs, row_offset, column_offset, flat)
    if settings.value == "last_time":
        check_spans(t_edges_us)
        return _fill_last_times(
            words, *runs, row_offset, column_offset, t_edges_us, settings.largest_value, flat
        )
    if by_area and settings.size_hw is not None:
        rows = area_overlaps(sensor_hw[0], settings.size_hw[0])
        columns = area_overlaps(sensor_hw[1], settings.size_hw[1])
        return _fill_area(words, *runs, row_offset, column_offset, rows, columns, flat)
    return _fill_counts(words, *runs, row_offset, column_offset, flat)


def check_spans(t_edges_us: np.ndarray) -> None:
    """Raise DamagedRecording where a frame is too long for the times in it to be scaled."""
    longest = np.diff(t_edges_us).max()
    if longest > LONGEST_LAST_TIME_US:
        raise DamagedRecording(
            f"a frame spans {longest} microseconds, more than four years; "
            "the clock of this recording is damaged, use value 'count' or 'binary'"
        )


@lru_cache(maxsize=16)
def row_offsets(pixels: int, height: int, width: int) -> np.ndarray:
    """Return where every row leads, those of polarity ON after those of OFF; uint64 [2 * 65536]."""
    off = axis_offsets(pixels, height, width, 2 * height * width)
    return np.concatenate([off, off + np.uint64(height * width)])


@lru_cache(maxsize=16)
def axis_offsets(pixels: int, cells: int, stride: int, size: int) -> np.ndarray:
    """Return where every coordinate along one axis leads in the buffer; uint64 [65536].

    Args:
        pixels: Pixels of the sensor along the axis.
        cells: Cells of the frame along it.
        stride: Distance of neighbouring cells in a frame.
        size: Cells of a whole frame: where coordinates outside the sensor lead.
    """
    offsets = np.full(1 << 16, size, np.uint64)
    offsets[:pixels] = np.arange(min(pixels, 1 << 16)) * cells // pixels * stride
    return offsets


def _plan(events: np.ndarray, settings: BinSettings) -> tuple[_Runs, np.ndarray]:
    """Find out which events each frame takes; return that and `Frames.t_edges_us`."""
    n, T = len(events), settings.frames
    if settings.split == "count" or n == 0:
        edges = np.arange(T + 1) * settings.events_per_piece(n)
        if settings.tail == "last":
            edges[-1] = n
        return _Runs(edges[:-1], edges[1:], np.arange(T + 1)), frame_edges(events, settings)
    words = events.view(np.int64)
    rising = _never_falls(words)
    earliest, latest = (words[0], words[-2]) if rising else times_of(events)
    # Edges depend on the earliest and latest time alone, so two events stand for all.
    ends = np.zeros(2, EVENT_DTYPE)
    ends["t"] = earliest, latest
    t_edges_us = frame_edges(ends, settings)
    width_us = frame_width_us(ends, settings)
    kept = T
    if settings.split == "duration" and settings.tail == "drop":
        kept = min(T, (latest - earliest) // width_us)
    to_last = settings.split == "time" and settings.tail != "drop"
    if rising:
        return _cut_rising(words, earliest, width_us, T, kept, to_last), t_edges_us
    start, stop, frame = _find_runs(words, earliest, width_us, kept, to_last)
    order = np.argsort(frame, kind="stable")
    return _Runs(start[order], stop[order], np.searchsorted(frame[order], np.arange(T + 1))), t_edges_us


def _cut_rising(words: np.ndarray, t_first: int, width_us: int, T: int, kept: int, to_last: bool) -> _Runs:
    """Plan events whose times never fall: one run a frame, found by bisection."""
    starts_us = t_first + np.minimum(np.arange(T + 1, dtype=np.int64), kept) * width_us
    edges = _first_at(words, starts_us)
    if to_last:
        edges[-1] = len(words) // 2
    return _Runs(edges[:-1], edges[1:], np.arange(T + 1))


@njit(cache=True, nogil=True)
def _never_falls(words):  # type: ignore[no-untyped-def]
    """Return whether no time is below the one before it."""
    falls = 0
    for i in range(1, len(words) // 2):
        falls += words[2 * i] < words[2 * i - 2]
    return falls == 0


@njit(cache=True, nogil=True)
def _first_at(words, times):  # type: ignore[no-untyped-def]
    """Return the first event at or after each time; the events' times never fall."""
    found = np.empty(len(times), np.int64)
    for k in range(len(times)):
        low, high = 0, len(words) // 2
        while low < high:
            middle = (low + high) // 2
            if words[2 * middle] < times[k]:
                low = middle + 1
            else:
                high = middle
        found[k] = low
    return found


@njit(cache=True, nogil=True)
def _find_runs(words, t_first, width_us, kept, to_last):  # type: ignore[no-untyped-def]
    """Cut the events where the frame changes; runs of frames not kept are left out.

    Divides once per run, not once per event: within a run a time is only compared with the frame's ends.
    """
    n = len(words) // 2
    # Only as much of these is touched as there are runs.
    start = np.empty(n, np.int64)
    stop = np.empty(n, np.int64)
    frame = np.empty(n, np.int64)
    runs = 0
    i = 0
    while i < n:
        this = (words[2 * i] - t_first) // width_us
        low = t_first + this * width_us
        high = low + width_us
        if to_last and this >= kept - 1:
            this = kept - 1
            low = t_first + this * width_us
            high = np.iinfo(np.int64).max
        begin = i
        i += 1
        while i < n and low <= words[2 * i] < high:
            i += 1
        if this < kept:
            start[runs], stop[runs], frame[runs] = begin, i, this
            runs += 1
    return start[:runs].copy(), stop[:runs].copy(), frame[:runs].copy()


@njit(cache=True, nogil=True, inline="always")
def _cell(word, row_offset, column_offset):  # type: ignore[no-untyped-def]
    """Return where the event of a word leads in the buffer.

    The word holds, from its low end, x and y of 16 bits each and p of one bit, so that y and p together
    are one index. Unsigned throughout: Numba then leaves out its handling of negative indices.
    """
    return row_offset[(word >> np.uint64(16)) & np.uint64(0x1FFFF)] + column_offset[word & np.uint64(0xFFFF)]


@njit(cache=True, nogil=True)
def _fill_counts(words, start, stop, first, row_offset, column_offset, out):  # type: ignore[no-untyped-def]
    """Count events, stopping at the largest value of the dtype."""
    size = out.shape[1]
    top = np.iinfo(out.dtype).max
    buffer = np.zeros(_BUFFER_FRAMES * size, out.dtype)
    saturated = 0
    for f in range(len(out)):
        frame = out[f]
        events = _count_frame(words, start, stop, first, f, row_offset, column_offset, buffer)
        counted = 0
        for cell in range(size):
            counted += buffer[cell]
            frame[cell] = buffer[cell]
            buffer[cell] = 0
        if counted != events:
            counts = np.zeros(_BUFFER_FRAMES * size, np.int32)
            _count_frame(words, start, stop, first, f, row_offset, column_offset, counts)
            if _any_in_margin(counts, size):
                return -1
            saturated += (counts > top).sum()
            frame[:] = np.minimum(counts[:size], top)
    return saturated


@njit(cache=True, nogil=True)
def _count_frame(  # type: ignore[no-untyped-def]
    words, start, stop, first, f, row_offset, column_offset, counts
):
    """Add the events of frame f to counts; return how many there are."""
    events = 0
    for run in range(first[f], first[f + 1]):
        for i in range(start[run], stop[run]):
            counts[_cell(words[2 * i + 1], row_offset, column_offset)] += 1
        events += stop[run] - start[run]
    return events


@njit(cache=True, nogil=True)
def _any_in_margin(buffer, size):  # type: ignore[no-untyped-def]
    """Return whether an event outside the sensor was met. Looks at everything, which vectorises."""
    found = buffer[size]
    for cell in range(size, len(buffer)):
        found |= buffer[cell]
    return found != 0


@njit(cache=True, nogil=True)
def _fill_binary(words, start, stop, first, row_offset, column_offset, out):  # type: ignore[no-untyped-def]
    """Write 1 where there is an event."""
    size = out.shape[1]
    buffer = np.zeros(_BUFFER_FRAMES * size, out.dtype)
    for f in range(len(out)):
        for run in range(first[f], first[f + 1]):
            for i in range(start[run], stop[run]):
                buffer[_cell(words[2 * i + 1], row_offset, column_offset)] = 1
        _move(buffer, out[f])
    return -1 if _any_in_margin(buffer, size) else 0


@njit(cache=True, nogil=True)
def _move(buffer, frame):  # type: ignore[no-untyped-def]
    """Copy the buffer's first cells to the frame and clear them."""
    for cell in range(len(frame)):
        frame[cell] = buffer[cell]
        buffer[cell] = 0


@njit(cache=True, nogil=True)
def _fill_lanes(  # type: ignore[no-untyped-def]
    words, start, stop, first, row_offset, column_offset, group, lanes, out
):
    """Count the sub-frames of a group that have an event, and write the count's lane."""
    size = out.shape[1]
    buffer = np.zeros(_BUFFER_FRAMES * size, out.dtype)
    for sub_frame in range(len(first) - 1):
        frame = out[sub_frame // group]
        for run in range(first[sub_frame], first[sub_frame + 1]):
            for i in range(start[run], stop[run]):
                buffer[_cell(words[2 * i + 1], row_offset, column_offset)] = 1
        if sub_frame % group == 0:
            _move(buffer, frame)
        else:
            add_sub_frame(buffer, frame)
        if (sub_frame + 1) % group == 0 or sub_frame == len(first) - 2:
            look_up(lanes, frame)
    return -1 if _any_in_margin(buffer, size) else 0


@njit(cache=True, nogil=True)
def add_sub_frame(buffer, frame):  # type: ignore[no-untyped-def]
    """Add the buffer's first cells, 0 or more, as 0 or 1 to the frame and clear them."""
    for cell in range(len(frame)):
        frame[cell] += buffer[cell] != 0
        buffer[cell] = 0


@njit(cache=True, nogil=True)
def look_up(table, frame):  # type: ignore[no-untyped-def]
    """Replace each value of a frame by the table's entry of that number."""
    for cell in range(len(frame)):
        frame[cell] = table[frame[cell]]


@njit(cache=True, nogil=True)
def _fill_last_times(  # type: ignore[no-untyped-def]
    words, start, stop, first, row_offset, column_offset, t_edges_us, top, out
):
    """Write the scaled time of the latest event of each pixel."""
    size = out.shape[1]
    buffer = np.zeros(_BUFFER_FRAMES * size, out.dtype)
    for f in range(len(out)):
        span = t_edges_us[f + 1] - 1 - t_edges_us[f]
        for run in range(first[f], first[f + 1]):
            for i in range(start[run], stop[run]):
                elapsed = min(max(np.int64(words[2 * i]) - t_edges_us[f], 0), max(span, 0))
                value = 1 + elapsed * (top - 1) // span if span > 0 else top
                cell = _cell(words[2 * i + 1], row_offset, column_offset)
                buffer[cell] = max(buffer[cell], value)
        _move(buffer, out[f])
    return -1 if _any_in_margin(buffer, size) else 0


@njit(cache=True, nogil=True)
def _fill_last_polarities(  # type: ignore[no-untyped-def]
    words, start, stop, first, row_offset, column_offset, out
):
    """Write 1 for the polarity of the last event of each pixel, 0 for the other."""
    size = out.shape[1]
    plane, inside = np.uint64(size // 2), np.uint64(size)
    buffer = np.zeros(_BUFFER_FRAMES * size, out.dtype)
    for f in range(len(out)):
        for run in range(first[f], first[f + 1]):
            for i in range(start[run], stop[run]):
                cell = _cell(words[2 * i + 1], row_offset, column_offset)
                buffer[cell] = 1
                if cell < plane:
                    buffer[cell + plane] = 0
                elif cell < inside:
                    buffer[cell - plane] = 0
        _move(buffer, out[f])
    return -1 if _any_in_margin(buffer, size) else 0


@njit(cache=True, nogil=True)
def _fill_area(  # type: ignore[no-untyped-def]
    words, start, stop, first, row_offset, column_offset, rows, columns, out
):
    """Count at sensor size, then share each count among the cells over its pixel."""
    (H, h), (W, w) = rows.shape, columns.shape
    top = np.iinfo(out.dtype).max
    unit = H * W
    counts = np.zeros(_BUFFER_FRAMES * 2 * h * w, np.int32)
    shares = np.empty(2 * H * W, np.int64)
    saturated = 0
    for f in range(len(out)):
        _count_frame(words, start, stop, first, f, row_offset, column_offset, counts)
        shares[:] = 0
        _share_counts(counts[: 2 * h * w].reshape(2, h, w), rows, columns, shares.reshape(2, H, W))
        counts[: 2 * h * w] = 0
        for cell in range(len(shares)):
            value = (2 * shares[cell] + unit) // (2 * unit)
            saturated += value > top
            out[f, cell] = min(value, top)
    return -1 if _any_in_margin(counts, 2 * h * w) else saturated


@njit(cache=True, nogil=True)
def _share_counts(counts, rows, columns, shares):  # type: ignore[no-untyped-def]
    """Add each count [P, h, w] to the cells [P, H, W] it lies under, in units of 1 / (H * W) events.

    Along each axis pixel i lies under the cells i * cells // pixels to ((i + 1) * cells - 1) // pixels.
    """
    (H, h), (W, w) = rows.shape, columns.shape
    row_shares = np.empty(W, np.int64)
    first_column = np.arange(w) * W // w
    last_column = ((np.arange(w) + 1) * W - 1) // w
    for p in range(2):
        for y in range(h):
            row_shares[:] = 0
            for x in range(w):
                count = np.int64(counts[p, y, x])
                for column in range(first_column[x], last_column[x] + 1):
                    row_shares[column] += count * columns[column, x]
            for row in range(y * H // h, ((y + 1) * H - 1) // h + 1):
                for column in range(W):
                    shares[p, row, column] += rows[row, y] * row_shares[column]

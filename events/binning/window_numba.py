"""Frames of windows in Numba: the rules of `window.py`, in one pass over the events.

Each event adds to its place in the frames at once and stops there at the largest value. Only where a count
stopped are the events gone through again, to find in how many pixels.
"""

import numpy as np
from numba import njit

from events.binning.numba_cpu import axis_offsets, checked_output
from events.binning.reference import check_events
from events.binning.settings import BinSettings, Frames
from events.binning.window import last_events, window_before, window_edges
from events.filters.settings import FilterSettings
from events.filters.stream import EventFilter
from events.recording import EVENT_DTYPE

# What a kernel does with an event's place: count up to a largest value, or write 1.
_COUNT, _ANY = 0, 1


def bin_window(
    events: np.ndarray,
    *,
    settings: BinSettings,
    sensor_hw: tuple[int, int],
    stop_us: int,
    out: np.ndarray | None = None,
) -> Frames:
    """Turn the events of one window into frames, as `events.binning.window.bin_window` does.

    Args:
        events: Shape [N], EVENT_DTYPE, all inside the sensor, in any order.
        settings: With split `window`.
        sensor_hw: Height and width of the sensor in pixels.
        stop_us: The first microsecond behind the window.
        out: Where to put the frames, C-contiguous, of the settings' shape and dtype; overwritten. None
            makes a new array.

    Raises:
        ConfigError: As the definition, or `out` does not fit.
    """
    if events.dtype != EVENT_DTYPE or events.ndim != 1:
        check_events(events, sensor_hw)
    events, settings = last_events(events, settings, stop_us)
    start_us, behind_us = window_before(stop_us, settings)
    if settings.dedup:
        check_events(events, sensor_hw)
        events = EventFilter(FilterSettings(start_us, behind_us, dedup=True), sensor_hw)(events)
    words = np.ascontiguousarray(events).view(np.int64)
    shape = settings.frame_shape(sensor_hw)
    frames = np.empty(shape, settings.dtype) if out is None else checked_output(out, shape, settings.dtype)
    frames[...] = 0
    n, top = settings.micro_bins or 1, settings.largest_value
    plane = shape[2] * shape[3]
    cells = (
        axis_offsets(sensor_hw[0], shape[2], shape[3], frames.size),
        axis_offsets(sensor_hw[1], shape[3], 1, frames.size),
    )
    if settings.rvt_compat:
        counts = np.zeros(frames.size, np.uint32)
        kept = _add_rvt(words, start_us, behind_us, n, plane, cells, counts)
        saturated = _wrap(counts, np.uint32(top), frames.reshape(-1))
    else:
        parts = (settings.frames * n, n, behind_us - start_us)
        kind = _ANY if settings.value == "binary" else _COUNT
        flat = frames.reshape(-1)
        kept, stopped = _add(words, start_us, behind_us, parts, plane, cells, kind, top, flat, _NO_CELLS)
        saturated = 0
        if kept >= 0 and stopped:
            over = np.empty(stopped, np.int64)
            flat[:] = 0
            _add(words, start_us, behind_us, parts, plane, cells, kind, top, flat, over)
            saturated = len(np.unique(over))
    if kept < 0:
        check_events(events, sensor_hw)
    return Frames(frames, window_edges(stop_us, settings), kept, saturated)


_NO_CELLS = np.empty(0, np.int64)


@njit(cache=True, nogil=True)
def _add(words, start, stop, parts, plane, cells, kind, top, out, over):  # type: ignore[no-untyped-def]
    """Add the events of a window to its flat frames [T * 2n * H * W].

    Returns how many there are, -1 with one outside the sensor, and how often a count stopped at `top`; `over`
    takes the places of these, where it has room.
    """
    rows, columns = cells
    in_all, n, span = parts
    kept = np.int64(0)
    stopped = np.int64(0)
    # It divides where the part may change, not once per event: it holds while low <= t < high.
    low = high = np.int64(0)
    base = np.int64(0)
    for i in range(len(words) // 2):
        t = words[2 * i]
        if t < start or t >= stop:
            continue
        if not low <= t < high:
            part = (t - start) * in_all // span
            # First whole microseconds of this part and of the next: part * span / in_all, rounded up.
            low = start - (-part * span) // in_all
            high = start - (-(part + 1) * span) // in_all
            base = (part // n * 2 * n + part % n) * plane
        word = np.uint64(words[2 * i + 1])
        cell = rows[(word >> np.uint64(16)) & np.uint64(0xFFFF)] + columns[word & np.uint64(0xFFFF)]
        if cell >= np.uint64(plane):
            return np.int64(-1), stopped
        place = base + np.int64(cell)
        if (word >> np.uint64(32)) & np.uint64(1):
            place += n * plane
        kept += 1
        if kind == _ANY:
            out[place] = 1
        elif out[place] < top:
            out[place] += 1
        else:
            if stopped < len(over):
                over[stopped] = place
            stopped += 1
    return kept, stopped


@njit(cache=True, nogil=True)
def _add_rvt(words, start, stop, n, plane, cells, counts):  # type: ignore[no-untyped-def]
    """Count the events of a window between its first and last; return how many, -1 with one outside."""
    rows, columns = cells
    first, last = np.int64(stop), np.int64(start)
    for i in range(len(words) // 2):
        t = words[2 * i]
        if start <= t < stop:
            first, last = min(first, t), max(last, t)
    span = np.float32(max(np.int64(last - first), np.int64(1)))
    kept = np.int64(0)
    for i in range(len(words) // 2):
        t = words[2 * i]
        if t < start or t >= stop:
            continue
        since = np.float32(t - first) / span
        part = min(np.int64(np.floor(since * np.float32(n))), n - 1)
        word = np.uint64(words[2 * i + 1])
        cell = rows[(word >> np.uint64(16)) & np.uint64(0xFFFF)] + columns[word & np.uint64(0xFFFF)]
        if cell >= np.uint64(plane):
            return np.int64(-1)
        polarity = np.int64((word >> np.uint64(32)) & np.uint64(1))
        counts[(polarity * n + part) * plane + np.int64(cell)] += np.uint32(1)
        kept += 1
    return kept


@njit(cache=True, nogil=True)
def _wrap(counts, top, out):  # type: ignore[no-untyped-def]
    """Write counts as bytes that wrapped, cut off at `top`; return how many were above it."""
    saturated = 0
    for cell in range(len(counts)):
        saturated += counts[cell] > top
        out[cell] = min(counts[cell] & np.uint32(255), top)
    return saturated

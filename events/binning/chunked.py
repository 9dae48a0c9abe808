"""Binning a recording chunk by chunk, twice through it: memory of the frames, whatever its length.

The first reading finds what the frames depend on: the number of events, and the earliest and latest time. The
second counts. For recordings too long to be held in memory; others are read once and binned by `numba_cpu`.
"""

import numpy as np
from numba import njit

from events.binning.numba_cpu import axis_offsets, row_offsets, time_range
from events.binning.reference import check_events, frame_edges, frame_width_us
from events.binning.settings import BinSettings, Frames
from events.recording import EVENT_DTYPE, Recording

# Which rule of `BinSettings` a kernel follows.
_BY_COUNT, _BY_TIME = 0, 1


def bin_chunked(recording: Recording, settings: BinSettings) -> Frames | None:
    """Bin a recording in bounded memory, with the result of `bin_events` on all its events.

    Returns:
        None where the settings have no such way, or the recording no events.

    Raises:
        EventsError: The recording cannot be read, or gives an event outside its sensor.
    """
    if settings.value in ("last_time", "last_polarity") or settings.resize == "area":
        return None
    n, t_first, t_last = 0, 0, 0
    for chunk in recording.chunks():
        earliest, latest, _ = time_range(chunk.view(np.int64))
        t_first = earliest if n == 0 else min(t_first, earliest)
        t_last = latest if n == 0 else max(t_last, latest)
        n += len(chunk)
    if n == 0:
        return None
    sensor_hw = recording.sensor_hw
    shape = settings.frame_shape(sensor_hw)
    rows = row_offsets(sensor_hw[0], shape[2], shape[3])
    columns = axis_offsets(sensor_hw[1], shape[3], 1, 2 * shape[2] * shape[3])
    ends = np.zeros(2, EVENT_DTYPE)
    ends["t"] = t_first, t_last
    rule, width, kept, to_last = _rule(n, ends, settings)
    counts = np.zeros((shape[0], shape[1] * shape[2] * shape[3]), np.uint32)
    starts = _StartTimes(n, settings)
    position = counted = 0
    for chunk in recording.chunks():
        added = _add(
            chunk.view(np.uint64), position, rule, t_first, width, kept, to_last, rows, columns, counts
        )
        if added < 0:
            check_events(chunk, sensor_hw)
        counted += added
        starts.look(chunk["t"], position)
        position += len(chunk)
    edges = starts.edges() if settings.split == "count" else frame_edges(ends, settings)
    top = 1 if settings.value == "binary" else settings.largest_value
    saturated = 0 if settings.value == "binary" else int(np.count_nonzero(counts > top))
    frames = np.minimum(counts, top).astype(settings.dtype).reshape(shape)
    return Frames(frames, edges, counted, saturated)


def _rule(n: int, ends: np.ndarray, settings: BinSettings) -> tuple[int, int, int, bool]:
    """Return rule, events or microseconds in a frame, frames kept, and whether the last takes the rest."""
    T = settings.frames
    if settings.split == "count":
        return _BY_COUNT, n // T, T if n >= T else 0, settings.tail == "last"
    width_us = frame_width_us(ends, settings)
    kept = T
    if settings.split == "duration" and settings.tail == "drop":
        kept = min(T, int(ends["t"][1] - ends["t"][0]) // width_us)
    return _BY_TIME, width_us, kept, settings.split == "time" and settings.tail != "drop"


class _StartTimes:
    """Times of the events with which frames of equal count begin and end, met in chunks."""

    def __init__(self, n: int, settings: BinSettings) -> None:
        T = settings.frames
        per_frame = n // T
        self._stop = n if settings.tail == "last" else per_frame * T
        self._wanted = np.append(np.arange(T) * per_frame, max(self._stop - 1, 0))
        self._times = np.zeros(T + 1, np.int64)

    def look(self, times: np.ndarray, position: int) -> None:
        """Take what is wanted from the chunk that begins at a position."""
        inside = (self._wanted >= position) & (self._wanted < position + len(times))
        self._times[inside] = times[self._wanted[inside] - position]

    def edges(self) -> np.ndarray:
        """Return `Frames.t_edges_us`."""
        times = self._times.copy()
        times[-1] = times[-1] + 1 if self._stop else times[-2]
        return np.maximum.accumulate(times)


@njit(cache=True, nogil=True)
def _add(  # type: ignore[no-untyped-def]
    words, position, rule, t_first, width, kept, to_last, rows, columns, counts
):
    """Add the events of a chunk to the counts [T, P*H*W]; return how many are in a frame, -1 for one outside.

    Divides where the frame may change, not once per event: it holds while low <= place < high.
    """
    counted = np.int64(0)
    frame = np.int64(-1)
    low = high = np.int64(0)
    last = len(counts) - 1
    for i in range(len(words) // 2):
        place = position + i if rule == _BY_COUNT else np.int64(words[2 * i]) - t_first
        if not low <= place < high:
            frame = place // width if width > 0 else kept
            low, high = frame * width, (frame + 1) * width
            if width == 0:
                low, high = np.int64(0), np.iinfo(np.int64).max  # type: ignore[assignment]
            if frame >= kept:
                frame = np.int64(last if to_last else -1)
        if frame < 0:
            continue
        word = words[2 * i + 1]
        row = rows[(word >> np.uint64(16)) & np.uint64(0x1FFFF)]
        cell = row + columns[word & np.uint64(0xFFFF)]
        if cell >= np.uint64(counts.shape[1]):
            return np.int64(-1)
        counts[frame, cell] += np.uint32(1)
        counted += 1
    return counted

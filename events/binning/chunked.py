"""Binning a recording chunk by chunk, twice through it: memory of the frames, whatever its length.

The first reading finds what the frames depend on: the number of events, and the earliest and latest time. The
second sums up what the value of each cell follows from. For recordings too long to be held in memory; others
are read once and binned by `numba_cpu`.
"""

import numpy as np
from numba import njit

from events.binning.levels import group_edges, sub_frames_of
from events.binning.numba_cpu import axis_offsets, check_spans, row_offsets
from events.binning.reference import area_overlaps, check_events, frame_edges, frame_width_us, lanes_of
from events.binning.resize import resize_frames
from events.binning.settings import BinSettings, Frames
from events.errors import ConfigError
from events.recording import EVENT_DTYPE, Recording
from events.seek import times_of, wider

# Which rule of `BinSettings` a kernel follows.
_BY_COUNT, _BY_TIME = 0, 1

# What is summed up for a cell, and as which type: its events; 1 + its latest time since the first event, 0
# without any; whether its last event has the polarity of its plane; its events' shares of area; whether
# it has any event.
_COUNT, _LATEST, _LAST_POLARITY, _AREA, _ANY = range(5)
_SUM_TYPES = (np.uint32, np.int64, np.uint8, np.int64, np.uint8)


def bin_chunked(
    recording: Recording, settings: BinSettings, *, t_range_us: tuple[int, int] | None = None
) -> Frames | None:
    """Bin a recording in bounded memory, with the result of `bin_events` on all its events.

    Args:
        recording: An opened recording.
        settings: What falls in which frame and what a frame holds.
        t_range_us: Take the events with start <= t < stop only.

    Returns:
        None where there are no events.

    Raises:
        EventsError: The recording cannot be read, gives an event outside its sensor, or as `bin_events`.
    """
    if settings.split == "window":
        raise ConfigError(
            "split 'window' needs the window's bounds; use events.binning.window_numba.bin_window"
        )
    if settings.levels is not None:
        return _bin_levels(recording, settings, settings.levels, t_range_us)
    start_us, stop_us = t_range_us or (None, None)
    n, times_us = 0, (0, 0)
    for chunk in recording.chunks(start_us=start_us, stop_us=stop_us):
        times_us = times_of(chunk) if n == 0 else wider(times_us, times_of(chunk))
        n += len(chunk)
    if n == 0:
        return None
    ends = np.zeros(2, EVENT_DTYPE)
    ends["t"] = times_us
    kind = _kind(settings)
    frame_of = _rule(n, ends, settings)
    cell_of = _cells(settings, recording.sensor_hw)
    shape = settings.frame_shape(recording.sensor_hw)
    sums = np.zeros((shape[0], shape[1] * shape[2] * shape[3]), _SUM_TYPES[kind])
    starts = _StartTimes(n, settings)
    position = counted = 0
    for chunk in recording.chunks(start_us=start_us, stop_us=stop_us):
        added = _add(chunk.view(np.uint64), position, times_us[0], frame_of, cell_of, kind, sums)
        if added < 0:
            check_events(chunk, recording.sensor_hw)
        counted += added
        starts.look(chunk["t"], position)
        position += len(chunk)
    edges = starts.edges() if settings.split == "count" else frame_edges(ends, settings)
    frames, saturated = _values(sums, times_us[0], edges, settings)
    return Frames(frames.reshape(shape), edges, counted, saturated)


def _bin_levels(
    recording: Recording, settings: BinSettings, levels: int, t_range_us: tuple[int, int] | None
) -> Frames | None:
    """Return frames of S levels: binary sub-frames first, as a clock that steps back may meet any."""
    if settings.resizes_lanes:
        whole = bin_chunked(recording, settings.before_resizing, t_range_us=t_range_us)
        return None if whole is None else resize_frames(whole, settings)
    binary = bin_chunked(recording, settings.cut, t_range_us=t_range_us)
    if binary is None:
        return None
    frames = np.empty(settings.frame_shape(recording.sensor_hw), np.uint8)
    for frame, group in zip(frames, range(0, settings.pieces, sub_frames_of(levels)), strict=True):
        frame[...] = lanes_of(binary.frames[group : group + sub_frames_of(levels)], frames=1, levels=levels)[
            0
        ]
    return Frames(frames, group_edges(binary.t_edges_us, settings.frames, levels), binary.n_events, 0)


def _kind(settings: BinSettings) -> int:
    """Return what is summed up for a cell."""
    if settings.resize == "area" and settings.size_hw is not None:
        return _AREA
    kinds = {"last_time": _LATEST, "last_polarity": _LAST_POLARITY, "binary": _ANY}
    return kinds.get(settings.value, _COUNT)


def _cells(settings: BinSettings, sensor_hw: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Return where rows and columns lead in a frame, and by area how much of each lies under each cell."""
    height, width = settings.size_hw or sensor_hw
    rows = row_offsets(sensor_hw[0], height, width)
    columns = axis_offsets(sensor_hw[1], width, 1, 2 * height * width)
    if _kind(settings) != _AREA:
        height, width = 1, 1
    return rows, columns, *_shares(sensor_hw[0], height), *_shares(sensor_hw[1], width)


def _shares(pixels: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and last cell over each pixel [pixels, 2], and the shares of all [pixels, cells]."""
    pixel = np.arange(pixels)
    over = np.stack([pixel * cells // pixels, ((pixel + 1) * cells - 1) // pixels], axis=1)
    return over, np.ascontiguousarray(area_overlaps(pixels, cells).T)


def _values(
    sums: np.ndarray, t_first: int, edges: np.ndarray, settings: BinSettings
) -> tuple[np.ndarray, int]:
    """Return the frames that follow from the sums [T, P*H*W], and how many pixels are saturated."""
    kind, top = _kind(settings), settings.largest_value
    frames = np.empty(sums.shape, settings.dtype)
    if kind == _LATEST:
        check_spans(edges)
    saturated = 0
    for i, values in enumerate(sums):
        if kind == _AREA and settings.size_hw is not None:
            unit = settings.size_hw[0] * settings.size_hw[1]
            values = (2 * values + unit) // (2 * unit)
        elif kind == _LATEST:
            values = _scaled(values, t_first, edges[i : i + 2], top)
        saturated += int(np.count_nonzero(values > top))
        frames[i] = np.minimum(values, top)
    return frames, saturated


def _scaled(latest: np.ndarray, t_first: int, edges_us: np.ndarray, top: int) -> np.ndarray:
    """Return `last_time` of the cells of one frame; the latest time has the largest value."""
    start, last = int(edges_us[0]), int(edges_us[1]) - 1
    elapsed = np.clip(latest - 1 + (t_first - start), 0, max(last - start, 0))
    scaled = 1 + elapsed * (top - 1) // (last - start) if last > start else top
    return np.where(latest > 0, scaled, 0)


def _rule(n: int, ends: np.ndarray, settings: BinSettings) -> tuple[int, int, int, bool]:
    """Return rule, events or microseconds in a frame, frames kept, and whether the last takes the rest."""
    T = settings.frames
    if settings.split == "count":
        per_frame = settings.events_per_piece(n)
        return _BY_COUNT, per_frame, T if per_frame > 0 else 0, settings.tail == "last"
    width_us = frame_width_us(ends, settings)
    kept = T
    if settings.split == "duration" and settings.tail == "drop":
        kept = min(T, int(ends["t"][1] - ends["t"][0]) // width_us)
    return _BY_TIME, width_us, kept, settings.split == "time" and settings.tail != "drop"


class _StartTimes:
    """Times of the events with which frames of equal count begin and end, met in chunks."""

    def __init__(self, n: int, settings: BinSettings) -> None:
        T = settings.frames
        per_frame = settings.events_per_piece(n)
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
def _add(words, position, t_first, frame_of, cell_of, kind, sums):  # type: ignore[no-untyped-def]
    """Add the events of a chunk to the sums [T, P*H*W]; return how many are in a frame, -1 for one outside.

    Divides where the frame may change, not once per event: it holds while low <= place < high.
    """
    rule, width, kept, to_last = frame_of
    rows, columns, rows_over, row_shares, columns_over, column_shares = cell_of
    plane = np.uint64(sums.shape[1] // 2)
    counted = np.int64(0)
    frame = np.int64(-1)
    low = high = np.int64(0)
    last = len(sums) - 1
    for i in range(len(words) // 2):
        since = np.int64(words[2 * i]) - t_first
        place = position + i if rule == _BY_COUNT else since
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
        if cell >= np.uint64(sums.shape[1]):
            return np.int64(-1)
        counted += 1
        if kind == _COUNT:
            sums[frame, cell] += 1
        elif kind == _ANY:
            sums[frame, cell] = 1
        elif kind == _LATEST:
            sums[frame, cell] = max(sums[frame, cell], since + 1)
        elif kind == _LAST_POLARITY:
            sums[frame, cell] = 1
            sums[frame, cell - plane if cell >= plane else cell + plane] = 0
        else:
            x, y = word & np.uint64(0xFFFF), (word >> np.uint64(16)) & np.uint64(0xFFFF)
            p = np.int64(word >> np.uint64(32) & np.uint64(1))
            # In units of 1 / (H * W) events.
            for row in range(rows_over[y, 0], rows_over[y, 1] + 1):
                for column in range(columns_over[x, 0], columns_over[x, 1] + 1):
                    under = (p * row_shares.shape[1] + row) * column_shares.shape[1] + column
                    sums[frame, under] += row_shares[y, row] * column_shares[x, column]
    return counted

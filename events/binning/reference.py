"""Binning written in the plainest form. This file is the definition; `numba_cpu.py` is the fast version."""

import numpy as np

from events.binning.levels import group_edges, stored_lanes, sub_frames_of
from events.binning.resize import resize_frames
from events.binning.settings import BinSettings, Frames
from events.errors import ConfigError, DamagedRecording
from events.recording import EVENT_DTYPE

# Longest frame, in microseconds, whose times can be scaled to 16 bits in 64-bit integers: 4.4 years.
LONGEST_LAST_TIME_US = 1 << 47


def bin_events(events: np.ndarray, *, settings: BinSettings, sensor_hw: tuple[int, int]) -> Frames:
    """Turn the events of one recording into frames; the rules are those of `BinSettings`.

    The input is not changed.

    Args:
        events: Shape [N], EVENT_DTYPE, in file order, all inside the sensor.
        settings: What falls in which frame and what a frame holds.
        sensor_hw: Height and width of the sensor in pixels.

    Returns:
        Frames [T, P, H, W] and what is known about them.

    Raises:
        ConfigError: The array is no event array, an event lies outside the sensor, or the settings are of a
            window of given bounds.
        DamagedRecording: `last_time` is asked for and a frame spans more than four years.
    """
    if settings.split == "window":
        raise ConfigError("split 'window' needs the window's bounds; use events.binning.window.bin_window")
    if settings.levels is not None:
        return _bin_levels(events, settings, settings.levels, sensor_hw)
    check_events(events, sensor_hw)
    frame = frame_of_event(events, settings)
    t_edges_us = frame_edges(events, settings)
    kept = events[frame >= 0]
    frame = frame[frame >= 0]
    if settings.value == "last_time":
        frames, n_saturated = _last_times(kept, frame, t_edges_us, settings, sensor_hw), 0
    elif settings.value == "last_polarity":
        frames, n_saturated = _last_polarities(kept, frame, settings, sensor_hw), 0
    elif settings.resize == "area" and settings.size_hw is not None:
        counts = _counts(kept, frame, settings.frames, sensor_hw, sensor_hw)
        frames, n_saturated = _saturate(_resize_area(counts, settings.size_hw), settings)
    else:
        counts = _counts(kept, frame, settings.frames, sensor_hw, settings.size_hw or sensor_hw)
        if settings.value == "binary":
            counts = np.minimum(counts, 1)
        frames, n_saturated = _saturate(counts, settings)
    return Frames(frames, t_edges_us, len(kept), n_saturated)


def _bin_levels(events: np.ndarray, settings: BinSettings, levels: int, sensor_hw: tuple[int, int]) -> Frames:
    """Turn the events into frames of S levels, from binary sub-frames; the rules are in `levels.py`."""
    if settings.resizes_lanes:
        small = settings.before_resizing
        return resize_frames(bin_events(events, settings=small, sensor_hw=sensor_hw), settings)
    binary = bin_events(events, settings=settings.cut, sensor_hw=sensor_hw)
    lanes = lanes_of(binary.frames, frames=settings.frames, levels=levels)
    edges = group_edges(binary.t_edges_us, settings.frames, levels)
    return Frames(lanes, edges, binary.n_events, 0)


def lanes_of(binary: np.ndarray, *, frames: int, levels: int) -> np.ndarray:
    """Count binary sub-frames in groups and round the counts to lanes.

    The last group is filled up with sub-frames of zeros, which change no count.

    Args:
        binary: 0 or 1, shape [T', P, H, W].
        frames: Q = ceil(T' / 2^(S-1)).
        levels: S.

    Returns:
        0 for no lane, s + 1 for lane s; uint8 [Q, P, H, W].
    """
    group = sub_frames_of(levels)
    padded = np.zeros((frames * group, *binary.shape[1:]), np.int64)
    padded[: len(binary)] = binary
    counts = padded.reshape(frames, group, *binary.shape[1:]).sum(axis=1)
    return stored_lanes(levels)[counts]


def check_events(events: np.ndarray, sensor_hw: tuple[int, int]) -> None:
    """Raise ConfigError unless `events` is an event array and all of it lies inside the sensor."""
    if events.dtype != EVENT_DTYPE or events.ndim != 1:
        raise ConfigError(
            f"events must be an array [N] of EVENT_DTYPE, got shape {events.shape} of {events.dtype}; "
            "fill np.empty(n, EVENT_DTYPE) field by field"
        )
    height, width = sensor_hw
    outside = np.flatnonzero((events["x"] >= width) | (events["y"] >= height))
    if len(outside):
        x, y = events["x"][outside[0]], events["y"][outside[0]]
        raise ConfigError(
            f"event {outside[0]} at x={x}, y={y} lies outside the sensor of {height}x{width} "
            f"(height x width), and so do {len(outside) - 1} more; give the sensor's real size"
        )


def frame_of_event(events: np.ndarray, settings: BinSettings) -> np.ndarray:
    """Return which frame each event falls in, -1 for events left out; shape [N], int64."""
    n = len(events)
    T = settings.frames
    if n == 0:
        return np.empty(0, np.int64)
    if settings.split == "count":
        per_frame = settings.events_per_piece(n)
        if per_frame == 0:
            return np.full(n, T - 1 if settings.tail == "last" else -1, np.int64)
        frame = np.arange(n, dtype=np.int64) // per_frame
    else:
        t_first = events["t"].min()
        frame = (events["t"] - t_first) // frame_width_us(events, settings)
    if settings.split == "duration" and settings.tail == "drop":
        complete = (events["t"].max() - t_first) // settings.window_us
        frame[frame >= complete] = -1
    if settings.split != "duration" and settings.tail != "drop":
        frame = np.minimum(frame, T - 1)
    frame[frame >= T] = -1
    return frame


def frame_width_us(events: np.ndarray, settings: BinSettings) -> int:
    """Return the length of a frame in microseconds, for `time` and `duration`; N is at least 1."""
    if settings.window_us is not None:
        return settings.window_us
    frames = max(1, settings.frames - 1) if settings.tail == "own" else settings.frames
    return max(1, int(events["t"].max() - events["t"].min()) // frames)


def frame_edges(events: np.ndarray, settings: BinSettings) -> np.ndarray:
    """Return `Frames.t_edges_us` for events and settings; shape [T + 1], int64."""
    n = len(events)
    T = settings.frames
    if n == 0:
        return np.zeros(T + 1, np.int64)
    t = events["t"]
    if settings.split == "count":
        per_frame = settings.events_per_piece(n)
        stop = n if settings.tail == "last" else per_frame * T
        starts = t[np.arange(T) * per_frame]
        end = t[stop - 1] + 1 if stop else starts[-1]
        return np.maximum.accumulate(np.append(starts, end)).astype(np.int64)
    edges = t.min() + np.arange(T + 1, dtype=np.int64) * frame_width_us(events, settings)
    if settings.split == "time" and settings.tail != "drop":
        edges[-1] = max(edges[-1], t.max() + 1)
    return edges


def _cells(
    events: np.ndarray, sensor_hw: tuple[int, int], size_hw: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return polarity, row and column of the cell each event falls in; each shape [N], int64."""
    row = events["y"].astype(np.int64) * size_hw[0] // sensor_hw[0]
    column = events["x"].astype(np.int64) * size_hw[1] // sensor_hw[1]
    return events["p"].astype(np.int64), row, column


def _counts(
    events: np.ndarray, frame: np.ndarray, T: int, sensor_hw: tuple[int, int], size_hw: tuple[int, int]
) -> np.ndarray:
    """Return events per cell, int64 [T, P, H, W]."""
    counts = np.zeros((T, 2, *size_hw), np.int64)
    np.add.at(counts, (frame, *_cells(events, sensor_hw, size_hw)), 1)
    return counts


def _last_times(
    events: np.ndarray,
    frame: np.ndarray,
    t_edges_us: np.ndarray,
    settings: BinSettings,
    sensor_hw: tuple[int, int],
) -> np.ndarray:
    """Return the scaled time of the latest event of each cell, shape [T, P, H, W]."""
    if np.diff(t_edges_us).max(initial=0) > LONGEST_LAST_TIME_US:
        raise DamagedRecording(
            f"a frame spans {np.diff(t_edges_us).max()} microseconds, more than four years; "
            "the clock of this recording is damaged, use value 'count' or 'binary'"
        )
    top = settings.largest_value
    start, last = t_edges_us[:-1][frame], t_edges_us[1:][frame] - 1
    elapsed = np.clip(events["t"], start, np.maximum(start, last)) - start
    scaled = np.where(last > start, 1 + elapsed * (top - 1) // np.maximum(1, last - start), top)
    frames = np.zeros(settings.frame_shape(sensor_hw), settings.dtype)
    cells = _cells(events, sensor_hw, settings.size_hw or sensor_hw)
    np.maximum.at(frames, (frame, *cells), scaled.astype(settings.dtype))
    return frames


def _last_polarities(
    events: np.ndarray, frame: np.ndarray, settings: BinSettings, sensor_hw: tuple[int, int]
) -> np.ndarray:
    """Return 1 where the last event of a cell, in file order, has that polarity; shape [T, P, H, W]."""
    frames = np.zeros(settings.frame_shape(sensor_hw), settings.dtype)
    cells = _cells(events, sensor_hw, settings.size_hw or sensor_hw)
    for at, polarity, row, column in zip(frame, *cells, strict=True):
        frames[at, :, row, column] = 0
        frames[at, polarity, row, column] = 1
    return frames


def area_overlaps(pixels: int, cells: int) -> np.ndarray:
    """Return how much of each pixel lies under each cell along one axis.

    The axis is `pixels * cells` units long: a pixel is `cells` units, a cell is `pixels` units, so that
    every overlap is a whole number.

    Returns:
        Overlaps, int64 [cells, pixels]; each column sums to `cells`.
    """
    pixel = np.arange(pixels, dtype=np.int64)
    cell = np.arange(cells, dtype=np.int64)[:, None]
    start = np.maximum(pixel * cells, cell * pixels)
    stop = np.minimum((pixel + 1) * cells, (cell + 1) * pixels)
    return np.maximum(0, stop - start)


def _resize_area(counts: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Share counts [T, P, h, w] among the cells over them, rounding halves up; int64 [T, P, H, W]."""
    rows = area_overlaps(counts.shape[2], size_hw[0])
    columns = area_overlaps(counts.shape[3], size_hw[1])
    shares = rows @ counts @ columns.T  # in units of 1 / (H * W) events
    unit = size_hw[0] * size_hw[1]
    return (2 * shares + unit) // (2 * unit)


def _saturate(counts: np.ndarray, settings: BinSettings) -> tuple[np.ndarray, int]:
    """Return counts in the wanted dtype and how many of them were too large for it."""
    top = settings.largest_value
    return np.minimum(counts, top).astype(settings.dtype), int(np.count_nonzero(counts > top))

"""Frames of a window of given bounds: voxel cubes, stacked histograms, counts. This file is the definition.

A window is window_us long and ends where its label is: start = stop_us - window_us, and an event at time t
belongs to it where start <= t < stop_us, so that nothing at the label's own time or later is seen. The window
is cut into T * n equal parts, n = `micro_bins`:

    part    = (t - start) * T * n // window_us
    frame   = part // n                 (0 to T - 1)
    channel = p * n + part % n          (0 to 2n - 1: all OFF parts, then all ON parts)

The bounds are the window's, never those of its events: a quiet window is not stretched, and a clock shifted
by a constant changes nothing. No two (p, part) share a channel. (The published code of Cordone et al., IJCNN
2022, uses (p + 1) * (m + 1) - 1, which leaves a channel empty and joins two, and takes the first event for
the start; `events.binning.voxel` has it.) A window without events gives frames of zeros, which is a legal
sample: that of an empty scene.

`rvt_compat` follows RVT's `StackedHistogram` instead (Gehrig and Scaramuzza, CVPR 2023, fast mode): one
frame, part = floor(float32(t - t_first) / float32(t_last - t_first) * float32(n)), at most n - 1, with the
times of the window's first and last event; counts are bytes that wrap at 256 before they are cut off. Its
windows include the time at which they end (its scripts/genx/preprocess_dataset.py, `side='right'`).

With `dedup` an event equal in t, x, y and p to the last one of its pixel and polarity is left out, by the
rule of `events.filters.reference.drop_duplicates`. Equal events have one time, so they lie in one window:
where the clock does not step back, these are the windows of the recording without its duplicates.

With `window_events` = N only the last N events of the window are taken, all where there are fewer: the last
in time, and of equal times the last in the file. The window then begins with the first of them, and
window_us in the rule above is what is left of it, the label's time less that event's: frames are equal parts
of the time that N events took. (LT-SNN's detector is given one frame of 25,000 events. Its release looks for
their place by a search that stops up to 125,000 events before the label, and reads on from there, so that
its windows end somewhere from 100,000 events before the label to 25,000 behind it.)
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from events.binning.reference import check_events
from events.binning.settings import BinSettings, Frames
from events.errors import ConfigError
from events.filters.reference import drop_duplicates


class WindowEdges(NamedTuple):
    """First microsecond of a window, and the first one no longer in it."""

    start_us: int
    stop_us: int


def window_before(stop_us: int, settings: BinSettings) -> WindowEdges:
    """Return the bounds of the window that ends at a time; with `rvt_compat` that time is in it.

    Raises:
        ConfigError: The settings are of no window.
    """
    if settings.split != "window" or settings.window_us is None:
        raise ConfigError(f"split {settings.split!r} has no window before a time; use split 'window'")
    return WindowEdges(stop_us - settings.window_us, stop_us + int(settings.rvt_compat or False))


def last_events(events: np.ndarray, settings: BinSettings, stop_us: int) -> tuple[np.ndarray, BinSettings]:
    """Return the events of a window of so many of them, and the settings of a window that is as long.

    Args:
        events: Shape [N], EVENT_DTYPE, in any order.
        settings: With split `window`. Without `window_events` both are returned as they are.
        stop_us: The first microsecond behind the window.
    """
    if settings.window_events is None:
        return events, settings
    start_us, behind_us = window_before(stop_us, settings)
    kept = events[(events["t"] >= start_us) & (events["t"] < behind_us)]
    kept = kept[np.argsort(kept["t"], kind="stable")[-settings.window_events :]]
    since_us = stop_us - int(kept["t"][0]) if len(kept) else settings.window_us
    return kept, replace(settings, window_us=since_us, window_events=None)


def bin_window(
    events: np.ndarray, *, settings: BinSettings, sensor_hw: tuple[int, int], stop_us: int
) -> Frames:
    """Turn the events of one window into frames; the rules are those above. The input is not changed.

    Args:
        events: Shape [N], EVENT_DTYPE, all inside the sensor, in any order; those outside the window are
            left out.
        settings: With split `window`.
        sensor_hw: Height and width of the sensor in pixels.
        stop_us: The first microsecond behind the window.

    Returns:
        Frames [T, 2n, H, W]; `n_saturated` counts pixels above the cutoff, or above the dtype.

    Raises:
        ConfigError: The settings are of no window, the array is no event array, or an event lies outside.
    """
    check_events(events, sensor_hw)
    events, settings = last_events(events, settings, stop_us)
    start_us, behind_us = window_before(stop_us, settings)
    kept = events[(events["t"] >= start_us) & (events["t"] < behind_us)]
    if settings.dedup:
        kept = drop_duplicates(kept)
    n = settings.micro_bins or 1
    part = _rvt_parts(kept["t"], n) if settings.rvt_compat else _parts(kept["t"], start_us, settings)
    height, width = settings.size_hw or sensor_hw
    row = kept["y"].astype(np.int64) * height // sensor_hw[0]
    column = kept["x"].astype(np.int64) * width // sensor_hw[1]
    counts = np.zeros(settings.frame_shape(sensor_hw), np.int64)
    np.add.at(counts, (part // n, kept["p"] * n + part % n, row, column), 1)
    if settings.value == "binary":
        counts = np.minimum(counts, 1)
    top = settings.largest_value
    saturated = int(np.count_nonzero(counts > top))
    if settings.rvt_compat:
        counts %= 256
    frames = np.minimum(counts, top).astype(settings.dtype)
    return Frames(frames, window_edges(stop_us, settings), len(kept), saturated)


def _parts(t: np.ndarray, start_us: int, settings: BinSettings) -> np.ndarray:
    """Return the part of the window each time lies in, shape [N], int64."""
    parts = settings.frames * (settings.micro_bins or 1)
    return (t - start_us) * parts // settings.window_us


def _rvt_parts(t: np.ndarray, n: int) -> np.ndarray:
    """Return the part between the first and the last event each time lies in, shape [N], int64."""
    if len(t) == 0:
        return np.empty(0, np.int64)
    since = (t - t.min()).astype(np.float32) / np.float32(max(int(t.max() - t.min()), 1))
    return np.minimum(np.floor(since * np.float32(n)), n - 1).astype(np.int64)


def window_edges(stop_us: int, settings: BinSettings) -> np.ndarray:
    """Return `Frames.t_edges_us` of the window that ends at a time; shape [T + 1], int64."""
    start_us, stop_us = window_before(stop_us, settings)
    # The first whole microsecond of frame k is that of k * window_us / T, rounded up.
    return start_us - np.arange(settings.frames + 1, dtype=np.int64) * (start_us - stop_us) // settings.frames


def split_micro_bins(frames: np.ndarray, t_edges_us: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return frames [T, 2n, H, W] as frames of two polarities [T * n, 2, H, W], and their edges.

    Args:
        frames: As binned or stored.
        t_edges_us: Of its frames, shape [T + 1].
    """
    T, channels = frames.shape[:2]
    n = channels // 2
    parts = frames.reshape(T, 2, n, *frames.shape[2:]).swapaxes(1, 2)
    edges = t_edges_us[:-1, None] + np.diff(t_edges_us)[:, None] * np.arange(n) // n
    return parts.reshape(T * n, 2, *frames.shape[2:]), np.append(edges.reshape(-1), t_edges_us[-1])

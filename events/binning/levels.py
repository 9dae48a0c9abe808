"""Frames of levels: binary sub-frames counted, a count rounded to a power of two.

The rules are those of one-hot multi-level LIF (Abillama et al., IEEE Access 2025). S lanes stand for the
powers of two 2^0 to 2^(S-1); F = 2^(S-1) binary sub-frames make a frame, so that T' sub-frames make
Q = ceil(T' / F) frames, the last of them filled up with sub-frames of zeros. A pixel that has events in v
of a frame's sub-frames is in lane s = round(log2 v) and carries 2^s; with v = 0 it is in none.

Stored is one whole number for a pixel: 0 for no lane, s + 1 for lane s. Frames that were resized hold
fractions, and are stored as what they carry times 255.
"""

from functools import lru_cache

import numpy as np

from events.errors import ConfigError

# A sub-frame more than this in a frame would not fit a byte.
MOST_LEVELS = 8

# What stands for 1 in the 8-bit pictures that the published code resizes.
FULL_SCALE = 255


def sub_frames_of(levels: int) -> int:
    """Return how many binary sub-frames make a frame of S levels: F = 2^(S-1)."""
    return 1 << (levels - 1)


def frames_of(sub_frames: int, levels: int) -> int:
    """Return how many frames T' sub-frames make: Q = ceil(T' / F)."""
    return -(-sub_frames // sub_frames_of(levels))


def check_levels(levels: int) -> None:
    """Raise ConfigError where there are no lanes, or more than a byte counts sub-frames for."""
    if not 1 <= levels <= MOST_LEVELS:
        raise ConfigError(f"levels (S) must be from 1 to {MOST_LEVELS}, got {levels}")


def check_fit(frames: int, sub_frames: int | None, levels: int) -> None:
    """Raise ConfigError, in one line, where Q frames, T' sub-frames and S levels do not fit together."""
    check_levels(levels)
    if sub_frames is None:
        return
    if sub_frames < 1:
        raise ConfigError(f"sub_frames (T') must be at least 1, got {sub_frames}")
    wanted, group = frames_of(sub_frames, levels), sub_frames_of(levels)
    if frames != wanted:
        raise ConfigError(
            f"frames (Q) {frames}, sub_frames (T') {sub_frames} and levels (S) {levels} do not fit: "
            f"F = 2^(S-1) = {group} sub-frames make a frame, so Q = ceil(T'/F) = {wanted}; "
            f"use frames {wanted}, or sub_frames from {group * (frames - 1) + 1} to {group * frames}"
        )


@lru_cache(maxsize=MOST_LEVELS)
def stored_lanes(levels: int) -> np.ndarray:
    """Return what is stored for each count of sub-frames: 0 for 0, else 1 + round(log2 count); uint8 [F + 1].

    No count is a tie: that would be 2^(s + 1/2), which is no whole number.
    """
    counts = np.arange(1, sub_frames_of(levels) + 1)
    return np.append(0, 1 + np.round(np.log2(counts))).astype(np.uint8)


@lru_cache(maxsize=2 * MOST_LEVELS)
def carried_values(levels: int, *, resized: bool) -> np.ndarray:
    """Return what each stored number carries into a network, float32 [n]: 0, 1, 2, 4, ... or fractions."""
    if resized:
        return (np.arange(largest_resized(levels) + 1) / FULL_SCALE).astype(np.float32)
    return np.append(0, 2.0 ** np.arange(levels)).astype(np.float32)


def largest_resized(levels: int) -> int:
    """Return the largest number stored for a pixel of resized lanes: all S of them full, times 255."""
    return FULL_SCALE * ((1 << levels) - 1)


def group_edges(t_edges_us: np.ndarray, frames: int, levels: int) -> np.ndarray:
    """Return the edges of Q frames, shape [Q + 1], from those of their sub-frames, shape [T' + 1]."""
    last = len(t_edges_us) - 1
    return t_edges_us[np.minimum(np.arange(frames + 1) * sub_frames_of(levels), last)]

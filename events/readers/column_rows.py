"""The loops over rows of whole numbers: rows into events, and how often time falls."""

from typing import Any

import numpy as np
from numba import njit

# What a row is: an event, an event outside the sensor, or no event at all.
SOUND, OUTSIDE, NO_EVENT = 0, 1, 2


@njit(nogil=True, cache=True)
def pack_sound(
    t: np.ndarray,
    t_offset: int,
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
    sensor_hw: tuple[int, int],
    words: np.ndarray,
) -> tuple[bool, tuple[int, int]]:
    """Write all rows as events; there is no branch in the loop, so that it is several times `pack_rows`.

    Args:
        t: Microseconds, whole numbers of any type, shape [n].
        t_offset: Added to each.
        x, y, p: Whole numbers of any type, shape [n].
        sensor_hw: Height and width in pixels.
        words: Room for the events, two int64 for an event of EVENT_DTYPE, shape [2 n].

    Returns:
        Whether all rows are sound, for what was written is of no use if not; and what `count_falls` returns.
    """
    height, width = sensor_hw
    wrong: np.bool_ = np.False_
    falls: Any = 0
    deepest: Any = 0
    previous = np.int64(t[0]) + t_offset if len(t) else np.int64(0)
    for i in range(len(t)):
        column, row, polarity = np.int64(x[i]), np.int64(y[i]), np.int64(p[i])
        wrong |= (column < 0) | (column >= width) | (row < 0) | (row >= height)
        wrong |= (polarity < -1) | (polarity > 1)
        now = np.int64(t[i]) + t_offset
        falls += previous > now
        deepest = max(deepest, previous - now if previous > now else 0)
        previous = now
        words[2 * i] = now
        words[2 * i + 1] = column | row << 16 | np.int64(polarity == 1) << 32
    return not wrong, (falls, deepest)


@njit(nogil=True, cache=True)
def pack_rows(
    t: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
    sensor_hw: tuple[int, int],
    words: np.ndarray,
    bad: np.ndarray,
) -> int:
    """Write the sound rows as events and say what the others are.

    Args:
        t: Microseconds, int64, shape [n].
        x, y: Columns, int64, shape [n].
        p: 1 for ON, 0 or -1 for OFF, int64, shape [n].
        sensor_hw: Height and width in pixels.
        words: Room for the events, two int64 for an event of EVENT_DTYPE, shape [2 n].
        bad: Gets SOUND, OUTSIDE or NO_EVENT for each row, uint8, shape [n].

    Returns:
        Events written.
    """
    height, width = sensor_hw
    n = 0
    for i in range(len(t)):
        column, row, polarity = x[i], y[i], p[i]
        if polarity < -1 or polarity > 1:
            bad[i] = NO_EVENT
        elif column < 0 or column >= width or row < 0 or row >= height:
            bad[i] = OUTSIDE
        else:
            bad[i] = SOUND
            words[2 * n] = t[i]
            words[2 * n + 1] = column | row << 16 | np.int64(polarity == 1) << 32
            n += 1
    return n


@njit(nogil=True, cache=True)
def count_falls(words: np.ndarray) -> tuple[int, int]:
    """Return how often time falls between events, and the deepest fall in microseconds that 64 bits hold.

    Args:
        words: The events, two int64 for each, shape [2 n].
    """
    falls = 0
    deepest = 0
    for i in range(1, len(words) // 2):
        before, now = words[np.uint64(2 * i - 2)], words[np.uint64(2 * i)]
        falls += before > now
        deepest = max(deepest, before - now if before > now else 0)
    return falls, deepest

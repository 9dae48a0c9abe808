"""The loops over rows of whole numbers: rows into events, and how often time falls."""

import numpy as np
from numba import njit

# What a row is: an event, an event outside the sensor, or no event at all.
SOUND, OUTSIDE, NO_EVENT = 0, 1, 2


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
        p: 1 for ON, 0 or -1 for OFF, signed whole numbers, shape [n].
        x, y: Columns, int64 or uint16, shape [n].
        sensor_hw: Height and width in pixels.
        words: Room for the events, two int64 for an event of EVENT_DTYPE, shape [2 n].
        bad: Gets SOUND, OUTSIDE or NO_EVENT for each row, uint8, shape [n].

    Returns:
        Events written.
    """
    height, width = sensor_hw
    n = 0
    for i in range(len(t)):
        column, row, polarity = np.int64(x[i]), np.int64(y[i]), p[i]
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
def count_falls(words: np.ndarray, previous: int) -> tuple[int, int]:
    """Return how often time falls over events, and the deepest fall in microseconds.

    Args:
        words: The events, two int64 for each, shape [2 n].
        previous: Time of the event before the first.
    """
    falls = 0
    deepest = 0
    for i in range(0, len(words), 2):
        fall = previous - words[i]
        if fall > 0:
            falls += 1
            deepest = max(deepest, fall)
        previous = words[i]
    return falls, deepest

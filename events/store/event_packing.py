"""Events as narrow columns, and back.

    dt     int32             microseconds since the event before in the chunk, 0 for the first of a chunk
    xp     uint8 or uint16   2 * x + p
    y      uint8 or uint16
    high   uint64            what these have no room for; 0 for nearly every event, and then not stored

Each of the three keeps the low bits of its value, and `high` the others: of x from bit 0, of y from bit 16,
and in the upper half the step in time minus `dt`, a multiple of 2^32. So every event comes back as it was,
whatever its clock does and however wide its sensor is.
"""

import numpy as np
from numba import njit

_COORDINATE = np.uint64(0xFFFF)
_UPPER_HALF = np.uint64(0xFFFFFFFF << 32)


@njit(cache=True, nogil=True)
def pack_events(words, dt, xp, y):  # type: ignore[no-untyped-def]
    """Pack the events of one chunk; return whether `high` is 0 for all of them.

    Args:
        words: The events, EVENT_DTYPE seen as uint64, shape [2 * n], n at least 1.
        dt, xp, y: Columns to fill, shape [n].
    """
    x_bits, y_bits = np.uint64(8 * xp.itemsize - 1), np.uint64(8 * y.itemsize)
    before = np.int64(words[0])
    cut_off = np.uint64(0)
    for i in range(len(dt)):
        t, place = np.int64(words[2 * i]), words[2 * i + 1]
        x, row = place & _COORDINATE, (place >> np.uint64(16)) & _COORDINATE
        on = np.uint64((place & np.uint64(0xFF00000000)) != 0)
        dt[i] = np.int32(t - before)
        xp[i] = (x << np.uint64(1)) | on
        y[i] = row
        cut_off |= np.uint64(t - before - np.int64(np.int32(t - before))) | (x >> x_bits) | (row >> y_bits)
        before = t
    return cut_off == 0


@njit(cache=True, nogil=True)
def pack_high(words, x_bits, y_bits, high):  # type: ignore[no-untyped-def]
    """Fill `high`, shape [n], for events, EVENT_DTYPE seen as uint64, shape [2 * n].

    Args:
        x_bits, y_bits: Bits of x and y that `xp` and `y` hold.
    """
    before = np.int64(words[0])
    for i in range(len(high)):
        t, place = np.int64(words[2 * i]), words[2 * i + 1]
        x, row = place & _COORDINATE, (place >> np.uint64(16)) & _COORDINATE
        step = t - before
        cut_off = np.uint64(step - np.int64(np.int32(step)))
        high[i] = cut_off | (x >> np.uint64(x_bits)) | ((row >> np.uint64(y_bits)) << np.uint64(16))
        before = t


@njit(cache=True, nogil=True)
def unpack_events(dt, xp, y, high, before, words):  # type: ignore[no-untyped-def]
    """Unpack consecutive events of one chunk; return the time of the last.

    Args:
        dt, xp, y: Columns, shape [n].
        high: Column, shape [n], or [0] where it is not stored.
        before: Time of the event before; for the first of a chunk, its own.
        words: Events to write, EVENT_DTYPE seen as uint64, shape [2 * n].
    """
    t = np.int64(before)
    for i in range(len(dt)):
        t += np.int64(dt[i])
        words[2 * i] = np.uint64(t)
        column, row = np.uint64(xp[i]), np.uint64(y[i])
        on = column & np.uint64(1)
        words[2 * i + 1] = (column >> np.uint64(1)) | (row << np.uint64(16)) | (on << np.uint64(32))
    x_bits, y_bits = np.uint64(8 * xp.itemsize - 1), np.uint64(8 * y.itemsize)
    later = np.uint64(0)
    for i in range(len(high)):
        later += high[i] & _UPPER_HALF
        words[2 * i] += later
        column, row = high[i] & _COORDINATE, (high[i] >> np.uint64(16)) & _COORDINATE
        words[2 * i + 1] |= (column << x_bits) | (row << (y_bits + np.uint64(16)))
    return t + np.int64(later)

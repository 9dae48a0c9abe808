"""Records of fixed length: where their bits are, and the loops that decode them.

A record is an address followed by a time, both big-endian; in Prophesee DAT a time followed by an address,
both little-endian. Four layouts are in use:

| bytes | format | address | time |
|---|---|---|---|
| 8 | AEDAT 2.0 | 32 bits | 32 bits |
| 8, little-endian | Prophesee DAT | 32 bits | 32 bits |
| 6 | AEDAT 1.0 | 16 bits | 32 bits |
| 5 | N-MNIST family | 17 bits | 23 bits |

An event is written as two 64-bit words: its time, then x, y and p as EVENT_DTYPE lays them out.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from events.readers.record_clock import (
    LEAP_FROM_US,
    OFFSET_US,
    ORIGIN_US,
    RAW_US,
    STARTED,
    start,
)

# Policies as the kernels see them.
SKIP, STRICT, SALVAGE = 0, 1, 2

# A record is in step with the one before it if its clock is at most this much later; used only in search
# of plausible records. An event camera left in the dark still gives a noise event every few milliseconds.
IN_STEP_US = 1_000_000

# That many records in a row, in step with each other, are taken for real ones.
SYNC_RECORDS = 8

# Records decoded at a stretch: their 32 KiB of events stay in the first-level cache between two passes.
BLOCK_RECORDS = 2048

# Positions in the counts array, int64.
SPECIAL = 0  # records that are no pixel
OUT_OF_SENSOR = 1  # records outside the sensor, or with bits no event of this layout has
MARKERS = 2  # time overflow markers
FIRST_DAMAGE = 3  # byte of the file of the first record left out for damage, or -1
SKIPPED = 4  # bytes passed over in search of plausible records
SEARCHED = 5  # offset in the file before which no run of plausible records begins that is not yet decoded
LOOKED_AT = 6  # bytes looked at in search of plausible records; more than once where a run was cut off
COUNTS_LENGTH = 7


class RecordLayout(NamedTuple):
    """What the bits of a record mean; all fields int, so that kernels take it as it is.

    A coordinate is `((address >> shift & mask) ^ flip) + add`, in 16 bits. With `flip = -1` and
    `add = size` it counts from the other side: size - 1 - bits.

    Attributes:
        record_bytes: 5, 6 or 8.
        x_shift, x_mask, x_flip, x_add: Column.
        y_shift, y_mask, y_flip, y_add: Row.
        p_shift, p_flip: Polarity, (address >> p_shift & 1) ^ p_flip, 1 for ON.
        garbage_mask: Bits that no record of this layout has set.
        special_mask: Bits that mark a record which is no pixel.
        marker_row: Row bits that mark a time overflow, or -1; every later time gains `marker_us`.
        marker_us: See `marker_row`.
        height, width: Of the sensor, in pixels.
        little: 1 where a record of eight bytes is little-endian, its time first; else 0.
    """

    record_bytes: int
    x_shift: int
    x_mask: int
    x_flip: int
    x_add: int
    y_shift: int
    y_mask: int
    y_flip: int
    y_add: int
    p_shift: int
    p_flip: int
    garbage_mask: int
    special_mask: int
    marker_row: int
    marker_us: int
    height: int
    width: int
    little: int = 0


@njit(cache=True, nogil=True)
def swap_words(word: np.uint64) -> np.uint64:
    """Return the eight bytes of a word in the other order."""
    low = (
        ((word & np.uint64(0xFF)) << np.uint64(56))
        | ((word & np.uint64(0xFF00)) << np.uint64(40))
        | ((word & np.uint64(0xFF0000)) << np.uint64(24))
        | ((word & np.uint64(0xFF000000)) << np.uint64(8))
    )
    high = (
        ((word >> np.uint64(8)) & np.uint64(0xFF000000))
        | ((word >> np.uint64(24)) & np.uint64(0xFF0000))
        | ((word >> np.uint64(40)) & np.uint64(0xFF00))
        | (word >> np.uint64(56))
    )
    return low | high


@njit(cache=True, nogil=True)
def load_6(raw: np.ndarray, at: int) -> tuple[np.uint64, np.uint64]:
    """Return address and time of the record of six bytes that starts at a byte."""
    address = (np.uint64(raw[at]) << np.uint64(8)) | np.uint64(raw[at + 1])
    time = (
        (np.uint64(raw[at + 2]) << np.uint64(24))
        | (np.uint64(raw[at + 3]) << np.uint64(16))
        | (np.uint64(raw[at + 4]) << np.uint64(8))
        | np.uint64(raw[at + 5])
    )
    return address, time


@njit(cache=True, nogil=True)
def load_5(raw: np.ndarray, at: int) -> tuple[np.uint64, np.uint64]:
    """Return address and time of the record of five bytes that starts at a byte.

    The address is its first three bytes, big-endian: 8 bits x, 8 bits y, polarity, 7 bits of the time.
    """
    third = np.uint64(raw[at + 2])
    address = (np.uint64(raw[at]) << np.uint64(16)) | (np.uint64(raw[at + 1]) << np.uint64(8)) | third
    time = (
        ((third & np.uint64(0x7F)) << np.uint64(16))
        | (np.uint64(raw[at + 3]) << np.uint64(8))
        | np.uint64(raw[at + 4])
    )
    return address, time


@njit(cache=True, nogil=True)
def load_8_little(raw: np.ndarray, at: int) -> tuple[np.uint64, np.uint64]:
    """Return address and time of the little-endian record of eight bytes that starts at a byte."""
    time = address = np.uint64(0)
    for i in range(4):
        time |= np.uint64(raw[at + i]) << np.uint64(8 * i)
        address |= np.uint64(raw[at + 4 + i]) << np.uint64(8 * i)
    return address, time


@njit(cache=True, nogil=True)
def load(raw: np.ndarray, at: int, layout: RecordLayout) -> tuple[np.uint64, np.uint64]:
    """Return address and time of the record that starts at a byte."""
    if layout.record_bytes == 5:
        return load_5(raw, at)
    if layout.record_bytes == 6:
        return load_6(raw, at)
    if layout.little == 1:
        return load_8_little(raw, at)
    high, time = load_6(raw, at + 2)
    return (np.uint64(raw[at]) << np.uint64(24)) | (np.uint64(raw[at + 1]) << np.uint64(16)) | high, time


@njit(cache=True, nogil=True)
def coordinate(address: np.uint64, shift: int, mask: int, flip: int, add: int) -> np.uint64:
    """Return one coordinate of an address, in 16 bits."""
    bits = (address >> np.uint64(shift)) & np.uint64(mask)
    return ((bits ^ np.uint64(flip)) + np.uint64(add)) & np.uint64(0xFFFF)


@njit(cache=True, nogil=True)
def pixel(address: np.uint64, layout: RecordLayout) -> tuple[np.uint64, np.uint64, np.uint64]:
    """Return x, y and p of an address."""
    x = coordinate(address, layout.x_shift, layout.x_mask, layout.x_flip, layout.x_add)
    y = coordinate(address, layout.y_shift, layout.y_mask, layout.y_flip, layout.y_add)
    p = ((address >> np.uint64(layout.p_shift)) & np.uint64(1)) ^ np.uint64(layout.p_flip)
    return x, y, p


@njit(cache=True, nogil=True)
def suspicion(address: np.uint64, x: np.uint64, y: np.uint64, layout: RecordLayout) -> np.uint64:
    """Return a word whose bits are all 0 where the address is plainly a pixel of the sensor."""
    known = np.uint64(layout.garbage_mask | layout.special_mask)
    # A coordinate past the last one makes the difference negative, that is, sets its highest bit.
    outside = (np.uint64(layout.width - 1) - x) | (np.uint64(layout.height - 1) - y)
    return (address & known) | (outside >> np.uint64(63))


@njit(cache=True, nogil=True)
def unsteady(step_us: np.uint64, limit_us: np.uint64) -> np.uint64:
    """Return 1 where a step of the clock, modulo 2^64, is below 0 or above the limit; else 0."""
    return (step_us | (limit_us - step_us)) >> np.uint64(63)


@njit(cache=True, nogil=True)
def put(out: np.ndarray, i: int, time_us: int | np.int64, x: np.uint64, y: np.uint64, p: np.uint64) -> None:
    """Write event i as two words."""
    out[2 * i] = time_us
    out[2 * i + 1] = np.int64(x | (y << np.uint64(16)) | (p << np.uint64(32)))


# The four loops below differ in how a record is loaded. Each keeps one unsigned word of suspicion and no
# branch: that is what the compiler turns into vector instructions (checked: 4 times slower otherwise).


@njit(cache=True, nogil=True)
def decode_block_8(
    words: np.ndarray,
    out: np.ndarray,
    layout: RecordLayout,
    previous: np.uint64,
    add_us: int,
    limit_us: np.uint64,
) -> np.uint64:
    """Decode records of eight bytes as plain events; the result is 0 where all of them are.

    Plain means: the address is a pixel of the sensor, and the time is 0 to `limit_us` after the one before.

    Args:
        words: Records, shape [n], uint64 as read on a little-endian machine.
        out: Events, shape [2 n], int64.
        layout: What the bits mean.
        previous: Stored time of the record before the first.
        add_us: Added to every stored time.
        limit_us: Longest step of the clock.
    """
    bad = np.uint64(0)
    for i in range(len(words)):
        record = swap_words(words[i])
        address = record >> np.uint64(32)
        time = record & np.uint64(0xFFFFFFFF)
        x, y, p = pixel(address, layout)
        bad |= suspicion(address, x, y, layout) | unsteady(time - previous, limit_us)
        previous = time
        put(out, i, np.int64(time) + add_us, x, y, p)
    return bad


@njit(cache=True, nogil=True)
def decode_block_8_little(
    words: np.ndarray,
    out: np.ndarray,
    layout: RecordLayout,
    previous: np.uint64,
    add_us: int,
    limit_us: np.uint64,
) -> np.uint64:
    """Decode little-endian records of eight bytes as `decode_block_8` does."""
    bad = np.uint64(0)
    for i in range(len(words)):
        record = words[i]
        address = record >> np.uint64(32)
        time = record & np.uint64(0xFFFFFFFF)
        x, y, p = pixel(address, layout)
        bad |= suspicion(address, x, y, layout) | unsteady(time - previous, limit_us)
        previous = time
        put(out, i, np.int64(time) + add_us, x, y, p)
    return bad


@njit(cache=True, nogil=True)
def decode_block_6(
    raw: np.ndarray,
    out: np.ndarray,
    layout: RecordLayout,
    previous: np.uint64,
    add_us: int,
    limit_us: np.uint64,
) -> np.uint64:
    """Decode records of six bytes as `decode_block_8` does; raw has shape [6 n], uint8."""
    bad = np.uint64(0)
    for i in range(len(raw) // 6):
        address, time = load_6(raw, 6 * i)
        x, y, p = pixel(address, layout)
        bad |= suspicion(address, x, y, layout) | unsteady(time - previous, limit_us)
        previous = time
        put(out, i, np.int64(time) + add_us, x, y, p)
    return bad


@njit(cache=True, nogil=True)
def decode_block_5(
    raw: np.ndarray,
    out: np.ndarray,
    layout: RecordLayout,
    previous: np.uint64,
    add_us: int,
    limit_us: np.uint64,
) -> np.uint64:
    """Decode records of five bytes as `decode_block_8` does; raw has shape [5 n], uint8."""
    bad = np.uint64(0)
    for i in range(len(raw) // 5):
        address, time = load_5(raw, 5 * i)
        x, y, p = pixel(address, layout)
        bad |= suspicion(address, x, y, layout) | unsteady(time - previous, limit_us)
        previous = time
        put(out, i, np.int64(time) + add_us, x, y, p)
    return bad


@njit(cache=True, nogil=True)
def decode_block(
    records: np.ndarray,
    out: np.ndarray,
    layout: RecordLayout,
    clock: np.ndarray,
    marker_us: int,
    limit_us: int,
) -> int:
    """Decode whole records as plain events up to the first that is none; return how many.

    The clock has gone on over these; what is in `out` behind them is void.
    """
    size = layout.record_bytes
    first = np.int64(load(records, 0, layout)[1]) + marker_us
    fresh = clock[STARTED] == 0
    if fresh:
        start(clock, first)
    previous = np.uint64(clock[RAW_US] - marker_us)
    limit = np.uint64(limit_us)
    add_us = clock[OFFSET_US] - clock[ORIGIN_US] + marker_us
    if size == 8 and layout.little == 1:
        bad = decode_block_8_little(records.view(np.uint64), out, layout, previous, add_us, limit)
    elif size == 8:
        bad = decode_block_8(records.view(np.uint64), out, layout, previous, add_us, limit)
    elif size == 6:
        bad = decode_block_6(records, out, layout, previous, add_us, limit)
    else:
        bad = decode_block_5(records, out, layout, previous, add_us, limit)
    count = len(records) // size
    if bad != 0:
        count = count_plain(records, layout, previous, limit)
    if count == 0:
        clock[STARTED] = 0 if fresh else 1
        return 0
    clock[RAW_US] = np.int64(load(records, (count - 1) * size, layout)[1]) + marker_us
    clock[LEAP_FROM_US] = -1
    return count


@njit(cache=True, nogil=True)
def count_plain(records: np.ndarray, layout: RecordLayout, previous: np.uint64, limit_us: np.uint64) -> int:
    """Return how many records stand before the first that is no plain event; there is one."""
    i = 0
    while True:
        address, time = load(records, i * layout.record_bytes, layout)
        x, y, _ = pixel(address, layout)
        if suspicion(address, x, y, layout) | unsteady(time - previous, limit_us) != 0:
            return i
        previous = time
        i += 1


@njit(cache=True, nogil=True)
def is_marker(address: np.uint64, layout: RecordLayout) -> bool:
    """Whether the record is a time overflow marker."""
    row = (address >> np.uint64(layout.y_shift)) & np.uint64(layout.y_mask)
    return layout.marker_row >= 0 and np.int64(row) == layout.marker_row


@njit(cache=True, nogil=True)
def is_special(address: np.uint64, layout: RecordLayout) -> bool:
    """Whether the record is well formed and no pixel."""
    garbage = address & np.uint64(layout.garbage_mask) != 0
    return is_marker(address, layout) or (not garbage and address & np.uint64(layout.special_mask) != 0)


@njit(cache=True, nogil=True)
def records_in_step(raw: np.ndarray, at: int, stop: int, wanted: int, layout: RecordLayout) -> int:
    """Count the records from a byte on that are pixels, in step with each other.

    Stops at the first that is not, at `wanted`, or before `stop`.
    """
    size = layout.record_bytes
    found = 0
    previous = np.int64(0)
    while found < wanted and at + size <= stop:
        address, stored = load(raw, at, layout)
        x, y, _ = pixel(address, layout)
        # Modulo 2^32, so that a wrap is in step.
        step = (np.int64(stored) - previous) & 0xFFFFFFFF if found > 0 else 0
        if suspicion(address, x, y, layout) != 0 or step > IN_STEP_US:
            return found
        previous = np.int64(stored)
        found += 1
        at += size
    return found

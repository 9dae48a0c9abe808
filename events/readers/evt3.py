"""Prophesee RAW EVT 3.0.

Words of 16 bits, little-endian; bits 15..12 are the type. What a word does not say is as words before said:

| type | meaning | bits |
|---|---|---|
| 0x0 | EVT_ADDR_Y | 10..0 row |
| 0x2 | EVT_ADDR_X | 11 polarity, 10..0 column: one event |
| 0x3 | VECT_BASE_X | 11 polarity, 10..0 column of the next vector |
| 0x4 | VECT_12 | 11..0: an event in each column whose bit is 1; the next vector is 12 columns further |
| 0x5 | VECT_8 | 7..0, likewise 8 columns |
| 0x6 | EVT_TIME_LOW | 11..0 time bits 11..0 |
| 0x8 | EVT_TIME_HIGH | 11..0 time bits 23..12 |
| 0xA | EXT_TRIGGER | 11..8 channel, 0 rising |
| 0x7, 0xE, 0xF | CONTINUED_4, OTHERS, CONTINUED_12 | no events |

A TIME_HIGH that differs from the one before sets the lower bits to 0 until the next TIME_LOW; the time wraps
after 2^24 us. A row beyond the sensor is damage, and what follows is left out until the next good row. Both
as in OpenEB, whose subtraction of the first TIME_HIGH ("time shift") is not done here.
Origin top left. Source: docs.prophesee.ai, "EVT 3.0 format".
"""

import numpy as np
from numba import njit

from events.readers.conventions import only_plain_conventions
from events.readers.prophesee_clock import (
    BAD_ROW,
    BASE_US,
    COLUMN,
    DAMAGED,
    FINE,
    HEIGHT,
    HIGH,
    NO_ROW,
    OUT_OF_SENSOR,
    PENDING,
    PENDING_PIXEL,
    PENDING_US,
    ROW,
    RUN_EVENTS,
    TIME_US,
    TRIGGERS_FULL,
    UNKNOWN,
    UNPLACED,
    WIDTH,
    Whole,
    advance_high,
    count_falls,
    mark_damage,
    put_pending,
    put_trigger,
)
from events.readers.prophesee_words import Encoding, WordRecording
from events.readers.source import Source
from events.recording import ReadOptions

ADDR_Y, ADDR_X, VECT_BASE_X, VECT_12, VECT_8, TIME_LOW, TIME_HIGH = 0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x8
EXT_TRIGGER, CONTINUED_4, OTHERS, CONTINUED_12 = 0xA, 0x7, 0xE, 0xF
LOW_BITS = 12
HIGH_BITS = 12
POLARITY_SHIFT = 32 - 11  # from bit 11 of a word to that of an event's second word


def open_evt3(source: Source, options: ReadOptions) -> WordRecording:
    """Open an EVT 3.0 recording."""
    only_plain_conventions(options, format_name="Prophesee RAW")
    return WordRecording(source, options, name="evt3", encoding=EVT3)


@njit(cache=True, nogil=True)
def decode_evt3(
    words: np.ndarray, out: np.ndarray, triggers: np.ndarray, state: np.ndarray
) -> tuple[int, int, int]:
    """Decode words until they or the room for events run out, or a damaged one is met; see `Encoding`."""
    room = len(out) // 2
    n = put_pending(out, 0, room, state)
    count_falls(out, 0, n, state)
    i = 0
    code = FINE
    while code == FINE and i < len(words) and n < room:
        first = n
        i, n, code = decode_run(words, i, out, n, min(room, n + RUN_EVENTS), triggers, state)
        count_falls(out, first, n, state)
    return i, n, code


@njit(cache=True, nogil=True)
def decode_run(
    words: np.ndarray, i: int, out: np.ndarray, n: int, stop: int, triggers: np.ndarray, state: np.ndarray
) -> tuple[int, int, int]:
    """Decode words from i on into events n to `stop`; return the next word and event, and a code."""
    n = put_pending(out, n, stop, state)
    room = len(out) // 2
    time_us, row, column = state[TIME_US], state[ROW], state[COLUMN]
    height = state[HEIGHT]
    # Columns from here on are outside: all of them before the first time and row, and in a bad row.
    width = state[WIDTH] if state[HIGH] >= 0 else 0
    limit = width if row >= 0 else 0
    base_us, last_high = state[BASE_US], state[HIGH]
    code = FINE
    while i < len(words) and n < stop:
        word = np.int64(words[i])
        kind = word >> 12
        if kind == ADDR_X and word & 0x7FF < limit:
            out[2 * n] = time_us
            out[2 * n + 1] = (word & 0x7FF) | (row << 16) | ((word & 0x800) << POLARITY_SHIFT)
            n += 1
        elif kind == ADDR_Y:
            row = word & 0x7FF
            limit = width
            if row >= height:
                row, limit = BAD_ROW, 0
                if mark_damage(state, i):
                    code = DAMAGED
                    break
        elif kind == TIME_LOW:
            time_us = base_us + (word & 0xFFF)
        elif kind == TIME_HIGH:
            if word & 0xFFF != last_high:
                last_high = word & 0xFFF
                advance_high(state, last_high)
                base_us = time_us = state[BASE_US]
                width = state[WIDTH]
                limit = width if row >= 0 else 0
        elif kind == VECT_BASE_X:
            column = (word & 0x7FF) | ((word & 0x800) << POLARITY_SHIFT)
        elif kind in (VECT_12, VECT_8):
            size = 12 if kind == VECT_12 else 8
            mask = word & ((1 << size) - 1)
            if column >= 0 and (column & 0xFFFF) + size <= limit and n + 12 <= room:
                pixel = column | (row << 16)
                for j in range(12):  # each writes, and only those that fire stay
                    out[2 * n] = time_us
                    out[2 * n + 1] = pixel + j
                    n += int((mask >> j) & 1)
            else:
                code = take_vector(i, mask, time_us, row, column, limit, state)
                if code != FINE:
                    break
                n = put_pending(out, n, stop, state)
            column += size if column >= 0 else 0
        elif kind != CONTINUED_4 and kind < OTHERS:
            code = take_other(word, i, triggers, time_us, row, state)
            if code != FINE:
                break
        i += 1
    state[TIME_US], state[ROW], state[COLUMN] = time_us, row, column
    return i, n, code


@njit(cache=True, nogil=True)
def take_vector(
    i: int, mask: Whole, time_us: Whole, row: Whole, column: Whole, limit: Whole, state: np.ndarray
) -> int:
    """Take a vector near the end of a row or of the room: leave the events inside the sensor pending."""
    inside = 0
    for j in range(12):
        if (mask >> j) & 1:
            if column >= 0 and (column & 0xFFFF) + j < limit:
                inside |= 1 << j
            elif column < 0:
                state[UNPLACED] += 1
            elif leave_out(i, row, state):
                return DAMAGED
    state[PENDING] = inside
    state[PENDING_US] = time_us
    state[PENDING_PIXEL] = column | (row << 16)
    return FINE


@njit(cache=True, nogil=True)
def leave_out(i: int, row: Whole, state: np.ndarray) -> bool:
    """Count an event that is outside the sensor, or before the first time or row; return whether to stop."""
    if row == NO_ROW or state[HIGH] < 0:
        state[UNPLACED] += 1
        return False
    if row != BAD_ROW and mark_damage(state, i):
        return True
    state[OUT_OF_SENSOR] += 1
    return False


@njit(cache=True, nogil=True)
def take_other(
    word: Whole, i: int, triggers: np.ndarray, time_us: Whole, row: Whole, state: np.ndarray
) -> int:
    """Take a word that is neither an event inside the sensor nor a time nor a row; return a code."""
    kind = word >> 12
    if kind == ADDR_X:
        return DAMAGED if leave_out(i, row, state) else FINE
    if kind == EXT_TRIGGER:
        if state[HIGH] >= 0 and not put_trigger(triggers, state, time_us, (word >> 8) & 0xF, word & 1):
            return TRIGGERS_FULL
    elif kind != OTHERS and kind != CONTINUED_4 and kind != CONTINUED_12:
        if mark_damage(state, i):
            return DAMAGED
        state[UNKNOWN] += 1
    return FINE


EVT3 = Encoding(
    word_type="<u2",
    decode=decode_evt3,
    high_bits=HIGH_BITS,
    low_bits=LOW_BITS,
    events_per_word=12,
    kinds=0xC5FD,
)

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

from events.readers.prophesee_clock import (
    BAD_ROW,
    BASE_US,
    COLUMN,
    DAMAGED,
    END,
    FINE,
    GOOD_ROW,
    HEIGHT,
    HIGH,
    LAST,
    MASK,
    NO_ROW,
    OUT_OF_SENSOR,
    PENDING,
    PENDING_PIXEL,
    PENDING_US,
    ROW,
    RUN_EVENTS,
    TRIGGERS_FULL,
    TURN,
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
    return WordRecording(source, options, encoding=EVT3)


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
    """Decode words from i on into events n to `stop`; return the next word and event, and a code.

    Which words follow each other is all but random, and a branch for each type would be guessed wrong half
    of the time. Plain words take none: each is remembered as the last of its type, and writes an event made
    of the last of each type, which stays if the word is an ADDR_X.
    """
    n = put_pending(out, n, stop, state)
    room = len(out) // 2
    column, base_us = state[COLUMN], state[BASE_US]
    tell_plain(state)
    code = FINE
    while i < len(words) and n < stop:
        word = np.int64(words[np.uint64(i)])
        kind = word >> 12
        at = np.uint64(2 * n)
        if (word ^ state[TURN + kind]) & state[MASK + kind] < state[END + kind]:
            state[LAST + kind] = word & 0xFFF
            out[at] = base_us + state[LAST + TIME_LOW]
            out[at + np.uint64(1)] = column_of(word) | row_of(state)
            n += int(kind == ADDR_X)
        elif kind == VECT_BASE_X:
            column = column_of(word)
        elif kind in (VECT_12, VECT_8):
            size = 12 if kind == VECT_12 else 8
            mask = word & ((1 << size) - 1)
            time_us, pixel = base_us + state[LAST + TIME_LOW], column | row_of(state)
            if column >= 0 and (column & 0xFFFF) + size <= state[END + ADDR_X] and n + 12 <= room:
                for j in range(12):  # each writes, and only those that fire stay
                    at = np.uint64(2 * n)
                    out[at] = time_us
                    out[at + np.uint64(1)] = pixel + j
                    n += int((mask >> j) & 1)
            else:
                code = take_vector(i, mask, time_us, pixel, state)
                if code != FINE:
                    break
                n = put_pending(out, n, stop, state)
            column += size if column >= 0 else 0
        elif kind == TIME_HIGH:
            advance_high(state, word & 0xFFF)
            base_us = state[BASE_US]
            state[LAST + TIME_LOW] = 0
            tell_plain(state)
        else:
            code = take_other(word, i, triggers, base_us + state[LAST + TIME_LOW], state)
            if code != FINE:
                break
        i += 1
    state[COLUMN] = column
    return i, n, code


@njit(cache=True, nogil=True)
def column_of(word: Whole) -> Whole:
    """Return column and polarity of a word, as the second word of an event."""
    return word & 0x7FF | (word & 0x800) << POLARITY_SHIFT


@njit(cache=True, nogil=True)
def row_of(state: np.ndarray) -> Whole:
    """Return the row, as the second word of an event."""
    return (state[LAST + ADDR_Y] & 0x7FF) << 16


@njit(cache=True, nogil=True)
def tell_plain(state: np.ndarray) -> None:
    """Say which words are plain, by type: those whose bits in MASK, turned by TURN, are below END.

    No column is inside before the first time and row, and in a bad row; and then any row is news. Of the
    words TIME_HIGH only the last one is plain when it comes again.
    """
    for kind in range(16):
        state[MASK + kind] = 0x7FF
    for kind in (TIME_LOW, CONTINUED_4, OTHERS, CONTINUED_12):
        state[END + kind] = 0x800
    good = state[ROW] == GOOD_ROW
    state[END + ADDR_X] = state[WIDTH] if good and state[HIGH] >= 0 else 0
    state[END + ADDR_Y] = state[HEIGHT] if good else 0
    state[MASK + TIME_HIGH] = 0xFFF
    state[TURN + TIME_HIGH] = state[HIGH] & 0xFFF
    state[END + TIME_HIGH] = state[HIGH] >= 0


@njit(cache=True, nogil=True)
def take_vector(i: int, mask: Whole, time_us: Whole, pixel: Whole, state: np.ndarray) -> int:
    """Take a vector near the end of a row or of the room: leave the events inside the sensor pending."""
    inside = 0
    for j in range(12):
        if (mask >> j) & 1:
            if pixel >= 0 and (pixel & 0xFFFF) + j < state[END + ADDR_X]:
                inside |= 1 << j
            elif pixel < 0:
                state[UNPLACED] += 1
            elif leave_out(i, state):
                return DAMAGED
    state[PENDING] = inside
    state[PENDING_US] = time_us
    state[PENDING_PIXEL] = pixel
    return FINE


@njit(cache=True, nogil=True)
def leave_out(i: int, state: np.ndarray) -> bool:
    """Count an event that is outside the sensor, or before the first time or row; return whether to stop."""
    if state[ROW] == NO_ROW or state[HIGH] < 0:
        state[UNPLACED] += 1
        return False
    if state[ROW] != BAD_ROW and mark_damage(state, i):
        return True
    state[OUT_OF_SENSOR] += 1
    return False


@njit(cache=True, nogil=True)
def take_other(word: Whole, i: int, triggers: np.ndarray, time_us: Whole, state: np.ndarray) -> int:
    """Take a word that is neither plain nor part of a vector nor a time; return a code."""
    kind = word >> 12
    if kind == ADDR_Y:
        state[ROW] = GOOD_ROW if word & 0x7FF < state[HEIGHT] else BAD_ROW
        state[LAST + ADDR_Y] = word & 0x7FF
        tell_plain(state)
        return DAMAGED if state[ROW] == BAD_ROW and mark_damage(state, i) else FINE
    if kind == ADDR_X:
        return DAMAGED if leave_out(i, state) else FINE
    if kind == EXT_TRIGGER:
        if state[HIGH] >= 0 and not put_trigger(triggers, state, time_us, (word >> 8) & 0xF, word & 1):
            return TRIGGERS_FULL
    elif mark_damage(state, i):
        return DAMAGED
    else:
        state[UNKNOWN] += 1
    return FINE


EVT3 = Encoding(
    name="evt3",
    word_type="<u2",
    decode=decode_evt3,
    high_bits=HIGH_BITS,
    low_bits=LOW_BITS,
    events_per_word=12,
    kinds=0xC5FD,
)

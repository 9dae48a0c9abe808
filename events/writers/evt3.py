"""Prophesee RAW EVT 3.0; the inverse of `events.readers.evt3`.

Events that follow each other in one row, at one time, with one polarity and rising columns, are written as
vectors where that is shorter. Times past 2^24 us wrap, and longer pauses than half of that are crossed by
words that say the time alone.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numba import njit

from events.readers.evt3 import (
    ADDR_X,
    ADDR_Y,
    EVT3,
    HIGH_BITS,
    LOW_BITS,
    TIME_HIGH,
    TIME_LOW,
    VECT_12,
    VECT_BASE_X,
)
from events.writers.prophesee_raw import (
    COLUMN,
    HIGH,
    LOW,
    POLARITY,
    ROW,
    STARTED,
    WordFormat,
    next_high,
    write_words,
)

VECTOR = 12
# Of an event's second word; above them is padding, which may hold anything.
ROW_AND_POLARITY = 0x1FFFF0000
# Fewer events than that are shorter as single ones than as a vector with its base.
FEWEST_IN_VECTOR = 3


def write_evt3(path: Path, events: np.ndarray | Iterable[np.ndarray], *, sensor_hw: tuple[int, int]) -> None:
    """Write a recording; see `events.writers.prophesee_raw.write_words`."""
    write_words(path, events, sensor_hw=sensor_hw, form=FORM)


@njit(cache=True, nogil=True)
def encode_evt3(events: np.ndarray, words: np.ndarray, state: np.ndarray) -> int:
    """Write the words of events, given as two words each; return how many."""
    n = i = 0
    count = len(events) // 2
    while i < count:
        t, pixel = events[2 * i], events[2 * i + 1]
        n = put_time(words, n, t, state)
        x, y, p = pixel & 0xFFFF, (pixel >> 16) & 0xFFFF, (pixel >> 32) & 1
        if y != state[ROW]:
            words[n] = (ADDR_Y << 12) | y
            state[ROW] = y
            state[COLUMN] = -1
            n += 1
        in_reach = p == state[POLARITY] and state[COLUMN] >= 0 and 0 <= x - state[COLUMN] < VECTOR
        base = state[COLUMN] if in_reach else x
        mask, taken = vector_from(events, i, base)
        if in_reach or taken >= FEWEST_IN_VECTOR:
            if not in_reach:
                words[n] = (VECT_BASE_X << 12) | (p << 11) | base
                n += 1
            words[n] = (VECT_12 << 12) | mask
            state[COLUMN] = base + VECTOR
            state[POLARITY] = p
            i += taken
        else:
            words[n] = (ADDR_X << 12) | (p << 11) | x
            i += 1
        n += 1
    return n


@njit(cache=True, nogil=True)
def put_time(words: np.ndarray, n: int, t: int, state: np.ndarray) -> int:
    """Write what is new of a time; return the next word's index."""
    high = t >> LOW_BITS
    while state[STARTED] == 0 or state[HIGH] != high:
        words[n] = (TIME_HIGH << 12) | (next_high(state, high, HIGH_BITS) & ((1 << HIGH_BITS) - 1))
        state[LOW] = -1  # not every reader takes it for 0 after a new TIME_HIGH: say it
        n += 1
    low = t & ((1 << LOW_BITS) - 1)
    if low != state[LOW]:
        words[n] = (TIME_LOW << 12) | low
        state[LOW] = low
        n += 1
    return n


@njit(cache=True, nogil=True)
def vector_from(events: np.ndarray, i: int, base: int) -> tuple[int, int]:
    """Return the mask of a vector from column `base` that holds event i, and how many events it holds."""
    mask = taken = 0
    last = -1
    while 2 * (i + taken) < len(events):
        pixel = events[2 * (i + taken) + 1]
        x = pixel & 0xFFFF
        same_row = (pixel ^ events[2 * i + 1]) & ROW_AND_POLARITY == 0
        if not same_row or events[2 * (i + taken)] != events[2 * i] or x <= last or x - base >= VECTOR:
            break
        mask |= 1 << (x - base)
        last = x
        taken += 1
    return mask, taken


FORM = WordFormat(version="3.0", option="EVT3", encoding=EVT3, words_per_event=3, encode=encode_evt3)

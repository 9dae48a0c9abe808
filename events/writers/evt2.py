"""Prophesee RAW EVT 2.0; the inverse of `events.readers.evt2`.

Times past 2^34 us wrap, and longer pauses than half of that are crossed by words that say the time alone.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numba import njit

from events.readers.evt2 import EVT2, HIGH_BITS, LOW_BITS, TIME_HIGH
from events.writers.prophesee_raw import HIGH, STARTED, WordFormat, next_high, write_words


def write_evt2(path: Path, events: np.ndarray | Iterable[np.ndarray], *, sensor_hw: tuple[int, int]) -> None:
    """Write a recording; see `events.writers.prophesee_raw.write_words`."""
    write_words(path, events, sensor_hw=sensor_hw, form=FORM)


@njit(cache=True, nogil=True)
def encode_evt2(events: np.ndarray, words: np.ndarray, state: np.ndarray) -> int:
    """Write the words of events, given as two words each; return how many."""
    n = 0
    for i in range(len(events) // 2):
        t, pixel = events[2 * i], events[2 * i + 1]
        high = t >> LOW_BITS
        while state[STARTED] == 0 or state[HIGH] != high:
            words[n] = (TIME_HIGH << 28) | (next_high(state, high, HIGH_BITS) & ((1 << HIGH_BITS) - 1))
            n += 1
        x, y, p = pixel & 0xFFFF, (pixel >> 16) & 0xFFFF, (pixel >> 32) & 1
        words[n] = (p << 28) | ((t & 0x3F) << 22) | (x << 11) | y
        n += 1
    return n


FORM = WordFormat(version="2.0", option="EVT2", encoding=EVT2, words_per_event=1, encode=encode_evt2)

"""Prophesee RAW EVT 2.0; the inverse of `events.readers.evt2`.

Times past 2^34 us wrap, and longer pauses than half of that are crossed by words that say the time alone.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numba import njit

from events.readers.evt2 import HIGH_BITS, LOW_BITS, TIME_HIGH
from events.writers.prophesee_raw import HIGH, STARTED, next_high, write_words


def write_evt2(path: Path, events: np.ndarray | Iterable[np.ndarray], *, sensor_hw: tuple[int, int]) -> None:
    """Write a recording; the same events give the same bytes.

    Args:
        path: Where to; an existing file is replaced.
        events: EVENT_DTYPE, shape [N], or chunks of it; no time falls over a multiple of 2^34 us.
        sensor_hw: Height and width in pixels.

    Raises:
        ConfigError: The events or the sensor do not fit the format.
        EventsError: The file cannot be written.
    """
    write_words(
        path,
        events,
        sensor_hw=sensor_hw,
        lines=["evt 2.0", f"format EVT2;height={sensor_hw[0]};width={sensor_hw[1]}"],
        format_name="EVT 2.0",
        word_type="<u4",
        words_per_event=1,
        encode=encode_evt2,
        high_bits=HIGH_BITS,
        low_bits=LOW_BITS,
    )


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

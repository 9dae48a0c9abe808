"""Prophesee RAW EVT 2.1; the inverse of `events.readers.evt21`.

Events that follow each other in one row, at one time, with one polarity and rising columns, share a word
where their columns are in one block of 32.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from numba import njit

from events.errors import ConfigError
from events.readers.evt2 import HIGH_BITS, LOW_BITS, TIME_HIGH
from events.readers.evt21 import ENCODINGS, VECTOR
from events.writers.prophesee_raw import HIGH, STARTED, WordFormat, next_high, write_words

# Of an event's second word: all but its place in a block of 32 columns and the padding.
BLOCK_BITS = 0x1FFFFFFE0


def write_evt21(
    path: Path,
    events: np.ndarray | Iterable[np.ndarray],
    *,
    sensor_hw: tuple[int, int],
    endianness: Literal["little", "legacy"] = "little",
) -> None:
    """Write a recording; see `events.writers.prophesee_raw.write_words`.

    Args:
        path: As there.
        events: As there.
        sensor_hw: As there.
        endianness: `legacy` puts the upper half of a word before the lower one.

    Raises:
        ConfigError: As there, or the endianness is unknown.
        EventsError: As there.
    """
    if endianness not in FORMS:
        raise ConfigError(f"endianness {endianness!r} is unknown; known are {', '.join(FORMS)}")
    write_words(path, events, sensor_hw=sensor_hw, form=FORMS[endianness])


@njit(cache=True, nogil=True)
def encode_little(events: np.ndarray, words: np.ndarray, state: np.ndarray) -> int:
    """Write little-endian words of events, given as two words each; return how many."""
    return encode_evt21(events, words, state, 0)


@njit(cache=True, nogil=True)
def encode_legacy(events: np.ndarray, words: np.ndarray, state: np.ndarray) -> int:
    """Write words of events whose upper half comes first; return how many."""
    return encode_evt21(events, words, state, 32)


@njit(cache=True, nogil=True)
def encode_evt21(events: np.ndarray, words: np.ndarray, state: np.ndarray, turn: int) -> int:
    """Write the words of events, turned by that many bits; return how many."""
    n = i = 0
    while 2 * i < len(events):
        t, pixel = events[2 * i], events[2 * i + 1]
        high = t >> LOW_BITS
        while state[STARTED] == 0 or state[HIGH] != high:
            upper = (TIME_HIGH << 28) | (next_high(state, high, HIGH_BITS) & ((1 << HIGH_BITS) - 1))
            words[n] = np.uint64(upper) << np.uint64(32 - turn)
            n += 1
        base, y, p = pixel & 0xFFFF & -VECTOR, (pixel >> 16) & 0xFFFF, (pixel >> 32) & 1
        mask, taken = block_from(events, i)
        upper = (p << 28) | ((t & 0x3F) << 22) | (base << 11) | y
        words[n] = (np.uint64(upper) << np.uint64(32 - turn)) | (np.uint64(mask) << np.uint64(turn))
        n += 1
        i += taken
    return n


@njit(cache=True, nogil=True)
def block_from(events: np.ndarray, i: int) -> tuple[int, int]:
    """Return the mask of the word that starts with event i, and how many events it holds."""
    mask = taken = 0
    last = -1
    while 2 * (i + taken) < len(events):
        pixel = events[2 * (i + taken) + 1]
        place = pixel & (VECTOR - 1)
        same = (pixel ^ events[2 * i + 1]) & BLOCK_BITS == 0 and events[2 * (i + taken)] == events[2 * i]
        if not same or place <= last:
            break
        mask |= 1 << place
        last = place
        taken += 1
    return mask, taken


FORMS = {
    endianness: WordFormat(
        version="2.1",
        option=f"EVT21;endianness={endianness}",
        encoding=ENCODINGS[endianness],
        words_per_event=1,
        encode=encode,
    )
    for endianness, encode in (("little", encode_little), ("legacy", encode_legacy))
}

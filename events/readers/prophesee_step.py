"""Where words of EVT 2, 2.1 and 3 are in step again, after bytes that are no words: for damage `salvage`.

A run of words is taken for real if each has a type and a pixel that its encoding has, and if the times they
say never fall. Of 32 words of noise that all look so by chance, there is less than one in 10^9.
"""

import numpy as np
from numba import njit

from events.readers.prophesee_clock import NEAR_US, Whole

# That many words in a row are taken for real ones; half as many where the file ends with them.
SYNC_WORDS = 32

# How far the next ones are searched for.
SEARCH_BYTES = 1 << 12

TIME_HIGH = 0x8


@njit(cache=True, nogil=True)
def find_words(
    raw: np.ndarray, at_end: bool, word_bytes: int, turned: bool, kinds: int, sensor_hw: tuple[int, int]
) -> int:
    """Return the first byte from which words are in step, or -1.

    Args:
        raw: Bytes of the file, shape [n], uint8.
        at_end: Whether the file ends with them.
        word_bytes: Length of a word: 2, 4 or 8.
        turned: Whether the upper half of a word of 8 bytes comes first.
        kinds: A bit for each type that words have.
        sensor_hw: Height and width of the sensor in pixels.
    """
    for at in range(len(raw) - word_bytes * SYNC_WORDS // 2 + 1):
        wanted = min(SYNC_WORDS, (len(raw) - at) // word_bytes)
        complete = wanted == SYNC_WORDS or (at_end and (len(raw) - at) % word_bytes == 0)
        if not complete:
            continue
        if word_bytes == 2:
            found = short_words_fit(raw, at, wanted, kinds, sensor_hw)
        else:
            found = long_words_fit(raw, at, wanted, word_bytes, turned, kinds, sensor_hw)
        if found:
            return at
    return -1


@njit(cache=True, nogil=True)
def short_words_fit(raw: np.ndarray, at: int, wanted: int, kinds: int, sensor_hw: tuple[int, int]) -> bool:
    """Whether words of EVT 3 from a byte on are in step; not all of one type, as those of a pause are."""
    high: Whole = -1
    low: Whole = -1
    met: Whole = 0
    for i in range(at, at + 2 * wanted, 2):
        word = np.int64(raw[i]) | np.int64(raw[i + 1]) << 8
        kind, bits = word >> 12, word & 0xFFF
        met |= 1 << kind
        fits = (kinds >> kind) & 1 == 1
        if kind == 0x0:  # row
            fits = bits & 0x7FF < sensor_hw[0]
        elif kind in (0x2, 0x3):  # column
            fits = bits & 0x7FF < sensor_hw[1]
        elif kind == 0x6:  # lower bits of the time
            fits = bits >= low
            low = bits
        elif kind == TIME_HIGH:
            fits = high < 0 or (bits - high) & 0xFFF <= NEAR_US >> 12
            low = low if bits == high else -1
            high = bits
        if not fits:
            return False
    return (met >> 6) & 0b101 != 0 and met & (met - 1) != 0


@njit(cache=True, nogil=True)
def long_words_fit(
    raw: np.ndarray,
    at: int,
    wanted: int,
    word_bytes: int,
    turned: bool,
    kinds: int,
    sensor_hw: tuple[int, int],
) -> bool:
    """Whether words of EVT 2 or 2.1 from a byte on are in step."""
    high: Whole = -1
    low: Whole = -1
    for i in range(at, at + word_bytes * wanted, word_bytes):
        upper = load_half(raw, i + 4 if word_bytes == 8 and not turned else i)
        kind, bits = upper >> 28, upper & 0xFFFFFFF
        fits = (kinds >> kind) & 1 == 1
        if kind <= 1:
            x, y = (upper >> 11) & 0x7FF, upper & 0x7FF
            fits = x < sensor_hw[1] and y < sensor_hw[0] and bits >> 22 >= low
            low = bits >> 22
            if word_bytes == 8:  # vectors begin at multiples of their length, and none is empty
                fits = fits and x % 32 == 0 and load_half(raw, i if not turned else i + 4) != 0
        elif kind == TIME_HIGH:
            fits = high < 0 or (bits - high) & 0xFFFFFFF <= NEAR_US >> 6
            low = low if bits == high else -1
            high = bits
        if not fits:
            return False
    return True


@njit(cache=True, nogil=True)
def load_half(raw: np.ndarray, at: int) -> Whole:
    """Return the little-endian word of 32 bits that starts at a byte."""
    word: Whole = np.int64(0)
    for i in range(4):
        word |= np.int64(raw[at + i]) << (8 * i)
    return word

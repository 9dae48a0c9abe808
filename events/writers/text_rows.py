"""The loop that writes events as rows of digits."""

import numpy as np
from numba import njit

# Longest row of t,x,y,p: a time of 20 characters, two coordinates of 5, a polarity, commas and the line end.
LONGEST_ROW = 35

COMMA, LINE_END, MINUS, ZERO = 44, 10, 45, 48
ONE, TWO, TEN = np.uint64(1), np.uint64(2), np.uint64(10)


@njit(nogil=True, cache=True)
def format_rows(words: np.ndarray, text: np.ndarray) -> int:
    """Write each event as a row `t,x,y,p` of whole numbers.

    Args:
        words: The events, two int64 for each of EVENT_DTYPE, shape [2 n].
        text: Gets the bytes, uint8, shape [m]; m is at least LONGEST_ROW * n.

    Returns:
        Bytes written.
    """
    at = np.uint64(0)
    for i in range(len(words) // 2):
        t, rest = words[2 * i], words[2 * i + 1]
        if t < 0:
            text[at] = MINUS
            at += ONE
        # The smallest int64 has no negative of its own, but the bits of it as a number without a sign.
        at = format_number(np.uint64(-t if t < 0 else t), COMMA, text, at)
        at = format_number(np.uint64(rest & 0xFFFF), COMMA, text, at)
        at = format_number(np.uint64(rest >> 16 & 0xFFFF), COMMA, text, at)
        text[at] = ZERO + (rest & 0xFF_0000_0000 != 0)
        text[at + ONE] = LINE_END
        at += TWO
    return int(at)


@njit(nogil=True, cache=True)
def format_number(value: np.uint64, behind: int, text: np.ndarray, at: np.uint64) -> np.uint64:
    """Write the digits of a number below 10**19, and a byte behind them; return the position after both."""
    limit, end = TEN, at + ONE
    while value >= limit:
        limit *= TEN
        end += ONE
    text[end] = behind
    digit = end
    while digit > at:
        rest = value // TEN
        digit -= ONE
        text[digit] = np.uint64(ZERO) + (value - rest * TEN)
        value = rest
    return end + ONE

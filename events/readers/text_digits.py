"""Digits of text, many bytes at once, by the machine's own instructions."""

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

from events.readers.bits import lowest_bit
from events.readers.prophesee_clock import Whole

BYTE, WORD = ir.IntType(8), ir.IntType(64)
BLOCK = ir.VectorType(BYTE, 64)

# What may be read behind the start of a line: a block, and a word from any byte of it.
REACH = np.uint64(64 + 8)
# Digits that `digits_value` takes.
MOST_DIGITS = np.uint64(16)

ONE, TWO, EIGHT, TEN = np.uint64(1), np.uint64(2), np.uint64(8), np.uint64(10)
ZEROS = np.uint64(int.from_bytes(b"00000000", "little"))
EVERY_FOURTH_BYTE = np.uint64(0x0000_00FF_0000_00FF)
HIGH_PAIRS, LOW_PAIRS = np.uint64(100 + (1_000_000 << 32)), np.uint64(1 + (10_000 << 32))
POWERS = 10 ** np.arange(9, dtype=np.uint64)


@intrinsic
def load_word(typing_context: Any, raw: Any, at: Any) -> Any:
    """Return the type and the code of a word of eight bytes, `raw[at]` lowest, as Numba wants it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), WORD.as_pointer())
        return builder.load(place, align=1)

    return types.uint64(raw, at), generate


@intrinsic
def other_than_digits(typing_context: Any, raw: Any, at: Any) -> Any:
    """Return the type and the code of a word of 64 bits, each 1 where that byte of `raw[at:]` is no digit."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), BLOCK.as_pointer())
        digits = builder.sub(builder.load(place, align=1), ir.Constant(BLOCK, [ord("0")] * 64))
        others = builder.icmp_unsigned(">", digits, ir.Constant(BLOCK, [9] * 64))
        return builder.bitcast(others, WORD)

    return types.uint64(raw, at), generate


@njit(nogil=True, inline="always")
def four_ends(raw: np.ndarray, at: np.uint64, separator: int, behind: int) -> Any:
    """Return where each of the four numbers of a line ends, and whether it holds nothing but short ones.

    Where the next line starts must not wait for the answer, so that no end depends on it.

    Args:
        raw: Bytes, uint8.
        at: First byte of the line; there must be REACH bytes from there on.
        separator: The one byte behind a number.
        behind: The one behind the last.

    Returns:
        The byte behind each number, and whether all they are is 1 to MOST_DIGITS digits.
    """
    others: np.uint64 = other_than_digits(raw, at)  # type: ignore[call-arg]
    first = at + np.uint64(lowest_bit(others))
    others &= others - ONE
    second = at + np.uint64(lowest_bit(others))
    others &= others - ONE
    third = at + np.uint64(lowest_bit(others))
    others &= others - ONE
    fourth = at + np.uint64(lowest_bit(others))
    # Where there is no digit, the length less one is large: it has no sign.
    longest = max(
        max(first - at - ONE, second - first - TWO), max(third - second - TWO, fourth - third - TWO)
    )
    separated = raw[first] == separator and raw[second] == separator and raw[third] == separator
    plain = separated and raw[fourth] == behind and longest < MOST_DIGITS
    return first, second, third, fourth, plain


@njit(nogil=True, inline="always")
def digits_value(raw: np.ndarray, at: np.uint64, end: np.uint64) -> Whole:
    """Return the number that 1 to MOST_DIGITS digits are; words from `at` on are read."""
    digits = end - at
    if digits <= EIGHT:
        return np.int64(eight_digits(load_word(raw, at), digits))  # type: ignore[call-arg]
    upper = eight_digits(load_word(raw, at), EIGHT)  # type: ignore[call-arg]
    lower = eight_digits(load_word(raw, at + EIGHT), digits - EIGHT)
    return np.int64(upper * POWERS[digits - EIGHT] + lower)


@njit(nogil=True, inline="always")
def eight_digits(word: np.uint64, digits: np.uint64) -> np.uint64:
    """Return the number that the first 1 to 8 bytes of a word are: twos, fours and eights side by side.

    What is behind them leaves the word, and zeros come before them.
    """
    pairs = (word ^ ZEROS) << (EIGHT * (EIGHT - digits))
    pairs = pairs * TEN + (pairs >> EIGHT)
    high = (pairs & EVERY_FOURTH_BYTE) * HIGH_PAIRS
    low = (pairs >> np.uint64(16) & EVERY_FOURTH_BYTE) * LOW_PAIRS
    return (high + low) >> np.uint64(32)

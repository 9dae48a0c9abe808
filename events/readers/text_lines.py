"""The loop over the bytes of text: lines of columns into numbers.

A number is `[+-]digits[.digits][e[+-]digits]`. It is kept as an integer and a power of ten, so that whole
numbers are exact and times are rounded once, half to even, from the decimal digits as they are written.
"""

import numpy as np
from numba import njit

from events.readers.prophesee_clock import Whole
from events.readers.text_digits import REACH, digits_value, four_ends

LINE_END, TAB, RETURN, SPACE = 10, 9, 13, 32
PLUS, MINUS, POINT, ZERO, HASH, PERCENT = 43, 45, 46, 48, 35, 37
SMALL_E = 101

# What is known of an event: the rows of the result.
TIME, X, Y, POLARITY, LINE = range(5)

# Shortest line of four columns, with its end.
SHORTEST_LINE = 8

# Digits that always fit into 63 bits, and below what one more does.
SAFE_DIGITS = 18
FULL = (1 << 63) // 10
# There is no number, or it does not fit into 62 bits.
NO_NUMBER = np.int64(-(1 << 62))
# Powers of ten are not read further.
LARGEST_EXPONENT = 10_000
POWERS = 10 ** np.arange(19, dtype=np.int64)
NO_POLARITY = 2

# What a line is.
NOTHING, EVENT, DAMAGED = 0, 1, -1

ONE = np.uint64(1)


@njit(nogil=True, cache=True)
def parse_lines(
    raw: np.ndarray,
    start: int,
    stop: int,
    separator: int,
    fields: np.ndarray,
    unit: int,
    strict: bool,
    columns: np.ndarray,
    damage: np.ndarray,
) -> tuple[Whole, Whole]:
    """Parse whole lines until they or the rows run out; blank lines and comments are passed over.

    Lines up to the first that is not four whole numbers are read in `parse_plain`. Digits, with a point in a
    time, and one separator behind them are read here, lines with anything else in `parse_line`: to hand an
    array to another function takes as long as to read a number. Unsigned positions spare the question whether
    they count from the end.

    Args:
        raw: Bytes, uint8.
        start: First byte of a line.
        stop: First byte no longer to be read; a line that has no end before it is left.
        separator: Byte between columns; SPACE and TAB stand for any white space.
        fields: What each column holds, int64; LINE for those that are not wanted, but the last is.
        unit: Power of ten that makes microseconds of a time.
        strict: Whether to stop before the first line that is no event.
        columns: Gets time in microseconds, x, y, polarity and byte of the line in `raw`, int64, shape
            [5, n]. A polarity that is none, or an x or y that is no whole number, gives NO_POLARITY.
        damage: Gets the lines that are no event, their bytes, and the first byte of the first or -1, int64.

    Returns:
        First byte that was not used, rows written.
    """
    damage[0], damage[1], damage[2] = 0, 0, -1
    at, end = np.uint64(start), np.uint64(stop)
    while end > at and raw[end - ONE] != LINE_END:
        end -= ONE
    last = len(fields) - 1
    room = columns.shape[1]
    cells = columns.reshape(5 * room)
    rows: Whole = np.int64(0)
    if last == 3 and unit == 0:
        at, rows = parse_plain(raw, at, end, separator, fields, columns)
    while at < end and rows < room:
        line = at
        plain = False
        for column in range(last + 1):
            field = fields[column]
            shift: Whole = unit if field == TIME else 0
            first = at
            value: Whole = np.int64(0)
            digit = np.int64(raw[at]) - ZERO
            while 0 <= digit < 10:
                value = value * 10 + digit
                at += ONE
                digit = np.int64(raw[at]) - ZERO
            digits = np.int64(at - first)
            if digit == POINT - ZERO and field == TIME:
                at += ONE
                point = at
                digit = np.int64(raw[at]) - ZERO
                while 0 <= digit < 10:
                    value = value * 10 + digit
                    at += ONE
                    digit = np.int64(raw[at]) - ZERO
                digits += np.int64(at - point)
                shift -= np.int64(at - point)
            if digits == 0 or max(digits, digits + shift) > SAFE_DIGITS:
                break
            if shift > 0:
                value *= POWERS[shift]
            elif shift < 0:
                value, _ = scaled(value, np.int64(shift), False)
            cells[np.uint64(field * room + rows)] = value
            if digit == separator - ZERO:
                at += ONE
                while raw[at] == SPACE:
                    at += ONE
            elif column < last or (raw[at] != LINE_END and (raw[at] != RETURN or raw[at + ONE] != LINE_END)):
                break
            plain = column == last
        if plain:
            cells[np.uint64(LINE * room + rows)] = line
            rows += 1
            while raw[at] != LINE_END:
                at += ONE
            at += ONE
            continue
        kind, after = parse_line(raw, np.int64(line), separator, fields, unit, columns, rows)
        if kind == DAMAGED:
            if damage[0] == 0:
                damage[2] = line
            damage[0] += 1
            damage[1] += after - np.int64(line)
            if strict:
                return np.int64(line), rows
        rows += kind == EVENT
        at = np.uint64(after)
    return np.int64(at), rows


@njit(nogil=True, cache=True)
def parse_plain(
    raw: np.ndarray, at: np.uint64, end: np.uint64, separator: int, fields: np.ndarray, columns: np.ndarray
) -> tuple[np.uint64, Whole]:
    """Parse lines of four whole numbers and nothing else, as most files have them, as `parse_lines` does.

    Returns:
        First byte that was not used, before the first line that holds anything else; rows written.
    """
    room = np.uint64(columns.shape[1])
    cells = columns.reshape(columns.size)
    column = fields.astype(np.uint64) * room
    lines = np.uint64(LINE) * room
    stop = np.uint64(len(raw))
    # The last line says whether lines end with a return, too.
    returns = end - at > ONE and raw[end - ONE - ONE] == RETURN
    behind, more = (RETURN, ONE) if returns else (LINE_END, np.uint64(0))
    rows = np.uint64(0)
    while at < end and rows < room and stop - at >= REACH:
        first, second, third, fourth, plain = four_ends(raw, at, separator, behind)
        if not plain or raw[fourth + more] != LINE_END:
            break
        cells[column[0] + rows] = digits_value(raw, at, first)
        cells[column[1] + rows] = digits_value(raw, first + ONE, second)
        cells[column[2] + rows] = digits_value(raw, second + ONE, third)
        cells[column[3] + rows] = digits_value(raw, third + ONE, fourth)
        cells[lines + rows] = at
        rows += ONE
        at = fourth + more + ONE
    return at, np.int64(rows)


@njit(nogil=True, cache=True)
def parse_line(
    raw: np.ndarray, at: Whole, separator: int, fields: np.ndarray, unit: int, columns: np.ndarray, row: Whole
) -> tuple[int, Whole]:
    """Parse any line into a row; return EVENT, NOTHING or DAMAGED, and the byte after the line."""
    after = at
    while raw[after] != LINE_END:
        after += 1
    after += 1
    if holds_nothing(raw, at):
        return NOTHING, after
    line, whole, ended = at, True, False
    for field in fields:
        if ended:
            return DAMAGED, after
        value, exponent, more, at, ended = item(raw, at, separator, field)
        if exponent == NO_NUMBER:
            return DAMAGED, after
        value, rounded = scaled(value, exponent + unit if field == TIME else exponent, more)
        if value == NO_NUMBER:
            return DAMAGED, after
        whole &= field == TIME or not rounded
        columns[field, row] = value
    columns[LINE, row] = line
    if not whole:
        columns[POLARITY, row] = NO_POLARITY
    return EVENT, after


@njit(nogil=True, cache=True)
def holds_nothing(raw: np.ndarray, at: Whole) -> bool:
    """Whether a line is blank or a comment."""
    while is_white(raw[at]):
        at += 1
    return raw[at] == LINE_END or raw[at] == HASH or raw[at] == PERCENT


@njit(nogil=True, cache=True)
def is_white(byte: int) -> bool:
    """Whether a byte is white space inside a line."""
    return byte in (SPACE, TAB, RETURN)


@njit(nogil=True, cache=True)
def item(raw: np.ndarray, at: Whole, separator: int, field: int) -> tuple[Whole, Whole, bool, Whole, bool]:
    """Read one item of a line, with white space around it.

    Returns:
        Integer and power of ten of a number, NO_NUMBER where it is none; whether digits other than 0 were
        left out; the first byte of the next item; whether the line ended instead.
    """
    white = separator in (SPACE, TAB)
    while is_white(raw[at]):
        at += 1
    value: Whole = np.int64(0)
    exponent: Whole = np.int64(0)
    more = False
    if field == LINE:
        while raw[at] != LINE_END and raw[at] != separator and not (white and is_white(raw[at])):
            at += 1
    elif field == POLARITY and raw[at] > ZERO + 9:
        value, at = word(raw, at)
        if value < 0:
            exponent = NO_NUMBER
    else:
        value, exponent, more, at = number(raw, at)
    end = at
    while is_white(raw[at]):
        at += 1
    ended = raw[at] == LINE_END
    if not ended and not white and raw[at] == separator:
        at += 1
    elif not ended and (not white or at == end):
        exponent = NO_NUMBER
    return value, exponent, more, at, ended


@njit(nogil=True, cache=True)
def word(raw: np.ndarray, at: Whole) -> tuple[Whole, Whole]:
    """Return 1 for `true`, 0 for `false` in any case, or else -1; and the byte after it."""
    for value, letters in ((1, b"true"), (0, b"false")):
        length = 0
        while length < len(letters) and raw[at + length] | 32 == letters[length]:
            length += 1
        if length == len(letters):
            return value, at + length
    return -1, at


@njit(nogil=True, cache=True)
def number(raw: np.ndarray, at: Whole) -> tuple[Whole, Whole, bool, Whole]:
    """Return integer, power of ten, whether digits other than 0 were left out, and the byte after a number.

    The power is NO_NUMBER where there is none.
    """
    negative = raw[at] == MINUS
    if negative or raw[at] == PLUS:
        at += 1
    value, exponent, digits = np.int64(0), np.int64(0), 0
    more = pointed = False
    while ZERO <= raw[at] < ZERO + 10 or (raw[at] == POINT and not pointed):
        digit = np.int64(raw[at]) - ZERO
        if raw[at] == POINT:
            pointed = True
        elif value < FULL:
            value = value * 10 + digit
            exponent -= pointed
            digits += 1
        else:
            more |= digit != 0
            exponent += not pointed
        at += 1
    if digits == 0:
        return value, NO_NUMBER, more, at
    if raw[at] | 32 == SMALL_E:
        at += 1
        down = raw[at] == MINUS
        if down or raw[at] == PLUS:
            at += 1
        if not ZERO <= raw[at] < ZERO + 10:
            return value, NO_NUMBER, more, at
        said = np.int64(0)
        while ZERO <= raw[at] < ZERO + 10:
            if said < LARGEST_EXPONENT:
                said = said * 10 + np.int64(raw[at]) - ZERO
            at += 1
        exponent += -said if down else said
    return -value if negative else value, exponent, more, at


@njit(nogil=True, cache=True)
def scaled(value: Whole, exponent: Whole, more: bool) -> tuple[Whole, bool]:
    """Return value * 10**exponent rounded half to even, and whether it had to be rounded.

    NO_NUMBER where it does not fit into 62 bits. `more` says that digits other than 0 were left out behind.
    """
    if exponent >= 0:
        if value == 0:
            return np.int64(0), more
        if exponent > SAFE_DIGITS or abs(value) > -NO_NUMBER // POWERS[exponent]:
            return NO_NUMBER, False
        return value * POWERS[exponent], more
    if exponent < -SAFE_DIGITS:
        return np.int64(0), more or value != 0
    power = POWERS[-exponent]
    quotient, rest = abs(value) // power, abs(value) % power
    half = power // 2
    if rest > half or (rest == half and (more or quotient & 1)):
        quotient += 1
    return -quotient if value < 0 else quotient, more or rest != 0

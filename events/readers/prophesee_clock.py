"""The clock of Prophesee's RAW encodings, and what their decoders remember from one piece to the next.

Words TIME_HIGH carry the upper bits of the time, 28 of 34 in EVT 2 and 12 of 24 in EVT 3. A fall of at least
half of what they can say is a wrap, as in OpenEB; a smaller fall is kept, and counted where it makes an event
earlier than the one before.

Damaged words must not shift the time of all that follows. Cameras send TIME_HIGH all the time, in steps far
below NEAR_US. Where, after at least STEADY_HIGHS such steps, the clock jumps and within DOUBTED_HIGHS words
is back where it had been, without having gone on steadily meanwhile, the jumps wrapped nothing.
"""

import numpy as np
from numba import njit

Whole = int | np.int64

# Positions in the state array, int64. Of the clock:
HIGH = 0  # last TIME_HIGH as stored, or -1
STEADY = 1  # steps of less than NEAR_US in a row, without a jump
HIGH_BITS = 2  # bits of a TIME_HIGH
LOW_BITS = 3  # bits of the time below it
OFFSET_US = 4  # added for wraps
BASE_US = 5  # time of the last TIME_HIGH, wraps counted
ANCHOR = 6  # TIME_HIGH before the clock jumped
ANCHOR_OFFSET_US = 7  # what was added for wraps then
DOUBT = 26  # words TIME_HIGH that may still bring it back
WRAPS = 8
# Of the events delivered:
LAST_US = 9  # time of the last event
STARTED = 10  # 1 once there was one
BACKWARD = 11  # events earlier than the one before
LARGEST_BACKWARD_US = 12
# Of the words:
OUT_OF_SENSOR = 13
UNPLACED = 14  # events before the first word that says the time, or the row
UNKNOWN = 15  # words of a type that the encoding does not have
TRIGGERS = 16
FIRST_DAMAGE = 17  # index of the first damaged word in the piece, or -1
# Of the sensor and the policy:
HEIGHT = 18
WIDTH = 19
STOP_AT_DAMAGE = 20  # 1 to return before the first damaged word
# Of the events that a word still has to give, where the room was used up in its middle:
PENDING = 21  # bits of the columns that fire
PENDING_US = 22
PENDING_PIXEL = 23  # the second word of an event at the lowest bit
# Of EVT 3:
ROW = 24  # GOOD_ROW, NO_ROW or BAD_ROW
COLUMN = 25  # base of the next vector with its polarity, as the second word of an event, or -1
# Tables of EVT 3 by the type of a word:
TURN, MASK, END = 27, 43, 59  # a word is plain if (word ^ TURN) & MASK < END
LAST = 75  # bits 11..0 of the last plain word
STATE_LENGTH = 91

GOOD_ROW, NO_ROW, BAD_ROW = 0, -1, -2

# What a decoder returns beside its progress.
FINE, DAMAGED, TRIGGERS_FULL = 0, 1, 2

# Events decoded at a stretch: they stay in the first-level cache until their times are looked at.
RUN_EVENTS = 1024

STEADY_HIGHS = 8
DOUBTED_HIGHS = 32
NEAR_US = 1 << 16


def new_state(
    sensor_hw: tuple[int, int], *, high_bits: int, low_bits: int, stop_at_damage: bool
) -> np.ndarray:
    """Return the state of a decoder that has seen no word, shape [STATE_LENGTH], int64."""
    state = np.zeros(STATE_LENGTH, np.int64)
    for position in (HIGH, FIRST_DAMAGE, COLUMN):
        state[position] = -1
    state[ROW] = NO_ROW
    state[HIGH_BITS], state[LOW_BITS] = high_bits, low_bits
    state[HEIGHT], state[WIDTH] = sensor_hw
    state[STOP_AT_DAMAGE] = stop_at_damage
    return state


@njit(cache=True, nogil=True)
def advance_high(state: np.ndarray, high: Whole) -> None:
    """Put the clock at a TIME_HIGH that differs from the one before."""
    step = high - state[HIGH] if state[HIGH] >= 0 else 0
    near = NEAR_US >> state[LOW_BITS]
    time_bits = state[HIGH_BITS] + state[LOW_BITS]
    if step < 0 or step > near:
        if state[STEADY] >= STEADY_HIGHS:
            state[ANCHOR], state[ANCHOR_OFFSET_US] = state[HIGH], state[OFFSET_US]
            state[DOUBT] = DOUBTED_HIGHS
        state[STEADY] = 0
        if step <= -(1 << (state[HIGH_BITS] - 1)):
            state[OFFSET_US] += 1 << time_bits
    else:
        state[STEADY] += 1
    if state[DOUBT] > 0:
        state[DOUBT] -= 1
        if 0 <= high - state[ANCHOR] <= near:
            state[OFFSET_US] = state[ANCHOR_OFFSET_US]
            state[STEADY] = STEADY_HIGHS
        if state[STEADY] >= STEADY_HIGHS:
            state[DOUBT] = 0
    state[HIGH] = high
    state[WRAPS] = state[OFFSET_US] >> time_bits
    state[BASE_US] = state[OFFSET_US] + (high << state[LOW_BITS])


@njit(cache=True, nogil=True)
def count_falls(out: np.ndarray, first: int, stop: int, state: np.ndarray) -> None:
    """Count the events from `first` to `stop` that are earlier than the one before."""
    if first == stop:
        return
    previous = state[LAST_US] if state[STARTED] == 1 else out[2 * first]
    fell = np.int64(0)
    last = previous
    for i in range(first, stop):  # no branch, so that it runs on vector units
        fell |= out[2 * i] - last
        last = out[2 * i]
    if fell < 0:
        last = previous
        for i in range(first, stop):
            if out[2 * i] < last:
                state[BACKWARD] += 1
                state[LARGEST_BACKWARD_US] = max(state[LARGEST_BACKWARD_US], last - out[2 * i])
            last = out[2 * i]
    state[LAST_US] = last
    state[STARTED] = 1


@njit(cache=True, nogil=True)
def mark_damage(state: np.ndarray, i: int) -> bool:
    """Remember the first damaged word; return whether to stop before it."""
    if state[FIRST_DAMAGE] < 0:
        state[FIRST_DAMAGE] = i
    return state[STOP_AT_DAMAGE] == 1


@njit(cache=True, nogil=True)
def put_trigger(
    triggers: np.ndarray, state: np.ndarray, time_us: Whole, channel: Whole, value: Whole
) -> bool:
    """Count a trigger, and keep it where `triggers` collects any.

    `triggers` is empty, or the number of triggers in it, then (time, channel, rising) of each, int64.
    False, with nothing done, where its room is used up.
    """
    if len(triggers) > 0:
        at = 1 + 3 * triggers[0]
        if at == len(triggers):
            return False
        triggers[at] = time_us
        triggers[at + 1] = channel
        triggers[at + 2] = value
        triggers[0] += 1
    state[TRIGGERS] += 1
    return True


@njit(cache=True, nogil=True)
def put_pending(out: np.ndarray, n: int, stop: int, state: np.ndarray) -> int:
    """Write the events that a word still has to give, as far as there is room; return the next index."""
    mask = state[PENDING]
    pixel = state[PENDING_PIXEL]
    while mask != 0 and n < stop:
        if mask & 1:
            out[2 * n] = state[PENDING_US]
            out[2 * n + 1] = pixel
            n += 1
        mask >>= 1
        pixel += 1
    state[PENDING] = mask
    state[PENDING_PIXEL] = pixel
    return n

"""The clock of recordings whose records carry 32 bits of time or fewer.

Rules for `unwrap`:

- A fall of more than 2^31 is a wrap: 2^32 is added from there on. The exception is a fall that undoes a
  leap made by the very event before, for then that one event's time was wrong, and nothing wrapped.
- After a wrap, a leap of more than 2^31 is a step back over the wrap, and is taken back as such.
- Every other fall is kept as it is and counted.

Rule for `dat2mat` (the script dat2mat.m, as run in GNU Octave 7.3.0): after each fall, the repaired time
of the last event before it is added to all that follows; sums stay at 2^32 - 1 once they get there, as
MATLAB's uint32 does; the first event's time is subtracted from all.
"""

import numpy as np
from numba import njit

WRAP_US = 1 << 32
HALF_WRAP_US = 1 << 31

# Positions in the clock array, int64.
STARTED = 0  # 1 once an event has been seen
RAW_US = 1  # time of the last event as stored
LEAP_FROM_US = 2  # time before the leap, where the last step was a leap; else -1
OFFSET_US = 3  # added to stored times
LARGEST_US = 4  # sums stay here
ORIGIN_US = 5  # subtracted from sums
REPAIR = 6  # 1 for the rule of dat2mat, 0 to unwrap
BACKWARD = 7  # falls counted
LARGEST_BACKWARD_US = 8
WRAPS = 9
CLOCK_LENGTH = 10


def new_clock(*, repair: bool) -> np.ndarray:
    """Return a clock that has seen no event, shape [CLOCK_LENGTH], int64."""
    clock = np.zeros(CLOCK_LENGTH, np.int64)
    clock[LEAP_FROM_US] = -1
    clock[REPAIR] = repair
    clock[LARGEST_US] = WRAP_US - 1 if repair else np.iinfo(np.int64).max
    return clock


@njit(cache=True, nogil=True)
def advance(clock: np.ndarray, raw_us: int | np.int64) -> int:
    """Put the clock at an event's stored time and return the time to deliver, in microseconds."""
    if clock[STARTED] == 0:
        start(clock, raw_us)
    step = raw_us - clock[RAW_US]
    if step < 0 and clock[REPAIR] == 1:
        clock[OFFSET_US] = min(clock[RAW_US] + clock[OFFSET_US], clock[LARGEST_US])
        count_backward(clock, -step)
    elif step < 0 or step > HALF_WRAP_US or clock[LEAP_FROM_US] >= 0:
        unwrap(clock, raw_us, step)
    clock[RAW_US] = raw_us
    return min(raw_us + clock[OFFSET_US], clock[LARGEST_US]) - clock[ORIGIN_US]


@njit(cache=True, nogil=True)
def start(clock: np.ndarray, raw_us: int | np.int64) -> None:
    """Begin at the first event."""
    clock[STARTED] = 1
    clock[RAW_US] = raw_us
    if clock[REPAIR] == 1:
        clock[ORIGIN_US] = raw_us


@njit(cache=True, nogil=True)
def unwrap(clock: np.ndarray, raw_us: int | np.int64, step: int) -> None:
    """Set the offset for a step that is not plainly forward."""
    leap_from = clock[LEAP_FROM_US]
    clock[LEAP_FROM_US] = -1
    if step < -HALF_WRAP_US and not (leap_from >= 0 and raw_us >= leap_from):
        clock[OFFSET_US] += WRAP_US
        clock[WRAPS] = max(clock[WRAPS], clock[OFFSET_US] // WRAP_US)
    elif step < 0:
        count_backward(clock, -step)
    elif step > HALF_WRAP_US and clock[OFFSET_US] > 0:
        clock[OFFSET_US] -= WRAP_US
        count_backward(clock, WRAP_US - step)
    elif step > HALF_WRAP_US:
        clock[LEAP_FROM_US] = clock[RAW_US]


@njit(cache=True, nogil=True)
def count_backward(clock: np.ndarray, fall_us: int) -> None:
    """Count a fall of the clock."""
    clock[BACKWARD] += 1
    clock[LARGEST_BACKWARD_US] = max(clock[LARGEST_BACKWARD_US], fall_us)

"""The packets of AEDAT 3: where their bytes are, and the loop that decodes polarity events.

All numbers are little-endian. A packet is a header of 28 bytes and `eventNumber` events (source: iniVation,
"AEDAT file formats", AEDAT 3.1):

| byte | type | field |
|---|---|---|
| 0 | int16 | eventType: 0 special, 1 polarity, 2 frame, 3 IMU6, 4 IMU9, ... |
| 2 | int16 | eventSource |
| 4 | int32 | eventSize, 8 for special and polarity events |
| 8 | int32 | eventTSOffset: byte of the time in an event, 4 for these two |
| 12 | int32 | eventTSOverflow: the full time is (overflow << 31) + time |
| 16 | int32 | eventCapacity: room the camera software had; says nothing about the file |
| 20 | int32 | eventNumber: events in the file |
| 24 | int32 | eventValid: how many of them are marked valid |

A polarity event is a uint32 (bit 0 valid, bit 1 ON, bits 2-16 y, bits 17-31 x) and an int32 time that is
never negative. A special event is a uint32 (bit 0 valid, bits 1-7 what happened) and an int32 time.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

HEADER_BYTES = 28
EVENT_BYTES = 8
OVERFLOW_BITS = 31
SPECIAL_TYPE, POLARITY_TYPE = 0, 1

# Bytes of an event of each type 0-12 of AEDAT 3.1 where all have the same length, else 0. Source: libcaer.
EVENT_SIZES = np.array([8, 8, 0, 36, 48, 8, 12, 12, 12, 16, 16, 20, 8], np.int64)

# Largest eventType taken for one; libcaer leaves 100 and above to its users.
LARGEST_TYPE = 127

# Events decoded at a stretch: their 32 KiB stay in the first-level cache between two passes.
BLOCK_EVENTS = 2048

# What the loop stopped for.
NEED_BYTES, OUT_FULL, BAD_HEADER, BAD_EVENT = 0, 1, 2, 3

# Positions in the state array, int64.
LEFT = 0  # events left in the polarity packet
PASS = 1  # bytes left of another packet
ADD_US = 2  # added to the times of the packet
PREVIOUS_US = 3  # time of the last event
STARTED = 4  # 1 once an event has been seen
OVERFLOW = 5  # of the last polarity packet, or -1
BACKWARD = 6
LARGEST_BACKWARD_US = 7
WRAPS = 8
OUT_OF_SENSOR = 9
INVALID = 10
SPECIAL = 11
OTHER_PACKETS = 12
FIRST_DAMAGE = 13  # offset in the buffer of the first event left out for damage, or -1
STATE_LENGTH = 14


class Aedat3Layout(NamedTuple):
    """What the loop knows about the file.

    Attributes:
        height, width: Of the sensor, in pixels.
        upward: 1 where y counts from the bottom (AEDAT 3.0), 0 from the top (3.1).
        strict: 1 to stop at the first event that cannot be one, 0 to leave it out.
    """

    height: int
    width: int
    upward: int
    strict: int


def new_state() -> np.ndarray:
    """Return the state before the first packet, shape [STATE_LENGTH], int64."""
    state = np.zeros(STATE_LENGTH, np.int64)
    state[OVERFLOW] = state[FIRST_DAMAGE] = -1
    return state


@njit(cache=True, nogil=True)
def load_int32(raw: np.ndarray, at: int) -> int:
    """Return the signed number in four bytes."""
    value = (
        np.int64(raw[at])
        | (np.int64(raw[at + 1]) << 8)
        | (np.int64(raw[at + 2]) << 16)
        | (np.int64(raw[at + 3]) << 24)
    )
    return int(value - ((value & 0x80000000) << 1))


@njit(cache=True, nogil=True)
def load_type(raw: np.ndarray, at: int) -> int:
    """Return the signed eventType of the header at a byte."""
    value = np.int64(raw[at]) | (np.int64(raw[at + 1]) << 8)
    return int(value - ((value & 0x8000) << 1))


@njit(cache=True, nogil=True)
def header_fits(raw: np.ndarray, at: int) -> bool:
    """Whether the 28 bytes at `at` can be the header of a packet."""
    kind = load_type(raw, at)
    size = load_int32(raw, at + 4)
    offset = load_int32(raw, at + 8)
    if kind < 0 or kind > LARGEST_TYPE or size < 1 or offset < 0 or offset >= size:
        return False
    if load_int32(raw, at + 12) < 0 or load_int32(raw, at + 20) < 0:
        return False
    return kind > POLARITY_TYPE or (size == EVENT_BYTES and offset == 4)


@njit(cache=True, nogil=True)
def header_convinces(raw: np.ndarray, at: int, bytes_left: int) -> bool:
    """Whether the 28 bytes at `at` are a header beyond doubt, with `bytes_left` in the file from there on."""
    kind = load_type(raw, at)
    size = load_int32(raw, at + 4)
    number = load_int32(raw, at + 20)
    if not header_fits(raw, at) or kind >= len(EVENT_SIZES):
        return False
    if EVENT_SIZES[kind] != 0 and size != EVENT_SIZES[kind]:
        return False
    valid = load_int32(raw, at + 24)
    if valid < 0 or number < valid or load_int32(raw, at + 16) < number or number == 0:
        return False
    return HEADER_BYTES + number * size <= bytes_left


@njit(cache=True, nogil=True)
def find_header(raw: np.ndarray, at: int, stop: int, bytes_left: int) -> int:
    """Return the first byte at which a header convinces, or -1; `bytes_left` counts from `at`.

    Where the next header is in reach too, it has to fit.
    """
    first = at
    while at + HEADER_BYTES <= stop:
        if header_convinces(raw, at, bytes_left - (at - first)):
            after = at + HEADER_BYTES + load_int32(raw, at + 4) * load_int32(raw, at + 20)
            if after + HEADER_BYTES > stop or header_fits(raw, after):
                return at
        at += 1
    return -1


@njit(cache=True, nogil=True)
def decode_plain(words: np.ndarray, out: np.ndarray, layout: Aedat3Layout, state: np.ndarray) -> bool:
    """Decode polarity events that are all valid, inside the sensor and in order of time.

    Where it is False, what is in `out` is void and the state as it was. The loop keeps one word of suspicion
    and no branch: that is what the compiler turns into vector instructions.

    Args:
        words: Pairs of data and time, shape [2 n], uint32.
        out: Events, shape [2 n], int64, as words of EVENT_DTYPE.
        layout: As above.
        state: As named above; goes on.
    """
    count = len(words) // 2
    add_us = state[ADD_US]
    first = np.int64(words[1])
    bad = np.int64(0)
    if state[STARTED] == 1:
        bad = (add_us + first - state[PREVIOUS_US]) >> 63
    previous = first
    # y from the bottom becomes height - 1 - y, that is, (y ^ -1) + height.
    flip = np.int64(-layout.upward)
    add_y = np.int64(layout.upward * layout.height)
    last_x, last_y = np.int64(layout.width - 1), np.int64(layout.height - 1)
    for i in range(count):
        data = np.int64(words[2 * i])
        time = np.int64(words[2 * i + 1])
        x = data >> 17
        y = (((data >> 2) & 0x7FFF) ^ flip) + add_y
        # Each difference is negative where something is wrong: a bit 31 of the time, too.
        bad |= (last_x - x) | (last_y - y) | y | (time - previous) | (0x7FFFFFFF - time) | ((data & 1) - 1)
        previous = time
        out[2 * i] = time + add_us
        out[2 * i + 1] = x | (y << 16) | (((data >> 1) & 1) << 32)
    if bad < 0:
        return False
    state[STARTED] = 1
    state[PREVIOUS_US] = previous + add_us
    return True


@njit(cache=True, nogil=True)
def decode_singly(
    raw: np.ndarray, at: int, count: int, out: np.ndarray, n: int, layout: Aedat3Layout, state: np.ndarray
) -> tuple[int, int, bool]:
    """Decode polarity events one by one from event n of `out` on; there is room for all of them.

    Returns:
        First byte not decoded, events written, and whether a damaged event is there and the layout strict.
    """
    for _ in range(count):
        data = load_int32(raw, at) & 0xFFFFFFFF
        time = load_int32(raw, at + 4)
        x = data >> 17
        y = (data >> 2) & 0x7FFF
        if data & 1 == 0:
            state[INVALID] += 1
        elif x >= layout.width or y >= layout.height or time < 0:
            if layout.strict == 1:
                return at, n, True
            state[OUT_OF_SENSOR] += 1
            state[FIRST_DAMAGE] = at if state[FIRST_DAMAGE] < 0 else state[FIRST_DAMAGE]
        else:
            time += state[ADD_US]
            if state[STARTED] == 1 and time < state[PREVIOUS_US]:
                state[BACKWARD] += 1
                state[LARGEST_BACKWARD_US] = max(state[LARGEST_BACKWARD_US], state[PREVIOUS_US] - time)
            state[STARTED] = 1
            state[PREVIOUS_US] = time
            y = layout.height - 1 - y if layout.upward == 1 else y
            out[2 * n] = time
            out[2 * n + 1] = x | (y << 16) | (((data >> 1) & 1) << 32)
            n += 1
        at += EVENT_BYTES
        state[LEFT] -= 1
    return at, n, False


@njit(cache=True, nogil=True)
def start_packet(raw: np.ndarray, at: int, state: np.ndarray) -> None:
    """Take in the header of a packet, which fits."""
    kind = load_type(raw, at)
    number = load_int32(raw, at + 20)
    if kind != POLARITY_TYPE:
        state[PASS] = number * load_int32(raw, at + 4)
        state[SPECIAL] += number if kind == SPECIAL_TYPE else 0
        state[OTHER_PACKETS] += 1
        return
    overflow = load_int32(raw, at + 12)
    if state[OVERFLOW] >= 0 and overflow > state[OVERFLOW]:
        state[WRAPS] += overflow - state[OVERFLOW]
    state[OVERFLOW] = overflow
    state[ADD_US] = overflow << OVERFLOW_BITS
    state[LEFT] = number


@njit(cache=True, nogil=True)
def decode_packets(
    raw: np.ndarray, at: int, stop: int, out: np.ndarray, layout: Aedat3Layout, state: np.ndarray
) -> tuple[int, int, int]:
    """Decode packets until the bytes or the room for events run out, or damage is met.

    Args:
        raw: Bytes of the file, shape [n], uint8; starts at a multiple of eight in memory.
        at: First byte not yet decoded.
        stop: First byte no longer to be read.
        out: Room for events, shape [2 m], int64.
        layout: As above.
        state: As named above; goes on.

    Returns:
        First byte not decoded, events written, and what it stopped for.
    """
    room = len(out) // 2
    n = 0
    while True:
        if state[PASS] > 0:
            passed = min(state[PASS], stop - at)
            at += passed
            state[PASS] -= passed
            if state[PASS] > 0:
                return at, n, NEED_BYTES
        elif state[LEFT] > 0:
            count = min(state[LEFT], (stop - at) // EVENT_BYTES, room - n, BLOCK_EVENTS)
            if count == 0:
                return at, n, OUT_FULL if n == room else NEED_BYTES
            end = at + count * EVENT_BYTES
            if at % 4 == 0 and decode_plain(
                raw[at:end].view(np.uint32), out[2 * n : 2 * (n + count)], layout, state
            ):
                at = end
                n += count
                state[LEFT] -= count
                continue
            at, n, damaged = decode_singly(raw, at, count, out, n, layout, state)
            if damaged:
                return at, n, BAD_EVENT
        elif stop - at < HEADER_BYTES:
            return at, n, NEED_BYTES
        elif not header_fits(raw, at):
            return at, n, BAD_HEADER
        else:
            start_packet(raw, at, state)
            at += HEADER_BYTES

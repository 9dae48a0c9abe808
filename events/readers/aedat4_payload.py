"""The events in AEDAT 4 packets: a FlatBuffer with a vector of events, and the loop that takes them over.

A payload, unpacked, is a FlatBuffer with its size before it, all numbers little-endian (source: iniVation,
"AEDAT file formats", AEDAT 4.0; FlatBuffers' "internals" page; checked against files of DV):

| byte | type | meaning |
|---|---|---|
| 0 | uint32 | size of the rest |
| 4 | uint32 | root: the table is at 4 + root |
| 8 | 4 letters | `EVTS`, `FRME`, `IMUS` or `TRIG` |
| table | int32 | its vtable is that many bytes before it |
| vtable | 3 uint16 | bytes of the vtable, bytes of the table, where field 0 is in the table (0: absent) |
| field 0 | uint32 | the vector is that many bytes after it |
| vector | uint32 | number of elements, which follow |

An event is int64 t in microseconds (of Unix time in DV's files), int16 x, int16 y, bool on and 3 bytes of
padding: EVENT_DTYPE but for the padding. Every place is checked before it is read.
"""

import numpy as np
from numba import njit

EVENT_BYTES = 16
EVENTS_MARK = int.from_bytes(b"EVTS", "little")
TRIGGERS_MARK = int.from_bytes(b"TRIG", "little")
# The events of the smallest payload follow these bytes.
SHORTEST_PAYLOAD = 16

# Events taken over at a stretch: their 32 KiB stay in the first-level cache between two passes.
BLOCK_EVENTS = 2048

# A word with x, y and p of an event; the rest is padding.
FIELD_BITS = 0x1_FFFF_FFFF

# Positions in the state array, int64.
PACKET = 0  # packet of the batch that comes next
EVENT = 1  # event in it that comes next
PREVIOUS_US = 2  # time of the last event
STARTED = 3  # 1 once an event has been seen
BACKWARD = 4
LARGEST_BACKWARD_US = 5
OUT_OF_SENSOR = 6
DAMAGED_PACKETS = 7
DAMAGED_BYTES = 8  # stored bytes of these
DAMAGE_AT = 9  # first damage of the batch: byte of the payloads, or -1
DAMAGE_PACKET = 10  # packet of the batch it is in
STATE_LENGTH = 11

# Columns of the spans array: where a packet is in the payloads and in the file, and its length there.
SPAN_START, SPAN_STOP, SPAN_POSITION, SPAN_STORED = 0, 1, 2, 3


def new_state() -> np.ndarray:
    """Return the state before the first packet, shape [STATE_LENGTH], int64."""
    state = np.zeros(STATE_LENGTH, np.int64)
    state[DAMAGE_AT] = -1
    return state


@njit(cache=True, nogil=True)
def load_uint16(raw: np.ndarray, at: int) -> int:
    """Return the number in two bytes."""
    return int(np.int64(raw[at]) | (np.int64(raw[at + 1]) << 8))


@njit(cache=True, nogil=True)
def load_uint32(raw: np.ndarray, at: int) -> int:
    """Return the number in four bytes."""
    return load_uint16(raw, at) | (load_uint16(raw, at + 2) << 16)


@njit(cache=True, nogil=True)
def find_vector(
    raw: np.ndarray, start: int, stop: int, mark: int, element_bytes: int, cut: bool
) -> tuple[int, int]:
    """Return where the elements of a payload's vector start, and how many; -1 where it is damaged.

    Args:
        raw: Payloads, uint8.
        start: First byte of the payload.
        stop: First byte behind it.
        mark: The four letters it must have.
        element_bytes: Bytes of an element.
        cut: Whether the end of the payload is missing; elements that are whole count.
    """
    if stop - start < SHORTEST_PAYLOAD:
        return start, 0 if cut else -1
    if start + 4 + load_uint32(raw, start) > stop and not cut:
        return start, -1
    if load_uint32(raw, start + 8) != mark:
        return start, -1
    root = start + 4 + load_uint32(raw, start + 4)
    if root + 4 > stop:
        return start, 0 if cut else -1
    back = load_uint32(raw, root)
    vtable = root - (back - ((back & 0x80000000) << 1))
    if vtable < start or vtable + 6 > stop:
        return start, -1
    field = load_uint16(raw, vtable + 4)
    if load_uint16(raw, vtable) < 6 or field == 0:
        return start, 0
    at = root + field
    if at + 4 > stop:
        return start, 0 if cut else -1
    at += load_uint32(raw, at)
    if at + 4 > stop:
        return start, 0 if cut else -1
    count = load_uint32(raw, at)
    at += 4
    if count * element_bytes > stop - at:
        return at, (stop - at) // element_bytes if cut else -1
    return at, count


@njit(cache=True, nogil=True)
def take_plain(words: np.ndarray, out: np.ndarray, height: int, width: int, state: np.ndarray) -> bool:
    """Take over events that are all inside the sensor and in order of time.

    Where it is False, what is in `out` is void and the state as it was. The loop keeps one word of suspicion
    and no branch: that is what the compiler turns into vector instructions.

    Args:
        words: Stored events, shape [2 n], int64.
        out: Events, shape [2 n], int64.
        height: Of the sensor, in pixels.
        width: Of the sensor, in pixels.
        state: As named above; goes on.
    """
    first = words[0]
    bad = np.int64(0)
    if state[STARTED] == 1 and first < state[PREVIOUS_US]:
        return False
    previous = first
    last_x, last_y = np.int64(width - 1), np.int64(height - 1)
    for i in range(len(words) // 2):
        time = words[2 * i]
        fields = words[2 * i + 1]
        # Negative where something is wrong: outside, earlier than before, or a polarity other than 0 and 1.
        bad |= (last_x - (fields & 0xFFFF)) | (last_y - ((fields >> 16) & 0xFFFF)) | (time - previous)
        bad |= 1 - ((fields >> 32) & 0xFF)
        # Negative where a time is so far from 0 that a difference may pass 63 bits.
        bad |= time ^ (time << 1)
        previous = time
        out[2 * i] = time
        out[2 * i + 1] = fields & FIELD_BITS
    if bad < 0:
        return False
    state[STARTED] = 1
    state[PREVIOUS_US] = previous
    return True


@njit(cache=True, nogil=True)
def take_singly(
    raw: np.ndarray,
    at: int,
    count: int,
    out: np.ndarray,
    n: int,
    height: int,
    width: int,
    strict: bool,
    state: np.ndarray,
) -> tuple[int, bool]:
    """Take over events one by one from event n of `out` on; there is room for all of them.

    Returns:
        Events written, and whether a damaged event is there and the policy strict.
    """
    for _ in range(count):
        time = np.int64(load_uint32(raw, at)) | (np.int64(load_uint32(raw, at + 4)) << 32)
        x = load_uint16(raw, at + 8)
        y = load_uint16(raw, at + 10)
        if x >= width or y >= height:
            if state[DAMAGE_AT] < 0:
                state[DAMAGE_AT] = at
                state[DAMAGE_PACKET] = state[PACKET]
            if strict:
                return n, True
            state[OUT_OF_SENSOR] += 1
        else:
            if state[STARTED] == 1 and time < state[PREVIOUS_US]:
                state[BACKWARD] += 1
                state[LARGEST_BACKWARD_US] = max(state[LARGEST_BACKWARD_US], state[PREVIOUS_US] - time)
            state[STARTED] = 1
            state[PREVIOUS_US] = time
            on = np.int64(1) if raw[at + 12] != 0 else np.int64(0)
            out[2 * n] = time
            out[2 * n + 1] = np.int64(x) | (np.int64(y) << 16) | (on << 32)
            n += 1
        at += EVENT_BYTES
        state[EVENT] += 1
    return n, False


@njit(cache=True, nogil=True)
def decode_payloads(
    raw: np.ndarray,
    spans: np.ndarray,
    last_cut: bool,
    out: np.ndarray,
    height: int,
    width: int,
    strict: bool,
    state: np.ndarray,
) -> tuple[int, bool]:
    """Take over the events of a batch of packets until it or the room for events ends, or damage is met.

    Args:
        raw: Payloads, shape [n], uint8; starts at a multiple of eight in memory.
        spans: Where the packets are, shape [k, 4], int64; columns as named above.
        last_cut: Whether the end of the last packet is missing.
        out: Room for events, shape [2 m], int64.
        height: Of the sensor, in pixels.
        width: Of the sensor, in pixels.
        strict: Whether to stop before the first damage; otherwise it is left out and counted.
        state: As named above; goes on.

    Returns:
        Events written, and whether it stopped before damage.
    """
    room = len(out) // 2
    n = 0
    while state[PACKET] < len(spans):
        packet = state[PACKET]
        cut = last_cut and packet == len(spans) - 1
        first, number = find_vector(
            raw, spans[packet, SPAN_START], spans[packet, SPAN_STOP], EVENTS_MARK, EVENT_BYTES, cut
        )
        if number < 0:
            if state[DAMAGE_AT] < 0:
                state[DAMAGE_AT] = spans[packet, SPAN_START]
                state[DAMAGE_PACKET] = packet
            if strict:
                return n, True
            state[DAMAGED_PACKETS] += 1
            state[DAMAGED_BYTES] += spans[packet, SPAN_STORED]
        while state[EVENT] < number:
            at = first + state[EVENT] * EVENT_BYTES
            count = min(number - state[EVENT], room - n, BLOCK_EVENTS)
            if count == 0:
                return n, False
            end = at + count * EVENT_BYTES
            if at % 8 == 0 and take_plain(
                raw[at:end].view(np.int64), out[2 * n : 2 * (n + count)], height, width, state
            ):
                n += count
                state[EVENT] += count
                continue
            n, damaged = take_singly(raw, at, count, out, n, height, width, strict, state)
            if damaged:
                return n, True
        state[PACKET] += 1
        state[EVENT] = 0
    return n, False

"""Events of ROS messages: the loops over the bytes of one message.

`mono` (event_camera_codecs, mono_decoder.h): 64 bits per event, bit 63 polarity, 62..48 y, 47..32 x, 31..0
nanoseconds after the message's time base. EventArray: see `events.readers.rosbag_messages`.
"""

import numpy as np
from numba import njit

MONO_BYTES = 8
# x, y, seconds, nanoseconds, polarity.
ROS1_EVENT_BYTES = 13
# With the gaps of CDR an event begins 16 bytes after the one before, except that x and y of the first do not
# have to give way to its polarity.
CDR_EVENT_STRIDE = 16


def whole_events(payload_bytes: int, *, cdr: bool) -> int:
    """Return how many whole events of an EventArray fit into that many bytes."""
    if not cdr:
        return payload_bytes // ROS1_EVENT_BYTES
    return max(0, (payload_bytes - ROS1_EVENT_BYTES) // CDR_EVENT_STRIDE + 1)


def event_start(number: int, *, cdr: bool) -> int:
    """Return where the event before one ends in an EventArray: the gap that CDR leaves is still to come."""
    if not cdr:
        return number * ROS1_EVENT_BYTES
    return max(0, ROS1_EVENT_BYTES + (number - 1) * CDR_EVENT_STRIDE)


@njit(nogil=True, cache=True)
def decode_event_array(payload: np.ndarray, at: int, cdr: bool, out: np.ndarray) -> None:
    """Decode len(out) events from a byte on, `event_start`; the caller has checked that they are there."""
    for i in range(len(out)):
        if cdr:
            at += at & 1
        x = np.uint16(payload[at]) | np.uint16(payload[at + 1]) << np.uint16(8)
        y = np.uint16(payload[at + 2]) | np.uint16(payload[at + 3]) << np.uint16(8)
        at += 4
        if cdr:
            at = (at + 3) // 4 * 4
        seconds = _uint32(payload, at)
        nanoseconds = _uint32(payload, at + 4)
        event = out[i]
        event.t = seconds * 1_000_000 + nanoseconds // 1000
        event.x = x
        event.y = y
        event.p = payload[at + 8] != 0
        at += 9


@njit(nogil=True, cache=True)
def decode_mono(payload: np.ndarray, time_base_ns: np.int64, out: np.ndarray) -> None:
    """Decode len(out) events of encoding `mono`; the caller has checked that the payload holds them."""
    for i in range(len(out)):
        at = 8 * i
        event = out[i]
        event.t = (time_base_ns + _uint32(payload, at)) // 1000
        event.x = np.uint16(payload[at + 4]) | np.uint16(payload[at + 5]) << np.uint16(8)
        event.y = np.uint16(payload[at + 6]) | np.uint16(payload[at + 7] & 127) << np.uint16(8)
        event.p = payload[at + 7] >> 7 != 0


@njit(nogil=True, cache=True)
def _uint32(payload: np.ndarray, at: int) -> np.int64:
    return (
        np.int64(payload[at])
        | np.int64(payload[at + 1]) << 8
        | np.int64(payload[at + 2]) << 16
        | np.int64(payload[at + 3]) << 24
    )

"""Messages with events in ROS bags, taken apart by hand: a library's objects, one per event, cost too much.

Layouts: dvs_msgs/EventArray and prophesee_event_msgs/EventArray `{header, height, width, events[]}` with
events `{uint16 x, uint16 y, time ts, bool polarity}`; event_camera_msgs/EventPacket `{header, height, width,
uint64 seq, uint64 time_base, string encoding, bool is_bigendian, uint8[] events}`, also under its older name
event_array_msgs/EventArray. ROS 1 packs fields without gaps, little endian; ROS 2 writes CDR, where each
field lies at a multiple of its size, after four bytes that say the byte order.
"""

import struct
from typing import NamedTuple

import numpy as np

# Message type without the `msg/` of ROS 2: whether its events are packed by a camera's encoding.
EVENT_TYPES = {
    "dvs_msgs/EventArray": False,
    "prophesee_event_msgs/EventArray": False,
    "event_camera_msgs/EventPacket": True,
    "event_array_msgs/EventArray": True,
}
PLAIN = "events"


class DamagedMessage(Exception):
    """A message breaks its layout; the text says how."""


class EventMessage(NamedTuple):
    """One message.

    Attributes:
        sensor_hw: Height and width in pixels.
        encoding: As an EventPacket names it; `events` for EventArray.
        time_base_ns: Added to times of encoding `mono`.
        payload: The events, shape [bytes], uint8.
        events: How many an EventArray says it has, else 0.
    """

    sensor_hw: tuple[int, int]
    encoding: str
    time_base_ns: int
    payload: np.ndarray
    events: int


def type_name(msgtype: str) -> str:
    """Return a message type as ROS 1 writes it."""
    return msgtype.replace("/msg/", "/")


class _Cursor:
    """Reads one field after the other; every read is checked against the end."""

    def __init__(self, data: bytes, *, cdr: bool) -> None:
        self._data, self._cdr = memoryview(data), cdr
        self.at = 0
        if not cdr:
            return
        if len(data) < 4 or data[0] != 0 or data[1] not in (0, 1):
            raise DamagedMessage("no CDR encapsulation at its start")
        if data[1] == 0:
            raise DamagedMessage("big-endian CDR, which is not read here")
        self._data = self._data[4:]

    def number(self, code: str) -> int:
        size = struct.calcsize("<" + code)
        if self._cdr:
            self.at += -self.at % size
        if self.at + size > len(self._data):
            raise DamagedMessage(f"ends after {len(self._data)} bytes, inside its head")
        value = struct.unpack_from("<" + code, self._data, self.at)[0]
        self.at += size
        return value

    def text(self) -> str:
        size = self.number("I")
        if self.at + size > len(self._data):
            raise DamagedMessage(f"ends after {len(self._data)} bytes, inside a text of {size}")
        raw = bytes(self._data[self.at : self.at + size])
        self.at += size
        return raw.rstrip(b"\0").decode("utf-8", errors="replace")

    def rest(self) -> np.ndarray:
        return np.frombuffer(self._data[self.at :], np.uint8)


def parse_message(data: bytes, msgtype: str, *, cdr: bool) -> EventMessage:
    """Take one message apart.

    Args:
        data: Its bytes.
        msgtype: A key of `EVENT_TYPES`.
        cdr: Whether it is ROS 2's serialisation.

    Raises:
        DamagedMessage: It ends before its head does, or says more packed bytes than it has.
    """
    cursor = _Cursor(data, cdr=cdr)
    for code in ("i", "I") if cdr else ("I", "I", "I"):
        cursor.number(code)  # header: ROS 1 has a sequence number before the stamp
    cursor.text()
    sensor_hw = (cursor.number("I"), cursor.number("I"))
    if not EVENT_TYPES[msgtype]:
        count = cursor.number("I")
        return EventMessage(sensor_hw, PLAIN, 0, cursor.rest(), count)
    cursor.number("Q")
    time_base_ns = cursor.number("Q")
    encoding = cursor.text()
    cursor.number("B")
    size = cursor.number("I")
    payload = cursor.rest()
    if len(payload) < size:
        raise DamagedMessage(f"has {len(payload)} bytes of events, expected {size}")
    return EventMessage(sensor_hw, encoding, time_base_ns, payload[:size], 0)

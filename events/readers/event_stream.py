"""Event Stream 2.0.0 (`.es`) of a DVS or an ATIS.

Header: the 12 bytes `Event Stream`, version 2, 0, 0, and the type: 0 generic, 1 DVS, 2 ATIS, 4 colour; all
but generic then have width and height, uint16 little-endian. Every event begins with a byte that holds the
microseconds since the event before, then x and y, uint16 little-endian:

- DVS: 0xFF adds 127 us and 0xFE nothing, and no event follows; else bit 0 is 1 for ON, bits 7..1 the time.
- ATIS: where bits 7..2 are all set, 63 us times bits 1..0 are added, and no event follows; else bit 0 is 1
  for an exposure measurement, which is counted as special and left out,
  bit 1 is 1 for ON, bits 7..2 the time.

The origin in the file is the bottom left: y becomes height - 1 - y, as in faery and unlike in the
`event_stream` package. Time never falls, and nothing can be read without all that precedes it, so bytes that
are missing shorten all later times. Source: neuromorphic-paris/event_stream, README, version 2.0.0.
"""

from types import TracebackType
from typing import Self

import numpy as np
from numba import njit

from events.errors import DamagedRecording, UnknownFormat
from events.readers.byte_window import ByteWindow
from events.readers.conventions import only_plain_conventions
from events.readers.pass_recording import PassRecording
from events.readers.source import Source
from events.recording import (
    EVENT_DTYPE,
    EventBuffer,
    FileReport,
    ReadOptions,
)

ES_MARK = b"Event Stream"
VERSION = (2, 0, 0)
HEADER_BYTES = 20
GENERIC, DVS, ATIS, COLOR = 0, 1, 2, 4
KINDS = {GENERIC: "generic", DVS: "DVS", ATIS: "ATIS", COLOR: "color"}
RECORD_BYTES = 5

# How far `salvage` looks for events in step.
SEARCH_BYTES = 1 << 12
# Events in a row inside the sensor that `salvage` takes for being in step.
RUN_EVENTS = 8

# Positions in the state array, int64, which is carried from block to block.
TIME_US, OUTSIDE, SPECIAL = 0, 1, 2
STATE_LENGTH = 3
# What stopped the loop: no room or no bytes, or an event outside the sensor.
MORE, DAMAGED = 0, 1


def open_event_stream(source: Source, options: ReadOptions) -> "EventStreamRecording":
    """Open an Event Stream of a DVS or an ATIS.

    Raises:
        DamagedRecording: The header is cut off or gives no sensor.
        UnknownFormat: It is another version, or of another type.
    """
    only_plain_conventions(options, format_name="an Event Stream")
    head = source.head
    if not head.startswith(ES_MARK):
        raise UnknownFormat(f"{source.path}: byte 0: does not begin with 'Event Stream'; name another format")
    if len(head) < 16:
        raise DamagedRecording(
            f"{source.path}: byte {len(head)}: the file ends in its header; fetch it again"
        )
    version, kind = tuple(head[12:15]), head[15]
    if version != VERSION:
        found = ".".join(map(str, version))
        raise UnknownFormat(f"{source.path}: byte 12: Event Stream {found}; expected 2.0.0, convert it first")
    if kind not in (DVS, ATIS):
        what = KINDS.get(kind, f"unknown type {kind}")
        raise UnknownFormat(
            f"{source.path}: byte 15: an Event Stream of type {kind} ({what}), which has "
            "no ON and OFF events; "
            "expected type 1 (DVS) or 2 (ATIS)"
        )
    if len(head) < HEADER_BYTES:
        raise DamagedRecording(
            f"{source.path}: byte {len(head)}: the file ends in its header; fetch it again"
        )
    width, height = (int(value) for value in np.frombuffer(head, "<u2", 2, 16))
    if width == 0 or height == 0:
        raise DamagedRecording(
            f"{source.path}: byte 16: sensor of {height}x{width}; expected at least one pixel, fetch it again"
        )
    return EventStreamRecording(source, options, kind, (height, width))


class EventStreamRecording(PassRecording):
    """An Event Stream of a DVS or an ATIS.

    `sensor_hw` of the options leaves out the events outside it; y is counted from the top of the sensor that
    the header names, and so is what it is in the file whatever the options say.
    """

    def __init__(self, source: Source, options: ReadOptions, kind: int, header_hw: tuple[int, int]) -> None:
        """Describe the file; no event is read yet."""
        self.path = source.path
        self.format = "es"
        self.sensor_hw = options.sensor_hw or header_hw
        self.facts = {
            "version": "2.0.0",
            "type": KINDS[kind],
            "width": header_hw[1],
            "height": header_hw[0],
            "origin": "bottom left in the file, y flipped to the top left",
        }
        self.report = FileReport(str(source.path), "es", bytes_total=source.size)
        self._source = source
        self._damage = options.damage
        self._kind = kind
        self._header_hw = header_hw

    def read_into(self, buffer: EventBuffer) -> np.ndarray:
        """Decode all events straight into a buffer; see `Recording.read_into`."""
        if self._source.open_ended:
            return super().read_into(buffer)
        out = buffer.room(self._most_events)
        n = 0
        with self._new_pass() as reading:
            while written := reading.fill(out[n:]):
                n += written
            reading.finish()
        return out[:n]

    @property
    def _most_events(self) -> int:
        """More events than the file can hold."""
        return self._source.size // RECORD_BYTES + 1

    def _new_pass(self) -> "EventStreamPass":
        """Return a pass from the first event that fills a new report."""
        self.report = FileReport(str(self.path), "es", bytes_total=self._source.size)
        return self._pass_behind((HEADER_BYTES, np.zeros(STATE_LENGTH, np.int64)))

    def _pass_behind(self, place: tuple[int, np.ndarray]) -> "EventStreamPass":
        """Return a pass from a place that goes on with the report."""
        return EventStreamPass(
            self._source, self._kind, self._header_hw, self.sensor_hw, self._damage, self.report, place
        )


class EventStreamPass:
    """Decodes a file from its first event to its last; what is delivered does not depend on the chunks."""

    def __init__(
        self,
        source: Source,
        kind: int,
        header_hw: tuple[int, int],
        sensor_hw: tuple[int, int],
        damage: str,
        report: FileReport,
        place: tuple[int, np.ndarray],
    ) -> None:
        """Stand at a place that a pass has told."""
        self._source = source
        self._atis = kind == ATIS
        self._limits = np.array([header_hw[0] - 1, sensor_hw[0], sensor_hw[1]], np.int64)
        self._damage = damage
        self._report = report
        self._state = place[1].copy()
        self._window = ByteWindow(source, place[0])

    def __enter__(self) -> Self:
        """Return the pass itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._window.close()

    @property
    def place(self) -> tuple[int, np.ndarray]:
        """Byte of the file that comes next, and clock and counts up to there."""
        return self._window.position, self._state.copy()

    def fill(self, out: np.ndarray) -> int:
        """Decode the next events into `out`, EVENT_DTYPE; return how many, 0 only at the end.

        Raises:
            DamagedRecording: The next event is outside the sensor and the policy is `strict`.
        """
        window, words = self._window, out.view(np.int64)
        n = 0
        while n < len(out):
            window.at, written, status = decode(
                window.raw, window.at, window.stop, words[2 * n :], self._atis, self._limits, self._state
            )
            n += written
            if status == DAMAGED:
                if self._damage == "strict" and n > 0:
                    break  # first deliver what is good; the next call comes back to it
                self._pass_damage()
            elif n < len(out) and self._at_end(n):
                break
        self._update_report(out[:n])
        return n

    def _at_end(self, delivered: int) -> bool:
        """Whether to come back now: what arrives live is waited for only where there is nothing yet."""
        if self._source.open_ended and delivered:
            return True
        return not self._window.have(self._window.stop - self._window.at + 1)

    def finish(self) -> None:
        """Look at what is left after the last event.

        Raises:
            DamagedRecording: The file ends inside an event and the policy is `strict`.
        """
        left = self._window.stop - self._window.at
        self._update_report(np.empty(0, EVENT_DTYPE))
        if left == 0:
            return
        position = self._damaged_here()
        if self._damage == "strict":
            raise DamagedRecording(
                f"{self._source.path}: byte {position}: the file ends inside an event, {left} of "
                f"{RECORD_BYTES} bytes; read with damage 'skip' to leave it out"
            )
        self._report.partial_records = 1

    def _damaged_here(self) -> int:
        """Return the byte of the file that comes next, and remember it as damaged."""
        position = self._window.position
        if self._report.first_damage_byte is None:
            self._report.first_damage_byte = position
        return position

    def _pass_damage(self) -> None:
        """Raise for the event outside the sensor that comes next, leave it out, or look for one in step."""
        window, position = self._window, self._damaged_here()
        if self._damage == "strict":
            x, y = (int(value) for value in window.raw[window.at + 1 : window.at + 5].view("<u2"))
            raise DamagedRecording(
                f"{self._source.path}: byte {position}: x={x}, y={int(self._limits[0]) - y} from the top is "
                f"no pixel of a sensor of {self._limits[1]}x{self._limits[2]}; read with damage 'skip'"
            )
        shift = 0
        if self._damage == "salvage":
            window.have(SEARCH_BYTES)
            stop = min(window.stop, window.at + SEARCH_BYTES)
            shift = find_step(window.raw, window.at, stop, self._atis, self._limits)
        if shift:
            self._report.bytes_skipped += shift
            note = "bytes were passed over: whatever time they held is missing from all later events"
            if note not in self._report.notes:
                self._report.notes.append(note)
            window.at += shift
            return
        shortest = window.raw[window.at] >> (2 if self._atis else 1)
        self._state[TIME_US] += int(shortest)
        self._state[OUTSIDE] += 1
        window.at += RECORD_BYTES

    def _update_report(self, events: np.ndarray) -> None:
        """Add the events just delivered."""
        report = self._report
        report.events += len(events)
        report.bytes_read = self._window.position - report.bytes_skipped
        if self._source.open_ended:
            report.bytes_total = self._window.arrived
        report.out_of_sensor = int(self._state[OUTSIDE])
        report.special_events = int(self._state[SPECIAL])
        if len(events):
            if report.t_first_us is None:
                report.t_first_us = int(events["t"][0])
            report.t_last_us = int(events["t"][-1])


@njit(nogil=True, cache=True)
def decode(
    raw: np.ndarray, at: int, stop: int, words: np.ndarray, atis: bool, limits: np.ndarray, state: np.ndarray
) -> tuple[int, int, int]:
    """Decode events from raw[at:stop] into `words`, two int64 for an event of EVENT_DTYPE.

    Args:
        raw: Bytes of the file, uint8.
        at: First byte not yet decoded.
        stop: First byte no longer there.
        words: Room for the events, int64, shape [2 n].
        atis: Whether the type is ATIS, else DVS.
        limits: Last row of the header's sensor, height and width of the sensor that events must be in.
        state: Clock and counts, changed; see the positions above.

    Returns:
        First byte not decoded, events written, and MORE or DAMAGED (the event at that byte is outside).
    """
    last_row, height, width = limits[0], limits[1], limits[2]
    room = len(words) // 2
    t = state[TIME_US]
    n = 0
    status = MORE
    while at < stop and n < room:
        first = np.int64(raw[at])
        special = False
        if atis:
            if first >= 0xFC:
                t += 63 * (first & 3)
                at += 1
                continue
            step, on, special = first >> 2, (first >> 1) & 1, (first & 1) == 1
        else:
            if first >= 0xFE:
                t += 127 * (first & 1)
                at += 1
                continue
            step, on = first >> 1, first & 1
        if stop - at < 5:
            break
        x = np.int64(raw[at + 1]) | np.int64(raw[at + 2]) << 8
        y = last_row - (np.int64(raw[at + 3]) | np.int64(raw[at + 4]) << 8)
        if x >= width or y < 0 or y >= height:
            status = DAMAGED
            break
        t += step
        at += 5
        if special:
            state[SPECIAL] += 1
            continue
        words[2 * n] = t
        words[2 * n + 1] = x | y << 16 | on << 32
        n += 1
    state[TIME_US] = t
    return at, n, status


@njit(nogil=True, cache=True)
def find_step(raw: np.ndarray, at: int, stop: int, atis: bool, limits: np.ndarray) -> int:
    """Return how many bytes after `at` events are in step again; 0 where they are after this one event.

    In step are RUN_EVENTS events in a row inside the sensor. 0 also where no run begins before `stop`.
    """
    last_row, height, width = limits[0], limits[1], limits[2]
    no_event = 0xFC if atis else 0xFE
    for candidate in range(stop - at):
        # The event may itself be wrong and those after it in step: that is looked at first.
        shift = 5 if candidate == 0 else candidate
        here = at + shift
        run = 0
        while run < RUN_EVENTS and here < stop:
            if raw[here] >= no_event:
                here += 1
                continue
            if stop - here < 5:
                break
            x = np.int64(raw[here + 1]) | np.int64(raw[here + 2]) << 8
            y = last_row - (np.int64(raw[here + 3]) | np.int64(raw[here + 4]) << 8)
            if x >= width or y < 0 or y >= height:
                break
            run += 1
            here += 5
        if run == RUN_EVENTS:
            return 0 if candidate == 0 else shift
    return 0

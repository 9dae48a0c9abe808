"""One pass over the messages of a topic: their events, counted, in memory that is bounded by a message."""

from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from events.errors import ConfigError, DamagedRecording
from events.readers.evt3 import EVT3
from events.readers.packet_recording import report_times
from events.readers.prophesee_clock import (
    FIRST_DAMAGE,
    OUT_OF_SENSOR,
    PENDING,
    TRIGGERS,
    UNKNOWN,
    UNPLACED,
    WRAPS,
    new_state,
)
from events.readers.rosbag_container import ROS1, Bag, Clock, TopicMessage, TopicMessages
from events.readers.rosbag_events import (
    MONO_BYTES,
    decode_event_array,
    decode_mono,
    event_start,
    whole_events,
)
from events.readers.rosbag_messages import PLAIN, DamagedMessage, EventMessage, parse_message
from events.recording import FileReport, ReadOptions

ENCODINGS = (PLAIN, "mono", "evt3")
# Triggers kept between two decodings of a message in EVT 3.
TRIGGER_ROOM = 4096


class BagPlace(NamedTuple):
    """Where a pass stands.

    Attributes:
        before: Before the message at hand; behind the last where there is none.
        number: Of that message, counted from 0.
        offset: Bytes of the messages before it.
        at: Its events, or words of EVT 3, that have been decoded; None where it has not been begun.
        state: Of the decoder of EVT 3.
        rebuilt: Whether the messages are those found without the bag's index.
    """

    before: Clock
    number: int
    offset: int
    at: int | None
    state: np.ndarray
    rebuilt: bool


class BagPass:
    """Decodes one message after the other.

    A message that breaks its layout is left out and reported, or raises (`strict`); so are events outside the
    sensor. Offsets count the bytes of the topic's messages.
    """

    def __init__(
        self,
        bag: Bag,
        topic: str,
        *,
        sensor_hw: tuple[int, int],
        options: ReadOptions,
        report: FileReport,
        place: BagPlace | None = None,
        keep_triggers: bool = False,
    ) -> None:
        """Stand before the first message, or where another pass stood."""
        self._bag, self._cdr, self._sensor_hw = bag, bag.format != ROS1, sensor_hw
        self._damage, self.report = options.damage, report
        if place is None:
            place = BagPlace(Clock(), 0, 0, None, _first_state(sensor_hw, options), rebuilt=False)
        self._before, self._number, self._offset = place.before, place.number, place.offset
        self._state = place.state.copy()
        self._triggers = np.zeros(1 + 3 * TRIGGER_ROOM if keep_triggers else 0, np.int64)
        # (time, channel, rising) in file order, shape [n, 3] each.
        self.kept_triggers: list[np.ndarray] = []
        self._error: str | None = None
        self._messages = TopicMessages(bag, topic, place.before, rebuilt=place.rebuilt)
        self._message: TopicMessage | None = None
        if place.at is not None:
            self._message = next(iter(self._messages))
            self._taken, self._at = self._parse(self._message), place.at

    def __enter__(self) -> Self:
        """Return the pass itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bag."""
        self._messages.close()

    @property
    def place(self) -> BagPlace:
        """Where the pass stands, with all that later events and counts depend on."""
        at = None if self._message is None else self._at
        state, rebuilt = self._state.copy(), self._messages.rebuilt
        return BagPlace(self._before, self._number, self._offset, at, state, rebuilt)

    def fill(self, out: np.ndarray) -> int:
        """Decode the next events into `out`, EVENT_DTYPE; return how many, 0 only at the end.

        Raises:
            DamagedRecording: There is damage right here and the policy is `strict`.
            ConfigError: A message has an encoding that is not read here.
        """
        n = 0
        while n < len(out) and self._error is None and (self._message is not None or self._begin_message()):
            n += self._decode(out[n:])
        if n == 0 and self._error is not None:
            raise DamagedRecording(self._error)
        self._count(out[:n])
        return n

    def finish(self) -> None:
        """Bring the report up to the end of the file."""
        report = self.report
        report.bytes_read = report.bytes_total
        if self._messages.rebuilt:
            rebuilt = self._bag.rebuilt()
            report.bytes_read -= rebuilt.skipped_bytes
            report.bytes_skipped += rebuilt.skipped_bytes
            if report.first_damage_byte is None:
                report.first_damage_byte = rebuilt.damaged_byte
            report.notes.append(f"byte {rebuilt.damaged_byte} of the file: {rebuilt.damage}")

    def _begin_message(self) -> bool:
        """Go to the next message that has the layout of its type; return whether there is one."""
        try:
            for message in self._messages:
                try:
                    self._taken, self._at = self._parse(message), 0
                except DamagedMessage as error:
                    self._note_damage(str(error))
                    self.report.bytes_skipped += len(message.data)
                    self._pass_message(message)
                else:
                    self._message = message
                    self._check_ending()
                if self._error is not None or self._message is not None:
                    return self._error is None
        except DamagedRecording as error:
            self._error = str(error)
        return False

    def _parse(self, message: TopicMessage) -> EventMessage:
        """Take a message apart."""
        taken = parse_message(message.data, message.msgtype, cdr=self._cdr)
        if taken.encoding not in ENCODINGS:
            raise ConfigError(
                f"{self.report.path}: message {self._number} has encoding {taken.encoding!r}, expected "
                f"{', '.join(ENCODINGS[1:])}; convert the bag with event_camera_tools first"
            )
        if taken.encoding == "evt3":
            self._words = np.frombuffer(taken.payload[: len(taken.payload) // 2 * 2].tobytes(), "<u2")
        return taken

    def _check_ending(self) -> None:
        """Report a message whose last event or word is not all there."""
        payload, events = self._taken.payload, self._taken.events
        if self._taken.encoding == PLAIN:
            whole = whole_events(len(payload), cdr=self._cdr)
            if whole < events:
                self._note_partial(f"ends after {whole} of {events} events")
        elif self._taken.encoding == "mono":
            if len(payload) % MONO_BYTES:
                self._note_partial("ends inside an event")
        elif len(payload) % 2:
            self._note_partial("ends inside a word")

    def _pass_message(self, message: TopicMessage) -> None:
        """Stand behind a message."""
        self._before = message.behind
        self._offset += len(message.data)
        self._number += 1
        self._message = None

    def _decode(self, out: np.ndarray) -> int:
        """Decode the next events of the message at hand; return how many are inside the sensor."""
        taken, message = self._taken, self._message
        assert message is not None
        if taken.encoding == "evt3":
            return self._decode_words(message, out)
        if taken.encoding == PLAIN:
            events = min(taken.events, whole_events(len(taken.payload), cdr=self._cdr))
            out = out[: events - self._at]
            start = event_start(self._at, cdr=self._cdr)
            decode_event_array(taken.payload, start, self._cdr, out)
        else:
            events = len(taken.payload) // MONO_BYTES
            out = out[: events - self._at]
            time_base_ns = np.int64(taken.time_base_ns & (2**63 - 1))
            decode_mono(taken.payload[self._at * MONO_BYTES :], time_base_ns, out)
        self._at += len(out)
        inside = self._keep_inside(out)
        if self._at == events and self._error is None:
            self._pass_message(message)
        return inside

    def _decode_words(self, message: TopicMessage, out: np.ndarray) -> int:
        """Decode events of a piece of EVT 3, which goes on where the message before ended."""
        words, state = self._words, self._state
        used, written, _ = EVT3.decode(words[self._at :], out.view(np.int64), self._triggers, state)
        if state[FIRST_DAMAGE] >= 0:
            word = self._at + int(state[FIRST_DAMAGE])
            state[FIRST_DAMAGE] = -1
            self._note_damage(f"word {word} of its EVT 3 is no event of a sensor of {self._size}")
        self._at += used
        self._keep_triggers()
        self._update_report()
        if self._at == len(words) and not state[PENDING] and self._error is None:
            self._pass_message(message)
        return int(written)

    def _keep_triggers(self) -> None:
        if len(self._triggers):
            rows = self._triggers[1 : 1 + 3 * int(self._triggers[0])].reshape(-1, 3)
            self.kept_triggers.append(rows.copy())
            self._triggers[0] = 0

    def _update_report(self) -> None:
        report, state = self.report, self._state
        report.out_of_sensor = int(state[OUT_OF_SENSOR])
        report.unplaced_events = int(state[UNPLACED])
        report.unknown_words = int(state[UNKNOWN])
        report.triggers = int(state[TRIGGERS])
        report.wraps = int(state[WRAPS])

    @property
    def _size(self) -> str:
        return f"{self._sensor_hw[0]}x{self._sensor_hw[1]}"

    def _keep_inside(self, events: np.ndarray) -> int:
        """Move events inside the sensor to the front, under `strict` up to one outside; return how many."""
        height, width = self._sensor_hw
        inside = (events["y"] < height) & (events["x"] < width)
        outside = len(events) - int(np.count_nonzero(inside))
        if not outside:
            return len(events)
        first = int(np.argmin(inside))
        event = events[first]
        self._note_damage(f"has an event at x {event['x']}, y {event['y']} outside a sensor of {self._size}")
        if self._error is not None:
            return first
        self.report.out_of_sensor += outside
        kept = events[inside]
        events[: len(kept)] = kept
        return len(kept)

    def _count(self, events: np.ndarray) -> None:
        """Add events that are delivered to the report."""
        if not len(events):
            return
        report, times = self.report, events["t"]
        before = int(times[0]) if report.t_last_us is None else report.t_last_us
        if times[0] < before or (times[1:] < times[:-1]).any():
            steps = np.diff(times, prepend=before)
            report.backward_steps += int(np.count_nonzero(steps < 0))
            report.largest_backward_us = max(report.largest_backward_us, int(-steps.min()))
        report_times(report, events)

    def _note_partial(self, what: str) -> None:
        self._note_damage(what)
        self.report.partial_records += 1

    def _note_damage(self, what: str) -> None:
        """Report damage in the message at hand, the first in words; under `strict` it ends the pass."""
        if self._damage == "strict":
            self._error = self._error or (
                f"{self.report.path}: byte {self._offset} of its messages: message {self._number} {what}; "
                "read with damage 'skip' to leave it out"
            )
        if self.report.first_damage_byte is None:
            self.report.first_damage_byte = self._offset
            self.report.notes.append(f"message {self._number} {what}")


def _first_state(sensor_hw: tuple[int, int], options: ReadOptions) -> np.ndarray:
    """Return the state of a decoder of EVT 3 that has seen no word."""
    return new_state(
        sensor_hw,
        high_bits=EVT3.high_bits,
        low_bits=EVT3.low_bits,
        stop_at_damage=options.damage == "strict",
    )

"""One pass over the messages of a topic: their events, counted, in memory that is bounded by a message."""

from collections.abc import Iterator

import numpy as np

from events.errors import ConfigError, DamagedRecording
from events.readers.evt3 import EVT3
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
from events.readers.rosbag_container import TopicMessage
from events.readers.rosbag_events import MONO_BYTES, decode_event_array, decode_mono, whole_events
from events.readers.rosbag_messages import PLAIN, DamagedMessage, EventMessage, parse_message
from events.recording import EventBuffer, FileReport, ReadOptions

ENCODINGS = (PLAIN, "mono", "evt3")
# Events decoded at a time, and triggers kept between two decodings, of a message in EVT 3.
ROOM_EVENTS = 1 << 16
TRIGGER_ROOM = 4096


class BagPass:
    """Decodes one message after the other.

    A message that breaks its layout is left out and reported, or raises (`strict`); so are events outside the
    sensor. Offsets count the bytes of the topic's messages.
    """

    def __init__(
        self,
        messages: Iterator[TopicMessage],
        *,
        cdr: bool,
        sensor_hw: tuple[int, int],
        options: ReadOptions,
        report: FileReport,
        keep_triggers: bool = False,
    ) -> None:
        self._messages, self._cdr, self._sensor_hw = messages, cdr, sensor_hw
        self._damage, self.report = options.damage, report
        self._size = f"{sensor_hw[0]}x{sensor_hw[1]}"
        self._buffer = EventBuffer()
        self._state = new_state(
            sensor_hw,
            high_bits=EVT3.high_bits,
            low_bits=EVT3.low_bits,
            stop_at_damage=options.damage == "strict",
        )
        self._triggers = np.zeros(1 + 3 * TRIGGER_ROOM if keep_triggers else 0, np.int64)
        # (time, channel, rising) in file order, shape [n, 3] each.
        self.kept_triggers: list[np.ndarray] = []
        self._offset = self._number = 0

    def parts(self) -> Iterator[np.ndarray]:
        """Yield the events of one message after the other, never none; each voids the one before.

        Raises:
            DamagedRecording: The damage policy is `strict` and something is wrong.
            ConfigError: A message has an encoding that is not read here.
        """
        for message in self._messages:
            try:
                taken = parse_message(message.data, message.msgtype, cdr=self._cdr)
            except DamagedMessage as error:
                self._note_damage(str(error))
                self.report.bytes_skipped += len(message.data)
            else:
                for events in self._decode(taken):
                    self._count(events)
                    if len(events):
                        yield events
            self._offset += len(message.data)
            self._number += 1

    def _decode(self, message: EventMessage) -> Iterator[np.ndarray]:
        """Yield the events of a message inside the sensor, shape [n], EVENT_DTYPE."""
        payload = message.payload
        if message.encoding == PLAIN:
            whole = whole_events(len(payload), cdr=self._cdr)
            if whole < message.events:
                self._note_partial(f"ends after {whole} of {message.events} events")
            events = self._buffer.room(min(whole, message.events))
            decode_event_array(payload, self._cdr, events)
            yield self._inside(events)
        elif message.encoding == "mono":
            if len(payload) % MONO_BYTES:
                self._note_partial("ends inside an event")
            events = self._buffer.room(len(payload) // MONO_BYTES)
            decode_mono(payload, np.int64(message.time_base_ns & (2**63 - 1)), events)
            yield self._inside(events)
        elif message.encoding == "evt3":
            yield from self._decode_words(payload)
        else:
            raise ConfigError(
                f"{self.report.path}: message {self._number} has encoding {message.encoding!r}, expected "
                f"{', '.join(ENCODINGS[1:])}; convert the bag with event_camera_tools first"
            )

    def _decode_words(self, payload: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the events of a piece of EVT 3, which goes on where the message before ended."""
        if len(payload) % 2:
            self._note_partial("ends inside a word")
        words = np.frombuffer(payload[: len(payload) // 2 * 2].tobytes(), "<u2")
        room = self._buffer.room(min(EVT3.events_per_word * len(words), ROOM_EVENTS))
        at, state = 0, self._state
        while at < len(words) or state[PENDING]:
            used, written, _ = EVT3.decode(words[at:], room.view(np.int64), self._triggers, state)
            if state[FIRST_DAMAGE] >= 0:
                word = at + int(state[FIRST_DAMAGE])
                state[FIRST_DAMAGE] = -1
                self._note_damage(f"word {word} of its EVT 3 is no event of a sensor of {self._size}")
            at += used
            self._keep_triggers()
            self._update_report()
            yield room[:written]

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

    def _inside(self, events: np.ndarray) -> np.ndarray:
        """Return the events inside the sensor; count the others."""
        height, width = self._sensor_hw
        inside = (events["y"] < height) & (events["x"] < width)
        outside = len(events) - int(np.count_nonzero(inside))
        if not outside:
            return events
        event = events[int(np.argmin(inside))]
        self._note_damage(f"has an event at x {event['x']}, y {event['y']} outside a sensor of {self._size}")
        self.report.out_of_sensor += outside
        return events[inside]

    def _count(self, events: np.ndarray) -> None:
        if not len(events):
            return
        report, times = self.report, events["t"]
        before = int(times[0]) if report.t_last_us is None else report.t_last_us
        if times[0] < before or (times[1:] < times[:-1]).any():
            steps = np.diff(times, prepend=before)
            report.backward_steps += int(np.count_nonzero(steps < 0))
            report.largest_backward_us = max(report.largest_backward_us, int(-steps.min()))
        if report.t_first_us is None:
            report.t_first_us = int(times[0])
        report.t_last_us = int(times[-1])
        report.events += len(events)

    def _note_partial(self, what: str) -> None:
        self._note_damage(what)
        self.report.partial_records += 1

    def _note_damage(self, what: str) -> None:
        """Report damage in the message at hand, the first in words, or raise."""
        if self._damage == "strict":
            raise DamagedRecording(
                f"{self.report.path}: byte {self._offset} of its messages: message {self._number} {what}; "
                "read with damage 'skip' to leave it out"
            )
        if self.report.first_damage_byte is None:
            self.report.first_damage_byte = self._offset
            self.report.notes.append(f"message {self._number} {what}")

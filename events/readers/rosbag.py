"""ROS 1 bags, ROS 2 bags in SQLite, and MCAP: recordings of one topic of events.

Containers are opened by the package `rosbags`; messages and events are decoded here. Of a ROS 1 bag or MCAP
file that is cut off or has no index, the messages that are whole are read. Where a message is damaged, byte
offsets in a report count the bytes of the topic's messages, one after the other, because a bag may hold them
compressed; where the bag itself is, they are those of the file. A note says which.
Times are those of the events: since 1970 in an EventArray, the sensor's own clock in an EventPacket.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from events.errors import ConfigError, UnknownFormat, did_you_mean
from events.readers.conventions import only_plain_conventions
from events.readers.once import Once
from events.readers.pass_recording import PassRecording, last_row_and_column, lenient
from events.readers.rosbag_container import MCAP, ROS1, SQLITE, Bag, Clock, messages_behind
from events.readers.rosbag_messages import EVENT_TYPES, DamagedMessage, parse_message, type_name
from events.readers.rosbag_pass import BagPass, BagPlace
from events.readers.source import Source
from events.recording import EVENT_DTYPE, TRIGGER_DTYPE, FileReport, ReadOptions, Recording

# First bytes and format.
BAG_MARKS = ((b"#ROSBAG V", ROS1), (b"SQLite format 3\x00", SQLITE), (b"\x89MCAP0\r\n", MCAP))
# Addresses have 16 bits.
LARGEST_HW = (1 << 16, 1 << 16)
# A message that says more pixels in a row or column than any sensor has is not believed.
BELIEVED = 1 << 13
# Events decoded at a time where only their extent or the triggers among them are wanted.
ROOM_EVENTS = 1 << 16


def bag_format(head: bytes) -> str | None:
    """Return the format of a bag by its first bytes; None where they are no bag's."""
    return next((name for mark, name in BAG_MARKS if head.startswith(mark)), None)


def open_rosbag1(source: Source, options: ReadOptions) -> Recording:
    """Open a ROS 1 bag; raises as `BagRecording`."""
    return BagRecording(source, options, ROS1)


def open_rosbag2(source: Source, options: ReadOptions) -> Recording:
    """Open the SQLite file of a ROS 2 bag; raises as `BagRecording`."""
    return BagRecording(source, options, SQLITE)


def open_mcap(source: Source, options: ReadOptions) -> Recording:
    """Open the MCAP file of a ROS 2 bag; raises as `BagRecording`."""
    return BagRecording(source, options, MCAP)


class BagRecording(PassRecording):
    """One topic of events in a bag."""

    def __init__(self, source: Source, options: ReadOptions, name: str) -> None:
        """Find the topic: the one that is asked for, or the only one.

        Raises:
            ConfigError: There are several topics of events and none is chosen, or not one of them.
            DamagedRecording: The bag cannot be opened.
            EventsError: The package `rosbags` is not installed.
            UnknownFormat: The bag has no topic of events.
        """
        only_plain_conventions(options, format_name="ROS bags")
        self.path = source.path
        self.format = name
        self.report = FileReport(str(source.path), name, bytes_total=source.size)
        self._source, self._options = source, options
        self._bag = Bag(source, name, strict=options.damage == "strict")
        with self._bag.opened() as bag:
            self._topic = _choose_topic(source, options, bag.connections)
            self.facts = _facts(bag.connections, self._topic)
            try:
                first = next(messages_behind(bag, self._topic, Clock()), None)
            except self._bag.causes() as error:
                first = next(messages_behind(self._bag.rebuilt(error), self._topic, Clock()), None)
        self._said_hw: tuple[int, int] | None = None
        if first is not None:
            try:
                message = parse_message(first.data, first.msgtype, cdr=name != ROS1)
            except DamagedMessage:
                return  # Told again, by the policy for damage, when it is read.
            self.facts["encoding"] = message.encoding
            if min(message.sensor_hw) > 0 and max(message.sensor_hw) <= BELIEVED:
                self._said_hw = message.sensor_hw

    @Once
    def sensor_hw(self) -> tuple[int, int]:
        """Height and width in pixels; where no message says them, just large enough for every event."""
        if self._options.sensor_hw or self._said_hw:
            return self._options.sensor_hw or self._said_hw  # type: ignore[return-value]
        report = FileReport(str(self.path), self.format)
        reading = self._pass(LARGEST_HW, lenient(self._options), report)
        last_y, last_x = last_row_and_column(reading, room=ROOM_EVENTS)
        return last_y + 1, last_x + 1

    def triggers(self) -> np.ndarray:
        """Return the edges of external signals in file order, shape [n], TRIGGER_DTYPE; of EVT 3 alone."""
        report = FileReport(str(self.path), self.format)
        out = np.empty(ROOM_EVENTS, EVENT_DTYPE)
        with self._pass(self.sensor_hw, self._options, report, keep_triggers=True) as reading:
            while reading.fill(out):
                pass
        rows = np.concatenate([np.empty((0, 3), np.int64), *reading.kept_triggers])
        kept = np.empty(len(rows), TRIGGER_DTYPE)
        kept["t"], kept["channel"], kept["rising"] = rows.T
        return kept

    @property
    def _most_events(self) -> int:
        """Room for a chunk: a bag of that many bytes is not likely to hold as many events."""
        return self._source.size

    def _new_pass(self) -> BagPass:
        """Return a pass over the bag that fills a new report."""
        sensor_hw = self.sensor_hw
        self.report = FileReport(str(self.path), self.format, bytes_total=self._source.size)
        return self._pass(sensor_hw, self._options, self.report)

    def _pass_behind(self, place: BagPlace) -> BagPass:
        """Return a pass from where another stood; see `PassRecording`."""
        return self._pass(self.sensor_hw, self._options, self.report, place=place)

    def _pass(
        self,
        sensor_hw: tuple[int, int],
        options: ReadOptions,
        report: FileReport,
        *,
        place: BagPlace | None = None,
        keep_triggers: bool = False,
    ) -> BagPass:
        return BagPass(
            self._bag,
            self._topic,
            sensor_hw=sensor_hw,
            options=options,
            report=report,
            place=place,
            keep_triggers=keep_triggers,
        )


def _choose_topic(source: Source, options: ReadOptions, connections: Sequence[Any]) -> str:
    """Return the topic to read."""
    topics = sorted({c.topic for c in connections if type_name(c.msgtype) in EVENT_TYPES})
    if options.topic is not None:
        if options.topic not in topics:
            hint = did_you_mean(options.topic, topics)
            raise ConfigError(
                f"{source.path}: topic {options.topic!r} is none of its topics of events "
                f"({', '.join(topics) or 'there are none'}){hint}"
            )
        return options.topic
    if not topics:
        there = sorted({f"{c.topic} ({type_name(c.msgtype)})" for c in connections})
        raise UnknownFormat(
            f"{source.path}: a bag without a topic of events, found {', '.join(there[:8]) or 'no topic'}; "
            f"expected one of type {', '.join(EVENT_TYPES)}"
        )
    if len(topics) > 1:
        raise ConfigError(
            f"{source.path}: {len(topics)} topics of events: {', '.join(topics)}; choose one (--topic)"
        )
    return topics[0]


def _facts(connections: Sequence[Any], topic: str) -> dict[str, Any]:
    chosen = [c for c in connections if c.topic == topic]
    return {
        "topic": topic,
        "type": ", ".join(sorted({type_name(c.msgtype) for c in chosen})),
        "messages": sum(c.msgcount for c in chosen),
        "topics": sorted({f"{c.topic} ({type_name(c.msgtype)})" for c in connections}),
    }

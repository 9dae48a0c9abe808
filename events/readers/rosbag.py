"""ROS 1 bags, ROS 2 bags in SQLite, and MCAP: recordings of one topic of events.

Containers are opened by the package `rosbags`; messages and events are decoded here. Byte offsets in a
report count the bytes of the topic's messages, one after the other, because a bag may hold them compressed.
Times are those of the events: since 1970 in an EventArray, the sensor's own clock in an EventPacket.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from events.errors import ConfigError, UnknownFormat, did_you_mean
from events.readers.conventions import only_plain_conventions
from events.readers.rosbag_container import MCAP, ROS1, SQLITE, opened_bag, topic_messages
from events.readers.rosbag_messages import EVENT_TYPES, DamagedMessage, parse_message, type_name
from events.readers.rosbag_pass import BagPass
from events.readers.source import Source
from events.recording import DEFAULT_CHUNK_EVENTS, TRIGGER_DTYPE, FileReport, ReadOptions, Recording

# First bytes and format.
BAG_MARKS = ((b"#ROSBAG V", ROS1), (b"SQLite format 3\x00", SQLITE), (b"\x89MCAP0\r\n", MCAP))
# Addresses have 16 bits.
LARGEST_HW = (1 << 16, 1 << 16)
# A message that says more pixels in a row or column than any sensor has is not believed.
BELIEVED = 1 << 13


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


class BagRecording(Recording):
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
        with opened_bag(source, name) as bag:
            self._topic = _choose_topic(source, options, bag.connections)
            self.facts = _facts(bag.connections, self._topic)
            first = next(topic_messages(source, bag, self._topic), None)
        self._said_hw: tuple[int, int] | None = None
        if first is not None:
            try:
                message = parse_message(first.data, first.msgtype, cdr=name != ROS1)
            except DamagedMessage:
                return  # Told again, by the policy for damage, when it is read.
            self.facts["encoding"] = message.encoding
            if min(message.sensor_hw) > 0 and max(message.sensor_hw) <= BELIEVED:
                self._said_hw = message.sensor_hw

    @cached_property
    def sensor_hw(self) -> tuple[int, int]:  # type: ignore[override]
        """Height and width in pixels; where no message says them, just large enough for every event."""
        if self._options.sensor_hw or self._said_hw:
            return self._options.sensor_hw or self._said_hw  # type: ignore[return-value]
        last_y = last_x = 0
        for events in self._parts(LARGEST_HW, ReadOptions(), FileReport("", self.format)):
            last_y, last_x = max(last_y, int(events["y"].max())), max(last_x, int(events["x"].max()))
        return last_y + 1, last_x + 1

    def decode_chunks(self, *, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[np.ndarray]:
        """Yield the events of one message after the other, at most `max_events` at a time."""
        if max_events < 1:
            raise ConfigError(f"max_events must be at least 1, got {max_events}")
        sensor_hw = self.sensor_hw
        self.report = FileReport(str(self.path), self.format, bytes_total=self._source.size)
        for events in self._parts(sensor_hw, self._options, self.report):
            for first in range(0, len(events), max_events):
                yield events[first : first + max_events]
        self.report.bytes_read = self._source.size

    def triggers(self) -> np.ndarray:
        """Return the edges of external signals in file order, shape [n], TRIGGER_DTYPE; of EVT 3 alone."""
        report = FileReport(str(self.path), self.format)
        with opened_bag(self._source, self.format) as bag:
            reading = self._pass(bag, self.sensor_hw, self._options, report, keep_triggers=True)
            for _ in reading.parts():
                pass
        rows = np.concatenate([np.empty((0, 3), np.int64), *reading.kept_triggers])
        kept = np.empty(len(rows), TRIGGER_DTYPE)
        kept["t"], kept["channel"], kept["rising"] = rows.T
        return kept

    def _parts(
        self, sensor_hw: tuple[int, int], options: ReadOptions, report: FileReport
    ) -> Iterator[np.ndarray]:
        """Yield the events of each message; raises where the bag breaks off."""
        with opened_bag(self._source, self.format) as bag:
            yield from self._pass(bag, sensor_hw, options, report).parts()

    def _pass(
        self,
        bag: Any,
        sensor_hw: tuple[int, int],
        options: ReadOptions,
        report: FileReport,
        *,
        keep_triggers: bool = False,
    ) -> BagPass:
        return BagPass(
            topic_messages(self._source, bag, self._topic),
            cdr=self.format != ROS1,
            sensor_hw=sensor_hw,
            options=options,
            report=report,
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

"""Opening ROS 1 bags, SQLite and MCAP files with the package `rosbags`, whatever their names end in."""

import struct
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from events.errors import DamagedRecording, EventsError
from events.readers.aedat4_compression import UnpackError
from events.readers.rosbag_messages import type_name
from events.readers.source import Source

ROS1, SQLITE, MCAP = "rosbag1", "rosbag2", "mcap"

# What to do about a damaged database.
RECOVER = "save what is left of it with the command .recover of sqlite3"

# What `rosbags` lets through where a file is not what it says; its own errors and SQLite's come on top.
_CAUSES: tuple[type[Exception], ...] = (
    struct.error,
    ValueError,
    LookupError,
    AssertionError,
    ArithmeticError,
    EOFError,
    OSError,
    RuntimeError,
    TypeError,
    AttributeError,
    MemoryError,
    UnpackError,
)


class Clock(NamedTuple):
    """A place between two messages of a topic: `passed` messages of a time lie before it, and all earlier."""

    time_ns: int | None = None
    passed: int = 0


class TopicMessage(NamedTuple):
    """One message as it lies in the file; `msgtype` as ROS 1 writes it, `behind` the place behind it."""

    msgtype: str
    data: bytes
    behind: Clock


class Bag:
    """A bag, read by its index, or by what a walk over its records finds where that is damaged."""

    def __init__(self, source: Source, name: str, *, strict: bool) -> None:
        """Describe a bag that is not opened yet.

        Args:
            source: The file.
            name: `rosbag1`, `rosbag2` (SQLite) or `mcap`.
            strict: Whether a damaged one is refused.
        """
        self.source, self.format, self._strict = source, name, strict
        self.indexed = True
        self._rebuilt: Any = None

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Open the bag with one of the readers of `rosbags`, or as rebuilt where it has no index.

        Raises:
            DamagedRecording: It is damaged, and `strict` or without any message that is whole.
            EventsError: `rosbags` is not installed.
        """
        reader, causes = self._reader(), self.causes()
        try:
            reader.open()
        except causes as error:
            self.indexed = False
            yield self.rebuilt(error)
            return
        try:
            yield reader
        finally:
            # What is closed has been read; a half-opened file may have nothing to close.
            with suppress(*causes):
                reader.close()

    def _reader(self) -> Any:
        """Return a reader that is not opened yet."""
        try:
            from rosbags.rosbag1 import Reader
            from rosbags.rosbag2.storage_mcap import McapReader
            from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader
        except ImportError:
            raise EventsError(
                f"{self.source.path}: ROS bags and MCAP are read with the package rosbags, which is not "
                "installed; install spikeline[ros]"
            ) from None
        if self.format == SQLITE:
            _check_pages(self.source)
        opener: Any = {ROS1: Reader, SQLITE: Sqlite3Reader, MCAP: McapReader}[self.format]
        return opener(self.source.path)

    def causes(self) -> tuple[type[Exception], ...]:
        """Return what a reader raises where the file is not what it says."""
        import apsw
        from rosbags.rosbag1 import ReaderError
        from rosbags.rosbag2 import ReaderError as Reader2Error
        from rosbags.rosbag2.storage_mcap import zstd

        return (ReaderError, Reader2Error, apsw.Error, zstd.ZstdError, *_CAUSES)

    def rebuilt(self, error: Exception | None = None) -> Any:
        """Return the messages that are found without the index, which an error has shown to be damaged.

        Raises:
            DamagedRecording: The bag is read under `strict`, or has no message that is whole.
        """
        if self._rebuilt is not None:
            return self._rebuilt
        if self.format == SQLITE:
            raise _broken(self.source, self.format, error) from error
        from events.readers.rosbag_rebuilt import BROKEN, RebuiltBag1, RebuiltMcap

        try:
            rebuilt = {ROS1: RebuiltBag1, MCAP: RebuiltMcap}[self.format](self.source.path)
        except BROKEN as cause:
            raise _broken(self.source, self.format, error or cause) from error
        if self._strict or not rebuilt.connections:
            advice = "read with damage 'skip' to take the messages that are whole"
            raise DamagedRecording(
                f"{self.source.path}: byte {rebuilt.damaged_byte}: {rebuilt.damage}; "
                f"{advice if rebuilt.connections else 'copy or record it again'}"
            ) from error
        self._rebuilt = rebuilt
        return rebuilt


class TopicMessages:
    """The messages of a topic behind a place, in the order of the bag's clock.

    Where the bag turns out to be damaged on the way, those go on that are found without its index.

    Attributes:
        rebuilt: Whether it has come to that.
    """

    def __init__(self, bag: Bag, topic: str, behind: Clock, *, rebuilt: bool) -> None:
        """Stand behind some messages of the bag's index, or of those found without it (`rebuilt`)."""
        self._bag, self._topic = bag, topic
        self.rebuilt = rebuilt or not bag.indexed
        self._read = self._messages(behind)

    def __iter__(self) -> Iterator[TopicMessage]:
        """Yield the messages; goes on where it was left.

        Raises:
            DamagedRecording: The bag is damaged, and `strict` or no more can be found.
        """
        return self._read

    def close(self) -> None:
        """Close the bag."""
        self._read.close()

    def _messages(self, behind: Clock) -> Generator[TopicMessage, None, None]:
        if not self.rebuilt:
            try:
                with self._bag.opened() as bag:
                    for message in messages_behind(bag, self._topic, behind):
                        behind = message.behind
                        yield message
                return
            except self._bag.causes() as error:
                self._bag.rebuilt(error)
                self.rebuilt = True
        yield from messages_behind(self._bag.rebuilt(), self._topic, behind)


def messages_behind(bag: Any, topic: str, start: Clock) -> Iterator[TopicMessage]:
    """Yield the messages of a topic of an opened bag behind a place, in the order of the bag's clock."""
    chosen = [connection for connection in bag.connections if connection.topic == topic]
    to_pass, behind = start.passed, start
    for connection, time_ns, data in bag.messages(chosen, start=start.time_ns):
        if time_ns == start.time_ns and to_pass:
            to_pass -= 1
            continue
        behind = Clock(time_ns, behind.passed + 1 if time_ns == behind.time_ns else 1)
        yield TopicMessage(type_name(connection.msgtype), data, behind)


def _check_pages(source: Source) -> None:
    """Refuse a database that is cut off: SQLite takes the pages of its index that are missing for empty.

    Source: SQLite, "Database File Format", 1.3: the page size at byte 16, 1 for 65536, the pages at byte 28,
    which are right where the numbers at bytes 24 and 92 are the same.
    """
    if len(source.head) < 100 or source.head[24:28] != source.head[92:96]:
        return
    page_bytes, pages = (
        struct.unpack_from(">H", source.head, 16)[0],
        struct.unpack_from(">I", source.head, 28)[0],
    )
    expected = pages * (65536 if page_bytes == 1 else page_bytes)
    if source.size < expected:
        raise DamagedRecording(
            f"{source.path}: the bag is cut off at byte {source.size}, expected {expected}; "
            f"copy it again, or {RECOVER}"
        )


def _broken(source: Source, name: str, error: Exception | None) -> DamagedRecording:
    said = " ".join(str(error).split()) or type(error).__name__
    advice = f"copy it again, or {RECOVER}" if name == SQLITE else "copy or record it again"
    return DamagedRecording(
        f"{source.path}: somewhere in bytes 0 to {source.size} the bag is no longer one: {said}; {advice}"
    )

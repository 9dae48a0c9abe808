"""Opening ROS 1 bags, SQLite and MCAP files with the package `rosbags`, whatever their names end in."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from events.errors import DamagedRecording, EventsError
from events.readers.rosbag_messages import type_name
from events.readers.source import Source

ROS1, SQLITE, MCAP = "rosbag1", "rosbag2", "mcap"

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
)


class TopicMessage(NamedTuple):
    """One message as it lies in the file; `msgtype` as ROS 1 writes it."""

    msgtype: str
    data: bytes


@contextmanager
def opened_bag(source: Source, name: str) -> Iterator[Any]:
    """Open a bag as one of the readers of `rosbags`.

    Args:
        source: The file.
        name: `rosbag1`, `rosbag2` (SQLite) or `mcap`.

    Raises:
        DamagedRecording: It cannot be opened, or breaks off while it is read.
        EventsError: `rosbags` is not installed.
    """
    try:
        from rosbags.rosbag1 import Reader, ReaderError
        from rosbags.rosbag2 import ReaderError as Reader2Error
        from rosbags.rosbag2.storage_mcap import McapReader
        from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader
    except ImportError:
        raise EventsError(
            f"{source.path}: ROS bags and MCAP are read with the package rosbags, which is not installed; "
            "install spikeline[ros]"
        ) from None
    import apsw

    if name == SQLITE:
        _check_pages(source)
    opener: Any = {ROS1: Reader, SQLITE: Sqlite3Reader, MCAP: McapReader}[name]
    causes: tuple[type[Exception], ...] = (ReaderError, Reader2Error, apsw.Error, *_CAUSES)
    try:
        bag = opener(source.path)
        bag.open()
    except causes as error:
        raise _broken(source, error) from error
    try:
        yield bag
    finally:
        # What is closed has been read; a half-opened file may have nothing to close.
        with suppress(*causes):
            bag.close()


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
            "copy or record it again"
        )


def _broken(source: Source, error: Exception) -> DamagedRecording:
    said = " ".join(str(error).split()) or type(error).__name__
    advice = "reindex it with ROS, or copy it again" if "index" in said else "copy or record it again"
    return DamagedRecording(
        f"{source.path}: somewhere in bytes 0 to {source.size} the bag is no longer one: {said}; {advice}"
    )


def topic_messages(source: Source, bag: Any, topic: str) -> Iterator[TopicMessage]:
    """Yield the messages of a topic in the order of the bag's clock.

    Raises:
        DamagedRecording: The bag breaks off.
    """
    import apsw
    from rosbags.rosbag1 import ReaderError
    from rosbags.rosbag2 import ReaderError as Reader2Error

    causes: tuple[type[Exception], ...] = (ReaderError, Reader2Error, apsw.Error, *_CAUSES)
    connections = [connection for connection in bag.connections if connection.topic == topic]
    try:
        for connection, _, data in bag.messages(connections):
            yield TopicMessage(type_name(connection.msgtype), data)
    except causes as error:
        raise _broken(source, error) from error

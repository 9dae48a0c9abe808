"""Bags whose index is missing or wrong, mostly because their end is: what a walk over the records finds.

ROS 1 (wiki.ros.org/Bags/Format/2.0): records `{uint32 bytes, header, uint32 bytes, data}`; MCAP
(mcap.dev/spec): records `{uint8 kind, uint64 bytes, data}`. Both keep messages in chunks, compressed or not,
whose content is records again. Of a chunk that is cut off, the whole messages before the cut are found.
"""

import bz2
import struct
from abc import ABC, abstractmethod
from binascii import crc32
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from rosbags.rosbag1.reader import Header, ReaderError, RecordType, normalize, read_uint32
from rosbags.rosbag2.errors import ReaderError as Reader2Error
from rosbags.rosbag2.storage_mcap import read_exact, read_string

from events.readers.aedat4_compression import (
    LARGEST_PAYLOAD,
    Stored,
    UnpackError,
    lz4_unpacker,
    zstd_unpacker,
)

# What a record raises that is none, or not all there; memory, where a wrong length asks for gigabytes.
BROKEN: tuple[type[Exception], ...] = (
    *(ReaderError, Reader2Error, UnpackError, struct.error),
    *(ValueError, LookupError, ArithmeticError, OSError, EOFError, MemoryError),
)

MCAP_SCHEMA, MCAP_CHANNEL, MCAP_MESSAGE, MCAP_CHUNK, MCAP_DATA_END = 3, 4, 5, 6, 15
# Bytes of an MCAP message before its data.
MCAP_MESSAGE_HEAD = 22


class FoundConnection(NamedTuple):
    """One topic; as `rosbags` describes it, as far as it is used here."""

    id: int
    topic: str
    msgtype: str
    msgcount: int


class FoundMessage(NamedTuple):
    """Where a message lies: in the chunk that begins at a byte, or in none (-1)."""

    time_ns: int
    connection: int
    chunk: int
    at: int
    size: int


class Chunk(NamedTuple):
    """Where the content of a chunk lies; `crc` is 0 where none is known."""

    at: int
    size: int
    compression: str
    crc: int = 0


class RebuiltBag(ABC):
    """The messages that a walk over a bag's records finds; has what is used of a reader of `rosbags`.

    A chunk that does not unpack, or that its checksum contradicts, is left out. Where records no longer
    follow each other, the walk goes on behind the chunk; outside a chunk it ends.

    Attributes:
        connections: The topics.
        damaged_byte: First byte of the file that belongs to no whole record; of a compressed chunk, its
            first. Where all records are whole, the byte behind the last message, where an index should be.
        skipped_bytes: Bytes from each such place to the end of the chunk, or of the file.
    """

    def __init__(self, path: Path) -> None:
        """Walk over the file once.

        Raises:
            One of BROKEN: It does not begin as a bag that is read here.
        """
        self._path = path
        self._found: list[FoundMessage] = []
        self._topics: dict[int, tuple[str, str]] = {}
        self._chunks: dict[int, Chunk] = {}
        self._unpackers = unpackers()
        self._unpacked: tuple[int, Stored] = -1, b""
        self._damaged: list[int] = []
        self.skipped_bytes = 0
        with path.open("rb") as file:
            self._bytes = file.seek(0, 2)
            file.seek(0)
            self._behind_messages = at = self._start(file)
            at = self._walk(file, at, self._bytes)
        if at < self._bytes:
            self._note_damage(at, self._bytes)
        self.damaged_byte = min(self._damaged, default=self._behind_messages)
        self._found.sort(key=lambda message: message.time_ns)
        counts = Counter(message.connection for message in self._found)
        self.connections = [FoundConnection(i, *names, counts[i]) for i, names in self._topics.items()]

    @property
    def damage(self) -> str:
        """What is wrong at the damaged byte."""
        return "the bag is cut off or overwritten" if self._damaged else "the index is missing or wrong"

    def messages(
        self, connections: Sequence[FoundConnection], start: int | None = None
    ) -> Iterator[tuple[FoundConnection, int, Stored]]:
        """Yield the messages of connections in the order of the bag's clock, from a time in ns on."""
        chosen = {connection.id: connection for connection in connections}
        with self._path.open("rb") as file:
            for message in self._found:
                if message.connection in chosen and (start is None or message.time_ns >= start):
                    yield chosen[message.connection], message.time_ns, self._read(file, message)

    def _read(self, file: BinaryIO, message: FoundMessage) -> Stored:
        """Return the bytes of a message."""
        if message.chunk < 0:
            file.seek(message.at)
            return file.read(message.size)
        if self._unpacked[0] != message.chunk:
            self._unpacked = message.chunk, self._unpack(file, self._chunks[message.chunk])
        return self._unpacked[1][message.at : message.at + message.size]

    def _unpack(self, file: BinaryIO, chunk: Chunk) -> Stored:
        """Return the content of a chunk, of one that is cut off as much as is there."""
        missing = chunk.at + chunk.size > self._bytes
        file.seek(chunk.at)
        data = self._unpackers[chunk.compression](file.read(min(chunk.size, LARGEST_PAYLOAD)), missing)
        if chunk.crc and not missing and crc32(data) != chunk.crc:
            raise UnpackError("its checksum contradicts its content")
        return data

    def _walk(self, stream: BinaryIO, at: int, stop: int, chunk: int = -1) -> int:
        """Take what the records from `at` on hold; return where they break off, `stop` if nowhere."""
        with suppress(*BROKEN):
            while at < stop:
                stream.seek(at)
                behind = self._take_record(stream, stop, chunk)
                if behind > stop:
                    # Only a chunk is taken that is not all there, and it has told where it breaks off.
                    return stop
                at = behind
        return at

    def _take_chunk(self, file: BinaryIO, begin: int, chunk: Chunk) -> None:
        """Take the records of a chunk whose own record begins at a byte."""
        behind = chunk.at + chunk.size
        stop = min(behind, self._bytes)
        try:
            content = self._unpack(file, chunk)
        except BROKEN:
            self._note_damage(begin, stop)
            return
        self._chunks[begin] = chunk
        stopped = self._walk(BytesIO(content), 0, len(content), begin)
        if stopped < len(content) or behind > self._bytes:
            self._note_damage(chunk.at + stopped if chunk.compression in ("", "none") else begin, stop)
        self._behind_messages = stop

    def _take_message(self, message: FoundMessage) -> None:
        self._found.append(message)
        if message.chunk < 0:
            self._behind_messages = message.at + message.size

    def _note_damage(self, byte: int, stop: int) -> None:
        self._damaged.append(byte)
        self.skipped_bytes += stop - byte

    @abstractmethod
    def _start(self, file: BinaryIO) -> int:
        """Return where the first record begins."""

    @abstractmethod
    def _take_record(self, stream: BinaryIO, stop: int, chunk: int) -> int:
        """Take what the record that begins here holds; return where the next begins.

        Raises:
            One of BROKEN: It is no record, or ends behind `stop` and is no chunk.
        """


class RebuiltBag1(RebuiltBag):
    """A ROS 1 bag."""

    def _start(self, file: BinaryIO) -> int:
        if file.readline() != b"#ROSBAG V2.0\n":
            raise ReaderError("is of another version than 2.0")
        at = file.tell()
        if Header.read(file, RecordType.BAGHEADER).get("encryptor"):
            raise ReaderError("is encrypted")
        return at

    def _take_record(self, stream: BinaryIO, stop: int, chunk: int) -> int:
        begin = stream.tell()
        check_inside(begin + 4 + read_uint32(stream), stop)
        stream.seek(begin)
        header = Header.read(stream)
        kind, sized = header.get_uint8("op"), stream.tell()
        size = read_uint32(stream)
        at = stream.tell()
        if kind == RecordType.CHUNK and chunk < 0:
            self._take_chunk(stream, begin, Chunk(at, size, header.get_string("compression")))
            return at + size
        check_inside(at + size, stop)
        if kind == RecordType.MSGDATA:
            time_ns, connection = header.get_time("time"), header.get_uint32("conn")
            self._take_message(FoundMessage(time_ns, connection, chunk, at, size))
        elif kind == RecordType.CONNECTION:
            stream.seek(sized)
            msgtype = Header.read(stream).get_string("type")
            self._topics[header.get_uint32("conn")] = normalize(header.get_string("topic")), msgtype
        return at + size


class RebuiltMcap(RebuiltBag):
    """An MCAP file of ROS 2."""

    def _start(self, file: BinaryIO) -> int:
        self._schemas: dict[int, str] = {}
        _, kind, size = struct.unpack("<8sBQ", read_exact(file, 17))
        at = file.tell()
        if kind != 1 or read_string(file) != "ros2":
            raise Reader2Error("its profile is not ros2")
        return at + int(size)

    def _take_record(self, stream: BinaryIO, stop: int, chunk: int) -> int:
        begin = stream.tell()
        kind, size = struct.unpack("<BQ", read_exact(stream, 9))
        if kind == 0:
            raise Reader2Error("zeros are no record")
        at = begin + 9
        behind = int(at + size)
        if kind == MCAP_CHUNK and chunk < 0:
            crc = struct.unpack("<QQQI", read_exact(stream, 28))[3]
            compression = read_string(stream)
            (packed,) = struct.unpack("<Q", read_exact(stream, 8))
            at = stream.tell()
            check_inside(at + packed, behind)
            self._take_chunk(stream, begin, Chunk(at, packed, compression, crc))
            # A wrong length of the record is met where the content ends.
            return behind if behind <= stop else int(at + packed)
        check_inside(behind, stop)
        if kind == MCAP_MESSAGE:
            check_inside(at + MCAP_MESSAGE_HEAD, behind)
            channel, _, time_ns = struct.unpack("<HIQ", read_exact(stream, 14))
            data_at = at + MCAP_MESSAGE_HEAD
            self._take_message(FoundMessage(time_ns, channel, chunk, data_at, behind - data_at))
        elif kind == MCAP_SCHEMA:
            (schema,) = struct.unpack("<H", read_exact(stream, 2))
            self._schemas[schema] = read_string(stream)
        elif kind == MCAP_CHANNEL:
            channel, schema = struct.unpack("<HH", read_exact(stream, 4))
            self._topics[channel] = read_string(stream), self._schemas.get(schema, "")
        elif kind == MCAP_DATA_END and chunk < 0:
            return stop
        return behind


def check_inside(behind: int, stop: int) -> None:
    """Raise EOFError where a record ends behind what holds it."""
    if behind > stop:
        raise EOFError


def unpack_bz2(stored: Stored, cut: bool) -> bytes:
    """Return what bzip2 packed; what is there of it where its end is missing."""
    stream = bz2.BZ2Decompressor()
    content = stream.decompress(stored, LARGEST_PAYLOAD)
    if not cut and not stream.eof:
        raise UnpackError(f"ends early or unpacks to more than {LARGEST_PAYLOAD} bytes")
    return content


def unpackers() -> dict[str, Callable[[Stored, bool], Stored]]:
    """Return what unpacks chunks, by the names that ROS 1 and MCAP give to compressions."""
    plain: Callable[[Stored, bool], Stored] = lambda stored, cut: stored  # noqa: E731
    return {"none": plain, "": plain, "bz2": unpack_bz2, "lz4": lz4_unpacker(), "zstd": zstd_unpacker()}

"""The header of AEDAT 4: the line `#!AER-DAT4.0` and the IOHeader, a FlatBuffer with its size before it.

Fields of IOHeader: 0 `compression` int32, 1 `dataTablePosition` int64 (-1 where there is no table, as in
recordings that were not ended properly), 2 `infoNode` string: XML whose nodes say type, sensor and camera of
each stream. Absent fields have their default: 0, -1, nothing. Source: iniVation, "AEDAT file formats".
"""

import struct
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from events.errors import DamagedRecording, UnknownFormat
from events.readers.aedat4_compression import COMPRESSIONS
from events.readers.source import Source

VERSION_LINE = b"#!AER-DAT4.0\r\n"
HEADER_MARK = b"IOHE"
LARGEST_HEADER_BYTES = 1 << 24


@dataclass(frozen=True)
class Stream:
    """One stream of packets.

    Attributes:
        number: What its packets are marked with.
        kind: `EVTS`, `FRME`, `IMUS`, `TRIG` or another type.
        sensor_hw: Height and width in pixels, where given.
        source: Name of the camera, where given.
    """

    number: int
    kind: str
    sensor_hw: tuple[int, int] | None = None
    source: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the stream as plain JSON types."""
        sensor_hw = list(self.sensor_hw) if self.sensor_hw else None
        return {"number": self.number, "kind": self.kind, "sensor_hw": sensor_hw, "source": self.source}


@dataclass(frozen=True)
class Aedat4Header:
    """What the header says.

    Attributes:
        end: First byte of the first packet.
        compression: Position in COMPRESSIONS.
        table_position: Byte of the table of packets, or -1.
        streams: The streams by number; empty where the description is missing or damaged.
    """

    end: int
    compression: int
    table_position: int
    streams: dict[int, Stream] = field(default_factory=dict)


def read_header(source: Source) -> Aedat4Header:
    """Read the header of a file.

    Raises:
        UnknownFormat: It is that of another version, or packed in a way that is not known.
        DamagedRecording: It is cut or damaged.
    """
    line = source.read(0, len(VERSION_LINE))
    if line != VERSION_LINE:
        if VERSION_LINE.startswith(line):
            raise DamagedRecording(f"{source.path}: byte {len(line)}: the file ends inside its header")
        text = line.decode("utf-8", errors="replace").strip()
        raise UnknownFormat(f"{source.path}: first line {text!r}; expected #!AER-DAT4.0")
    start = len(VERSION_LINE)
    size = int.from_bytes(source.read(start, 4), "little")
    end = start + 4 + size
    if size > LARGEST_HEADER_BYTES or end > source.size:
        raise DamagedRecording(
            f"{source.path}: byte {min(end, source.size)}: the file ends inside its header of {size} bytes; "
            "fetch or record it again"
        )
    try:
        return parse_header(source.read(start + 4, size), end, source)
    except struct.error:
        raise DamagedRecording(
            f"{source.path}: byte {start}: the header of {size} bytes is damaged; fetch or record it again"
        ) from None


def parse_header(data: bytes, end: int, source: Source) -> Aedat4Header:
    """Read the IOHeader, which starts behind its size; raises struct.error where it is damaged."""
    if data[4:8] != HEADER_MARK:
        raise DamagedRecording(
            f"{source.path}: byte {len(VERSION_LINE) + 8}: found {data[4:8]!r}, expected {HEADER_MARK!r}; "
            "fetch or record it again"
        )
    table = load("<I", data, 0)
    places = [field_place(data, table, number) for number in range(3)]
    compression = load("<i", data, places[0]) if places[0] else 0
    table_position = load("<q", data, places[1]) if places[1] else -1
    if not 0 <= compression < len(COMPRESSIONS):
        known = ", ".join(f"{number} {name}" for number, name in enumerate(COMPRESSIONS))
        raise UnknownFormat(f"{source.path}: packets packed as number {compression}; known are {known}")
    text = b""
    if places[2]:
        at = places[2] + load("<I", data, places[2])
        text = data[at + 4 : at + 4 + load("<I", data, at)]
    return Aedat4Header(end, compression, table_position, parse_streams(text))


def load(form: str, data: bytes, at: int) -> int:
    """Return the number at a byte; raises struct.error where it is not all there."""
    if at < 0:  # which Python would take for a place counted from the end
        raise struct.error
    return int(struct.unpack_from(form, data, at)[0])


def field_place(data: bytes, table: int, number: int) -> int | None:
    """Return the byte of a field of a FlatBuffer's table; None where it is absent."""
    vtable = table - load("<i", data, table)
    if load("<H", data, vtable) < 6 + 2 * number:
        return None
    offset = load("<H", data, vtable + 4 + 2 * number)
    return table + offset if offset else None


@lru_cache(maxsize=8)  # recordings of one camera mostly have the same
def parse_streams(text: bytes) -> dict[int, Stream]:
    """Return the streams that an info node describes; none where it is no XML.

    Text with declarations is refused, since entities can make a small text endless.
    """
    if b"<!" in text:
        return {}
    try:
        root = ElementTree.fromstring(text.decode("utf-8", errors="replace").strip("\0 \r\n\t"))
    except ElementTree.ParseError:
        return {}
    streams = {}
    for node in root.iter("node"):
        kind = attributes(node).get("typeIdentifier")
        number = node.get("name", "")
        if kind is None or not number.isascii() or not number.isdigit() or int(number) >= 1 << 31:
            continue
        info = next((child for child in node.findall("node") if child.get("name") == "info"), None)
        facts = {} if info is None else attributes(info)
        sizes = [facts.get("sizeY", ""), facts.get("sizeX", "")]
        known = all(size.isascii() and size.isdigit() and 0 < int(size) < 1 << 15 for size in sizes)
        sensor_hw = (int(sizes[0]), int(sizes[1])) if known else None
        streams[int(number)] = Stream(int(number), kind_name(kind), sensor_hw, facts.get("source"))
    return streams


def kind_name(kind: str) -> str:
    """Return the type of a stream, fit for a message whatever the file says."""
    return kind if kind.isascii() and kind.isalnum() and len(kind) <= 16 else "unknown"


def attributes(node: ElementTree.Element) -> dict[str, str]:
    """Return the attributes of a node of DV's configuration tree."""
    return {child.get("key", ""): (child.text or "").strip() for child in node.findall("attr")}

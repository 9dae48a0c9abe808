"""The table of packets at the end of AEDAT 4 files that were ended properly.

A FlatBuffer with its size before it and the letters `FTAB`, packed as packets are. Its one field is a vector
of tables, one for each packet of any stream: 0 `byteOffset` int64 of the payload, 1 `packetInfo` int32
stream and int32 size, 2 `numElements` int64, 3 `timestampStart` and 4 `timestampEnd` int64, of its elements.
Old versions of DV leave out fields 2 to 4. Source: iniVation, "AEDAT file formats"; checked with DV's files.

It is trusted to say where a time is only where its packets fill the file without gaps, and what it says of a
packet is compared when that is read (`events.readers.aedat4_seek`).
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from events.readers.aedat4_compression import LARGEST_PAYLOAD, UnpackError, unpacker
from events.readers.aedat4_header import Aedat4Header
from events.readers.aedat4_payload import EVENT_BYTES, find_vector, load_uint16, load_uint32
from events.readers.source import Source

TABLE_MARK = int.from_bytes(b"FTAB", "little")
FIELDS = 5
PACKET_HEADER_BYTES = 8
# More bytes than one of a packed packet stands for where there are events in it.
LARGEST_RATIO = 255


class TableRows(NamedTuple):
    """Rows of the table for each packet, int64, shape [n].

    Attributes:
        position: Byte of the packet's header.
        stream: Its stream.
        size: Bytes of its payload.
        events: Elements in it.
        first_us, last_us: Their smallest and largest time.
    """

    position: np.ndarray
    stream: np.ndarray
    size: np.ndarray
    events: np.ndarray
    first_us: np.ndarray
    last_us: np.ndarray


@njit(cache=True, nogil=True)
def load_int64(raw: np.ndarray, at: int) -> int:
    """Return the signed number in eight bytes."""
    return int(np.int64(load_uint32(raw, at)) | (np.int64(load_uint32(raw, at + 4)) << 32))


@njit(cache=True, nogil=True)
def load_rows(raw: np.ndarray, at: int, rows: np.ndarray) -> bool:
    """Fill rows, int64, shape [6, n], from the vector of offsets at a byte; False where one is damaged.

    A field that is absent makes it False, too: without times, a table leads nowhere.
    """
    stop = len(raw)
    for i in range(rows.shape[1]):
        place = at + 4 * i
        table = place + load_uint32(raw, place)
        if table + 4 > stop:
            return False
        back = load_uint32(raw, table)
        vtable = table - (back - ((back & 0x80000000) << 1))
        if vtable < 0 or vtable + 4 + 2 * FIELDS > stop or load_uint16(raw, vtable) < 4 + 2 * FIELDS:
            return False
        for number in range(FIELDS):
            offset = load_uint16(raw, vtable + 4 + 2 * number)
            if offset == 0 or table + offset + 8 > stop:
                return False
            value = load_int64(raw, table + offset)
            if number == 0:
                rows[0, i] = value - PACKET_HEADER_BYTES
            elif number == 1:
                rows[1, i] = value & 0xFFFFFFFF
                rows[2, i] = (value >> 32) & 0xFFFFFFFF
            else:
                rows[number + 1, i] = value
    return True


def read_table(source: Source, header: Aedat4Header) -> TableRows | None:
    """Return the table in order of the file; None where there is none that is whole and fits the file."""
    start = header.table_position
    if not header.end <= start < source.size or source.size - start > LARGEST_PAYLOAD:
        return None
    try:
        stored = source.read(start, source.size - start)
        payload = np.frombuffer(unpacker(header.compression, source.path)(stored, False), np.uint8)
    except UnpackError:
        return None
    at, count = find_vector(payload, 0, len(payload), TABLE_MARK, 4, False)
    rows = np.empty((6, max(count, 0)), np.int64)
    if count <= 0 or not load_rows(payload, at, rows):
        return None
    table = TableRows(*rows[:, np.argsort(rows[0], kind="stable")])
    return table if fills(table, header.end, start) else None


def fills(table: TableRows, start: int, stop: int) -> bool:
    """Whether the packets of a table follow each other from one byte to another, and say possible things."""
    ends = table.position + PACKET_HEADER_BYTES + table.size
    joined = table.position[0] == start and ends[-1] == stop and np.array_equal(ends[:-1], table.position[1:])
    possible = (table.events >= 0) & (table.events <= table.size * LARGEST_RATIO // EVENT_BYTES)
    return bool(joined and np.all(possible) and np.all(table.first_us <= table.last_us))

"""Where packets are in the bytes of an AEDAT 4 file, found by compiled loops.

A packet is int32 stream, int32 size, both little-endian, and `size` bytes: `events.readers.aedat4_payload`.
"""

import numpy as np
from numba import njit

from events.readers.aedat4_payload import (
    EVENTS_MARK,
    SPAN_POSITION,
    SPAN_START,
    SPAN_STOP,
    SPAN_STORED,
    TRIGGERS_MARK,
    load_uint32,
)

HEADER_BYTES = 8
# Bytes from which a packet is recognised: its header, and of its payload the size and the letters.
TELLING_BYTES = 20
FRAME_MARK, IMU_MARK = int.from_bytes(b"FRME", "little"), int.from_bytes(b"IMUS", "little")


@njit(cache=True, nogil=True)
def packet_fits(raw: np.ndarray, at: int, bytes_left: int, magic: int) -> bool:
    """Whether a packet starts at a byte, told by its payload; TELLING_BYTES are there.

    Args:
        raw: Bytes of the file, uint8.
        at: Where.
        bytes_left: From there to the end of the packets.
        magic: With what a packed payload starts; 0 where payloads are not packed.
    """
    size = load_uint32(raw, at + 4)
    if size < TELLING_BYTES - HEADER_BYTES or size > bytes_left - HEADER_BYTES:
        return False
    if magic != 0:
        return load_uint32(raw, at + 8) == magic
    mark = load_uint32(raw, at + 16)
    known = mark in (EVENTS_MARK, TRIGGERS_MARK, FRAME_MARK, IMU_MARK)
    return known and load_uint32(raw, at + 8) + 4 <= size


@njit(cache=True, nogil=True)
def ready_packets(
    raw: np.ndarray,
    at: int,
    stop: int,
    offset: int,
    stream: int,
    most_bytes: int,
    known: np.ndarray,
    passed: np.ndarray,
    spans: np.ndarray,
) -> tuple[int, int, bool]:
    """Find the next packets of a stream that are all there, and pass over those of other known streams.

    Args:
        raw: Bytes of the file, uint8.
        at: First byte of the first packet.
        stop: First byte that is not there.
        offset: Byte of the file at raw[0].
        stream: Number of the stream.
        most_bytes: The last packet is the one with which their payloads have as many bytes as that.
        known: Numbers of the streams that the header tells of, int64, shape [s].
        passed: Packets passed over, of each of these, int64, shape [s]; goes on.
        spans: Filled with where the packets are, shape [k, 4], int64; columns as the decoder names them.

    Returns:
        How many packets were found, the first byte of the packet that is neither found nor passed over, and
        whether all payloads start at a multiple of eight.
    """
    found = 0
    aligned = True
    while found < len(spans) and most_bytes > 0 and at + HEADER_BYTES <= stop:
        number = load_uint32(raw, at)
        size = load_uint32(raw, at + 4)
        if size > stop - at - HEADER_BYTES:
            break
        if number == stream:
            spans[found, SPAN_START] = at + HEADER_BYTES
            spans[found, SPAN_STOP] = at + HEADER_BYTES + size
            spans[found, SPAN_POSITION] = offset + at
            spans[found, SPAN_STORED] = HEADER_BYTES + size
            aligned = aligned and at % 8 == 0
            most_bytes -= size
            found += 1
        else:
            other = 0
            while other < len(known) and known[other] != number:
                other += 1
            if other == len(known):
                break
            passed[other] += 1
        at += HEADER_BYTES + size
    return found, at, aligned


@njit(cache=True, nogil=True)
def find_packet(raw: np.ndarray, at: int, stop: int, bytes_left: int, magic: int, streams: np.ndarray) -> int:
    """Return the first byte at which a packet of one of these streams (of any, if none) starts, or -1."""
    first = at
    while at + TELLING_BYTES <= stop:
        if packet_fits(raw, at, bytes_left - (at - first), magic):
            stream = load_uint32(raw, at)
            if len(streams) == 0:
                if stream < 1 << 16:
                    return at
            elif np.any(streams == stream):
                return at
        at += 1
    return -1

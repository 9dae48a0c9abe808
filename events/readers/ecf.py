"""ECF, the compression of the events in Prophesee's HDF5 files: one chunk of it at a time.

A chunk begins with uint32 `count << 2 | packed_yxp << 1 | packed_xp`, count at most 65535, all integers
little-endian. Then:

- Times: uint64 first time; bytes with a high nibble d below 15 advance the time by d and stand for a run of
  as many events as the low nibble says, or, where that is 15, as the uint16 behind it says. The low nibbles
  of bytes in a row whose high nibble is 15 are a number in base 16, lowest first, which advances the time.
- packed_yxp: for every four events three uint32 of four times 24 bits, y << 12 | x << 1 | p, highest first.
- Else runs of y, uint16 `y << 5 | length`, length 31 where a uint16 with the length follows, and then either
  (packed_xp) for every four events three uint16 of four times 12 bits, x << 1 | p, highest first,
  or uint16 `x << 5 | mask`, each x and then x + 1 + j for every bit 4 - j of the mask, and after these
  runs of p, bytes `p << 7 | length`, length 127 where a uint16 with the length follows.

The encoder fills the last group of four, and the last mask, with what lies behind its events; that is left
out. Time that falls is stored as standing still. Source: prophesee-ai/hdf5_ecf 1.0.1, ecf_codec.cpp.
"""

from typing import Any

import numpy as np
from numba import njit

ECF_FILTER = 0x8ECF
LARGEST_COUNT = 65535
# A mask stands for up to six events, so the last may reach five past the count.
SPARE_EVENTS = 5

# Why a chunk cannot be decoded.
CUT, RUN_TOO_LONG, TIME_TOO_LONG, TOO_MANY = -1, -2, -3, -4
REASONS = {
    CUT: "the chunk ends before its events do",
    RUN_TOO_LONG: "a run is longer than the chunk's events",
    TIME_TOO_LONG: "a time has more than 64 bits",
    TOO_MANY: "the chunk has more than 65535 events",
}


class EcfDecoder:
    """Decodes chunks into memory that the next chunk overwrites.

    Attributes:
        t, x, y, p: Columns of the last chunk: int64 microseconds, uint16, uint16 pixels, uint8 0 or 1; only
            as many of them as `decode` returned are events.
    """

    def __init__(self) -> None:
        size = LARGEST_COUNT + SPARE_EVENTS
        self.t = np.empty(size, np.int64)
        self.x = np.empty(size, np.uint16)
        self.y = np.empty(size, np.uint16)
        self.p = np.empty(size, np.uint8)

    def decode(self, chunk: bytes) -> int:
        """Decode one chunk; return how many events it has, or a key of `REASONS`."""
        return int(decode_chunk(np.frombuffer(chunk, np.uint8), self.t, self.x, self.y, self.p))


@njit(nogil=True, cache=True)
def decode_chunk(raw: np.ndarray, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> int:
    """Decode one chunk, uint8, into columns of at least 65540; return the events or why there are none."""
    if len(raw) < 12:
        return CUT
    header = word32(raw, 0)
    count = header >> 2
    if count > LARGEST_COUNT:
        return TOO_MANY
    at = decode_times(raw, count, t)
    if at >= 0 and header & 2:
        at = decode_yxp(raw, at, count, x, y, p)
    elif at >= 0:
        at = decode_rows(raw, at, count, y)
        if at >= 0 and header & 1:
            at = decode_xp(raw, at, count, x, p)
        elif at >= 0:
            at = decode_masks(raw, at, count, x)
            if at >= 0:
                at = decode_polarities(raw, at, count, p)
    return count if at >= 0 else at


@njit(nogil=True, cache=True, inline="always")
def word16(raw: np.ndarray, at: int) -> Any:
    """Return the uint16 at a byte."""
    return np.int64(raw[at]) | np.int64(raw[at + 1]) << 8


@njit(nogil=True, cache=True, inline="always")
def word32(raw: np.ndarray, at: int) -> Any:
    """Return the uint32 at a byte."""
    return word16(raw, at) | word16(raw, at + 2) << 16


@njit(nogil=True, cache=True)
def decode_times(raw: np.ndarray, count: int, t: np.ndarray) -> int:
    """Decode the times; return the byte after them, or why there is none."""
    now = word32(raw, 4) | word32(raw, 8) << 32
    at = 12
    i = 0
    while i < count:
        if at >= len(raw):
            return CUT
        value = np.int64(raw[at])
        at += 1
        if value >= 0xF0:
            step = value & 15
            shift = 4
            while at < len(raw) and raw[at] >= 0xF0:
                if shift >= 64:
                    return TIME_TOO_LONG
                step |= (np.int64(raw[at]) & 15) << shift
                shift += 4
                at += 1
            now += step
            continue
        length = value & 15
        if length == 15:
            if at + 2 > len(raw):
                return CUT
            length = word16(raw, at)
            at += 2
        if i + length > count:
            return RUN_TOO_LONG
        now += value >> 4
        for _ in range(length):
            t[i] = now
            i += 1
    return at


@njit(nogil=True, cache=True)
def decode_yxp(raw: np.ndarray, at: int, count: int, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> int:
    """Decode y, x and p packed in 24 bits; return the byte after them, or why there is none."""
    if len(raw) - at < (count + 3) // 4 * 12:
        return CUT
    for i in range(0, count, 4):
        first, second, third = word32(raw, at), word32(raw, at + 4), word32(raw, at + 8)
        at += 12
        for j in range(4):
            if j == 0:
                value = first >> 8
            elif j == 1:
                value = (first & 0xFF) | (second >> 16) << 8
            elif j == 2:
                value = (second & 0xFFFF) | (third >> 24) << 16
            else:
                value = third & 0xFFFFFF
            y[i + j] = (value >> 12) & 0x7FF
            x[i + j] = (value >> 1) & 0x7FF
            p[i + j] = value & 1
    return at


@njit(nogil=True, cache=True)
def decode_rows(raw: np.ndarray, at: int, count: int, y: np.ndarray) -> int:
    """Decode runs of y; return the byte after them, or why there is none."""
    i = 0
    while i < count:
        if at + 2 > len(raw):
            return CUT
        value = word16(raw, at)
        at += 2
        length = value & 31
        if length == 31:
            if at + 2 > len(raw):
                return CUT
            length = word16(raw, at)
            at += 2
        if i + length > count:
            return RUN_TOO_LONG
        for _ in range(length):
            y[i] = value >> 5
            i += 1
    return at


@njit(nogil=True, cache=True)
def decode_xp(raw: np.ndarray, at: int, count: int, x: np.ndarray, p: np.ndarray) -> int:
    """Decode x and p packed in 12 bits; return the byte after them, or why there is none."""
    if len(raw) - at < (count + 3) // 4 * 6:
        return CUT
    for i in range(0, count, 4):
        first, second, third = word16(raw, at), word16(raw, at + 2), word16(raw, at + 4)
        at += 6
        for j in range(4):
            if j == 0:
                value = first >> 4
            elif j == 1:
                value = (first & 0xF) | (second >> 8) << 4
            elif j == 2:
                value = (second & 0xFF) | (third >> 12) << 8
            else:
                value = third & 0xFFF
            x[i + j] = value >> 1
            p[i + j] = value & 1
    return at


@njit(nogil=True, cache=True)
def decode_masks(raw: np.ndarray, at: int, count: int, x: np.ndarray) -> int:
    """Decode x with masks of its neighbours; return the byte after them, or why there is none."""
    i = 0
    while i < count:
        if at + 2 > len(raw):
            return CUT
        value = word16(raw, at)
        at += 2
        column = value >> 5
        x[i] = column
        i += 1
        for j in range(5):
            if value & (16 >> j):
                x[i] = column + j + 1
                i += 1
    return at


@njit(nogil=True, cache=True)
def decode_polarities(raw: np.ndarray, at: int, count: int, p: np.ndarray) -> int:
    """Decode runs of p; return the byte after them, or why there is none."""
    i = 0
    while i < count:
        if at >= len(raw):
            return CUT
        value = np.int64(raw[at])
        at += 1
        length = value & 127
        if length == 127:
            if at + 2 > len(raw):
                return CUT
            length = word16(raw, at)
            at += 2
        if i + length > count:
            return RUN_TOO_LONG
        for _ in range(length):
            p[i] = value >> 7
            i += 1
    return at

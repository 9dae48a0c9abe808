"""The bytes of a file in order, through one buffer that is used again and again."""

import os
from typing import Any

import numpy as np
from numba import njit, types

from events.readers.source import Source, open_descriptor

# Bytes read at a time: enough that the call costs nothing, few enough to stay in the cache.
READ_BYTES = 1 << 19
# The same where each read takes a call of a compiled loop: two threads then wait for each other less often.
# More than that takes one thread alone longer, but by files whose events are as long as ours.
LONG_READ_BYTES = 1 << 20
LONGEST_READ_BYTES = 1 << 21

# ssize_t pread(int, void *, size_t, off_t), of the C library.
pread: Any = types.ExternalFunction("pread", types.intp(types.intc, types.uintp, types.uintp, types.int64))


@njit(cache=True, nogil=True)
def read_on(descriptor: int, raw: np.ndarray, stop: int, arrived: int, end: int) -> int:
    """Read once into the free end of a window's buffer, within a compiled loop that needs no Python.

    Args:
        descriptor: Of the window, not -1.
        raw: Its buffer, shape [n], uint8.
        stop: First byte in it not yet read.
        arrived: Byte of the file that belongs there.
        end: First byte of the file that is not to be read.

    Returns:
        How many bytes were read; 0 or less where `ByteWindow.have` is to try, and to say what is wrong.
    """
    count = min(len(raw) - stop, end - arrived)
    return int(pread(descriptor, raw.ctypes.data + np.uintp(stop), np.uintp(count), arrived))


class ByteWindow:
    """A window that moves over a file.

    `raw[at:stop]` is read and not yet used. What was a multiple of eight bytes from the start of the window
    stays one, so that records of four or eight bytes stay aligned in memory.

    Attributes:
        raw: The buffer, shape [n], uint8; another array after it had to grow.
        at: First byte in it not yet used.
        stop: First byte in it not yet read.
        end: First byte of the file that is not to be read, or not there.
    """

    def __init__(
        self, source: Source, start: int, end: int | None = None, *, read_bytes: int = READ_BYTES
    ) -> None:
        """Stand before a byte of the file; `end` is the first byte no longer to be read."""
        self.at = 0
        self.stop = 0
        self._source = source
        self._next = start  # byte of the file that belongs at raw[stop]
        self.end = source.size if end is None else end
        # Small files get a small buffer: the first touch of new memory takes longer than reading into it.
        self.raw = np.empty(min(read_bytes, max(self.end - start, 0)) + 8, np.uint8)
        self._descriptor: int | None = None

    def close(self) -> None:
        """Close the file; call it once done."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def position(self) -> int:
        """Byte of the file that comes next."""
        return self._next - (self.stop - self.at)

    @property
    def arrived(self) -> int:
        """Bytes of the file up to the last that was read."""
        return self._next

    @property
    def left(self) -> int:
        """Bytes of the file that are not yet used."""
        return self.end - self.position

    @property
    def descriptor(self) -> int:
        """File open at the next bytes, for `read_on`; -1 where there are none, or they come otherwise."""
        if self._source.open_ended or not len(self._source.head) <= self._next < self.end:
            return -1
        if self._descriptor is None:
            self._descriptor = open_descriptor(self._source.path)
        return self._descriptor

    def go_on(self, at: int, stop: int, arrived: int) -> None:
        """Stand where a compiled loop stopped that has called `read_on`."""
        self.at, self.stop, self._next = at, stop, arrived

    def have(self, wanted: int) -> bool:
        """Read on until `wanted` bytes are there; False, with what is left, where the file ends before."""
        if self.stop - self.at >= wanted:
            return True
        self._make_room(min(wanted, self.left))
        while self.stop - self.at < wanted and self._next < self.end:
            self._read_on()
        return self.stop - self.at >= wanted

    def skip(self, count: int) -> int:
        """Pass over bytes, without reading them but where they arrive live; return how many there were."""
        count = min(count, self.left)
        if self._source.open_ended:
            return self._read_over(count)
        inside = min(count, self.stop - self.at)
        self.at += inside
        if count > inside:
            self._next += count - inside
            self.at = self.stop = self.at % 8
        return count

    def _read_over(self, count: int) -> int:
        """Pass over bytes by reading them, as far as they come; return how many there were."""
        passed = 0
        while passed < count and self.have(1):
            step = min(count - passed, self.stop - self.at)
            self.at += step
            passed += step
        return passed

    def realign(self) -> None:
        """Move what is left to the front: what follows then starts at a multiple of eight bytes."""
        left = self.stop - self.at
        self.raw[:left] = self.raw[self.at : self.stop]
        self.at, self.stop = 0, left

    def _make_room(self, wanted: int) -> None:
        """Move what is left to the front of a buffer that holds `wanted` bytes and some more."""
        shift = self.at - self.at % 8
        if len(self.raw) < wanted + 8:
            raw = np.empty(wanted + READ_BYTES, np.uint8)
            raw[: self.stop - shift] = self.raw[shift : self.stop]
            self.raw = raw
        elif shift:
            self.raw[: self.stop - shift] = self.raw[shift : self.stop]
        self.at -= shift
        self.stop -= shift

    def _read_on(self) -> None:
        """Read once into the free end of the buffer."""
        count = min(len(self.raw) - self.stop, self.end - self._next)
        target = self.raw[self.stop : self.stop + count]
        head = self._source.head
        if self._next < len(head):
            piece = np.frombuffer(head, np.uint8, offset=self._next)[:count]
            target[: len(piece)] = piece
            done = len(piece)
        elif self._source.open_ended:
            done = self._source.read_into(target.data, self._next)
        else:
            done = os.preadv(self.descriptor, [target.data], self._next)
        if done == 0:  # the end of a live source, or somebody cut the file while it was read
            self.end = self._next
        self.stop += done
        self._next += done

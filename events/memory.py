"""Memory for whole readings, which is used again once nobody refers to it.

The kernel zeroes memory before a process gets it. That takes 2 to 3 ns for the 16 bytes of an event, about as
long as decoding one, and the C library hands much memory back as soon as it is freed. So memory that was read
into stays here, idle, for the next reading. It is marked as the kernel's to take when memory runs short
(MADV_FREE, madvise(2)), though it counts as resident until then.
"""

import mmap
import os
import sys
import weakref
from contextlib import suppress
from threading import Lock

import numpy as np

from events.errors import ConfigError

# The most megabytes (1 << 20 bytes) that lie idle in a process; 0 keeps none.
VARIABLE = "EVENTS_IDLE_MEMORY_MB"
DEFAULT_MEGABYTES = 512

# Freed memory below this is kept by the C library itself: glibc, DEFAULT_MMAP_THRESHOLD_MAX in mallopt(3).
SMALLEST = 32 << 20
# Blocks are whole huge pages (x86-64, and Arm with pages of 4 KiB), so that moving one need not split any.
HUGE_PAGE = 2 << 20

_idle: list[mmap.mmap] = []
# Nobody waits for it: a finaliser may run within these very functions, and a fork while it is held.
_lock = Lock()


class _Lease:
    """Holds a block for as long as it exists; it is the `base` behind every array and view of the memory.

    Not an array itself, for NumPy has views refer to the first array behind them, not to all.
    """

    def __init__(self, block: mmap.mmap, size: int) -> None:
        """Stand for the first `size` bytes of a block."""
        self.block = block
        address = np.frombuffer(block, np.uint8).ctypes.data
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": (size,),
            "data": (address, False),
        }


def allocate(size: int) -> np.ndarray:
    """Return memory, shape [size], uint8, holding anything.

    It comes back here when the array and all views of it are gone.

    Raises:
        ConfigError: The environment variable is no number of megabytes.
        MemoryError: There is not so much.
    """
    if size < SMALLEST or size > most_idle() or sys.platform != "linux":
        return np.empty(size, np.uint8)
    try:
        block = _block(-(-size // HUGE_PAGE) * HUGE_PAGE)
    except OSError:  # NumPy says how much it was
        return np.empty(size, np.uint8)
    lease = _Lease(block, size)
    weakref.finalize(lease, _give_back, block).atexit = False
    return np.asarray(lease)


def most_idle() -> int:
    """Return how many bytes may lie idle."""
    text = os.environ.get(VARIABLE, str(DEFAULT_MEGABYTES))
    if not text.isdecimal():
        raise ConfigError(
            f"environment variable {VARIABLE}={text!r} must be a number of megabytes, 0 for none"
        )
    return int(text) << 20


def release() -> None:
    """Hand all idle memory back to the system."""
    if _lock.acquire(blocking=False):
        _idle.clear()
        _lock.release()


def _block(size: int) -> mmap.mmap:
    """Return a block of that size: the idle one of the nearest, cut or grown, or a new one."""
    if _lock.acquire(blocking=False):
        try:
            block = min(_idle, key=lambda idle: abs(len(idle) - size), default=None)
            if block is not None:
                _idle.remove(block)
        finally:
            _lock.release()
        if block is not None:
            if len(block) != size:
                block.resize(size)
            return block
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without huge pages
        block.madvise(mmap.MADV_HUGEPAGE)
    return block


def _give_back(block: mmap.mmap) -> None:
    """Keep a block that nobody refers to any more, and no more than may lie idle."""
    with suppress(OSError):  # a kernel that does not take memory so
        block.madvise(mmap.MADV_FREE)
    if _lock.acquire(blocking=False):
        try:
            _idle.append(block)
            while sum(map(len, _idle)) > most_idle():
                del _idle[0]
        finally:
            _lock.release()

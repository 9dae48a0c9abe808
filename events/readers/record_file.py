"""Decoding records of fixed length from an open file, many blocks of bytes in one compiled call.

A call per block would let go of Python's lock and wait for it again every tenth of a millisecond, and two
threads that read two files would spend a fifth of their time on waking each other.
"""

import numpy as np
from numba import njit

from events.readers.byte_window import read_on
from events.readers.record_decode import decode

# Times a call reads on at most: some 16 MiB, so that Ctrl-C is heard soon.
MOST_READS = 32


@njit(cache=True, nogil=True)
def decode_file(
    descriptor: int,
    raw: np.ndarray,
    at: int,
    stop: int,
    arrived: int,
    end: int,
    out: np.ndarray,
    bits: tuple[int, ...],
    clock: np.ndarray,
    counts: np.ndarray,
    policy: int,
    enough: int,
) -> tuple[int, int, int, int, bool]:
    """Decode records of a `ByteWindow`, and read on, until the room for events runs out or damage is met.

    It also ends where nothing can be read here: the window then reads on, or says that the file has ended.

    Args:
        descriptor, raw, at, stop, arrived, end: Of the window; `raw` starts at a multiple of eight in memory.
        out: Room for events, shape [2 m], int64.
        bits, clock, counts, policy: As `decode` takes them.
        enough: Bytes that SALVAGE looks at around a doubtful record, where the file has so many.

    Returns:
        `at`, `stop` and `arrived` as they are then, events written, and whether a damaged record is there.
    """
    n = 0
    damaged = False
    for _ in range(MOST_READS):
        here = enough if arrived < end else -enough
        at, written, damaged = decode(
            raw, at, stop, out[2 * n :], bits, clock, counts, policy, arrived - stop, here
        )
        n += written
        if damaged or 2 * n == len(out) or descriptor < 0:
            break
        left = stop - at  # less than a record
        raw[:left] = raw[at:stop]
        at, stop = 0, left
        done = read_on(descriptor, raw, stop, arrived, end)
        if done <= 0:
            break
        stop += done
        arrived += done
    return at, stop, arrived, n, damaged

"""Spikes to a few bits each and back, on the CPU."""

import numpy as np
from numba import njit

from snn.neurons.kernels.threads import run_ranges

# Values looked at before their codes are joined into bytes; a multiple of 8, and small enough for the cache.
BLOCK = 2048
# Blocks below which a second thread costs more than it brings.
BLOCKS_PER_THREAD = 64


def pack(spikes: np.ndarray, book: np.ndarray, packed: np.ndarray, *, bits: int) -> int:
    """Write the place in `book` of every spike, `bits` bits each, the first one in the lowest bits.

    Args:
        spikes: Shape [n].
        book: The values a spike may have, at most 2**bits, dtype of the spikes.
        packed: Written; uint8, shape [ceil(n * bits / 8)].
        bits: 1, 2 or 4.

    Returns:
        How many spikes are not in the book.
    """
    blocks = -(-len(spikes) // BLOCK)
    outside = run_ranges(_pack, (spikes, book, packed, bits), blocks, most=blocks // BLOCKS_PER_THREAD)
    return int(sum(outside))


def unpack(packed: np.ndarray, values_of_byte: np.ndarray, spikes: np.ndarray) -> None:
    """Write the spikes behind packed bytes.

    Args:
        packed: Bytes as `pack` writes them.
        values_of_byte: The spikes behind every byte, shape [256, spikes in a byte], dtype of the spikes.
        spikes: Written; shape [n].
    """
    blocks = -(-len(packed) // BLOCK)
    run_ranges(_unpack, (packed, values_of_byte, spikes), blocks, most=blocks // BLOCKS_PER_THREAD)


@njit(cache=True, nogil=True)
def _pack(spikes: np.ndarray, book: np.ndarray, packed: np.ndarray, bits: int, begin: int, end: int) -> int:
    per_byte, outside = 8 // bits, 0
    for block in range(begin, end):
        first = block * BLOCK
        part = spikes[first : first + BLOCK]
        codes, known = np.zeros(BLOCK, np.uint8), np.zeros(BLOCK, np.uint8)
        # One value of the book after the other, and codes before bytes: these loops run on vectors.
        for code in range(len(book)):
            value = book[code]
            for i in range(len(part)):
                same = np.uint8(part[i] == value)
                codes[i] += np.uint8(code) * same
                known[i] |= same
        strange = len(part)
        for i in range(len(part)):
            strange -= known[i]
        outside += strange
        first_byte = first // per_byte
        for i in range((len(part) + per_byte - 1) // per_byte):
            byte = np.uint8(0)
            for k in range(per_byte):
                byte |= np.uint8(codes[i * per_byte + k] << np.uint8(k * bits))
            packed[first_byte + i] = byte
    return outside


@njit(cache=True, nogil=True)
def _unpack(packed: np.ndarray, values_of_byte: np.ndarray, spikes: np.ndarray, begin: int, end: int) -> None:
    per_byte = values_of_byte.shape[1]
    whole = len(spikes) // per_byte
    for i in range(begin * BLOCK, min(whole, end * BLOCK)):
        values = values_of_byte[packed[i]]
        for k in range(per_byte):
            spikes[i * per_byte + k] = values[k]
    if end * BLOCK >= len(packed):
        for i in range(whole * per_byte, len(spikes)):
            spikes[i] = values_of_byte[packed[whole], i - whole * per_byte]

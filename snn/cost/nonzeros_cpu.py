"""`count_uses`, also summed, and `look_at` of `snn.cost.nonzeros` in one pass over memory, on the CPU.

Values are looked at as whole numbers of 32 bits: sign, 8 bits of exponent, 23 of mantissa (IEEE 754). Sizes
are then in the same order as the numbers, and numbers that differ by a power of two have the same mantissa.
"""

import math
import struct
from functools import cache

import numpy as np
import torch
from numba import njit
from torch import Tensor

from snn.cost.nonzeros import Seen
from snn.neurons.kernels.threads import run_ranges

SIZE, MANTISSA, SIGN = np.uint32(0x7FFFFFFF), np.uint32(0x007FFFFF), 0x80000000
# Of a half, the smallest mantissa; and the size of a mantissa's last bit.
HALF, LAST_BIT = 0.5, 2.0**-24
NOTHING, HIGHEST = np.uint32(0), np.uint32(0xFFFFFFFF)
# Elements added up in 32 bits: enough for kernels of up to 181 x 181.
CHUNK = 1 << 16
# Elements below which a second thread costs more than it brings.
WORK_PER_THREAD = 1 << 17


def count_and_look(x: Tensor, uses: Tensor) -> tuple[Tensor, Seen]:
    """Return `count_uses(x, uses)` and `look_at(x)` for float32 x [N, C, H, W] on the CPU."""
    x, counts = x.detach(), np.empty(x.shape[:2], np.int64)
    if x.is_contiguous():
        kernel, values = _count_planes, x.flatten(2)
    else:
        x = x.contiguous(memory_format=torch.channels_last)
        kernel, values = _count_rows, x.permute(0, 2, 3, 1).flatten(1, 2)
    arguments = (values.numpy().view(np.uint32), uses.flatten().numpy(), counts)
    parts = run_ranges(kernel, arguments, len(x), most=x.numel() // WORK_PER_THREAD)
    return torch.from_numpy(counts), _seen(parts)


def sum_and_look(x: Tensor, uses: Tensor) -> tuple[int, Seen]:
    """Return the sum of `count_uses(x, uses)` and `look_at(x)` for float32 x [N, C, H, W] on the CPU.

    `uses` is remembered: hand in the same tensor for the same layer, and leave it as it is.
    """
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    values = x.detach().numpy().view(np.uint32)
    values = values.transpose(0, 2, 3, 1) if last else values
    arguments = (values.reshape(len(values), -1), _of_elements(uses, x.shape[1], last=last))
    parts = run_ranges(_sum_samples, arguments, len(x), most=x.numel() // WORK_PER_THREAD)
    return sum(part[0] for part in parts), _seen([part[1:] for part in parts])


@cache
def _of_elements(uses: Tensor, channels: int, *, last: bool) -> np.ndarray:
    """Return the uses [H, W] of every element of a sample, in the order they lie in memory."""
    return np.repeat(uses.numpy(), channels) if last else np.tile(uses.numpy().ravel(), channels)


def _seen(parts: list[tuple[int, int, int, int, int]]) -> Seen:
    """Return what was seen, for the smallest size less 1, largest size, highest number, both mantissas."""
    below, largest, highest, lowest_mantissa, highest_mantissa = zip(*parts, strict=True)
    high = max(largest)
    # The smallest of nothing is where sizes less 1 begin again from the top.
    low = min(below) + 1 if high else 0
    sizes = struct.unpack("ff", struct.pack("II", low, high))
    smallest = sizes[0] if high else math.inf
    # Minus zero is the lowest number with a sign, and no negative value.
    negative = float(max(highest) > SIGN)
    mantissas = [HALF + LAST_BIT * bits for bits in (min(lowest_mantissa), max(highest_mantissa))]
    low_mantissa, high_mantissa = mantissas if high else (math.inf, 0.0)
    return Seen((-smallest, sizes[1], negative, -low_mantissa, high_mantissa))


@njit(cache=True, nogil=True)
def _sum_samples(
    bits: np.ndarray, uses: np.ndarray, begin: int, end: int
) -> tuple[int, int, int, int, int, int]:
    """Add up samples begin to end of bits [N, elements]."""
    below, largest, highest, low, high = HIGHEST, NOTHING, NOTHING, HIGHEST, NOTHING
    total = np.int64(0)
    for n in range(begin, end):
        for start in range(0, len(uses), CHUNK):
            row, times, used = bits[n, start : start + CHUNK], uses[start : start + CHUNK], np.int32(0)
            for i in range(len(row)):
                size = np.uint32(row[i] & SIZE)
                used = np.int32(used + (times[i] if size != NOTHING else np.int32(0)))
                below = min(below, np.uint32(size - np.uint32(1)))
                largest, highest = max(largest, size), max(highest, row[i])
                mantissa = np.uint32(row[i] & MANTISSA)
                low = min(low, mantissa if size != NOTHING else HIGHEST)
                high = max(high, mantissa)
            total += used
    return int(total), int(below), int(largest), int(highest), int(low), int(high)


@njit(cache=True, nogil=True)
def _count_planes(
    bits: np.ndarray, uses: np.ndarray, counts: np.ndarray, begin: int, end: int
) -> tuple[int, int, int, int, int]:
    """Count samples begin to end of bits [N, C, H * W]."""
    below, largest, highest, low, high = HIGHEST, NOTHING, NOTHING, HIGHEST, NOTHING
    for n in range(begin, end):
        for c in range(bits.shape[1]):
            row, used = bits[n, c], np.int32(0)
            for i in range(len(row)):
                size = np.uint32(row[i] & SIZE)
                used = np.int32(used + (uses[i] if size != NOTHING else np.int32(0)))
                below = min(below, np.uint32(size - np.uint32(1)))
                largest, highest = max(largest, size), max(highest, row[i])
                mantissa = np.uint32(row[i] & MANTISSA)
                low = min(low, mantissa if size != NOTHING else HIGHEST)
                high = max(high, mantissa)
            counts[n, c] = used
    return int(below), int(largest), int(highest), int(low), int(high)


@njit(cache=True, nogil=True)
def _count_rows(
    bits: np.ndarray, uses: np.ndarray, counts: np.ndarray, begin: int, end: int
) -> tuple[int, int, int, int, int]:
    """Count samples begin to end of bits [N, H * W, C]."""
    below, largest, highest, low, high = HIGHEST, NOTHING, NOTHING, HIGHEST, NOTHING
    used = np.zeros(bits.shape[2], np.int32)
    for n in range(begin, end):
        used[:] = 0
        for i in range(bits.shape[1]):
            row, times = bits[n, i], uses[i]
            for c in range(len(row)):
                size = np.uint32(row[c] & SIZE)
                used[c] += times if size != NOTHING else np.int32(0)
                below = min(below, np.uint32(size - np.uint32(1)))
                largest, highest = max(largest, size), max(highest, row[c])
                mantissa = np.uint32(row[c] & MANTISSA)
                low = min(low, mantissa if size != NOTHING else HIGHEST)
                high = max(high, mantissa)
        for c in range(len(used)):
            counts[n, c] = used[c]
    return int(below), int(largest), int(highest), int(low), int(high)

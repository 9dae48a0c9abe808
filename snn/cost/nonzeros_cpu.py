"""`count_uses` and `look_at` of `snn.cost.nonzeros` in one pass over memory, on the CPU.

Values are looked at as whole numbers of 32 bits: sign, 8 bits of exponent, 23 of mantissa (IEEE 754). Sizes
are then in the same order as the numbers, and a power of two has no bit in its mantissa.
"""

import numpy as np
import torch
from numba import njit
from torch import Tensor

from snn.cost.nonzeros import Seen
from snn.neurons.kernels.threads import run_ranges

SIZE, MANTISSA = np.int32(0x7FFFFFFF), np.int32(0x007FFFFF)
NOTHING, HIGHEST = np.int32(0), np.int32(0x7FFFFFFF)
# Elements below which a second thread costs more than it brings.
WORK_PER_THREAD = 1 << 17


def can_count(x: Tensor) -> bool:
    """Return whether a tensor [N, C, H, W] is one that is counted here."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() > 0


def count_and_look(x: Tensor, uses: Tensor) -> tuple[Tensor, Seen]:
    """Return `count_uses(x, uses)` and `look_at(x)` for float32 x [N, C, H, W] on the CPU."""
    x, counts = x.detach(), np.zeros(x.shape[:2], np.int64)
    if x.is_contiguous():
        kernel, bits = _count_planes, x.flatten(2)
    else:
        x = x.contiguous(memory_format=torch.channels_last)
        kernel, bits = _count_rows, x.permute(0, 2, 3, 1).flatten(1, 2)
    arguments = (bits.view(torch.int32).numpy(), uses.flatten().numpy(), counts)
    parts = np.array(run_ranges(kernel, arguments, len(x), most=x.numel() // WORK_PER_THREAD), np.int64)
    return torch.from_numpy(counts), _seen(parts)


def _seen(parts: np.ndarray) -> Seen:
    """Return what was seen, for the smallest and largest size and all bits of mantissas and signs."""
    sizes = np.array([parts[:, 0].min(), parts[:, 1].max()], np.int32).view(np.float32)
    smallest = float("inf") if sizes[1] == 0 else float(sizes[0])
    negative, rough = float((parts[:, 3] < 0).any()), float((parts[:, 2] != 0).any())
    return Seen(*(torch.tensor(number) for number in (smallest, float(sizes[1]), negative, rough)))


@njit(cache=True, nogil=True)
def _count_planes(
    bits: np.ndarray, uses: np.ndarray, counts: np.ndarray, begin: int, end: int
) -> tuple[int, int, int, int]:
    """Count samples begin to end of bits [N, C, H * W]."""
    smallest, largest, mantissas, signs = HIGHEST, NOTHING, NOTHING, NOTHING
    for n in range(begin, end):
        for c in range(bits.shape[1]):
            row, used = bits[n, c], NOTHING
            for i in range(len(row)):
                size = np.int32(row[i] & SIZE)
                there = size != NOTHING
                used = np.int32(used + (uses[i] if there else NOTHING))
                smallest = min(smallest, size if there else HIGHEST)
                largest = max(largest, size)
                mantissas = np.int32(mantissas | (size & MANTISSA))
                signs = np.int32(signs | (row[i] if there else NOTHING))
            counts[n, c] = used
    return int(smallest), int(largest), int(mantissas), int(signs)


@njit(cache=True, nogil=True)
def _count_rows(
    bits: np.ndarray, uses: np.ndarray, counts: np.ndarray, begin: int, end: int
) -> tuple[int, int, int, int]:
    """Count samples begin to end of bits [N, H * W, C]."""
    smallest, largest, mantissas, signs = HIGHEST, NOTHING, NOTHING, NOTHING
    used = np.zeros(bits.shape[2], np.int32)
    for n in range(begin, end):
        used[:] = 0
        for i in range(bits.shape[1]):
            row, times = bits[n, i], uses[i]
            for c in range(len(row)):
                size = np.int32(row[c] & SIZE)
                there = size != NOTHING
                used[c] += times if there else NOTHING
                smallest = min(smallest, size if there else HIGHEST)
                largest = max(largest, size)
                mantissas = np.int32(mantissas | (size & MANTISSA))
                signs = np.int32(signs | (row[c] if there else NOTHING))
        for c in range(len(used)):
            counts[n, c] = used[c]
    return int(smallest), int(largest), int(mantissas), int(signs)

"""Mean and variance per channel on the CPU, in one pass over memory."""

import numpy as np
import torch
from numba import njit
from torch import Tensor

from snn.neurons.kernels.threads import run_ranges

# The samples are added up in so many parts, whatever the number of threads, so that results do not depend
# on it.
PARTS = 32
# Elements converted to float32 at a time where Numba does not know the dtype; they stay in the cache.
CONVERTED = 1 << 18
# Elements below which a second thread costs more than it brings.
WORK_PER_THREAD = 1 << 17


def channel_sums(samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Add up every channel, seen from one of its own values so that nothing is lost to a large mean.

    Args:
        samples: Shape [N, C, H, W], N and the rest at least 1, any floating point dtype, contiguous or
            channels last.

    Returns:
        Origin k, sum of (y - k) and sum of (y - k)^2, each shape [C], float64.
    """
    origin = samples[0, :, 0, 0].to(torch.float64)
    sums = np.zeros((PARTS, 2, samples.shape[1]))
    if samples.dtype in (torch.float32, torch.float64):
        _add(samples, origin, sums)
    else:
        for part in samples.split(max(1, CONVERTED // samples[0].numel())):
            _add(part.float(), origin, sums)
    total = torch.from_numpy(sums.sum(0))
    return origin, total[0], total[1]


def _add(samples: Tensor, origin: Tensor, sums: np.ndarray) -> None:
    count, channels, height, width = samples.shape
    if samples.is_contiguous():
        kernel, y = _add_planes, samples.reshape(count, channels, height * width)
    else:
        kernel, y = _add_rows, samples.permute(0, 2, 3, 1).reshape(-1, channels)
    arguments = (y.numpy(), origin.numpy(), sums)
    run_ranges(kernel, arguments, len(sums), most=samples.numel() // WORK_PER_THREAD)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _add_planes(y: np.ndarray, origin: np.ndarray, sums: np.ndarray, begin: int, end: int) -> None:
    """Add parts begin to end of y [N, C, H * W] to sums [PARTS, 2, C]."""
    parts, count = len(sums), len(y)
    for part in range(begin, end):
        for n in range(part * count // parts, (part + 1) * count // parts):
            for c in range(y.shape[1]):
                row, start, first, second = y[n, c], origin[c], 0.0, 0.0
                for i in range(len(row)):
                    distance = np.float64(row[i]) - start
                    first += distance
                    second += distance * distance
                sums[part, 0, c] += first
                sums[part, 1, c] += second


@njit(cache=True, nogil=True, fastmath={"contract"})
def _add_rows(y: np.ndarray, origin: np.ndarray, sums: np.ndarray, begin: int, end: int) -> None:
    """Add parts begin to end of y [N * H * W, C] to sums [PARTS, 2, C]."""
    parts, count = len(sums), len(y)
    for part in range(begin, end):
        first, second = np.zeros(len(origin)), np.zeros(len(origin))
        for n in range(part * count // parts, (part + 1) * count // parts):
            row = y[n]
            for c in range(len(origin)):
                distance = np.float64(row[c]) - origin[c]
                first[c] += distance
                second[c] += distance * distance
        sums[part, 0] += first
        sums[part, 1] += second

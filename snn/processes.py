"""Processes that train together: each has a share of every batch, and all act as one that has the whole.

Samples are dealt out in turn: of a batch of N samples, process r of W has r, r + W, r + 2 W, ... Inside
`sharing_batch`, what is computed over a batch (statistics of batch normalisation, the mean that a budget of
gates looks at) is computed over all shares, and what is drawn by chance is drawn for the whole batch, from
generators in the same state everywhere, of which each process takes what belongs to its samples. The number
of processes then changes nothing but rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Share:
    """This process's share of a batch.

    Attributes:
        rank, processes: Which of how many processes this is.
        samples: Samples of the batch here.
        total: Samples of the batch in all processes.
    """

    rank: int
    processes: int
    samples: int
    total: int

    @property
    def weights(self) -> list[float]:
        """What part of the batch's samples each process has, by rank; together 1."""
        W = self.processes
        return [len(range(rank, self.total, W)) / self.total for rank in range(W)]

    @property
    def loss_factor(self) -> float:
        """What to multiply a mean over the samples here by, so that its mean over processes is that of all.

        DistributedDataParallel takes the mean of the processes' gradients, however many samples each had.
        """
        return self.samples * self.processes / self.total


_share: Share | None = None


def process_count() -> int:
    """Return how many processes have joined for training; 1 where none have."""
    joined = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if joined else 1


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, the same everywhere; all must call it together."""
    if process_count() == 1:
        return tensor
    total = tensor.clone()
    distributed.all_reduce(total)
    return total


def stack_over_processes(tensor: Tensor) -> Tensor:
    """Return the tensors of all processes, all of one shape, by rank, shape [W, ...]; all call it."""
    parts = [torch.empty_like(tensor) for _ in range(process_count())]
    distributed.all_gather(parts, tensor.contiguous())
    return torch.stack(parts)


def gather_from_processes(value: Any) -> list[Any]:
    """Return what every process has, by rank: plain numbers, names, CPU tensors; all call it together."""
    if process_count() == 1:
        return [value]
    gathered: list[Any] = [None] * process_count()
    distributed.all_gather_object(gathered, value)
    return gathered


@contextmanager
def sharing_batch(samples: int, *, device: torch.device) -> Iterator[Share]:
    """Act on a batch together with the other processes while the block runs; all must enter it together.

    Args:
        samples: Samples of the batch in this process.
        device: Where processes exchange tensors.
    """
    global _share
    processes, total = process_count(), samples
    rank = 0
    if processes > 1:
        rank = distributed.get_rank()
        total = int(sum_over_processes(torch.tensor(samples, device=device)))
    before, share = _share, Share(rank, processes, samples, total)
    _share = share if processes > 1 else None
    try:
        yield share
    finally:
        _share = before


def shared_batch() -> Share | None:
    """Return this process's share of the batch in work; None where it has all of it."""
    return _share


def mean_over_batch(mean: Tensor) -> Tensor:
    """Return the mean over the whole batch for that over the samples here, with the gradient of the latter.

    A loss that is not linear in such a mean then has its right value in every process and, summed over
    processes, each by its share of the samples, its right gradient.
    """
    if _share is None:
        return mean
    whole = sum_over_processes(mean.detach() * (_share.samples / _share.total))
    return mean + (whole - mean.detach())


def draw_uniform(*shape: int, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Tensor:
    """Return numbers from 0 to 1 of shape [T, B, ...], drawn for the whole batch, of the samples here."""
    return of_samples_here(torch.rand(_whole(shape), device=device, dtype=dtype))


def of_samples_here(whole: Tensor) -> Tensor:
    """Return what belongs to the samples here of [T, B, ...] with the whole batch's B."""
    return whole if _share is None else whole[:, _share.rank :: _share.processes]


def whole_shape(x: Tensor) -> tuple[int, ...]:
    """Return the shape that x [T, B, ...] would have with the samples of all processes."""
    return _whole(tuple(x.shape))


def _whole(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape if _share is None else (shape[0], _share.total, *shape[2:])

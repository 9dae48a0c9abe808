"""Mean and variance of every channel over steps and samples, for batch normalisation."""

import torch
from torch import Tensor, nn

from snn.neurons.reference import state_dtype


def channel_statistics(y: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of each channel, in at least float32, added up in one pass.

    On the CPU sums are float64 throughout; on a GPU they are torch's own.

    Args:
        y: Shape [T, B, C, H, W], densely in memory, each step contiguous or channels last.

    Returns:
        Mean and variance, each shape [C].
    """
    samples, dtype = y.detach().flatten(0, 1), state_dtype(y)
    if y.device.type == "cpu":
        from snn.neurons.kernels.statistics_cpu import channel_sums

        origin, first, second = channel_sums(samples)
        offset = first / (samples.numel() / samples.shape[1])
        variance = second / (samples.numel() / samples.shape[1]) - offset.square()
        # Rounding can leave a channel that never changes a little below 0.
        return (origin + offset).to(dtype), variance.clamp(min=0).to(dtype)
    if y.device.type == "cuda":
        mean, inverse = torch.batch_norm_stats(samples, 0.0)
        # With eps 0, torch gives 0 for the inverse of a deviation of 0.
        return mean.to(dtype), torch.where(inverse == 0, 0.0, inverse.pow(-2)).to(dtype)
    variance, mean = torch.var_mean(samples.to(dtype), dim=(0, 2, 3), correction=0)
    return mean, variance


def uses_batch(norm: nn.modules.batchnorm._BatchNorm) -> bool:
    """Return whether a normalisation takes its statistics from the batch."""
    return norm.training or (norm.running_mean is None and norm.running_var is None)


@torch.no_grad()
def update_running(
    norm: nn.modules.batchnorm._BatchNorm, mean: Tensor, variance: Tensor, *, count: int
) -> None:
    """Update running statistics as BatchNorm2d does: with the unbiased variance, by `momentum`.

    Without momentum they are the mean over all batches so far.

    Args:
        norm: What is updated.
        mean: Of the batch, shape [C].
        variance: Of the batch, biased, shape [C].
        count: Values per channel, at least 2.
    """
    share: float | Tensor | None = norm.momentum
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if share is None:
            share = norm.num_batches_tracked.to(mean.dtype).reciprocal()
    if share is None:
        share = 0.0
    for running, batch in ((norm.running_mean, mean), (norm.running_var, variance * (count / (count - 1)))):
        if running is not None:
            running.mul_(1 - share).add_((batch * share).to(running.dtype))

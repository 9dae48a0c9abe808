"""Mean and variance of every channel over steps and samples, for batch normalisation."""

import torch
from torch import Tensor

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

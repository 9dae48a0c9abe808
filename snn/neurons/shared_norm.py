"""Batch normalisation over the shares that several processes have of a batch; alone, torch's own.

torch.nn.SyncBatchNorm does the same on GPUs and nothing on a CPU; this is the same everywhere.
"""

from typing import Any

import torch
from torch import Tensor, nn

from snn.neurons.reference import state_dtype
from snn.neurons.statistics import update_running, uses_batch
from snn.processes import shared_batch, stack_over_processes, sum_over_processes


def whole_batch_statistics(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return mean and biased variance of each channel over the whole batch, and values a channel.

    Means and variances of the shares are put together, in float64, as in Chan, Golub and LeVeque, "Updating
    formulae and a pairwise algorithm for computing sample variances", 1979: nothing cancels.

    Args:
        x: Of the samples here, shape [N, C, ...]; every sample has as many values.

    Returns:
        Both shape [C], at least float32; how many values of a channel they are over.
    """
    share, count = shared_batch(), x.numel() // x.shape[1]
    axes = [axis for axis in range(x.dim()) if axis != 1]
    variance, mean = torch.var_mean(x.detach().to(state_dtype(x)), dim=axes, correction=0)
    if share is None:
        return mean, variance, count
    means, variances = stack_over_processes(torch.stack([mean, variance]).double()).unbind(1)
    weights = torch.tensor(share.weights, dtype=torch.float64, device=x.device)[:, None]
    whole = (weights * means).sum(dim=0)
    spread = (weights * (variances + (means - whole).square())).sum(dim=0)
    return whole.to(mean.dtype), spread.to(mean.dtype), count // share.samples * share.total


class _Normalise(torch.autograd.Function):
    """y = (x - mean) / deviation * weight + bias, where mean and deviation depend on all processes' x.

    With e = (x - mean) / deviation and g = dL/dy * weight,

        dL/dx = (g - mean of g - e * mean of g e) / deviation, means over the whole batch.

    Source: Ioffe and Szegedy, "Batch normalization", ICML 2015, section 3.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, inverse: Tensor, count: int
    ) -> Tensor:
        shape = [1, -1, *[1] * (x.dim() - 2)]
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.count, ctx.shape = count, shape
        scale = weight.to(mean.dtype) * inverse
        y = (x.to(mean.dtype) - mean.view(shape)) * scale.view(shape) + bias.to(mean.dtype).view(shape)
        return y.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse = ctx.saved_tensors
        shape, axes = ctx.shape, [axis for axis in range(x.dim()) if axis != 1]
        even = (x.to(mean.dtype) - mean.view(shape)) * inverse.view(shape)
        grad = grads[0].to(mean.dtype)
        here = torch.stack([grad.sum(dim=axes), (grad * even).sum(dim=axes)])
        first, second = (sum_over_processes(here) / ctx.count).unbind(0)
        scale = weight.to(mean.dtype) * inverse
        grad_x = (grad - first.view(shape) - even * second.view(shape)) * scale.view(shape)
        # Those of weight and bias are summed over processes with all other parameters'.
        return grad_x.to(x.dtype), here[1].to(weight.dtype), here[0].to(weight.dtype), None, None, None


class _Shared(nn.modules.batchnorm._BatchNorm):
    """What both have: torch's own normalisation, but where processes share a batch."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise x [N, C, ...]; running statistics are those of one process with the whole batch."""
        if shared_batch() is None or not uses_batch(self):
            return super().forward(input)
        self._check_input_dim(input)
        mean, variance, count = whole_batch_statistics(input)
        if self.training and self.track_running_stats:
            update_running(self, mean, variance, count=count)
        ones = torch.ones_like(mean) if self.weight is None else self.weight
        zeros = torch.zeros_like(mean) if self.bias is None else self.bias
        return _Normalise.apply(input, ones, zeros, mean, torch.rsqrt(variance + self.eps), count)


class SharedBatchNorm1d(_Shared, nn.BatchNorm1d):
    """BatchNorm1d over the whole batch of all processes, inside `snn.processes.sharing_batch`."""


class SharedBatchNorm2d(_Shared, nn.BatchNorm2d):
    """BatchNorm2d over the whole batch of all processes, inside `snn.processes.sharing_batch`."""


def share_norms(model: nn.Module) -> nn.Module:
    """Make every BatchNorm1d and BatchNorm2d of a model one over the whole batch, and return the model.

    The layers stay the same objects with the same parameters, buffers and hooks.
    """
    kinds: dict[type, type] = {nn.BatchNorm1d: SharedBatchNorm1d, nn.BatchNorm2d: SharedBatchNorm2d}
    for module in model.modules():
        if type(module) in kinds:
            module.__class__ = kinds[type(module)]
    return model

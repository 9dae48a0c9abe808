"""Which channels of a feature map are worth computing, seen with hindsight: what predictors are taught.

Source of both rules: SpQuant-SNN's released code, after Elkerdawy et al., "Fire Together Wire Together",
CVPR 2022.
"""

from typing import cast

import torch
from torch import Tensor, nn

from snn.neurons.shared_norm import whole_batch_statistics
from snn.neurons.statistics import uses_batch

# Shares of the whole that count as nothing. Source: the release.
NOTHING = 1e-5


def channel_scores(activation: Tensor) -> Tensor:
    """Return each channel's share of the activation, shape [N, C], for activations [N, C, H, W].

    A channel's activation is the largest absolute value of its map; shares sum to 1, or are all 0.
    """
    return shares(activation.abs().amax(dim=(2, 3)))


def shares(largest: Tensor) -> Tensor:
    """Return numbers [N, C], none negative, over their sum; 0 where they are all 0."""
    return largest / largest.sum(dim=1, keepdim=True).clamp_min(torch.finfo(largest.dtype).tiny)


def top_mass(scores: Tensor, ratio: float, *, published: bool = False) -> Tensor:
    """Keep the fewest channels that carry a share of the activation, the largest first.

    As released, the channel that reaches the share is left out, so that none is kept where the largest alone
    carries more.

    Args:
        scores: Shares [N, C] of `channel_scores`.
        ratio: Share to keep. 1 keeps what is above 1e-5; as released, less than 0 keeps all.
        published: Leave out the channel that reaches the share.

    Returns:
        1 for kept channels and 0 for others, shape [N, C].
    """
    if ratio >= 1:
        return (scores > NOTHING).to(scores.dtype)
    if ratio < 0:
        return torch.ones_like(scores)
    ordered, order = scores.sort(dim=1, descending=True, stable=True)
    mass = ordered.cumsum(dim=1)
    keep = mass <= ratio + NOTHING if published else (mass - ordered < ratio) & (ordered > NOTHING)
    return torch.zeros_like(scores).scatter(1, order, keep.to(scores.dtype))


def kept_entries(entries: int, ratio: float) -> int:
    """Return how many of so many channels or patches are left where a share is dropped, rounded down."""
    return entries - int(ratio * entries)


def prune_fraction(scores: Tensor, ratio: float) -> Tensor:
    """Drop floor(ratio * C) channels, the smallest first, and every channel of a share up to 1e-5.

    Args:
        scores: Shares [N, C] of `channel_scores`.
        ratio: Share of channels to drop, from 0 to 1.

    Returns:
        1 for kept channels and 0 for others, shape [N, C].
    """
    order = scores.argsort(dim=1, stable=True)
    dropped = scores.shape[1] - kept_entries(scores.shape[1], ratio)
    keep = torch.ones_like(scores).scatter(1, order[:, :dropped], 0.0)
    return keep * (scores > NOTHING).to(scores.dtype)


@torch.no_grad()
def mean_after_norm(y: Tensor, norm: nn.Module) -> Tensor:
    """Return the mean of every map after normalisation and ReLU, shape [N, C], for y [N, C, H, W].

    Arguments as `largest_after_norm`'s. Running statistics stay as they are.
    """
    y = y.float()
    scale, shift = _line(y, norm)
    return torch.relu(torch.addcmul(shift[:, None, None], y, scale[:, None, None])).mean(dim=(2, 3))


@torch.no_grad()
def largest_after_norm(y: Tensor, norm: nn.Module) -> Tensor:
    """Return the largest value of every map after normalisation and ReLU, shape [N, C], for y [N, C, H, W].

    The same as `relu(norm(y)).amax(dim=(2, 3))` without making the normalised maps: a normalisation is a
    straight line for each channel. Running statistics stay as they are.

    Args:
        y: What a convolution gave.
        norm: BatchNorm2d in training or evaluation mode, or an Identity.
    """
    y = y.float()
    low, high = torch.aminmax(y.flatten(2), dim=2)
    scale, shift = _line(y, norm)
    return torch.relu(torch.maximum(scale * low, scale * high) + shift)


def _line(y: Tensor, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return what a normalisation multiplies channels of y [N, C, H, W] by, and what it adds, both [C]."""
    if isinstance(norm, nn.Identity):
        return y.new_ones(y.shape[1]), y.new_zeros(y.shape[1])
    norm = cast(nn.modules.batchnorm._BatchNorm, norm)
    if uses_batch(norm):
        mean, variance, _ = whole_batch_statistics(y)
    else:
        mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    scale = torch.rsqrt(variance + norm.eps)
    shift = -mean * scale
    if norm.weight is not None:
        scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
    return scale, shift

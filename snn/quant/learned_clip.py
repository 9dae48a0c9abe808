"""Weights whose clip is learned: the nearest of a list of levels, which need not be evenly spaced.

Sources: SpQuant-SNN's released code; APoT, Li et al., ICLR 2020, for levels of unequal steps.
"""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from math import lcm
from typing import Any

import torch
from torch import Tensor

from snn.errors import QuantError
from snn.quant.reference import Quantised, largest_code, to_power_of_two


def grid(levels: Sequence[float]) -> tuple[tuple[int, ...], float]:
    """Return sizes from 0 to 1 as whole numbers, and the worth of 1: (0, 0.5, 1) is (0, 1, 2), 0.5.

    Raises:
        QuantError: They do not rise from 0 to 1, or have no common unit of at least 1/127.
    """
    shown = list(levels)
    rising = all(low < high for low, high in pairwise(shown))
    if len(shown) < 2 or not rising or shown[0] != 0 or shown[-1] != 1:
        raise QuantError(f"levels: found {shown}, expected sizes that rise from 0 to 1, such as [0, 0.5, 1]")
    parts = [Fraction(level).limit_denominator(127) for level in shown]
    unit = lcm(*(part.denominator for part in parts))
    if unit > 127 or any(abs(float(part) - level) > 1e-6 for part, level in zip(parts, shown, strict=True)):
        raise QuantError(
            f"levels: found {shown}, expected multiples of one unit, at least 1/127, so that codes fit 8 bits"
        )
    return tuple(int(part * unit) for part in parts), 1 / unit


def uniform_levels(bits: int) -> tuple[float, ...]:
    """Return the sizes 0, 1/N, ... 1 of symmetric levels."""
    N = largest_code(bits)
    return tuple(k / N for k in range(N + 1))


class _LearnedClip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, limit: Tensor, values: Tensor, published: bool) -> Tensor:
        ctx.save_for_backward(x, limit, values)
        ctx.published = published
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, limit, values = ctx.saved_tensors  # limit: alpha as it was used
        share, level = x / limit, values / limit
        outside = share.abs() > 1
        level = level.abs() if ctx.published else level
        grad_alpha = (grad * torch.where(outside, share.sign(), level - share)).sum()
        if ctx.published:
            return grad, 0.1 * grad_alpha, None, None, None
        return torch.where(outside, 0, grad), grad_alpha, None, None, None


@torch.no_grad()
def nearest_level(
    x: Tensor, alpha: Tensor, *, levels: Sequence[float], power_of_two: bool = False
) -> Quantised:
    """Take the nearest of the levels of |x / alpha|, clipped to 1, with the sign of x; a half the lower.

    Args:
        x: Weights, any shape.
        alpha: Clip, a scalar above 0.
        levels: Sizes that rise from 0 to 1.
        power_of_two: Whether the scale is rounded to a power of two.
    """
    whole, unit = grid(levels)
    scale, limit = alpha * unit, alpha
    if power_of_two:
        scale = to_power_of_two(scale)
        limit = scale / unit
    shares = (x / scale).abs_()
    if whole == tuple(range(len(whole))):  # evenly spaced: no need to search
        nearest = shares.sub_(0.5).ceil_().clamp_(0, whole[-1])
    else:
        sizes = torch.tensor(whole, dtype=x.dtype, device=x.device)
        nearest = sizes[torch.bucketize(shares.contiguous(), (sizes[1:] + sizes[:-1]) / 2)]
    codes = torch.copysign(nearest, x)
    return Quantised(codes, scale, limit)


def learned_clip(
    x: Tensor, alpha: Tensor, *, levels: Sequence[float], power_of_two: bool = False, published: bool = False
) -> Tensor:
    """Return the nearest level, with gradients for x and the clip alpha.

        dL/dalpha = sum of g (sign(x) where |x| > alpha, else level - x / alpha)
        dL/dx     = g where |x| <= alpha, else 0

    `published` (SpQuant-SNN): dL/dx = g everywhere, so that weights drift on outside; the level in dL/dalpha
    has lost its sign, which is wrong for negative x; and 0.1 of that.
    """
    codes, scale, limit = nearest_level(x, alpha, levels=levels, power_of_two=power_of_two)
    assert limit is not None
    return _LearnedClip.apply(x, alpha, limit.detach(), codes * scale, published)


@torch.no_grad()
def fit_clip(x: Tensor, *, levels: Sequence[float]) -> Tensor:
    """Return the clip of least squared error among 64 shares of max |x|, a scalar; 0 where all x are 0.

    Of more than 65,536 values evenly spaced ones are looked at.
    """
    x = x.flatten()[:: max(1, x.numel() // 65_536)]
    candidates = x.abs().max() * torch.linspace(1 / 64, 1, 64, device=x.device, dtype=x.dtype)
    errors = [(x - nearest_level(x, alpha, levels=levels).values).square().sum() for alpha in candidates]
    return candidates.take(torch.stack(errors).argmin())

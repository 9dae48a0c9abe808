"""Activations in few bits with a learned clip: RCF, PACT and the released variants, as plain functions.

The networks here hand on spikes, which have few values already; these are for layers that hand on numbers.

    y = round(clip(x / alpha, 0, 1) (2^bits - 1)) alpha / (2^bits - 1)

Sources: PACT, Choi et al., 2018, arXiv 1805.06085; RCF, in APoT, Li et al., ICLR 2020; the released code of
IM-SNN, SpQuant-SNN and LT-SNN.
"""

from typing import Any

import torch
from torch import Tensor

from snn.errors import QuantError


def pact(x: Tensor, alpha: Tensor, *, bits: int, published: bool = False) -> Tensor:
    """Clip to 0 to alpha and round. The clip learns from what it cuts off: sum of g over x >= alpha.

    Args:
        x: Any shape.
        alpha: Clip, a scalar above 0.
        bits: 1 to 16.
        published: Only clip above, as released, where a ReLU comes before; the gradients are the same.
    """
    return _Clipped.apply(x, alpha, _steps(bits), -torch.inf if published else 0.0, 1.0)


def round_clip(x: Tensor, alpha: Tensor, *, bits: int, published: bool = False) -> Tensor:
    """Return `pact`; `published`: with its gradients, but nothing is clipped in the forward pass."""
    bound = torch.inf if published else 0.0
    return _Clipped.apply(x, alpha, _steps(bits), -bound, 1.0 + bound)


def rcf(x: Tensor, alpha: Tensor, *, bits: int, published: bool = False) -> Tensor:
    """Clip and round; the clip learns from the rounding errors too.

        dL/dalpha = sum of g (1 where x > alpha, 0 where x < 0, else y / alpha - x / alpha)
        dL/dx     = g where 0 <= x <= alpha, else 0

    `published`: only clips above; dL/dx = g everywhere; and the code k, up to 2^bits - 1, stands in dL/dalpha
    where y / alpha, up to 1, belongs: a gradient too large by that factor.
    """
    function = _PublishedRCF if published else _RCF
    return function.apply(x, alpha, _steps(bits))


def _steps(bits: int) -> int:
    if type(bits) is not int or not 1 <= bits <= 16:
        raise QuantError(f"bits: found {bits!r}, expected a whole number from 1 to 16")
    return 2**bits - 1


class _Clipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, steps: int, lowest: float, highest: float) -> Tensor:
        ctx.save_for_backward(x, alpha)
        share = (x / alpha).clamp(lowest, highest)
        return (share * steps).round() * (alpha / steps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, alpha = ctx.saved_tensors
        inside = (x >= 0) & (x <= alpha)
        grad_alpha = torch.where(x >= alpha, grad, 0).sum().reshape(alpha.shape)
        return torch.where(inside, grad, 0), grad_alpha, None, None, None


class _RCF(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, steps: int) -> Tensor:
        y = ((x / alpha).clamp(0, 1) * steps).round() / steps
        ctx.save_for_backward(x, alpha, y)
        return y * alpha

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, alpha, y = ctx.saved_tensors
        share = x / alpha
        error = torch.where(share > 1, 1.0, torch.where(share < 0, 0.0, y - share))
        inside = (share >= 0) & (share <= 1)
        return torch.where(inside, grad, 0), (grad * error).sum().reshape(alpha.shape), None


class _PublishedRCF(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, steps: int) -> Tensor:
        share = x / alpha
        codes = (share.clamp(max=1) * steps).round()
        ctx.save_for_backward(share, codes)
        ctx.shape = alpha.shape
        return codes * (alpha / steps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        share, codes = ctx.saved_tensors
        error = torch.where(share.abs() > 1, share.sign(), codes - share)
        return grad, (grad * error).sum().reshape(ctx.shape), None

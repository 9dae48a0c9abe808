"""Weights in few bits: every rule as a plain function, the definition of what a quantised layer computes.

A rule gives integer codes and a scale; the weight a layer computes with is codes * scale, in training,
evaluation and export. Throughout, m = mean |w| and sd = unbiased standard deviation of w, both over a whole
tensor [O, ...] or over each output channel, and N = 2^(bits-1) - 1: codes run from -N to N.

Sources: SAWB, Choi et al., "Bridging the accuracy gap for 2-bit quantized neural networks", 2018, arXiv
1807.06964; the released code of LT-SNN (IJCNN 2024), IM-SNN and SpQuant-SNN, and of the detector of the
same authors; TWN, Li et al., 2016, arXiv 1605.04711; TTQ, Zhu et al., ICLR 2017. `docs/quantisation.md`
says what was published and what differs here.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from snn.errors import QuantError

# Bits of weights that exist; 32 is float.
BITS = (2, 3, 4, 8)

# alpha = first * sd - second * m, by bits, for codes from -N to N.
# 4 and 8 bits: constants 0.077, 1.013 and 0.027, 1.114 of LT-SNN's released code, alpha = (sd - c2 m) / c1.
# 2 bits: IBM's FMS Model Optimizer (SAWB's authors), code 103, levels -alpha, 0, alpha.
# 3 bits: nobody publishes seven levels; fitted here by SAWB's method, see tests/test_snn/test_quant_rules.py.
SAWB: dict[int, tuple[float, float]] = {
    2: (2.6, 1.71),
    3: (6.946, 6.288),
    4: (1 / 0.077, 1.013 / 0.077),
    8: (1 / 0.027, 1.114 / 0.027),
}
# The same for four levels without zero: +-alpha, +-alpha / 3. Source: the detector's released code.
SAWB_FOUR_LEVELS = (3.212, 2.178)


class Quantised(NamedTuple):
    """A weight in few bits.

    Attributes:
        codes: Whole numbers as floats, shape of the weight.
        scale: What a code is worth: a scalar, or [O, 1, ...] for a scale per output channel.
        limit: The gradient passes where |w| <= limit, shape as scale; None passes it everywhere.
    """

    codes: Tensor
    scale: Tensor
    limit: Tensor | None

    @property
    def values(self) -> Tensor:
        """The weight a layer computes with, codes * scale."""
        return self.codes * self.scale


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor, values: Tensor, limit: Tensor | None) -> Tensor:
        ctx.save_for_backward(*((w, limit) if limit is not None else ()))
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = grads
        if not ctx.saved_tensors:
            return grad, None, None
        w, limit = ctx.saved_tensors
        return torch.where(w.abs() <= limit, grad, 0), None, None


def straight_through(w: Tensor, quantised: Quantised) -> Tensor:
    """Return codes * scale, with the gradient of w where |w| <= limit and none elsewhere."""
    return _StraightThrough.apply(w, quantised.values, quantised.limit)


def largest_code(bits: int) -> int:
    """Return N = 2^(bits-1) - 1, the largest code of symmetric levels.

    Raises:
        QuantError: There are no weights of so many bits.
    """
    if bits not in BITS:
        raise QuantError(f"bits: found {bits!r}, expected one of {', '.join(map(str, BITS))}")
    return 2 ** (bits - 1) - 1


def _over(w: Tensor, per_channel: bool) -> tuple[int, ...]:
    """Return the axes statistics are taken over."""
    return tuple(range(1 if per_channel else 0, w.dim()))


@torch.no_grad()
def mean_size(w: Tensor, *, per_channel: bool = False) -> Tensor:
    """Return m = mean |w|, a scalar or [O, 1, ...]."""
    return w.abs().mean(_over(w, per_channel), keepdim=True) if per_channel else w.abs().mean()


@torch.no_grad()
def sawb_alpha(w: Tensor, *, bits: int, per_channel: bool = False) -> Tensor:
    """Return SAWB's clip alpha = first * sd - second * m, a scalar or [O, 1, ...]; above 0 if all is well."""
    largest_code(bits)
    first, second = SAWB[bits]
    return _spread_rule(w, first, second, per_channel)


@torch.no_grad()
def mean_abs_alpha(w: Tensor, *, bits: int, per_channel: bool = False) -> Tensor:
    """Return the clip 2 m of the released rule "asymm", a scalar or [O, 1, ...]."""
    largest_code(bits)
    return 2 * mean_size(w, per_channel=per_channel)


def _spread_rule(w: Tensor, first: float, second: float, per_channel: bool = False) -> Tensor:
    spread = w.std(_over(w, True), keepdim=True) if per_channel else w.std()
    return first * spread - second * mean_size(w, per_channel=per_channel)


@torch.no_grad()
def to_power_of_two(scale: Tensor) -> Tensor:
    """Return the power of two nearest in ratio to each scale, exactly; what is not above 0 as it is."""
    mantissa, exponent = torch.frexp(scale)  # scale = mantissa * 2^exponent, mantissa in [0.5, 1)
    exponent = torch.where(mantissa < 0.5**0.5, exponent - 1, exponent)
    return torch.where(scale > 0, torch.ldexp(torch.ones_like(scale), exponent), scale)


@torch.no_grad()
def symmetric(w: Tensor, alpha: Tensor, *, bits: int, power_of_two: bool = False) -> Quantised:
    """Clip to +-alpha and round to the 2 N + 1 levels in between.

        codes = round(clip(w, -alpha, alpha) N / alpha), a half to the even code
        scale = alpha / N

    Args:
        w: Weights, any shape [O, ...].
        alpha: Clip, above 0; a scalar or [O, 1, ...].
        bits: 2, 3, 4 or 8.
        power_of_two: Whether the scale is first rounded to a power of two, and alpha with it.
    """
    N = largest_code(bits)
    if power_of_two:
        alpha = to_power_of_two(alpha / N) * N
    codes = (w * (N / alpha)).round_().clamp_(-N, N)
    return Quantised(codes, alpha / N, alpha)


def sawb(w: Tensor, *, bits: int, per_channel: bool = False, power_of_two: bool = False) -> Quantised:
    """SAWB from the weights as they are: no state, one scale for training, evaluation and export."""
    alpha = sawb_alpha(w, bits=bits, per_channel=per_channel)
    return symmetric(w, alpha, bits=bits, power_of_two=power_of_two)


def mean_abs(w: Tensor, *, bits: int, per_channel: bool = False, power_of_two: bool = False) -> Quantised:
    """Clip at 2 m, from the weights as they are. LT-SNN's and SpQuant-SNN's "asymm", which is symmetric."""
    alpha = mean_abs_alpha(w, bits=bits, per_channel=per_channel)
    return symmetric(w, alpha, bits=bits, power_of_two=power_of_two)


@torch.no_grad()
def stateful_step(w: Tensor, alpha_before: Tensor, *, bits: int, rule: str) -> tuple[Quantised, Tensor]:
    """One training call of the released framework, which carries alpha from call to call, from 1.

    It clips to the alpha of the call before, takes the new alpha from the *clipped* weights, and rounds the
    clipped weights by that. The gradient passes inside the old alpha. For normal weights alpha settles
    below the one-shot value (SAWB, 4 bits: 2.34 sd, not 2.49 sd); where sd is above about 1 it shrinks to
    nothing. In evaluation the release takes alpha from the weights unclipped: another scale.

    Args:
        w: Weights, any shape.
        alpha_before: Alpha of the call before, a scalar.
        bits: 2, 3, 4 or 8; released for 4 and 8.
        rule: `sawb` or `mean_abs`.

    Returns:
        The weights, and the alpha for the next call.
    """
    clipped = torch.minimum(torch.maximum(w, -alpha_before), alpha_before)
    alpha = sawb_alpha(clipped, bits=bits) if rule == "sawb" else mean_abs_alpha(clipped, bits=bits)
    N = largest_code(bits)
    # Clipped to the old alpha, not to the new one: a code may lie beyond N.
    codes = (clipped * (N / alpha)).round_()
    return Quantised(codes, alpha / N, alpha_before), alpha


@torch.no_grad()
def ternary(w: Tensor, *, power_of_two: bool = False) -> Quantised:
    """SpQuant-SNN's 2 bits: -W, 0, W with the dead zone 0.05 max |w|, the threshold of TTQ.

    W is the mean of |w| over |w| >= dead zone. A weight of exactly minus the dead zone gives 0, one of plus
    the dead zone W (released). The gradient passes everywhere.
    """
    size = w.abs()
    dead_zone = 0.05 * size.max()
    return _three_levels(w, size, size >= dead_zone, w != -dead_zone, power_of_two)


@torch.no_grad()
def ternary_mean(w: Tensor, *, power_of_two: bool = False) -> Quantised:
    """TWN's 2 bits: -W, 0, W with the dead zone 0.7 m, near the least squared error for normal weights.

    W is the mean of |w| over |w| > dead zone. The gradient passes everywhere.
    Source: Li et al., 2016, arXiv 1605.04711, eq. 4 and 6.
    """
    size = w.abs()
    return _three_levels(w, size, size > 0.7 * size.mean(), None, power_of_two)


def _three_levels(
    w: Tensor, size: Tensor, kept: Tensor, fires: Tensor | None, power_of_two: bool
) -> Quantised:
    """Return -W, 0, W: the signs of what is kept, and of that only what fires; W is its mean size."""
    worth = torch.where(kept, size, 0).sum() / kept.sum().clamp(min=1)
    codes = w.sign() * (kept if fires is None else kept & fires)
    return Quantised(codes, to_power_of_two(worth) if power_of_two else worth, None)


@torch.no_grad()
def four_level(w: Tensor, *, power_of_two: bool = False, published: bool = False) -> Quantised:
    """2 bits without zero: +-alpha, +-alpha / 3, as codes -3, -1, 1, 3 with the scale alpha / 3.

    alpha = 3.212 sd - 2.178 m (SAWB's four levels); levels change at +-2 alpha / 3 and at 0, where a level
    is taken from below. The gradient passes inside the clip, |w| <= alpha; `published`: where |w| < 1
    (the detector's release), which for weights of the usual size is everywhere.
    """
    alpha = _spread_rule(w, *SAWB_FOUR_LEVELS)
    scale = to_power_of_two(alpha / 3) if power_of_two else alpha / 3
    edge = 2 * scale
    codes = 2.0 * ((w > -edge).to(w.dtype) + (w > 0) + (w > edge)) - 3
    # The largest float below 1, for |w| < 1.
    limit = torch.nextafter(torch.ones_like(alpha), torch.zeros_like(alpha)) if published else 3 * scale
    return Quantised(codes, scale, limit)


@torch.no_grad()
def sawb_channelwise_published(w: Tensor) -> Quantised:
    """SAWB of 4 bits with a scale per output channel, as the detector's release has it.

    Codes are cut to -3 to 6, so that a large negative weight becomes half its size; `sawb` with
    `per_channel` is what was meant. The gradient passes everywhere.
    """
    codes, scale, _ = sawb(w, bits=4, per_channel=True)
    return Quantised(codes.clamp_(-3, 6), scale, None)


@torch.no_grad()
def mean_abs_unclipped(w: Tensor, *, bits: int = 4) -> Quantised:
    """round(w N / 2m) without a clip, as the event autoencoder's release has it; codes exceed their bits."""
    scale = mean_abs_alpha(w, bits=bits) / largest_code(bits)
    return Quantised((w / scale).round_(), scale, None)


@torch.no_grad()
def statistics(w: Tensor, *, bits: int, rule: str) -> Quantised:
    """The released one-shot functions on any tensor, without a gradient.

    `symm` is SAWB. `asymm` clips at 2 m with N = (2^bits - 1) / 2, a half-integer (LT-SNN), `b_asymm` with
    N = 2^(bits-1) - 1 (SpQuant-SNN). Where more than 2^bits codes come out, they are cut to two's complement.
    """
    N = largest_code(bits)
    steps = (2**bits - 1) / 2 if rule == "asymm" else float(N)
    alpha = sawb_alpha(w, bits=bits) if rule == "symm" else mean_abs_alpha(w, bits=bits)
    clipped = torch.minimum(torch.maximum(w, -alpha), alpha)
    codes = (clipped * (steps / alpha)).round_()
    if len(codes.unique()) > 2**bits:
        codes = codes.clamp_(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return Quantised(codes, alpha / steps, alpha)

"""Decisions and their gradients in the plainest form. These functions are the definition.

Sources: the released code of SpQuant-SNN for binariser, Gumbel gate, channel predictor, spatial gate and
squeeze gate; Hua et al., "Channel Gating Neural Networks", NeurIPS 2019, with its released code, for the
partial sum. N is steps and samples merged.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

# Every this many channels, rows and columns are seen by the published predictor.
PREDICTOR_STEP = 4
# Inputs with no more channels than this are seen whole by it. Source: the release, for frames.
PREDICTOR_WHOLE = 3
# Keeps the logarithm of noise finite. Source: the release.
NOISE_FLOOR = 1e-8

GateGradient = Literal["identity", "positive"]


def binarise(x: Tensor, threshold: float = 0.5) -> Tensor:
    """Return 1 where x > threshold, else 0, in the shape of x; the gradient passes as it is."""
    return straight_through((x > threshold).to(x.dtype), x)


def gumbel_gate(logits: Tensor, *, temperature: float, uniform: Tensor | None = None) -> Tensor:
    """Return gates 0 or 1 that are drawn, with the gradient of their soft form.

        noise = log(u + 1e-8) - log(1 - u + 1e-8)
        soft  = sigmoid((logits + noise) / temperature)
        gate  = 1 where soft >= 0.5, else 0; gradient of soft

    Args:
        logits: Any shape. A gate is 1 with probability sigmoid(logit).
        temperature: Above 0; smaller is nearer to a step.
        uniform: Numbers u from 0 to 1 in the shape of logits; None draws them.
    """
    u = torch.rand_like(logits) if uniform is None else uniform
    noise = torch.log(u + NOISE_FLOOR) - torch.log(1 - u + NOISE_FLOOR)
    soft = torch.sigmoid((logits + noise) / temperature)
    return straight_through((soft >= 0.5).to(soft.dtype), soft)


def certain_gate(logits: Tensor, *, temperature: float) -> Tensor:
    """Return the gates of evaluation, without noise: 1 where the logit is at least 0, else 0.

    The gradient is that of sigmoid(logits / temperature).
    """
    return straight_through((logits >= 0).to(logits.dtype), torch.sigmoid(logits / temperature))


def published_features(x: Tensor) -> Tensor:
    """Return what the published channel predictor sees, shape [N, ceil(C / 4)], for x [N, C, H, W].

    Every 4th channel, row and column (all of them where there are 3 channels or fewer), the mean over
    places, a softmax over channels.
    """
    if x.shape[1] > PREDICTOR_WHOLE:
        x = x[:, ::PREDICTOR_STEP, ::PREDICTOR_STEP, ::PREDICTOR_STEP]
    return torch.softmax(x.mean(dim=(2, 3)), dim=1)


def grid_means(x: Tensor, grid: int) -> Tensor:
    """Return what a channel predictor sees, shape [N, C grid^2]: the mean over each part of a map.

    Parts are those of torch's adaptive pools: they overlap where the size is no multiple of the grid.

    Args:
        x: Shape [N, C, H, W].
        grid: Parts of a map in each direction.
    """
    return functional.adaptive_avg_pool2d(x, grid).flatten(1)


def predictor_logits(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return one logit for every channel, shape [N, C_out], by a linear layer; a channel stays above 0.

    Args:
        features: Shape [N, F].
        weight: Shape [C_out, F].
        bias: Shape [C_out].
    """
    return functional.linear(features, weight, bias)


def keep_largest(logits: Tensor, count: int) -> Tensor:
    """Return 1 for the `count` largest of the last axis, of equal ones the first, and 0 for the others."""
    order = logits.argsort(dim=-1, descending=True, stable=True)
    return torch.zeros_like(logits).scatter(-1, order[..., :count], 1.0)


def patch_logits(x: Tensor, weight: Tensor, bias: Tensor | None, *, patches: tuple[int, int]) -> Tensor:
    """Return a logit for every patch of a map: mean over the patch, then a 3x3 convolution with padding 1.

    Args:
        x: Shape [N, C, H, W].
        weight: Shape [C_out, C, 3, 3].
        bias: Shape [C_out], or None.
        patches: Rows and columns of patches h, w.

    Returns:
        Shape [N, C_out, h, w].
    """
    return functional.conv2d(functional.adaptive_avg_pool2d(x, patches), weight, bias, padding=1)


def spread(gates: Tensor, *, patch: int, output_hw: tuple[int, int], published: bool = False) -> Tensor:
    """Return gates of patches [N, C, h, w] for every place [N, C, H, W]: patch x patch places share one.

    As released, the gates are laid side by side patch times in place of that, so that a place is decided by a
    patch it does not lie in.
    """
    if published:
        spread_out = gates.repeat(1, 1, patch, patch)
    else:
        spread_out = gates.repeat_interleave(patch, dim=2).repeat_interleave(patch, dim=3)
    return spread_out[:, :, : output_hw[0], : output_hw[1]]


def squeeze_logits(x: Tensor, first: Tensor, norm: torch.nn.Module, second: Tensor) -> Tensor:
    """Return a logit for every channel: mean over places, linear, norm, ReLU, linear.

    Args:
        x: Shape [N, C, H, W].
        first: Shape [F, C]; F is C / 4 as released.
        norm: BatchNorm1d of F features.
        second: Shape [C_out, F].

    Returns:
        Shape [N, C_out].
    """
    hidden = torch.relu(norm(functional.linear(x.mean(dim=(2, 3)), first)))
    return functional.linear(hidden, second)


def partial_sum_gates(
    partial: Tensor, threshold: Tensor, *, steepness: float, gradient: GateGradient = "identity"
) -> Tensor:
    """Return where a convolution is completed: 1 where its normalised partial sum is above a threshold.

        argument = steepness * (partial - threshold)
        gate     = 1 where sigmoid(argument) > 0.5, else 0; gradient of the sigmoid

    Args:
        partial: Partial sums, normalised without affine, shape [N, C, H, W].
        threshold: Shape [C].
        steepness: Of the sigmoid, above 0. Release: 2.
        gradient: `identity` passes the gradient through the step everywhere. `positive`: only where the
            argument is not negative, as the release does in its grouped form.
    """
    argument = steepness * (partial - threshold[:, None, None])
    soft = torch.sigmoid(argument)
    if gradient == "positive":
        soft = torch.where(argument >= 0, soft, soft.detach())
    return straight_through((soft > 0.5).to(soft.dtype), soft)


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """Return hard, exactly, with the gradient of soft."""
    return hard.detach() + (soft - soft.detach())

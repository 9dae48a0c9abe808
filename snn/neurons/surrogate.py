"""Spikes, and what stands in for their derivative when the gradient passes them.

A spike is a step, whose true derivative is 0 or infinite. Going backward, psi = e * G is used instead, where
e is the gradient that reaches the spike and G a bump around the place where the spike changes.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snn.neurons.settings import NeuronSettings

# Factor between the threshold and a spike's value in LT-SNN's "amplitude" revision (released code, 2022).
SPIKE_PER_THRESHOLD = 3.3

SurrogateRule = Callable[[Tensor, Tensor, NeuronSettings], Tensor]


def triangle(u: Tensor, threshold: Tensor, settings: NeuronSettings) -> Tensor:
    """Return max(0, gamma - |u|) / gamma^2 (TET; LT-SNN since 27 August 2022; M-LIF)."""
    height = (settings.gamma - u.abs()).clamp(min=0)
    return height if settings.gamma == 1 else height / settings.gamma**2


def triangle_membrane(u: Tensor, threshold: Tensor, settings: NeuronSettings) -> Tensor:
    """Return the triangle around a membrane a = u + threshold of 0 (LT-SNN's history)."""
    return triangle(u + threshold, threshold, settings)


def product(u: Tensor, threshold: Tensor, settings: NeuronSettings) -> Tensor:
    """Return z (1 - z) threshold triangle(u) with z = sigmoid(threshold u) (LT-SNN, June 2022)."""
    z = torch.sigmoid(threshold * u)
    return z * (1 - z) * threshold * triangle(u, threshold, settings)


def product_atan(u: Tensor, threshold: Tensor, settings: NeuronSettings) -> Tensor:
    """Return threshold/2 / (1 + (pi threshold u / 2)^2) triangle(u) (LT-SNN's history)."""
    bell = threshold / 2 / (1 + (math.pi * threshold * u / 2) ** 2)
    return bell * triangle(u, threshold, settings)


def identity(u: Tensor, threshold: Tensor, settings: NeuronSettings) -> Tensor:
    """Return 1: the gradient passes the spike unchanged (the LT-SNN detector)."""
    return torch.ones_like(u)


def sigmoid(u: Tensor, threshold: Tensor, settings: NeuronSettings) -> Tensor:
    """Return slope z (1 - z) with z = sigmoid(slope u) (M-LIF and Spike-Driven Transformer, slope 4)."""
    z = torch.sigmoid(settings.slope * u)
    return settings.slope * z * (1 - z)


def atan(u: Tensor, threshold: Tensor, settings: NeuronSettings) -> Tensor:
    """Return slope/2 / (1 + (pi slope u / 2)^2) (Fang et al., "PLIF", ICCV 2021; slope 2 there)."""
    return settings.slope / 2 / (1 + (math.pi * settings.slope * u / 2) ** 2)


SURROGATES: dict[str, SurrogateRule] = {
    "triangle": triangle,
    "triangle_membrane": triangle_membrane,
    "product": product,
    "product_atan": product_atan,
    "identity": identity,
    "sigmoid": sigmoid,
    "atan": atan,
}


def edge_slopes(a: Tensor, threshold: Tensor, settings: NeuronSettings) -> list[Tensor]:
    """Return the bump of each lane's lower edge, b_s(a), the stand-in for the derivative of [a > c_s].

        membrane            k(a - c_s)                  c_s = w_s threshold
        threshold           k(a / threshold - w_s) / threshold
        lane                k(a / c_s - 1) / c_s
        ignore_threshold    k(a - w_s)

    with k the surrogate times `surrogate_scale`. Sources: LT-SNN and TET (membrane), M-LIF's networks
    (lane), its fast node (threshold) and that node's fused kernel (ignore_threshold).
    """
    rule = SURROGATES[settings.surrogate]
    slopes = []
    for value in settings.lane_values:
        if settings.surrogate_width == "membrane":
            slope = rule(a - value * threshold, threshold, settings)
        elif settings.surrogate_width == "threshold":
            slope = rule(a / threshold - value, threshold, settings) / threshold
        elif settings.surrogate_width == "lane":
            lane = value * threshold
            slope = rule(a / lane - 1, threshold, settings) / lane
        else:
            slope = rule(a - value, threshold, settings)
        slopes.append(slope if settings.surrogate_scale == 1 else settings.surrogate_scale * slope)
    return slopes


def edge_gradients(grad_lanes: Tensor, settings: NeuronSettings) -> list[Tensor]:
    """Return what reaches each lower edge: crossing edge s starts lane s and, one-hot, ends lane s - 1.

    Args:
        grad_lanes: Gradients of the lanes, shape [S, B, ...].
        settings: `firing` and `upper_edge` decide.
    """
    edges = list(grad_lanes.unbind(0))
    if settings.firing == "cumulative":
        return edges
    sign = -1 if settings.upper_edge == "subtract" else 1
    return [edges[0]] + [edges[s] + sign * edges[s - 1] for s in range(1, len(edges))]


class Fire(torch.autograd.Function):
    """Lanes that fire, with the surrogate going backward.

    Forward: shape [S, B, ...], 1 where the lane fires, else 0, in a's dtype, with c_s = w_s threshold:
        one-hot, >     lane s fires where c_s < a <= c_{s+1}, the top one where c_s < a
        one-hot, >=    lane s fires where c_s <= a < c_{s+1}, the top one where c_s <= a
        cumulative     lane s fires where c_s < a (or c_s <= a)
    Backward to a: sum of psi_s = e_s b_s over lower edges.
    Backward to the threshold: - sum of psi_s w_s where the surrogate's width is that of the membrane, else
    - sum of psi_s a / threshold; 0 where it ignores the threshold. On top of that
        subtract+explicit   - sum of psi sigmoid(u) where u >= 0
        subtract+squared    - sum of e psi where u >= 0
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, threshold: Tensor, settings: NeuronSettings) -> Tensor:
        """Fire."""
        ctx.save_for_backward(a, threshold)
        ctx.settings = settings
        reached = []
        for value in settings.lane_values:
            c = value * threshold
            reached.append(a >= c if settings.fire_rule == ">=" else a > c)
        if settings.firing == "one_hot":
            for s in range(settings.lanes - 1):
                reached[s] = reached[s] & ~reached[s + 1]
        return torch.stack(reached).to(a.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """Pass the gradient on by the surrogate."""
        (grad_lanes,) = grads
        a, threshold = ctx.saved_tensors
        settings: NeuronSettings = ctx.settings
        edges = edge_gradients(grad_lanes, settings)
        psi = [e * b for e, b in zip(edges, edge_slopes(a, threshold, settings), strict=True)]
        grad_a = sum(psi[1:], start=psi[0])
        if not ctx.needs_input_grad[1]:
            return grad_a, None, None
        if settings.surrogate_width == "membrane":
            weighted = [value * p for value, p in zip(settings.lane_values, psi, strict=True)]
            grad_threshold = -sum(weighted[1:], start=weighted[0])
        elif settings.surrogate_width == "ignore_threshold":
            grad_threshold = torch.zeros_like(a)
        else:
            grad_threshold = -grad_a * a / threshold
        u = a - threshold
        if settings.threshold_gradient == "subtract+explicit":
            grad_threshold = grad_threshold - psi[0] * torch.sigmoid(u) * (u >= 0)
        elif settings.threshold_gradient == "subtract+squared":
            grad_threshold = grad_threshold - psi[0] * edges[0] * (u >= 0)
        return grad_a, grad_threshold.sum_to_size(threshold.shape), None


class SpikeValue(torch.autograd.Function):
    """Give spikes a value other than 1 (LT-SNN's history).

    Forward: s * value. Backward: the spikes get the gradient as if the value were 1, the scalar behind
    the value gets the sum of gradient times spike; for `threshold`, the factor 3.3 is left out there,
    as it was released.
    """

    @staticmethod
    def forward(ctx: Any, s: Tensor, scalar: Tensor, factor: float) -> Tensor:
        """Scale the spikes."""
        ctx.save_for_backward(s, scalar)
        return s * (factor * scalar)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        """Pass the gradient to the spikes unchanged and to the scalar summed over spikes."""
        (e,) = grads
        s, scalar = ctx.saved_tensors
        return e, (e * s).sum_to_size(scalar.shape), None

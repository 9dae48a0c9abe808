"""Spikes, and what stands in for their derivative when the gradient passes them.

A spike is a step, whose true derivative is 0 or infinite. Going backward, psi = e * G(u) is used instead,
where e is the gradient that reaches the spike, u = a - threshold, and G one of `SURROGATES`.
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
    """Return max(0, gamma - |u|) / gamma^2 (TET; LT-SNN since 27 August 2022)."""
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


class Spike(torch.autograd.Function):
    """Step forward, surrogate backward, and the explicit second path to the threshold where one is set.

    Forward: 1 where u >= 0 (or u > 0, by `fire_rule`), else 0, in u's dtype.
    Backward to u: psi = e G(u).
    Backward to the threshold, on top of what u = a - threshold brings:
        subtract            nothing
        subtract+explicit   - sum of psi sigmoid(u) where u >= 0
        subtract+squared    - sum of e psi where u >= 0
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, threshold: Tensor, settings: NeuronSettings) -> Tensor:
        """Fire."""
        ctx.save_for_backward(u, threshold)
        ctx.settings = settings
        fired = u >= 0 if settings.fire_rule == ">=" else u > 0
        return fired.to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """Pass the gradient on by the surrogate."""
        (e,) = grads
        u, threshold = ctx.saved_tensors
        settings: NeuronSettings = ctx.settings
        psi = e * SURROGATES[settings.surrogate](u, threshold, settings)
        if not ctx.needs_input_grad[1] or settings.threshold_gradient in ("subtract", "none"):
            return psi, None, None
        second = psi * (torch.sigmoid(u) if settings.threshold_gradient == "subtract+explicit" else e)
        second = second * (u >= 0)
        return psi, -second.sum_to_size(threshold.shape), None


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

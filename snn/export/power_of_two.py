"""Networks whose scales are powers of two: a shift applies them, and nothing is rounded on the way.

Rounding the scales changes what a network computes, so that its accuracy has to be measured again; what is
exported is then equal to the network in torch that `rounded_network` returns, spike for spike.
"""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snn.export.fixed_point import FixedPoint, to_fixed
from snn.export.plan import Neurons, Node, Plan, Weights
from snn.layers import ConvBlock, ConvNorm
from snn.neurons.modules import Neuron

# Leaks are rounded to multiples of this, so that few steps of a leak stay exact.
LEAK_UNIT = 1 / 16


def rounded_plan(plan: Plan, form: FixedPoint) -> Plan:
    """Return a plan with every scale the power of two nearest in ratio, and nothing left for a form to round.

    Biases, and thresholds that a soft reset takes away, are rounded to the fixed point; leaks become
    multiples of 1/16. A scale beyond the range becomes the nearest power of two within.
    """
    return replace(plan, nodes=tuple(_rounded(node, form) for node in plan.nodes))


def _rounded(node: Node, form: FixedPoint) -> Node:
    if node.weights is not None:
        w, most = node.weights, form.fraction_bits_for(2 * node.weights.scale)
        bias = to_fixed(w.bias, form).values
        return replace(node, weights=w._replace(scale=_powers(w.scale, form, most), bias=bias))
    if node.neurons is None:
        return node
    s, threshold, decay = node.neurons
    if s.reset in ("soft", "soft_value"):
        threshold = to_fixed(threshold, form).values
    decay = np.rint(decay / LEAK_UNIT) * LEAK_UNIT
    return replace(node, neurons=Neurons(s, threshold, decay))


def _powers(scale: np.ndarray, form: FixedPoint, fraction_bits: int) -> np.ndarray:
    mantissa, exponent = np.frexp(np.abs(scale))  # |scale| = mantissa 2^exponent, mantissa in [0.5, 1)
    exponent = np.where(mantissa < 0.5**0.5, exponent - 1, exponent)
    exponent = np.clip(exponent, -fraction_bits, form.bits - 2 - fraction_bits)
    return np.where(scale == 0, 0.0, np.sign(scale) * np.ldexp(1.0, exponent))


class ScaleBias(nn.Module):
    """A scale and a bias for each channel, in place of a normalisation."""

    scale: Tensor
    bias: Tensor

    def __init__(self, scale: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return x [N, C, H, W] times scale plus bias."""
        return x * self.scale[:, None, None] + self.bias[:, None, None]


def rounded_network(model: nn.Module, plan: Plan) -> nn.Module:
    """Return a copy of a network that computes a rounded plan, in float64 and by the plain neurons.

    Args:
        model: The network that the plan was made of.
        plan: What `rounded_plan` returned for it.
    """
    rounded: Any = copy.deepcopy(model).eval()
    # The plan's first scale has it in.
    rounded.options = replace(rounded.options, input_scale="none")
    for node in plan.nodes:
        parent, _, last = node.name.rpartition(".")
        owner = rounded.get_submodule(parent)
        if node.weights is not None:
            _put_weights(owner, last, node.weights)
        if node.neurons is not None:
            setattr(owner, last, _neuron(node.neurons))
    return rounded.double()


def _put_weights(owner: Any, last: str, weights: Weights) -> None:
    codes, scale, bias = (
        torch.from_numpy(np.asarray(part, np.float64))
        for part in (weights.values, weights.scale, weights.bias)
    )
    old = getattr(owner, last)
    if isinstance(old, nn.BatchNorm2d | nn.Identity):
        layer: nn.Module = ScaleBias(scale, bias)
    elif isinstance(old, nn.Linear):
        layer = nn.Linear(old.in_features, old.out_features, dtype=torch.float64)
        layer.weight, layer.bias = nn.Parameter(codes * scale[:, None]), nn.Parameter(bias)
    else:
        sizes = (old.in_channels, old.out_channels, old.kernel_size, old.stride, old.padding)
        layer = nn.Conv2d(*sizes, groups=old.groups, bias=False, dtype=torch.float64)
        has_norm = isinstance(owner, ConvBlock | ConvNorm)
        # A convolution on its own has no bias here.
        layer.weight = nn.Parameter(codes if has_norm else codes * scale.reshape(-1, 1, 1, 1))
        if has_norm:
            owner.norm = ScaleBias(scale, bias)
    setattr(owner, last, layer)


def _neuron(neurons: Neurons) -> Neuron:
    s = replace(neurons.settings.fixed(), learn_decay=False, decay_constraint="none", per_channel=False)
    neuron = Neuron(s, executor="reference")
    neuron.threshold = _number(neurons.threshold)
    neuron.decay = _number(neurons.decay)
    return neuron


def _number(values: np.ndarray) -> Tensor:
    tensor = torch.from_numpy(np.asarray(values, np.float64))
    return tensor.reshape(()) if len(tensor) == 1 else tensor

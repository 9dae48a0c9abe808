"""Weights in few bits on a built network: put on, listed, and loaded from float weights.

The float weight stays the parameter that learns, as `<layer>.parametrizations.weight.original`; the layer
computes with `<layer>.weight`, the quantiser's codes * scale, made anew in every forward pass.
"""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from snn.layers import Role, weight_layers
from snn.quant.reference import Quantised
from snn.quant.settings import FLOAT_BITS, WeightSettings
from snn.quant.weights import WeightQuantiser, make_quantiser


def quantise_weights(model: nn.Module, settings: WeightSettings) -> nn.Module:
    """Bring a network's weights to few bits, each layer by its role, and return the network.

    Args:
        model: Network in float; changed.
        settings: Bits and rule by role.
    """
    for name, module, role in weight_layers(model):
        rule = settings.for_role(role)
        if rule is None:
            continue
        quantiser = make_quantiser(rule, layer=name)
        quantiser.start_from(module.weight)
        # unsafe: not called once more to see that shapes agree.
        parametrize.register_parametrization(module, "weight", quantiser, unsafe=True)
    return model


def quantiser_of(module: nn.Module) -> WeightQuantiser | None:
    """Return what brings a layer's weights to few bits; None for a layer in float."""
    if not parametrize.is_parametrized(module, "weight"):
        return None
    chain = cast(nn.ModuleDict, module.parametrizations)["weight"]
    found = [part for part in cast(nn.ModuleList, chain) if isinstance(part, WeightQuantiser)]
    return found[0] if found else None


def float_weight(module: nn.Module) -> Tensor:
    """Return the float weight of a layer, the parameter that learns."""
    if quantiser_of(module) is None:
        return cast(Tensor, module.weight)
    return cast(Tensor, cast(nn.ModuleDict, module.parametrizations)["weight"].original)


def codes_of(module: nn.Module) -> Quantised | None:
    """Return codes and scale of a layer's weights, which its forward pass computes with; None for float.

    Raises:
        QuantError: The scale is not above 0.
    """
    quantiser = quantiser_of(module)
    return None if quantiser is None else quantiser.codes(float_weight(module).detach())


@dataclass(frozen=True)
class LayerWeights:
    """A layer's weights in words and numbers.

    Attributes:
        name: Of the layer.
        role: `first`, `inner`, `shortcut`, `gate` or `last`.
        shape: Of the weights.
        bits: Each is stored in; 32 is float.
        rule: Of the levels; `float` for float.
        levels: How many there are; 0 for float.
        scales: Smallest and largest scale; None for float.
    """

    name: str
    role: Role
    shape: tuple[int, ...]
    bits: int
    rule: str
    levels: int
    scales: tuple[float, float] | None

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain JSON types."""
        scales = None if self.scales is None else list(self.scales)
        return asdict(self) | {"shape": list(self.shape), "scales": scales}


def list_weights(model: nn.Module) -> list[LayerWeights]:
    """Return every convolution and linear layer of a network with its bits, those in float too."""
    return [_listed(name, module, role) for name, module, role in weight_layers(model)]


def _listed(name: str, module: nn.Module, role: Role) -> LayerWeights:
    quantiser, shape = quantiser_of(module), tuple(float_weight(module).shape)
    if quantiser is None:
        return LayerWeights(name, role, shape, FLOAT_BITS, "float", 0, None)
    scale = quantiser.codes(float_weight(module).detach()).scale
    rule, levels = quantiser.rule, len(quantiser.code_values)
    scales = (float(scale.min()), float(scale.max()))
    return LayerWeights(name, role, shape, rule.bits, rule.rule, levels, scales)


def from_float(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return the state of the same network in float as a state for one whose weights have few bits.

    Where a layer of the model has few bits and the state holds its plain weight, that becomes the float
    weight behind it, and what its quantiser learns or carries along starts anew from it. Everything else
    stays as it is, to be loaded strictly.
    """
    moved = dict(state)
    for name, module, _ in weight_layers(model):
        quantiser, plain = quantiser_of(module), f"{name}.weight"
        if quantiser is None or plain not in moved:
            continue
        weight = moved.pop(plain)
        moved[f"{name}.parametrizations.weight.original"] = weight
        quantiser = copy.deepcopy(quantiser)
        quantiser.start_from(weight)
        for key, value in quantiser.state_dict().items():
            moved[f"{name}.parametrizations.weight.0.{key}"] = value.clone()
    return moved


@torch.no_grad()
def collapsed(model: nn.Module) -> str | None:
    """Return in words the first layer whose scale is not above 0, and what to do; None where all are."""
    for _, module, _ in weight_layers(model):
        quantiser = quantiser_of(module)
        if quantiser is not None:
            scale = float(quantiser.unchecked(float_weight(module)).scale.min())
            if scale <= 0:
                return quantiser.collapse(scale)
    return None

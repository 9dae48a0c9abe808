"""Bytes of weights and membranes, in the bits each number is stored in. MB are 10^6 bytes."""

import math
from dataclasses import dataclass

from torch import Tensor, nn

from snn.cost.one_step import run_one_step
from snn.layers import Role, weight_layers
from snn.neurons.modules import Neuron
from snn.quant.apply import float_weight, quantiser_of
from snn.quant.settings import FLOAT_BITS


def stored_bytes(count: float, bits: float) -> float:
    """Return the bytes of so many numbers of so many bits, packed without gaps."""
    return count * bits / 8


@dataclass(frozen=True)
class LayerMemory:
    """What one layer stores.

    Attributes:
        name: Of the layer.
        role: As in `snn.layers.weight_layers`.
        weights: Number of weights.
        bits: Of each; 32 is float.
        scales: Numbers in float that turn codes into weights; 0 for float weights.
    """

    name: str
    role: Role
    weights: int
    bits: int
    scales: int

    @property
    def weight_bytes(self) -> float:
        """Bytes of the weights; scales are among the other parameters."""
        return stored_bytes(self.weights, self.bits)


def layer_memory(model: nn.Module) -> list[LayerMemory]:
    """Return what every convolution and linear layer stores, in the order of the model."""
    found = []
    for name, layer, role in weight_layers(model):
        quantiser, weight = quantiser_of(layer), float_weight(layer)
        if quantiser is None:
            found.append(LayerMemory(name, role, weight.numel(), FLOAT_BITS, 0))
        else:
            scales = len(weight) if quantiser.rule.per_channel else 1
            found.append(LayerMemory(name, role, weight.numel(), quantiser.rule.bits, scales))
    return found


@dataclass(frozen=True)
class MembraneMemory:
    """What one layer of neurons stores between two steps of one sample.

    Attributes:
        name: Of the layer.
        neurons: Number of neurons.
        levels: Values a membrane may have; 0 for a float.
        bits: A membrane is stored in; 32 is float.
    """

    name: str
    neurons: int
    levels: int
    bits: int

    @property
    def true_bits(self) -> float:
        """Information in a membrane, log2 of its levels: 1.58 for three, where 2 bits are stored."""
        return math.log2(self.levels) if self.levels else float(self.bits)

    @property
    def membrane_bytes(self) -> float:
        """Bytes of the membranes."""
        return stored_bytes(self.neurons, self.bits)


def membrane_memory(model: nn.Module, frame_shape: tuple[int, ...]) -> list[MembraneMemory]:
    """Return what every layer of neurons stores for one sample, by running one step of zeros.

    Args:
        model: The network, on any device; on `meta` nothing is computed.
        frame_shape: [P, H, W] of its frames.
    """
    neurons = {name: layer for name, layer in model.named_modules() if isinstance(layer, Neuron)}
    sizes: dict[str, int] = {}

    def note(name: str, current: Tensor) -> None:
        sizes[name] = current[0, 0].numel()

    handles = [
        layer.register_forward_pre_hook(lambda _, arguments, name=name: note(name, arguments[0]))
        for name, layer in neurons.items()
    ]
    try:
        run_one_step(model, frame_shape)
    finally:
        for handle in handles:
            handle.remove()
    return [_stored(name, layer, sizes[name]) for name, layer in neurons.items() if name in sizes]


def _stored(name: str, neuron: Neuron, count: int) -> MembraneMemory:
    membrane = neuron.settings.membrane
    return MembraneMemory(name, count, len(membrane.levels), membrane.stored_bits or FLOAT_BITS)

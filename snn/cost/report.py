"""Everything a network costs, for one sample: what is stored and what was counted, put together."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from snn.cost.counter import LayerCount, OperationCounter
from snn.cost.energy import EnergySettings, NeuronUpdate
from snn.cost.memory import LayerMemory, MembraneMemory, layer_memory, membrane_memory, stored_bytes
from snn.cost.nonzeros import Values
from snn.errors import CostError
from snn.neurons.modules import Neuron
from snn.neurons.settings import NeuronSettings
from snn.quant.settings import FLOAT_BITS


@dataclass(frozen=True)
class LayerCost:
    """A layer with weights, or a product of spikes, which has none; operations are those of one sample.

    Attributes:
        name: Of the layer.
        role: As in `snn.layers.weight_layers`; `attention` for products of spikes.
        weights: Number of weights.
        bits: Of each.
        weight_bytes: Bytes of all.
        dense_macs: Multiply-accumulates where nothing is left out.
        input_nonzero: Share of the dense ones that are left by zeros in the input and around it, 0 to 1.
        kept: Share of these that a gate leaves, 0 to 1.
        values: What the values of the input have in common: none, binary, ternary, powers, any.
        effective: Operations that are left.
        accumulations: Of these, all but those with an input that is multiplied by.
        shifts: Of these, those whose weight is shifted first.
        macs: Operations with an input that is multiplied by.
        energy_pj: Of the effective operations.
    """

    name: str
    role: str
    weights: int
    bits: int
    weight_bytes: float
    dense_macs: float
    input_nonzero: float
    kept: float
    values: str
    effective: float
    accumulations: float
    shifts: float
    macs: float
    energy_pj: float


@dataclass(frozen=True)
class NeuronCost:
    """A layer of neurons; updates are those of one sample.

    Attributes:
        name: Of the layer.
        neurons: Number of neurons.
        levels: Values a membrane may have between steps; 0 for a float.
        bits: A membrane is stored in.
        true_bits: Information in a membrane.
        membrane_bytes: Bytes of the membranes.
        updates: Neurons times steps.
        traffic_bytes: Bytes of membranes read and written: each once in every step.
        energy_pj: Of the arithmetic of the updates.
    """

    name: str
    neurons: int
    levels: int
    bits: int
    true_bits: float
    membrane_bytes: float
    updates: float
    traffic_bytes: float
    energy_pj: float


@dataclass(frozen=True)
class Cost:
    """What a network costs, for one sample.

    Attributes:
        samples: Samples it was measured on.
        steps: Steps of a sample, their mean.
        energy: Numbers that energy is computed with.
        parameters: Learned numbers of the network, quantisers' own left out.
        other_bytes: Bytes of what is stored in float beside weights: biases, normalisations, thresholds and
            scales.
        layers: Layers with weights and products of spikes.
        neurons: Layers of neurons.
    """

    samples: int
    steps: float
    energy: EnergySettings
    parameters: int
    other_bytes: float
    layers: tuple[LayerCost, ...]
    neurons: tuple[NeuronCost, ...]

    def totals(self) -> dict[str, float]:
        """Return sums over all layers; see there for the names."""
        summed = ("weights", "weight_bytes", "dense_macs", "effective", "accumulations", "shifts", "macs")
        totals = {name: math.fsum(getattr(layer, name) for layer in self.layers) for name in summed}
        of_neurons = ("neurons", "membrane_bytes", "updates", "traffic_bytes")
        totals |= {name: math.fsum(getattr(layer, name) for layer in self.neurons) for name in of_neurons}
        totals["synapse_energy_pj"] = math.fsum(layer.energy_pj for layer in self.layers)
        totals["neuron_energy_pj"] = math.fsum(layer.energy_pj for layer in self.neurons)
        totals["energy_pj"] = totals["synapse_energy_pj"] + totals["neuron_energy_pj"]
        return totals

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON types."""
        found = asdict(self) | {"totals": self.totals()}
        return found | {name: list(found[name]) for name in ("layers", "neurons")}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "Cost":
        """Return what `as_dict` gave."""
        plain = {name: found[name] for name in ("samples", "steps", "parameters", "other_bytes")}
        return cls(
            **plain,
            energy=EnergySettings(**found["energy"]),
            layers=tuple(LayerCost(**layer) for layer in found["layers"]),
            neurons=tuple(NeuronCost(**layer) for layer in found["neurons"]),
        )


def cost_of(
    model: nn.Module,
    counter: OperationCounter,
    *,
    frame_shape: tuple[int, ...],
    energy: EnergySettings | None = None,
) -> Cost:
    """Return what a network costs for one sample.

    Args:
        model: The network.
        counter: What was counted while it ran, see `snn.cost.counter.count_operations`.
        frame_shape: [P, H, W] of its frames.
        energy: Which numbers energy is computed with.

    Raises:
        CostError: The network has not run while operations were counted.
    """
    if counter.samples == 0:
        raise CostError("operations: found none counted, expected the network to run in count_operations")
    energy = energy or EnergySettings()
    stored = layer_memory(model)
    by_name = {memory.name: memory for memory in stored}
    beside = [name for name in counter.layers if name not in by_name]
    layers = [_layer_cost(memory, counter, energy) for memory in stored]
    layers += [_layer_cost(LayerMemory(name, "inner", 0, FLOAT_BITS, 0), counter, energy) for name in beside]
    # A network computes in whole numbers where its inner layers do.
    inner = [memory.bits for memory in stored if memory.role == "inner"]
    whole = bool(inner) and max(inner) < FLOAT_BITS
    steps = counter.steps / counter.samples
    modules = dict(model.named_modules())
    neurons = []
    for membrane in membrane_memory(model, frame_shape):
        neuron = modules[membrane.name]
        assert isinstance(neuron, Neuron)
        update_pj = energy.update_pj(neuron_update(neuron.settings), whole=whole)
        neurons.append(_neuron_cost(membrane, steps, update_pj))
    parameters, other = _other(model, stored)
    return Cost(
        counter.samples,
        steps,
        energy,
        parameters,
        stored_bytes(other, FLOAT_BITS),
        tuple(layers),
        tuple(neurons),
    )


def _layer_cost(memory: LayerMemory, counter: OperationCounter, energy: EnergySettings) -> LayerCost:
    count = counter.layers.get(memory.name, LayerCount())
    samples, values = counter.samples, count.values
    effective = count.effective / samples
    multiplied = values == Values.ANY
    return LayerCost(
        name=memory.name,
        role=memory.role if memory.weights else "attention",
        weights=memory.weights,
        bits=memory.bits,
        weight_bytes=memory.weight_bytes,
        dense_macs=count.dense / samples,
        input_nonzero=count.unmasked / count.dense if count.dense else 0.0,
        kept=count.effective / count.unmasked if count.unmasked else 1.0,
        values=values.name.lower(),
        effective=effective,
        accumulations=0.0 if multiplied else effective,
        shifts=effective if values == Values.POWERS else 0.0,
        macs=effective if multiplied else 0.0,
        energy_pj=effective * energy.operation_pj(values, memory.bits),
    )


def _neuron_cost(membrane: MembraneMemory, steps: float, update_pj: float) -> NeuronCost:
    updates = membrane.neurons * steps
    return NeuronCost(
        name=membrane.name,
        neurons=membrane.neurons,
        levels=membrane.levels,
        bits=membrane.bits,
        true_bits=membrane.true_bits,
        membrane_bytes=membrane.membrane_bytes,
        updates=updates,
        traffic_bytes=2 * stored_bytes(updates, membrane.bits),
        energy_pj=updates * update_pj,
    )


def neuron_update(neuron: NeuronSettings) -> NeuronUpdate:
    """Return the operations of one update: h = decay v + gain x, comparisons, reset, level of the membrane.

    A hard reset and a one-hot spike choose, which is no arithmetic.
    """
    comparisons = neuron.lanes + max(len(neuron.membrane.levels) - 1, 0)
    soft = int(neuron.reset in ("soft", "soft_value"))
    factors = [neuron.decay] if neuron.learn_decay or neuron.decay not in (0.0, 1.0) else []
    if neuron.charge == "decay_input":
        factors.append(1 - neuron.decay)
    shifts = sum(not neuron.learn_decay and math.frexp(factor)[0] == 0.5 for factor in factors)
    return NeuronUpdate(1 + comparisons + soft, len(factors) - shifts, shifts)


def _other(model: nn.Module, stored: list[LayerMemory]) -> tuple[int, int]:
    """Return the number of learned numbers, and of those stored in float beside weights."""
    named = dict(model.named_parameters())
    parameters = sum(
        p.numel()
        for name, p in named.items()
        if ".parametrizations." not in name or name.endswith(".original")
    )
    # Running mean and variance of a normalisation, which evaluation needs, are no parameters but stored.
    running = [b for name, b in model.named_buffers() if name.endswith(("running_mean", "running_var"))]
    weights, scales = sum(memory.weights for memory in stored), sum(memory.scales for memory in stored)
    return parameters, parameters - weights + scales + sum(buffer.numel() for buffer in running)

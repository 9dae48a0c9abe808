"""A measured network beside an ANN and a quantised ANN of the same layers, by two rules of energy.

Ours is that of `snn.cost.energy`: by the values a layer was given, neurons' updates included. The published
one is one-hot M-LIF's (IEEE Access 2025) and of many papers before it: 4.6 pJ for every product of a first
layer that is given numbers, 0.9 pJ for every operation behind it, whatever its input; nothing for shifts,
products of an attention, gates and neurons. Its rate of inputs that are not 0 is here their exact uses.
"""

from dataclasses import dataclass, replace

from snn.cost.energy import TABLES, EnergySettings
from snn.cost.nonzeros import Values
from snn.cost.report import Cost, LayerCost
from snn.quant.settings import FLOAT_BITS

# Multiply-accumulate and accumulation in fp32 of 45 nm, Horowitz, ISSCC 2014: 4.6 and 0.9 pJ.
PUBLISHED_AC_PJ = TABLES["45nm"].add_pj["fp32"]
PUBLISHED_MAC_PJ = PUBLISHED_AC_PJ + TABLES["45nm"].multiply_pj["fp32"]
# Layers that the published rule does not know.
UNPUBLISHED = ("attention", "gate")


@dataclass(frozen=True)
class Arithmetic:
    """Operations and energy of one sample.

    Attributes:
        accumulations: Uses of weights that are added, those after a shift too.
        shifts: Of these, those that are shifted first.
        macs: Uses of weights that are multiplied and added.
        neuron_pj: Of the updates of neurons.
        energy_pj: Of everything, by our rule.
        published_pj: By the published rule.
    """

    accumulations: float
    shifts: float
    macs: float
    neuron_pj: float
    energy_pj: float
    published_pj: float

    @property
    def operations(self) -> float:
        """Uses of weights."""
        return self.accumulations + self.macs


def measured(cost: Cost) -> Arithmetic:
    """Return what a network was measured to compute."""
    totals = cost.totals()
    return Arithmetic(
        accumulations=totals["accumulations"],
        shifts=totals["shifts"],
        macs=totals["macs"],
        neuron_pj=totals["neuron_energy_pj"],
        energy_pj=totals["energy_pj"],
        published_pj=sum(_published_pj(layer, layer.effective) for layer in cost.layers),
    )


def ann_twin(cost: Cost, *, frames: float) -> Arithmetic:
    """Return an ANN of the same layers with ReLU, in float, every product counted.

    Args:
        cost: Of the measured network.
        frames: Frames of a sample, each of which the ANN sees once: 1 of a picture, however many steps the
            network has for it.
    """
    layers = [layer for layer in cost.layers if layer.role != "gate"]
    macs = sum(_once(layer, cost, frames) for layer in layers)
    published = sum(_once(layer, cost, frames) for layer in layers if layer.role not in UNPUBLISHED)
    energy_pj = macs * EnergySettings(cost.energy.table).operation_pj(Values.ANY, FLOAT_BITS)
    return Arithmetic(0.0, 0.0, macs, 0.0, energy_pj, published * PUBLISHED_MAC_PJ)


def quantised_twin(cost: Cost, *, frames: float) -> Arithmetic:
    """Return an ANN whose activations have the values of the network's spikes, no zero left out.

    How many of them would be 0 only training tells, as `pipelines run convert` does. Weights have the
    bits of the network's. A layer that was given numbers multiplies here as well.

    Args:
        cost: Of the measured network.
        frames: As in `ann_twin`.
    """
    layers = [layer for layer in cost.layers if layer.role != "gate"]
    of = [(layer, _once(layer, cost, frames), Values[layer.values.upper()]) for layer in layers]
    return Arithmetic(
        accumulations=sum(uses for _, uses, values in of if values != Values.ANY),
        shifts=sum(uses for _, uses, values in of if values == Values.POWERS),
        macs=sum(uses for _, uses, values in of if values == Values.ANY),
        neuron_pj=0.0,
        energy_pj=sum(uses * cost.energy.operation_pj(values, layer.bits) for layer, uses, values in of),
        published_pj=sum(_published_pj(layer, uses, dense=uses) for layer, uses, _ in of),
    )


def with_shift_of(cost: Cost, shift_pj: float) -> Cost:
    """Return a cost with another energy of the shift by a spike's level; neurons stay as they are."""
    energy = replace(cost.energy, shift_pj=shift_pj)
    layers = (
        replace(
            layer, energy_pj=layer.effective * energy.operation_pj(Values[layer.values.upper()], layer.bits)
        )
        for layer in cost.layers
    )
    return replace(cost, energy=energy, layers=tuple(layers))


def _once(layer: LayerCost, cost: Cost, frames: float) -> float:
    """Return a layer's products where it runs once a frame, as the first one does in any case."""
    return layer.dense_macs if layer.role == "first" else layer.dense_macs * frames / cost.steps


def _published_pj(layer: LayerCost, operations: float, *, dense: float | None = None) -> float:
    if layer.role in UNPUBLISHED:
        return 0.0
    if layer.role == "first" and layer.values == "any":
        return PUBLISHED_MAC_PJ * (layer.dense_macs if dense is None else dense)
    return PUBLISHED_AC_PJ * operations

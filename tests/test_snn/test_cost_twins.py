"""A network beside its ANN and its quantised ANN, counted by hand."""

from dataclasses import replace

import pytest

from snn.cost.energy import EnergySettings
from snn.cost.nonzeros import Values
from snn.cost.report import Cost, LayerCost, NeuronCost
from snn.cost.twins import Arithmetic, ann_twin, measured, quantised_twin, with_shift_of
from snn.errors import CostError


def layer(name, role, values, *, dense, effective, bits=32):
    shifted = effective if values == "powers" else 0.0
    macs = effective if values == "any" else 0.0
    energy_pj = effective * EnergySettings().operation_pj(Values[values.upper()], bits)
    counts = (dense, effective / dense, 1.0, values, effective, effective - macs, shifted, macs, energy_pj)
    return LayerCost(name, role, 1, bits, bits / 8, *counts)


# A picture over 4 steps: the first layer runs once, the others at every step.
COST = Cost(
    samples=1,
    steps=4.0,
    energy=EnergySettings(),
    parameters=0,
    other_bytes=0.0,
    layers=(
        layer("block1.conv", "first", "any", dense=100.0, effective=90.0),
        layer("block2.conv", "inner", "powers", dense=4000.0, effective=400.0),
        layer("block3.shortcut.conv", "shortcut", "any", dense=400.0, effective=200.0),
        layer("block3.gate.linear", "gate", "any", dense=40.0, effective=40.0),
        layer("attention", "attention", "binary", dense=800.0, effective=80.0),
        layer("classifier", "last", "binary", dense=40.0, effective=4.0),
    ),
    neurons=(NeuronCost("neuron", 10, 0, 32, 32.0, 40.0, 40.0, 320.0, 100.0),),
)


def test_what_was_measured():
    found = measured(COST)
    assert (found.accumulations, found.shifts, found.macs) == (484, 400, 330)
    assert found.operations == 814
    assert found.energy_pj == pytest.approx(4.6 * 330 + 0.93 * 400 + 0.9 * 84 + 100)
    assert found.neuron_pj == 100
    # Every product of the first layer; neither gate, attention, shift nor neuron.
    assert found.published_pj == pytest.approx(4.6 * 100 + 0.9 * (400 + 200 + 4))


def test_an_ann_sees_a_picture_once():
    once = ann_twin(COST, frames=1)
    assert once.macs == once.operations == 100 + 1000 + 100 + 200 + 10
    assert once.energy_pj == pytest.approx(4.6 * 1410)
    assert once.published_pj == pytest.approx(4.6 * 1210)
    # Of a recording it sees every frame.
    assert ann_twin(COST, frames=4).macs == 100 + 4000 + 400 + 800 + 40
    assert ann_twin(replace(COST, energy=EnergySettings("7nm")), frames=1).energy_pj == pytest.approx(
        1.69 * 1410
    )


def test_a_quantised_ann_shifts_where_the_network_does():
    found = quantised_twin(COST, frames=1)
    assert found == Arithmetic(
        accumulations=1000 + 200 + 10,
        shifts=1000,
        macs=100 + 100,
        neuron_pj=0.0,
        energy_pj=pytest.approx(4.6 * 200 + 0.93 * 1000 + 0.9 * 210),
        published_pj=pytest.approx(4.6 * 100 + 0.9 * 1110),
    )


def test_the_first_layer_adds_where_it_is_given_spikes():
    first, *others = COST.layers
    binary = replace(COST, layers=(replace(first, values="binary"), *others))
    assert measured(binary).published_pj == pytest.approx(0.9 * (90 + 400 + 200 + 4))


def test_the_energy_of_a_shift_is_a_parameter():
    assert EnergySettings(shift_pj=0.5).operation_pj(Values.POWERS, 32) == 1.4
    assert EnergySettings(shift_pj=0.0).operation_pj(Values.POWERS, 2) == 0.1
    assert EnergySettings(shift_pj=0.5).operation_pj(Values.BINARY, 32) == 0.9
    free = with_shift_of(COST, 0.0)
    assert measured(COST).energy_pj - measured(free).energy_pj == pytest.approx(0.03 * 400)
    assert with_shift_of(free, 0.03).layers == COST.layers
    assert Cost.from_dict(free.as_dict()) == free
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(CostError, match=r"energy\.shift_pj: found .*, expected picojoules from 0"):
            EnergySettings(shift_pj=wrong)

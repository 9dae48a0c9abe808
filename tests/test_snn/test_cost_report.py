"""Bytes, energy and the report of a network's cost, counted by hand."""

import json
from dataclasses import replace

import pytest
import torch

from snn.cost.counter import OperationCounter, count_operations
from snn.cost.energy import TABLES, EnergySettings, NeuronUpdate
from snn.cost.memory import layer_memory, membrane_memory, stored_bytes
from snn.cost.nonzeros import Values
from snn.cost.report import cost_of, neuron_update
from snn.cost.text import cost_lines, short
from snn.errors import CostError
from snn.models.registry import ModelSettings, build_model
from snn.neurons.membrane import MEMBRANES
from snn.neurons.settings import NEURONS
from snn.quant.settings import WeightSettings

# vgg5 at width 0.25: convolutions of 4, 8 and 16 channels, maps of 16, 8 and 4, 16 * 2 * 2 features, 32, 5.
WEIGHTS = [9 * 2 * 4, 9 * 4 * 8, 9 * 8 * 16, 64 * 32, 32 * 5]
NEURON_COUNTS = [4 * 16 * 16, 8 * 8 * 8, 16 * 4 * 4]
BIASES, NORMS = 4 + 8 + 16 + 32 + 5, 4 + 8 + 16


def build(**options):
    torch.manual_seed(0)
    settings = ModelSettings("vgg5", width=0.25, executor="reference", **options)
    return build_model(settings, input_hw=(16, 16), classes=5).eval()


def measured(model, *, steps=3, energy=None):
    frames = torch.poisson(torch.full((steps, 2, 2, 16, 16), 1.5))
    with torch.no_grad(), count_operations(model) as counter:
        model(frames)
    return cost_of(model, counter, frame_shape=(2, 16, 16), energy=energy)


FEW = {"neuron": NEURONS["quantlif"], "weights": WeightSettings(bits=2, last_bits=8), "pool": "max"}


def test_bytes_are_those_of_the_stored_bits():
    model = build(**FEW)
    stored = layer_memory(model)
    assert [memory.weights for memory in stored] == WEIGHTS
    assert [memory.bits for memory in stored] == [32, 2, 2, 2, 8]
    assert [memory.weight_bytes for memory in stored] == [288, 72, 288, 512, 160]
    membranes = membrane_memory(model, (2, 16, 16))
    assert [membrane.neurons for membrane in membranes] == NEURON_COUNTS
    assert {membrane.bits for membrane in membranes} == {2}
    assert membranes[0].true_bits == pytest.approx(1.58496, abs=1e-5)
    assert [membrane.membrane_bytes for membrane in membranes] == [n * 2 / 8 for n in NEURON_COUNTS]


def test_floats_are_stored_in_32_bits():
    model = build(neuron=NEURONS["lt"])
    assert sum(memory.weight_bytes for memory in layer_memory(model)) == 4 * sum(WEIGHTS)
    assert {membrane.bits for membrane in membrane_memory(model, (2, 16, 16))} == {32}
    assert stored_bytes(3, 1.5) == 4.5 / 8


@pytest.mark.parametrize(("name", "bits"), [("ternary", 2), ("five", 3), ("chip", 5), ("four", 2)])
def test_a_membrane_takes_the_fewest_bits_that_tell_levels_apart(name, bits):
    model = build(neuron=replace(NEURONS["quantlif"], membrane=MEMBRANES[name]))
    assert {membrane.bits for membrane in membrane_memory(model, (2, 16, 16))} == {bits}


def test_looking_at_membranes_leaves_the_network_as_it_was():
    model = build().train()
    model.block2.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    executors = [model.block1.neuron.executor, model.block2.neuron.executor]
    membrane_memory(model, (2, 16, 16))
    modes = [module.training for module in (model, model.block1, model.block2, model.block2.conv)]
    assert modes == [True, True, False, False]
    assert [model.block1.neuron.executor, model.block2.neuron.executor] == executors
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_energy_of_one_operation_is_that_of_the_table():
    energy = EnergySettings()
    # Horowitz, ISSCC 2014: fp32 0.9 + 3.7, int8 multiply 0.2, int32 add 0.1, int8 add 0.03.
    assert energy.operation_pj(Values.BINARY, 32) == 0.9
    assert energy.operation_pj(Values.TERNARY, 32) == 0.9
    assert energy.operation_pj(Values.POWERS, 32) == pytest.approx(0.9 + 0.03)
    assert energy.operation_pj(Values.ANY, 32) == pytest.approx(4.6)
    assert energy.operation_pj(Values.TERNARY, 2) == 0.1
    assert energy.operation_pj(Values.ANY, 8) == pytest.approx(0.3)
    assert EnergySettings(accumulator="int8").operation_pj(Values.ANY, 8) == pytest.approx(0.23)
    assert EnergySettings(accumulator="int8").operation_pj(Values.BINARY, 4) == 0.03
    assert EnergySettings(table="7nm").operation_pj(Values.ANY, 32) == pytest.approx(1.69)


def test_every_table_has_every_format_and_a_source():
    for table in TABLES.values():
        assert set(table.add_pj) == set(table.multiply_pj) == {"int8", "int32", "fp32"}
        assert set(table.shift_pj) == {"int8", "int32"}
        assert table.source


def test_an_unknown_table_names_the_nearest():
    with pytest.raises(
        CostError, match=r"energy\.table: found '45 nm', expected one of 45nm, 7nm; did you mean '45nm'"
    ):
        EnergySettings(table="45 nm")


def test_updates_of_neurons_by_hand():
    # Charge and one comparison; the decay 0.5 is a shift.
    assert neuron_update(NEURONS["lif"]) == NeuronUpdate(2, 0, 1)
    assert neuron_update(replace(NEURONS["lif"], decay=0.9)) == NeuronUpdate(2, 1, 0)
    assert neuron_update(replace(NEURONS["lif"], decay=1.0)) == NeuronUpdate(2, 0, 0)
    # Two boundaries between three levels.
    assert neuron_update(NEURONS["quantlif"]) == NeuronUpdate(4, 0, 1)
    # Three thresholds.
    assert neuron_update(NEURONS["mlif"]).additions == 4
    # Decay and gain are learned.
    assert neuron_update(NEURONS["plif"]) == NeuronUpdate(2, 2, 0)
    assert neuron_update(replace(NEURONS["lif"], reset="soft")).additions == 3


def test_a_report_adds_up():
    cost = measured(build(**FEW))
    totals = cost.totals()
    assert (cost.samples, cost.steps) == (2, 3)
    assert totals["weights"] == sum(WEIGHTS)
    assert totals["weight_bytes"] == 288 + 72 + 288 + 512 + 160
    assert totals["membrane_bytes"] == sum(NEURON_COUNTS) / 4
    assert totals["updates"] == 3 * sum(NEURON_COUNTS)
    assert totals["traffic_bytes"] == 2 * 3 * sum(NEURON_COUNTS) / 4
    assert cost.parameters == sum(WEIGHTS) + BIASES + 2 * NORMS
    # Biases, normalisations with their running statistics, and a scale for each of four layers.
    assert cost.other_bytes == 4 * (BIASES + 4 * NORMS + 4)
    macs = [9 * 2 * 4 * 256, 9 * 4 * 8 * 64, 9 * 8 * 16 * 16, 64 * 32, 32 * 5]
    assert [layer.dense_macs for layer in cost.layers] == [3 * count for count in macs]
    first, second, *_, last = cost.layers
    assert (first.values, second.values) == ("any", "binary")
    assert (first.macs, first.accumulations) == (first.effective, 0)
    assert (second.macs, second.accumulations) == (0, second.effective)
    assert first.energy_pj == pytest.approx(4.6 * first.effective)
    assert second.energy_pj == pytest.approx(0.1 * second.effective)
    assert last.energy_pj == pytest.approx(0.3 * last.effective)
    # All inner layers have few bits: neurons of whole numbers, four additions and a shift.
    assert totals["neuron_energy_pj"] == pytest.approx(totals["updates"] * (4 * 0.1 + 0.13))
    assert totals["energy_pj"] == totals["synapse_energy_pj"] + totals["neuron_energy_pj"]
    assert json.loads(json.dumps(cost.as_dict()))["totals"] == totals


def test_neurons_of_a_float_network_are_computed_in_float():
    cost = measured(build(neuron=NEURONS["lif"]))
    totals = cost.totals()
    assert totals["neuron_energy_pj"] == pytest.approx(totals["updates"] * (2 * 0.9 + 0.03))


def test_the_table_says_everything_in_a_line_each():
    cost = measured(build(**FEW), energy=EnergySettings(table="7nm"))
    text = "\n".join(cost_lines(cost))
    assert "one sample of 3 steps, mean of 2" in text
    assert "block2.neuron      512       3  1.58       2  0.13   1.54 k" in text
    assert "membranes   1,792 in 0.45 kB" in text
    assert "7 nm: Jouppi et al., ISCA 2021" in text
    assert max(map(len, text.splitlines())) < 140
    assert [short(number) for number in (0.5, 999, 1234, 2.5e7, 5.29e9)] == [
        "0.5",
        "999",
        "1.23 k",
        "25 M",
        "5.29 G",
    ]


def test_steps_that_repeat_a_picture_count():
    model = build(neuron=NEURONS["lif"], steps=4)
    cost = measured(model, steps=1)
    assert (cost.samples, cost.steps) == (2, 4)
    assert cost.totals()["updates"] == 4 * sum(NEURON_COUNTS)
    # The first convolution runs once for all steps, since its input is the same.
    assert cost.layers[0].dense_macs == 9 * 2 * 4 * 256
    assert cost.layers[1].dense_macs == 4 * 9 * 4 * 8 * 64


def test_nothing_counted_is_said():
    with pytest.raises(CostError, match="operations: found none counted"):
        cost_of(build(), OperationCounter(), frame_shape=(2, 16, 16))

"""Networks in whole numbers give the spikes of the networks in torch that they were made from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from suites.few_bit_networks import few_bit_network, some_frames

from snn.errors import ExportError
from snn.export.compare import compare
from snn.export.fixed_point import PUBLISHED, FixedPoint, to_fixed
from snn.export.float_layers import quantise_rest
from snn.export.integer_ops import largest
from snn.export.integers import ExportSettings, integer_network
from snn.export.network import Layer
from snn.export.power_of_two import rounded_network, rounded_plan
from snn.export.runner import STEPS, run_network
from snn.export.walk import plan_of
from snn.layers import Gate
from snn.neurons.membrane import MEMBRANES
from snn.neurons.settings import NEURONS
from snn.neurons.settings import PUBLISHED as PUBLISHED_NEURONS
from snn.quant.settings import WeightSettings

FORMS = {"fitting": FixedPoint(), "released": PUBLISHED, "wide": FixedPoint(bits=24, fraction_bits=20)}

FAMILY = {
    "lif": NEURONS["lif"],
    "lt": NEURONS["lt"],
    "lt_per_channel": replace(NEURONS["lt"], per_channel=True),
    "plif": replace(NEURONS["plif"], threshold=0.4),
    "ternary": NEURONS["quantlif"],
    "floor23": replace(NEURONS["lif"], membrane=MEMBRANES["floor23"]),
    "chip_soft": replace(NEURONS["lif"], membrane=MEMBRANES["chip"], reset="soft"),
    "soft_three_quarters": replace(NEURONS["lt"], reset="soft", decay=0.75),
    "no_leak": replace(NEURONS["lif"], decay=1.0),
    "rest": replace(NEURONS["lif"], rest=-0.25),
    "mlif": NEURONS["mlif"],
    "mlif_cumulative": replace(NEURONS["mlif"], firing="cumulative"),
    "mlif_node": PUBLISHED_NEURONS["mlif_node"],
    "mlif_converted": PUBLISHED_NEURONS["mlif_converted"],
    "all": replace(NEURONS["lif"], reset="all"),
}
NETWORKS = (
    *("vgg5", "vggsnn", "mobilenet", "mobilenet_depthwise", "mobilenet_published"),
    *("resnet18", "preact_resnet18", "spikformer_4_256"),
)


def power_of_two(model, form, *, steps=4):
    plan = rounded_plan(plan_of(model), form)
    settings = ExportSettings(form, guard_bits=None, steps=steps)
    return rounded_network(model, plan), integer_network(plan, settings)


def check_same(model, network, frames):
    found = compare(model, network, [(frames, None)])
    assert {name: layer.differ for name, layer in found.layers.items()} == dict.fromkeys(found.layers, 0)
    assert all(layer.values > layer.spikes > 0 for layer in found.layers.values())
    return found


@pytest.mark.parametrize("form", ["fitting", "released"])
@pytest.mark.parametrize("neuron", FAMILY)
def test_with_scales_of_powers_of_two_every_spike_is_the_same(neuron, form):
    model = few_bit_network("vgg5", FAMILY[neuron], width=0.2)
    rounded, network = power_of_two(model, FORMS[form])
    assert all(layer.numbers.get("exact", True) for layer in network.layers)
    found = check_same(rounded, network, some_frames())
    assert found.largest_logit == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_every_family_of_networks(name):
    model = few_bit_network(name, NEURONS["lt"], width=0.15)
    rounded, network = power_of_two(model, FixedPoint())
    found = check_same(rounded, network, some_frames(samples=2))
    assert found.largest_logit < 1e-12
    # And as it was trained, with scales in 24 bits.
    trained = integer_network(plan_of(model), ExportSettings(FixedPoint(24)))
    check_same(model, trained, some_frames(samples=2))


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_both_pools(pool):
    model = few_bit_network("vgg5", NEURONS["quantlif"], width=0.2, pool=pool)
    check_same(*power_of_two(model, FixedPoint()), some_frames())


def test_coarser_numbers_differ_more_and_it_is_counted():
    model, frames = few_bit_network("vggsnn", NEURONS["lt"]), some_frames()
    differ = {}
    for name, form in FORMS.items():
        network = integer_network(plan_of(model), ExportSettings(form))
        found = compare(model, network, [(frames[:, :1], None), (frames[:, 1:], None)])
        differ[name] = found.differ
        assert found.samples == 3
        assert all(layer.samples <= 3 for layer in found.layers.values())
    assert differ["fitting"] == differ["wide"] == 0 < differ["released"]


def test_pictures_are_seen_at_every_step():
    model = few_bit_network("vgg5", NEURONS["lt"], width=0.2, steps=3, input_scale="unit")
    frames = (60 * some_frames(steps=1)).clip(0, 255).astype(np.uint8)
    rounded, network = power_of_two(model, FixedPoint())
    check_same(rounded, network, frames)
    assert network.repeats == 3
    check_same(model, integer_network(plan_of(model), ExportSettings()), frames)
    with pytest.raises(
        ExportError, match="frames: found 4 steps, expected 1: this network repeats a frame 3"
    ):
        run_network(network, some_frames())


def test_a_network_counted_by_hand():
    """One weight of code 1 and worth 1/2, no bias, threshold 1, decay 1/2: u = 0.5, 0.75, 1.375 fires."""
    model = few_bit_network("vgg5", NEURONS["lif"])
    network = integer_network(plan_of(model), ExportSettings(FixedPoint(16, 13)))
    conv, neuron = network.layers[:2]
    assert neuron.fraction_bits == 0
    assert neuron.numbers["membrane_fraction_bits"] == 13
    assert neuron.arrays["thresholds"].tolist() == [[2**13]]
    assert neuron.numbers["leak_shift"] == 1
    weight = np.zeros_like(conv.arrays["weight"])
    weight[0, 0, 1, 1] = 1
    arrays = {"weight": weight, "scale": np.full(2, 2**12, np.int32), "bias": np.zeros(2, np.int32)}
    layers = (replace(conv, arrays=arrays), neuron)
    frames = np.zeros((4, 1, 2, 16, 16), np.uint8)
    frames[:, 0, 0, 5, 7] = (1, 1, 2, 1)
    spikes = run_network(replace(network, layers=layers), frames)
    assert spikes[:, 0, 0, 5, 7].tolist() == [0, 0, 1, 0]
    assert spikes.sum() == 1


def test_fixed_point_by_hand():
    values = np.array([0.1, -0.1, 4.2, -5.0, 2**-14, 1.5])
    codes, fraction_bits, saturated, lost, exact = to_fixed(values, PUBLISHED)
    assert codes.tolist() == [819, -819, 32767, -32768, 0, 12288]
    assert (fraction_bits, saturated, lost, exact) == (13, 2, 1, False)
    assert to_fixed(np.array([0.75, -1.0]), FixedPoint(4))[:2][0].tolist() == [3, -4]
    # 0.0118 2^21 = 24746.4: six zeros after the point leave room for 21 fraction bits; the last says nothing.
    found = to_fixed(np.array([0.0118]), FixedPoint(16))
    assert (found.codes.tolist(), found.fraction_bits) == ([12373], 20)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ((1, 0), "bits: found 1, expected a whole number from 2 to 32"),
        ((16, 16), "fraction bits: found 16 of 16 bits, expected 0 to 15"),
        ((16, 13, "up"), "rounding: found 'up', expected nearest or zero"),
    ],
)
def test_fixed_point_that_does_not_exist(form, message):
    with pytest.raises(ExportError, match=message):
        FixedPoint(*form)


def test_saturation_is_reported():
    model = few_bit_network("vgg5", NEURONS["lt"])
    model.block2.norm.bias.data[0] = 9.0
    network = integer_network(plan_of(model), ExportSettings(PUBLISHED))
    saturated = {layer.name: layer.numbers.get("saturated_biases", 0) for layer in network.layers}
    assert [name for name, count in saturated.items() if count] == ["block2.conv"]
    fitting = integer_network(plan_of(model), ExportSettings())
    assert not any(layer.numbers.get("saturated_biases") for layer in fitting.layers)


def test_float_layers_are_named_or_brought_to_few_bits():
    model = few_bit_network("vgg5", NEURONS["lt"], weights=WeightSettings(bits=2), width=0.2)
    with pytest.raises(
        ExportError, match=r"layers 'block1\.conv', 'classifier': found weights in float, expected 2, 3, 4"
    ):
        integer_network(plan_of(model), ExportSettings())
    changed, names = quantise_rest(model, 8)
    assert names == ["block1.conv", "classifier"]
    check_same(changed, integer_network(plan_of(changed), ExportSettings()), some_frames())
    frames = torch.from_numpy(some_frames()).float()
    with torch.no_grad():
        # 8 bits are near float, and the network given is left as it is.
        assert (changed(frames) - model(frames)).abs().max() < 0.3 * model(frames).abs().max()
    assert type(model.classifier) is torch.nn.Linear


class AnyGate(Gate):
    """A gate of no kind."""


def test_what_has_no_form_in_whole_numbers_is_named():
    learned = few_bit_network("vgg5", replace(NEURONS["lt"], spike_value="learned"))
    with pytest.raises(ExportError, match=r"layer 'block2\.neuron': found spike_value 'learned'"):
        plan_of(learned)
    gated = few_bit_network("vgg5", NEURONS["lt"])
    gated.block3.gate = AnyGate()
    with pytest.raises(ExportError, match=r"layer 'block3\.gate': found AnyGate, which has no form"):
        plan_of(gated)
    scaled = few_bit_network("vgg5", NEURONS["lt"])
    scaled.options = replace(scaled.options, input_scale="cifar10")
    with pytest.raises(ExportError, match="input_scale: found 'cifar10', which gives every plane another"):
        plan_of(scaled)
    negative = few_bit_network("vgg5", replace(NEURONS["mlif"], learn_threshold=True))
    negative.block2.neuron.threshold.data.fill_(-0.5)
    with pytest.raises(ExportError, match=r"layer 'block2\.neuron': found the threshold -0\.5 with lanes=3"):
        plan_of(negative)


def test_other_networks_are_refused():
    with pytest.raises(
        ExportError, match=r"Sequential: found an architecture that no export knows, expected one of VGG,"
    ):
        plan_of(torch.nn.Sequential())


def test_attention_counted_by_hand():
    """One head of two features at three places: Q (K^T V) / 8, where each pair of spikes counts once."""
    q, k, v = (np.zeros((1, 2, 1, 3), np.int64) for _ in range(3))
    k[0, 0, 0, :2] = v[0, 1, 0, :2] = 1  # both fire at the first two places
    q[0, 0, 0, 2] = 1
    layer = Layer("attention", "attention", ("q", "k", "v"), (2, 1, 3), 3, {"heads": 1, "fraction_bits": 3})
    expected = np.zeros((1, 2, 1, 3), np.int64)
    expected[0, 1, 0, 2] = 2  # worth 2 / 8
    assert np.array_equal(STEPS["attention"](layer, q, k, v), expected)


@pytest.mark.parametrize(("size", "kernel", "stride", "padding"), [(5, 3, 2, 1), (6, 2, 2, 0), (7, 3, 1, 0)])
def test_maxima_are_those_of_torch(size, kernel, stride, padding):
    x = np.random.default_rng(0).integers(-9, 9, (2, 3, size, size + 1))
    expected = torch.nn.functional.max_pool2d(torch.from_numpy(x).float(), kernel, stride, padding)
    found = largest(x, kernel=kernel, stride=stride, padding=padding)
    assert np.array_equal(found, expected.numpy())


def test_sums_that_could_overflow_are_refused():
    model = few_bit_network("vgg5", NEURONS["lt"])
    with pytest.raises(
        ExportError, match=r"layer 'block1\.conv': its sums may take 65 bits, expected at most"
    ):
        integer_network(plan_of(model), ExportSettings(FixedPoint(32), largest_count=2**31))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.astype(np.float32), "found dtype float32, expected whole numbers"),
        (lambda x: x[:, :, :1], r"found shape \(4, 3, 1, 16, 16\), expected \[T, B, 2, 16, 16\]"),
        (lambda x: x.astype(int) - 1, "found counts from -1 to"),
        (lambda x: x.astype(int) + 300, "expected 0 to 255; export with a larger largest count"),
        (lambda x: np.repeat(x, 20, axis=0), "found 80 steps, expected at most 64"),
    ],
)
def test_frames_that_do_not_fit(change, message):
    network = integer_network(plan_of(few_bit_network("vgg5", NEURONS["lt"])), ExportSettings())
    with pytest.raises(ExportError, match=message):
        run_network(network, change(some_frames()))

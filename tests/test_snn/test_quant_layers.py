"""Weights in few bits on networks: which layers, one scale everywhere, folding, packing, checkpoints."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from snn.errors import ModelError, QuantError, TrainingError
from snn.layers import ConvBlock, fold_batch_norm, weight_layers
from snn.models.registry import MODELS, ModelSettings, build_model
from snn.models.weights import load_weights
from snn.neurons.membrane import MEMBRANES
from snn.neurons.settings import NEURONS
from snn.quant.apply import (
    codes_of,
    collapsed,
    float_weight,
    from_float,
    list_weights,
    quantise_weights,
    quantiser_of,
)
from snn.quant.settings import PUBLISHED, RULE_BITS, WeightSettings

RULES = [name for name in RULE_BITS if name != "auto"]


def few_bits(seed=0, *, model="vgg5", pack_spikes=False, input_hw=(16, 16), **weights):
    """Return a small network with firing neurons."""
    torch.manual_seed(seed)
    neuron = replace(NEURONS["lif"], threshold=0.3, membrane=MEMBRANES["ternary"])
    settings = ModelSettings(
        model,
        width=0.25,
        neuron=neuron,
        executor="reference",
        pack_spikes=pack_spikes,
        dropout=0.0,
        weights=WeightSettings(**weights),
    )
    network = build_model(settings, input_hw=input_hw, classes=3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
    return network


def some_frames(seed=1):
    return torch.rand(3, 2, 2, 16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("rule", "published"), [(rule, False) for rule in RULES] + [(rule, True) for rule in PUBLISHED]
)
def test_training_evaluation_and_codes_take_one_scale(rule, published):
    network = few_bits(bits=2, first_bits=8, rule=rule, published=published)
    stateful = published and rule in ("sawb", "mean_abs")
    for training in (False,) if stateful else (True, False):
        network.train(training)
        network(some_frames())
        for name, layer, role in weight_layers(network):
            found, quantiser = codes_of(layer), quantiser_of(layer)
            if role == "last":
                assert (found, quantiser) == (None, None)
                continue
            assert torch.equal(found.codes * found.scale, layer.weight), name
            assert set(found.codes.unique().tolist()) <= set(quantiser.code_values)
            assert len(quantiser.code_values) <= 2**quantiser.rule.bits


@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_every_parameter_learns(rule, power_of_two):
    network = few_bits(bits=2, first_bits=4, last_bits=8, rule=rule, power_of_two=power_of_two)
    network(some_frames()).square().sum().backward()
    learned = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    silent = [name for name, p in learned.items() if p.grad is None or not bool(p.grad.ne(0).any())]
    assert silent == []


def test_a_power_of_two_scale_is_one_in_every_layer():
    network = few_bits(bits=4, first_bits=8, last_bits=8, power_of_two=True, per_channel=True)
    for _, layer, _ in weight_layers(network):
        mantissa, _ = torch.frexp(codes_of(layer).scale)
        assert bool((mantissa == 0.5).all())
        assert codes_of(layer).scale.numel() == len(layer.weight)


@pytest.mark.parametrize("model", ["vgg5", "resnet19"])
def test_roles_decide(model):
    plain = {layer.name: layer for layer in list_weights(few_bits(model=model, bits=2))}
    assert {layer.bits for layer in plain.values() if layer.role == "inner"} == {2}
    assert {layer.bits for layer in plain.values() if layer.role != "inner"} == {32}
    every = list_weights(few_bits(model=model, bits=2, first_bits=8, last_bits=4, shortcut_bits=3))
    assert len(every) == len(plain)
    for layer in every:
        assert layer.bits == {"first": 8, "inner": 2, "shortcut": 3, "last": 4}[layer.role]
        assert layer.levels == 2**layer.bits - 1
        assert layer.scales[0] > 0


def test_a_role_whose_bits_the_rule_is_not_for_takes_the_automatic_rule():
    layers = list_weights(few_bits(bits=2, first_bits=8, last_bits=4, rule="ternary"))
    assert {layer.role: layer.rule for layer in layers} == {
        "first": "learned_clip",
        "inner": "ternary",
        "last": "sawb",
    }
    options = {"bits": 4, "first_bits": 8, "per_channel": True}
    assert {layer.rule for layer in list_weights(few_bits(**options)) if layer.bits == 8} == {"sawb"}


@pytest.mark.parametrize("rule", ["sawb", "learned_clip"])
def test_folding_keeps_the_logits_and_leaves_the_model_alone(rule):
    network = few_bits(bits=4, rule=rule).eval()
    expected = network(some_frames())
    assert len(expected.unique()) > 3
    folded = fold_batch_norm(network)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    torch.testing.assert_close(folded(some_frames()), expected)
    assert torch.equal(network(some_frames()), expected)
    block = folded.block2
    assert isinstance(block, ConvBlock)
    # Still codes, times one number for each channel.
    ratio = block.conv.weight / codes_of(network.block2.conv).codes
    assert bool(ratio[0].isfinite().any())
    torch.testing.assert_close(ratio[0][ratio[0].isfinite()].std(), torch.tensor(0.0), atol=1e-6, rtol=0)


def test_copies_are_equal_and_apart():
    network = few_bits(bits=2, rule="learned_clip").eval()
    other = copy.deepcopy(network)
    expected = network(some_frames())
    assert torch.equal(other(some_frames()), expected)
    with torch.no_grad():
        float_weight(other.block2.conv).neg_()
    assert not torch.equal(other(some_frames()), expected)
    assert torch.equal(network(some_frames()), expected)


def test_packed_spikes_give_the_same_gradients():
    gradients = []
    for pack_spikes in (False, True):
        network = few_bits(bits=2, pack_spikes=pack_spikes)
        looks = 0

        def count(*_arguments):
            nonlocal looks
            looks += 1

        quantiser_of(network.block2.conv).register_forward_hook(count)
        network(some_frames()).square().sum().backward()
        assert looks == 1
        gradients.append([p.grad for p in network.parameters() if p.grad is not None])
    for plain, packed in zip(*gradients, strict=True):
        assert torch.equal(plain, packed)


def test_state_comes_back_strictly():
    network = few_bits(0, bits=4, rule="learned_clip").eval()
    other = few_bits(1, bits=4, rule="learned_clip").eval()
    load_weights(other, network.state_dict(), where="here")
    assert torch.equal(other(some_frames()), network(some_frames()))
    with pytest.raises(ModelError, match="its weights are few bits where this network has float"):
        load_weights(few_bits(), network.state_dict(), where="here")
    with pytest.raises(ModelError, match="its weights are float where this network has few bits"):
        load_weights(network, few_bits().state_dict(), where="here")


@pytest.mark.parametrize("rule", ["sawb", "learned_clip"])
@pytest.mark.parametrize("published", [False, True])
def test_a_float_network_goes_on_in_few_bits(rule, published):
    plain = few_bits(0)
    options = {"bits": 4, "rule": rule, "published": published}
    network, expected = few_bits(1, **options), few_bits(0, **options)
    before = copy.deepcopy(network.state_dict())
    moved = from_float(plain.state_dict(), network)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    load_weights(network, moved, where="here")
    assert torch.equal(network.eval()(some_frames()), expected.eval()(some_frames()))


def test_without_few_bits_nothing_changes():
    network = few_bits()
    assert next(iter(network.state_dict())) == "block1.conv.weight"
    assert quantise_weights(network, WeightSettings()) is network
    assert all(layer.bits == 32 and layer.scales is None for layer in list_weights(network))


def test_a_collapsed_scale_names_the_layer_and_says_what_to_do():
    network = few_bits(bits=4)
    with torch.no_grad():
        weight = float_weight(network.block3.conv)
        weight.copy_(0.2 * weight.sign())  # all of one size: SAWB's clip is below 0
    with pytest.raises(QuantError, match=r"layer 'block3\.conv': its 4-bit weights collapsed: .* expected"):
        network(some_frames())
    assert "model.weights.rule='mean_abs'" in collapsed(network)
    assert collapsed(few_bits(bits=4)) is None
    with torch.no_grad():
        float_weight(network.block3.conv).zero_()
    for rule in RULES:
        dead = few_bits(bits=2, rule=rule)
        with torch.no_grad():
            float_weight(dead.block3.conv).zero_()
        if rule != "learned_clip":  # its clip does not come from the weights
            with pytest.raises(QuantError, match="collapsed"):
                dead(some_frames())


def test_a_learned_clip_stays_above_0_whatever_the_step():
    network = few_bits(bits=4, rule="learned_clip")
    quantiser = quantiser_of(network.block2.conv)
    for _ in range(20):
        (3 * quantiser.alpha).backward()
        with torch.no_grad():
            quantiser.log_alpha -= 0.5 * quantiser.log_alpha.grad.sign()
            quantiser.log_alpha.grad = None
    assert 0 < quantiser.alpha.item() < 1e-3
    network(some_frames())


def test_the_stateful_rule_moves_in_training_alone():
    network = few_bits(bits=4, rule="sawb", published=True)
    quantiser = quantiser_of(network.block2.conv)
    assert float(quantiser.alpha) == 1
    network.eval()(some_frames())
    assert float(quantiser.alpha) == 1
    network.train()(some_frames())
    first = float(quantiser.alpha)
    assert first < 1
    network(some_frames())
    assert float(quantiser.alpha) != first
    assert "alpha" in "".join(network.state_dict())


def test_a_compiled_network_gives_the_same():
    network = few_bits(bits=4).eval()
    compiled = torch.compile(network.block2.conv, backend="eager", fullgraph=True)
    x = torch.rand(2, 4, 8, 8)
    assert torch.equal(compiled(x), network.block2.conv(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 5}, r"weights\.bits: found 5, expected one of 2, 3, 4, 8, 32 \(32 is float\)"),
        ({"bits": True}, r"weights\.bits: found True"),
        ({"bits": 2, "first_bits": 16}, r"weights\.first_bits: found 16"),
        ({"bits": 4, "rule": "ternary"}, r"weights\.bits: found 4 with rule 'ternary', expected 2"),
        ({"bits": 4, "rule": "sawbb"}, r"weights\.rule: found 'sawbb'.*did you mean 'sawb'\?"),
        ({"rule": "ternary"}, r"weights\.rule: found 'ternary' with all weights in float"),
        ({"power_of_two": True}, r"weights\.power_of_two: found True with all weights in float"),
        (
            {"bits": 3, "rule": "learned_clip", "levels": (0, 0.125, 0.25, 0.5, 1)},
            r"weights\.bits: found 3 for 9 levels \(5 sizes, both signs\), expected 4",
        ),
        ({"bits": 3, "levels": (0, 0.5, 1)}, r"weights\.levels: found with rule 'auto'"),
        ({"bits": 2, "rule": "four_level", "per_channel": True}, "expected sawb or mean_abs"),
        ({"bits": 2, "rule": "ternary_mean", "published": True}, r"weights\.published: found true with rule"),
        ({"bits": 4, "power_of_two": True, "published": True}, "never released"),
        ({"bits": 8, "per_channel": True, "published": True}, "sawb in 4 bits alone"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(QuantError, match=message):
        WeightSettings(**options)


def test_levels_of_powers_of_two():
    levels = (0.0, 0.125, 0.25, 0.5, 1.0)
    network = few_bits(bits=4, rule="learned_clip", levels=levels)
    found = codes_of(network.block2.conv)
    assert set(found.codes.abs().unique().tolist()) <= {0, 1, 2, 4, 8}
    assert quantiser_of(network.block2.conv).code_values == (-8, -4, -2, -1, 0, 1, 2, 4, 8)


def test_a_step_that_collapses_ends_training_with_the_layer_named():
    from snn.training.classification import ClassificationTask
    from snn.training.loop import Training, _train_step
    from snn.training.settings import TrainSettings

    network = few_bits(bits=4)
    with torch.no_grad():
        float_weight(network.block2.conv).zero_()
    settings, optimizer = TrainSettings(), torch.optim.SGD(network.parameters(), lr=1.0)
    task = ClassificationTask(settings, classes=3)
    training = Training(None, network, optimizer, settings, 1, task)
    batch = SimpleNamespace(frames=some_frames(), labels=torch.zeros(2, dtype=torch.long))
    with pytest.raises(TrainingError, match=r"epoch 1, batch 2: layer 'block2\.conv': .* collapsed"):
        _train_step(training, batch, where="epoch 1, batch 2")


@pytest.mark.parametrize("model", MODELS)
def test_no_layer_of_any_model_is_passed_over(model):
    roles = {"first_bits": 8, "last_bits": 8, "shortcut_bits": 4, "gate_bits": 8}
    network = few_bits(model=model, input_hw=(48, 48), bits=2, **roles)
    assert [layer.name for layer in list_weights(network) if layer.bits == 32] == []


def test_where_nobody_waits_a_collapsed_scale_makes_nan():
    network = few_bits(bits=4)
    with torch.no_grad():
        float_weight(network.block2.conv).zero_()
    compiled = torch.compile(network.block2.conv, backend="eager", fullgraph=True)
    assert bool(compiled(torch.rand(2, 4, 8, 8)).isnan().all())
    assert "layer 'block2.conv'" in collapsed(network)


@pytest.mark.parametrize("pack_spikes", [False, True])
def test_half_precision_rounds_what_the_codes_are_worth(pack_spikes):
    network = few_bits(bits=2, pack_spikes=pack_spikes)
    x = torch.rand(2, 4, 8, 8).round()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network.block2.conv(x)
        network(some_frames()).float().square().sum().backward()
    expected = nn.functional.conv2d(
        x.bfloat16(),
        network.block2.conv.weight.bfloat16(),
        network.block2.conv.bias.bfloat16(),
        padding=1,
    )
    assert torch.equal(found, expected)
    assert float_weight(network.block2.conv).grad.dtype == torch.float32

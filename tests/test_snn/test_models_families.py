"""What sets each family of networks apart, and what holds for all of them."""

from dataclasses import replace

import pytest
import torch

from snn.layers import ConvBlock, Stepwise, fold_batch_norm
from snn.losses import tet_loss
from snn.metrics.activity import neuron_layers, record_rates
from snn.models.mobilenet import PLANS as MOBILENETS
from snn.models.mobilenet import map_hw
from snn.models.options import ModelOptions
from snn.models.preact_resnet import PreactivationBlock
from snn.models.registry import ModelSettings, build_model
from snn.models.resnet import ResidualBlock
from snn.models.spikformer import SpikeAttention
from snn.neurons.modules import Neuron
from snn.neurons.settings import NEURONS, PUBLISHED
from tests.suites import reference_kernels

LT = NEURONS["lt"]
# One of each family, narrow; frames of 16x17.
FAMILIES = {
    "vgg5": 0.25,
    "mobilenet": 0.25,
    "mobilenet_depthwise": 0.25,
    "mobilenet_wide_postpool_published": 0.125,
    "resnet18": 0.0625,
    "preact_resnet18": 0.0625,
    "spikformer_4_256": 0.0625,
    "spikformer_16_256": 0.0625,
}
HW = (16, 17)


def build(name, *, neuron=LT, executor="reference", **settings):
    torch.manual_seed(0)
    settings = {"dropout": 0.0, "width": FAMILIES[name]} | settings
    return build_model(
        ModelSettings(name, neuron=neuron, executor=executor, **settings), input_hw=HW, classes=3
    )


def frames(*, steps=3, samples=3, seed=5):
    draw = torch.Generator().manual_seed(seed)
    return 2.0 * (torch.rand(steps, samples, 2, *HW, generator=draw) < 0.3).float()


def options(**changes):
    known = {"in_channels": 2, "input_hw": HW, "classes": 3, "width": 1.0, "neuron": LT, "first_neuron": LT}
    return ModelOptions(**(known | {"executor": "reference"} | changes))


@pytest.fixture
def fused(monkeypatch):
    """Run blocks fused, by kernels made of the reference."""
    monkeypatch.setattr("snn.neurons.arguments.kernels", lambda executor: reference_kernels)
    choose = lambda wanted, **_: "reference" if wanted == "reference" else "numba"  # noqa: E731
    monkeypatch.setattr("snn.neurons.block.executor_for", choose)


def one_step(model):
    """Loss, and weights after one step of SGD."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = tet_loss(model(frames().double()), torch.tensor([0, 1, 2]), weight=0.05, target=1.0)
    loss.backward()
    optimizer.step()
    return [loss.detach(), *model.state_dict().values()]


@pytest.mark.parametrize("name", FAMILIES)
def test_fused_packed_and_plain_train_alike(request, name):
    expected = one_step(build(name).double())
    request.getfixturevalue("fused")
    for pack_spikes in (False, True):
        found = one_step(build(name, executor="auto", pack_spikes=pack_spikes).double())
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


PER_CHANNEL = replace(LT, per_channel=True, learn_decay=True)


@pytest.mark.parametrize("neuron", [*NEURONS.values(), PER_CHANNEL], ids=[*NEURONS, "per channel"])
@pytest.mark.parametrize("name", ["mobilenet", "resnet18", "preact_resnet18", "spikformer_4_256"])
def test_any_neuron_fits_any_network(name, neuron):
    model = build(name, neuron=neuron)
    loss = tet_loss(model(frames(steps=2)), torch.tensor([0, 1, 2]), weight=0.05, target=1.0)
    loss.backward()
    for parameter_name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, parameter_name
            assert torch.isfinite(parameter.grad).all(), parameter_name


@pytest.mark.parametrize("name", FAMILIES)
def test_samples_do_not_see_each_other_and_time_runs_forward(name):
    model, x = build(name, neuron=replace(LT, threshold=0.2)).double(), frames(steps=4).double()
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = None  # running statistics become those of this batch, so that neurons fire
    model(x)
    with torch.no_grad():
        together = model.eval()(x)
        torch.testing.assert_close(model(x[:, 1:2]), together[:, 1:2])
        torch.testing.assert_close(model(x[:2]), together[:2])
        # Neurons remember: the same frame at every step does not give the same logits at every step.
        still = model(x[:1].expand(4, -1, -1, -1, -1))
    assert not torch.allclose(still[0], still[1])


@pytest.mark.parametrize("name", FAMILIES)
def test_every_layer_of_neurons_is_seen_by_a_recording(name, fused):
    model = build(name, executor="auto").eval()
    with record_rates(model) as activity, torch.no_grad():
        model(frames())
    assert set(activity.rates()) == set(neuron_layers(model))


@pytest.mark.parametrize("name", FAMILIES)
def test_folded_networks_give_the_same_logits(name):
    model, x = build(name).double(), frames().double()
    for seed in range(3):
        model(frames(seed=seed).double())
    with torch.no_grad():
        torch.testing.assert_close(fold_batch_norm(model)(x), model.eval()(x), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["mobilenet", "resnet18", "preact_resnet18", "spikformer_4_256"])
def test_a_few_steps_learn_two_classes(name):
    model, labels = build(name, neuron=replace(PUBLISHED["lif"], threshold=0.5)), torch.arange(12) % 2
    x = frames(steps=3, samples=12)
    x[:, labels == 0, ..., 8:] = 0  # class 0: left half only
    x[:, labels == 1, ..., :8] = 0
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = tet_loss(model(x), labels, weight=0.0, target=1.0)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(("channels", "stride"), [(4, 1), (6, 1), (4, 2)])
def test_residual_block_adds_before_its_second_neurons(channels, stride):
    torch.manual_seed(0)
    block = ResidualBlock(4, channels, options(), stride=stride).double().eval()
    x = (torch.rand(3, 2, 4, 6, 7) < 0.5).double()

    def current(conv, norm, spikes):
        return torch.stack([norm(conv(step)) for step in spikes])

    beside = x
    if channels != 4 or stride != 1:
        beside = current(block.shortcut.conv, block.shortcut.norm, x)
    else:
        assert block.shortcut is None
    inner = block.first.neuron(current(block.first.conv, block.first.norm, x))
    expected = block.second.neuron(current(block.second.conv, block.second.norm, inner) + beside)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(("channels", "stride"), [(4, 1), (6, 2)])
def test_preactivation_block_adds_currents(channels, stride):
    torch.manual_seed(0)
    block = PreactivationBlock(4, channels, stride=stride, enter=LT, options=options()).double().eval()
    x = torch.randn(3, 2, 4, 6, 6).double()
    spikes = block.enter.neuron(torch.stack([block.enter.norm(step) for step in x]))
    beside = x if stride == 1 else torch.stack([block.shortcut(step) for step in spikes])
    inner = torch.stack([block.inner.norm(block.inner.conv(step)) for step in spikes])
    inner = block.inner.neuron(inner)
    expected = torch.stack([block.conv(step) for step in inner]) + beside
    torch.testing.assert_close(block(x), expected)


def test_head_of_a_resnet_keeps_a_constant_threshold_unless_told():
    learned = {
        name: layer.settings.learn_threshold for name, layer in neuron_layers(build("resnet18")).items()
    }
    assert [name for name, learns in learned.items() if not learns] == ["stem.neuron", "hidden_neuron"]
    free = build("resnet18", first_fixed=False)
    assert all(layer.settings.learn_threshold for layer in neuron_layers(free).values())


def test_attention_is_queries_times_keys_times_values_in_every_head():
    draw = torch.Generator().manual_seed(1)
    q, k, v = ((torch.rand(2, 3, 8, 2, 5, generator=draw) < 0.4).double() for _ in range(3))
    found = SpikeAttention(heads=4, scale=0.125)(q, k, v)
    expected = torch.zeros_like(found).flatten(3)
    for head in range(4):
        tokens = [x.flatten(3)[:, :, 2 * head : 2 * head + 2].transpose(2, 3) for x in (q, k, v)]
        product = (tokens[0] @ tokens[1].transpose(2, 3)) @ tokens[2] * 0.125  # (Q K^T) V
        expected[:, :, 2 * head : 2 * head + 2] = product.transpose(2, 3)
    assert torch.equal(found.flatten(3), expected)


def test_attention_neurons_have_half_the_threshold():
    model = build("spikformer_4_256", neuron=replace(LT, threshold=0.8))
    found = {name: layer.settings.threshold for name, layer in neuron_layers(model).items()}
    assert {name for name, value in found.items() if value == 0.4} == {
        f"block{n}.attention_neuron" for n in range(1, 5)
    }
    assert set(found.values()) == {0.4, 0.8}


def test_heads_stay_in_a_narrow_spikformer():
    model = build("spikformer_16_256", width=0.01)
    assert model.classifier.in_features == 16  # one feature a head
    assert model.block1.attention.heads == 16


def test_current_is_pooled_before_the_neurons():
    torch.manual_seed(0)
    pool = torch.nn.AvgPool2d(2)
    block = ConvBlock(2, 3, neuron=LT, kernel=1, padding=1, current_pool=Stepwise(pool)).double().eval()
    x = torch.randn(3, 2, 2, 6, 6).double()
    expected = block.neuron(torch.stack([pool(block.norm(block.conv(step))) for step in x]))
    assert expected.shape[-2:] == (4, 4)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(
    ("name", "size", "last"),
    [
        ("mobilenet", 48, 3),
        ("mobilenet", 34, 2),
        ("mobilenet_wide", 48, 1),
        ("mobilenet_published", 48, 3),
        ("mobilenet_wide_published", 48, 2),
        ("mobilenet_wide_published", 34, 2),
    ],
)
def test_maps_of_a_mobilenet(name, size, last):
    assert map_hw(MOBILENETS[name], (size, size)) == (last, last)


def test_first_neurons_of_every_family_see_the_frames_through_a_constant_threshold():
    for name in FAMILIES:
        first = next(layer for layer in build(name).modules() if isinstance(layer, Neuron))
        assert not first.settings.learn_threshold, name

"""Layers without state over time, and conv blocks."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from snn.layers import ConvBlock, StepDropout, Stepwise, fold_batch_norm, pool_kind, weight_layers
from snn.neurons.modules import Neuron
from snn.neurons.settings import NEURONS, NeuronSettings
from tests.suites import reference_kernels


def frames(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def keep_input(seen, module, inputs):
    seen.append(inputs[0])


@pytest.fixture
def fused(monkeypatch):
    """Run blocks fused, by kernels made of the reference; gives the calls of the operator."""
    from snn.neurons.ops import neuron_forward

    calls = []

    def forward(*arguments):
        calls.append(arguments)
        return neuron_forward(*arguments)

    monkeypatch.setattr("snn.neurons.arguments.kernels", lambda executor: reference_kernels)
    monkeypatch.setattr("snn.neurons.block.executor_for", lambda *_, **__: "numba")
    monkeypatch.setattr("snn.neurons.block.neuron_forward", forward)
    return calls


def make_block(*, neuron=NEURONS["lt"], executor="auto", **options):
    torch.manual_seed(0)
    return ConvBlock(2, 4, neuron=neuron, executor=executor, **options)


def same_parts(block, x, *, pool=None):
    """The block's layers called one after the other."""
    current = block.norm(block.conv(x.flatten(0, 1))).unflatten(0, x.shape[:2])
    spikes = block.neuron(current)
    return spikes if pool is None else pool(spikes)


def test_stepwise_applies_the_module_to_every_step():
    x = frames(3, 2, 4, 6, 6)
    pool = nn.AvgPool2d(2)
    expected = torch.stack([pool(step) for step in x])
    assert torch.equal(Stepwise(pool)(x), expected)


def test_batch_norm_takes_its_statistics_over_steps_and_samples(fused):
    torch.manual_seed(0)
    block = ConvBlock(2, 3, neuron=NeuronSettings())
    x = frames(4, 5, 2, 8, 8)
    seen = []
    block.neuron.register_forward_pre_hook(partial(keep_input, seen))
    block(x)
    (current,) = seen
    assert current.shape == (4, 5, 3, 8, 8)
    flat = current.detach().transpose(0, 2).flatten(1).double()  # per channel
    torch.testing.assert_close(flat.mean(1), torch.zeros(3).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(flat.var(1, unbiased=False), torch.ones(3).double(), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("stride", "out_hw"), [(1, (7, 9)), (2, (4, 5))])
def test_conv_block_gives_spikes_of_the_right_size(fused, stride, out_hw):
    torch.manual_seed(0)
    block = ConvBlock(2, 3, neuron=NeuronSettings(), stride=stride)
    spikes = block(frames(2, 1, 2, 7, 9))
    assert spikes.shape == (2, 1, 3, *out_hw)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}


def test_weights_are_drawn_by_kaiming_fan_out(fused):
    torch.manual_seed(0)
    weight = ConvBlock(16, 256, neuron=NeuronSettings()).conv.weight
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)  # sqrt(2 / fan out)


def test_folding_keeps_the_results_and_leaves_the_model_alone(fused):
    torch.manual_seed(0)
    model = nn.Sequential(
        ConvBlock(2, 4, neuron=NeuronSettings(learn_threshold=False)),
        ConvBlock(4, 3, neuron=NeuronSettings(), stride=2),
    )
    for seed in range(3):  # running statistics and affine away from their start
        model(2 + 3 * frames(3, 4, 2, 8, 8, seed=seed))
    with torch.no_grad():
        model[1].norm.weight.fill_(-0.7)
        model[1].norm.bias.fill_(0.4)
    folded = fold_batch_norm(model)
    currents = []
    for net in (model, folded):
        seen = []
        for module in net.modules():
            if isinstance(module, Neuron):
                module.register_forward_pre_hook(partial(keep_input, seen))
        net.eval()(frames(2, 2, 2, 8, 8, seed=9))
        currents.append(seen)
    for a, b in zip(*currents, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == 2


@pytest.mark.parametrize("pool", [None, nn.AvgPool2d(2), nn.MaxPool2d(2)])
def test_block_is_its_layers_one_after_the_other(fused, pool):
    pool = None if pool is None else Stepwise(pool)
    block, x = make_block().double(), frames(3, 2, 2, 8, 9).double()
    parts = copy.deepcopy(block)
    for mode in (True, False):
        out, expected = block.train(mode)(x, pool=pool), same_parts(parts.train(mode), x, pool=pool)
        torch.testing.assert_close(out, expected)
        grads = torch.autograd.grad(out.square().sum(), [p for p in block.parameters() if p.requires_grad])
        wanted = torch.autograd.grad(
            expected.square().sum(), [p for p in parts.parameters() if p.requires_grad]
        )
        for a, b in zip(grads, wanted, strict=True):
            torch.testing.assert_close(a, b)
    assert len(fused) == 2
    for a, b in zip(block.state_dict().values(), parts.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("layer", ["conv", "norm", "neuron", "pool", "everywhere"])
@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_see_what_goes_through_their_layer(fused, layer, register):
    block, x, pool = make_block().double(), frames(3, 2, 2, 8, 8).double(), Stepwise(nn.AvgPool2d(2))
    expected = same_parts(copy.deepcopy(block), x, pool=pool)
    seen = []
    if layer == "everywhere":
        handle = getattr(nn.modules.module, register.replace("register", "register_module"))(
            lambda *values: seen.append(values)
        )
    else:
        watched = pool if layer == "pool" else getattr(block, layer)
        handle = getattr(watched, register)(lambda *values: seen.append(values))
    torch.testing.assert_close(block(x, pool=pool, book=None), expected)
    handle.remove()
    assert len(seen) == (1 if layer != "everywhere" else len(seen))
    assert len(seen) >= 1
    fused.clear()
    block(x, pool=pool)
    assert len(fused) == 1  # the hook is gone


def test_gradients_pass_backward_hooks(fused):
    block, seen = make_block(), []
    block.neuron.register_full_backward_hook(lambda module, given, taken: seen.append(taken[0].shape))
    block(frames(3, 2, 2, 8, 8)).sum().backward()
    assert seen == [(3, 2, 4, 8, 8)]


@pytest.mark.parametrize(
    ("pool", "kind"),
    [
        (Stepwise(nn.AvgPool2d(2)), "avg"),
        (Stepwise(nn.MaxPool2d((2, 2))), "max"),
        (Stepwise(nn.AvgPool2d(3)), "none"),
        (Stepwise(nn.AvgPool2d(2, ceil_mode=True)), "none"),
        (Stepwise(nn.MaxPool2d(2, stride=1)), "none"),
        (Stepwise(nn.MaxPool2d(2, dilation=2)), "none"),
        (Stepwise(nn.AvgPool2d(2, divisor_override=3)), "none"),
        (Stepwise(nn.Identity()), "none"),
        (nn.AvgPool2d(2), "none"),
        (None, "none"),
    ],
    ids=str,
)
def test_which_pools_run_with_the_neurons(fused, pool, kind):
    assert pool_kind(pool) == kind
    if isinstance(pool, Stepwise):
        block, x = make_block().double(), frames(2, 2, 2, 7, 9).double()
        torch.testing.assert_close(block(x, pool=pool), same_parts(block, x, pool=pool))


def test_deep_copies_train_on_their_own(fused):
    block, x = make_block(), frames(3, 2, 2, 8, 8)
    before = copy.deepcopy(block.state_dict())
    twin = copy.deepcopy(block)
    twin(x).sum().backward()
    assert all(torch.equal(block.state_dict()[name], value) for name, value in before.items())
    assert all(p.grad is None for p in block.parameters())


def test_every_channel_has_its_threshold(fused):
    block = make_block(neuron=replace(NEURONS["lt"], per_channel=True, learn_decay=True))
    block(frames(3, 2, 2, 8, 8)).sum().backward()
    assert block.neuron.threshold.shape == block.neuron.decay.grad.shape == (4,)
    assert block.neuron.threshold.grad.count_nonzero() == 4


def test_packed_spikes_change_no_gradient(fused):
    spikes = (frames(3, 2, 2, 8, 8) > 0.5).float()
    grads = []
    for book in (None, (0.0, 1.0)):
        block = make_block()
        block(spikes, book=book).sum().backward()
        grads.append([p.grad for p in block.parameters() if p.requires_grad])
    for a, b in zip(*grads, strict=True):
        assert torch.equal(a, b)


def test_autocast_gives_spikes_in_its_dtype(fused):
    block = make_block()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = block(frames(3, 2, 2, 8, 8), pool=Stepwise(nn.AvgPool2d(2)))
    assert out.dtype == torch.bfloat16
    assert len(fused) == 1
    out.float().sum().backward()
    assert {p.grad.dtype for p in block.parameters() if p.requires_grad} == {torch.float32}


def test_folded_blocks_still_run_as_one(fused):
    block, x, pool = make_block().double().eval(), frames(3, 2, 2, 8, 8).double(), Stepwise(nn.MaxPool2d(2))
    expected = block(x, pool=pool)
    torch.testing.assert_close(fold_batch_norm(block)(x, pool=pool), expected)
    assert [call[-2] for call in fused] == ["running", "none"]


def test_roles_of_weight_layers_follow_from_their_names():
    model = nn.ModuleDict(
        {
            "block1": ConvBlock(2, 4, neuron=NeuronSettings()),
            "shortcut": nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)),
            "gate": nn.Sequential(nn.Linear(4, 4)),
            "block2": ConvBlock(4, 4, neuron=NeuronSettings()),
            "hidden": nn.Linear(4, 4),
            "classifier": nn.Linear(4, 3),
        }
    )
    found = weight_layers(model)
    assert [(name, role) for name, _, role in found] == [
        ("block1.conv", "first"),
        ("shortcut.0", "shortcut"),
        ("gate.0", "gate"),
        ("block2.conv", "inner"),
        ("hidden", "inner"),
        ("classifier", "last"),
    ]
    assert found[0][1] is model["block1"].conv


@pytest.mark.parametrize("per", ["step", "sample"])
def test_dropout_is_drawn_anew_for_every_step_or_sample(per):
    torch.manual_seed(0)
    dropout, x = StepDropout(0.25, per=per), torch.ones(3, 4, 200)
    first, second = dropout(x), dropout(x)
    assert first.unique().tolist() == pytest.approx([0, 4 / 3])
    assert 0.15 < (first == 0).float().mean() < 0.35
    assert not torch.equal(first, second)  # never frozen
    assert not torch.equal(first[:, 0], first[:, 1])
    assert torch.equal(first[0], first[1]) == (per == "sample")
    assert torch.equal(dropout.eval()(x), x)
    assert dropout(torch.ones(3, 7, 200)).shape == (3, 7, 200)  # any batch

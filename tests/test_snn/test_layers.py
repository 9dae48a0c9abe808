"""Layers without state over time, and conv blocks."""

from functools import partial

import pytest
import torch
from torch import nn

from snn.layers import ConvBlock, Stepwise, fold_batch_norm
from snn.neurons.modules import Neuron
from snn.neurons.settings import NeuronSettings


def frames(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def keep_input(seen, module, inputs):
    seen.append(inputs[0])


def test_stepwise_applies_the_module_to_every_step():
    x = frames(3, 2, 4, 6, 6)
    pool = nn.AvgPool2d(2)
    expected = torch.stack([pool(step) for step in x])
    assert torch.equal(Stepwise(pool)(x), expected)


def test_batch_norm_takes_its_statistics_over_steps_and_samples():
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
def test_conv_block_gives_spikes_of_the_right_size(stride, out_hw):
    torch.manual_seed(0)
    block = ConvBlock(2, 3, neuron=NeuronSettings(), stride=stride)
    spikes = block(frames(2, 1, 2, 7, 9))
    assert spikes.shape == (2, 1, 3, *out_hw)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}


def test_weights_are_drawn_by_kaiming_fan_out():
    torch.manual_seed(0)
    weight = ConvBlock(16, 256, neuron=NeuronSettings()).conv.weight
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)  # sqrt(2 / fan out)


def test_folding_keeps_the_results_and_leaves_the_model_alone():
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

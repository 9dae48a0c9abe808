"""Neurons that go on where they ended: two halves of a recording are the whole."""

import pytest
import torch
from torch import nn

from snn.layers import ConvBlock, Stepwise
from snn.neurons.memory import Memory
from snn.neurons.modules import Neuron
from snn.neurons.settings import NEURONS

NAMES = sorted(NEURONS)


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("executor", ["reference", "auto"])
@pytest.mark.parametrize("name", NAMES)
def test_two_halves_are_the_whole(name, executor, hooked):
    block = ConvBlock(2, 5, neuron=NEURONS[name], executor=executor).eval()
    seen = []
    if hooked:
        block.neuron.register_forward_hook(lambda _, arguments, spikes: seen.append(spikes))
    x = 3 * torch.rand(6, 2, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    pool = Stepwise(nn.AvgPool2d(2))
    with torch.no_grad():
        whole = block(x, pool=pool)
        first = Memory()
        halves = [block(x[:3], pool=pool, memory=first)]
        second = Memory(first.after)
        halves.append(block(x[3:], pool=pool, memory=second))
        afresh = block(x[3:], pool=pool)
    assert whole.count_nonzero() > 0
    assert torch.equal(torch.cat(halves), whole)
    assert not torch.equal(afresh, halves[1])
    assert list(second.after) == [block.neuron]
    assert second.after[block.neuron].shape == (2, 5, 8, 8)
    assert len(seen) == (4 if hooked else 0)


def test_a_neuron_alone_notes_its_membrane():
    neuron, memory = Neuron(NEURONS["lif"], executor="reference"), Memory()
    current = torch.tensor([0.4, 0.4]).reshape(2, 1, 1)
    assert neuron(current, memory).sum() == 0
    assert float(memory.after[neuron]) == pytest.approx(0.6)
    # 0.3 + 0.8 reaches the threshold of 1 only from where it was.
    again = torch.tensor([[[0.8]]])
    assert neuron(again, Memory(memory.after)).item() == 1
    assert neuron(again, Memory()).item() == 0

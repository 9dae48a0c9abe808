"""The module around the recurrence: what it holds, and that it keeps nothing else."""

import copy

import pytest
import torch

from snn.neurons.modules import Neuron
from snn.neurons.settings import NeuronSettings


def spikes_of(neuron, seed=0):
    return neuron(torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(seed)))


def test_learned_threshold_is_a_parameter_and_fixed_one_a_buffer():
    learned, fixed = (
        Neuron(NeuronSettings(threshold=0.6)),
        Neuron(NeuronSettings(learn_threshold=False, threshold=0.6)),
    )
    assert {name: p.requires_grad for name, p in learned.named_parameters()} == {
        "threshold": True,
        "spike_scale": False,
    }
    assert list(fixed.parameters()) == []
    assert list(dict(fixed.named_buffers())) == ["threshold"]
    assert learned.threshold.item() == fixed.threshold.item() == pytest.approx(0.6)


def test_no_state_is_kept_between_calls():
    neuron = Neuron(NeuronSettings())
    first = spikes_of(neuron)
    spikes_of(neuron, seed=1)
    assert torch.equal(spikes_of(neuron), first)
    assert set(neuron.state_dict()) == {"threshold", "spike_scale"}


def test_state_is_passed_on_with_run():
    neuron = Neuron(NeuronSettings(learn_threshold=False))
    spikes, v = neuron.run(torch.tensor([[0.8]]))
    assert (spikes.item(), v.item()) == (0.0, pytest.approx(0.8))
    spikes, v = neuron.run(torch.tensor([[0.7]]), v)
    assert (spikes.item(), v.item()) == (1.0, 0.0)  # a = 0.4 + 0.7


@pytest.mark.parametrize(
    ("constraint", "threshold"), [("positive", 1.0), ("positive", 0.01), ("sigmoid", 0.6)]
)
def test_constraint_keeps_its_value_and_its_bounds(constraint, threshold):
    neuron = Neuron(NeuronSettings(threshold=threshold, threshold_constraint=constraint))
    assert neuron.threshold.item() == pytest.approx(threshold, rel=1e-5)
    copied = copy.deepcopy(neuron)
    optimizer = torch.optim.SGD(neuron.parameters(), lr=3.0)
    (spikes_of(neuron) * -1).sum().backward()  # more spikes: lower threshold
    optimizer.step()
    assert 0 < neuron.threshold.item() < threshold
    assert copied.threshold.item() == pytest.approx(threshold, rel=1e-5)
    copied.load_state_dict(neuron.state_dict())
    assert copied.threshold.item() == neuron.threshold.item()


def test_free_threshold_may_turn_negative():
    neuron = Neuron(NeuronSettings(threshold=0.1))
    (spikes_of(neuron) * -1).sum().backward()
    torch.optim.SGD(neuron.parameters(), lr=10.0).step()
    assert neuron.threshold.item() < 0


def test_learned_spike_value_scales_the_spikes():
    neuron = Neuron(NeuronSettings(spike_value="learned"))
    with torch.no_grad():
        neuron.spike_scale.fill_(2.5)
    assert set(spikes_of(neuron).unique().tolist()) <= {0.0, 2.5}
    neuron(torch.tensor([[2.0], [0.0], [3.0]])).sum().backward()
    assert neuron.spike_scale.grad.item() == 2.0  # two spikes


def test_repr_says_what_the_layer_computes():
    assert repr(Neuron(NeuronSettings(threshold=0.75))) == (
        "Neuron(learned threshold=0.75, decay=0.5, fires at >=, hard reset, surrogate=triangle, "
        "threshold_gradient=subtract)"
    )
    assert repr(
        Neuron(NeuronSettings(learn_threshold=False, reset="soft", detach_reset=True, fire_rule=">"))
    ) == ("Neuron(threshold=1, decay=0.5, fires at >, soft reset, detached, surrogate=triangle)")

"""The definition of the neurons, against formulas written out by hand."""

import torch
from suites.neuron_suite import NeuronSuite

from snn.neurons.reference import NeuronParameters, run_neurons
from snn.neurons.settings import NeuronSettings


class TestReference(NeuronSuite):
    run = staticmethod(run_neurons)


def test_gradient_can_be_differentiated_again():
    x = torch.tensor([[0.3, 0.9, 1.4]], dtype=torch.float64, requires_grad=True)
    settings = NeuronSettings(surrogate="sigmoid", slope=4.0)
    spikes, _ = run_neurons(x, None, NeuronParameters(torch.tensor(1.0)), settings=settings)
    (first,) = torch.autograd.grad(spikes.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    z = 1 / (1 + torch.exp(-4 * (x.detach() - 1)))
    torch.testing.assert_close(first.detach(), 4 * z * (1 - z))
    torch.testing.assert_close(second, 16 * z * (1 - z) * (1 - 2 * z))


def test_threshold_per_channel_is_summed_over_its_channel_alone():
    current = torch.tensor([[[[0.9, 1.2], [0.4, 0.7]]]])  # [T, B, C, W]
    threshold = torch.tensor([1.0, 0.5], requires_grad=True)  # [C]
    settings = NeuronSettings(threshold_gradient="subtract+explicit")
    spikes, _ = run_neurons(current, None, NeuronParameters(threshold), settings=settings)
    assert spikes.flatten().tolist() == [0, 1, 0, 1]
    spikes.sum().backward()
    # triangle: 0.9, 0.8 and 0.9, 0.8; neurons that fired add triangle * sigmoid(0.2) = 0.8 * 0.549834
    one = -(0.9 + 0.8 + 0.8 * 0.549833997)
    torch.testing.assert_close(threshold.grad, torch.tensor([one, one]))

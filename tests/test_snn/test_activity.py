"""Firing rates, thresholds and spikes of a network, taken without touching it."""

import torch
from torch import nn

from snn.metrics.activity import neuron_layers, record_rates, record_spikes, thresholds
from snn.neurons.modules import Neuron
from snn.neurons.settings import NeuronSettings


def two_layers():
    """Neurons without memory: they fire in a step whose current reaches the threshold."""
    first = Neuron(NeuronSettings(decay=0.0, threshold=1.0))
    second = Neuron(NeuronSettings(learn_threshold=False, decay=0.0, threshold=0.5))
    return nn.Sequential(first, nn.Identity(), second)


def test_layers_and_thresholds_by_name():
    network = two_layers()
    assert list(neuron_layers(network)) == ["0", "2"]
    assert thresholds(network) == {"0": 1.0, "2": 0.5}


def test_rates_counted_by_hand_over_batches():
    network = two_layers()
    with record_rates(network) as recorded:
        # 2 steps, 1 sample, 2 neurons: three of four currents reach 1, their spikes of 1 reach 0.5.
        network(torch.tensor([[[1.0, 2.0]], [[0.2, 1.5]]]))
        network(torch.zeros(2, 2, 2))
    assert recorded.rates() == {"0": 3 / 12, "2": 3 / 12}


def test_spikes_are_those_of_the_last_batch():
    network = two_layers()
    with record_spikes(network) as spikes:
        network(torch.ones(2, 1, 2))
        network(torch.tensor([[[1.0, 0.0]], [[0.0, 3.0]]]))
    assert spikes["0"].tolist() == [[[1.0, 0.0]], [[0.0, 1.0]]]
    assert not spikes["0"].requires_grad


def test_nothing_stays_attached():
    network = two_layers()
    try:
        with record_rates(network) as recorded:
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    network(torch.ones(2, 1, 2))
    assert recorded.rates() == {}

"""Firing rates, thresholds and spikes of a network, taken without touching it."""

from dataclasses import replace

import torch
from torch import nn

from snn.metrics.activity import neuron_layers, record_rates, record_spikes, thresholds
from snn.models.registry import ModelSettings, build_model
from snn.neurons.modules import Neuron
from snn.neurons.settings import NEURONS, NeuronSettings
from tests.suites import reference_kernels


def two_layers():
    """Neurons without memory: they fire in a step whose current reaches the threshold."""
    first = Neuron(NeuronSettings(decay=0.0, threshold=1.0), executor="reference")
    second = Neuron(NeuronSettings(learn_threshold=False, decay=0.0, threshold=0.5), executor="reference")
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


def test_spikes_of_several_levels_count_once():
    neuron = Neuron(replace(NEURONS["mlif"], decay=0.0), executor="reference")
    network = nn.Sequential(neuron)
    with record_rates(network) as recorded:
        network(torch.tensor([[[0.5, 1.5, 3.0, 9.0]]]))  # spikes 0, 1, 2, 4
    assert recorded.rates() == {"0": 3 / 4}


def test_thresholds_per_channel_are_told_by_their_mean():
    neuron = Neuron(NeuronSettings(per_channel=True), channels=4)
    with torch.no_grad():
        neuron.threshold.copy_(torch.tensor([0.5, 1.0, 1.5, 3.0]))
    assert thresholds(nn.Sequential(neuron)) == {"0": 1.5}


def test_networks_that_run_blocks_as_one_are_seen_through(monkeypatch):
    monkeypatch.setattr("snn.neurons.arguments.kernels", lambda executor: reference_kernels)
    torch.manual_seed(0)
    settings = ModelSettings("vgg5", width=0.25, dropout=0.0)
    network = build_model(settings, input_hw=(16, 16), classes=3).eval()
    frames = 3 * torch.rand(2, 2, 2, 16, 16)
    with torch.no_grad(), record_spikes(network) as spikes, record_rates(network) as recorded:
        network(frames)
    assert {name: tuple(s.shape) for name, s in spikes.items()} == {
        "block1.neuron": (2, 2, 4, 16, 16),
        "block2.neuron": (2, 2, 8, 8, 8),
        "block3.neuron": (2, 2, 16, 4, 4),
    }
    for name, kept in spikes.items():
        assert set(kept.unique().tolist()) <= {0.0, 1.0}
        assert recorded.rates()[name] == kept.count_nonzero().item() / kept.numel()

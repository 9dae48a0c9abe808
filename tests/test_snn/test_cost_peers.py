"""Our counts beside those of NeuroBench and SpikingJelly, on what each of them can tell apart."""

import pytest
import torch
from neurobench.metrics.utils import layers as neurobench
from spikingjelly.activation_based import op_counter
from torch import nn

from snn.cost.counter import count_operations
from snn.cost.nonzeros import Values
from snn.layers import weight_layers
from snn.models.registry import ModelSettings, build_model
from snn.neurons.settings import NEURONS


def sparse(*shape, values, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.tensor(values, dtype=torch.float32)[torch.randint(len(values), shape, generator=generator)]


def network(name="vgg5", **options):
    """A network of few channels; thresholds are so low that every layer has spikes."""
    torch.manual_seed(0)
    neuron = NEURONS["lif"]
    settings = ModelSettings(name, width=0.125, neuron=neuron, executor="reference", pool="max", **options)
    model = build_model(settings, input_hw=(32, 32), classes=5).eval()
    for module in model.modules():
        if hasattr(module, "threshold"):
            module.threshold.fill_(0.05)
    return model


def layers(values):
    """Single layers and inputs of the given values: strides, groups, dilation, a map with odd borders."""
    torch.manual_seed(0)
    return [
        (nn.Conv2d(4, 6, 3, padding=1), sparse(3, 4, 9, 7, values=values)),
        (nn.Conv2d(4, 6, 3, stride=2, padding=1), sparse(3, 4, 9, 7, values=values)),
        (nn.Conv2d(4, 8, 3, padding=1, groups=4), sparse(3, 4, 9, 7, values=values)),
        (nn.Conv2d(4, 6, 3, padding=2, dilation=2), sparse(3, 4, 9, 7, values=values)),
        (nn.Conv2d(4, 6, 1, stride=2), sparse(3, 4, 9, 7, values=values)),
        (nn.Linear(12, 5), sparse(3, 12, values=values)),
    ]


def ours(layer, x):
    """Count of one layer, which sees steps and samples merged."""
    with torch.no_grad(), count_operations(nn.Sequential(layer)) as counter:
        layer(x)
    return counter.layers["0"]


@pytest.mark.parametrize("values", [(0, 1), (-1, 0, 1), (0, 0.5, 2.5)])
@pytest.mark.parametrize("index", range(6))
def test_neurobench_counts_the_same_operations(values, index):
    layer, x = layers(values)[index]
    expected, spiking = neurobench.single_layer_MACs(x, layer)
    count = ours(layer, x)
    assert count.effective == expected > 0
    assert (count.values <= Values.TERNARY) == spiking


def test_neurobench_counts_the_same_in_a_network():
    model, frames = network("resnet18"), sparse(2, 2, 2, 32, 32, values=(-1, 0, 1))
    inputs = {}
    for name, layer, _ in weight_layers(model):
        layer.register_forward_pre_hook(lambda _, arguments, name=name: inputs.update({name: arguments[0]}))
    with torch.no_grad(), count_operations(model) as counter:
        model(frames)
    for name, layer, _ in weight_layers(model):
        expected, spiking = neurobench.single_layer_MACs(inputs[name], layer)
        count = counter.layers[name]
        assert count.effective == expected, name
        if count.values != Values.NONE:
            assert (count.values <= Values.TERNARY) == spiking, name


@pytest.mark.parametrize("index", range(6))
def test_spikingjelly_counts_the_same_operations(index):
    layer, x = layers((0, 1))[index]
    theirs = op_counter.SynOpCounter()
    with torch.no_grad(), op_counter.DispatchCounterMode([theirs]):
        layer(x)
    assert ours(layer, x).effective == theirs.get_total() > 0


@pytest.mark.parametrize("name", ["vgg5", "mobilenet_depthwise"])
def test_spikingjelly_counts_the_same_in_a_binary_network(name):
    model, frames = network(name), sparse(2, 3, 2, 32, 32, values=(0, 0, 1))
    theirs = op_counter.SynOpCounter()
    with torch.no_grad(), op_counter.DispatchCounterMode([theirs]):
        model(frames)
    with torch.no_grad(), count_operations(model) as counter:
        model(frames)
    # It counts accumulations alone: layers that see spikes. Those after a linear layer see currents.
    spiking = [count for count in counter.layers.values() if count.values == Values.BINARY]
    assert len(spiking) > 3
    assert sum(count.effective for count in spiking) == theirs.get_total()

"""Networks of one-hot M-LIF: operations as published, one network for every number of lanes."""

from dataclasses import replace

import pytest
import torch

from snn.layers import weight_layers
from snn.losses import tet_loss
from snn.models.registry import ModelSettings, build_model
from snn.neurons.settings import published


def build(name, *, neuron, in_channels=2, size=48, classes=10, **settings):
    settings = ModelSettings(name, neuron=neuron, executor="reference", **settings)
    return build_model(settings, input_hw=(size, size), classes=classes, in_channels=in_channels)


def multiplications(model):
    """Multiply-accumulates of one sample in one step, by layer with weights; nothing is computed."""
    found = {}

    def note(name, layer, output):
        found[name] = output[0].numel() * layer.weight[0].numel()

    for name, layer, _ in weight_layers(model):
        layer.register_forward_hook(lambda layer, _, output, name=name: note(name, layer, output))
    model.eval()(torch.zeros(1, 1, model.options.in_channels, *model.options.input_hw, device="meta"))
    return list(found.values())


def test_operations_of_vggsnn():
    with torch.device("meta"):
        found = multiplications(build("vggsnn", neuron=published("mlif")))
    assert found == [
        2_654_208,
        42_467_328,
        169_869_312,
        84_934_656,
        169_869_312,
        84_934_656,
        84_934_656,
        21_233_664,
        46_080,
    ]
    assert sum(found) == 660_943_872


@pytest.mark.parametrize("lanes", range(1, 9))
def test_vggsnn_trains_with_every_number_of_lanes(lanes):
    """The release's own network fails with one lane; parameters do not depend on lanes."""
    torch.manual_seed(0)
    model = build("vggsnn", neuron=replace(published("mlif"), lanes=lanes), size=16, width=0.1)
    draw = torch.Generator().manual_seed(1)
    levels = torch.randint(-1, lanes, (3, 4, 2, 16, 16), generator=draw)
    frames = torch.where(levels < 0, 0.0, 2.0**levels)
    values = set()
    model.block2.neuron.register_forward_hook(
        lambda _, inputs, spikes: values.update(spikes.unique().tolist())
    )
    logits = model(frames)
    tet_loss(logits, torch.arange(4), weight=1e-3, target=1.0).backward()
    assert logits.shape == (3, 4, 10)
    assert values <= {0.0, *(2.0**lane for lane in range(lanes))}
    assert values > {0.0}
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
    assert model.block1.conv.weight.grad.abs().max() > 0

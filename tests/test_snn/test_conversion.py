"""Networks that are an ANN, a quantised ANN or an SNN, and the way from one to the other."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import nn

from snn.conversion.fold import folded_weights, take_weights
from snn.conversion.thresholds import ThresholdSettings, find_thresholds
from snn.errors import ConversionError, ModelError
from snn.models.registry import ModelSettings, build_model
from snn.neurons.modules import Neuron
from snn.neurons.settings import published
from snn.quant.levels import LevelReLU

NEURON = replace(published("mlif_converted"), upper_edge="subtract")
SIZES = {"resnet20": (8, 8), "vgg16": (16, 16)}


def settings(name, activation="neurons", **options):
    return ModelSettings(
        name, activation=activation, neuron=NEURON, first_fixed=False, executor="reference", **options
    )


def build(name, activation="neurons", *, seed=0, **options):
    torch.manual_seed(seed)
    options = {"width": 1 / 16, "dropout": 0.0} | options
    return build_model(
        settings(name, activation, **options), input_hw=SIZES[name], classes=3, in_channels=1
    ).eval()


def pictures(name, count=6):
    generator = torch.Generator().manual_seed(4)
    return torch.rand(1, count, 1, *SIZES[name], generator=generator)


@pytest.mark.parametrize(
    ("name", "size", "classes", "ann", "snn"),
    [
        ("vgg16", 32, 10, 39_929_920, 39_921_502),
        ("vgg16", 32, 100, 40_298_560, 40_290_142),
        ("vgg16_imagenet", 224, 1000, 138_356_800, 138_348_382),
        ("resnet20", 32, 10, 11_268_224, 11_258_406),
        ("resnet20", 32, 100, 11_452_544, 11_442_726),
    ],
)
def test_parameters_as_published(name, size, classes, ann, snn):
    """Those of the ANN with normalisation and biases, and of the SNN with a threshold and leak a layer."""
    for activation, expected in (("relu", ann), ("quantised", ann), ("neurons", snn)):
        with torch.device("meta"):
            model = build_model(
                settings(name, activation), input_hw=(size, size), classes=classes, in_channels=3
            )
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == expected


@pytest.mark.parametrize("name", SIZES)
def test_one_builder_gives_all_forms_and_variants(name):
    forms = {kind: build(name, kind) for kind in ("relu", "quantised", "neurons")}
    of_layers = {
        kind: {key for key in model.state_dict() if ".conv." in key or "hidden" in key}
        for kind, model in forms.items()
    }
    assert of_layers["relu"] == of_layers["quantised"] == of_layers["neurons"]
    kinds = {"relu": nn.ReLU, "quantised": LevelReLU, "neurons": Neuron}
    flows = forms["relu"].flows()
    assert flows[-1].activation is None
    for flow in flows[:-1]:
        for kind, model in forms.items():
            assert isinstance(model.get_submodule(flow.activation), kinds[kind])
    activations = [module for module in forms["relu"].modules() if isinstance(module, nn.ReLU)]
    assert len(activations) == len(flows) - 1
    bare = build(name, "relu", batch_norm=False, bias=False)
    assert not any("norm" in key or "bias" in key for key in bare.state_dict())
    normed = build(name, batch_norm=True)
    assert any(isinstance(module, nn.BatchNorm2d) for module in normed.modules())


def trained(name):
    """Return an ANN whose normalisations have seen something, and whose biases are not 0."""
    model = build(name, "relu")
    generator = torch.Generator().manual_seed(5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias.data, module.weight.data, module.running_var):
                tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.5)
        if isinstance(module, nn.Linear):
            module.weight.data.mul_(20)
    return model


@pytest.mark.parametrize("name", SIZES)
def test_with_rescaled_biases_the_snn_computes_what_the_ann_does(name, monkeypatch):
    """Neurons without levels, a ReLU in units of the threshold, leave nothing but rounding."""
    ann, snn = trained(name), build(name, seed=1)
    take_weights(snn, folded_weights(ann), where="here")
    x = pictures(name)
    monkeypatch.setattr(Neuron, "forward", lambda self, current: current.relu() / self.threshold)
    raw = find_thresholds(snn, lambda: [x[:, :4], x[:, 4:]], ThresholdSettings(scaling=0.7))
    assert list(raw) == [flow.activation for flow in snn.flows()[:-1]]
    torch.testing.assert_close(snn(x), ann(x), rtol=1e-3, atol=1e-4)
    assert snn(x).abs().max() > 0.01


@pytest.mark.parametrize("name", SIZES)
def test_with_rescaled_biases_lanes_hand_on_in_the_mean_what_they_are_given(name):
    ann, snn = trained(name), build(name, seed=1)
    take_weights(snn, folded_weights(ann), where="here")
    x = pictures(name)
    find_thresholds(snn, lambda: [x], ThresholdSettings(scaling=0.5))
    seen = {}
    first, second = snn.flows()[:2]
    for flow in (first, second):
        neuron = snn.get_submodule(flow.activation)
        neuron.register_forward_hook(
            lambda _m, arguments, spikes, at=flow.activation: seen.update({at: (arguments[0], spikes)})
        )
    snn(x)
    current, spikes = seen[first.activation]
    worth = current.relu().sum() / spikes.sum()
    folded = folded_weights(ann)[f"{second.synapses[-1].layer}.bias"]
    found = snn.get_submodule(second.synapses[-1].layer).bias
    torch.testing.assert_close(found, folded / worth, rtol=1e-3, atol=1e-6)
    # What rounds down is worth more than its lower edge.
    assert worth > 1.1 * snn.get_submodule(first.activation).threshold


def test_a_layer_that_never_fires_is_named():
    ann, snn = trained("resnet20"), build("resnet20", seed=1)
    take_weights(snn, folded_weights(ann), where="here")
    with pytest.raises(
        ConversionError, match=r"stem1.activation: found no spikes .* lower search.thresholds"
    ):
        find_thresholds(snn, lambda: [pictures("resnet20")], ThresholdSettings(scaling=100.0))


@pytest.mark.parametrize("name", SIZES)
def test_thresholds_follow_from_currents_and_lanes(name):
    ann = trained(name)
    x = pictures(name)
    found = {}
    for batches in ([x], [x[:, :1], x[:, 1:]]):
        snn = build(name, steps=2)
        take_weights(snn, folded_weights(ann), where="here")
        raw = find_thresholds(snn, lambda batches=batches: batches, ThresholdSettings(scaling=0.5))
        found[len(batches)] = raw
        for layer, value in raw.items():
            assert snn.get_submodule(layer).threshold.item() == pytest.approx(0.5 * value)
    # Batches of another size change a convolution's rounding, and nothing else.
    assert found[1] == pytest.approx(found[2], rel=1e-5)
    first = next(iter(raw))
    current = nn.functional.conv2d(x[0], *(p for p in fold_first(ann)), padding=1)
    ordered = current.flatten().sort().values
    expected = ordered[round(0.997 * (len(ordered) - 1))].item() / 4
    assert raw[first] == pytest.approx(expected, rel=1e-5)


def fold_first(ann):
    weights = folded_weights(ann)
    name = ann.flows()[0].synapses[0].layer
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def test_processes_find_what_one_finds():
    """Two workers with half of the samples each, whose counts are added up as processes add theirs up."""
    ann, x = trained("resnet20"), pictures("resnet20", count=8)
    networks = [build("resnet20", steps=2) for _ in range(3)]
    for network in networks:
        take_weights(network, folded_weights(ann), where="here")
    alone = find_thresholds(networks[2], lambda: [x[:, :4], x[:, 4:]], ThresholdSettings())
    barrier, shares = threading.Barrier(2, timeout=60), [None, None]

    def work(rank):
        def reduce(counts):
            shares[rank] = counts
            barrier.wait()
            total = shares[0] + shares[1]
            barrier.wait()
            return total

        half = x[:, 4 * rank : 4 * rank + 4]
        return find_thresholds(networks[rank], lambda: [half], ThresholdSettings(), reduce=reduce)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(work, range(2)))
    assert found == [alone, alone]
    for name, tensor in networks[2].state_dict().items():
        assert torch.equal(networks[0].state_dict()[name], tensor), name


def test_what_cannot_be_converted_is_refused():
    snn, x = build("resnet20"), pictures("resnet20")
    with pytest.raises(ConversionError, match="calibration set: found no samples, expected at least one"):
        find_thresholds(snn, list, ThresholdSettings())
    with pytest.raises(ConversionError, match=r"stem1.activation: the 99.7 percentile of its current is 0"):
        find_thresholds(snn, lambda: [torch.zeros_like(x)], ThresholdSettings())
    with pytest.raises(ConversionError, match="found ReLU, expected neurons; search the SNN, not the ANN"):
        find_thresholds(build("resnet20", "relu"), lambda: [x], ThresholdSettings())
    with pytest.raises(ModelError, match=r"here: of another network.*missing"):
        take_weights(snn, build("vgg16", "relu").state_dict(), where="here")
    with pytest.raises(ConversionError, match="in_force: found 'raw' with rescale_biases"):
        ThresholdSettings(in_force="raw")
    with pytest.raises(ModelError, match="activation: found 'relu' for vgg9, expected neurons"):
        ModelSettings("vgg9", activation="relu")

"""Networks of one-hot M-LIF: operations as published, one network for every number of lanes."""

from dataclasses import replace

import pytest
import torch

from snn.cost.dense import dense_macs
from snn.errors import ModelError
from snn.layers import ConvBlock, weight_layers
from snn.losses import tet_loss
from snn.models.registry import ModelSettings, build_model
from snn.models.spike_driven_transformer import KeyValueSum
from snn.neurons.modules import Neuron
from snn.neurons.settings import NEURONS, published

# The transformer's neurons: M-LIF's, and those of its first release.
SPIKES = {
    "mlif_node": published("mlif_node"),
    "mlif_fast": published("mlif_fast"),
    "lif": replace(
        NEURONS["lif"], charge="decay_input", detach_reset=True, surrogate="sigmoid", fire_rule=">="
    ),
    "plif": NEURONS["plif"],
}


def build(name, *, neuron, in_channels=2, size=48, classes=10, **settings):
    settings = ModelSettings(name, neuron=neuron, executor="reference", **settings)
    return build_model(settings, input_hw=(size, size), classes=classes, in_channels=in_channels)


def test_operations_of_vggsnn():
    with torch.device("meta"):
        found = dense_macs(build("vggsnn", neuron=published("mlif")), (2, 48, 48))
    assert list(found.values()) == [
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
    assert sum(found.values()) == 660_943_872


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


@pytest.mark.parametrize(
    ("name", "size", "classes", "parameters", "operations"),
    [
        ("spike_driven_2_512", 32, 10, 10_233_546 - 2 * 64, 1_234_899_968),
        ("spike_driven_8_512", 224, 1000, 29_689_896 - 8 * 64, 8_256_671_744),
    ],
)
def test_parameters_and_operations_of_the_transformer(name, size, classes, parameters, operations):
    """As published, but for the convolution of 8 heads to 8 that every block has there and never calls."""
    with torch.device("meta"):
        model = build(name, neuron=SPIKES["mlif_node"], in_channels=3, size=size, classes=classes)
        assert sum(parameter.numel() for parameter in model.parameters()) == parameters
        assert sum(dense_macs(model, (3, size, size)).values()) == operations


@pytest.mark.parametrize("spikes", SPIKES)
@pytest.mark.parametrize("name", ["spike_driven_2_512", "spike_driven_2_256_events"])
def test_the_transformer_trains_with_every_kind_of_spike(name, spikes):
    torch.manual_seed(0)
    model = build(name, neuron=SPIKES[spikes], size=32, width=0.0625, blocks=1)
    frames = 4 * torch.rand(3, 2, 2, 32, 32, generator=torch.Generator().manual_seed(1))
    logits = model(frames)
    tet_loss(logits, torch.tensor([1, 5]), weight=0.05, target=1.0).backward()
    assert logits.shape == (3, 2, 10)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
    assert model.patch1.conv.weight.grad.abs().max() > 0
    thresholds = {float(neuron.threshold) for neuron in model.modules() if isinstance(neuron, Neuron)}
    assert thresholds == {1.0, 0.5}


def test_layers_of_the_transformer():
    model = build("spike_driven_8_512", neuron=SPIKES["lif"], size=32, width=0.0625, blocks=2)
    names = " ".join(name for name, _ in model.named_children())
    assert names == (
        "patch1 pool1 patch2 pool2 patch3 pool3 patch4 pool4 token_neuron position "
        "block1 block2 head_neuron classifier"
    )
    roles = [role for _, _, role in weight_layers(model)]
    assert roles == ["first"] + ["inner"] * (len(roles) - 2) + ["last"]
    deviation = float(model.block1.expand.conv.weight.detach().std())
    assert deviation == pytest.approx(0.02, rel=0.1)
    assert not model.block1.project.conv.bias.any()
    # Convolutions that are followed by neurons, and those whose current is added up.
    assert sum(isinstance(module, ConvBlock) for module in model.modules()) == 3 + 2 * 4
    spikformer = build("spikformer_4_256", neuron=SPIKES["lif"], blocks=1, width=0.1)
    assert [name for name, _ in spikformer.named_children() if name.startswith("block")] == ["block1"]
    with pytest.raises(ModelError, match=r"blocks: found 0, expected at least 1, or none"):
        ModelSettings(blocks=0)


def spikes_of(seed, *shape):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.2).float()


def largest(x, row, column):
    """Largest of up to 3x3 neighbours of one place of a map [H, W]."""
    return x[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].max()


@pytest.mark.parametrize("erode", ["none", "places", "published"])
def test_keys_and_values_are_summed_over_tokens_by_channel(erode):
    T, B, C, H, W, heads = 2, 1, 4, 3, 5, 2
    key, value = spikes_of(1, T, B, C, H, W), spikes_of(2, T, B, C, H, W)
    found = KeyValueSum(erode, heads)(key, value)
    assert found.shape == (T, B, C, 1, 1)
    expected = torch.zeros(T, B, C)
    for t in range(T):
        product = torch.zeros(C, H, W)
        for c in range(C):
            for y in range(H):
                for x in range(W):
                    if erode == "none":
                        product[c, y, x] = key[t, 0, c, y, x] * value[t, 0, c, y, x]
                    else:
                        product[c, y, x] = largest(key[t, 0, c], y, x) * largest(value[t, 0, c], y, x)
        for c in range(C):
            # As released: a map of tokens and the features of a head.
            first = c // (C // heads) * (C // heads)
            tokens = product[first : first + C // heads].flatten(1).T
            for n in range(H * W):
                if erode == "none":
                    expected[t, 0, c] += product[c].flatten()[n]
                elif erode == "places":
                    expected[t, 0, c] += largest(product[c], n // W, n % W)
                else:
                    expected[t, 0, c] += largest(tokens, n, c - first)
    assert torch.equal(found[..., 0, 0], expected)


def test_queries_go_on_where_their_channel_is_kept():
    model = build("spike_driven_2_512", neuron=SPIKES["lif"], size=16, width=0.0625).eval()
    block = model.block1
    seen = {}
    block.attention_neuron.register_forward_hook(lambda _, inputs, output: seen.update(kept=output))
    block.query.register_forward_hook(lambda _, inputs, output: seen.update(query=output))
    block.project.register_forward_pre_hook(lambda _, inputs: seen.update(project=inputs[0]))
    model(20 * torch.rand(2, 2, 2, 16, 16, generator=torch.Generator().manual_seed(3)))
    assert torch.equal(seen["project"], seen["query"] * seen["kept"])


def test_packed_spikes_of_the_transformer_train_alike():
    gradients = []
    for pack_spikes in (False, True):
        torch.manual_seed(0)
        model = build(
            "spike_driven_2_512", neuron=SPIKES["mlif_node"], size=16, width=0.0625, pack_spikes=pack_spikes
        ).double()
        frames = 4 * torch.rand(2, 2, 2, 16, 16, generator=torch.Generator().manual_seed(4)).double()
        model(frames).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, packed in zip(*gradients, strict=True):
        torch.testing.assert_close(packed, plain)

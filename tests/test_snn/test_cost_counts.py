"""Operations counted against brute force: every weight used is met one by one."""

import copy

import pytest
import torch
from torch import nn

from snn.cost.convolution import uses_kept, uses_of
from snn.cost.counter import count_operations
from snn.cost.nonzeros import Values, count_uses, look_at, outer, places_used
from snn.cost.nonzeros_cpu import count_and_look, sum_and_look
from snn.errors import CostError
from snn.layers import Gate, Gated, convolve, weight_layers
from snn.metrics.activity import neuron_layers
from snn.models.registry import ModelSettings, build_model
from snn.models.spike_driven_transformer import KeyValueSum
from snn.models.spikformer import SpikeAttention
from snn.neurons.hooks import is_hooked
from snn.neurons.settings import NEURONS
from snn.sparsity.settings import SparsitySettings

# Kernel, stride, padding, dilation, groups.
GEOMETRIES = [
    (3, 1, 1, 1, 1),
    (3, 2, 1, 1, 2),
    (1, 2, 0, 1, 4),
    (1, 1, 1, 1, 1),
    (7, 2, 3, 1, 1),
    (3, 1, 0, 2, 2),
    (4, 3, 2, 1, 1),
]


def convolution(geometry, channels=4):
    kernel, stride, padding, dilation, groups = geometry
    return nn.Conv2d(4, channels, kernel, stride, padding, dilation, groups, bias=False)


def uses_by_running(conv, x, kept=None):
    """Sum of the outputs of the convolution with ones of an input with ones: every use adds 1."""
    ones = copy.deepcopy(conv)
    nn.init.ones_(ones.weight)
    ones.bias = None
    with torch.no_grad():
        outputs = ones((x != 0).float())
    return int((outputs if kept is None else outputs * kept).sum())


def sparse(*shape, values=(0, 0, 1), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.tensor(values, dtype=torch.float32)[torch.randint(len(values), shape, generator=generator)]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_uses_are_those_of_running_the_convolution(geometry):
    conv, x = convolution(geometry), sparse(3, 4, 11, 9)
    found = count_uses(x, uses_of(conv, (11, 9))).sum() * (conv.out_channels // conv.groups)
    assert int(found) == uses_by_running(conv, x)


def test_padding_by_name_is_that_of_torch():
    x = sparse(2, 4, 8, 7)
    for padding in ("same", "valid"):
        conv = nn.Conv2d(4, 4, (5, 3), padding=padding, dilation=(1, 2), bias=False)
        assert int(count_uses(x, uses_of(conv, (8, 7))).sum()) * 4 == uses_by_running(conv, x)


def test_places_counted_by_hand():
    assert places_used(4, 3, 1, 1, 1, 1) == (2, 3, 3, 2)
    assert places_used(5, 3, 2, 1, 1, 1) == (1, 2, 1, 2, 1)
    assert places_used(4, 2, 2, 0, 1, 0) == (1, 1, 1, 1)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 5, 7, 3), (3, 33, 4, 4)])
@pytest.mark.parametrize(
    "values",
    [(0,), (0, 1), (-2, 0, 2), (-0.0, 1), (0, 1, 2, 4), (0, 0.7, 1.4), (0, 0.25, 0.75), (-1, 0, 3)],
)
def test_one_pass_on_the_cpu_agrees_with_the_definition(memory, shape, values):
    x = sparse(*shape, values=values).to(memory_format=memory)
    uses = outer(*(places_used(size, 3, 1, 1, 1, 1) for size in shape[2:]))
    counts, seen = count_and_look(x, uses)
    assert torch.equal(counts, count_uses(x, uses))
    assert seen == look_at(x)
    assert seen.values == look_at(x).values
    # In slices too, which lie in neither order.
    for part in (x, x[:, ::2], x[..., 1:]):
        if part.numel():
            places = uses[:, : part.shape[3]].contiguous()
            assert sum_and_look(part, places) == (int(count_uses(part, places).sum()), look_at(part))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0], Values.NONE),
        ([-0.0, 0], Values.NONE),
        ([0, 1, 1], Values.BINARY),
        ([0.3, 0, -0.0], Values.BINARY),
        ([-1, 0, 1], Values.TERNARY),
        ([-0.5, 0, 0], Values.TERNARY),
        ([0, 1, 2, 4], Values.POWERS),
        ([0, -0.25, 8], Values.POWERS),
        # A scale folds into the weights.
        ([0, 0.3, 0.6, 2.4], Values.POWERS),
        ([0, 1, 3], Values.ANY),
        ([0.25, 0.75], Values.ANY),
    ],
)
def test_values_are_classed_by_what_they_have_in_common(values, expected):
    x = torch.tensor(values, dtype=torch.float32)
    assert look_at(x).values == expected
    assert (
        count_and_look(x.reshape(1, 1, 1, -1), torch.ones(1, len(x), dtype=torch.int32))[1].values == expected
    )
    assert look_at(x.double()).values == expected


def test_values_of_two_batches_are_classed_together():
    assert look_at(torch.tensor([0.0, 1.0])).also(look_at(torch.tensor([0.0, 2.0]))).values == Values.POWERS
    assert look_at(torch.tensor([1.0])).also(look_at(torch.tensor([-1.0]))).values == Values.TERNARY
    # Each is shifted alone; together they have no number in common.
    scaled = [look_at(scale * torch.tensor([0.0, 1.0, 2.0])) for scale in (1.0, 0.7)]
    assert [seen.values for seen in scaled] == [Values.POWERS, Values.POWERS]
    assert scaled[0].also(scaled[1]).values == Values.ANY
    assert look_at(torch.zeros(2)).also(scaled[1]).values == Values.POWERS


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_masked_outputs_do_not_count(geometry):
    conv, x = convolution(geometry, channels=8), sparse(6, 4, 11, 9)
    height, width = conv(x).shape[2:]
    for shape in ((2, 3, 8), (2, 3, 8, height, width), (2, 3, 1, height, width)):
        mask = sparse(*shape, values=(0, 0.5), seed=1)
        kept = (mask != 0).flatten(0, 1).float()
        kept = kept if kept.dim() == 4 else kept[:, :, None, None]
        assert int(uses_kept(conv, x, mask)) == uses_by_running(conv, x, kept)
    # Run once for the three steps of two pictures: needed where any step keeps it.
    mask = sparse(3, 2, 8, values=(0, 0, 1), seed=2)
    needed = mask.amax(dim=0)[:, :, None, None]
    assert int(uses_kept(conv, x[:2], mask)) == uses_by_running(conv, x[:2], needed)
    with pytest.raises(CostError, match=r"mask: found shape \(2, 3, 7\), expected one for outputs \(6, 8, "):
        uses_kept(conv, x, torch.ones(2, 3, 7))


def build(name="vgg5", *, size=16, **options):
    torch.manual_seed(0)
    settings = ModelSettings(name, width=0.25, executor="reference", **{"neuron": NEURONS["lif"]} | options)
    return build_model(settings, input_hw=(size, size), classes=5).eval()


def counts(model, frames):
    with torch.no_grad(), count_operations(model) as counter:
        for batch in frames:
            model(batch)
    per_sample = {
        name: (count.dense / counter.samples, count.effective / counter.samples, count.values)
        for name, count in counter.layers.items()
    }
    return counter, per_sample


@pytest.mark.parametrize("name", ["vgg5", "mobilenet_depthwise", "resnet18", "preact_resnet18"])
def test_every_layer_of_a_network_is_counted_as_it_ran(name):
    model, frames = build(name, size=32), sparse(2, 2, 2, 32, 32, values=(0, 0, 1, 3))
    seen = {}
    for layer_name, layer, _ in weight_layers(model):
        layer.register_forward_hook(
            lambda layer, arguments, output, name=layer_name: seen.update(
                {name: (layer, arguments[0], output)}
            )
        )
    counter, _ = counts(model, [frames])
    assert set(counter.layers) == set(seen)
    assert (counter.samples, counter.steps) == (2, 4)
    for layer_name, (layer, x, output) in seen.items():
        count = counter.layers[layer_name]
        assert count.dense == output.numel() * layer.weight[0].numel()
        if isinstance(layer, nn.Conv2d):
            assert count.effective == uses_by_running(layer, x)
        else:
            assert count.effective == int((x != 0).sum()) * layer.out_features


def test_a_sample_costs_the_same_in_any_batch():
    model = build()
    frames = sparse(3, 6, 2, 16, 16, values=(0, 0, 1, 2, 3))
    one = counts(model, [frames])[1]
    for parts in (frames.split(1, dim=1), frames.split(4, dim=1), [frames, frames]):
        assert counts(model, parts)[1] == one
    repeated = counts(model, [frames[:, :1].expand(-1, 50, -1, -1, -1)])[1]
    assert repeated == counts(model, [frames[:, :1]])[1]


def test_large_inputs_are_counted_as_small_ones_are(monkeypatch):
    """Beyond a size the uses of every element are not remembered one by one."""
    settings = ModelSettings("vgg5", width=0.25)
    model = build_model(settings, input_hw=(16, 16), classes=4).eval()
    frames = torch.poisson(torch.full((3, 2, 2, 16, 16), 0.3))

    def counted():
        with torch.no_grad(), count_operations(model) as counter:
            model(frames)
        layers = counter.layers.items()
        return {name: (found.effective, found.dense, found.values) for name, found in layers}

    small = counted()
    monkeypatch.setattr("snn.cost.convolution.EXPANDED", 0)
    assert counted() == small
    assert sum(effective for effective, _, _ in small.values()) > 0


def test_lanes_are_powers_of_two_and_pools_decide():
    frames = sparse(6, 2, 2, 16, 16, values=(0, 5, 9))
    lanes = build(neuron=NEURONS["mlif"], pool="max")
    for layer in neuron_layers(lanes).values():
        layer.threshold.fill_(0.02)
    assert counts(lanes, [frames])[1]["block2.conv"][2] == Values.POWERS
    assert counts(build(pool="max"), [frames])[1]["block2.conv"][2] == Values.BINARY
    assert counts(build(pool="avg"), [frames])[1]["block2.conv"][2] == Values.ANY


def test_neurons_stay_fused_and_nothing_is_left_behind():
    model = build()
    with count_operations(model):
        assert not any(is_hooked(neuron) for neuron in neuron_layers(model).values())
        assert any(is_hooked(module) for module in model.modules())
    assert not any(is_hooked(module) for module in model.modules())


class EveryOther(Gate):
    """Lets every other channel through."""

    def forward(self, x, conv, norm, *, book=None):
        mask = torch.zeros(*x.shape[:2], conv.out_channels)
        mask[:, :, ::2] = 1
        return Gated(convolve(x, conv, book), mask, mask, None)


def test_a_gate_is_credited_for_the_channels_it_leaves_out():
    model, frames = build(), sparse(3, 2, 2, 16, 16, values=(0, 4))
    dense = counts(model, [frames])[0].layers["block2.conv"]
    model.block2.gate = EveryOther()
    gated = counts(model, [frames])[0].layers["block2.conv"]
    assert dense.effective == dense.unmasked == gated.unmasked == 2 * gated.effective > 0
    assert gated.dense == dense.dense


@pytest.mark.parametrize("partial", ["first", "groups"])
def test_a_partial_sum_is_completed_where_its_gate_says(partial):
    sparsity = SparsitySettings(kind="channel_gating", parts=2, partial=partial, warm_up_batches=0)
    model, frames = build(sparsity=sparsity), sparse(3, 2, 2, 16, 16, values=(0, 4))
    seen = {}
    model.block2.gate.register_forward_hook(
        lambda _, arguments, output: seen.update(x=arguments[0], kept=output.kept)
    )
    count = counts(model, [frames])[0].layers["block2.conv"]
    x, kept = seen["x"].flatten(0, 1), seen["kept"].flatten(0, 1)
    assert 0 < kept.mean() < 1
    expected = 0
    for channel in range(x.shape[1]):
        alone = torch.zeros_like(x)
        alone[:, channel] = x[:, channel]
        for output in range(kept.shape[1]):
            one = torch.zeros_like(kept)
            in_part = channel < 2 if partial == "first" else channel // 2 == output // (kept.shape[1] // 2)
            one[:, output] = 1 if in_part else kept[:, output]
            expected += uses_by_running(model.block2.conv, alone, one)
    assert (count.effective, count.unmasked) == (expected, uses_by_running(model.block2.conv, x))


@pytest.mark.parametrize(
    ("kind", "own"), [("channel_predictor", "linear"), ("channel", "second"), ("spatial", "conv")]
)
def test_gates_count_too(kind, own):
    frames = sparse(3, 2, 2, 16, 16, values=(0, 4))
    model = build(sparsity=SparsitySettings(kind=kind, warm_up_batches=0))
    for parameter in model.block2.gate.parameters():
        nn.init.normal_(parameter)
    counter, _ = counts(model, [frames])
    # Every layer with weights ran, and is counted.
    assert set(counter.layers) == {name for name, _, _ in weight_layers(model)}
    gate = counter.layers[f"block2.gate.{own}"]
    assert 0 < gate.effective <= gate.dense
    block = counter.layers["block2.conv"]
    assert 0 < block.effective < block.unmasked
    if kind == "spatial":
        # 6 frames, 4 channels in, 4x4 patches of 2x2 places.
        assert gate.dense == 6 * 9 * 4 * 16


def test_attention_is_counted_pair_by_pair():
    attention = SpikeAttention(heads=2, scale=0.5)
    q, k, v = (sparse(2, 3, 6, 2, 2, values=(0, 1), seed=seed) for seed in range(3))
    model = nn.Sequential(attention)
    model.forward = lambda frames: attention(q, k, v)
    with count_operations(model) as counter:
        model(q)
    expected = 0
    for t, b, head in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(2)):
        # [3 features, 4 tokens] of a head.
        qh, kh, vh = (x[t, b].flatten(1)[3 * head : 3 * head + 3] for x in (q, k, v))
        expected += int((vh @ kh.T).sum()) + 3 * int(qh.sum())
    count = counter.layers["0"]
    assert (count.effective, count.values) == (expected, Values.BINARY)
    assert count.dense == 2 * (2 * 3 * 2) * 4 * 3 * 3


@pytest.mark.parametrize(("values", "expected"), [((1,), Values.BINARY), ((0.25, 0.5, 1), Values.POWERS)])
@pytest.mark.parametrize("erode", ["none", "places"])
def test_sums_of_keys_and_values_are_counted_pair_by_pair(values, expected, erode):
    layer = KeyValueSum(erode, heads=2)
    values = (*[0] * 9 * len(values), *values)
    key, value = (sparse(2, 3, 4, 5, 5, values=values, seed=seed) for seed in range(2))
    model = nn.Sequential(layer)
    model.forward = lambda frames: layer(key, value)
    with count_operations(model) as counter:
        model(key)
    pairs = 0
    for place in torch.cartesian_prod(*(torch.arange(size) for size in (2, 3, 4, 5, 5))).tolist():
        *channel, row, column = place
        if erode == "none":
            pairs += bool(key[*channel, row, column] and value[*channel, row, column])
            continue
        # What is added is the largest of 3x3 products, each of the largest of 3x3 keys and values.
        pairs += any(
            bool(near(key[*channel], y, x).any() and near(value[*channel], y, x).any())
            for y in range(max(row - 1, 0), min(row + 2, 5))
            for x in range(max(column - 1, 0), min(column + 2, 5))
        )
    count = counter.layers["0"]
    assert (count.effective, count.unmasked, count.values) == (pairs, pairs, expected)
    assert 0 < pairs < count.dense == key.numel()


def near(x, row, column):
    return x[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]


def test_padding_that_is_not_zeros_is_refused():
    with pytest.raises(CostError, match="padding_mode: found 'circular', expected 'zeros'"):
        uses_of(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), (4, 4))

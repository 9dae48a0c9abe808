"""Batch normalisation, neurons and pooling as one, against torch's layers and the reference."""

import copy
import logging
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, max_pool2d

from snn.errors import NeuronError
from snn.neurons import block as block_module
from snn.neurons.arguments import settings_text
from snn.neurons.block import run_block
from snn.neurons.kernels import numba_cpu
from snn.neurons.kernels.launch import CHUNK
from snn.neurons.modules import Neuron
from snn.neurons.ops import neuron_backward, neuron_forward
from snn.neurons.reference import NeuronParameters
from snn.neurons.reference import run_neurons as run_reference
from snn.neurons.settings import NEURONS
from snn.neurons.statistics import channel_statistics
from tests.suites import reference_kernels

LT = NEURONS["lt"]
# Every reset, width and charge passes the kernels' own suite; here one neuron of each kind is enough.
PER_CHANNEL = replace(LT, per_channel=True, learn_decay=True, decay=0.7, threshold=0.6, reset="soft")


@pytest.fixture
def stand_in(monkeypatch):
    """Run blocks fused, by kernels made of the reference."""
    monkeypatch.setattr("snn.neurons.arguments.kernels", lambda executor: reference_kernels)
    monkeypatch.setattr("snn.neurons.block.executor_for", lambda *_, **__: "numba")


@pytest.fixture(params=["stand-in", "numba"])
def fused(request):
    """Run blocks fused: by kernels made of the reference, and by Numba's."""
    if request.param == "stand-in":
        request.getfixturevalue("stand_in")
    else:
        assert numba_cpu.why_not(LT, dtype=torch.float32) is None


def draw(*shape, seed=0, dtype=torch.float64, channels_last=False):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    if channels_last:
        values = values.movedim(-3, -1).contiguous().movedim(-1, -3)
    return values


def make_norm(channels, *, seed=0, dtype=torch.float64, **options):
    """A normalisation in use: parameters and running statistics away from their start."""
    norm = nn.BatchNorm2d(channels, **options).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        if norm.affine:
            norm.weight.copy_(torch.randn(channels, generator=generator))
            norm.bias.copy_(torch.randn(channels, generator=generator))
        if norm.track_running_stats:
            norm.running_mean.copy_(torch.randn(channels, generator=generator))
            norm.running_var.copy_(0.5 + torch.rand(channels, generator=generator))
    return norm


def make_neuron(settings, channels, *, dtype=torch.float64, executor="auto"):
    return Neuron(settings, channels=channels, executor=executor).to(dtype)


def one_after_the_other(y, norm, neuron, *, pool="none", v=None, mask=None):
    """The definition: torch's normalisation, the reference, torch's pooling."""
    current = norm(y.flatten(0, 1)).unflatten(0, y.shape[:2])
    parameters = NeuronParameters(neuron.threshold, None, neuron.decay)
    spikes, v = run_reference(current, v, parameters, settings=neuron.settings, mask=mask)
    if pool != "none":
        rule = avg_pool2d if pool == "avg" else max_pool2d
        spikes = rule(spikes.flatten(0, 1), 2).unflatten(0, spikes.shape[:2])
    return spikes, v


def learned(*modules):
    return [p for module in modules for p in module.parameters() if p.requires_grad]


def assert_same_block(y, norm, neuron, *, v=None, mask=None, pool="none", with_v=True, **tolerance):
    """Values, gradients and running statistics of the fused block and of the definition."""
    tolerance = {"rtol": 1e-9, "atol": 1e-10} | tolerance
    found, wanted = [], []
    for results, run in ((found, run_block), (wanted, one_after_the_other)):
        norm_, neuron_ = copy.deepcopy(norm), copy.deepcopy(neuron)
        out, last = run(y, norm_, neuron_, pool=pool, v=v, mask=mask)
        above = [draw(*out.shape, seed=7, dtype=out.dtype)]
        above += [draw(*last.shape, seed=8, dtype=last.dtype)] * with_v
        leaves = [x for x in (y, v) if x is not None and x.requires_grad] + learned(norm_, neuron_)
        results.extend([out, last])
        results.extend(torch.autograd.grad((out, last)[: len(above)], leaves, above))
        results.extend(norm_.buffers())
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, **tolerance)
        assert a.dtype == b.dtype


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("pool", ["none", "avg", "max"])
@pytest.mark.parametrize("training", [True, False])
def test_values_and_gradients(fused, training, pool, channels_last):
    y = draw(5, 2, 3, 5, 4, channels_last=channels_last).requires_grad_()
    assert_same_block(y, make_norm(3).train(training), make_neuron(LT, 3), pool=pool)


@pytest.mark.parametrize("name", [*NEURONS, "per channel"])
def test_every_kind_of_neuron_over_several_chunks_from_a_membrane_with_a_mask(stand_in, name):
    settings = PER_CHANNEL if name == "per channel" else NEURONS[name]
    y = draw(CHUNK + 3, 2, 3, 3, 4).requires_grad_()
    v = draw(2, 3, 3, 4, seed=1).requires_grad_()
    mask = (draw(CHUNK + 3, 2, 3, seed=2) > -1).double()
    assert_same_block(y, make_norm(3), make_neuron(settings, 3), pool="avg", v=v, mask=mask)


@pytest.mark.parametrize("training", [True, False])
def test_without_affine_and_with_frozen_parts(stand_in, training):
    y = draw(4, 3, 2, 4, 4).requires_grad_()
    assert_same_block(y, make_norm(2, affine=False).train(training), make_neuron(LT, 2), with_v=False)
    norm, neuron = make_norm(2).train(training), make_neuron(LT, 2)
    norm.weight.requires_grad_(False)
    neuron.threshold.requires_grad_(False)
    assert_same_block(y, norm, neuron)
    # The first layer of a frozen convolution: only what is learned inside the block.
    assert_same_block(y.detach(), make_norm(2).train(training), make_neuron(LT, 2), pool="max")


def test_without_normalisation(fused):
    """A block whose normalisation was folded into its convolution."""
    y = draw(4, 2, 3, 4, 4).requires_grad_()
    assert_same_block(y, nn.Identity(), make_neuron(LT, 3), pool="avg")


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
@pytest.mark.parametrize("track", [True, False])
def test_running_statistics_move_as_torch_moves_them(stand_in, momentum, track):
    norm = make_norm(3, momentum=momentum, track_running_stats=track)
    other, neuron = copy.deepcopy(norm), make_neuron(LT, 3)
    for seed in range(3):
        y = draw(2, 3, 3, 4, 4, seed=seed)
        run_block(y, norm, neuron)
        other(y.flatten(0, 1))
    assert norm.state_dict().keys() == other.state_dict().keys()
    for a, b in zip(norm.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(a, b)
    assert not track or norm.num_batches_tracked == 3


def test_gradients_come_apart_from_each_other(fused):
    """Backward asked for the last membrane alone, and for one of two outputs used twice."""
    y, norm, neuron = draw(3, 2, 2, 4, 4).requires_grad_(), make_norm(2), make_neuron(LT, 2)
    found = torch.autograd.grad(run_block(y, norm, neuron, pool="max")[1].square().sum(), y)
    wanted = torch.autograd.grad(one_after_the_other(y, norm, neuron)[1].square().sum(), y)
    torch.testing.assert_close(found, wanted)


def test_gradient_of_the_gradient(stand_in):
    y, norm, neuron = draw(4, 2, 2, 4, 4).requires_grad_(), make_norm(2), make_neuron(LT, 2)
    leaves = [y, *learned(norm, neuron)]
    penalties = []
    for run in (run_block, one_after_the_other):
        out, _ = run(y, norm, neuron, pool="avg")
        first = torch.autograd.grad(out.square().sum(), leaves, create_graph=True)
        penalties.append(torch.autograd.grad(sum(g.square().sum() for g in first), leaves))
    for a, b in zip(*penalties, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("channels_last", [False, True])
def test_float32_agrees_where_no_current_is_near_a_threshold(fused, channels_last):
    # Currents at -3, -1, 1 and 3 around a threshold of 0.2: rounding turns no spike over.
    y = draw(6, 3, 4, 6, 6, dtype=torch.float32, channels_last=channels_last).sign()
    y = (y * (2 + draw(*y.shape, seed=1, dtype=torch.float32).sign()) + 5).requires_grad_()
    norm = nn.BatchNorm2d(4)
    settings = replace(LT, threshold=0.2, decay=0.25, surrogate="sigmoid")
    neuron = make_neuron(settings, 4, dtype=torch.float32)
    assert_same_block(y, norm, neuron, pool="avg", rtol=2e-4, atol=2e-5)


def test_autocast_keeps_statistics_and_membranes_in_float32(fused):
    conv, norm, neuron = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), make_neuron(LT, 4, dtype=torch.float32)
    x = draw(6, 2, 8, 8, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = conv(x).unflatten(0, (3, 2))
        out, v = run_block(y, norm, neuron)
    assert (y.dtype, out.dtype, v.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    mean = y.detach().double().mean((0, 1, 3, 4))
    torch.testing.assert_close(norm.running_mean.double(), 0.1 * mean, rtol=1e-5, atol=1e-7)
    out.float().square().sum().backward()
    assert conv.weight.grad.dtype == norm.weight.grad.dtype == neuron.threshold.grad.dtype == torch.float32


@pytest.mark.parametrize("norm_rule", ["batch", "running", "none"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_operators_keep_torchs_promises(fused, norm_rule, channels_last):
    y = draw(3, 2, 2, 4, 5, channels_last=channels_last).requires_grad_()
    v, mask = draw(2, 2, 4, 5).requires_grad_(), torch.ones(3, 2, 2, dtype=torch.float64)
    threshold = torch.tensor([0.8, 1.1], dtype=torch.float64, requires_grad=True)
    norm = [None] * 4
    if norm_rule != "none":
        norm = [draw(2, seed=seed).requires_grad_() for seed in (3, 4)] + [draw(2), draw(2).abs()]
    options = (settings_text(LT), "numba", "avg", norm_rule, 1e-5)
    torch.library.opcheck(neuron_forward, (y, v, threshold, None, *norm, mask, *options))
    if norm_rule == "batch":
        norm[2:] = channel_statistics(y)
    empty = y.new_empty(0, 2, 2, 4, 5)
    if channels_last:
        empty = empty.movedim(-3, -1).contiguous().movedim(-1, -3)
    above = (draw(3, 2, 2, 2, 2), None)
    given = (y, v, threshold, None, *norm, mask, empty, *above, *options)
    torch.library.opcheck(neuron_backward, (*given, True), test_utils=("test_schema", "test_faketensor"))
    torch.library.opcheck(neuron_backward, (*given, False), test_utils=("test_schema", "test_faketensor"))


def test_compiled_graphs_hold_one_node_a_direction(stand_in):
    y, norm, neuron = draw(3, 2, 2, 4, 4).requires_grad_(), make_norm(2), make_neuron(LT, 2)
    expected = copy.deepcopy((norm, neuron))
    nodes = []

    def count(graph, inputs):
        nodes.extend(str(node.target) for node in graph.graph.nodes if "spikeline" in str(node.target))
        return graph

    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch.aot_autograd import make_boxed_compiler

    backend = aot_autograd(fw_compiler=make_boxed_compiler(count), bw_compiler=make_boxed_compiler(count))
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda x: run_block(x, norm, neuron, pool="avg")[0], fullgraph=True, backend=backend
    )
    out = compiled(y)
    grads = torch.autograd.grad(out, [y, *learned(norm, neuron)], torch.ones_like(out))
    assert nodes == ["spikeline.neuron_forward.default", "spikeline.neuron_backward.default"]
    out, _ = one_after_the_other(y, *expected, pool="avg")
    wanted = torch.autograd.grad(out, [y, *learned(*expected)], torch.ones_like(out))
    for a, b in zip(grads, wanted, strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(norm.running_var, expected[0].running_var)


def test_saves_the_current_and_little_more(fused):
    y = draw(10, 2, 4, 12, 12, dtype=torch.float32).requires_grad_()
    saved = {}

    def pack(tensor):
        saved[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run_block(y, make_norm(4, dtype=torch.float32), make_neuron(LT, 4, dtype=torch.float32), pool="avg")
    assert 4 <= sum(saved.values()) / y.numel() <= 4.5


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_statistics_are_as_good_as_their_dtype(dtype, channels_last):
    y = (7 + 0.5 * draw(40, 3, 5, 9, 8)).to(dtype)
    if channels_last:
        y = y.movedim(-3, -1).contiguous().movedim(-1, -3)
    mean, variance = channel_statistics(y)
    values = y.double().transpose(0, 2).flatten(1)
    exact = {"rtol": 1e-12 if dtype == torch.float64 else 1.2e-7, "atol": 0}
    torch.testing.assert_close(mean.double(), values.mean(1), **exact)
    torch.testing.assert_close(variance.double(), values.var(1, correction=0), **exact)
    assert mean.dtype == torch.promote_types(dtype, torch.float32)
    constant = torch.full((2, 3, 5, 9, 8), 0.1).to(dtype)
    assert channel_statistics(constant)[1].tolist() == [0.0] * 5


def test_statistics_do_not_depend_on_threads():
    y, threads = draw(9, 3, 5, 9, 8, dtype=torch.float32), torch.get_num_threads()
    try:
        found = []
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(torch.stack(channel_statistics(y)))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)


class Renormalised(nn.BatchNorm2d):
    """Not what this project can fuse."""

    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("norm", "executor", "reason"),
    [
        (Renormalised(3).double(), "auto", "found Renormalised, can fuse BatchNorm2d"),
        (make_norm(3), "reference", None),
    ],
)
def test_what_cannot_be_fused_runs_one_after_the_other(stand_in, norm, executor, reason, caplog, monkeypatch):
    if executor == "reference":
        monkeypatch.undo()
    block_module._say_once.cache_clear()
    monkeypatch.setattr("snn.neurons.block.neuron_forward", None)
    y, neuron = draw(4, 2, 3, 4, 4), make_neuron(LT, 3, executor=executor)
    wanted = one_after_the_other(y, copy.deepcopy(norm), neuron, pool="max")
    with caplog.at_level(logging.INFO):
        for found in (run_block(y, copy.deepcopy(norm), neuron, pool="max") for _ in range(2)):
            torch.testing.assert_close(found, wanted)
    said = [record.message for record in caplog.records if "one after the other" in record.message]
    assert len(said) == (reason is not None)
    assert reason is None or reason in said[0]


def test_hooks_on_the_normalisation_see_what_it_returns(stand_in):
    y, norm, neuron = draw(2, 2, 3, 4, 4), make_norm(3), make_neuron(LT, 3)
    seen = []
    norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
    spikes, _ = run_block(y, norm, neuron)
    torch.testing.assert_close(run_block(seen[0].unflatten(0, (2, 2)), nn.Identity(), neuron)[0], spikes)


def test_learned_masks_get_their_gradient(stand_in):
    y, norm, neuron = draw(3, 2, 3, 4, 4), make_norm(3), make_neuron(LT, 3)
    mask = torch.ones(3, 2, 3, dtype=torch.float64, requires_grad=True)
    found, wanted = (
        torch.autograd.grad(run(y, copy.deepcopy(norm), neuron, mask=mask)[0].square().sum(), mask)
        for run in (run_block, one_after_the_other)
    )
    torch.testing.assert_close(found, wanted)
    assert found[0].abs().sum() > 0


def test_no_samples_and_too_few_values(fused):
    neuron = make_neuron(LT, 3)
    out, v = run_block(draw(2, 0, 3, 4, 4), make_norm(3).eval(), neuron, pool="avg")
    assert out.shape == (2, 0, 3, 2, 2)
    assert v.shape == (0, 3, 4, 4)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        run_block(draw(1, 1, 3, 1, 1), make_norm(3), neuron)


@pytest.mark.parametrize(
    ("y", "options", "message"),
    [
        (draw(2, 2, 4, 4, 4), {}, r"y: found shape \(2, 2, 4, 4, 4\), expected 3 channels, as norm has"),
        (
            draw(2, 2, 3, 4),
            {"pool": "avg"},
            r"current: found shape \(2, 2, 3, 4\), expected \[T, B, C, H, W\] with pool 'avg'",
        ),
        (
            draw(2, 2, 3, 4, 4),
            {"v": draw(2, 3, 4, 5)},
            r"v: found shape \(2, 3, 4, 5\), expected the current's",
        ),
        (draw(2, 2, 3, 4, 4), {"mask": draw(2, 2, 4)}, r"mask: found shape \(2, 2, 4\)"),
    ],
)
def test_refusals(stand_in, y, options, message):
    with pytest.raises(NeuronError, match=message):
        run_block(y, make_norm(3), make_neuron(LT, 3), **options)

"""Spikes in few bits: back exactly, and convolutions whose gradients are torch's bit for bit."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from snn.errors import NeuronError
from snn.neurons.packing import (
    _pack_anywhere,
    bits_for,
    pack_spikes,
    packed_conv2d,
    spike_book,
    unpack_spikes,
)
from snn.neurons.settings import NEURONS, NeuronSettings, published

BINARY, LANES, AVERAGED = (0.0, 1.0), (0.0, 1.0, 2.0, 4.0), (0.0, 0.25, 0.5, 0.75, 1.0)
BOOKS = [BINARY, (0.0, 0.5), LANES, (-1.0, 0.0, 1.0), AVERAGED, tuple(k / 4 for k in range(16))]


def draw(shape, book, *, dtype=torch.float32, channels_last=False, seed=0):
    places = torch.randint(len(book), shape, generator=torch.Generator().manual_seed(seed))
    spikes = torch.tensor(book, dtype=dtype)[places]
    return spikes.contiguous(memory_format=torch.channels_last) if channels_last else spikes


@pytest.mark.parametrize("book", BOOKS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_what_comes_back_is_what_went_in(book, dtype):
    for shape, channels_last in [
        ((3, 5, 7, 9), False),
        ((3, 5, 7, 9), True),
        ((1,), False),
        ((4099,), False),
    ]:
        spikes = draw(shape, book, dtype=dtype, channels_last=channels_last)
        packed = pack_spikes(spikes, book)
        assert packed.numel() == -(-spikes.numel() * bits_for(book) // 8)
        back = unpack_spikes(packed, book, shape, channels_last, dtype)
        assert torch.equal(back, spikes)
        assert back.stride() == spikes.stride()
        flat = spikes.permute(0, 2, 3, 1).reshape(-1) if channels_last else spikes.reshape(-1)
        assert torch.equal(_pack_anywhere(flat, book, bits_for(book)), packed)  # what a GPU runs


def test_bits_by_hand():
    spikes = torch.tensor([1.0, 0, 0, 1, 0, 0, 0, 1, 1])
    assert pack_spikes(spikes, BINARY).tolist() == [0b10001001, 0b1]
    assert pack_spikes(torch.tensor([4.0, 0, 1, 2, 2]), LANES).tolist() == [0b10_01_00_11, 0b10]
    assert pack_spikes(torch.tensor([0.75, 0.25, 1.0]), AVERAGED).tolist() == [0x13, 0x4]


def test_no_spikes_at_all():
    assert pack_spikes(torch.zeros(0), BINARY).shape == (0,)
    assert unpack_spikes(torch.zeros(0, dtype=torch.uint8), BINARY, (0, 2), False, torch.float32).shape == (
        0,
        2,
    )


@pytest.mark.parametrize("strange", [0.5, -1.0, 3.0, float("nan"), float("inf")])
def test_strange_values_are_refused(strange):
    spikes = draw((5000,), BINARY)
    spikes[4321] = strange
    with pytest.raises(NeuronError, match=r"spikes: found 1 values that are none of \[0\.0, 1\.0\]"):
        pack_spikes(spikes, BINARY)
    with pytest.raises(RuntimeError, match="outside what the neurons before can emit"):
        _pack_anywhere(spikes, BINARY, 1)


def emitted(settings, pool):
    """Every value by brute force: spikes of all membranes, pooled over every window of four."""
    levels = settings.spike_values
    if pool == "none":
        return set(levels)
    windows = itertools.product(levels, repeat=4)
    return {max(w) if pool == "max" else sum(w) / 4 for w in windows}


@pytest.mark.parametrize("pool", ["none", "avg", "max"])
@pytest.mark.parametrize("name", NEURONS)
def test_books_hold_all_that_is_emitted(name, pool):
    book = spike_book(NEURONS[name], pool=pool)
    assert set(book) == emitted(NEURONS[name], pool)
    assert list(book) == sorted(book)


def test_bits_a_spike():
    lanes = {n: replace(NEURONS["mlif"], lanes=n) for n in (1, 2, 3, 4, 8)}
    assert [bits_for(spike_book(lanes[n])) for n in (1, 2, 3, 4, 8)] == [1, 2, 2, 4, 4]
    assert [bits_for(spike_book(lanes[n], pool="avg")) for n in (1, 2, 3)] == [4, 4, 4]
    assert spike_book(lanes[4], pool="avg") is None
    assert bits_for(spike_book(NeuronSettings(lanes=3, firing="cumulative"))) == 2  # 0, 1, 3, 7
    assert spike_book(published("lt_spike_learned")) is None
    with pytest.raises(NeuronError, match="book: found 17 values, expected 2 to 16"):
        bits_for(range(17))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "padding": 1, "bias": False}, {"groups": 2, "dilation": 2}]
)
def test_convolution_is_torchs_bit_for_bit(options, channels_last):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, **options)
    if channels_last:
        conv = conv.to(memory_format=torch.channels_last)
    x = draw((3, 4, 9, 8), LANES, channels_last=channels_last).requires_grad_()
    results = []
    for run in (conv, lambda x: packed_conv2d(x, conv, LANES)):
        out = run(x)
        above = torch.ones_like(out) + out.detach()
        results.append([out, *torch.autograd.grad(out, [x, *conv.parameters()], above)])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def saved_bytes(run):
    sizes = {}

    def pack(tensor):
        sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(sizes.values())


@pytest.mark.parametrize(("book", "bits"), [(BINARY, 1), (LANES, 2), (AVERAGED, 4)])
def test_saves_a_few_bits_a_spike(book, bits):
    conv = nn.Conv2d(4, 4, 3)
    weights = conv.weight.numel() * 4
    x = draw((10, 4, 16, 16), book)
    assert saved_bytes(lambda: conv(x)) == x.numel() * 4 + weights
    assert saved_bytes(lambda: packed_conv2d(x, conv, book)) == x.numel() * bits / 8 + weights


def test_autocast_saves_and_computes_in_its_dtype():
    torch.manual_seed(0)
    conv, x = nn.Conv2d(4, 6, 3, padding=1), draw((2, 4, 8, 8), BINARY)
    grads = []
    for run in (conv, lambda x: packed_conv2d(x, conv, BINARY)):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = run(x)
        assert out.dtype == torch.bfloat16
        grads.append(torch.autograd.grad(out.float().square().sum(), list(conv.parameters())))
    for a, b in zip(*grads, strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)


def test_runs_as_it_is_where_nothing_is_kept_or_the_convolution_is_another(monkeypatch):
    monkeypatch.setattr("snn.neurons.packing.PackedConv2d", None)
    x = draw((2, 4, 8, 8), BINARY)
    conv = nn.Conv2d(4, 6, 3, padding="same")
    assert torch.equal(packed_conv2d(x, conv, BINARY), conv(x))
    circular = nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular")
    assert torch.equal(packed_conv2d(x, circular, BINARY), circular(x))
    frozen = nn.Conv2d(4, 6, 3).requires_grad_(False)
    assert torch.equal(packed_conv2d(x, frozen, BINARY), frozen(x))
    with torch.no_grad():
        plain = nn.Conv2d(4, 6, 3)
        assert torch.equal(packed_conv2d(x, plain, BINARY), plain(x))


def test_gradient_of_the_gradient_is_refused():
    conv, x = nn.Conv2d(4, 6, 3), draw((2, 4, 8, 8), BINARY).requires_grad_()
    out = packed_conv2d(x, conv, BINARY)
    (first,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize("channels_last", [False, True])
def test_operators_keep_torchs_promises(channels_last):
    spikes = draw((2, 3, 4, 5), LANES, channels_last=channels_last)
    torch.library.opcheck(pack_spikes, (spikes, list(LANES)))
    packed = pack_spikes(spikes, LANES)
    torch.library.opcheck(unpack_spikes, (packed, list(LANES), [2, 3, 4, 5], channels_last, torch.float32))


def test_compiled_graphs_pack_and_unpack():
    torch.manual_seed(0)
    conv, x = nn.Conv2d(4, 6, 3), draw((2, 4, 8, 8), BINARY).requires_grad_()
    nodes = []

    def count(graph, inputs):
        nodes.extend(str(node.target) for node in graph.graph.nodes if "spikeline" in str(node.target))
        return graph

    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch.aot_autograd import make_boxed_compiler

    backend = aot_autograd(fw_compiler=make_boxed_compiler(count), bw_compiler=make_boxed_compiler(count))
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: packed_conv2d(x, conv, BINARY), fullgraph=True, backend=backend)
    out = compiled(x)
    found = torch.autograd.grad(out.square().sum(), [x, conv.weight])
    wanted = torch.autograd.grad(conv(x).square().sum(), [x, conv.weight])
    assert nodes == ["spikeline.pack_spikes.default", "spikeline.unpack_spikes.default"]
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)

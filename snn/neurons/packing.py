"""What a convolution keeps of spikes for its backward pass: 1, 2 or 4 bits each, exactly.

A convolution needs its input again for the gradient of its weights. Spikes have few values, so a code for
the place in the list of these values says all: 1 bit for binary spikes, 2 bits for up to four values (one-hot
spikes of up to three lanes), 4 bits for up to sixteen (averages of four of either).
"""

from collections.abc import Sequence
from functools import cache
from itertools import combinations_with_replacement
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils import parametrize

from snn.errors import NeuronError
from snn.neurons.hooks import is_hooked
from snn.neurons.kernels.launch import Pool
from snn.neurons.operator import constant_when_traced, operator
from snn.neurons.settings import NeuronSettings

MOST_VALUES = 16


@constant_when_traced
def spike_book(settings: NeuronSettings, *, pool: Pool = "none") -> tuple[float, ...] | None:
    """Return every value that can come out of neurons and the pool after them, ascending.

    None where these are not known before (learned values) or more than `MOST_VALUES`: such spikes are kept
    as they are. The maximum of spikes is a spike; the average of four binary ones has five values.
    """
    return _spike_book(settings, pool)


@cache
def _spike_book(settings: NeuronSettings, pool: Pool) -> tuple[float, ...] | None:
    if settings.spike_value != "one":
        return None
    values = settings.spike_values
    if pool == "avg":
        values = tuple(sorted({sum(four) / 4 for four in combinations_with_replacement(values, 4)}))
    return values if len(values) <= MOST_VALUES else None


def bits_for(book: Sequence[float]) -> int:
    """Return the bits a value of the book is kept in: 1, 2 or 4, so that no value spans two bytes.

    Raises:
        NeuronError: The book has fewer than 2 or more than `MOST_VALUES` values.
    """
    for bits in (1, 2, 4):
        if 2 <= len(book) <= 2**bits:
            return bits
    raise NeuronError(f"book: found {len(book)} values, expected 2 to {MOST_VALUES}")


def _memory_order(x: Tensor) -> tuple[Tensor, bool]:
    """Return the values in the order they lie in memory, shape [n], and whether that is channels last."""
    if not x.is_contiguous() and x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1).reshape(-1), True
    return x.reshape(-1), False


@operator
def pack_spikes(spikes: Tensor, book: Sequence[float]) -> Tensor:
    """Return spikes as codes, in the order they lie in memory (contiguous or channels last).

    Args:
        spikes: Any shape, floating point.
        book: Every value they may have, 2 to 16.

    Returns:
        uint8, shape [ceil(n * bits / 8)], the first spike in the lowest bits.

    Raises:
        NeuronError: A spike is not in the book. On a GPU, a failed assertion reported later: looking there
            would wait for all work queued.
    """
    bits, (values, _) = bits_for(book), _memory_order(spikes.detach())
    if spikes.device.type == "cpu":
        packed, outside = _pack_on_cpu(values, book, bits)
        if outside:
            raise NeuronError(
                f"spikes: found {outside} values that are none of {list(book)}, expected spikes of the "
                "neurons before; turn pack_spikes off"
            )
        return packed
    return _pack_anywhere(values, book, bits)


@torch.library.register_fake("spikeline::pack_spikes")
def _pack_spikes_fake(spikes: Tensor, book: Sequence[float]) -> Tensor:
    return spikes.new_empty((spikes.numel() * bits_for(book) + 7) // 8, dtype=torch.uint8)


@operator
def unpack_spikes(
    packed: Tensor, book: Sequence[float], shape: Sequence[int], channels_last: bool, dtype: torch.dtype
) -> Tensor:
    """Return the spikes behind `pack_spikes`.

    Args:
        packed: As `pack_spikes` returned it.
        book: As it was given.
        shape: Of the spikes.
        channels_last: Whether spikes [N, C, H, W] lay channels last.
        dtype: Of the spikes.
    """
    spikes, flat = _spikes_memory(packed, shape, channels_last, dtype)
    values_of_byte = _values_of_byte(book, dtype, packed.device)
    if packed.device.type == "cpu":
        from snn.neurons.kernels.packing_cpu import unpack

        unpack(packed.numpy(), _as_numpy(values_of_byte), _as_numpy(flat))
    else:
        flat.copy_(values_of_byte[packed.int()].reshape(-1)[: flat.numel()])
    return spikes


@torch.library.register_fake("spikeline::unpack_spikes")
def _unpack_spikes_fake(
    packed: Tensor, book: Sequence[float], shape: Sequence[int], channels_last: bool, dtype: torch.dtype
) -> Tensor:
    return _spikes_memory(packed, shape, channels_last, dtype)[0]


def _spikes_memory(
    packed: Tensor, shape: Sequence[int], channels_last: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return memory for spikes, as they were laid out and flat."""
    if not channels_last:
        spikes = packed.new_empty(tuple(shape), dtype=dtype)
        return spikes, spikes.view(-1)
    count, channels, height, width = shape
    memory = packed.new_empty((count, height, width, channels), dtype=dtype)
    return memory.permute(0, 3, 1, 2), memory.view(-1)


def _values_of_byte(book: Sequence[float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the spikes behind every byte, shape [256, spikes in a byte]; codes past the book are 0."""
    bits = bits_for(book)
    values = torch.zeros(2**bits, dtype=dtype)
    values[: len(book)] = torch.tensor(book, dtype=dtype)
    codes = (torch.arange(256)[:, None] >> torch.arange(0, 8, bits)) & (2**bits - 1)
    return values[codes].to(device)


def _as_numpy(values: Tensor) -> Any:
    """Return a tensor as an array; values of 16 bits as whole numbers with the same bits."""
    return (values.view(torch.int16) if values.element_size() == 2 else values).numpy()


def _pack_on_cpu(values: Tensor, book: Sequence[float], bits: int) -> tuple[Tensor, int]:
    from snn.neurons.kernels.packing_cpu import pack

    packed = values.new_empty((values.numel() * bits + 7) // 8, dtype=torch.uint8)
    known = torch.tensor(book, dtype=values.dtype)
    arrays = (_as_numpy(values), _as_numpy(known), packed.numpy())
    return packed, pack(*arrays, bits=bits)


def _pack_anywhere(values: Tensor, book: Sequence[float], bits: int) -> Tensor:
    """Pack with operators of torch."""
    known = torch.tensor(book, dtype=values.dtype, device=values.device)
    codes = torch.bucketize(values, known, out_int32=True).clamp_(max=len(book) - 1)
    torch._assert_async((known[codes] == values).all(), "spikes outside what the neurons before can emit")
    per_byte = 8 // bits
    codes = nn.functional.pad(codes.to(torch.uint8), (0, -codes.numel() % per_byte)).view(-1, per_byte)
    packed = codes[:, 0].clone()
    for place in range(1, per_byte):
        packed |= codes[:, place] << (place * bits)
    return packed


class PackedConv2d(torch.autograd.Function):
    """A convolution that keeps its input as codes; values and gradients are exactly those of `conv2d`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        book: tuple[float, ...],
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ) -> Tensor:
        """Convolve x [N, C, H, W]."""
        channels_last = _memory_order(x)[1]
        ctx.save_for_backward(pack_spikes(x, book), weight)
        ctx.spikes = (book, x.shape, channels_last, x.dtype)
        ctx.bias_sizes = None if bias is None else [bias.numel()]
        ctx.geometry = (stride, padding, dilation, False, (0, 0), groups)
        return nn.functional.conv2d(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Unpack, and go back as torch does."""
        (grad,) = grads
        packed, weight = ctx.saved_tensors
        x = unpack_spikes(packed, *ctx.spikes)
        wanted = list(ctx.needs_input_grad[:3])
        found = torch.ops.aten.convolution_backward(grad, x, weight, ctx.bias_sizes, *ctx.geometry, wanted)
        return (*found, None, None, None, None, None)


def packed_conv2d(x: Tensor, conv: nn.Conv2d, book: tuple[float, ...]) -> Tensor:
    """Return `conv(x)`, keeping x as codes for the backward pass where one is to come.

    The gradient of the gradient is not offered this way. A convolution that is more than torch's plain one,
    has a hook, or keeps nothing of x since its weights are frozen, runs as it is.

    Args:
        x: Shape [N, C, H, W], every value in the book.
        conv: The convolution.
        book: Values x may have, from `spike_book`.
    """
    kind = parametrize.type_before_parametrizations(conv)
    plain = kind is nn.Conv2d and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    if not (torch.is_grad_enabled() and plain) or is_hooked(conv):
        return conv(x)
    # Once: weights in few bits are made anew at every look.
    weight, bias = conv.weight, conv.bias
    if not weight.requires_grad:
        return conv._conv_forward(x, weight, bias)
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    return PackedConv2d.apply(x, weight, bias, book, conv.stride, conv.padding, conv.dilation, conv.groups)

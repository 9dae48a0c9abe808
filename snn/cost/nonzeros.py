"""How often the inputs of a layer are used, and what values they have. The plainest form is the definition.

An input element that is not 0 is used once for every output it reaches: at most kernel height times width
times output channels, fewer at the borders and between strides.
"""

import math
from enum import IntEnum
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# Whole numbers up to this are exact in float32.
EXACT = 2**24


class Values(IntEnum):
    """What the values of a tensor have in common, from the cheapest to the dearest to multiply by.

    Attributes:
        NONE: All are 0.
        BINARY: 0 and one positive number: the weight is added, with that number inside it.
        TERNARY: 0 and plus or minus one number: it is added or subtracted.
        POWERS: 0 and powers of two of either sign, times one number: it is shifted and added, with that
            number inside it.
        ANY: Others: it is multiplied and added.
    """

    NONE = 0
    BINARY = 1
    TERNARY = 2
    POWERS = 3
    ANY = 4


class Seen(NamedTuple):
    """The values of a tensor, as far as `Values` needs them.

    Attributes:
        extremes: Five numbers, exact in float32; what is seen in two tensors is their maximum. On a GPU a
            tensor there, so that nothing waits for it; on the CPU a tuple, which costs less.
            Minus the smallest size of a value that is not 0, minus infinity where there is none. The largest
            size of a value. Above 0 where a value is negative. Of values that are not 0, minus the smallest
            mantissa, from a half to below 1, minus infinity where there is none; and the largest.
    """

    extremes: Tensor | tuple[float, ...]

    def also(self, other: "Seen") -> "Seen":
        """Return what was seen in both."""
        if isinstance(self.extremes, Tensor) and isinstance(other.extremes, Tensor):
            return Seen(torch.maximum(self.extremes, other.extremes))
        return Seen(tuple(map(max, self._numbers(), other._numbers())))

    @property
    def values(self) -> Values:
        """The class of all that was seen."""
        smallest, largest, negative, lowest, highest = self._numbers()
        if largest == 0:
            return Values.NONE
        if -smallest == largest:
            return Values.TERNARY if negative > 0 else Values.BINARY
        return Values.POWERS if -lowest == highest else Values.ANY

    def _numbers(self) -> tuple[float, ...]:
        return tuple(self.extremes.tolist()) if isinstance(self.extremes, Tensor) else self.extremes


def look_at(x: Tensor) -> Seen:
    """Return what is seen in a tensor of any shape and dtype; it is looked at in float32."""
    x = x.detach().float()
    if x.numel() == 0:
        return Seen((-math.inf, 0.0, 0.0, -math.inf, 0.0))
    size = x.abs()
    mantissa, _ = torch.frexp(size)
    found = (
        -torch.where(size > 0, size, torch.inf).amin(),
        size.amax(),
        (x < 0).any().float(),
        -torch.where(size > 0, mantissa, torch.inf).amin(),
        mantissa.amax(),
    )
    extremes = torch.stack(found)
    return Seen(tuple(extremes.tolist()) if x.device.type == "cpu" else extremes)


def count_uses(x: Tensor, uses: Tensor) -> Tensor:
    """Add up how often the elements of each channel are used that are not 0.

    Args:
        x: Shape [N, C, H, W].
        uses: How often an element of each place is used, from 0, shape [H, W], int32.

    Returns:
        Shape [N, C], int64.
    """
    exact = torch.float32 if int(uses.sum()) < EXACT else torch.float64
    with torch.autocast(x.device.type, enabled=False):
        there = (x.detach() != 0).flatten(2).to(exact)
        return (there @ uses.flatten().to(x.device, exact)).round().to(torch.int64)


@cache
def places_used(
    size: int, kernel: int, stride: int, padding: int, dilation: int, after: int
) -> tuple[int, ...]:
    """Return how many outputs of a convolution over one axis each input reaches, counted one by one.

    Args:
        size: Inputs.
        kernel, stride, dilation: Of the convolution.
        padding: Zeros before the first input.
        after: Zeros after the last.
    """
    outputs = (size + padding + after - dilation * (kernel - 1) - 1) // stride + 1
    used = [0] * size
    for output in range(outputs):
        for tap in range(kernel):
            place = output * stride + tap * dilation - padding
            if 0 <= place < size:
                used[place] += 1
    return tuple(used)


@cache
def outer(rows: tuple[int, ...], columns: tuple[int, ...]) -> Tensor:
    """Return the product of what each row and each column is used, shape [H, W], int32; not to be changed."""
    return torch.from_numpy(np.multiply.outer(np.array(rows, np.int32), np.array(columns, np.int32)))

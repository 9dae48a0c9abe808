"""What one fused call computes and moves, whichever executor runs it.

A call covers a layer of neurons over all T steps, and what may stand around it in the same pass over memory:

    x[t] = scale_c y[t] + shift_c           batch normalisation as an affine map per channel (or nothing)
    x[t] = mask[t, b, c] x[t]               channel mask (or nothing)
    spikes, v = neurons(x)                  `snn.neurons.reference`
    out = 2x2 pool of the spikes            average, maximum or nothing

Forward reads y and writes out, nothing else of that size. For the backward the membrane is written before
every CHUNK-th step, so that a backward call reads y and the gradient of out once, runs each chunk again from
its first membrane, last chunk first, and goes back through it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from snn.errors import NeuronError
from snn.neurons.settings import NeuronSettings

Pool = Literal["none", "avg", "max"]

# Steps kept in registers (CUDA) or in cache (CPU) while going backward; one membrane is stored for each.
CHUNK = 32


@dataclass(frozen=True)
class Launch:
    """One fused call: its options and sizes. Tensors of it lie densely in memory, each step in one layout.

    Attributes:
        settings: The neurons.
        steps: Number of steps T.
        shape: Shape of one step, [B, ...]; dimension 1 is the channels, if there is one.
        channels_last: Whether a step [B, C, H, W] lies in memory as [B, H, W, C].
        dtype: Of y, out and their gradients; the state is at least float32.
        pool: Pooling of the spikes; needs a step [B, C, H, W]. Rows or columns left over take part in
            everything but out.
        affine: Whether scale and shift are given.
        masked: Whether a mask is given.
    """

    settings: NeuronSettings
    steps: int
    shape: tuple[int, ...]
    channels_last: bool
    dtype: torch.dtype
    pool: Pool = "none"
    affine: bool = False
    masked: bool = False

    @property
    def batch(self) -> int:
        """Number of samples B."""
        return self.shape[0]

    @property
    def channels(self) -> int:
        """Number of channels C; 1 for a step [B]."""
        return self.shape[1] if len(self.shape) > 1 else 1

    @property
    def height_width(self) -> tuple[int, int]:
        """Height and width; dimensions past the channels are one row unless they are two."""
        rest = self.shape[2:]
        return (rest[0], rest[1]) if len(rest) == 2 else (1, prod(rest))

    @property
    def neurons(self) -> int:
        """Number of neurons, elements of one step."""
        return prod(self.shape)

    @property
    def chunks(self) -> int:
        """Number of chunks of steps."""
        return -(-self.steps // CHUNK)

    @property
    def state_dtype(self) -> torch.dtype:
        """Dtype of membranes and parameters."""
        return torch.promote_types(self.dtype, torch.float32)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of out, [T, B, ...]."""
        if self.pool == "none":
            return (self.steps, *self.shape)
        *front, height, width = self.shape
        return (self.steps, *front, height // 2, width // 2)

    @property
    def checkpoints_shape(self) -> tuple[int, ...]:
        """Shape of the stored membranes: one for each chunk but the first."""
        return (self.chunks - 1, *self.shape)


class Inputs(NamedTuple):
    """What forward and backward read, beside gradients.

    Attributes:
        y: Shape [T, B, ...], in the launch's layout and dtype.
        v: Membrane before the first step, [B, ...], in the same layout, state dtype; None is rest.
        threshold: Shape [1] or [C], state dtype.
        decay: Shape [1] or [C], state dtype.
        scale: Shape [C], state dtype; None without an affine map.
        shift: Shape [C], state dtype; None without an affine map.
        mask: Shape [T, B, C], contiguous, state dtype; None without a mask.
    """

    y: Tensor
    v: Tensor | None
    threshold: Tensor
    decay: Tensor
    scale: Tensor | None = None
    shift: Tensor | None = None
    mask: Tensor | None = None


class Forward(NamedTuple):
    """What forward writes.

    Attributes:
        out: Spikes or pooled spikes, shape `out_shape`, in the launch's layout and dtype.
        v: Membrane after the last step, [B, ...], state dtype.
        checkpoints: Membrane before steps CHUNK, 2 CHUNK, ..., shape `checkpoints_shape`, state dtype.
    """

    out: Tensor
    v: Tensor
    checkpoints: Tensor


class Backward(NamedTuple):
    """What backward writes. With g the gradient of x, after affine map and before the mask's product:

    Attributes:
        y: Gradient of y (see `InputGradient`), like y; None where it was not asked for.
        v: Gradient of the first membrane, [B, ...], state dtype; None where it was not asked for.
        threshold: Shape [1] or [C], summed in the same order every time.
        decay: Shape [1] or [C].
        sums: Per channel, sum over T, B, H, W of (g, g (y - mean)), shape [2, C]; None without `mean`.
    """

    y: Tensor | None
    v: Tensor | None
    threshold: Tensor
    decay: Tensor
    sums: Tensor | None


class InputGradient(NamedTuple):
    """How the gradient of y follows from g: g_scale_c g + y_scale_c (y - mean_c) + shift_c, each shape [C].

    For y without an affine map None is passed instead, and the gradient of y is g.
    """

    g_scale: Tensor
    y_scale: Tensor
    mean: Tensor
    shift: Tensor


# The terms of an input gradient, or how they follow from the sums of a backward, shape [2, C].
InputGradientRule = InputGradient | Callable[[Tensor], InputGradient]


def layout(y: Tensor) -> tuple[Tensor, bool]:
    """Return y [T, B, ...] densely in memory, copied where needed, and whether it is channels last."""
    if y.is_contiguous():
        return y, False
    if y.dim() == 5 and y.movedim(2, -1).is_contiguous():
        return y, True
    return y.contiguous(), False


def like_steps(shape: tuple[int, ...], y: Tensor, *, channels_last: bool, dtype: torch.dtype) -> Tensor:
    """Return an uninitialised tensor in a launch's layout: [..., B, C, H, W] or anything contiguous."""
    if not channels_last:
        return y.new_empty(shape, dtype=dtype)
    *front, channels, height, width = shape
    memory = y.new_empty((*front, height, width, channels), dtype=dtype)
    return memory.movedim(-1, -3)


def traffic(launch: Launch) -> dict[str, int]:
    """Return the bytes each call of a launch moves to and from a GPU's memory, by name of the call.

    `forward`; `backward` writes the gradient of y; `sums` is the pass of batch normalisation that only adds
    up, which the CPU has no need of; `statistics` reads y for its mean and variance. Numbers per channel are
    left out; membranes are not.
    """
    step, state = launch.neurons * launch.dtype.itemsize, launch.neurons * launch.state_dtype.itemsize
    y, out = launch.steps * step, prod(launch.out_shape) * launch.dtype.itemsize
    stored = (launch.chunks - 1) * state
    return {
        "statistics": y,
        "forward": y + out + stored + state,
        "sums": y + out + stored,
        "backward": 2 * y + out + stored,
    }


def check_pool(pool: Pool, shape: tuple[int, ...]) -> None:
    """Raise NeuronError unless a current of this shape can be pooled."""
    if pool != "none" and len(shape) != 5:
        raise NeuronError(f"current: found shape {shape}, expected [T, B, C, H, W] with pool {pool!r}")

"""What the CUDA kernels are called with: memory for results, arguments in order, sums put together.

Who compiles and runs the text is left open: CuPy on a device, or a C++ compiler on a CPU in tests.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor

from snn.neurons.kernels.cuda_text import Grid, Variant, choose_grid, choose_mapping, write_text
from snn.neurons.kernels.launch import Backward, Forward, InputGradientRule, Inputs, Launch, like_steps


class Call(NamedTuple):
    """One kernel to be run.

    Attributes:
        text: CUDA text.
        kernel: Name of the kernel in it.
        arguments: In the kernel's order: tensors, passed as addresses, None as address 0, and int64 numbers.
        blocks: Number of blocks.
        threads: Threads of a block.
        device: Where the tensors are.
    """

    text: str
    kernel: str
    arguments: tuple[Tensor | int | None, ...]
    blocks: int
    threads: int
    device: torch.device


Run = Callable[[Call], None]


def call_forward(launch: Launch, inputs: Inputs, run: Run) -> Forward:
    """Run the kernel forward and return what it wrote."""
    result = Forward(
        out=_empty(launch.out_shape, inputs.y, launch, launch.dtype),
        v=_empty(launch.shape, inputs.y, launch, launch.state_dtype),
        checkpoints=_empty(launch.checkpoints_shape, inputs.y, launch, launch.state_dtype),
    )
    if launch.neurons == 0:
        return result
    variant = Variant(choose_mapping(launch, inputs), **_known(inputs))
    _run(launch, variant, inputs, tuple(result), choose_grid(launch, variant), run)
    return result


def call_backward(
    launch: Launch,
    inputs: Inputs,
    checkpoints: Tensor,
    grad_out: Tensor,
    grad_v: Tensor | None,
    run: Run,
    *,
    write: bool = True,
    input_gradient: InputGradientRule | None = None,
    mean: Tensor | None = None,
) -> Backward:
    """Run the kernel backward and return what it wrote, with the sums of all blocks added up."""
    if callable(input_gradient):
        again = partial(call_backward, launch, inputs, checkpoints, grad_out, grad_v, run)
        found = again(write=False, mean=mean)
        if not write:
            return found
        last = again(input_gradient=input_gradient(cast(Tensor, found.sums)))
        return found._replace(y=last.y, v=last.v)
    per_channel = input_gradient is not None or mean is not None
    variant = Variant(
        choose_mapping(launch, inputs, per_channel=per_channel),
        backward=True,
        grad_v_given=grad_v is not None,
        write=write,
        input_gradient=write and input_gradient is not None,
        sums=mean is not None,
        **_known(inputs),
    )
    grid = choose_grid(launch, variant)
    grad_y = _empty((launch.steps, *launch.shape), inputs.y, launch, launch.dtype) if write else None
    first = write and inputs.v is not None
    grad_first = _empty(launch.shape, inputs.y, launch, launch.state_dtype) if first else None
    partials = inputs.y.new_zeros if launch.neurons == 0 else inputs.y.new_empty
    totals = partials(
        (2 if mean is None else 4, grid.slices, max(1, grid.sizes[1])), dtype=launch.state_dtype
    )
    rule = input_gradient if input_gradient is not None else (None,) * 4
    above = (checkpoints, grad_out, grad_v, mean, *rule)
    if launch.neurons > 0:
        _run(launch, variant, inputs, (*above, grad_y, grad_first, totals), grid, run)
    return Backward(
        y=grad_y,
        v=grad_first,
        threshold=_add_up(totals[0], inputs.threshold),
        decay=_add_up(totals[1], inputs.decay),
        sums=None if mean is None else totals[2:].sum(1),
    )


def _run(
    launch: Launch, variant: Variant, inputs: Inputs, others: tuple[Tensor | None, ...], grid: Grid, run: Run
) -> None:
    run(
        Call(
            text=write_text(launch, variant),
            kernel="neuron_backward" if variant.backward else "neuron_forward",
            arguments=(*inputs, *others, *grid.sizes, grid.slices),
            blocks=grid.blocks,
            threads=grid.threads,
            device=inputs.y.device,
        )
    )


def _known(inputs: Inputs) -> dict[str, bool]:
    return {
        "v_given": inputs.v is not None,
        "threshold_per_channel": inputs.threshold.numel() > 1,
        "decay_per_channel": inputs.decay.numel() > 1,
    }


def _empty(shape: tuple[int, ...], y: Tensor, launch: Launch, dtype: torch.dtype) -> Tensor:
    return like_steps(shape, y, channels_last=launch.channels_last, dtype=dtype)


def _add_up(partials: Tensor, parameter: Tensor) -> Tensor:
    """Return partial sums [slices, C] added up to the shape of a parameter, always in the same order."""
    return partials.sum(0) if parameter.numel() > 1 else partials.sum().reshape(1)

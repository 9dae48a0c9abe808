"""Fused neurons on the CPU, compiled by Numba: all steps in one pass over memory, parallel over neurons."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from snn.neurons.kernels.launch import (
    Backward,
    Forward,
    InputGradient,
    InputGradientRule,
    Inputs,
    Launch,
    like_steps,
)
from snn.neurons.kernels.numba_cpu_blocks import GROUPS, blocks, geometry
from snn.neurons.kernels.numba_cpu_drive import backward_loop, forward_loop
from snn.neurons.kernels.numba_cpu_norm import to_input_gradient
from snn.neurons.kernels.numba_cpu_options import levels, numbers, options, source_digest
from snn.neurons.kernels.numba_cpu_step import compiled_step, compiled_step_back
from snn.neurons.kernels.threads import run_ranges
from snn.neurons.settings import NeuronSettings

MOST_LEVELS = 32
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
POOLS = {"none": 0, "avg": 1, "max": 2}

# Neuron-steps below which a second thread costs more than it brings.
WORK_PER_THREAD = 1 << 16


def why_not(settings: NeuronSettings, *, dtype: torch.dtype) -> str | None:
    """Return why these neurons cannot be run here; None where they can."""
    if settings.spike_value != "one":
        return f"spike_value {settings.spike_value!r} is not fused"
    if len(settings.membrane.levels) > MOST_LEVELS:
        return f"membrane of {len(settings.membrane.levels)} levels, fused are up to {MOST_LEVELS}"
    if dtype not in DTYPES:
        return f"{dtype} is not fused"
    return None


def forward(launch: Launch, inputs: Inputs) -> Forward:
    """Run a launch forward; see `snn.neurons.kernels.launch`."""
    state, last = launch.state_dtype, launch.channels_last
    y = inputs.y.to(state)
    out = like_steps(launch.out_shape, y, channels_last=last, dtype=state)
    final = like_steps(launch.shape, y, channels_last=last, dtype=state)
    checkpoints = like_steps(launch.checkpoints_shape, y, channels_last=last, dtype=state)
    table = blocks(launch)
    arguments = (
        compiled_step(options(launch.settings), _name(state)),
        *_input_arrays(launch, inputs._replace(y=y)),
        *(_flat(tensor, last) for tensor in (out, final, checkpoints)),
        *_sizes(launch, table),
    )
    run_ranges(forward_loop(source_digest()), arguments, len(table), most=_most_threads(launch))
    return Forward(out.to(launch.dtype), final, checkpoints)


def backward(
    launch: Launch,
    inputs: Inputs,
    checkpoints: Tensor,
    grad_out: Tensor,
    grad_v: Tensor | None,
    *,
    write: bool = True,
    input_gradient: InputGradientRule | None = None,
    mean: Tensor | None = None,
) -> Backward:
    """Run a launch backward; see `snn.neurons.kernels.launch`.

    Args:
        launch: The launch.
        inputs: What forward got.
        checkpoints: What forward returned.
        grad_out: Gradient of out, in the launch's layout and dtype.
        grad_v: Gradient of the final membrane, shape [B, ...]; None is zero.
        write: Whether the gradients of y and the first membrane are wanted, or only sums.
        input_gradient: How the gradient of y follows from that of x; None passes it on. Neurons are gone back
            through once, also where it depends on the sums.
        mean: Shape [C]; given where `sums` are wanted.
    """
    state, last = launch.state_dtype, launch.channels_last
    y = inputs.y.to(state)
    empty = y.new_empty(0)
    grad_y = like_steps((launch.steps, *launch.shape), y, channels_last=last, dtype=state) if write else empty
    grad_start = like_steps(launch.shape, y, channels_last=last, dtype=state)
    table = blocks(launch)
    groups = min(GROUPS, len(table))
    sizes = (inputs.threshold.numel(), inputs.decay.numel(), launch.channels, launch.channels)
    sums = [np.zeros((groups, size)) for size in sizes]
    compiled = (options(launch.settings), _name(state))
    arguments = (
        compiled_step(*compiled),
        compiled_step_back(*compiled),
        *_input_arrays(launch, inputs._replace(y=y)),
        _flat(checkpoints, last),
        _flat(grad_out.to(state), last),
        _flat(grad_v, last) if grad_v is not None else empty.numpy(),
        _numbers(mean, empty),
        _flat(grad_y, last) if write else empty.numpy(),
        _flat(grad_start, last),
        *sums,
        *_sizes(launch, table),
    )
    run_ranges(backward_loop(source_digest()), arguments, groups, most=_most_threads(launch))
    threshold, decay, *both = (torch.from_numpy(part.sum(0)).to(state) for part in sums)
    found = torch.stack(both)
    if write and input_gradient is not None:
        rule = input_gradient if isinstance(input_gradient, InputGradient) else input_gradient(found)
        to_input_gradient(launch, grad_y, y, rule)
    return Backward(
        grad_y.to(launch.dtype) if write else None,
        grad_start if write else None,
        threshold,
        decay,
        None if mean is None else found,
    )


def _input_arrays(launch: Launch, inputs: Inputs) -> tuple[np.ndarray, ...]:
    """Return y, v, threshold, decay, scale, shift and mask as flat arrays; empty where there is none."""
    empty = inputs.y.new_empty(0)
    v = _flat(inputs.v, launch.channels_last) if inputs.v is not None else empty.numpy()
    rest = (inputs.threshold, inputs.decay, inputs.scale, inputs.shift, inputs.mask)
    return _flat(inputs.y, launch.channels_last), v, *(_numbers(tensor, empty) for tensor in rest)


def _flat(steps: Tensor, channels_last: bool) -> np.ndarray:
    """Return a tensor [..., B, C, H, W] or [..., B, ...] as a flat array in the order of its memory."""
    steps = steps.detach()
    return (steps.movedim(-3, -1) if channels_last else steps).reshape(-1).numpy()


def _numbers(tensor: Tensor | None, empty: Tensor) -> np.ndarray:
    """Return a small tensor as a flat array in the dtype of `empty`, which stands for None."""
    return (empty if tensor is None else tensor.detach().to(empty.dtype).reshape(-1)).numpy()


def _name(dtype: torch.dtype) -> str:
    """Return NumPy's name of a state's dtype."""
    return "float64" if dtype == torch.float64 else "float32"


def _sizes(launch: Launch, table: np.ndarray) -> tuple[Any, ...]:
    """Return what kernels get after their arrays."""
    dtype = _name(launch.state_dtype)
    return (
        POOLS[launch.pool],
        table,
        geometry(launch),
        numbers(launch.settings, dtype),
        levels(launch.settings.membrane, dtype),
    )


def _most_threads(launch: Launch) -> int:
    return launch.steps * launch.neurons // WORK_PER_THREAD

"""Fused neurons as operators of torch: `spikeline::neuron_forward` and `spikeline::neuron_backward`.

To torch each is one opaque operator with a known result: `torch.compile` and `torch.export` keep it as one
node, autograd saves nothing for it but what went in and one membrane per CHUNK steps. A gradient of the
gradient is taken through the reference.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from snn.neurons.kernels.launch import Inputs, Launch, Pool, layout, like_steps
from snn.neurons.membrane import MembraneSettings
from snn.neurons.operator import constant_when_traced, operator
from snn.neurons.reference import NeuronParameters
from snn.neurons.reference import run_neurons as run_reference
from snn.neurons.settings import NeuronSettings


@constant_when_traced
def settings_text(settings: NeuronSettings) -> str:
    """Return settings as text, which an operator can take; `settings_from_text` reads it."""
    return _settings_text(settings)


@cache
def _settings_text(settings: NeuronSettings) -> str:
    return json.dumps(asdict(settings), allow_nan=False)


@cache
def settings_from_text(text: str) -> NeuronSettings:
    """Return the settings behind `settings_text`."""
    values = json.loads(text)
    membrane = values.pop("membrane")
    levels = tuple(membrane.pop("levels"))
    return NeuronSettings(**values, membrane=MembraneSettings(levels=levels, **membrane))


def kernels(executor: str) -> ModuleType:
    """Return the fused kernels of an executor, `numba` or `cuda`: `why_not`, `forward` and `backward`."""
    if executor == "numba":
        from snn.neurons.kernels import numba_cpu

        return numba_cpu
    from snn.neurons.kernels import cuda

    return cuda


def launch_for(
    y: Tensor,
    *,
    settings: NeuronSettings,
    pool: Pool = "none",
    affine: bool = False,
    masked: bool = False,
) -> tuple[Tensor, Launch]:
    """Return y [T, B, ...] densely in memory, copied where needed, and the launch that runs it."""
    y, channels_last = layout(y)
    launch = Launch(
        settings=settings,
        steps=y.shape[0],
        shape=tuple(y.shape[1:]),
        channels_last=channels_last,
        dtype=y.dtype,
        pool=pool,
        affine=affine,
        masked=masked,
    )
    return y, launch


def laid_out(steps: Tensor, launch: Launch) -> Tensor:
    """Return a tensor [..., B, C, H, W], or [..., B, ...], in a launch's layout, copied where needed."""
    if not launch.channels_last:
        return steps.contiguous()
    return steps.movedim(-3, -1).contiguous().movedim(-1, -3)


def inputs_for(
    launch: Launch,
    y: Tensor,
    v: Tensor | None,
    threshold: Tensor,
    decay: Tensor | None,
    *,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    mask: Tensor | None = None,
) -> Inputs:
    """Return what the kernels read, in the dtypes and shapes they expect.

    Args:
        launch: The call, and
        y: its current, as `launch_for` returned them.
        v: Membrane before the first step, [B, ...]; None is rest.
        threshold: One number or one per channel, any floating point dtype.
        decay: The same; None takes the constant of the settings.
        scale: Factor on y per channel, [C]; None without an affine map.
        shift: Number added to it per channel, [C].
        mask: Share of the current let through, [T, B, C].
    """
    dtype = launch.state_dtype
    if decay is None:
        decay = torch.full((1,), launch.settings.decay, dtype=dtype, device=y.device)
    return Inputs(
        y=y,
        v=None if v is None else laid_out(v, launch),
        threshold=_flat(threshold, dtype),
        decay=_flat(decay, dtype),
        scale=None if scale is None else _flat(scale, dtype),
        shift=None if shift is None else _flat(shift, dtype),
        mask=None if mask is None else mask.to(dtype).contiguous(),
    )


def _flat(parameter: Tensor, dtype: torch.dtype) -> Tensor:
    return parameter.reshape(-1).to(dtype).contiguous()


@operator
def neuron_forward(
    y: Tensor,
    v: Tensor | None,
    threshold: Tensor,
    decay: Tensor | None,
    mask: Tensor | None,
    settings: str,
    executor: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run neurons over T steps; arguments as in `inputs_for`, unchecked.

    Args:
        y: Current, shape [T, B, ...].
        v: Membrane before the first step, shape [B, ...]; None is rest.
        threshold: One number or one per channel.
        decay: The same; None takes the constant of the settings.
        mask: Share of the current let through, shape [T, B, C].
        settings: `settings_text` of the neurons.
        executor: `numba` or `cuda`.

    Returns:
        Spikes, like y; membrane after the last step, shape [B, ...]; membranes before every CHUNK-th step,
        shape [chunks - 1, B, ...]. All lie in memory as y does, or contiguously where y has gaps.
    """
    y, launch = launch_for(y, settings=settings_from_text(settings), masked=mask is not None)
    if launch.neurons == 0:
        return _forward_memory(y, launch)
    inputs = inputs_for(launch, y, v, threshold, decay, mask=mask)
    return tuple(kernels(executor).forward(launch, inputs))


@torch.library.register_fake("spikeline::neuron_forward")
def _neuron_forward_fake(
    y: Tensor,
    v: Tensor | None,
    threshold: Tensor,
    decay: Tensor | None,
    mask: Tensor | None,
    settings: str,
    executor: str,
) -> tuple[Tensor, Tensor, Tensor]:
    return _forward_memory(*launch_for(y, settings=settings_from_text(settings)))


def _forward_memory(y: Tensor, launch: Launch) -> tuple[Tensor, Tensor, Tensor]:
    """Return uninitialised tensors for what forward returns."""
    return (
        _steps_like(launch.out_shape, y, launch, launch.dtype),
        _steps_like(launch.shape, y, launch, launch.state_dtype),
        _steps_like(launch.checkpoints_shape, y, launch, launch.state_dtype),
    )


def _steps_like(shape: tuple[int, ...], y: Tensor, launch: Launch, dtype: torch.dtype) -> Tensor:
    return like_steps(shape, y, channels_last=launch.channels_last, dtype=dtype)


@operator
def neuron_backward(
    y: Tensor,
    v: Tensor | None,
    threshold: Tensor,
    decay: Tensor | None,
    mask: Tensor | None,
    checkpoints: Tensor,
    grad_out: Tensor,
    grad_v: Tensor | None,
    settings: str,
    executor: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Go back through `neuron_forward`; arguments of that, and:

    Args:
        y: As in forward, like the four after it.
        v: As in forward.
        threshold: As in forward.
        decay: As in forward.
        mask: As in forward.
        checkpoints: What forward returned.
        grad_out: Gradient of the spikes, shape [T, B, ...].
        grad_v: Gradient of the last membrane, shape [B, ...]; None is zero.
        settings: As in forward.
        executor: As in forward.

    Returns:
        Gradients of y, v, threshold and decay, each in the shape and dtype of what it belongs to; those of
        v and decay are empty, shape [0], where None was given.
    """
    y, launch = launch_for(y, settings=settings_from_text(settings), masked=mask is not None)
    if launch.neurons == 0:
        grad_y, grad_v, grad_threshold, grad_decay = _backward_memory(y, launch, v, threshold, decay)
        return grad_y, grad_v, grad_threshold.zero_(), grad_decay.zero_()
    grads = kernels(executor).backward(
        launch,
        inputs_for(launch, y, v, threshold, decay, mask=mask),
        checkpoints,
        laid_out(grad_out, launch),
        None if grad_v is None else laid_out(grad_v, launch),
    )
    nothing = y.new_empty(0, dtype=launch.state_dtype)
    return (
        grads.y,
        nothing if v is None else grads.v,
        grads.threshold.reshape(threshold.shape).to(threshold.dtype),
        nothing.clone() if decay is None else grads.decay.reshape(decay.shape).to(decay.dtype),
    )


@torch.library.register_fake("spikeline::neuron_backward")
def _neuron_backward_fake(
    y: Tensor,
    v: Tensor | None,
    threshold: Tensor,
    decay: Tensor | None,
    mask: Tensor | None,
    checkpoints: Tensor,
    grad_out: Tensor,
    grad_v: Tensor | None,
    settings: str,
    executor: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    y, launch = launch_for(y, settings=settings_from_text(settings))
    return _backward_memory(y, launch, v, threshold, decay)


def _backward_memory(
    y: Tensor, launch: Launch, v: Tensor | None, threshold: Tensor, decay: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return uninitialised tensors for what backward returns."""
    nothing = y.new_empty(0, dtype=launch.state_dtype)
    return (
        _steps_like((launch.steps, *launch.shape), y, launch, launch.dtype),
        nothing if v is None else _steps_like(launch.shape, y, launch, launch.state_dtype),
        threshold.new_empty(threshold.shape),
        nothing.clone() if decay is None else decay.new_empty(decay.shape),
    )


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, settings, executor = inputs
    _, _, checkpoints = output
    ctx.mark_non_differentiable(checkpoints)
    # The last membrane is rarely used: None then spares a tensor of zeros.
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, checkpoints)
    ctx.options = (settings, executor)


def _go_back(ctx: Any, grad_out: Tensor | None, grad_v: Tensor | None, _: None) -> tuple[Any, ...]:
    y, v, threshold, decay, mask, checkpoints = ctx.saved_tensors
    if grad_out is None and grad_v is None:
        return (None,) * 7
    if grad_out is None:
        grad_out = torch.zeros_like(y)
    grads = neuron_backward(y, v, threshold, decay, mask, checkpoints, grad_out, grad_v, *ctx.options)
    given = (y, v, threshold, decay)
    return (*(grad if of is not None else None for grad, of in zip(grads, given, strict=True)), *(None,) * 3)


torch.library.register_autograd("spikeline::neuron_forward", _go_back, setup_context=_save_for_backward)


def _save_for_second(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, settings, _ = inputs
    ctx.save_for_backward(*tensors)
    ctx.settings = settings_from_text(settings)


def _go_back_twice(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
    """Return gradients of y, v, threshold, decay, grad_out and grad_v, through the reference."""
    y, v, threshold, decay, mask, _, grad_out, grad_v = ctx.saved_tensors
    wanted = [(0, y), (1, v), (2, threshold), (3, decay), (6, grad_out), (7, grad_v)]
    third = torch.is_grad_enabled()
    with torch.enable_grad():
        # Names of their own: one may have been computed from another, and that path is not this operator's.
        # What needs no gradient outside needs one here, where it is differentiated by all the same.
        taken = {
            place: x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
            for place, x in wanted
            if x is not None
        }
        parameters = NeuronParameters(taken[2], None, taken.get(3))
        results = run_reference(taken[0], taken.get(1), parameters, settings=ctx.settings, mask=mask)
        above = (taken[6], taken.get(7, torch.zeros_like(results[1])))
        given = [place for place in range(4) if place in taken]
        inputs = [taken[place] for place in given]
        first = _gradients(results, inputs, above, create_graph=True)
        seconds = _gradients(
            first, list(taken.values()), [grads[place] for place in given], create_graph=third
        )
    found = dict(zip(taken, seconds, strict=True))
    return tuple(found.get(place) for place in range(10))


def _gradients(
    results: Sequence[Tensor], inputs: list[Tensor], above: Sequence[Tensor], *, create_graph: bool
) -> tuple[Tensor, ...]:
    """Return gradients of inputs, given those of results; a result may be a constant."""
    differentiable = [(y, g) for y, g in zip(results, above, strict=True) if y.requires_grad]
    if not differentiable:
        return tuple(torch.zeros_like(x) for x in inputs)
    outputs, grads = zip(*differentiable, strict=True)
    return torch.autograd.grad(outputs, inputs, grads, create_graph=create_graph, materialize_grads=True)


torch.library.register_autograd("spikeline::neuron_backward", _go_back_twice, setup_context=_save_for_second)

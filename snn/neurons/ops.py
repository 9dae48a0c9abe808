"""Batch normalisation, neurons and pooling as one operator: `spikeline::neuron_forward`, `neuron_backward`.

With mean and variance taken from the batch, one pass over y [T, B, C, H, W] adds up its statistics, a second
one normalises, fires and pools. Going backward, the steps are run again, and with g the gradient of the
normalised current, g and g (y - mean) are added up per channel. What is then written is the

    gradient of y = weight i (g - mean of g - (y - mean) i^2 mean of g (y - mean))

on the CPU from g, which lies where it is written to; on a GPU by running the steps once more. Here i is
1 / sqrt(variance + eps) (Ioffe and Szegedy, "Batch Normalization", 2015). Saved for it are y, numbers per
channel, and one membrane per CHUNK steps; neither the normalised current nor the spikes.
"""

from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, batch_norm, max_pool2d

from snn.neurons import arguments
from snn.neurons.arguments import inputs_for, laid_out, launch_for, settings_from_text
from snn.neurons.kernels.launch import InputGradient, Inputs, Launch, Pool, like_steps
from snn.neurons.operator import operator
from snn.neurons.reference import NeuronParameters, run_neurons, state_dtype
from snn.neurons.settings import NeuronSettings
from snn.neurons.statistics import channel_statistics

# Where the mean and variance of batch normalisation come from: there is none, the batch, or what was given.
NORMS = ("none", "batch", "running")


class Affine(NamedTuple):
    """Batch normalisation as scale y + shift; every number per channel, shape [C], float64."""

    mean: Tensor
    inverse: Tensor
    scale: Tensor
    shift: Tensor


def affine(mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Affine:
    """Return the affine map that normalises with this mean and variance, each shape [C]."""
    mean, inverse = mean.double(), (variance.double() + eps).rsqrt()
    scale = inverse if weight is None else inverse * weight.double()
    shift = -mean * scale
    return Affine(mean, inverse, scale, shift if bias is None else shift + bias.double())


@operator
def neuron_forward(
    y: Tensor,
    v: Tensor | None,
    threshold: Tensor,
    decay: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    mask: Tensor | None,
    settings: str,
    executor: str,
    pool: str,
    norm: str,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Normalise, fire, pool; arguments are unchecked.

    Args:
        y: Current before normalisation, shape [T, B, C, H, W]; any [T, B, ...] without norm and pool.
        v: Membrane before the first step, shape [B, ...]; None is rest.
        threshold: One number or one per channel.
        decay: The same; None takes the constant of the settings.
        weight: Factor after normalisation, shape [C]; None is 1.
        bias: Added after it, shape [C]; None is 0.
        mean: Running mean, shape [C]; read with norm `running` only.
        variance: Running variance, shape [C]; read with norm `running` only.
        mask: Share of the normalised current let through, shape [T, B, C].
        settings: `settings_text` of the neurons.
        executor: `numba` or `cuda`.
        pool: `none`, `avg` or `max`, over 2x2.
        norm: One of `NORMS`.
        eps: Added to the variance.

    Returns:
        Spikes, pooled; membrane after the last step; membranes before every CHUNK-th step; mean and biased
        variance of the batch, shape [C], or [0] with another norm.
    """
    y, launch = _launch(y, mask, settings, pool, norm)
    if launch.neurons == 0:
        return _forward_memory(y, launch, norm)
    batch_mean, batch_variance = _no_statistics(y, launch)
    if norm == "batch":
        batch_mean, batch_variance = mean, variance = channel_statistics(y)
    scale = shift = None
    if norm != "none":
        _, _, scale, shift = affine(mean, variance, weight, bias, eps)  # type: ignore[arg-type]
    inputs = inputs_for(launch, y, v, threshold, decay, scale=scale, shift=shift, mask=mask)
    return (*arguments.kernels(executor).forward(launch, inputs), batch_mean, batch_variance)


@torch.library.register_fake("spikeline::neuron_forward")
def _neuron_forward_fake(
    y: Tensor,
    v: Tensor | None,
    threshold: Tensor,
    decay: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    mask: Tensor | None,
    settings: str,
    executor: str,
    pool: str,
    norm: str,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _forward_memory(*_launch(y, mask, settings, pool, norm), norm)


@operator
def neuron_backward(
    y: Tensor,
    v: Tensor | None,
    threshold: Tensor,
    decay: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    mask: Tensor | None,
    checkpoints: Tensor,
    grad_out: Tensor,
    grad_v: Tensor | None,
    settings: str,
    executor: str,
    pool: str,
    norm: str,
    eps: float,
    write: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Go back through `neuron_forward`; arguments of that, and:

    Args:
        y: As in forward, like all but the following.
        v: As in forward.
        threshold: As in forward.
        decay: As in forward.
        weight: As in forward.
        bias: As in forward.
        mean: Mean that was subtracted: of the batch, or running; None without norm.
        variance: Variance beside it.
        mask: As in forward.
        checkpoints: What forward returned.
        grad_out: Gradient of the pooled spikes.
        grad_v: Gradient of the last membrane, shape [B, ...]; None is zero.
        settings: As in forward.
        executor: As in forward.
        pool: As in forward.
        norm: As in forward.
        eps: As in forward.
        write: Whether the gradients of y and v are wanted.

    Returns:
        Gradients of y, v, threshold, decay, weight and bias, each in the shape and dtype of what it belongs
        to; without elements for what is not wanted or was None.
    """
    y, launch = _launch(y, mask, settings, pool, norm)
    memory = _backward_memory(y, launch, (v, threshold, decay, weight, bias), write)
    if launch.neurons == 0:
        return tuple(gradient.zero_() for gradient in memory)  # type: ignore[return-value]
    rule = None if norm == "none" else affine(mean, variance, weight, bias, eps)  # type: ignore[arg-type]
    scale, shift = (None, None) if rule is None else (rule.scale, rule.shift)
    inputs = inputs_for(launch, y, v, threshold, decay, scale=scale, shift=shift, mask=mask)
    above = (laid_out(grad_out, launch), None if grad_v is None else laid_out(grad_v, launch))
    found = _passes(executor, launch, inputs, checkpoints, *above, rule=rule, norm=norm, write=write)
    # What is not wanted stays empty; the rest comes in the shape and dtype of its parameter.
    return tuple(  # type: ignore[return-value]
        empty if gradient is None or not empty.numel() else gradient.reshape(empty.shape).to(empty.dtype)
        for gradient, empty in zip(found, memory, strict=True)
    )


def _passes(
    executor: str,
    launch: Launch,
    inputs: Inputs,
    checkpoints: Tensor,
    grad_out: Tensor,
    grad_v: Tensor | None,
    *,
    rule: Affine | None,
    norm: str,
    write: bool,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of y, v, threshold, decay, weight and bias; None where there is none."""
    backward = partial(arguments.kernels(executor).backward, launch, inputs, checkpoints, grad_out, grad_v)
    if rule is None:
        grads = backward(write=write)
        return (grads.y, grads.v, grads.threshold, grads.decay, None, None)
    mean = rule.mean.to(launch.state_dtype)

    nothing = torch.zeros_like(rule.scale)

    def by_sums(sums: Tensor) -> InputGradient:
        total, along = sums.double() / (launch.steps * launch.neurons / launch.channels)
        return _to_y(launch, rule, -rule.scale * rule.inverse.square() * along, -rule.scale * total)

    formula = by_sums if norm == "batch" else _to_y(launch, rule, nothing, nothing)
    grads = backward(write=write, mean=mean, input_gradient=formula)
    total, along = grads.sums
    return (grads.y, grads.v, grads.threshold, grads.decay, along * rule.inverse, total.clone())


def _to_y(launch: Launch, rule: Affine, y_scale: Tensor, shift: Tensor) -> InputGradient:
    return InputGradient(*(n.to(launch.state_dtype) for n in (rule.scale, y_scale, rule.mean, shift)))


@torch.library.register_fake("spikeline::neuron_backward")
def _neuron_backward_fake(
    y: Tensor,
    v: Tensor | None,
    threshold: Tensor,
    decay: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    mask: Tensor | None,
    checkpoints: Tensor,
    grad_out: Tensor,
    grad_v: Tensor | None,
    settings: str,
    executor: str,
    pool: str,
    norm: str,
    eps: float,
    write: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    y, launch = _launch(y, mask, settings, pool, norm)
    return _backward_memory(y, launch, (v, threshold, decay, weight, bias), write)


def _launch(y: Tensor, mask: Tensor | None, settings: str, pool: str, norm: str) -> tuple[Tensor, Launch]:
    return launch_for(
        y,
        settings=settings_from_text(settings),
        pool=cast(Pool, pool),
        affine=norm != "none",
        masked=mask is not None,
    )


def _no_statistics(y: Tensor, launch: Launch) -> tuple[Tensor, Tensor]:
    return y.new_empty(0, dtype=launch.state_dtype), y.new_empty(0, dtype=launch.state_dtype)


def _forward_memory(y: Tensor, launch: Launch, norm: str) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return uninitialised tensors for what forward returns."""
    like = partial(like_steps, y=y, channels_last=launch.channels_last)
    of_batch = (launch.channels if norm == "batch" else 0,)
    return (
        like(launch.out_shape, dtype=launch.dtype),
        like(launch.shape, dtype=launch.state_dtype),
        like(launch.checkpoints_shape, dtype=launch.state_dtype),
        y.new_empty(of_batch, dtype=launch.state_dtype),
        y.new_empty(of_batch, dtype=launch.state_dtype),
    )


def _backward_memory(
    y: Tensor, launch: Launch, given: tuple[Tensor | None, ...], write: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return uninitialised tensors for what backward returns; `given`: v, threshold, decay, weight, bias."""
    like = partial(like_steps, y=y, channels_last=launch.channels_last)
    v, *parameters = given
    return (  # type: ignore[return-value]
        like((launch.steps, *launch.shape) if write else (0, *launch.shape), dtype=launch.dtype),
        like(launch.shape if write and v is not None else (0, *launch.shape[1:]), dtype=launch.state_dtype),
        *(y.new_empty(0) if p is None else p.new_empty(p.shape) for p in parameters),
    )


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    y, v, threshold, decay, weight, bias, mean, variance, mask, settings, executor, pool, norm, eps = inputs
    _, _, checkpoints, batch_mean, batch_variance = output
    ctx.mark_non_differentiable(checkpoints, batch_mean, batch_variance)
    # The last membrane is rarely used: None then spares a tensor of zeros.
    ctx.set_materialize_grads(False)
    if norm == "batch":
        mean, variance = batch_mean, batch_variance
    ctx.save_for_backward(y, v, threshold, decay, weight, bias, mean, variance, mask, checkpoints)
    ctx.options = (settings, executor, pool, norm, eps)
    ctx.out_shape = output[0].shape


def _go_back(ctx: Any, grad_out: Tensor | None, grad_v: Tensor | None, *_: None) -> tuple[Any, ...]:
    if grad_out is None and grad_v is None:
        return (None,) * 14
    y, *given, checkpoints = ctx.saved_tensors
    if grad_out is None:
        grad_out = y.new_zeros(ctx.out_shape)
    write = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
    grads = neuron_backward(y, *given, checkpoints, grad_out, grad_v, *ctx.options, write)
    wanted = ctx.needs_input_grad[:6]
    return (*(grad if want else None for grad, want in zip(grads, wanted, strict=True)), *(None,) * 8)


torch.library.register_autograd("spikeline::neuron_forward", _go_back, setup_context=_save_for_backward)


def run_fused_reference(
    y: Tensor,
    v: Tensor | None,
    threshold: Tensor,
    decay: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    mask: Tensor | None,
    *,
    settings: NeuronSettings,
    pool: str,
    norm: str,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Return what `neuron_forward` returns first, spikes and last membrane, from torch and the reference.

    Arguments are those of `neuron_forward`. Unlike with it, the current is not rounded to y's dtype between
    normalisation and neurons.
    """
    x = y.to(state_dtype(y))
    if norm != "none":
        numbers = (None if n is None else n.to(x.dtype) for n in (mean, variance, weight, bias))
        mean, variance, weight, bias = numbers
        if norm == "batch":
            mean = variance = None
        x = batch_norm(x.flatten(0, 1), mean, variance, weight, bias, training=norm == "batch", eps=eps)
        x = x.unflatten(0, y.shape[:2])
    out, v = run_neurons(x, v, NeuronParameters(threshold, None, decay), settings=settings, mask=mask)
    return pool_spikes(out, pool).to(y.dtype), v


def pool_spikes(spikes: Tensor, pool: str) -> Tensor:
    """Return spikes [T, B, C, H, W] pooled over 2x2: `avg`, `max`, or `none`."""
    if pool == "none":
        return spikes
    rule = avg_pool2d if pool == "avg" else max_pool2d
    return rule(spikes.flatten(0, 1), 2).unflatten(0, spikes.shape[:2])


def _save_for_second(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, settings, _, pool, norm, eps, write = inputs
    ctx.save_for_backward(*tensors)
    ctx.options = {"settings": settings_from_text(settings), "pool": pool, "norm": norm, "eps": eps}
    ctx.write = write


def _go_back_twice(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
    """Return gradients of y, v, threshold, decay, weight, bias, grad_out and grad_v, by the reference."""
    *tensors, _, grad_out, grad_v = ctx.saved_tensors
    third = torch.is_grad_enabled()
    with torch.enable_grad():
        places = dict(enumerate(tensors[:6])) | {10: grad_out, 11: grad_v}
        # Views, since one of these may have been computed from another, which is not to be followed here.
        taken = {
            place: x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
            for place, x in places.items()
            if x is not None
        }
        results = run_fused_reference(*map(taken.get, range(6)), *tensors[6:], **ctx.options)  # type: ignore[arg-type]
        given = [place for place in range(6) if place in taken and (ctx.write or place > 1)]
        above = (taken[10], taken.get(11, torch.zeros_like(results[1])))
        first = torch.autograd.grad(
            results, [taken[place] for place in given], above, create_graph=True, materialize_grads=True
        )
        seconds = torch.autograd.grad(
            first,
            list(taken.values()),
            [grads[place] for place in given],
            create_graph=third,
            materialize_grads=True,
        )
    found = dict(zip(taken, seconds, strict=True))
    return tuple(found.get(place) for place in range(18))


torch.library.register_autograd("spikeline::neuron_backward", _go_back_twice, setup_context=_save_for_second)

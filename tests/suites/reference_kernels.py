"""Stand-in for a fused executor: the interface of the kernels, the arithmetic of the reference.

What is tested around kernels (operators, modules, blocks) can be tested without any kernel:
`monkeypatch.setattr("snn.neurons.arguments.kernels", lambda executor: reference_kernels)`.
"""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from snn.neurons.kernels.launch import (
    CHUNK,
    Backward,
    Forward,
    InputGradient,
    InputGradientRule,
    Inputs,
    Launch,
    like_steps,
)
from snn.neurons.reference import NeuronParameters, run_neurons
from snn.neurons.settings import NeuronSettings


def why_not(settings: NeuronSettings, *, dtype: torch.dtype) -> str | None:
    """Refuse what kernels leave to the reference: spikes with a learned value."""
    return None if settings.spike_value == "one" else f"spike_value {settings.spike_value!r} is not fused"


def forward(launch: Launch, inputs: Inputs) -> Forward:
    check(launch, inputs)
    with torch.no_grad():
        x, v = current(launch, inputs), inputs.v
        spikes, membranes = [], []
        for first in range(0, launch.steps, CHUNK):
            part = slice(first, first + CHUNK)
            s, v = run(launch, inputs, x[part], v, mask=None if inputs.mask is None else inputs.mask[part])
            spikes.append(s)
            membranes.append(v)
        out = pooled(torch.cat(spikes), launch)
        checkpoints = torch.stack(membranes)[:-1]
    return Forward(laid_out(out.to(launch.dtype), launch), laid_out(v, launch), laid_out(checkpoints, launch))


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
    check(launch, inputs)
    assert tuple(checkpoints.shape) == launch.checkpoints_shape
    assert tuple(grad_out.shape) == launch.out_shape
    assert grad_out.dtype == launch.dtype
    # Inside an operator torch records nothing; a thread of its own knows of no operator.
    with ThreadPoolExecutor(1) as thread:
        g, grad_threshold, grad_decay, *first = thread.submit(
            gradients, launch, inputs, grad_out, grad_v
        ).result()
    y = inputs.y.to(launch.state_dtype)
    sums = None
    if mean is not None:
        distance = y - per_channel(mean, launch)
        over = [axis for axis in range(y.dim()) if axis != 2]
        sums = torch.stack([g.sum(over), (g * distance).sum(over)])
    grad_y = None
    if write:
        if callable(input_gradient):
            input_gradient = input_gradient(sums)
        grad_y = g if input_gradient is None else gradient_of_y(g, y, input_gradient, launch)
        grad_y = laid_out(grad_y.to(launch.dtype), launch)
    return Backward(
        grad_y, laid_out(first[0], launch) if first and write else None, grad_threshold, grad_decay, sums
    )


def gradients(launch: Launch, inputs: Inputs, grad_out: Tensor, grad_v: Tensor | None) -> tuple[Tensor, ...]:
    """Gradients of the current before the mask, threshold, decay and, where it was given, first membrane."""
    x = current(launch, inputs).detach().requires_grad_()
    v = inputs.v.detach().requires_grad_() if inputs.v is not None else None
    threshold, decay = (p.detach().requires_grad_() for p in (inputs.threshold, inputs.decay))
    leaves = inputs._replace(threshold=threshold, decay=decay)
    spikes, final = run(launch, leaves, x, v, mask=inputs.mask)
    wanted = [x, threshold, decay] + [v] * (v is not None)
    above = (grad_out.to(x.dtype), torch.zeros_like(final) if grad_v is None else grad_v)
    # Where all neurons return to rest, the final membrane is a constant.
    results = [(y, g) for y, g in zip((pooled(spikes, launch), final), above, strict=True) if y.requires_grad]
    outputs, grads = zip(*results, strict=True)
    return torch.autograd.grad(outputs, wanted, grads, materialize_grads=True)


def gradient_of_y(g: Tensor, y: Tensor, rule: InputGradient, launch: Launch) -> Tensor:
    g_scale, y_scale, mean, shift = (per_channel(value, launch) for value in rule)
    return g_scale * g + y_scale * (y - mean) + shift


def check(launch: Launch, inputs: Inputs) -> None:
    """What the contract promises to kernels."""
    assert tuple(inputs.y.shape) == (launch.steps, *launch.shape)
    assert inputs.y.dtype == launch.dtype
    assert dense(inputs.y, launch)
    assert inputs.v is None or (inputs.v.dtype == launch.state_dtype and dense(inputs.v, launch))
    assert (inputs.scale is not None) == (inputs.shift is not None) == launch.affine
    assert (inputs.mask is not None) == launch.masked
    for parameter in (inputs.threshold, inputs.decay, inputs.scale, inputs.shift):
        if parameter is not None:
            assert parameter.dtype == launch.state_dtype
            assert tuple(parameter.shape) in {(1,), (launch.channels,)}
    if inputs.mask is not None:
        assert inputs.mask.is_contiguous()
        assert inputs.mask.dtype == launch.state_dtype
        assert tuple(inputs.mask.shape) == (launch.steps, *launch.shape[:2])


def dense(tensor: Tensor, launch: Launch) -> bool:
    return (tensor.movedim(-3, -1) if launch.channels_last else tensor).is_contiguous()


def laid_out(tensor: Tensor, launch: Launch) -> Tensor:
    """A copy in the launch's layout."""
    memory = like_steps(tuple(tensor.shape), tensor, channels_last=launch.channels_last, dtype=tensor.dtype)
    return memory.copy_(tensor)


def current(launch: Launch, inputs: Inputs) -> Tensor:
    y = inputs.y.to(launch.state_dtype)
    if not launch.affine:
        return y
    return per_channel(inputs.scale, launch) * y + per_channel(inputs.shift, launch)


def per_channel(values: Tensor, launch: Launch) -> Tensor:
    return values.reshape(-1, *[1] * (len(launch.shape) - 2))


def run(launch, inputs, x, v, *, mask):
    parameters = NeuronParameters(inputs.threshold, None, inputs.decay)
    return run_neurons(x, v, parameters, settings=launch.settings, mask=mask)


def pooled(spikes: Tensor, launch: Launch) -> Tensor:
    if launch.pool == "none":
        return spikes
    pool = {"avg": avg_pool2d, "max": max_pool2d}[launch.pool]
    return pool(spikes.flatten(0, 1), 2).unflatten(0, spikes.shape[:2])

"""The definition of every neuron: one recurrence with options, in plain torch, with explicit state.

    a[t] = decay v[t-1] + x[t]                          charge
    u[t] = a[t] - threshold
    s[t] = 1 where u[t] >= 0 (or > 0), else 0           fire
    v[t] = (1 - s[t]) a[t]                              hard reset
         = a[t] - threshold s[t]                        soft reset

Source: LT-SNN (IJCNN 2024) and its released code. Going backward, autograd follows these lines, with
`snn.neurons.surrogate.Spike` in place of the step; with `detach_reset` the s[t] of the reset is a constant.
Fast executors share this file's signature and are compared with it in values and gradients.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from snn.errors import NeuronError
from snn.neurons.settings import NeuronSettings
from snn.neurons.surrogate import SPIKE_PER_THRESHOLD, Spike, SpikeValue


class NeuronParameters(NamedTuple):
    """What a layer of neurons may learn.

    Attributes:
        threshold: Firing threshold, a scalar or anything that broadcasts against [B, ...].
        spike_scale: Value of a spike where `spike_value` is `learned`; not used otherwise.
    """

    threshold: Tensor
    spike_scale: Tensor | None = None


def run_neurons(
    current: Tensor, v: Tensor | None, parameters: NeuronParameters, *, settings: NeuronSettings
) -> tuple[Tensor, Tensor]:
    """Run neurons over T steps.

    The membrane is kept in float32 when the current is float16 or bfloat16.

    Args:
        current: Input x, shape [T, B, ...], floating point, T at least 1, in units of the threshold.
        v: Membrane before the first step, shape [B, ...]; None stands for 0.
        parameters: The learned scalars.
        settings: The options of the recurrence.

    Returns:
        Spikes, shape [T, B, ...], dtype of the current; membrane after the last step, shape [B, ...].

    Raises:
        NeuronError: The current or the membrane has a shape or dtype that cannot be run.
    """
    check_input(current, v)
    threshold = parameters.threshold
    # Where the threshold must not learn from its distance, the distance is taken from a constant.
    level = threshold.detach() if settings.threshold_gradient == "none" else threshold
    if v is None:
        v = current.new_zeros((), dtype=state_dtype(current))  # broadcasts
    spikes = []
    for x in current.to(state_dtype(current)).unbind(0):  # [B, ...]
        a = settings.decay * v + x
        s = Spike.apply(a - level, level, settings)
        v = _reset(a, s, level, settings)
        spikes.append(_spike_value(s, parameters, settings).to(current.dtype))
    return torch.stack(spikes), v


def _reset(a: Tensor, s: Tensor, threshold: Tensor, settings: NeuronSettings) -> Tensor:
    """Return the membrane after the reset, shape [B, ...]."""
    fired = s.detach() if settings.detach_reset else s
    if settings.reset == "soft":
        return a - threshold * fired
    return a - a * fired  # (1 - s) a: exact, since s is 0 or 1


def _spike_value(s: Tensor, parameters: NeuronParameters, settings: NeuronSettings) -> Tensor:
    """Return what the spikes hand on, shape [B, ...]."""
    if settings.spike_value == "threshold":
        return SpikeValue.apply(s, parameters.threshold, SPIKE_PER_THRESHOLD)
    if settings.spike_value == "learned":
        if parameters.spike_scale is None:
            raise NeuronError("spike_scale: found None, expected a tensor with spike_value 'learned'")
        return SpikeValue.apply(s, parameters.spike_scale, 1.0)
    return s


def state_dtype(current: Tensor) -> torch.dtype:
    """Return the dtype of the membrane: the current's, but at least float32."""
    return torch.promote_types(current.dtype, torch.float32)


def check_input(current: Tensor, v: Tensor | None) -> None:
    """Raise NeuronError unless current [T, B, ...] and membrane [B, ...] can be run together."""
    shape = tuple(current.shape)
    if current.dim() < 2 or shape[0] < 1:
        raise NeuronError(f"current: found shape {shape}, expected [T, B, ...] with T at least 1")
    if not current.is_floating_point():
        raise NeuronError(f"current: found dtype {current.dtype}, expected a floating point dtype")
    if v is None:
        return
    if tuple(v.shape) != shape[1:]:
        raise NeuronError(f"v: found shape {tuple(v.shape)}, expected the current's without T, {shape[1:]}")
    if v.dtype != state_dtype(current):
        raise NeuronError(f"v: found dtype {v.dtype}, expected {state_dtype(current)}")
    if v.device != current.device:
        raise NeuronError(f"v: found on {v.device}, expected on the current's device, {current.device}")

"""The definition of every neuron: one recurrence with options, in plain torch, with explicit state.

    a[t] = decay v[t-1] + x[t]                          charge (rest 0)
         = v[t-1] + (1 - decay) (x[t] - v[t-1])         charge, decay_input
    o[t] = lanes of a[t]                                fire, see `snn.neurons.surrogate.Fire`
    s[t] = sum of w_k o_k[t]                            the spike handed on: one number per neuron
    f[t] = 1 where any lane fired, else 0
    r[t] = (1 - f[t]) a[t] + f[t] rest                  hard reset
         = a[t] - threshold f[t]                        soft reset
         = a[t] - threshold s[t]                        soft reset by the emitted value
         = rest                                         all
    v[t] = Q(r[t])                                      levels of the membrane, see `snn.neurons.membrane`

Several lanes presuppose a threshold above 0: where a learned one turned negative, only the top lane fires.
Going backward, autograd follows these lines, with surrogates in place of steps; with `detach_reset` the
f[t] and s[t] of the reset are constants. Fast executors share this file's signature and are compared with
it in values and gradients. Sources: see `snn.neurons.settings`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from snn.errors import NeuronError
from snn.neurons.membrane import quantise_membrane
from snn.neurons.settings import NeuronSettings
from snn.neurons.surrogate import SPIKE_PER_THRESHOLD, Fire, SpikeValue


class NeuronParameters(NamedTuple):
    """What a layer of neurons may learn. Per channel means dimension 2 of the current, [T, B, C, ...].

    Attributes:
        threshold: Firing threshold: one number, or one per channel, shape [C].
        spike_scale: Value of a spike where `spike_value` is `learned`; not used otherwise.
        decay: Share of the membrane kept from step to step: one number, or one per channel, shape [C];
            None takes the constant of the settings.
    """

    threshold: Tensor
    spike_scale: Tensor | None = None
    decay: Tensor | None = None


def run_neurons(
    current: Tensor,
    v: Tensor | None,
    parameters: NeuronParameters,
    *,
    settings: NeuronSettings,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run neurons over T steps.

    The membrane is kept in float32 when the current is float16 or bfloat16.

    Args:
        current: Input x, shape [T, B, ...], floating point, T at least 1, in units of the threshold.
        v: Membrane before the first step, shape [B, ...]; None stands for rest.
        parameters: The learned scalars.
        settings: The options of the recurrence.
        mask: Share of the current that is let through, shape [T, B, C], usually 0 or 1 per channel
            (SpQuant-SNN); None lets all of it through.

    Returns:
        Spikes, shape [T, B, ...], dtype of the current; membrane after the last step, shape [B, ...].

    Raises:
        NeuronError: An argument has a shape, dtype, device or value that cannot be run.
    """
    lanes, v = _run(current, v, parameters, settings=settings, mask=mask)
    merged = torch.stack([_merge(o, settings) for o in lanes])
    return _spike_value(merged, parameters, settings).to(current.dtype), v


def run_lanes(
    current: Tensor,
    v: Tensor | None,
    parameters: NeuronParameters,
    *,
    settings: NeuronSettings,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run neurons over T steps and return every lane, to look at: S times the memory of `run_neurons`.

    Args and errors are those of `run_neurons`.

    Returns:
        Lanes, 0 or 1, shape [T, S, B, ...], dtype of the current, differentiable each on its own; membrane
        after the last step, shape [B, ...].
    """
    lanes, v = _run(current, v, parameters, settings=settings, mask=mask)
    return torch.stack(lanes).to(current.dtype), v


def _run(
    current: Tensor,
    v: Tensor | None,
    parameters: NeuronParameters,
    *,
    settings: NeuronSettings,
    mask: Tensor | None,
) -> tuple[list[Tensor], Tensor]:
    """Return the lanes [S, B, ...] of each step and the final membrane [B, ...]."""
    check_input(current, v, parameters, mask=mask)
    dtype = state_dtype(current)
    threshold = _over_channels(parameters.threshold, current)
    decay: Tensor | float = settings.decay
    if parameters.decay is not None:
        decay = _over_channels(parameters.decay, current)
    # Where the threshold must not learn from its distance, the distance is taken from a constant.
    if settings.threshold_gradient == "none":
        threshold = threshold.detach()
    x = current.to(dtype)
    if mask is not None:
        x = x * mask.to(dtype).reshape(*mask.shape, *[1] * (current.dim() - 3))
    if v is None:
        v = torch.full_like(x[0], settings.rest)
    lanes = []
    for step in x.unbind(0):  # [B, ...]
        a = _charge(step, v, decay, settings)
        o = Fire.apply(a, threshold, settings)
        v = quantise_membrane(_reset(a, o, threshold, settings), settings.membrane)
        lanes.append(o)
    return lanes, v


def _charge(x: Tensor, v: Tensor, decay: Tensor | float, settings: NeuronSettings) -> Tensor:
    """Return the membrane before the spike, shape [B, ...]."""
    above_rest = v - settings.rest if settings.rest else v
    if settings.charge == "decay_input":
        return v + (1 - decay) * (x - above_rest)
    a = decay * above_rest + x
    return a + settings.rest if settings.rest else a


def _reset(a: Tensor, lanes: Tensor, threshold: Tensor, settings: NeuronSettings) -> Tensor:
    """Return the membrane after the reset, shape [B, ...]."""
    if settings.reset == "all":
        # Filled and not made anew: it stays a result with a gradient, which is 0, as with other resets.
        return a.masked_fill(torch.ones_like(a, dtype=torch.bool), settings.rest)
    if settings.detach_reset:
        lanes = lanes.detach()
    if settings.reset == "soft_value":
        return a - threshold * _merge(lanes, settings)
    # The lowest lane fires with every other when they are cumulative; one-hot, at most one fires.
    fired = lanes[0] if settings.firing == "cumulative" else lanes.sum(0)
    if settings.reset == "soft":
        return a - threshold * fired
    if settings.rest == 0:
        return a - a * fired  # (1 - f) a, exact since f is 0 or 1
    return (1 - fired) * a + fired * settings.rest


def _merge(lanes: Tensor, settings: NeuronSettings) -> Tensor:
    """Return the sum of w_k o_k, shape [B, ...], of lanes [S, B, ...]."""
    if settings.lanes == 1:
        return lanes[0]
    return sum(value * lane for value, lane in zip(settings.lane_values, lanes, strict=True))


def _spike_value(s: Tensor, parameters: NeuronParameters, settings: NeuronSettings) -> Tensor:
    """Return what the spikes hand on, shape [T, B, ...], of merged lanes of that shape."""
    if settings.spike_value == "threshold":
        return SpikeValue.apply(s, _over_channels(parameters.threshold, s), SPIKE_PER_THRESHOLD)
    if settings.spike_value == "learned":
        if parameters.spike_scale is None:
            raise NeuronError("spike_scale: found None, expected a tensor with spike_value 'learned'")
        return SpikeValue.apply(s, parameters.spike_scale.to(s.dtype), 1.0)
    return s


def expand_lanes(spikes: Tensor, *, settings: NeuronSettings) -> Tensor:
    """Return the lanes behind merged spikes, to look at; no gradient passes.

    Args:
        spikes: Values as `run_neurons` returns them, shape [T, B, ...].
        settings: The neurons they come from.

    Returns:
        True where the lane fired, bool, shape [T, S, B, ...].
    """
    values = settings.spike_values[1:]
    if settings.firing == "one_hot":
        return torch.stack([spikes == value for value in values], dim=1)
    return torch.stack([spikes >= value for value in values], dim=1)


def state_dtype(current: Tensor) -> torch.dtype:
    """Return the dtype of the membrane: the current's, but at least float32."""
    return torch.promote_types(current.dtype, torch.float32)


def _over_channels(parameter: Tensor, current: Tensor) -> Tensor:
    """Return a parameter so that it broadcasts against one step [B, C, ...], in the state's dtype."""
    parameter = parameter.to(state_dtype(current))
    return parameter if parameter.numel() == 1 else parameter.reshape(-1, *[1] * (current.dim() - 3))


def check_input(
    current: Tensor, v: Tensor | None, parameters: NeuronParameters, *, mask: Tensor | None = None
) -> None:
    """Raise NeuronError unless current [T, B, ...], membrane [B, ...], parameters and mask fit together."""
    shape = tuple(current.shape)
    if current.dim() < 2 or shape[0] < 1:
        raise NeuronError(f"current: found shape {shape}, expected [T, B, ...] with T at least 1")
    if not current.is_floating_point():
        raise NeuronError(f"current: found dtype {current.dtype}, expected a floating point dtype")
    for name in ("threshold", "decay"):
        parameter = getattr(parameters, name)
        if parameter is not None:
            _check_parameter(name, parameter, current)
    if mask is not None:
        expected = shape[:3]
        if current.dim() < 3 or tuple(mask.shape) != expected:
            raise NeuronError(
                f"mask: found shape {tuple(mask.shape)} for a current {shape}, expected [T, B, C]"
            )
        _check_device("mask", mask, current)
    if v is None:
        return
    if tuple(v.shape) != shape[1:]:
        raise NeuronError(f"v: found shape {tuple(v.shape)}, expected the current's without T, {shape[1:]}")
    if v.dtype != state_dtype(current):
        raise NeuronError(f"v: found dtype {v.dtype}, expected {state_dtype(current)}")
    _check_device("v", v, current)


def _check_parameter(name: str, parameter: Tensor, current: Tensor) -> None:
    channels = current.shape[2] if current.dim() > 2 else None
    shape = tuple(parameter.shape)
    if parameter.numel() != 1 and shape != (channels,):
        per_channel = f" or one per channel, [{channels}]" if channels is not None else ""
        raise NeuronError(f"{name}: found shape {shape}, expected one number{per_channel}")
    if not parameter.is_floating_point():
        raise NeuronError(f"{name}: found dtype {parameter.dtype}, expected a floating point dtype")
    _check_device(name, parameter, current)
    values = parameter.detach()
    # On a GPU this would wait for all work queued there; while a graph is traced there are no values.
    has_values = parameter.device.type == "cpu" and type(values) is Tensor
    if has_values and not torch.compiler.is_compiling() and not bool(torch.isfinite(values).all()):
        raise NeuronError(f"{name}: found a value that is not finite, expected finite numbers")


def _check_device(name: str, tensor: Tensor, current: Tensor) -> None:
    if tensor.device != current.device:
        raise NeuronError(
            f"{name}: found on {tensor.device}, expected on the current's device, {current.device}"
        )

"""Which program runs the neurons, and why not a faster one."""

import logging
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from snn.errors import NeuronError, did_you_mean
from snn.neurons import arguments, ops
from snn.neurons.operator import constant_when_traced
from snn.neurons.reference import NeuronParameters, check_input, state_dtype
from snn.neurons.reference import run_neurons as run_reference
from snn.neurons.settings import NeuronSettings

Executor = Literal["auto", "reference", "numba", "cuda"]
EXECUTORS = ("auto", "reference", "numba", "cuda")
# The fused executor of each device.
FUSED = {"cpu": "numba", "cuda": "cuda"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """An executor and what spoke against others.

    Attributes:
        executor: `reference`, `numba` or `cuda`.
        reasons: Why each faster or wanted executor was not taken, in plain words; empty where none was
            passed over.
    """

    executor: str
    reasons: tuple[str, ...] = ()


def check_executor(name: str) -> None:
    """Raise NeuronError unless there is an executor of this name."""
    if name not in EXECUTORS:
        hint = did_you_mean(name, EXECUTORS)
        raise NeuronError(f"executor: found {name!r}, expected one of {', '.join(EXECUTORS)}{hint}")


@cache
def choose_executor(wanted: str, *, device_type: str, dtype: torch.dtype, settings: NeuronSettings) -> Choice:
    """Choose what runs a layer of neurons.

    `auto` takes `cuda` on a CUDA device and `numba` on the CPU where they can run these neurons, else the
    reference. An executor asked for by name that knows the device but not an option falls back to the
    reference as well.

    Args:
        wanted: One of `EXECUTORS`.
        device_type: `cpu`, `cuda`, ...; where the current is.
        dtype: Of the current.
        settings: The neurons.

    Raises:
        NeuronError: There is no such executor, or the one asked for cannot run on this device.
    """
    check_executor(wanted)
    if wanted == "reference":
        return Choice("reference")
    name = wanted if wanted != "auto" else FUSED.get(device_type)
    if name is None:
        return Choice("reference", (f"no fused neurons for device {device_type}",))
    if FUSED.get(device_type) != name:
        fitting = ["auto", *filter(None, [FUSED.get(device_type)]), "reference"]
        raise NeuronError(
            f"executor: found {name!r} for a current on {device_type}, expected one of {', '.join(fitting)}"
        )
    reason = arguments.kernels(name).why_not(settings, dtype=dtype)
    if reason is None:
        return Choice(name)
    return Choice("reference", (f"{name}: {reason}",))


# What people read in place of an executor's name.
IN_WORDS = {
    "reference": "plain torch, step by step",
    "numba": "fused on the CPU",
    "cuda": "fused on the GPU",
}


def explain(settings: NeuronSettings, *, device_type: str, dtype: torch.dtype, executor: str = "auto") -> str:
    """Return in one line what runs these neurons and why nothing faster does; see `choose_executor`."""
    choice = choose_executor(executor, device_type=device_type, dtype=dtype, settings=settings)
    return "; ".join([f"{choice.executor} ({IN_WORDS[choice.executor]})", *choice.reasons])


@constant_when_traced
def executor_for(wanted: str, *, device_type: str, dtype: torch.dtype, settings: NeuronSettings) -> str:
    """Return what `choose_executor` chooses, and log once for each reason why nothing faster was chosen.

    A compiled graph takes the answer as a constant.
    """
    choice = choose_executor(wanted, device_type=device_type, dtype=dtype, settings=settings)
    for reason in choice.reasons:
        _report(reason, wanted)
    return choice.executor


@cache
def _report(reason: str, wanted: str) -> None:
    # Whoever leaves out an optional package need not be told at every start.
    left_out = wanted == "auto" and reason.startswith("numba") and find_spec("numba") is None
    level = logging.INFO if left_out else logging.WARNING
    logger.log(level, "neurons run in plain torch, which is slower: %s", reason)


def run_neurons(
    current: Tensor,
    v: Tensor | None,
    parameters: NeuronParameters,
    *,
    settings: NeuronSettings,
    mask: Tensor | None = None,
    executor: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Run neurons over T steps, as `snn.neurons.reference.run_neurons` defines it, by a fused executor.

    Args:
        current: Input x, shape [T, B, ...], floating point, T at least 1, in units of the threshold.
        v: Membrane before the first step, shape [B, ...]; None stands for rest.
        parameters: The learned scalars.
        settings: The options of the recurrence.
        mask: Share of the current that is let through, shape [T, B, C]; None lets all of it through.
        executor: One of `EXECUTORS`; see `choose_executor`.

    Returns:
        Spikes, shape [T, B, ...], dtype of the current; membrane after the last step, shape [B, ...].

    Raises:
        NeuronError: An argument has a shape, dtype, device or value that cannot be run.
    """
    check_input(current, v, parameters, mask=mask)
    name = executor_for(executor, device_type=current.device.type, dtype=current.dtype, settings=settings)
    if name == "reference":
        return run_reference(current, v, parameters, settings=settings, mask=mask)
    learned_mask = mask is not None and mask.requires_grad
    x = _let_through(current, mask) if mask is not None and learned_mask else current
    threshold = parameters.threshold
    if settings.threshold_gradient == "none":
        threshold = threshold.detach()
    text = arguments.settings_text(settings)
    mask = None if learned_mask else mask
    nothing = (None,) * 4
    spikes, v, *_ = ops.neuron_forward(
        x, v, threshold, parameters.decay, *nothing, mask, text, name, "none", "none", 0.0
    )
    return (spikes.to(current.dtype) if learned_mask else spikes), v


def _let_through(current: Tensor, mask: Tensor) -> Tensor:
    """Return the masked current: to kernels a mask is a constant, and this one learns."""
    dtype = state_dtype(current)
    return current.to(dtype) * mask.to(dtype).reshape(*mask.shape, *[1] * (current.dim() - 3))

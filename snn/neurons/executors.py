"""Which program runs the neurons, and why not a faster one."""

import logging
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch

from snn.errors import NeuronError, did_you_mean
from snn.neurons.settings import NeuronSettings

Executor = Literal["auto", "reference", "numba", "cuda"]
EXECUTORS = ("auto", "reference", "numba", "cuda")

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
    if wanted not in EXECUTORS:
        hint = did_you_mean(wanted, EXECUTORS)
        raise NeuronError(f"executor: found {wanted!r}, expected one of {', '.join(EXECUTORS)}{hint}")
    if wanted == "reference":
        return Choice("reference")
    name = wanted if wanted != "auto" else {"cpu": "numba", "cuda": "cuda"}.get(device_type)
    if name is None:
        return Choice("reference", (f"no fused neurons for device {device_type}",))
    home = {"numba": "cpu", "cuda": "cuda"}[name]
    if home != device_type:
        raise NeuronError(
            f"executor: found {name!r} for a current on {device_type}, expected auto or reference there"
        )
    reason = _why_not(name, dtype=dtype, settings=settings)
    if reason is None:
        return Choice(name)
    return Choice("reference", (f"{name}: {reason}",))


def _why_not(name: str, *, dtype: torch.dtype, settings: NeuronSettings) -> str | None:
    """Return why a fused executor cannot run these neurons here; None where it can."""
    if name == "numba":
        from snn.neurons.kernels import numba_cpu

        return numba_cpu.why_not(settings, dtype=dtype)
    from snn.neurons.kernels import cuda

    return cuda.why_not(settings, dtype=dtype)

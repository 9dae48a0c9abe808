"""What the operators take, and what the kernels behind them get."""

import json
from dataclasses import asdict
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from snn.neurons.kernels.launch import Inputs, Launch, Pool, layout
from snn.neurons.membrane import MembraneSettings
from snn.neurons.operator import constant_when_traced
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

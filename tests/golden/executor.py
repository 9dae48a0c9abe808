"""The program that the golden vectors of neurons are run by: one name, to be set to another executor's."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from snn.neurons.reference import NeuronParameters, run_neurons
from snn.neurons.settings import NeuronSettings

# Signature and behaviour of `run_neurons`.
RUN: Callable[..., tuple[Tensor, Tensor]] = run_neurons


def run_steps(
    current: Tensor,
    v: Tensor | None,
    parameters: NeuronParameters,
    settings: NeuronSettings,
    *,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run one step at a time, passing the membrane on; return spikes and every membrane, [T, B, ...]."""
    spikes, membranes = [], []
    for t in range(len(current)):
        of_step = None if mask is None else mask[t : t + 1]
        s, v = RUN(current[t : t + 1], v, parameters, settings=settings, mask=of_step)
        spikes.append(s[0])
        membranes.append(v)
    return torch.stack(spikes), torch.stack(membranes)


def time_first(array: np.ndarray) -> Tensor:
    """Return [T, B, ...] for the files' [B, T, ...]."""
    return torch.from_numpy(np.ascontiguousarray(array.swapaxes(0, 1)))


def batch_first(tensor: Tensor) -> np.ndarray:
    """Return the files' [B, T, ...] for [T, B, ...]."""
    return tensor.detach().transpose(0, 1).numpy()

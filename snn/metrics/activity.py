"""What the neurons of a network do: firing rates, thresholds, and the spikes themselves."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from snn.neurons.modules import Neuron
from snn.processes import gather_from_processes


def neuron_layers(model: nn.Module) -> dict[str, Neuron]:
    """Return the layers of neurons by name, in the order they are defined."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Neuron)}


def thresholds(model: nn.Module) -> dict[str, float]:
    """Return the threshold of each layer of neurons, in units of the membrane; of many, their mean."""
    return {
        name: float(layer.threshold.detach().float().mean()) for name, layer in neuron_layers(model).items()
    }


def decays(model: nn.Module) -> dict[str, float]:
    """Return the decay of each layer of neurons that learns it, from 0 to 1; of many, their mean."""
    learned = {name: layer.decay for name, layer in neuron_layers(model).items()}
    return {name: float(d.detach().float().mean()) for name, d in learned.items() if d is not None}


class FiringRates:
    """Share of neurons that fire in a step, layer by layer, over everything seen while recording."""

    def __init__(self) -> None:
        self._fired: dict[str, Tensor] = {}
        self._seen: dict[str, int] = {}

    def add(self, name: str, spikes: Tensor) -> None:
        """Add the spikes of a layer, any shape; every value but 0 is a spike."""
        fired = torch.count_nonzero(spikes)
        self._fired[name] = self._fired[name] + fired if name in self._fired else fired
        self._seen[name] = self._seen.get(name, 0) + spikes.numel()

    def with_other_processes(self) -> "FiringRates":
        """Return what all processes have seen together; all must call it."""
        together = FiringRates()
        here = {name: (int(fired), self._seen[name]) for name, fired in self._fired.items()}
        for process in gather_from_processes(here):
            for name, (fired, seen) in process.items():
                together._fired[name] = together._fired.get(name, torch.tensor(0)) + fired
                together._seen[name] = together._seen.get(name, 0) + seen
        return together

    def rates(self) -> dict[str, float]:
        """Return spikes a neuron and step, from 0 to 1, for each layer in the order they ran."""
        return {name: int(fired) / self._seen[name] for name, fired in self._fired.items()}


@contextmanager
def record_rates(model: nn.Module) -> Iterator[FiringRates]:
    """Record the firing rates of all layers of neurons while the block runs."""
    recorded = FiringRates()
    with _watched(model, recorded.add):
        yield recorded


@contextmanager
def record_spikes(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Keep the spikes of the last forward pass, layer by layer, shape [T, B, ...] on the CPU."""
    kept: dict[str, Tensor] = {}

    def keep(name: str, spikes: Tensor) -> None:
        kept[name] = spikes.detach().float().cpu()

    with _watched(model, keep):
        yield kept


@contextmanager
def _watched(model: nn.Module, see: Any) -> Iterator[None]:
    """Hand the output of every layer of neurons to `see(name, spikes)` while the block runs."""
    handles = [
        layer.register_forward_hook(lambda _module, _arguments, output, name=name: see(name, output.detach()))
        for name, layer in neuron_layers(model).items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

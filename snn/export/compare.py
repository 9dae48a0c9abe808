"""Whether an exported network gives the same spikes as the network in torch it was made from: counted."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snn.export.network import IntegerNetwork
from snn.export.runner import run_network
from snn.neurons.modules import Neuron


@dataclass
class LayerDifference:
    """Spikes of one layer of neurons.

    Attributes:
        values: How many were compared: neurons times steps times samples.
        differ: How many are not the same. One that differs can make others differ in later layers.
        spikes: How many of the torch network's are not 0.
        samples: Samples in which any differs.
    """

    values: int = 0
    differ: int = 0
    spikes: int = 0
    samples: int = 0


@dataclass
class Difference:
    """An exported network beside the network in torch.

    Attributes:
        samples: How many were run.
        layers: By name, in the order they run.
        decisions: Samples that are classified otherwise.
        largest_logit: Largest difference of a logit at a step, in units of the torch network's logits.
        right: Samples that the exported network classifies right; None without labels.
        right_torch: The same for the torch network.
    """

    samples: int = 0
    layers: dict[str, LayerDifference] = field(default_factory=dict)
    decisions: int = 0
    largest_logit: float = 0.0
    right: int | None = None
    right_torch: int | None = None

    @property
    def differ(self) -> int:
        """Spikes that are not the same, over all layers."""
        return sum(layer.differ for layer in self.layers.values())

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON types."""
        return {
            "samples": self.samples,
            "spikes_that_differ": self.differ,
            "decisions_that_differ": self.decisions,
            "largest_logit_difference": self.largest_logit,
            "right": self.right,
            "right_torch": self.right_torch,
            "layers": {name: vars(layer) for name, layer in self.layers.items()},
        }


@torch.no_grad()
def compare(
    model: nn.Module,
    network: IntegerNetwork,
    batches: Iterable[tuple[np.ndarray, np.ndarray | None]],
) -> Difference:
    """Run both on the same frames and count the spikes that differ.

    Args:
        model: Network in torch, as it is evaluated; on the CPU.
        network: What was exported from it.
        batches: Counts, an integer dtype [T, B, P, H, W], and class numbers [B] or None.
    """
    model.eval()
    result = Difference()
    like = next(model.parameters())
    for frames, labels in batches:
        ours: dict[str, np.ndarray] = {}
        logits = run_network(network, frames, spikes=ours)
        with _spikes(model) as theirs:
            expected = model(torch.from_numpy(frames.astype(np.float64)).to(like.dtype))
        _add_spikes(result, network, ours, theirs)
        _add_logits(result, logits / 2.0**network.logit_fraction_bits, expected.double().numpy(), labels)
        result.samples += frames.shape[1]
    return result


@contextmanager
def _spikes(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Keep the spikes of every layer of neurons while the block runs."""
    kept: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(lambda _module, _arguments, out, name=name: kept.update({name: out}))
        for name, module in model.named_modules()
        if isinstance(module, Neuron)
    ]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _add_spikes(
    result: Difference, network: IntegerNetwork, ours: dict[str, np.ndarray], theirs: dict[str, Tensor]
) -> None:
    for layer in network.layers:
        if layer.kind != "neuron":
            continue
        expected = theirs[layer.name].double().numpy() * 2.0**layer.fraction_bits
        wrong = ours[layer.name] != expected
        counts = result.layers.setdefault(layer.name, LayerDifference())
        counts.values += wrong.size
        counts.differ += int(wrong.sum())
        counts.spikes += int((expected != 0).sum())
        counts.samples += int(np.moveaxis(wrong, 1, 0).reshape(wrong.shape[1], -1).any(axis=1).sum())


def _add_logits(result: Difference, ours: np.ndarray, theirs: np.ndarray, labels: np.ndarray | None) -> None:
    result.largest_logit = max(result.largest_logit, float(np.abs(ours - theirs).max(initial=0)))
    decided, expected = (logits.sum(axis=0).argmax(axis=1) for logits in (ours, theirs))
    result.decisions += int((decided != expected).sum())
    if labels is not None:
        result.right = (result.right or 0) + int((decided == labels).sum())
        result.right_torch = (result.right_torch or 0) + int((expected == labels).sum())

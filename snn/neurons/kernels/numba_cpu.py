"""Fused neurons on the CPU."""

import torch

from snn.neurons.settings import NeuronSettings


def why_not(settings: NeuronSettings, *, dtype: torch.dtype) -> str | None:
    """Return why these neurons cannot be run here; None where they can."""
    return "not written yet"

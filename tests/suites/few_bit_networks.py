"""Small networks with weights in few bits and normalisations that have seen something."""

import numpy as np
import torch
from torch import nn

from snn.models.registry import ModelSettings, build_model
from snn.neurons.settings import NeuronSettings
from snn.quant.settings import WeightSettings

WEIGHTS = WeightSettings(bits=2, first_bits=8, last_bits=8, shortcut_bits=4)


def few_bit_network(
    name: str,
    neuron: NeuronSettings,
    *,
    weights: WeightSettings = WEIGHTS,
    width: float = 0.1,
    seed: int = 0,
    **options,
) -> nn.Module:
    """Return a network for frames of 2 x 16 x 16 and three classes, whose neurons fire in every layer."""
    torch.manual_seed(seed)
    settings = ModelSettings(
        name=name, width=width, neuron=neuron, executor="reference", weights=weights, **options
    )
    model = build_model(settings, input_hw=(16, 16), classes=3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.normal_(1, 0.3)
            module.bias.data.normal_(0.3, 0.3)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.1, 0.4)
    if hasattr(model, "hidden_neuron"):
        model.hidden.bias.data.uniform_(0.2, 1.2)
    return model.eval()


def some_frames(steps: int = 4, samples: int = 3, seed: int = 0) -> np.ndarray:
    """Return counts of events, uint8, shape [T, B, 2, 16, 16]."""
    return np.random.default_rng(seed).poisson(0.4, size=(steps, samples, 2, 16, 16)).astype(np.uint8)

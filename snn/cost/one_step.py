"""Run a network for one step of zeros, to see the shapes that its layers are given."""

import torch
from torch import nn

from snn.neurons.modules import Neuron


@torch.no_grad()
def run_one_step(model: nn.Module, frame_shape: tuple[int, ...]) -> None:
    """Run one step of one sample of zeros, in evaluation, and leave the network as it was.

    Args:
        model: The network, on any device; on `meta` nothing is computed.
        frame_shape: [P, H, W] of its frames.
    """
    neurons = [layer for layer in model.modules() if isinstance(layer, Neuron)]
    modes = {module: module.training for module in model.modules()}
    executors = [layer.executor for layer in neurons]
    try:
        # Nothing is compiled for a single step.
        for layer in neurons:
            layer.executor = "reference"
        device = next(model.parameters()).device
        model.eval()(torch.zeros(1, 1, *frame_shape, device=device))
    finally:
        for module, mode in modes.items():
            module.training = mode
        for layer, executor in zip(neurons, executors, strict=True):
            layer.executor = executor

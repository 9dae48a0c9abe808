"""Building blocks of spiking networks: layers without state over time, and conv + norm + neuron.

Everything here is time first. A layer without state sees steps and samples merged, `[T * B, ...]`; in
training, batch normalisation therefore takes its statistics over all steps of all samples together. That is
what LT-SNN, TET and M-LIF call tdBN, without the threshold factor of the tdBN paper.
"""

import copy

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from snn.neurons.modules import Neuron
from snn.neurons.settings import NeuronSettings


class Stepwise(nn.Module):
    """Apply a module without state to every step: `[T, B, ...]` in, `[T, B, ...]` out."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Merge steps and samples, apply the module, split them again."""
        return self.module(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class ConvBlock(nn.Module):
    """Convolution, batch normalisation and neurons: frames or spikes in, spikes out.

    Attributes:
        conv: 3x3 convolution with padding 1 and a bias.
        norm: Ordinary BatchNorm2d over steps and samples merged; an Identity once folded.
        neuron: The neurons.
    """

    norm: nn.Module

    def __init__(self, in_channels: int, channels: int, *, neuron: NeuronSettings, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel_size=3, stride=stride, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.neuron = Neuron(neuron)
        # Source: LT-SNN and TET's released VGGs.
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes, shape [T, B, channels, H / stride, W / stride], for x [T, B, C, H, W]."""
        current = self.norm(self.conv(x.flatten(0, 1)))
        return self.neuron(current.unflatten(0, x.shape[:2]))


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Return a copy of a model for inference, with every ConvBlock's normalisation inside its convolution.

    The copy is in evaluation mode and gives the same logits up to rounding, with one pass over memory less
    per block. It cannot be trained further.
    """
    folded = copy.deepcopy(model).eval()
    for module in folded.modules():
        if isinstance(module, ConvBlock) and isinstance(module.norm, nn.BatchNorm2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = nn.Identity()
    return folded

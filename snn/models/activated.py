"""Layers that hand on either numbers or spikes: one network as ANN, as quantised ANN and as SNN."""

from typing import NamedTuple

from torch import Tensor, nn

from snn.layers import ConvNorm
from snn.models.options import ModelOptions
from snn.neurons.modules import Neuron
from snn.quant.levels import LevelReLU


class Synapses(NamedTuple):
    """One of the ways in which a layer of activations gets its input.

    Attributes:
        layer: Name of the convolution or linear layer; None hands the source on as it is.
        source: Name of the activation it comes from; None is the frames.
    """

    layer: str | None
    source: str | None


class Flow(NamedTuple):
    """A layer of activations and everything that is added up before it.

    Attributes:
        activation: Its name; None for the classifier, which has none.
        synapses: The ways; where there are several, the last one is the shortcut.
        residual: Whether it is part of a residual block.
    """

    activation: str | None
    synapses: tuple[Synapses, ...]
    residual: bool = False


def make_activation(options: ModelOptions, *, channels: int, first: bool = False) -> nn.Module:
    """Return neurons, ReLU, or ReLU at levels, as the options have it."""
    if options.activation == "relu":
        return nn.ReLU()
    if options.activation == "quantised":
        return LevelReLU(options.levels)
    settings = options.first_neuron if first else options.neuron
    return Neuron(settings, channels=channels, executor=options.executor)


def has_norm(options: ModelOptions) -> bool:
    """Return whether convolutions are normalised: unless told, those of an ANN are, those of an SNN not."""
    return options.activation != "neurons" if options.batch_norm is None else options.batch_norm


class ActivatedConv(ConvNorm):
    """Convolution, normalisation where there is one, and an activation.

    Attributes:
        activation: What `make_activation` gives.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        options: ModelOptions,
        *,
        stride: int = 1,
        first: bool = False,
    ) -> None:
        super().__init__(in_channels, channels, kernel=3, stride=stride, bias=options.bias)
        draw_conv(self, options)
        self.activation = make_activation(options, channels=channels, first=first)

    def forward(
        self, x: Tensor, *, book: tuple[float, ...] | None = None, plus: Tensor | None = None
    ) -> Tensor:
        """Return activations [T, B, C, H, W] of x; `plus` is added before them."""
        current = super().forward(x, book=book)
        return self.activation(current if plus is None else current + plus)


def draw_conv(layer: ConvNorm, options: ModelOptions) -> None:
    """Draw weights of deviation sqrt(2 / (k k c_out)), biases 0; leave out the norm where there is none.

    Source: the released VGG16 and ResNet-20 of one-hot M-LIF.
    """
    nn.init.kaiming_normal_(layer.conv.weight, mode="fan_out", nonlinearity="relu")
    if layer.conv.bias is not None:
        nn.init.zeros_(layer.conv.bias)
    if not has_norm(options):
        layer.norm = nn.Identity()


def linear(features: int, outputs: int) -> nn.Linear:
    """Return a linear layer without a bias, weights of deviation 0.01, as in the released networks."""
    layer = nn.Linear(features, outputs, bias=False)
    nn.init.normal_(layer.weight, std=0.01)
    return layer

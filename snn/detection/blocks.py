"""Conv blocks of detectors, in two orders: ours, whose convolutions are given spikes, and the SSD-SNN's."""

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from snn.errors import ModelError
from snn.layers import ConvBlock, SpikingBlock, Stepwise, convolve, run_and_pool
from snn.models.options import POOLS, Pool
from snn.neurons.memory import Memory
from snn.neurons.modules import Neuron
from snn.neurons.settings import NeuronSettings

# `norm_last`: convolution, normalisation, neurons. `norm_first`: padding, normalisation, convolution without
# a bias, neurons, as the SSD-SNN has it; its convolutions are given numbers, and so multiply.
BlockOrder = Literal["norm_last", "norm_first"]
Hw = tuple[int, int]


@dataclass(frozen=True)
class BlockOptions:
    """What all blocks of a detector have in common.

    Attributes:
        neuron: Neurons of every block but the first.
        first_neuron: Neurons of the first block, which sees frames.
        order: Key of `BlockOrder`.
        pool: Kind of the 2x2 pools over spikes.
        width: Factor on the channels of every layer.
        executor: What runs the neurons.
    """

    neuron: NeuronSettings
    first_neuron: NeuronSettings
    order: BlockOrder = "norm_last"
    pool: Pool = "max"
    width: float = 1.0
    executor: str = "auto"

    def __post_init__(self) -> None:
        if self.order not in get_args(BlockOrder):
            raise ModelError(f"order: found {self.order!r}, expected {' or '.join(get_args(BlockOrder))}")

    def scaled(self, size: int) -> int:
        """Return a layer's published channels times the width, at least 1."""
        return max(1, round(size * self.width))

    def block(
        self,
        in_channels: int,
        channels: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        padding: int | None = None,
        bias: bool = False,
        first: bool = False,
    ) -> SpikingBlock:
        """Return a conv block; arguments as those of `ConvBlock`, `first` where it sees frames."""
        neuron = self.first_neuron if first else self.neuron
        if self.order == "norm_first":
            return NormFirstBlock(
                in_channels, channels, neuron=neuron, kernel=kernel, stride=stride, executor=self.executor
            )
        return ConvBlock(
            in_channels,
            channels,
            neuron=neuron,
            kernel=kernel,
            stride=stride,
            padding=padding,
            bias=bias,
            executor=self.executor,
        )

    def pool_by_2(self) -> Stepwise:
        """Return a 2x2 pool of spikes."""
        return Stepwise(POOLS[self.pool](2))


class NormFirstBlock(SpikingBlock):
    """Zeros around the map, batch normalisation, convolution without a bias, neurons.

    Source: Cordone et al., IJCNN 2022, and their released code (MIT). The zeros are normalised like the rest.

    Attributes:
        norm: BatchNorm2d of the input.
        conv: The convolution.
        neuron: The neurons.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        neuron: NeuronSettings,
        kernel: int = 3,
        stride: int = 1,
        executor: str = "auto",
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, bias=False)
        self.neuron = Neuron(neuron, channels=channels, executor=executor)
        nn.init.kaiming_normal_(self.conv.weight)

    def forward(
        self,
        x: Tensor,
        *,
        pool: nn.Module | None = None,
        book: tuple[float, ...] | None = None,
        plus: Tensor | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        """Return spikes [T, B, channels, H / stride, W / stride] for x; arguments as `ConvBlock`'s.

        The book is not used: what the convolution is given are no spikes.
        """
        y = convolve(normalise_with_border(x, self.norm, self.conv.kernel_size[0] // 2), self.conv)
        y = y if plus is None else y + plus
        return run_and_pool(y, nn.Identity(), self.neuron, pool=pool, memory=memory)


class Bottleneck(SpikingBlock):
    """A 1x1 conv block to few channels, then a 3x3 one.

    Attributes:
        narrow, wide: The two blocks.
    """

    def __init__(
        self, in_channels: int, between: int, channels: int, options: BlockOptions, *, stride: int = 1
    ) -> None:
        super().__init__()
        self.narrow = options.block(in_channels, between, kernel=1)
        self.wide = options.block(between, channels, stride=stride)

    def forward(self, x: Tensor, *, pool: nn.Module | None = None, memory: Memory | None = None) -> Tensor:
        """Return spikes [T, B, channels, H / stride, W / stride]; arguments as `ConvBlock`'s."""
        return self.wide(self.narrow(x, memory=memory), pool=pool, memory=memory)


def normalise_with_border(x: Tensor, norm: nn.Module, border: int) -> Tensor:
    """Return x [T, B, C, H, W] with zeros around every map, all of it normalised."""
    padded = nn.functional.pad(x.flatten(0, 1), [border] * 4)
    return norm(padded).unflatten(0, x.shape[:2])


def halved(hw: Hw) -> Hw:
    """Return the size of a map behind a 2x2 pool."""
    return hw[0] // 2, hw[1] // 2


def strided(hw: Hw) -> Hw:
    """Return the size of a map behind stride 2 of a padded kernel of 3."""
    return (hw[0] + 1) // 2, (hw[1] + 1) // 2

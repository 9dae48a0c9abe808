"""MobileNet of the SSD-SNN: depth-wise 3x3 convolutions, each followed by a 1x1 one; or full 3x3 ones alone.

Source: Cordone et al., IJCNN 2022, after Howard et al., "MobileNets", 2017. As released the depth-wise
convolution has no neurons: the 1x1 convolution is given its current. Ours has neurons there, so that every
convolution but the first adds spikes. The 24.26 M parameters in print are those of full convolutions, which
the release has as an option; depth-wise it has 7.57 M. Published taps are those of strides 4, 16 and 32.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from snn.detection.backbones.taps import Backbone, check_strides
from snn.detection.blocks import BlockOptions, Hw, NormFirstBlock, normalise_with_border, strided
from snn.layers import ConvBlock, SpikingBlock, Stepwise, convolve
from snn.neurons.memory import Memory

# Channels of the stem, and of every block as a multiple of it, with its stride. "MobileNet-64" has 64.
STEM = 64
BLOCKS = ((2, 1), (2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), (16, 1))
TAPS = {4: 1, 8: 4, 16: 5, 32: 8}


class SeparableBlock(SpikingBlock):
    """A 3x3 convolution within every map, then a 1x1 convolution between maps, each with neurons.

    Attributes:
        spatial: Depth-wise conv block.
        pointwise: 1x1 conv block.
    """

    def __init__(self, in_channels: int, channels: int, options: BlockOptions, *, stride: int) -> None:
        super().__init__()
        self.spatial = ConvBlock(
            in_channels,
            in_channels,
            neuron=options.neuron,
            stride=stride,
            groups=in_channels,
            bias=False,
            executor=options.executor,
        )
        self.pointwise = options.block(in_channels, channels, kernel=1)

    def forward(self, x: Tensor, *, pool: nn.Module | None = None, memory: Memory | None = None) -> Tensor:
        """Return spikes [T, B, channels, H / stride, W / stride]; arguments as `ConvBlock`'s."""
        return self.pointwise(self.spatial(x, memory=memory), pool=pool, memory=memory)


class PublishedSeparableBlock(SpikingBlock):
    """The same with the SSD-SNN's order, and no neurons in between.

    Attributes:
        norm: Of what the depth-wise convolution is given.
        conv: The depth-wise convolution.
        pointwise: 1x1 block, normalisation first.
    """

    def __init__(self, in_channels: int, channels: int, options: BlockOptions, *, stride: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, in_channels, 3, stride, groups=in_channels, bias=False)
        nn.init.kaiming_normal_(self.conv.weight)
        self.pointwise = NormFirstBlock(
            in_channels, channels, neuron=options.neuron, kernel=1, executor=options.executor
        )

    def forward(self, x: Tensor, *, pool: nn.Module | None = None, memory: Memory | None = None) -> Tensor:
        """Return spikes [T, B, channels, H / stride, W / stride]; arguments as `ConvBlock`'s."""
        y = convolve(normalise_with_border(x, self.norm, 1), self.conv)
        return self.pointwise(y, pool=pool, memory=memory)


class MobileNet(Backbone):
    """Layers `stem`, `stem_pool`, `block1` and so on, as far as the last tap."""

    def __init__(
        self,
        options: BlockOptions,
        *,
        in_channels: int,
        input_hw: Hw,
        strides: Sequence[int],
        depthwise: bool = True,
    ) -> None:
        super().__init__()
        check_strides(strides, TAPS)
        wanted = {TAPS[stride] for stride in strides}
        stem = options.scaled(STEM)
        self.add_layer("stem", options.block(in_channels, stem, stride=2, first=True))
        self.add_layer("stem_pool", Stepwise(nn.MaxPool2d(3, stride=2, padding=1)))
        channels, hw = stem, strided(strided(input_hw))
        separable = PublishedSeparableBlock if options.order == "norm_first" else SeparableBlock
        for number, (times, stride) in enumerate(BLOCKS[: max(wanted)], start=1):
            if depthwise:
                block: SpikingBlock = separable(channels, times * stem, options, stride=stride)
            else:
                block = options.block(channels, times * stem, stride=stride)
            self.add_layer(f"block{number}", block)
            channels, hw = times * stem, strided(hw) if stride == 2 else hw
            if number in wanted:
                self.add_tap(channels, hw)

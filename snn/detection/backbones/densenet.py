"""DenseNet-121 of the SSD-SNN: every layer is given the spikes of all layers of its block before it.

Source: Cordone et al., IJCNN 2022, after Huang et al., "Densely Connected Convolutional Networks", CVPR 2017.
They tap the dense blocks of strides 4, 8 and 32.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from snn.detection.backbones.taps import Backbone, check_strides
from snn.detection.blocks import BlockOptions, Bottleneck, Hw, halved, strided
from snn.layers import SpikingBlock, Stepwise
from snn.neurons.memory import Memory

LAYERS = (6, 12, 24, 16)
# A layer's 1x1 convolution gives so many times as many channels as its 3x3 one.
BOTTLENECK = 4
TAPS = {4: 1, 8: 2, 16: 3, 32: 4}


class DenseBlock(SpikingBlock):
    """Layers of a 1x1 and a 3x3 conv block; each adds `growth` channels to what all after it are given.

    Attributes:
        layers: Pairs of conv blocks.
        channels: Channels of the block's spikes.
    """

    def __init__(self, in_channels: int, growth: int, layers: int, options: BlockOptions) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for number in range(layers):
            given = in_channels + number * growth
            self.layers.append(Bottleneck(given, BOTTLENECK * growth, growth, options))
        self.channels = in_channels + layers * growth

    def forward(self, x: Tensor, *, pool: nn.Module | None = None, memory: Memory | None = None) -> Tensor:
        """Return spikes [T, B, channels, H, W], those of x first."""
        for layer in self.layers:
            x = torch.cat([x, layer(x, memory=memory)], dim=2)
        return x if pool is None else pool(x)


class DenseNet121(Backbone):
    """Layers `stem`, `stem_pool`, `dense1`, `transition1`, `transition1_pool` and so on, to the last tap."""

    def __init__(
        self, options: BlockOptions, *, growth: int, in_channels: int, input_hw: Hw, strides: Sequence[int]
    ) -> None:
        super().__init__()
        check_strides(strides, TAPS)
        wanted = {TAPS[stride] for stride in strides}
        growth = options.scaled(growth)
        self.add_layer("stem", options.block(in_channels, 2 * growth, stride=2, first=True))
        self.add_layer("stem_pool", Stepwise(nn.MaxPool2d(3, stride=2, padding=1)))
        channels, hw = 2 * growth, strided(strided(input_hw))
        for number, layers in enumerate(LAYERS[: max(wanted)], start=1):
            if number > 1:
                self.add_layer(f"transition{number - 1}", options.block(channels, channels // 2, kernel=1))
                self.add_layer(f"transition{number - 1}_pool", options.pool_by_2())
                channels, hw = channels // 2, halved(hw)
            dense = DenseBlock(channels, growth, layers, options)
            self.add_layer(f"dense{number}", dense)
            channels = dense.channels
            if number in wanted:
                self.add_tap(channels, hw)

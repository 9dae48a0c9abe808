"""VGG-11 of the SSD-SNN: eight 3x3 convolutions and five pools.

Source: Cordone et al., IJCNN 2022. They tap the maps at strides 4, 8 and 32 and skip 16.
"""

from collections.abc import Sequence

from snn.detection.backbones.taps import Backbone, check_strides
from snn.detection.blocks import BlockOptions, Hw, halved

# Channels of each convolution; P: 2x2 pool.
PLAN = "64 P 128 P 256 256 P 512 512 P 512 512 P"
# The taps: after which convolution, and whether behind the pool after it.
TAPS = {4: (4, False), 8: (6, False), 16: (8, False), 32: (8, True)}


class VGG11(Backbone):
    """Layers `block1`, `pool1`, `block2` and so on, as far as the last tap."""

    def __init__(
        self, options: BlockOptions, *, in_channels: int, input_hw: Hw, strides: Sequence[int]
    ) -> None:
        super().__init__()
        check_strides(strides, TAPS)
        wanted = {TAPS[stride] for stride in strides}
        channels, hw, blocks = in_channels, input_hw, 0
        for token in PLAN.split():
            pools = token == "P"
            if pools:
                self.add_layer(f"pool{blocks}", options.pool_by_2())
                hw = halved(hw)
            else:
                blocks += 1
                size = options.scaled(int(token))
                self.add_layer(f"block{blocks}", options.block(channels, size, first=blocks == 1))
                channels = size
            if (blocks, pools) in wanted:
                self.add_tap(channels, hw)
                if len(self.channels) == len(wanted):
                    return

"""The network of the detector released with LT-SNN, whose 1x1 convolutions pad, so that maps grow.

Source: the released code of Hasssan et al. (LT-SNN, IJCNN 2024; IM-SNN), 25,890,568 parameters with its head
on frames of 223x287. It has one neuron that is never called and is not here: 2 parameters less.
"""

from collections.abc import Sequence

from snn.detection.backbones.taps import Backbone, check_strides
from snn.detection.blocks import BlockOptions, Hw, halved
from snn.errors import ModelError

# 3x3 convolutions, 1x1 ones with a border of zeros (n) or without (m), and 2x2 pools.
PLAN = "32 P 64 P 128 n64 128 P 256 n128 256 P 512 n256 512 n256 512 P 1024 n512 1024 n512 1024 P m1024 P"
STRIDE = 128


class LTSNNBackbone(Backbone):
    """Layers `block1`, `pool1`, `block2` and so on; one tap, the last map."""

    def __init__(
        self, options: BlockOptions, *, in_channels: int, input_hw: Hw, strides: Sequence[int]
    ) -> None:
        super().__init__()
        check_strides(strides, (STRIDE,))
        if options.order != "norm_last":
            raise ModelError(f"order: found {options.order!r} for ltsnn, expected norm_last")
        channels, hw, blocks = in_channels, input_hw, 0
        for token in PLAN.split():
            if token == "P":
                self.add_layer(f"pool{blocks}", options.pool_by_2())
                hw = halved(hw)
                continue
            blocks += 1
            size = options.scaled(int(token.lstrip("nm")))
            grows = token[0] == "n"
            block = options.block(
                channels,
                size,
                kernel=1 if token[0] in "nm" else 3,
                padding=0 if token[0] == "m" else 1,
                bias=True,
                first=blocks == 1,
            )
            self.add_layer(f"block{blocks}", block)
            channels, hw = size, (hw[0] + 2, hw[1] + 2) if grows else hw
        self.add_tap(channels, hw)

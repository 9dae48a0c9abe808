"""ResNet-20 as ANN, quantised ANN and SNN: IIR-SNN's, which one-hot M-LIF converts; not He et al.'s.

A stem of three convolutions and an average pool, four stages of two residual blocks, and a linear classifier
without a bias over all places of the last feature map. In an SNN a shortcut adds its current to that of the
block's second convolution. Source: the released code of one-hot M-LIF, IEEE Access 2025.
"""

from torch import Tensor, nn

from snn.errors import ModelError
from snn.layers import ConvNorm, StepDropout, Stepwise, run_layers
from snn.models.activated import ActivatedConv, Flow, Synapses, draw_conv, linear
from snn.models.options import ModelOptions

STEM = 64
STEM_CONVOLUTIONS = 3
# Channels and stride of the first block of each stage; every stage has two.
STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
STAGE_BLOCKS = 2


class ResidualPair(nn.Module):
    """Two convolutions and a shortcut, which is added before the second activation.

    Attributes:
        first: Convolution with the stride of the whole, and its activation.
        drop: Dropout between the two.
        second: The other convolution.
        shortcut: 1x1 convolution where the shape changes; else None, and x is added.
    """

    shortcut: ConvNorm | None

    def __init__(self, in_channels: int, channels: int, options: ModelOptions, *, stride: int) -> None:
        super().__init__()
        self.first = ActivatedConv(in_channels, channels, options, stride=stride)
        self.drop = StepDropout(options.conv_dropout, per=options.dropout_per)
        self.second = ActivatedConv(channels, channels, options)
        self.shortcut = None
        if stride != 1 or in_channels != channels:
            self.shortcut = ConvNorm(in_channels, channels, stride=stride, bias=options.bias)
            draw_conv(self.shortcut, options)

    def forward(self, x: Tensor) -> Tensor:
        """Return activations [T, B, channels, H / stride, W / stride] for x."""
        beside = x if self.shortcut is None else self.shortcut(x)
        return self.second(self.drop(self.first(x)), plus=beside)


class ResNet20(nn.Module):
    """ResNet-20: frames `[T, B, P, H, W]` in, logits `[T, B, K]` out, one row of logits per step.

    Its layers are named `stem1` (with `conv`, `norm`, `activation`), `drop1`, and so on to `stem3`, `pool`,
    `block1` (with `first`, `drop`, `second`, `shortcut`) and so on, and `classifier`.

    Attributes:
        options: What it was built from.
    """

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        self.options = options
        hw = options.input_hw
        if min(hw) < 2:
            raise ModelError(f"input_hw: found {hw[0]}x{hw[1]}, expected at least 2x2; use larger frames")
        channels = options.in_channels
        for number in range(1, STEM_CONVOLUTIONS + 1):
            size = options.scaled(STEM)
            self.add_module(f"stem{number}", ActivatedConv(channels, size, options, first=number == 1))
            if number < STEM_CONVOLUTIONS:
                self.add_module(f"drop{number}", StepDropout(options.conv_dropout, per=options.dropout_per))
            channels = size
        self.pool = Stepwise(nn.AvgPool2d(2))
        hw = (hw[0] // 2, hw[1] // 2)
        self.blocks = 0
        for size, stage_stride in STAGES:
            for index in range(STAGE_BLOCKS):
                self.blocks += 1
                stride = stage_stride if index == 0 else 1
                block = ResidualPair(channels, options.scaled(size), options, stride=stride)
                self.add_module(f"block{self.blocks}", block)
                channels, hw = options.scaled(size), (-(-hw[0] // stride), -(-hw[1] // stride))
        self.flatten = nn.Flatten(start_dim=2)
        self.classifier = linear(channels * hw[0] * hw[1], options.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [T, B, K] for frames [T, B, P, H, W].

        Raises:
            ModelError: The frames are not of the shape the model was built for.
        """
        return run_layers(self.children(), self.options.take_frames(x), pack_spikes=False)

    def flows(self) -> list[Flow]:
        """Return the activations in the order they are computed, and where their input comes from."""
        flows, source = [], None
        for number in range(1, STEM_CONVOLUTIONS + 1):
            flows.append(Flow(f"stem{number}.activation", (Synapses(f"stem{number}.conv", source),)))
            source = f"stem{number}.activation"
        for number in range(1, self.blocks + 1):
            block = f"block{number}"
            inner, outer = f"{block}.first.activation", f"{block}.second.activation"
            has_conv = getattr(self, block).shortcut is not None
            beside = Synapses(f"{block}.shortcut.conv" if has_conv else None, source)
            flows.append(Flow(inner, (Synapses(f"{block}.first.conv", source),), residual=True))
            flows.append(Flow(outer, (Synapses(f"{block}.second.conv", inner), beside), residual=True))
            source = outer
        return [*flows, Flow(None, (Synapses("classifier", source),))]

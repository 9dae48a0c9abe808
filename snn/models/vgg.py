"""VGG-style spiking networks: a row of conv blocks and pools, then one or two linear layers at every step.

The plans are those of published networks, layer by layer; `vgg5` is ours, for little data and few cores.
"""

import re

from torch import Tensor, nn

from snn.errors import ModelError
from snn.layers import ConvBlock, StepDropout, Stepwise, run_layers
from snn.models.options import POOLS, ModelOptions

# cN: 3x3 convolution to N channels + batch normalisation + neurons, `s` for stride 2; P: 2x2 pool of the
# spikes; FN, last or absent: linear layer to N features, then dropout. A linear layer to the classes
# follows. The digit in a name counts layers with weights (vgg5, vgg11) or convolutions (vgg7, vgg9).
# Sources: vgg7, vgg9, vgg11 LT-SNN's released code; vggsnn M-LIF's (no pooling, IEEE Access 2025);
# vggsnn_pool TET's VGGSNN, which SpQuant-SNN calls VGG-9. The hidden layer of vgg7 has 256 features: its
# published count of 1,757,526 parameters fits no other number.
PLANS: dict[str, str] = {
    "vgg5": "c16 P c32 P c64 P F128",
    "vgg7": "c32 P c64 c64 P c128 c128 P c256 c256 P F256",
    "vgg9": "c32 c64 c64 P c128 c128 P c256 c256 P c512 c512 P F512",
    "vgg11": "c64 c128 P c256 c256 P c512 c512 c512 c512 P c1024 P F512",
    "vggsnn": "c64 c128s c256 c256s c512 c512s c512 c512s",
    "vggsnn_pool": "c64 c128 P c256 c256 P c512 c512 P c512 c512 P",
}


class VGG(nn.Module):
    """Spiking VGG: frames `[T, B, P, H, W]` in, logits `[T, B, K]` out, one row of logits per step.

    Its layers are named `block1` (with `conv`, `norm`, `neuron`), `pool1` (after `block1`) and so on, then
    `flatten`, where the plan has one `hidden` and `dropout`, and `classifier`. Linear layers have no neurons.

    Attributes:
        options: What it was built from.
    """

    def __init__(self, plan: str, options: ModelOptions) -> None:
        super().__init__()
        self.options = options
        check_size(plan, options.input_hw)
        channels, hw, blocks = options.in_channels, options.input_hw, 0
        for token in plan.split():
            kind, size, stride = parse_token(token)
            size = options.scaled(size)
            if kind == "P":
                self.add_module(f"pool{blocks}", Stepwise(POOLS[options.pool](2)))
                hw = (hw[0] // 2, hw[1] // 2)
            elif kind == "c":
                blocks += 1
                neuron = options.first_neuron if blocks == 1 else options.neuron
                block = ConvBlock(channels, size, neuron=neuron, stride=stride, executor=options.executor)
                self.add_module(f"block{blocks}", block)
                channels, hw = size, (-(-hw[0] // stride), -(-hw[1] // stride))
        self.flatten = nn.Flatten(start_dim=2)
        features = channels * hw[0] * hw[1]
        if kind == "F":
            self.hidden = nn.Linear(features, size)
            self.dropout = StepDropout(options.dropout, per=options.dropout_per)
            features = size
        self.classifier = nn.Linear(features, options.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [T, B, K] for frames [T, B, P, H, W].

        Raises:
            ModelError: The frames are not of the shape the model was built for.
        """
        x = self.options.take_frames(x)
        return run_layers(self.children(), x, pack_spikes=self.options.pack_spikes)


def check_size(plan: str, input_hw: tuple[int, int]) -> None:
    """Raise ModelError where frames would shrink to nothing: each pool halves them, rounding down."""
    pools = plan.split().count("P")
    if min(input_hw) < 2**pools:
        raise ModelError(
            f"input_hw: found {input_hw[0]}x{input_hw[1]}, expected at least {2**pools}x{2**pools} "
            f"for {pools} pools; use larger frames or a model with fewer"
        )


def parse_token(token: str) -> tuple[str, int, int]:
    """Return kind, size and stride of one entry of a plan: `c64s` gives ("c", 64, 2)."""
    match = re.fullmatch(r"(P)|(F)(\d+)|(c)(\d+)(s?)", token)
    if match is None:
        raise ModelError(f"plan: found {token!r}, expected cN, cNs, P or FN")
    pool, linear, features, conv, channels, strided = match.groups()
    if pool:
        return pool, 0, 1
    if linear:
        return linear, int(features), 1
    return conv, int(channels), 2 if strided else 1

"""VGG16 as ANN, quantised ANN and SNN: the network that one-hot M-LIF converts.

Thirteen 3x3 convolutions with 2x2 average pools in between, two hidden linear layers of 4096 features and a
classifier, linear layers without biases. Source: the released code of one-hot M-LIF, IEEE Access 2025, after
IIR-SNN. Averages of four spikes are multiples of a quarter: after a pool a convolution sees no spikes.
"""

from torch import Tensor, nn

from snn.errors import ModelError
from snn.layers import StepDropout, Stepwise, run_layers
from snn.models.activated import ActivatedConv, Flow, Synapses, linear, make_activation
from snn.models.options import ModelOptions

# Channels, and P for a pool; for CIFAR, and for ImageNet with a pool more.
PLANS: dict[str, str] = {
    "vgg16": "64 64 P 128 128 P 256 256 256 P 512 512 512 P 512 512 512",
    "vgg16_imagenet": "64 64 P 128 128 P 256 256 256 P 512 512 512 P 512 512 512 P",
}
HIDDEN = 4096


class VGG16(nn.Module):
    """VGG16: frames `[T, B, P, H, W]` in, logits `[T, B, K]` out, one row of logits per step.

    Its layers are named `block1` (with `conv`, `norm`, `activation`) and so on, then `pool` or `drop` with
    the same number, `hidden1`, `activation1`, `dropout1`, the same with 2, and `classifier`.

    Attributes:
        options: What it was built from.
    """

    def __init__(self, plan: str, options: ModelOptions) -> None:
        super().__init__()
        self.options = options
        tokens, channels, hw = plan.split(), options.in_channels, options.input_hw
        pools = tokens.count("P")
        if min(hw) < 2**pools:
            raise ModelError(
                f"input_hw: found {hw[0]}x{hw[1]}, expected at least {2**pools}x{2**pools} "
                f"for {pools} pools; use larger frames"
            )
        number = 0
        for token, after in zip(tokens, [*tokens[1:], ""], strict=True):
            if token == "P":
                continue
            number += 1
            size = options.scaled(int(token))
            self.add_module(f"block{number}", ActivatedConv(channels, size, options, first=number == 1))
            pool = Stepwise(nn.AvgPool2d(2))
            drop = StepDropout(options.conv_dropout, per=options.dropout_per)
            self.add_module(
                f"pool{number}" if after == "P" else f"drop{number}", pool if after == "P" else drop
            )
            channels = size
        self.blocks = number
        self.flatten = nn.Flatten(start_dim=2)
        features = channels * (hw[0] // 2**pools) * (hw[1] // 2**pools)
        hidden = options.scaled(HIDDEN)
        for place in (1, 2):
            self.add_module(f"hidden{place}", linear(features, hidden))
            self.add_module(f"activation{place}", make_activation(options, channels=hidden))
            self.add_module(f"dropout{place}", StepDropout(options.dropout, per=options.dropout_per))
            features = hidden
        self.classifier = linear(features, options.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [T, B, K] for frames [T, B, P, H, W].

        Raises:
            ModelError: The frames are not of the shape the model was built for.
        """
        return run_layers(self.children(), self.options.take_frames(x), pack_spikes=False)

    def flows(self) -> list[Flow]:
        """Return the activations in the order they are computed, and where their input comes from."""
        names = [(f"block{n}.activation", f"block{n}.conv") for n in range(1, self.blocks + 1)]
        names += [("activation1", "hidden1"), ("activation2", "hidden2")]
        sources = [None, *(activation for activation, _ in names)]
        flows = [
            Flow(activation, (Synapses(layer, source),))
            for (activation, layer), source in zip(names, sources[:-1], strict=True)
        ]
        return [*flows, Flow(None, (Synapses("classifier", sources[-1]),))]

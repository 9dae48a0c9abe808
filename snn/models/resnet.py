"""Spiking residual networks: what a shortcut carries is added before the second neurons of a block.

Source: LT-SNN's and SpQuant-SNN's released ResNets, after "Going Deeper With Directly-Trained Larger Spiking
Neural Networks" (Zheng et al., AAAI 2021): a stem, stages of residual blocks, the mean over places, and two
linear layers with neurons in between. Steps are the frames': a still image is repeated by whoever calls, so
that recordings go in alike.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from snn.layers import ConvBlock, ConvNorm, SpikingBlock, run_layers
from snn.models.options import ModelOptions
from snn.neurons.hooks import is_hooked
from snn.neurons.modules import Neuron
from snn.neurons.settings import NeuronSettings


@dataclass(frozen=True)
class ResNetPlan:
    """Sizes of a residual network.

    Attributes:
        stages: Blocks and channels of each stage; all but the first stage begin with stride 2.
        stem: Channels of the stem.
        stem_kernel: Height and width of its convolution.
        stem_stride: Of its convolution.
        hidden: Features of the hidden linear layer.
    """

    stages: tuple[tuple[int, int], ...]
    stem: int = 64
    stem_kernel: int = 3
    stem_stride: int = 1
    hidden: int = 256


PLANS: dict[str, ResNetPlan] = {
    "resnet19": ResNetPlan(stages=((3, 128), (3, 256), (2, 512))),
    # Released with the counts [2, 2, 2, 2], of which the fourth is never read.
    "resnet18": ResNetPlan(stages=((2, 128), (2, 256), (2, 512))),
    # SpQuant-SNN's own, for CIFAR and ImageNet. Building the second one fails in the release.
    "resnet19_spquant": ResNetPlan(((3, 64), (3, 256), (2, 512)), stem=128, stem_kernel=7, stem_stride=2),
    "resnet34": ResNetPlan(((3, 64), (4, 128), (6, 256), (3, 512)), stem_kernel=7, stem_stride=2),
}


def conv_block(
    in_channels: int,
    channels: int,
    neuron: NeuronSettings,
    options: ModelOptions,
    *,
    kernel: int = 3,
    stride: int = 1,
) -> ConvBlock:
    """Return a conv block as residual networks have them: no bias, weights drawn as torch does."""
    return ConvBlock(
        in_channels,
        channels,
        neuron=neuron,
        kernel=kernel,
        stride=stride,
        bias=False,
        draw="torch",
        executor=options.executor,
    )


class ResidualBlock(SpikingBlock):
    """Two conv blocks; what the shortcut carries is added to the current of the second.

    Attributes:
        first: Conv block with the stride of the whole.
        second: Conv block whose neurons see both currents.
        shortcut: 1x1 convolution and normalisation where the shape changes; else None, and x is added.
    """

    shortcut: ConvNorm | None

    def __init__(self, in_channels: int, channels: int, options: ModelOptions, *, stride: int) -> None:
        super().__init__()
        self.pack_spikes = options.pack_spikes
        self.first = conv_block(in_channels, channels, options.neuron, options, stride=stride)
        self.second = conv_block(channels, channels, options.neuron, options)
        changes = stride != 1 or in_channels != channels
        self.shortcut = ConvNorm(in_channels, channels, stride=stride) if changes else None

    def forward(
        self, x: Tensor, *, pool: nn.Module | None = None, book: tuple[float, ...] | None = None
    ) -> Tensor:
        """Return spikes [T, B, channels, H / stride, W / stride] for spikes x; arguments as ConvBlock's."""
        beside = x if self.shortcut is None else self.shortcut(x, book=book)
        inner = self.first(x, book=book)
        inner_book = self.first.spike_book() if self.pack_spikes else None
        return self.second(inner, pool=pool, book=inner_book, plus=beside)

    def spike_book(self, pool: nn.Module | None = None) -> tuple[float, ...] | None:
        """Return every value that the block and a pool after it hand on; None where they may be others."""
        return None if is_hooked(self) else self.second.spike_book(pool)


class ResNet(nn.Module):
    """Spiking ResNet: frames `[T, B, P, H, W]` in, logits `[T, B, K]` out, one row of logits per step.

    Its layers are named `stem`, `block1` and so on, `hidden`, `hidden_neuron` and `classifier`. Stem and
    hidden layer have `options.first_neuron`, of a constant threshold in LT-SNN.

    Attributes:
        options: What it was built from.
    """

    def __init__(self, plan: ResNetPlan, options: ModelOptions) -> None:
        super().__init__()
        self.options = options
        channels = options.scaled(plan.stem)
        self.stem = conv_block(
            options.in_channels,
            channels,
            options.first_neuron,
            options,
            kernel=plan.stem_kernel,
            stride=plan.stem_stride,
        )
        number = 0
        for stage, (blocks, size) in enumerate(plan.stages):
            for index in range(blocks):
                number += 1
                stride = 2 if stage > 0 and index == 0 else 1
                block = ResidualBlock(channels, options.scaled(size), options, stride=stride)
                self.add_module(f"block{number}", block)
                channels = options.scaled(size)
        hidden = options.scaled(plan.hidden)
        self.hidden = nn.Linear(channels, hidden)
        self.hidden_neuron = Neuron(options.first_neuron, channels=hidden, executor=options.executor)
        self.classifier = nn.Linear(hidden, options.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [T, B, K] for frames [T, B, P, H, W].

        Raises:
            ModelError: The frames are not of the shape the model was built for.
        """
        x = self.options.take_frames(x)
        blocks = (layer for layer in self.children() if isinstance(layer, SpikingBlock))
        spikes = run_layers(blocks, x, pack_spikes=self.options.pack_spikes)
        features = spikes.mean(dim=(3, 4))  # [T, B, C]
        return self.classifier(self.hidden_neuron(self.hidden(features)))

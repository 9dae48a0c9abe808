"""Residual network with neurons before the convolutions: normalisation, neurons over time, convolution.

What is added up along the shortcuts is a current, never spikes, and every convolution but the stem sees
spikes alone. Source of the order: He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016, with
the sizes for images of 32x32. LT-SNN's released network of this name runs its neurons over channels in
place of time and ends in neurons behind the classifier; here they run over time, and logits are currents.
"""

from torch import Tensor, nn

from snn.layers import book_of, convolve, run_and_pool
from snn.models.options import ModelOptions
from snn.models.resnet import conv_block
from snn.neurons.hooks import is_hooked
from snn.neurons.modules import Neuron
from snn.neurons.settings import NeuronSettings

# Channels and stride of each block.
BLOCKS = ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1))
STEM = 64


class NormNeuron(nn.Module):
    """Normalisation and neurons: a current [T, B, C, H, W] in, spikes out.

    Attributes:
        norm: BatchNorm2d over steps and samples merged.
        neuron: The neurons.
    """

    def __init__(self, channels: int, *, neuron: NeuronSettings, executor: str) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.neuron = Neuron(neuron, channels=channels, executor=executor)

    def forward(self, current: Tensor) -> Tensor:
        """Return the spikes, in the shape of the current."""
        return run_and_pool(current, self.norm, self.neuron)


class PreactivationBlock(nn.Module):
    """Neurons and convolution twice, added to what the shortcut carries; currents in and out.

    Attributes:
        enter: Normalisation and neurons before the first convolution.
        inner: First convolution, with the stride of the block, and the neurons after it.
        conv: Second convolution, 3x3 without a bias.
        shortcut: 1x1 convolution of the spikes of `enter` where the shape changes; else None, and the
            current itself is added.
    """

    shortcut: nn.Conv2d | None

    def __init__(
        self, in_channels: int, channels: int, *, stride: int, enter: NeuronSettings, options: ModelOptions
    ) -> None:
        super().__init__()
        self.pack_spikes = options.pack_spikes
        self.enter = NormNeuron(in_channels, neuron=enter, executor=options.executor)
        self.inner = conv_block(in_channels, channels, options.neuron, options, stride=stride)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        changes = stride != 1 or in_channels != channels
        self.shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False) if changes else None

    def forward(self, current: Tensor) -> Tensor:
        """Return a current [T, B, channels, H / stride, W / stride] for one of [T, B, C, H, W]."""
        spikes = self.enter(current)
        book = book_of(self.enter.neuron) if self.pack_spikes and not is_hooked(self.enter) else None
        beside = current if self.shortcut is None else convolve(spikes, self.shortcut, book)
        inner = self.inner(spikes, book=book)
        inner_book = self.inner.spike_book() if self.pack_spikes else None
        return beside + convolve(inner, self.conv, inner_book)


class PreactivationResNet(nn.Module):
    """Pre-activation ResNet-18: frames `[T, B, P, H, W]` in, logits `[T, B, K]` out, one row a step.

    Its layers are named `stem`, a convolution alone, `block1` and so on, `leave`, the last normalisation and
    neurons, and `classifier`, on the mean of their spikes over places. The first neurons are
    `options.first_neuron`.

    Attributes:
        options: What it was built from.
    """

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        self.options = options
        channels = options.scaled(STEM)
        self.stem = nn.Conv2d(options.in_channels, channels, 3, padding=1, bias=False)
        for number, (size, stride) in enumerate(BLOCKS, start=1):
            enter = options.first_neuron if number == 1 else options.neuron
            block = PreactivationBlock(
                channels, options.scaled(size), stride=stride, enter=enter, options=options
            )
            self.add_module(f"block{number}", block)
            channels = options.scaled(size)
        self.leave = NormNeuron(channels, neuron=options.neuron, executor=options.executor)
        self.classifier = nn.Linear(channels, options.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [T, B, K] for frames [T, B, P, H, W].

        Raises:
            ModelError: The frames are not of the shape the model was built for.
        """
        x = self.options.take_frames(x)
        current = convolve(x, self.stem)
        for block in self.children():
            if isinstance(block, PreactivationBlock):
                current = block(current)
        return self.classifier(self.leave(current).mean(dim=(3, 4)))

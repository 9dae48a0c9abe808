"""What every network is built from: one frozen dataclass of options, and the checks they share."""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from snn.errors import ModelError
from snn.models.frames import InputScale, repeat_frame, scale_frames
from snn.neurons.settings import NeuronSettings
from snn.quant.levels import LevelSettings

Pool = Literal["avg", "max"]
# `neurons`: an SNN. `relu`: an ANN. `quantised`: an ANN whose activations have few levels.
ActivationKind = Literal["neurons", "relu", "quantised"]
DropoutPer = Literal["step", "sample"]

POOLS: dict[str, type[nn.Module]] = {"avg": nn.AvgPool2d, "max": nn.MaxPool2d}


@dataclass(frozen=True)
class ModelOptions:
    """All that a network of `MODELS` is told; what a network has no use for it leaves unread.

    Attributes:
        in_channels: Planes P of a frame.
        input_hw: Height and width of a frame in pixels.
        classes: Number of classes K.
        width: Factor on the channels of every layer and on hidden features.
        neuron: Neurons of every block but those below.
        first_neuron: Neurons of the first block, which sees frames and not spikes; of a network with
            neurons in its head, those too.
        pool: Key of `POOLS`, over 2x2 spikes.
        dropout: Share of hidden features dropped in training.
        dropout_per: `step`: what is dropped is drawn for every step; `sample`: once for all steps of a
            sample. Drawn anew in every forward pass either way.
        executor: What runs the neurons, see `snn.neurons.executors`.
        pack_spikes: Whether convolutions keep their input spikes in a few bits for the backward pass.
        steps: How often a frame of one step is given; None takes frames as they are.
        input_scale: What frames are scaled by, see `snn.models.frames`.
        activation: Of networks that are converted: what follows their convolutions.
        levels: Of activations that are `quantised`.
        batch_norm: Whether convolutions of networks that are converted are normalised; None: unless they
            have neurons.
        bias: Whether these have a bias.
        conv_dropout: Share of what these hand on that is dropped in training.
        blocks: Blocks of attention of a transformer; None takes as many as its name has.
    """

    in_channels: int
    input_hw: tuple[int, int]
    classes: int
    width: float
    neuron: NeuronSettings
    first_neuron: NeuronSettings
    pool: Pool = "avg"
    dropout: float = 0.5
    dropout_per: DropoutPer = "step"
    executor: str = "auto"
    pack_spikes: bool = False
    steps: int | None = None
    input_scale: InputScale = "none"
    activation: ActivationKind = "neurons"
    levels: LevelSettings = field(default_factory=LevelSettings)
    batch_norm: bool | None = None
    bias: bool = True
    conv_dropout: float = 0.0
    blocks: int | None = None

    def scaled(self, size: int) -> int:
        """Return a layer's published size times the width, at least 1."""
        return max(1, round(size * self.width))

    def take_frames(self, x: Tensor) -> Tensor:
        """Return what the first layer is given for frames x: checked, scaled, and at every step.

        Raises:
            ModelError: They are not of the shape the network was built for.
        """
        self.check_frames(x)
        return repeat_frame(scale_frames(x, self.input_scale), self.steps)

    def check_frames(self, x: Tensor) -> None:
        """Raise ModelError where frames are not [T, B, P, H, W] of the size the network was built for."""
        expected = (self.in_channels, *self.input_hw)
        if x.dim() != 5 or tuple(x.shape[2:]) != expected:
            shape = ", ".join(str(n) for n in expected)
            raise ModelError(f"frames: found shape {tuple(x.shape)}, expected [T, B, {shape}]")

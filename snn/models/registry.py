"""Models by name, their settings, and how to build one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import get_args

import torch
from torch import nn

from snn.errors import ModelError, did_you_mean
from snn.models import mobilenet, resnet, spike_driven_transformer, spikformer, vgg, vgg16
from snn.models.frames import INPUT_SCALES, InputScale, check_scale
from snn.models.mobilenet import MobileNet
from snn.models.options import POOLS, ActivationKind, DropoutPer, ModelOptions, Pool
from snn.models.preact_resnet import PreactivationResNet
from snn.models.resnet import ResNet
from snn.models.resnet20 import ResNet20
from snn.models.spike_driven_transformer import SpikeDrivenTransformer
from snn.models.spikformer import Spikformer
from snn.models.vgg import VGG
from snn.models.vgg16 import VGG16
from snn.neurons.executors import EXECUTORS, Executor
from snn.neurons.settings import NeuronSettings
from snn.quant.apply import quantise_weights
from snn.quant.levels import LevelSettings
from snn.quant.settings import WeightSettings
from snn.sparsity.apply import add_gates
from snn.sparsity.settings import SparsitySettings

MODELS: dict[str, Callable[[ModelOptions], nn.Module]] = {
    "vgg5": partial(VGG, vgg.PLANS["vgg5"]),
    "vgg7": partial(VGG, vgg.PLANS["vgg7"]),
    "vgg9": partial(VGG, vgg.PLANS["vgg9"]),
    "vgg11": partial(VGG, vgg.PLANS["vgg11"]),
    "vggsnn": partial(VGG, vgg.PLANS["vggsnn"]),
    "vggsnn_pool": partial(VGG, vgg.PLANS["vggsnn_pool"]),
    "mobilenet": partial(MobileNet, mobilenet.PLANS["mobilenet"]),
    "mobilenet_wide": partial(MobileNet, mobilenet.PLANS["mobilenet_wide"]),
    "mobilenet_wide_postpool": partial(MobileNet, mobilenet.PLANS["mobilenet_wide_postpool"]),
    "mobilenet_depthwise": partial(MobileNet, mobilenet.PLANS["mobilenet_depthwise"]),
    "mobilenet_wide_depthwise": partial(MobileNet, mobilenet.PLANS["mobilenet_wide_depthwise"]),
    "mobilenet_published": partial(MobileNet, mobilenet.PLANS["mobilenet_published"]),
    "mobilenet_wide_published": partial(MobileNet, mobilenet.PLANS["mobilenet_wide_published"]),
    "mobilenet_wide_postpool_published": partial(
        MobileNet, mobilenet.PLANS["mobilenet_wide_postpool_published"]
    ),
    "resnet18": partial(ResNet, resnet.PLANS["resnet18"]),
    "resnet19": partial(ResNet, resnet.PLANS["resnet19"]),
    "resnet19_spquant": partial(ResNet, resnet.PLANS["resnet19_spquant"]),
    "resnet34": partial(ResNet, resnet.PLANS["resnet34"]),
    "preact_resnet18": PreactivationResNet,
    "resnet20": ResNet20,
    "vgg16": partial(VGG16, vgg16.PLANS["vgg16"]),
    "vgg16_imagenet": partial(VGG16, vgg16.PLANS["vgg16_imagenet"]),
    "spikformer_4_256": partial(Spikformer, spikformer.PLANS["spikformer_4_256"]),
    "spikformer_4_384": partial(Spikformer, spikformer.PLANS["spikformer_4_384"]),
    "spikformer_16_256": partial(Spikformer, spikformer.PLANS["spikformer_16_256"]),
    "spike_driven_2_512": partial(
        SpikeDrivenTransformer, spike_driven_transformer.PLANS["spike_driven_2_512"]
    ),
    "spike_driven_8_512": partial(
        SpikeDrivenTransformer, spike_driven_transformer.PLANS["spike_driven_8_512"]
    ),
    "spike_driven_2_256_events": partial(
        SpikeDrivenTransformer, spike_driven_transformer.PLANS["spike_driven_2_256_events"]
    ),
    "spike_driven_2_256_events_published": partial(
        SpikeDrivenTransformer, spike_driven_transformer.PLANS["spike_driven_2_256_events_published"]
    ),
}

# Those that can be an ANN as well, and be converted.
CONVERTIBLE = ("resnet20", "vgg16", "vgg16_imagenet")


@dataclass(frozen=True)
class ModelSettings:
    """Which network is trained.

    Attributes:
        name: Key of `MODELS`.
        steps: Steps T over which a frame of one step, a picture, is given to the network at every step
            (direct coding); none takes the steps of the frames.
        input_scale: `none`: frames as they are, counts or 0 to 255, whose scale the first normalisation
            takes out again. `unit`: a 255th of that. `cifar10`, `cifar100`, `imagenet`: minus the mean of
            each colour and divided by its deviation, over those training pictures.
        width: Factor on the channels of every layer and on hidden features; 1 is the published network.
        neuron: The neurons of every block.
        first_fixed: Whether the first block's threshold stays constant whatever the neuron's kind, as in
            LT-SNN's VGGs: it sees event counts, not spikes. In a ResNet, the hidden layer's too.
        pool: `avg` or `max` over 2x2 spikes (of a MobileNet, the current before them); no effect in a
            network without such pools.
        dropout: Share of hidden features dropped in training; no effect in a network without a hidden
            linear layer.
        dropout_per: `step`: what is dropped is drawn for every step. `sample`: once for all steps of a
            sample.
        blocks: Blocks of attention of a transformer; none takes as many as its name has. No effect in other
            networks.
        activation: `neurons`: a spiking network. `relu` or `quantised`, of `CONVERTIBLE` alone: the same
            network as an ANN, or as one whose activations have few levels.
        levels: Of activations that are `quantised`.
        batch_norm: Whether convolutions of `CONVERTIBLE` are normalised; none: unless they have neurons.
        bias: Whether convolutions of `CONVERTIBLE` have a bias.
        conv_dropout: Share of what convolutions of `CONVERTIBLE` hand on that is dropped in training.
        executor: What runs the neurons: `auto`, `reference`, `numba` or `cuda`, see
            `snn.neurons.executors`.
        pack_spikes: Whether a convolution keeps the spikes it was given in 1, 2 or 4 bits each for its
            backward pass, in place of a float. The same gradients in less memory, but no gradient of the
            gradient. Off unless asked for: on a CPU it costs about a tenth of a training step. No effect in
            `CONVERTIBLE`.
        weights: In how many bits the weights are, by role of a layer; float unless told.
        sparsity: What decides which outputs of a convolution are computed; all are unless told.
    """

    name: str = "vgg9"
    steps: int | None = None
    input_scale: InputScale = "none"
    width: float = 1.0
    neuron: NeuronSettings = field(default_factory=NeuronSettings)
    first_fixed: bool = True
    pool: Pool = "avg"
    dropout: float = 0.5
    dropout_per: DropoutPer = "step"
    blocks: int | None = None
    activation: ActivationKind = "neurons"
    levels: LevelSettings = field(default_factory=LevelSettings)
    batch_norm: bool | None = None
    bias: bool = True
    conv_dropout: float = 0.0
    executor: Executor = "auto"
    pack_spikes: bool = False
    weights: WeightSettings = field(default_factory=WeightSettings)
    sparsity: SparsitySettings = field(default_factory=SparsitySettings)

    def __post_init__(self) -> None:
        _check_name("name", self.name, tuple(MODELS))
        _check_name("pool", self.pool, tuple(POOLS))
        _check_name("dropout_per", self.dropout_per, get_args(DropoutPer))
        _check_name("executor", self.executor, EXECUTORS)
        _check_name("input_scale", self.input_scale, INPUT_SCALES)
        _check_name("activation", self.activation, get_args(ActivationKind))
        if self.activation != "neurons" and self.name not in CONVERTIBLE:
            raise ModelError(
                f"activation: found {self.activation!r} for {self.name}, expected neurons; "
                f"{', '.join(CONVERTIBLE)} can be ANNs"
            )
        if self.steps is not None and self.steps < 1:
            raise ModelError(f"steps: found {self.steps}, expected at least 1, or none")
        if self.blocks is not None and self.blocks < 1:
            raise ModelError(f"blocks: found {self.blocks}, expected at least 1, or none")
        if not isinstance(self.pack_spikes, bool):
            raise ModelError(f"pack_spikes: found {self.pack_spikes!r}, expected true or false")
        if not 0 < self.width < float("inf"):
            raise ModelError(f"width: found {self.width}, expected a number above 0")
        for name in ("dropout", "conv_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ModelError(f"{name}: found {getattr(self, name)}, expected a number from 0 to below 1")


def build_model(
    settings: ModelSettings, *, input_hw: tuple[int, int], classes: int, in_channels: int = 2
) -> nn.Module:
    """Build a network: frames [T, B, P, H, W] in, logits [T, B, K] out.

    Weights are drawn from torch's global generator. Convolution weights lie channels last in memory, which
    is faster on CPU and with mixed precision on GPU; results do not depend on it.

    Args:
        settings: Which network.
        input_hw: Height and width of the frames in pixels.
        classes: Number of classes K.
        in_channels: Planes of a frame, 2 for polarities.

    Raises:
        ModelError: The frames are too small for the network, or a count is below 1.
    """
    for name, count in (("classes", classes), ("in_channels", in_channels)):
        if count < 1:
            raise ModelError(f"{name}: found {count}, expected at least 1")
    check_scale(settings.input_scale, in_channels)
    options = ModelOptions(
        in_channels=in_channels,
        input_hw=(int(input_hw[0]), int(input_hw[1])),
        classes=classes,
        width=settings.width,
        neuron=settings.neuron,
        first_neuron=settings.neuron.fixed() if settings.first_fixed else settings.neuron,
        pool=settings.pool,
        dropout=settings.dropout,
        dropout_per=settings.dropout_per,
        executor=settings.executor,
        pack_spikes=settings.pack_spikes,
        steps=settings.steps,
        input_scale=settings.input_scale,
        activation=settings.activation,
        levels=settings.levels,
        batch_norm=settings.batch_norm,
        bias=settings.bias,
        conv_dropout=settings.conv_dropout,
        blocks=settings.blocks,
    )
    # Gates after the network, whose weights are then drawn alike with and without them.
    model = add_gates(MODELS[settings.name](options), settings.sparsity)
    model = quantise_weights(model, settings.weights)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _check_name(argument: str, found: str, known: tuple[str, ...]) -> None:
    if found in known:
        return
    hint = did_you_mean(found, known)
    raise ModelError(f"{argument}: found {found!r}, expected one of {', '.join(known)}{hint}")

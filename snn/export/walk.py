"""From a network to its plan: every architecture is either known here or refused by name."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from snn.errors import ExportError
from snn.export.plan import FRAMES, Plan
from snn.export.walker import Walker, check_parts
from snn.layers import ConvBlock, SpikingBlock, StepDropout, Stepwise
from snn.models.mobilenet import MobileNet, SeparableBlock
from snn.models.preact_resnet import NormNeuron, PreactivationBlock, PreactivationResNet
from snn.models.resnet import ResidualBlock, ResNet
from snn.models.spikformer import AttentionBlock, Spikformer
from snn.models.vgg import VGG

# What frames are multiplied by before the first layer, by input_scale.
INPUT_FACTORS = {"none": 1.0, "unit": 1 / 255}
_NOTHING = nn.Identity()


@torch.no_grad()
def plan_of(model: nn.Module) -> Plan:
    """Return the plan of a network in its evaluation mode.

    Raises:
        ExportError: A layer cannot be exported; names the layer and says why.
    """
    walk = next((walk for kind, walk in WALKS.items() if type(model) is kind), None)
    if walk is None:
        raise ExportError(
            f"{type(model).__name__}: found an architecture that no export knows, expected one of "
            f"{', '.join(kind.__name__ for kind in WALKS)}"
        )
    options: Any = model.options
    if options.input_scale not in INPUT_FACTORS:
        raise ExportError(
            f"input_scale: found {options.input_scale!r}, which gives every plane another scale and offset, "
            f"expected {' or '.join(INPUT_FACTORS)}: one factor goes into the first layer's scale"
        )
    frames = (options.in_channels, *options.input_hw)
    walker = Walker(frames, INPUT_FACTORS[options.input_scale])
    walk(model, walker)
    return Plan(frames, options.steps, tuple(walker.nodes))


def _vgg(model: nn.Module, walker: Walker) -> None:
    x = FRAMES
    for name, layer in model.named_children():
        x = _layer(name, layer, walker, x)


def _layer(name: str, layer: nn.Module, walker: Walker, x: str) -> str:
    if type(layer) is ConvBlock:
        return walker.block(name, layer, x)
    if type(layer) is SeparableBlock:
        check_parts(name, layer, {"spatial", "pointwise"})
        x = walker.block(f"{name}.spatial", layer.spatial, x)
        return walker.block(f"{name}.pointwise", layer.pointwise, x)
    if type(layer) is Stepwise:
        return walker.pool(name, layer, x)
    if isinstance(layer, nn.Flatten):
        return walker.flatten(name, x)
    if isinstance(layer, nn.Linear):
        return walker.linear(name, layer, x)
    if isinstance(layer, StepDropout | nn.Identity):
        return x
    raise ExportError(f"layer {name!r}: found {type(layer).__name__}, which has no form in whole numbers")


def _resnet(model: nn.Module, walker: Walker) -> None:
    x = FRAMES
    known = {"hidden", "hidden_neuron", "classifier"}
    for name, layer in model.named_children():
        if type(layer) is ResidualBlock:
            x = _residual(name, layer, walker, x)
        elif isinstance(layer, SpikingBlock):
            x = _layer(name, layer, walker, x)
        elif name not in known:
            _layer(name, layer, walker, x)
    C = walker.shape(x)[0]
    x = walker.add("mean", "sum_places", (x,), (C,))
    head: Any = model
    x = walker.linear("hidden", head.hidden, x)
    x = walker.neuron("hidden_neuron", head.hidden_neuron, x)
    walker.linear("classifier", head.classifier, x)


def _residual(name: str, block: ResidualBlock, walker: Walker, x: str) -> str:
    check_parts(name, block, {"first", "second", "shortcut"})
    beside, shortcut = x, block.shortcut
    if shortcut is not None:
        check_parts(f"{name}.shortcut", shortcut, {"conv", "norm"})
        beside = walker.conv(f"{name}.shortcut.conv", shortcut.conv, shortcut.norm, x)
    inner = walker.block(f"{name}.first", block.first, x)
    return walker.block(f"{name}.second", block.second, inner, beside=beside)


def _preactivation(model: nn.Module, walker: Walker) -> None:
    network: Any = model
    x = walker.conv("stem", network.stem, _NOTHING, FRAMES)
    for name, layer in model.named_children():
        if type(layer) is PreactivationBlock:
            x = _preactivation_block(name, layer, walker, x)
        elif name not in ("stem", "leave", "classifier"):
            _layer(name, layer, walker, x)
    x = _norm_neuron("leave", network.leave, walker, x)
    x = walker.add("mean", "sum_places", (x,), walker.shape(x)[:1])
    walker.linear("classifier", network.classifier, x)


def _preactivation_block(name: str, block: PreactivationBlock, walker: Walker, current: str) -> str:
    check_parts(name, block, {"enter", "inner", "conv", "shortcut"})
    spikes, beside = _norm_neuron(f"{name}.enter", block.enter, walker, current), current
    if block.shortcut is not None:
        beside = walker.conv(f"{name}.shortcut", block.shortcut, _NOTHING, spikes)
    inner = walker.block(f"{name}.inner", block.inner, spikes)
    return walker.sum(f"{name}.sum", walker.conv(f"{name}.conv", block.conv, _NOTHING, inner), beside)


def _norm_neuron(name: str, layer: NormNeuron, walker: Walker, current: str) -> str:
    check_parts(name, layer, {"norm", "neuron"})
    return walker.neuron(f"{name}.neuron", layer.neuron, walker.norm(f"{name}.norm", layer.norm, current))


def _spikformer(model: nn.Module, walker: Walker) -> None:
    network: Any = model
    x = FRAMES
    for name, layer in model.named_children():
        if type(layer) is AttentionBlock:
            x = _attention_block(name, layer, walker, x)
        elif name == "position":
            x = walker.sum("position.sum", x, walker.block(name, network.position, x))
        elif name != "classifier":
            x = _layer(name, layer, walker, x)
    x = walker.add("mean", "sum_places", (x,), walker.shape(x)[:1])
    walker.linear("classifier", network.classifier, x)


def _attention_block(name: str, block: AttentionBlock, walker: Walker, x: str) -> str:
    inputs = ("query", "key", "value")
    check_parts(name, block, {*inputs, "attention", "attention_neuron", "project", "expand", "contract"})
    given = [walker.block(f"{name}.{part}", getattr(block, part), x) for part in inputs]
    found = walker.attention(f"{name}.attention", block.attention, *given)
    found = walker.neuron(f"{name}.attention_neuron", block.attention_neuron, found)
    x = walker.sum(f"{name}.attended", x, walker.block(f"{name}.project", block.project, found))
    expanded = walker.block(f"{name}.expand", block.expand, x)
    return walker.sum(f"{name}.sum", x, walker.block(f"{name}.contract", block.contract, expanded))


# What reads a network, by its class.
WALKS: dict[type[nn.Module], Callable[[nn.Module, Walker], None]] = {
    VGG: _vgg,
    MobileNet: _vgg,
    ResNet: _resnet,
    PreactivationResNet: _preactivation,
    Spikformer: _spikformer,
}

"""From a network to its plan: every layer is either known here or refused by name."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from snn.errors import ExportError
from snn.export.fixed_point import fold_norm
from snn.export.plan import FRAMES, Kind, Neurons, Node, Plan, Shape, Weights
from snn.layers import ConvBlock, SpikingBlock, StepDropout, Stepwise, weight_layers
from snn.models.mobilenet import MobileNet, SeparableBlock
from snn.models.resnet import ResidualBlock, ResNet
from snn.models.vgg import VGG
from snn.neurons.modules import Neuron
from snn.quant.apply import codes_of, float_weight, quantiser_of
from snn.quant.settings import FLOAT_BITS

# What frames are multiplied by before the first layer, by input_scale.
INPUT_FACTORS = {"none": 1.0, "unit": 1 / 255}
POOLS: dict[type[nn.Module], Kind] = {nn.AvgPool2d: "sum_pool", nn.MaxPool2d: "max_pool"}


@torch.no_grad()
def plan_of(model: nn.Module) -> Plan:
    """Return the plan of a network in its evaluation mode.

    Raises:
        ExportError: A layer cannot be exported; names the layer and says why.
    """
    walk = next((walk for kind, walk in WALKS.items() if type(model) is kind), None)
    if walk is None:
        raise ExportError(
            f"{type(model).__name__}: found a network with {_reason(model)}, expected one of "
            f"{', '.join(kind.__name__ for kind in WALKS)}"
        )
    options: Any = model.options
    if options.input_scale not in INPUT_FACTORS:
        raise ExportError(
            f"input_scale: found {options.input_scale!r}, which gives every plane another scale and offset, "
            f"expected {' or '.join(INPUT_FACTORS)}: one factor goes into the first layer's scale"
        )
    frames = (options.in_channels, *options.input_hw)
    walker = _Walker(frames, INPUT_FACTORS[options.input_scale])
    walk(model, walker)
    return Plan(frames, options.steps, tuple(walker.nodes))


def _reason(model: nn.Module) -> str:
    return REFUSED.get(type(model).__name__, "an architecture that no export knows")


REFUSED = {
    "PreactivationResNet": (
        "normalisations behind additions (block1.norm1 and the like), which no convolution can take in"
    ),
    "Spikformer": (
        "products of spikes with spikes (SpikeAttention) and sums of spikes between blocks, for which the "
        "integer network has no layer"
    ),
}


@dataclass
class _Walker:
    """Collects nodes; every method adds what it is named after and returns the name of the result."""

    frames: Shape
    frame_factor: float
    nodes: list[Node] = field(default_factory=list)

    def shape(self, name: str) -> Shape:
        return self.frames if name == FRAMES else next(n.shape for n in self.nodes if n.name == name)

    def add(self, name: str, kind: Kind, inputs: tuple[str, ...], shape: Shape, **parts: Any) -> str:
        self.nodes.append(Node(name, kind, inputs, shape, **parts))
        return name

    def conv(self, name: str, conv: nn.Conv2d, norm: nn.Module, x: str) -> str:
        padding, modes = conv.padding, (conv.dilation, conv.padding_mode)
        if isinstance(padding, str) or modes != ((1, 1), "zeros"):
            raise ExportError(
                f"layer {name!r}: found padding {padding!r} ({conv.padding_mode}) and dilation "
                f"{conv.dilation}, expected zeros and no dilation"
            )
        scale, bias = _folded(name, conv, norm)
        scale = scale * (self.frame_factor if x == FRAMES else 1)
        values, bits, rule = _values(conv)
        _, H, W = self.shape(x)
        rows, columns = (
            (size + 2 * pad - kernel) // stride + 1
            for size, pad, kernel, stride in zip((H, W), padding, conv.kernel_size, conv.stride, strict=True)
        )
        stride = (conv.stride[0], conv.stride[1])
        weights = Weights(values, bits, rule, scale, bias, stride, (padding[0], padding[1]), conv.groups)
        return self.add(name, "conv", (x,), (conv.out_channels, rows, columns), weights=weights)

    def linear(self, name: str, linear: nn.Linear, x: str) -> str:
        scale, bias = _plain(linear)
        values, bits, rule = _values(linear)
        weights = Weights(values, bits, rule, scale, bias)
        return self.add(name, "linear", (x,), (linear.out_features,), weights=weights)

    def neuron(self, name: str, neuron: Neuron, x: str) -> str:
        s = neuron.settings
        if type(neuron).run is not Neuron.run or type(neuron).forward is not Neuron.forward:
            raise ExportError(f"layer {name!r}: {type(neuron).__name__} runs its neurons its own way")
        if s.spike_value != "one":
            raise ExportError(
                f"layer {name!r}: found spike_value {s.spike_value!r}, whose spikes are no whole numbers, "
                "expected one"
            )
        threshold = _array(neuron.threshold).reshape(-1)
        if s.lanes > 1 and (threshold <= 0).any():
            raise ExportError(
                f"layer {name!r}: found the threshold {threshold.min():.3g} with lanes={s.lanes}, "
                "expected above 0: its lanes are out of order"
            )
        decay = np.array([s.decay], np.float64) if neuron.decay is None else _array(neuron.decay).reshape(-1)
        return self.add(name, "neuron", (x,), self.shape(x), neurons=Neurons(s, threshold, decay))

    def pool(self, name: str, pool: nn.Module, x: str) -> str:
        layer = pool.module if isinstance(pool, Stepwise) else pool
        kind = POOLS.get(type(layer))
        sizes = (getattr(layer, "kernel_size", 0), getattr(layer, "stride", 0), getattr(layer, "padding", 0))
        plain = all(size in (n, (n, n)) for size, n in zip(sizes, (2, 2, 0), strict=True))
        other = [getattr(layer, option, None) for option in ("ceil_mode", "divisor_override")]
        if kind is None or not plain or any(other) or getattr(layer, "dilation", 1) not in (1, (1, 1)):
            raise ExportError(f"layer {name!r}: found {layer}, expected a mean or maximum over 2x2")
        C, H, W = self.shape(x)
        return self.add(name, kind, (x,), (C, H // 2, W // 2))

    def flatten(self, name: str, x: str) -> str:
        return self.add(name, "flatten", (x,), (int(np.prod(self.shape(x))),))

    def sum(self, name: str, one: str, other: str) -> str:
        return self.add(name, "add", (one, other), self.shape(one))

    def block(self, name: str, block: ConvBlock, x: str, *, beside: str | None = None) -> str:
        _check_parts(name, block, {"conv", "norm", "current_pool", "neuron"})
        x = self.conv(f"{name}.conv", block.conv, block.norm, x)
        if block.current_pool is not None:
            x = self.pool(f"{name}.current_pool", block.current_pool, x)
        if beside is not None:
            x = self.sum(f"{name}.sum", x, beside)
        return self.neuron(f"{name}.neuron", block.neuron, x)


def _vgg(model: nn.Module, walker: _Walker) -> None:
    x = FRAMES
    for name, layer in model.named_children():
        x = _layer(name, layer, walker, x)


def _layer(name: str, layer: nn.Module, walker: _Walker, x: str) -> str:
    if type(layer) is ConvBlock:
        return walker.block(name, layer, x)
    if type(layer) is SeparableBlock:
        _check_parts(name, layer, {"spatial", "pointwise"})
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


def _resnet(model: nn.Module, walker: _Walker) -> None:
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


def _residual(name: str, block: ResidualBlock, walker: _Walker, x: str) -> str:
    _check_parts(name, block, {"first", "second", "shortcut"})
    beside, shortcut = x, block.shortcut
    if shortcut is not None:
        _check_parts(f"{name}.shortcut", shortcut, {"conv", "norm"})
        beside = walker.conv(f"{name}.shortcut.conv", shortcut.conv, shortcut.norm, x)
    inner = walker.block(f"{name}.first", block.first, x)
    return walker.block(f"{name}.second", block.second, inner, beside=beside)


# What reads a network, by its class.
WALKS: dict[type[nn.Module], Callable[[nn.Module, _Walker], None]] = {
    VGG: _vgg,
    MobileNet: _vgg,
    ResNet: _resnet,
}


def _check_parts(name: str, module: nn.Module, known: set[str]) -> None:
    """Raise ExportError where a layer has parts that the export does not know, such as a gate."""
    for part, child in module.named_children():
        if part not in known:
            raise ExportError(
                f"layer {f'{name}.{part}'!r}: found {type(child).__name__}, "
                "which has no form in whole numbers"
            )


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


def _values(layer: nn.Conv2d | nn.Linear) -> tuple[np.ndarray, int, str]:
    """Return codes, bits and rule; the weights themselves where they are float."""
    quantised, quantiser = codes_of(layer), quantiser_of(layer)
    if quantised is None or quantiser is None:
        return _array(layer.weight), FLOAT_BITS, "float"
    return quantised.codes.cpu().numpy().astype(np.int8), quantiser.rule.bits, quantiser.rule.rule


def _plain(layer: nn.Conv2d | nn.Linear) -> tuple[np.ndarray, np.ndarray]:
    """Return scale and bias of a layer without what comes after it, float64 [O]."""
    quantised, channels = codes_of(layer), len(float_weight(layer))
    scale = np.ones(1) if quantised is None else _array(quantised.scale).reshape(-1)
    bias = np.zeros(channels) if layer.bias is None else _array(layer.bias)
    return np.broadcast_to(scale, channels).copy(), bias


def _folded(name: str, conv: nn.Conv2d, norm: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    scale, bias = _plain(conv)
    if type(norm) is nn.Identity:
        return scale, bias
    if type(norm) not in (nn.BatchNorm2d, nn.SyncBatchNorm):
        raise ExportError(f"layer {name!r}: found {type(norm).__name__} after it, expected BatchNorm2d")
    norm = cast(nn.BatchNorm2d, norm)
    if norm.running_mean is None or norm.running_var is None:
        raise ExportError(f"layer {name!r}: its normalisation keeps no running statistics, expected some")
    ones, zeros = torch.ones(len(bias)), torch.zeros(len(bias))
    return fold_norm(
        scale,
        bias,
        weight=_array(norm.weight if norm.affine else ones),
        bias=_array(norm.bias if norm.affine else zeros),
        mean=_array(norm.running_mean),
        variance=_array(norm.running_var),
        eps=norm.eps,
    )


def float_layers(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield name and role of every layer whose weights are float."""
    for name, module, role in weight_layers(model):
        if quantiser_of(module) is None:
            yield name, role

"""Collects the steps of a plan from the layers of a network; what a layer cannot be is refused by name."""

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from snn.errors import ExportError
from snn.export.fixed_point import fold_norm
from snn.export.plan import FRAMES, Kind, Neurons, Node, Shape, Weights
from snn.layers import ConvBlock, Stepwise
from snn.models.spikformer import SpikeAttention
from snn.neurons.modules import Neuron
from snn.quant.apply import codes_of, float_weight, quantiser_of
from snn.quant.settings import FLOAT_BITS

POOLS: dict[type[nn.Module], Kind] = {nn.AvgPool2d: "sum_pool", nn.MaxPool2d: "max_pool"}


@dataclass
class Walker:
    """Collects nodes; every method adds what it is named after and returns the name of the result."""

    frames: Shape
    frame_factor: float
    nodes: list[Node] = field(default_factory=list)

    def shape(self, name: str) -> Shape:
        """Return the shape of what a node hands on, or of a frame."""
        return self.frames if name == FRAMES else next(n.shape for n in self.nodes if n.name == name)

    def add(self, name: str, kind: Kind, inputs: tuple[str, ...], shape: Shape, **parts: Any) -> str:
        """Add a node as it is."""
        self.nodes.append(Node(name, kind, inputs, shape, **parts))
        return name

    def conv(self, name: str, conv: nn.Conv2d, norm: nn.Module, x: str) -> str:
        """Add a convolution with the normalisation after it; an Identity is none."""
        padding, modes = conv.padding, (conv.dilation, conv.padding_mode)
        if isinstance(padding, str) or modes != ((1, 1), "zeros"):
            raise ExportError(
                f"layer {name!r}: found padding {padding!r} ({conv.padding_mode}) and dilation "
                f"{conv.dilation}, expected zeros and no dilation"
            )
        scale, bias = _folded(name, *_plain(conv), norm)
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

    def norm(self, name: str, norm: nn.Module, x: str) -> str:
        """Add a normalisation that no convolution can take in: a depth-wise one of 1x1 and the weight 1."""
        shape = self.shape(x)
        ones = np.ones((shape[0], 1, 1, 1), np.int8)
        scale, bias = _folded(name, np.ones(shape[0]), np.zeros(shape[0]), norm)
        return self.add(
            name, "conv", (x,), shape, weights=Weights(ones, 2, "one", scale, bias, groups=shape[0])
        )

    def linear(self, name: str, linear: nn.Linear, x: str) -> str:
        """Add a linear layer."""
        scale, bias = _plain(linear)
        values, bits, rule = _values(linear)
        weights = Weights(values, bits, rule, scale, bias)
        return self.add(name, "linear", (x,), (linear.out_features,), weights=weights)

    def neuron(self, name: str, neuron: Neuron, x: str) -> str:
        """Add neurons; refuse those whose spikes are no whole numbers."""
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
        """Add a mean over 2x2 places, or a maximum over square windows."""
        layer = pool.module if isinstance(pool, Stepwise) else pool
        kind = POOLS.get(type(layer))
        sizes = (getattr(layer, "kernel_size", 0), getattr(layer, "stride", 0), getattr(layer, "padding", 0))
        square = all(type(size) is int for size in sizes)
        plain = square and (kind == "max_pool" or sizes == (2, 2, 0))
        other = [getattr(layer, option, None) for option in ("ceil_mode", "divisor_override")]
        if kind is None or not plain or any(other) or getattr(layer, "dilation", 1) not in (1, (1, 1)):
            raise ExportError(
                f"layer {name!r}: found {layer}, expected a mean over 2x2 or a maximum over squares"
            )
        C, H, W = self.shape(x)
        kernel, stride, padding = sizes
        rows, columns = ((size + 2 * padding - kernel) // stride + 1 for size in (H, W))
        numbers = dict(zip(("kernel", "stride", "padding"), sizes, strict=True))
        return self.add(name, kind, (x,), (C, rows, columns), numbers=numbers)

    def flatten(self, name: str, x: str) -> str:
        """Add the change of a map into a row of features."""
        return self.add(name, "flatten", (x,), (int(np.prod(self.shape(x))),))

    def sum(self, name: str, one: str, other: str) -> str:
        """Add the sum of two of a shape."""
        return self.add(name, "add", (one, other), self.shape(one))

    def attention(self, name: str, layer: SpikeAttention, query: str, key: str, value: str) -> str:
        """Add the product of queries, keys and values."""
        mantissa, exponent = np.frexp(layer.scale)
        if mantissa != 0.5 or exponent > 1:
            raise ExportError(
                f"layer {name!r}: found the scale {layer.scale:g}, expected a power of two up to 1"
            )
        numbers = {"heads": layer.heads, "fraction_bits": int(1 - exponent)}
        return self.add(name, "attention", (query, key, value), self.shape(query), numbers=numbers)

    def block(self, name: str, block: ConvBlock, x: str, *, beside: str | None = None) -> str:
        """Add a conv block; `beside` is what a shortcut carries, added before its neurons."""
        check_parts(name, block, {"conv", "norm", "current_pool", "neuron"})
        x = self.conv(f"{name}.conv", block.conv, block.norm, x)
        if block.current_pool is not None:
            x = self.pool(f"{name}.current_pool", block.current_pool, x)
        if beside is not None:
            x = self.sum(f"{name}.sum", x, beside)
        return self.neuron(f"{name}.neuron", block.neuron, x)


def check_parts(name: str, module: nn.Module, known: set[str]) -> None:
    """Raise ExportError where a layer has parts that the export does not know, such as a gate."""
    for part, child in module.named_children():
        if part not in known:
            advice = "train without model.sparsity" if part == "gate" else "leave it out"
            raise ExportError(
                f"layer {f'{name}.{part}'!r}: found {type(child).__name__}, "
                f"which has no form in whole numbers; {advice}"
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


def _folded(name: str, scale: np.ndarray, bias: np.ndarray, norm: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """Return scale and bias of a layer with the normalisation after it, float64 [O]."""
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

"""Measure the ranges of a quantised ANN's activations on batches of samples."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from snn.conversion.percentile import Reduce, StreamingPercentile, alone, percentile
from snn.errors import ConversionError
from snn.quant.levels import LevelReLU

# One pass over the samples: frames [T, B, P, H, W] of every batch.
Pass = Callable[[], Iterable[Tensor]]


def level_layers(model: nn.Module) -> dict[str, LevelReLU]:
    """Return the layers with levels by name, in the order of the model."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LevelReLU)}


@torch.no_grad()
def calibrate(
    model: nn.Module,
    frames: Pass,
    *,
    reduce: Reduce = alone,
    reduce_max: Reduce = alone,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> dict[str, tuple[float, float]]:
    """Set every layer's range from 0, or the least activation below it, to the percentile of its activations.

    The levels let everything pass meanwhile, so that layers do not depend on each other; dropout is off and
    normalisations use their running statistics. What is measured is the same over any number of processes.

    Args:
        model: The quantised ANN; back in its mode afterwards.
        frames: Gives the batches of one pass; called twice.
        reduce: Adds counts up over all processes.
        reduce_max: Largest of a number over all processes.
        autocast: Context in which the network runs.

    Returns:
        Minimum and maximum by name of the layer.

    Raises:
        ConversionError: There are no samples, or a layer is silent on all of them.
    """
    layers = level_layers(model)
    seen = {name: _Range(layer) for name, layer in layers.items()}
    training = model.training
    handles = [
        layer.register_forward_hook(lambda _m, _a, output, name=name: seen[name].add(output))
        for name, layer in layers.items()
    ]
    for layer in layers.values():
        layer.transparent = True
    try:
        model.eval()
        for batch in frames():
            with autocast():
                model(batch)
        again = [found.narrow(reduce) for found in seen.values()]
        for batch in frames() if any(again) else ():
            with autocast():
                model(batch)
    finally:
        for handle in handles:
            handle.remove()
        for layer in layers.values():
            layer.transparent = False
        model.train(training)
    return {name: _set_range(name, layers[name], seen[name], reduce, reduce_max) for name in layers}


class _Range:
    """What is seen of one layer."""

    def __init__(self, layer: LevelReLU) -> None:
        self.by_batch = layer.settings.over == "batches"
        self.percent = layer.settings.percentile
        self.lowest, self.largest = 0.0, 0.0
        self._all = StreamingPercentile(self.percent)

    def add(self, x: Tensor) -> None:
        self.lowest = min(self.lowest, float(x.min()))
        if self.by_batch:
            self.largest = max(self.largest, percentile(x, self.percent))
        else:
            self._all.add(x.cpu())

    def narrow(self, reduce: Reduce) -> bool:
        """End the first pass; return whether a second one is needed."""
        if not self.by_batch:
            self._all.narrow(reduce)
        return not self.by_batch

    def maximum(self, reduce: Reduce, reduce_max: Reduce) -> float:
        if self.by_batch:
            return float(reduce_max(torch.tensor(self.largest)))
        return self._all.result(reduce)


def _set_range(
    name: str, layer: LevelReLU, seen: _Range, reduce: Reduce, reduce_max: Reduce
) -> tuple[float, float]:
    lowest = -float(reduce_max(torch.tensor(-seen.lowest)))
    largest = seen.maximum(reduce, reduce_max)
    if not largest > lowest:
        raise ConversionError(
            f"{name}: the {layer.settings.percentile:g} percentile of its activations is {largest:g}, "
            "expected above 0; calibrate on more samples, raise levels.percentile or train longer"
        )
    layer.minimum.fill_(lowest)
    layer.maximum.fill_(largest)
    return lowest, largest

"""Thresholds of a converted network, layer by layer from what its neurons are given on calibration samples.

    p[l]         = percentile of the current into layer l, the largest over steps
    raw[l]       = p[l] / 2^(S - 1)
    threshold[l] = scaling raw[l]          so that the top lane begins at scaling p[l]

Layers are searched in the order they are computed, each with the thresholds found before in force. Spikes
count in units of their threshold: the currents behind them shrink by it, and a bias that is left as it is
becomes too large. `rescale_biases` divides it: with the scale c of what feeds a layer, 1 for frames,

    bias[l] /= c          weight[other ways into l] *= c[source] / c
    c[l] = c (sum of l's currents above 0) / (sum of its spikes)

where c is that of the last way into the layer, a residual block's shortcut; other ways are brought to it.
Of a neuron whose spikes say its current exactly c[l] is c threshold[l]. Lanes round down, to about 1 / 1.44
(ln 2) of it in the mean: scaled by thresholds alone, every layer would hand on less than its scale says, and
biases, which are exact, would outgrow what they are added to within a few layers.
Sources: one-hot M-LIF, IEEE Access 2025, and its released code, which leaves biases as they are, searches
with thresholds that are not scaled yet, and of residual blocks keeps the last step.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from snn.conversion.calibration import Pass
from snn.conversion.percentile import Reduce, StreamingPercentile, alone
from snn.errors import ConversionError, did_you_mean
from snn.models.activated import Flow
from snn.neurons.modules import Neuron

# Currents of a layer and step up to this many are kept, 64 MB, and the layers before it run once.
KEPT_NUMBERS = 1 << 24

# Units of a threshold that currents are added up in.
FIXED_POINT = 1 << 16

InForce = Literal["scaled", "raw"]
OverSteps = Literal["max", "last_in_blocks"]


@dataclass(frozen=True)
class ThresholdSettings:
    """How thresholds are searched.

    Attributes:
        percentile: Of a layer's current, that `scaling` is a share of.
        scaling: Share of it at which the top lane begins, above 0.
        rescale_biases: Whether biases are divided by the scale of what feeds their layer, so that the network
            computes what the ANN does but for its levels, and those say the same in the mean.
        in_force: What holds in layers already searched: their threshold as it will be (`scaled`), or before
            it is scaled (`raw`, as released; not with `rescale_biases`).
        over_steps: `max`: the step with the largest percentile. `last_in_blocks`: in residual blocks the last
            step, as released.
    """

    percentile: float = 99.7
    scaling: float = 1.0
    rescale_biases: bool = True
    in_force: InForce = "scaled"
    over_steps: OverSteps = "max"

    def __post_init__(self) -> None:
        for name, known in (("in_force", get_args(InForce)), ("over_steps", get_args(OverSteps))):
            found = getattr(self, name)
            if found not in known:
                hint = did_you_mean(found, known)
                raise ConversionError(f"{name}: found {found!r}, expected one of {', '.join(known)}{hint}")
        if not 0 < self.percentile <= 100:
            raise ConversionError(f"percentile: found {self.percentile}, expected above 0 and at most 100")
        if not 0 < self.scaling < float("inf"):
            raise ConversionError(f"scaling: found {self.scaling}, expected a number above 0")
        if self.rescale_biases and self.in_force == "raw":
            raise ConversionError(
                "in_force: found 'raw' with rescale_biases, which counts on thresholds as they will be; "
                "use scaled, or rescale_biases=false"
            )


@torch.no_grad()
def find_thresholds(
    model: nn.Module,
    frames: Pass,
    settings: ThresholdSettings,
    *,
    reduce: Reduce = alone,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """Set the threshold of every layer of neurons, and its biases where asked; the same over any processes.

    Args:
        model: A spiking network with `flows()`, without normalisation; its thresholds, weights and biases are
            changed. Back in its mode afterwards.
        frames: Gives the batches of one pass over the calibration samples; called once or twice a layer.
        settings: How to search.
        reduce: Adds counts up over all processes.
        autocast: Context in which the network runs.
        progress: Told how many of how many layers are done.

    Returns:
        Percentile / 2^(S - 1) by name of the layer, before scaling.

    Raises:
        ConversionError: A layer is given nothing above 0 that a threshold could follow from.
    """
    flows: list[Flow] = model.flows()  # type: ignore[operator]
    training = model.training
    raw: dict[str, float] = {}
    scales: dict[str | None, float] = {None: 1.0}
    try:
        model.eval()
        for flow in flows:
            if settings.rescale_biases:
                _rescale(model, flow, scales)
            if flow.activation is None:
                break
            name, neuron = flow.activation, _neuron(model, flow)
            by_step = _percentiles(model, neuron, frames, settings.percentile, reduce, autocast)
            last_alone = settings.over_steps == "last_in_blocks" and flow.residual
            found = by_step[-1] if last_alone else max(by_step)
            raw[name] = _checked(name, found, settings) / 2 ** (neuron.settings.lanes - 1)
            factor = settings.scaling if settings.in_force == "scaled" else 1.0
            set_threshold(neuron, raw[name] * factor)
            if settings.rescale_biases:
                worth = _worth_of_a_spike(model, name, neuron, frames, reduce, autocast)
                scales[name] = scales[flow.synapses[-1].source] * worth
            progress(len(raw), len(flows) - 1)
        if settings.in_force == "raw":
            for name, value in raw.items():
                set_threshold(model.get_submodule(name), value * settings.scaling)  # type: ignore[arg-type]
    finally:
        model.train(training)
    return raw


def set_threshold(neuron: Neuron, value: float) -> None:
    """Set the threshold of a layer of neurons, of every channel alike."""
    with torch.no_grad():
        if neuron.settings.learn_threshold and neuron.settings.threshold_constraint != "none":
            neuron.threshold = torch.full_like(neuron.threshold, value)
        else:
            neuron.threshold.fill_(value)


def _neuron(model: nn.Module, flow: Flow) -> Neuron:
    neuron = model.get_submodule(flow.activation or "")
    if not isinstance(neuron, Neuron):
        raise ConversionError(
            f"{flow.activation}: found {type(neuron).__name__}, expected neurons; search the SNN, not the ANN"
        )
    return neuron


def _checked(name: str, found: float, settings: ThresholdSettings) -> float:
    if not found > 0:
        raise ConversionError(
            f"{name}: the {settings.percentile:g} percentile of its current is {found:g}, expected above 0; "
            "give more calibration samples, raise the percentile, or train the ANN longer"
        )
    return found


def _rescale(model: nn.Module, flow: Flow, scales: dict[str | None, float]) -> None:
    """Bring the ways into a layer to the scale of its last one; of the classifier, back to the ANN's."""
    scale = 1.0 if flow.activation is None else scales[flow.synapses[-1].source]
    for synapses in flow.synapses:
        if synapses.layer is None:
            continue
        layer = model.get_submodule(synapses.layer)
        layer.weight.mul_(scales[synapses.source] / scale)  # type: ignore[operator]
        if layer.bias is not None:
            layer.bias.div_(scale)  # type: ignore[operator]


class _Reached(Exception):
    """The layer of interest has its current; what comes after it need not be computed."""


def _percentiles(
    model: nn.Module,
    neuron: Neuron,
    frames: Pass,
    percent: float,
    reduce: Reduce,
    autocast: Callable[[], AbstractContextManager],
) -> list[float]:
    """Return the percentile of a layer's current at every step."""
    by_step: list[StreamingPercentile] = []

    def see(_neuron: nn.Module, arguments: tuple[Tensor, ...]) -> Any:
        current = arguments[0]
        while len(by_step) < len(current):
            by_step.append(StreamingPercentile(percent, keep=KEPT_NUMBERS))
        for found, step in zip(by_step, current, strict=True):
            found.add(step.cpu())
        raise _Reached

    handle = neuron.register_forward_pre_hook(see)
    try:
        _show(model, frames, autocast)
        # All of them, as every process waits for the others; they are shown equally many numbers.
        again = [found.narrow(reduce) for found in by_step]
        if any(again):
            _show(model, frames, autocast)
    finally:
        handle.remove()
    if not by_step:
        raise ConversionError("calibration set: found no samples, expected at least one")
    return [found.result(reduce) for found in by_step]


def _worth_of_a_spike(
    model: nn.Module,
    name: str,
    neuron: Neuron,
    frames: Pass,
    reduce: Reduce,
    autocast: Callable[[], AbstractContextManager],
) -> float:
    """Return the sum of a layer's currents above 0 by the sum of its spikes, over all samples and steps."""
    threshold = float(neuron.threshold.flatten()[0])
    # Whole numbers, which add up to the same in any order and over any processes.
    sums = torch.zeros(2, dtype=torch.int64)

    def see(_neuron: nn.Module, arguments: tuple[Tensor, ...], spikes: Tensor) -> Any:
        currents = arguments[0].clamp(min=0) / threshold
        for place, numbers in enumerate((currents, spikes)):
            sums[place] += (numbers.double() * FIXED_POINT).round().to(torch.int64).sum().cpu()
        raise _Reached

    handle = neuron.register_forward_hook(see)
    try:
        _show(model, frames, autocast)
    finally:
        handle.remove()
    currents, spikes = reduce(sums).tolist()
    if spikes == 0:
        raise ConversionError(
            f"{name}: found no spikes on the calibration samples at its threshold of {threshold:g}, expected "
            "some; lower search.thresholds.scaling"
        )
    return threshold * currents / spikes


def _show(model: nn.Module, frames: Pass, autocast: Callable[[], AbstractContextManager]) -> None:
    for batch in frames():
        try:
            with autocast():
                model(batch)
        except _Reached:
            continue

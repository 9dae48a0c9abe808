"""Gates on a built network: put on, listed, and what they decide over many samples."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from snn.errors import SparsityError
from snn.layers import ConvBlock, Gate, Gated, weight_layers
from snn.processes import gather_from_processes
from snn.sparsity.gates import (
    ChannelPredictor,
    Control,
    LearnedGate,
    PartialSumGate,
    RandomGate,
    SpatialGate,
    SqueezeGate,
)
from snn.sparsity.settings import SparsitySettings

# What the names of a gate's parameters have in them.
GATE = ".gate."


def add_gates(model: nn.Module, settings: SparsitySettings) -> nn.Module:
    """Put a gate on every conv block but the one that sees the frames, and return the network.

    As released, the channel predictor is on the first block too.

    Args:
        model: Network; changed.
        settings: Which gates.

    Raises:
        SparsityError: The network has no conv block to put one on, or one that this kind does not fit.
    """
    if settings.kind == "none":
        return model
    first = [name for name, _, role in weight_layers(model) if role == "first"]
    if settings.published and settings.kind == "channel_predictor":
        first = []
    blocks = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, ConvBlock) and f"{name}.conv" not in first
    ]
    if not blocks:
        raise SparsityError(
            f"sparsity.kind: found {settings.kind!r} for a network without a conv block behind the first, "
            "expected 'none'"
        )
    for name, block in blocks:
        gate = make_gate(block.conv, settings, layer=name)
        if settings.loss_weight == 0:
            gate.requires_grad_(False)
        block.gate = gate
    return model


def make_gate(conv: nn.Conv2d, settings: SparsitySettings, *, layer: str) -> LearnedGate:
    """Return a gate for a convolution; `layer` names it in messages."""
    sizes = (conv.in_channels, conv.out_channels)
    if settings.random != "no":
        return RandomGate(settings)
    if settings.kind == "channel_gating":
        return PartialSumGate(conv, settings, layer=layer)
    kinds = {"channel_predictor": ChannelPredictor, "channel": SqueezeGate, "spatial": SpatialGate}
    return kinds[settings.kind](*sizes, settings)


def gate_layers(model: nn.Module) -> dict[str, LearnedGate]:
    """Return the gates by the name of the block they are on, in the order they are defined."""
    return {
        name.removesuffix(".gate"): module
        for name, module in model.named_modules()
        if isinstance(module, LearnedGate)
    }


def gate_settings(model: nn.Module) -> SparsitySettings | None:
    """Return what the gates of a network were made of; None where it has none."""
    return next((gate.settings for gate in gate_layers(model).values()), None)


def in_warm_up(model: nn.Module) -> bool:
    """Return whether a network's gates keep everything still."""
    return any(int(gate.batches) < gate.settings.warm_up_batches for gate in gate_layers(model).values())


def from_ungated(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return the state of a network without gates as one of the same network with them, as they are drawn.

    Everything else stays as it is, to be loaded strictly; so does a state that has gates.
    """
    drawn = {name: value for name, value in model.state_dict().items() if GATE in f".{name}"}
    has_gates = any(GATE in f".{name}" for name in state)
    return dict(state) if has_gates else {**state, **drawn}


class GateRecord:
    """What the gates of a network decided while recording.

    Losses are kept of training, decisions of evaluation.
    """

    def __init__(self) -> None:
        self._losses: list[Tensor] = []
        self._samples: dict[str, int] = {}
        self._kept: dict[str, Tensor] = {}  # [T, entries], times kept
        self._changed: dict[str, Tensor] = {}  # [T - 1], entries unlike in the step before

    def add(self, name: str, gated: Gated, *, training: bool) -> None:
        """Add what one gate decided for a batch."""
        if training:
            self._losses += [] if gated.loss is None else [gated.loss]
            return
        kept = gated.kept.detach().flatten(2)
        sums = (kept.sum(dim=1, dtype=torch.float64), (kept.diff(dim=0) != 0).sum(dim=(1, 2)).double())
        self._samples[name] = self._samples.get(name, 0) + kept.shape[1]
        for into, new in zip((self._kept, self._changed), sums, strict=True):
            into[name] = into[name] + new if name in into else new

    def with_other_processes(self) -> "GateRecord":
        """Return the decisions of evaluation that all processes recorded together; all must call it."""
        together = GateRecord()
        here = {
            name: (self._samples[name], kept.cpu(), self._changed[name].cpu())
            for name, kept in self._kept.items()
        }
        for process in gather_from_processes(here):
            for name, (samples, kept, changed) in process.items():
                together._samples[name] = together._samples.get(name, 0) + samples
                together._kept[name] = together._kept.get(name, torch.zeros_like(kept)) + kept
                together._changed[name] = together._changed.get(name, torch.zeros_like(changed)) + changed
        return together

    def loss(self) -> Tensor | None:
        """Return the gates' loss of what was recorded, a mean over layers; None where there is none."""
        return torch.stack(self._losses).mean() if self._losses else None

    def kept_shares(self) -> dict[str, list[float]]:
        """Return the share that is kept, by layer, one number a step."""
        return {name: (kept.mean(dim=1) / self._samples[name]).tolist() for name, kept in self._kept.items()}

    def changes_between_samples(self) -> dict[str, float]:
        """Return the share of decisions in which two samples differ, by layer: a mean over pairs and steps.

        Of N samples, k of which keep an entry, k (N - k) of N (N - 1) / 2 pairs differ in it. 0 for masks
        that do not depend on the input; 0.5 where each sample keeps a half of its own.
        """
        shares = {}
        for name, kept in self._kept.items():
            n = self._samples[name]
            shares[name] = float((2 * kept * (n - kept)).mean() / (n * (n - 1))) if n > 1 else 0.0
        return shares

    def changes_between_steps(self) -> dict[str, float]:
        """Return the share of decisions unlike those of the step before, by layer."""
        shares = {}
        for name, changed in self._changed.items():
            entries = self._samples[name] * self._kept[name].shape[1] * len(changed)
            shares[name] = float(changed.sum() / entries) if entries else 0.0
        return shares


@contextmanager
def record_gates(model: nn.Module) -> Iterator[GateRecord]:
    """Record what the gates of a network decide while the block runs; a network may have none."""
    recorded = GateRecord()

    def watch(name: str, gate: Gate) -> torch.utils.hooks.RemovableHandle:
        return gate.register_forward_hook(
            lambda module, _arguments, gated: recorded.add(name, gated, training=module.training)
        )

    handles = [watch(name, gate) for name, gate in gate_layers(model).items()]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def control_gates(model: nn.Module, control: Control) -> Iterator[None]:
    """Put other decisions in place of the gates' own, in evaluation, while the block runs."""
    gates = gate_layers(model).values()
    for gate in gates:
        gate.control = control
    try:
        yield
    finally:
        for gate in gates:
            gate.control = "none"

"""One epoch of training, whatever the task. A batch has `.frames` [T, B, P, H, W]."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from snn.errors import QuantError, TrainingError
from snn.losses import mean_threshold
from snn.processes import Share, gather_from_processes, sharing_batch, sum_over_processes
from snn.quant.apply import collapsed
from snn.sparsity.apply import record_gates
from snn.training.average import WeightAverage
from snn.training.nonfinite import first_nonfinite_layer
from snn.training.optimizer import keep_bounds, set_learning_rates
from snn.training.settings import TrainSettings
from snn.training.task import BatchLoss, Task


class BatchSource(Protocol):
    """Batches of an epoch, which knows where it stands; `events.batches.Feed` is one."""

    @property
    def epoch(self) -> int:
        """Epochs delivered."""

    @property
    def batch(self) -> int:
        """Batches of this epoch delivered."""

    @property
    def wait_s(self) -> float:
        """Seconds waited for data."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...

    def state_dict(self) -> dict[str, int]:
        """Return where the source stands."""

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go there."""


class _BatchSums(NamedTuple):
    """Sums over the samples of a batch, in all processes."""

    samples: int
    loss: float
    gate_loss: float
    sums: dict[str, float]


@dataclass
class EpochTotals:
    """Sums over the batches of an epoch so far, of all processes; seconds are this process's.

    Attributes:
        samples: Samples trained on.
        loss: Sum over samples of their batch's loss, without that of gates.
        gate_loss: Sum over samples of their batch's loss of gates, without its weight.
        seconds: Seconds spent on them.
        wait_s: Of these, seconds waited for data.
        largest_gradient: Largest norm of the gradients of a step.
        sums: What the task adds up beside its loss, such as the samples classified right before their step.
    """

    samples: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    wait_s: float = 0.0
    largest_gradient: float = 0.0
    gate_loss: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, parts: Iterable[_BatchSums], *, gradient: float) -> None:
        """Add the parts of a batch, and the norm of its gradients."""
        for part in parts:
            self.samples += part.samples
            self.loss += part.loss
            self.gate_loss += part.gate_loss
            for name, value in part.sums.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
        self.largest_gradient = max(self.largest_gradient, gradient)

    def means(self) -> dict[str, float]:
        """Return the loss and what the task adds up, as means over the samples so far."""
        sums = {"loss": self.loss} | self.sums
        return {name: value / self.samples for name, value in sums.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return the sums as plain numbers."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "EpochTotals":
        """Return the totals that `as_dict` gave, also in earlier versions."""
        saved = dict(saved)
        if "correct" in saved:
            saved["sums"] = {"accuracy": float(saved.pop("correct"))}
        return cls(**saved)


@dataclass
class Training:
    """A network in training and where it stands.

    Attributes:
        fabric: Places tensors and processes.
        model: The network as Fabric wrapped it.
        optimizer: Its optimizer as Fabric wrapped it.
        settings: How it is trained.
        steps_per_epoch: Steps an epoch.
        task: What it learns.
        average: The moving mean of its weights; None where there is none.
        step: Steps done since the beginning.
        target: Value the logits are drawn to in the next step.
        gate_weight: Factor on the loss of the network's gates.
        totals: Sums over the current epoch so far.
    """

    fabric: Any
    model: Any
    optimizer: Any
    settings: TrainSettings
    steps_per_epoch: int
    task: Task
    average: WeightAverage | None = None
    step: int = 0
    target: float = 1.0
    gate_weight: float = 0.0
    totals: EpochTotals = field(default_factory=EpochTotals)

    @property
    def network(self) -> nn.Module:
        """The network itself, without wrappers."""
        module = self.model.module
        return module.module if isinstance(module, nn.parallel.DistributedDataParallel) else module


def train_epoch(
    training: Training,
    source: BatchSource,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    after_batch: Callable[[], None] = lambda: None,
) -> bool:
    """Train on the rest of the source's epoch.

    Args:
        training: The network; its step, target and totals move on.
        source: The batches; it moves on with each.
        should_stop: Asked after every batch; True ends the epoch early.
        after_batch: Called after every batch.

    Returns:
        Whether the epoch is complete.

    Raises:
        TrainingError: The loss or a gradient is NaN or infinite; names epoch, batch and layer. The
            weights are those of the step before.
    """
    training.model.train()
    if source.batch == 0:
        training.totals = EpochTotals()
        training.target = _initial_target(training.settings)
    began, waited = time.perf_counter(), source.wait_s
    for batch in source:
        where = f"epoch {source.epoch + 1}, batch {source.batch}"
        _train_step(training, batch, where=where)
        now = time.perf_counter()
        training.totals.seconds += now - began
        training.totals.wait_s += source.wait_s - waited
        began, waited = now, source.wait_s
        after_batch()
        if should_stop():
            return False
    return True


def _initial_target(settings: TrainSettings) -> float:
    return 1.0 if settings.loss_target == "mean_threshold" else float(settings.loss_target)


def _train_step(training: Training, batch: Any, *, where: str) -> None:
    with sharing_batch(training.task.samples(batch), device=batch.frames.device) as share:
        _step_together(training, batch, share, where=where)


def _step_together(training: Training, batch: Any, share: Share, *, where: str) -> None:
    """Take a step on a batch, of which this process has a share; all processes take the same step."""
    settings, optimizer = training.settings, training.optimizer
    set_learning_rates(optimizer, training.step, steps_per_epoch=training.steps_per_epoch, settings=settings)
    # Kept so that a batch that fails can be run again with the same dropout.
    random = torch.get_rng_state()
    optimizer.zero_grad()
    all_sums = [
        _backward(training, part, share, where=where)
        for part in training.task.parts(batch, settings.accumulate)
    ]
    gradient = _clip(training)
    if not math.isfinite(gradient):
        torch.set_rng_state(random)
        name = _first_nonfinite_gradient(training.network)
        raise _broken(training, batch.frames, f"{where}: the gradient of {name} is not finite")
    optimizer.step()
    keep_bounds(training.network, settings)
    if training.average is not None:
        training.average.update(training.network)
    if settings.loss_target == "mean_threshold":
        thresholds = mean_threshold(training.network)
        training.target = training.target if thresholds is None else thresholds
    training.step += 1
    training.totals.add(all_sums, gradient=gradient)


def _backward(training: Training, part: Any, share: Share, *, where: str) -> _BatchSums:
    """Add the gradients of a part of this process's share of a batch, by the part's samples."""
    random = torch.get_rng_state()
    try:
        with record_gates(training.model) as gates:
            found = training.task.loss(training.model, part, target=training.target)
    except QuantError as error:
        raise TrainingError(f"{where}: {error}") from error
    loss, of_gates = found.loss, gates.loss()
    samples = training.task.samples(part)
    sums = _whole_batch(share, samples, found, gate_loss=of_gates)
    if of_gates is not None:
        loss = loss + training.gate_weight * of_gates
    if not math.isfinite(sums.loss + sums.gate_loss):
        torch.set_rng_state(random)
        mean = (sums.loss + sums.gate_loss) / sums.samples
        raise _broken(training, part.frames, f"{where}: the loss is {mean}")
    factor = samples / share.samples * (1.0 if share.processes == 1 else share.loss_factor)
    training.fabric.backward(loss if factor == 1 else loss * factor)
    return sums


def _broken(training: Training, frames: Tensor, what: str) -> TrainingError:
    """Return the error of a batch that cannot be trained on; the batch is run again to find out where."""
    # On a GPU this is how a scale that is not above 0 comes to light.
    scale = collapsed(training.network)
    if scale is not None:
        return TrainingError(f"{what}; {scale}")
    # Whatever is in this process's samples, or in another's: the earliest.
    places = gather_from_processes(first_nonfinite_layer(training.network, frames))
    where = min(places, key=lambda place: (place == "none", place != "the input frames"))
    return TrainingError(
        f"{what}; first non-finite output: {where}; "
        "lower training.learning_rate or set training.gradient_clip"
    )


def _clip(training: Training) -> float:
    """Clip the gradients and return their norm before that.

    With loss scaling 0 is returned where the norm is unknown or infinite: scaling finds such gradients
    itself and leaves out the step.
    """
    scaled = training.settings.precision == "fp16"
    limit = training.settings.gradient_clip
    if scaled and limit is None:
        return 0.0
    norm = training.fabric.clip_gradients(
        training.model,
        training.optimizer,
        max_norm=math.inf if limit is None else limit,
        error_if_nonfinite=False,
    )
    gradient = float(norm)
    return 0.0 if scaled and not math.isfinite(gradient) else gradient


def _first_nonfinite_gradient(network: nn.Module) -> str:
    for name, parameter in network.named_parameters():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            return repr(name)
    return "all parameters together"


def _whole_batch(share: Share, samples: int, found: BatchLoss, *, gate_loss: Tensor | None) -> _BatchSums:
    """Return sums over the samples of all processes, the same in each."""
    of_gates = 0.0 if gate_loss is None else gate_loss.item()
    here = [samples, found.loss.item() * samples, of_gates * samples, *found.sums.values()]
    if share.processes > 1:
        device = found.loss.device
        here = sum_over_processes(torch.tensor(here, dtype=torch.float64, device=device)).tolist()
    return _BatchSums(round(here[0]), here[1], here[2], dict(zip(found.sums, here[3:], strict=True)))

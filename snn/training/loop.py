"""One epoch of training, and evaluation. A batch has `.frames` [T, B, P, H, W] and `.labels` [B]."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from snn.errors import QuantError, TrainingError
from snn.losses import Mixed, mean_threshold, tet_loss
from snn.metrics.classification import Classification, ClassificationMeter
from snn.processes import Share, gather_from_processes, sharing_batch, sum_over_processes
from snn.quant.apply import collapsed
from snn.sparsity.apply import record_gates
from snn.training.nonfinite import first_nonfinite_layer
from snn.training.optimizer import keep_bounds, set_learning_rates
from snn.training.settings import TrainSettings


class LabelledFrames(Protocol):
    """A batch."""

    @property
    def frames(self) -> Tensor:
        """Shape [T, B, P, H, W]."""

    @property
    def labels(self) -> Tensor:
        """Shape [B], int64."""


class BatchSource(Protocol):
    """Batches of an epoch, which knows where it stands; `events.batches.Feed` is one."""

    epoch: int
    batch: int
    wait_s: float

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...

    def state_dict(self) -> dict[str, int]:
        """Return where the source stands."""

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go there."""


class _BatchSums(NamedTuple):
    """Sums over the samples of a batch, in all processes."""

    samples: int
    correct: int
    loss: float
    gate_loss: float


@dataclass
class EpochTotals:
    """Sums over the batches of an epoch so far, of all processes; seconds are this process's.

    Attributes:
        samples: Samples trained on.
        correct: Of these, classified right before their step.
        loss: Sum over samples of their batch's loss, without that of gates.
        gate_loss: Sum over samples of their batch's loss of gates, without its weight.
        seconds: Seconds spent on them.
        wait_s: Of these, seconds waited for data.
        largest_gradient: Largest norm of the gradients of a step.
    """

    samples: int = 0
    correct: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    wait_s: float = 0.0
    largest_gradient: float = 0.0
    gate_loss: float = 0.0

    def add(self, batch: _BatchSums, *, gradient: float) -> None:
        """Add a batch, and the norm of its gradients."""
        self.samples += batch.samples
        self.correct += batch.correct
        self.loss += batch.loss
        self.gate_loss += batch.gate_loss
        self.largest_gradient = max(self.largest_gradient, gradient)

    def as_dict(self) -> dict[str, float]:
        """Return the sums as plain numbers."""
        return asdict(self)


@dataclass
class Training:
    """A network in training and where it stands.

    Attributes:
        fabric: Places tensors and processes.
        model: The network as Fabric wrapped it.
        optimizer: Its optimizer as Fabric wrapped it.
        settings: How it is trained.
        steps_per_epoch: Steps an epoch.
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
        _train_step(training, batch.frames, batch.labels, mixed_of(batch), where=where)
        now = time.perf_counter()
        training.totals.seconds += now - began
        training.totals.wait_s += source.wait_s - waited
        began, waited = now, source.wait_s
        after_batch()
        if should_stop():
            return False
    return True


def mixed_of(batch: Any) -> Mixed | None:
    """Return the second labels of a batch whose samples are made of two; None of any other."""
    if getattr(batch, "other_labels", None) is None:
        return None
    return Mixed(batch.other_labels, batch.own_share)


def _initial_target(settings: TrainSettings) -> float:
    return 1.0 if settings.loss_target == "mean_threshold" else float(settings.loss_target)


def _train_step(
    training: Training, frames: Tensor, labels: Tensor, mixed: Mixed | None, *, where: str
) -> None:
    with sharing_batch(len(labels), device=labels.device) as share:
        _step_together(training, frames, labels, mixed, share, where=where)


def _step_together(
    training: Training,
    frames: Tensor,
    labels: Tensor,
    mixed: Mixed | None,
    share: Share,
    *,
    where: str,
) -> None:
    """Take a step on a batch, of which this process has a share; all processes take the same step."""
    settings, optimizer = training.settings, training.optimizer
    set_learning_rates(optimizer, training.step, steps_per_epoch=training.steps_per_epoch, settings=settings)
    # Kept so that a batch that fails can be run again with the same dropout.
    random = torch.get_rng_state()
    try:
        with record_gates(training.model) as gates:
            logits = training.model(frames)
    except QuantError as error:
        raise TrainingError(f"{where}: {error}") from error
    loss = tet_loss(
        logits,
        labels,
        weight=settings.loss_weight,
        target=training.target,
        loss_of=settings.loss_of,
        label_smoothing=settings.label_smoothing,
        mixed=mixed,
    )
    of_gates = gates.loss()
    sums = _whole_batch(share, logits, labels, loss=loss, gate_loss=of_gates)
    if of_gates is not None:
        loss = loss + training.gate_weight * of_gates
    if not math.isfinite(sums.loss + sums.gate_loss):
        torch.set_rng_state(random)
        found = (sums.loss + sums.gate_loss) / sums.samples
        raise _broken(training, frames, f"{where}: the loss is {found}")
    optimizer.zero_grad()
    training.fabric.backward(loss if share.processes == 1 else loss * share.loss_factor)
    gradient = _clip(training)
    if not math.isfinite(gradient):
        torch.set_rng_state(random)
        name = _first_nonfinite_gradient(training.network)
        raise _broken(training, frames, f"{where}: the gradient of {name} is not finite")
    optimizer.step()
    keep_bounds(training.network, settings)
    if settings.loss_target == "mean_threshold":
        thresholds = mean_threshold(training.network)
        training.target = training.target if thresholds is None else thresholds
    training.step += 1
    training.totals.add(sums, gradient=gradient)


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


def _whole_batch(
    share: Share, logits: Tensor, labels: Tensor, *, loss: Tensor, gate_loss: Tensor | None
) -> _BatchSums:
    """Return sums over the samples of all processes, the same in each."""
    correct = int((logits.detach().float().mean(dim=0).argmax(dim=1) == labels).sum())
    of_gates = 0.0 if gate_loss is None else gate_loss.item()
    here = [float(correct), loss.item() * len(labels), of_gates * len(labels)]
    if share.processes > 1:
        here = sum_over_processes(torch.tensor(here, dtype=torch.float64, device=logits.device)).tolist()
    return _BatchSums(share.total, int(here[0]), here[1], here[2])


@torch.no_grad()
def evaluate(
    fabric: Any, network: nn.Module, batches: Iterable[LabelledFrames], classes: int
) -> Classification:
    """Classify every sample of this process's batches and return the result over all processes.

    Args:
        fabric: Gives device and precision.
        network: The network without wrappers, so that processes may have unequal numbers of batches.
        batches: The samples, each exactly once over all processes.
        classes: Number of classes K.
    """
    network.eval()
    meter = ClassificationMeter(classes, fabric.device)
    for batch in batches:
        with fabric.autocast():
            logits = network(batch.frames)
        meter.update(logits, batch.labels)
    return meter.compute()

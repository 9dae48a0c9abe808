"""Training from the first epoch to the last: train, validate, keep the best, checkpoint, resume."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from snn.errors import ModelError, TrainingError
from snn.metrics.activity import decays, record_rates, thresholds
from snn.models.weights import load_weights
from snn.neurons.shared_norm import share_norms
from snn.processes import sum_over_processes
from snn.sparsity.apply import gate_settings, in_warm_up, record_gates
from snn.training.average import WeightAverage
from snn.training.checkpoint import load_checkpoint, random_state, save_checkpoint, set_random_state
from snn.training.loop import BatchSource, EpochTotals, Training, train_epoch
from snn.training.optimizer import build_optimizer, learning_rate_at
from snn.training.settings import TrainSettings
from snn.training.task import Task, Validation

LAST, BEST = "last.pt", "best.pt"


@dataclass(frozen=True)
class EpochRecord:
    """What an epoch gave.

    Attributes:
        epoch: Number of the epoch, from 1.
        step: Steps done since the beginning.
        learning_rate: Of the epoch's last step.
        train: Means over the epoch's samples, augmented and with dropout, before each step: `loss`, and what
            the task adds up, such as `accuracy`.
        validation: After the epoch: `loss`, the task's score under its name, and what it tells beside.
        largest_gradient: Largest gradient norm of a step, before clipping.
        train_s: Seconds spent training.
        data_wait_share: Share of these spent waiting for data.
        loss_target: Value the logits were drawn to after the epoch's last step.
        thresholds: By layer of neurons.
        decays: By layer of neurons that learns it.
        firing_rates: By layer of neurons, over the validation samples.
        best: Whether this is the best epoch so far. An epoch in which gates keep everything still is not.
        gate_loss: Of the gates over the epoch, without its weight; 0 without gates.
        kept_shares: By block with a gate, over the validation samples, one number a step.
        mask_changes: By block with a gate, the share of its decisions in which two validation samples differ.
    """

    epoch: int
    step: int
    learning_rate: float
    train: dict[str, float]
    validation: dict[str, float]
    largest_gradient: float
    train_s: float
    data_wait_share: float
    loss_target: float
    thresholds: dict[str, float]
    decays: dict[str, float]
    firing_rates: dict[str, float]
    best: bool
    gate_loss: float = 0.0
    kept_shares: dict[str, list[float]] = field(default_factory=dict)
    mask_changes: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON types; numbers of `train` and `validation` as `train_loss`, ..."""
        content: dict[str, Any] = {}
        for name, value in asdict(self).items():
            if name in ("train", "validation"):
                content |= {f"{name}_{inner}": number for inner, number in value.items()}
            else:
                content[name] = value
        return content


class Observer(Protocol):
    """Who is told how training goes. Only the first process tells."""

    def on_batch(self, training: Training, source: BatchSource) -> None:
        """A batch was trained on."""

    def on_epoch(self, record: EpochRecord) -> None:
        """An epoch is complete. Its checkpoint is written after this call."""


@dataclass(frozen=True)
class FitResult:
    """How training ended.

    Attributes:
        completed: False where it was stopped before the last epoch.
        best_epoch: Epoch with the best validation score, from 1; 0 where there is none yet.
        best_score: Its score.
    """

    completed: bool
    best_epoch: int
    best_score: float


@dataclass
class _Best:
    """The best epoch so far: highest score, then lowest loss, then earliest."""

    epoch: int = 0
    score: float = -1.0
    loss: float = float("inf")

    def improved_by(self, result: Validation) -> bool:
        return (result.score, -result.loss) > (self.score, -self.loss)


def fit(
    fabric: Any,
    network: nn.Module,
    train: BatchSource,
    validation: Callable[[], Any],
    *,
    settings: TrainSettings,
    task: Task,
    folder: Path,
    observer: Observer,
    resume: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    before_epoch: Callable[[nn.Module], None] = lambda network: None,
) -> FitResult:
    """Train a network and keep its checkpoints in a folder.

    `last.pt` holds everything needed to go on bit for bit, `best.pt` the weights of the best epoch.

    Args:
        fabric: Launched Fabric.
        network: The network; left with the weights of the last step.
        train: Training batches; shuffled by itself, the same for every run with its seed.
        validation: Gives the validation batches of one pass.
        settings: How to train.
        task: What it learns.
        folder: Where checkpoints are; exists.
        observer: Told of batches and epochs.
        resume: Go on from `last.pt`.
        should_stop: Asked after every batch; True saves and ends.
        before_epoch: Called with the network, without wrappers, in every process before an epoch's first
            batch, such as to measure the ranges of quantisers; draws no random numbers.

    Raises:
        TrainingError: The loss is not finite, or the checkpoint does not fit.
    """
    training = _set_up(fabric, network, settings, task, steps_per_epoch=len(train))
    best = _Best()
    if resume:
        best = _restore(training, train, folder / LAST)
    else:
        _save(training, train, best, folder / LAST)
    saved_at = time.monotonic()

    stop = False

    def after_batch() -> None:
        nonlocal saved_at, stop
        if fabric.global_rank == 0:
            observer.on_batch(training, train)
        is_due = time.monotonic() - saved_at > settings.checkpoint_every_s
        stop, is_due = _any(fabric, should_stop(), is_due)
        if is_due:
            _save(training, train, best, folder / LAST)
            saved_at = time.monotonic()

    def stop_asked() -> bool:
        return stop

    try:
        while train.epoch < settings.epochs:
            if train.batch == 0:
                before_epoch(training.network)
            complete = train_epoch(training, train, should_stop=stop_asked, after_batch=after_batch)
            if not complete:
                _save(training, train, best, folder / LAST)
                return FitResult(False, best.epoch, best.score)
            best = _finish_epoch(training, train.epoch, validation, best, folder, observer)
            training.totals = EpochTotals()
            _save(training, train, best, folder / LAST)
            saved_at = time.monotonic()
    except TrainingError as error:
        raise TrainingError(f"{error}; last good checkpoint: {folder / LAST}") from error
    return FitResult(True, best.epoch, best.score)


def _set_up(
    fabric: Any, network: nn.Module, settings: TrainSettings, task: Task, *, steps_per_epoch: int
) -> Training:
    if fabric.world_size > 1:
        # Otherwise every process would normalise by its own share of the batch.
        share_norms(network)
    # Fused kernels undo loss scaling themselves, which would hide the gradients from clipping.
    optimizer = build_optimizer(network, settings, fused=settings.precision != "fp16")
    model, optimizer = fabric.setup(network, optimizer)
    training = Training(fabric, model, optimizer, settings, steps_per_epoch, task)
    if settings.average_decay is not None:
        training.average = WeightAverage(training.network, decay=settings.average_decay)
    gates = gate_settings(network)
    if gates is None:
        return training
    steps = settings.epochs * steps_per_epoch
    if gates.warm_up_batches >= steps:
        raise TrainingError(
            f"sparsity.warm_up_batches: found {gates.warm_up_batches}, expected fewer than the {steps} steps "
            "of this training, or gates never leave anything out; set fewer, or train for more epochs"
        )
    training.gate_weight = gates.loss_weight
    return training


def _finish_epoch(
    training: Training,
    epoch: int,
    validation: Callable[[], Any],
    best: _Best,
    folder: Path,
    observer: Observer,
) -> _Best:
    """Validate, keep the weights where they are the best so far, and tell the observer."""
    network, task = training.network, training.task
    averaged = nullcontext() if training.average is None else training.average.in_place(network)
    with averaged:
        with record_rates(network) as activity, record_gates(network) as gates:
            result = task.validate(training.fabric, network, validation())
        # While everything is kept still, the score says nothing about the gates.
        is_best = best.improved_by(result) and not in_warm_up(network)
        if is_best:
            best = _Best(epoch, result.score, result.loss)
            if training.fabric.global_rank == 0:
                content = {"epoch": epoch, f"validation_{task.score}": result.score}
                save_checkpoint(folder / BEST, {"model": network.state_dict()} | content)
    totals = training.totals
    activity, gates = activity.with_other_processes(), gates.with_other_processes()
    rate = learning_rate_at(
        training.step - 1, steps_per_epoch=training.steps_per_epoch, settings=training.settings
    )
    record = EpochRecord(
        epoch=epoch,
        step=training.step,
        learning_rate=rate,
        train=totals.means(),
        validation={"loss": result.loss, task.score: result.score} | result.numbers,
        largest_gradient=totals.largest_gradient,
        train_s=totals.seconds,
        data_wait_share=totals.wait_s / totals.seconds if totals.seconds else 0.0,
        loss_target=training.target,
        thresholds=thresholds(network),
        decays=decays(network),
        firing_rates=activity.rates(),
        best=is_best,
        gate_loss=totals.gate_loss / totals.samples,
        kept_shares=gates.kept_shares(),
        mask_changes=gates.changes_between_samples(),
    )
    if training.fabric.global_rank == 0:
        observer.on_epoch(record)
    return best


def _any(fabric: Any, *here: bool) -> list[bool]:
    """Return whether each of these holds in any process; all must ask together."""
    if fabric.world_size == 1:
        return list(here)
    flags = torch.tensor(here, dtype=torch.int32, device=fabric.device)
    return [count > 0 for count in sum_over_processes(flags).tolist()]


def _save(training: Training, source: BatchSource, best: _Best, path: Path) -> None:
    """Write everything that decides how training goes on. Every process must call it.

    Raises:
        TrainingError: A weight is not finite, so this would be no checkpoint to go on from.
    """
    for name, parameter in training.network.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise TrainingError(
                f"epoch {source.epoch + 1}, batch {source.batch}: {name} is not finite after the step; "
                "lower training.learning_rate or set training.gradient_clip"
            )
    if training.fabric.global_rank == 0:
        save_checkpoint(
            path,
            {
                "model": training.network.state_dict(),
                "optimizer": training.optimizer.state_dict(),
                "precision": training.fabric.strategy.precision.state_dict(),
                "step": training.step,
                "target": training.target,
                "steps_per_epoch": training.steps_per_epoch,
                "feed": source.state_dict(),
                "best": asdict(best),
                # The same in every process, so that any number of them can go on.
                "random": [random_state()],
                "totals": [training.totals.as_dict()],
                "average": None if training.average is None else training.average.state_dict(),
            },
        )
    training.fabric.barrier()


def _restore(training: Training, source: BatchSource, path: Path) -> _Best:
    """Put network, optimizer, feed and random generators where a checkpoint left them.

    Raises:
        TrainingError: The checkpoint is of another network or data set.
    """
    saved = load_checkpoint(path)
    found, expected = training.steps_per_epoch, saved["steps_per_epoch"]
    if found != expected:
        raise TrainingError(
            f"{path}: saved with {expected} steps an epoch, resumed with {found}; use {expected}"
        )
    if len(saved["random"]) != 1:
        raise TrainingError(
            f"{path}: saved by an earlier version with {len(saved['random'])} processes, each with its own "
            "random generators; resume with that version, or start a new run"
        )
    try:
        load_weights(training.network, saved["model"], where=path)
    except ModelError as error:
        raise TrainingError(str(error)) from error
    training.optimizer.load_state_dict(saved["optimizer"])
    training.fabric.strategy.precision.load_state_dict(saved["precision"])
    training.step, training.target = saved["step"], saved["target"]
    training.totals = EpochTotals.from_dict(saved["totals"][0])
    if training.average is not None:
        training.average.load_state_dict(saved["average"])
    source.load_state_dict(saved["feed"])
    set_random_state(saved["random"][0])
    # Earlier versions classified alone.
    return _Best(**{"score" if name == "accuracy" else name: value for name, value in saved["best"].items()})

"""Classification as a task: the TET loss, accuracy. A batch has `.frames` [T, B, ...], `.labels` [B]."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from snn.losses import Mixed, tet_loss
from snn.metrics.classification import Classification, ClassificationMeter
from snn.training.settings import TrainSettings
from snn.training.task import BatchLoss, Validation


class LabelledFrames(Protocol):
    """A batch."""

    @property
    def frames(self) -> Tensor:
        """Shape [T, B, P, H, W]."""

    @property
    def labels(self) -> Tensor:
        """Shape [B], int64."""


@dataclass(frozen=True)
class _Part:
    """Some samples of a batch."""

    frames: Tensor
    labels: Tensor
    other_labels: Tensor | None
    own_share: Tensor | None


@dataclass(frozen=True)
class ClassificationTask:
    """Learns which class a sample is of.

    Attributes:
        settings: Of the loss.
        classes: Number of classes K.
    """

    settings: TrainSettings
    classes: int
    score: str = "accuracy"

    def samples(self, batch: LabelledFrames) -> int:
        """Return how many samples a batch has."""
        return len(batch.labels)

    def parts(self, batch: LabelledFrames, count: int) -> list[Any]:
        """Divide a batch into so many batches, or as many as it has samples."""
        count = min(count, len(batch.labels))
        if count == 1:
            return [batch]
        mixed = mixed_of(batch)
        other, share = (None, None) if mixed is None else mixed
        return [
            _Part(
                batch.frames[:, chosen],
                batch.labels[chosen],
                None if other is None else other[chosen],
                None if share is None else share[chosen],
            )
            for chosen in torch.arange(len(batch.labels), device=batch.labels.device).tensor_split(count)
        ]

    def loss(self, model: nn.Module, batch: LabelledFrames, *, target: float) -> BatchLoss:
        """Return the TET loss and how many samples are classified right."""
        settings = self.settings
        logits = model(batch.frames)
        loss = tet_loss(
            logits,
            batch.labels,
            weight=settings.loss_weight,
            target=target,
            loss_of=settings.loss_of,
            label_smoothing=settings.label_smoothing,
            mixed=mixed_of(batch),
        )
        right = logits.detach().float().mean(dim=0).argmax(dim=1) == batch.labels
        return BatchLoss(loss, {"accuracy": float(right.sum())})

    def validate(self, fabric: Any, network: nn.Module, batches: Iterable[LabelledFrames]) -> Validation:
        """Return accuracy and cross entropy."""
        result = evaluate(fabric, network, batches, self.classes)
        return Validation(result.accuracy, result.loss)


def mixed_of(batch: Any) -> Mixed | None:
    """Return the second labels of a batch whose samples are made of two; None of any other."""
    if getattr(batch, "other_labels", None) is None:
        return None
    return Mixed(batch.other_labels, batch.own_share)


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

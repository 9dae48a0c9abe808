"""Detection as a task: the detector's own loss, and mean average precision after every epoch.

A batch has `.frames` [T, B, C, H, W], and lists of B tensors: `.boxes` [n, 4], `.labels` [n], `.ignore` [n].
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from snn.detection.detector import Detector
from snn.detection.predictions import DetectionLoss, Detections
from snn.processes import gather_from_processes, shared_batch, sum_over_processes
from snn.training.task import BatchLoss, Validation


class FramesWithBoxes(Protocol):
    """A batch."""

    @property
    def frames(self) -> Tensor:
        """Shape [T, B, C, H, W]."""

    @property
    def boxes(self) -> Sequence[Tensor]:
        """Of each window x0, y0, x1, y1 in pixels, float32, shape [n, 4]."""

    @property
    def labels(self) -> Sequence[Tensor]:
        """Of each window the class numbers, int64, shape [n]."""

    @property
    def ignore(self) -> Sequence[Tensor]:
        """Of each window which boxes are neither to be found nor background, bool, shape [n]."""

    @property
    def index(self) -> Tensor:
        """Number of each window in its store, int64, shape [B]."""


# Gives the score of detections, one entry a window, and numbers to be written down beside.
Scorer = Callable[[dict[int, Detections]], tuple[float, dict[str, float]]]


@dataclass(frozen=True)
class _Part:
    """Some windows of a batch."""

    frames: Tensor
    boxes: Sequence[Tensor]
    labels: Sequence[Tensor]
    ignore: Sequence[Tensor]
    index: Tensor


@dataclass(frozen=True)
class DetectionTask:
    """Learns which boxes a window has.

    The loss is that of the network's own settings. Outputs are turned into float32 before it, whatever the
    precision the network runs in. Where several processes share a batch, and in validation, it is that of all
    windows as one batch: divided by how many locations answer in all of them. A grid's loss is made of other
    means; it is shared by no processes.

    Attributes:
        score_windows: Returns the score of what was found in validation windows, by their numbers.
    """

    score_windows: Scorer
    score: str = "map"

    def samples(self, batch: FramesWithBoxes) -> int:
        """Return how many windows a batch has."""
        return len(batch.boxes)

    def parts(self, batch: FramesWithBoxes, count: int) -> list[Any]:
        """Divide a batch into so many batches, or as many as it has windows."""
        count = min(count, len(batch.boxes))
        if count == 1:
            return [batch]
        return [
            _Part(
                batch.frames[:, chosen],
                [batch.boxes[i] for i in chosen],
                [batch.labels[i] for i in chosen],
                [batch.ignore[i] for i in chosen],
                batch.index[chosen],
            )
            for chosen in (part.tolist() for part in torch.arange(len(batch.boxes)).tensor_split(count))
        ]

    def loss(self, model: nn.Module, batch: FramesWithBoxes, *, target: float) -> BatchLoss:
        """Return the detector's loss and its parts; the target belongs to losses that draw logits to one."""
        found = _loss(_detector(model), model(batch.frames), batch)
        windows, share, total = len(batch.boxes), shared_batch(), found.total
        factor = 1.0
        if share is not None:
            here = torch.tensor(found.positives, device=total.device)
            answering = max(int(sum_over_processes(here)), 1)
            # Gradients and sums are taken by each process's share of the windows.
            factor = max(found.positives, 1) / answering * share.total / share.samples
            total = total * factor
        return BatchLoss(
            total,
            {
                "classes": float(found.classes) * factor * windows,
                "boxes": float(found.boxes) * factor * windows,
                "positives": float(found.positives),
            },
        )

    @torch.no_grad()
    def validate(self, fabric: Any, network: nn.Module, batches: Iterable[FramesWithBoxes]) -> Validation:
        """Return the score and the loss over the windows of all processes."""
        network.eval()
        detector = _detector(network)
        here: dict[int, Detections] = {}
        loss, answering = 0.0, 0
        for batch in batches:
            with fabric.autocast():
                predictions = network(batch.frames)
            of_batch = _loss(detector, predictions, batch)
            loss += float(of_batch.total) * max(of_batch.positives, 1)
            answering += of_batch.positives
            for index, of_window in zip(batch.index.tolist(), detector.detections(predictions), strict=True):
                here[index] = Detections(*(tensor.cpu() for tensor in of_window))
        parts = gather_from_processes((here, loss, answering))
        found = {index: of_window for part in parts for index, of_window in part[0].items()}
        score, numbers = self.score_windows(dict(sorted(found.items())))
        loss, answering = (sum(part[n] for part in parts) for n in (1, 2))
        return Validation(score, loss / max(answering, 1), numbers)


def _loss(detector: Detector, predictions: Any, batch: FramesWithBoxes) -> DetectionLoss:
    return detector.loss(predictions, batch.boxes, batch.labels, batch.ignore)


def _detector(model: nn.Module) -> Detector:
    """Return the detector inside what Fabric wrapped."""
    found = model
    while not isinstance(found, Detector) and isinstance(getattr(found, "module", None), nn.Module):
        found = found.module  # type: ignore[assignment]
    assert isinstance(found, Detector), f"a DetectionTask trains a Detector, got {type(found).__name__}"
    return found

"""Accuracy, confusion and loss over a set of samples, summed exactly over batches and processes."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassConfusionMatrix


@dataclass(frozen=True)
class Classification:
    """How well a set of samples was classified.

    Attributes:
        samples: Samples counted.
        loss: Mean cross entropy of the time mean of the logits.
        accuracy: Share classified right, from 0 to 1.
        confusion: Samples by true class (rows) and prediction (columns), shape [K, K], int64.
    """

    samples: int
    loss: float
    accuracy: float
    confusion: np.ndarray


class ClassificationMeter:
    """Adds up batches of logits; `compute` gives the result over all processes."""

    def __init__(self, classes: int, device: torch.device | str = "cpu") -> None:
        self._confusion = MulticlassConfusionMatrix(num_classes=classes).to(device)
        self._loss = MeanMetric().to(device)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits [T, B, K], labels [B]. The prediction is the largest time mean."""
        mean = logits.float().mean(dim=0)
        self._confusion.update(mean, labels)
        self._loss.update(cross_entropy(mean, labels, reduction="none"))

    def compute(self) -> Classification:
        """Return the result. Every process must call it, and gets the same."""
        confusion = self._confusion.compute().cpu().numpy().astype(np.int64)
        samples = int(confusion.sum())
        return Classification(
            samples=samples,
            loss=float(self._loss.compute()),
            # Whole numbers divided once: torchmetrics' own accuracy is a float32.
            accuracy=int(np.trace(confusion)) / samples,
            confusion=confusion,
        )

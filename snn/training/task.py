"""What a network learns: the loss of a batch, and how good it is. The loop knows nothing else of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn


class BatchLoss(NamedTuple):
    """What a batch gave.

    Attributes:
        loss: Mean over its samples here, without that of gates; what is differentiated.
        sums: Numbers to be shown, each a sum over its samples here, such as those classified right. Always
            the same names.
    """

    loss: Tensor
    sums: dict[str, float]


@dataclass(frozen=True)
class Validation:
    """How good a network is on validation samples.

    Attributes:
        score: The larger, the better.
        loss: Decides between epochs of one score: the smaller, the better.
        numbers: What is written down beside both, by name.
    """

    score: float
    loss: float
    numbers: dict[str, float] = field(default_factory=dict)


class Task(Protocol):
    """A kind of training; `classification.ClassificationTask` and `detection.DetectionTask` are some."""

    @property
    def score(self) -> str:
        """Name of the score by which the best epoch is chosen, such as `accuracy`."""

    def samples(self, batch: Any) -> int:
        """Return how many samples a batch has."""

    def parts(self, batch: Any, count: int) -> list[Any]:
        """Divide a batch into so many batches, or as many as it has samples; all have some."""

    def loss(self, model: nn.Module, batch: Any, *, target: float) -> BatchLoss:
        """Run the model on a batch.

        Args:
            model: As Fabric wrapped it.
            batch: The batch.
            target: Value that logits are drawn to, where the task's loss does so.
        """

    def validate(self, fabric: Any, network: nn.Module, batches: Iterable[Any]) -> Validation:
        """Return how good the network, without wrappers, is on all processes' batches. All call it."""

"""What the reader of a set of pictures gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from events.errors import DamagedRecording


@dataclass(frozen=True)
class Part:
    """Pictures for training, or for testing.

    Attributes:
        images: Shape [N, P, H, W], uint8; P is 1 (grey) or 3 (red, green, blue).
        labels: Shape [N], int64.
    """

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Pictures:
    """All pictures of a set.

    Attributes:
        parts: By split; one that has no files is left out.
        class_names: In label order.
        problems: What is missing, one line each, for people.
    """

    parts: Mapping[str, Part]
    class_names: tuple[str, ...]
    problems: tuple[str, ...] = ()


def check_labels(path: Path, labels: np.ndarray, classes: int) -> None:
    """Raise DamagedRecording where a label is none of the set's classes."""
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise DamagedRecording(
            f"{path}: labels from {labels.min()} to {labels.max()}, expected 0 to {classes - 1}; "
            "it is another data set's file, or damaged"
        )

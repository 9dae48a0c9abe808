"""What a detector hands on: predictions at fixed places, and the detections and the loss made of them."""

from typing import NamedTuple

import torch
from torch import Tensor


class Predictions(NamedTuple):
    """What a network says at every location, for one window of each sample.

    Attributes:
        class_logits: One number a class, 0 to 1 behind the logistic function, shape [B, A, K].
        box_code: Where the box lies beside the location, shape [B, A, 4].
        locations: Anchors or cells, x0, y0, x1, y1 in pixels, shape [A, 4].
        state: Membranes after the last step, shape [B, ...], by name of the layer of neurons: handed to the
            next call, the network goes on from here. No gradient goes back through them.
        grid: Of a head that is a grid of cells: its output, shape [B, rows, columns, channels]; else None.
    """

    class_logits: Tensor
    box_code: Tensor
    locations: Tensor
    state: dict[str, Tensor]
    grid: Tensor | None = None


class Detections(NamedTuple):
    """What was found in one image, best first.

    Attributes:
        xyxy: x0, y0, x1, y1 in pixels, within the image, shape [N, 4].
        scores: From 0 to 1, shape [N].
        labels: Class numbers, int64, shape [N].
    """

    xyxy: Tensor
    scores: Tensor
    labels: Tensor


class DetectionLoss(NamedTuple):
    """The parts of the loss, weighted; scalars.

    Attributes:
        total: Their sum.
        classes: Which class, if any.
        boxes: Which box.
        positives: Number of locations in the batch that answer for a box.
    """

    total: Tensor
    classes: Tensor
    boxes: Tensor
    positives: int


def no_detections(like: Tensor) -> Detections:
    """Return nothing found, on the device of a tensor."""
    return Detections(
        like.new_zeros(0, 4), like.new_zeros(0), torch.zeros(0, dtype=torch.int64, device=like.device)
    )

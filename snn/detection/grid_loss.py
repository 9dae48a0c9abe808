"""The loss of a grid of boxes.

Source: Redmon et al., "You only look once", CVPR 2016, with the class loss of LT-SNN's released detector.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from snn.detection.boxes import box_iou, xywh_to_xyxy, xyxy_to_xywh
from snn.detection.grid import GridSettings, decode_grid, half, split_slots
from snn.errors import DetectionError
from snn.losses import tet_loss


@dataclass(frozen=True)
class GridLossSettings:
    """Weights of the parts of the loss; the default is what was released with LT-SNN.

    Attributes:
        place: Weight of the squared error of offsets and of square roots of sizes.
        empty: Weight of the squared objectness of boxes that answer for no target.
        class_weight: The lambda of `tet_loss` for the class scores.
        class_target: The target of `tet_loss` for the class scores.
    """

    place: float = 5.0
    empty: float = 0.5
    class_weight: float = 0.75
    class_target: float = 1.0


class GridLoss(NamedTuple):
    """The parts of the loss, weighted; scalars. `total` is their sum."""

    total: Tensor
    offset: Tensor
    shape: Tensor
    objectness: Tensor
    empty: Tensor
    classes: Tensor


class GridTargets(NamedTuple):
    """Where the targets of a batch lie in the grid; M of them in all images together.

    Attributes:
        image: Number of the image in the batch, shape [M].
        row: Row of the cell of the centre, shape [M].
        column: Column of that cell, shape [M].
        offsets: Row and column offset of the centre in cells, shape [M, 2].
        roots: Square roots of height and width as shares of the image, shape [M, 2].
        boxes: x0, y0, x1, y1 in pixels, shape [M, 4].
        labels: Class numbers, shape [M].
    """

    image: Tensor
    row: Tensor
    column: Tensor
    offsets: Tensor
    roots: Tensor
    boxes: Tensor
    labels: Tensor


def place_targets(
    boxes: Sequence[Tensor], labels: Sequence[Tensor], settings: GridSettings, *, like: Tensor
) -> GridTargets:
    """Find the cell of every target: the last row and column that begin at or before its centre.

    Args:
        boxes: For each image x0, y0, x1, y1 in pixels, shape [M_b, 4], none of them empty.
        labels: For each image the class numbers, int64, shape [M_b].
        settings: Of the grid.
        like: Tensor with the dtype and device of the result.
    """
    if [len(b) for b in boxes] != [len(each) for each in labels]:
        raise DetectionError("boxes and labels: found other numbers in an image, expected one label a box")
    counts = torch.tensor([len(b) for b in boxes], device=like.device)
    image = torch.repeat_interleave(torch.arange(len(boxes), device=like.device), counts)
    all_boxes = torch.cat(list(boxes)).to(like)
    x, y, width, height = xyxy_to_xywh(all_boxes).unbind(dim=-1)
    if bool(((width <= 0) | (height <= 0)).any()):
        raise DetectionError("boxes: found one without width or height; leave empty boxes out")
    centre = torch.stack([y + half(height, settings.arithmetic), x + half(width, settings.arithmetic)], -1)
    lines = settings.lines_px(like)
    # A centre left of or above the image belongs to the first cell.
    cell = torch.stack([(centre[:, i, None] >= lines[i]).sum(-1).clamp(min=1) - 1 for i in range(2)], dim=-1)
    begins = torch.stack([lines[i][cell[:, i]] for i in range(2)], dim=-1)
    offsets = (centre - begins) / like.new_tensor(settings.cell_px())
    roots = (torch.stack([height, width], dim=-1) / like.new_tensor(settings.image_hw)).sqrt()
    return GridTargets(
        image, cell[:, 0], cell[:, 1], offsets, roots, all_boxes, torch.cat(list(labels)).to(like.device)
    )


def overlaps(predicted_xywh: Tensor, targets: Tensor, settings: GridSettings) -> Tensor:
    """Return how predicted boxes [M, P, 4] overlap their target x0, y0, x1, y1 [M, 4]; shape [M, P]."""
    if settings.arithmetic == "published":
        predicted_xywh = predicted_xywh.trunc()
    return box_iou(xywh_to_xyxy(predicted_xywh), targets[:, None], arithmetic=settings.arithmetic)


def grid_loss(
    output: Tensor,
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    *,
    grid: GridSettings,
    settings: GridLossSettings | None = None,
) -> GridLoss:
    """Return the loss of a grid against the boxes in each image.

    A target is answered for by the box that overlaps it most, of those of the cell its centre is in, the
    first among equals. With o the offsets, r the square roots of sizes, c the objectness of that box, u its
    overlap with the target, through which no gradient goes, s the class scores of the cell, and means over
    targets:

        offset     = place * mean |o - o_target|^2
        shape      = place * mean |r - r_target|^2
        objectness = mean (c - u)^2
        empty      = empty * mean c^2 over all boxes of the batch that answer for no target
        classes    = tet_loss(s, labels, class_weight, class_target), of one step

    Without any target only `empty` is left; the others are 0.

    Args:
        output: What the network says, shape [B, rows, columns, channels].
        boxes: For each image x0, y0, x1, y1 in pixels, shape [M_b, 4].
        labels: For each image the class numbers, int64, shape [M_b].
        grid: What the numbers of the output mean.
        settings: Weights; None takes the released ones.
    """
    settings = settings or GridLossSettings()
    if len(boxes) != len(output) or len(labels) != len(output):
        raise DetectionError(
            f"boxes and labels: found {len(boxes)} and {len(labels)} images, expected {len(output)}"
        )
    offsets, roots, _, _ = split_slots(output, grid)
    predicted = decode_grid(output, grid)
    targets = place_targets(boxes, labels, grid, like=output)
    cell = targets.image, targets.row, targets.column
    with torch.no_grad():
        overlap, answering = overlaps(predicted.boxes_xywh[cell], targets.boxes, grid).max(dim=-1)
    box = (*cell, answering)
    idle = torch.ones_like(predicted.objectness, dtype=torch.bool)
    idle[box] = False
    empty = settings.empty * predicted.objectness[idle].square().sum() / idle.sum().clamp(min=1)
    if len(targets.labels) == 0:
        none = output.new_zeros(())
        return GridLoss(empty, none, none, none, empty, none)
    offset = settings.place * (offsets[box] - targets.offsets).square().sum(dim=-1).mean()
    shape = settings.place * (roots[box] - targets.roots).square().sum(dim=-1).mean()
    objectness = (predicted.objectness[box] - overlap).square().mean()
    classes = tet_loss(
        predicted.scores[cell][None],
        targets.labels,
        weight=settings.class_weight,
        target=settings.class_target,
    )
    total = offset + shape + objectness + empty + classes
    return GridLoss(total, offset, shape, objectness, empty, classes)

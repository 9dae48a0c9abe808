"""A grid of cells that each predict a few boxes, and which of them are detections.

YOLO's first form (Redmon et al., "You only look once", CVPR 2016), as in the detector released with LT-SNN.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from snn.detection.boxes import Arithmetic, check_arithmetic, clip_boxes, xywh_to_xyxy
from snn.detection.nms import keep_apart
from snn.errors import DetectionError

# The release adds this to the height of a row where it draws the lines between rows, against rounding.
PUBLISHED_ROW_EXTRA_PX = 1 / 3000


@dataclass(frozen=True)
class GridSettings:
    """What a grid predicts. The default is the detector released with LT-SNN, in exact arithmetic.

    A cell predicts, with P boxes and K classes, 5 P + K numbers, in this order:

        P row offsets and P column offsets: the centre of a box, from the cell's top left, in cells
        P heights and P widths: square roots of the share of the image
        P objectness, before the logistic function
        K class scores

    Attributes:
        cells_hw: Rows and columns of the grid.
        boxes_per_cell: P.
        classes: K.
        image_hw: Height and width of the image in pixels.
        arithmetic: `exact`, or `published`: half a size is rounded down to whole pixels, rows lie a little
            further apart, overlap with a target is that of `box_iou` of boxes cut to whole pixels, and
            boxes are clipped as `clip_boxes` says there.
    """

    cells_hw: tuple[int, int] = (6, 8)
    boxes_per_cell: int = 2
    classes: int = 2
    image_hw: tuple[int, int] = (223, 287)
    arithmetic: Arithmetic = "exact"

    def __post_init__(self) -> None:
        check_arithmetic(self.arithmetic)
        for name, value in (
            ("cells_hw", min(self.cells_hw)),
            ("boxes_per_cell", self.boxes_per_cell),
            ("classes", self.classes),
            ("image_hw", min(self.image_hw)),
        ):
            if value < 1:
                raise DetectionError(f"{name}: found {getattr(self, name)}, expected 1 or more")

    @property
    def channels(self) -> int:
        """Numbers a cell predicts."""
        return 5 * self.boxes_per_cell + self.classes

    def cell_px(self) -> tuple[float, float]:
        """Return height and width of a cell in pixels."""
        return self.image_hw[0] / self.cells_hw[0], self.image_hw[1] / self.cells_hw[1]

    def lines_px(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return where rows and columns begin in pixels, shapes [rows] and [columns], typed as `like`."""
        height, width = self.cell_px()
        if self.arithmetic == "published":
            height += PUBLISHED_ROW_EXTRA_PX
        rows, columns = self.cells_hw
        return torch.arange(rows).to(like) * height, torch.arange(columns).to(like) * width


class Predictions(NamedTuple):
    """What a grid predicts, cell by cell.

    Attributes:
        boxes_xywh: Top left corner, width and height in pixels, shape [B, rows, columns, P, 4].
        objectness: From 0 to 1, shape [B, rows, columns, P].
        scores: Class scores as they come, shape [B, rows, columns, K].
    """

    boxes_xywh: Tensor
    objectness: Tensor
    scores: Tensor


class Detections(NamedTuple):
    """What was found in one image, in the order of the cells.

    Attributes:
        boxes: x0, y0, x1, y1 in pixels, shape [N, 4].
        labels: Class numbers, shape [N], int64.
        scores: The largest class score as it comes, shape [N]; what the release orders detections by.
        objectness: From 0 to 1, shape [N].
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    objectness: Tensor


def split_slots(output: Tensor, settings: GridSettings) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cut the output of a network, shape [B, rows, columns, channels], into what its numbers mean.

    Returns:
        Offsets (row, column) and square roots of sizes (height, width), [..., P, 2]; objectness before the
        logistic function, [..., P]; class scores, [..., K].
    """
    expected = (*settings.cells_hw, settings.channels)
    if output.dim() != 4 or output.shape[1:] != expected:
        wanted = ", ".join(str(size) for size in expected)
        raise DetectionError(f"output: found shape {tuple(output.shape)}, expected [B, {wanted}]")
    P = settings.boxes_per_cell
    boxes = output[..., : 4 * P].unflatten(-1, (4, P)).transpose(-1, -2)
    return boxes[..., :2], boxes[..., 2:], output[..., 4 * P : 5 * P], output[..., 5 * P :]


def half(size: Tensor, arithmetic: Arithmetic) -> Tensor:
    """Return half a size; `published` rounds down to whole pixels."""
    return torch.floor(size / 2) if arithmetic == "published" else size / 2


def decode_grid(output: Tensor, settings: GridSettings) -> Predictions:
    """Return the boxes of every cell; output of shape [B, rows, columns, channels]."""
    offsets, roots, objectness, scores = split_slots(output, settings)
    rows, columns = settings.lines_px(output)
    cell_height, cell_width = settings.cell_px()
    height, width = roots[..., 0] ** 2 * settings.image_hw[0], roots[..., 1] ** 2 * settings.image_hw[1]
    y = rows[:, None, None] + offsets[..., 0] * cell_height - half(height, settings.arithmetic)
    x = columns[:, None] + offsets[..., 1] * cell_width - half(width, settings.arithmetic)
    return Predictions(torch.stack([x, y, width, height], dim=-1), objectness.sigmoid(), scores)


def detect(
    predictions: Predictions,
    settings: GridSettings,
    *,
    least_objectness: float = 0.4,
    largest_iou: float = 0.5,
    within_class: bool = True,
) -> list[Detections]:
    """Return the detections of each image: clipped, of enough objectness, not too close to a better one.

    Args:
        predictions: What the grid predicts.
        settings: Of that grid.
        least_objectness: Objectness must be above.
        largest_iou: Of two boxes that overlap by more, the one of less objectness is left out.
        within_class: Boxes of other classes may overlap as they like; the release does not let them.
    """
    found = []
    for boxes_xywh, objectness, scores in zip(*predictions, strict=True):
        chosen = objectness > least_objectness
        boxes = clip_boxes(
            xywh_to_xyxy(boxes_xywh[chosen]), image_hw=settings.image_hw, arithmetic=settings.arithmetic
        )
        best, labels = scores[:, :, None].expand(*chosen.shape, -1)[chosen].max(dim=-1)
        kept = keep_apart(
            boxes, objectness[chosen], largest_iou=largest_iou, labels=labels if within_class else None
        )
        found.append(Detections(boxes[kept], labels[kept], best[kept], objectness[chosen][kept]))
    return found

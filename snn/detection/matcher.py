"""Which anchor, or which cell of a map, answers for which box.

Every rule gives one number an anchor: that of its box, `BACKGROUND`, or `LEFT_OUT` of the loss. Every box is
answered for: an anchor that a box needs is its own, however much it overlaps another.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from snn.detection.boxes import box_iou
from snn.errors import DetectionError

BACKGROUND = -1
LEFT_OUT = -2
# A box is answered for at the level whose stride is nearest to a quarter of the square root of its area.
# Source: RetinaNet's anchors are four strides large (Lin et al., "Focal Loss", ICCV 2017, section 4).
STRIDES_PER_BOX = 4.0


@dataclass(frozen=True)
class MatcherSettings:
    """How much an anchor has to overlap a box.

    Attributes:
        positive_iou: An anchor answers for the box it overlaps most, if by so much.
        negative_iou: An anchor that overlaps no box by so much is background; in between it is left out.
        radius: Of cells without anchors: those answer whose centre is so many strides or less from a box's,
            along both axes, and inside it. 1.5 in FCOS (Tian et al., "FCOS", TPAMI 2020).
    """

    positive_iou: float = 0.5
    negative_iou: float = 0.4
    radius: float = 1.5

    def __post_init__(self) -> None:
        if not 0 < self.negative_iou <= self.positive_iou <= 1:
            raise DetectionError(
                f"positive_iou and negative_iou: found {self.positive_iou} and {self.negative_iou}, "
                "expected 0 < negative_iou <= positive_iou <= 1"
            )
        if not self.radius > 0:
            raise DetectionError(f"radius: found {self.radius}, expected a number above 0")


def match_anchors(
    anchors: Tensor, boxes: Tensor, settings: MatcherSettings, *, ignored: Tensor | None = None
) -> Tensor:
    """Return which box every anchor answers for, int64, shape [A].

    Source: Liu et al., "SSD", ECCV 2016, section 2.2, with the band that is left out of RetinaNet. Among
    boxes that an anchor overlaps equally the first has it.

    Args:
        anchors: x0, y0, x1, y1 in pixels, shape [A, 4].
        boxes: Of one image, likewise, shape [M, 4].
        settings: Overlaps.
        ignored: Boxes that are neither to be found nor background, shape [I, 4].

    Raises:
        DetectionError: There are more boxes than anchors.
    """
    overlap = box_iou(boxes[:, None], anchors)  # [M, A]
    matched = torch.full((len(anchors),), BACKGROUND, device=anchors.device)
    if len(boxes):
        # argmax, and not max: it gives the first of several on every device.
        of = overlap.argmax(dim=0)
        best = overlap.gather(0, of[None])[0]
        matched[best >= settings.negative_iou] = LEFT_OUT
        matched = torch.where(best >= settings.positive_iou, of, matched)
        near = -_centre_distance(boxes, anchors)
        _force(matched, torch.where(overlap > 0, overlap.double(), near))
    return _leave_out(matched, anchors, ignored, settings.negative_iou)


def match_cells(
    cells: Tensor, boxes: Tensor, settings: MatcherSettings, *, ignored: Tensor | None = None
) -> Tensor:
    """Return which box every cell of the maps answers for, int64, shape [A]; no anchors are needed.

    A box belongs to the level whose cells are nearest to a quarter of it, see `STRIDES_PER_BOX`. There those
    cells answer for it whose centre is in it and near its own, and at any rate the nearest one. A cell in
    several boxes answers for the smallest. Source: FCOS, with a level chosen by area.

    Args:
        cells: Of all levels, x0, y0, x1, y1 in pixels, shape [A, 4].
        boxes, settings, ignored: As `match_anchors`.

    Raises:
        DetectionError: There are more boxes than cells.
    """
    matched = torch.full((len(cells),), BACKGROUND, device=cells.device)
    if len(boxes):
        stride = _sizes(cells).sqrt()
        area = _sizes(boxes)
        unlike = (stride.log2() - (area[:, None].sqrt() / STRIDES_PER_BOX).log2()).abs()  # [M, A]
        of_level = unlike <= unlike.amin(dim=1, keepdim=True) + 1e-3
        centre = (cells[:, :2] + cells[:, 2:]) / 2
        inside = ((centre > boxes[:, None, :2]) & (centre < boxes[:, None, 2:])).all(dim=-1)
        apart = (centre - (boxes[:, None, :2] + boxes[:, None, 2:]) / 2).abs().amax(dim=-1)
        answers = of_level & inside & (apart <= settings.radius * stride)
        smallest = torch.where(answers, area[:, None], torch.inf)
        matched = torch.where(answers.any(dim=0), smallest.argmin(dim=0), matched)
        near = -_centre_distance(boxes, cells)
        _force(matched, torch.where(of_level, near, near - 1e9))
    return _leave_out(matched, cells, ignored, settings.negative_iou)


def _force(matched: Tensor, fitness: Tensor) -> None:
    """Give every box the anchor that fits it best, by fitness [M, A]; where several want one, greedily.

    Then the best of all pairs is taken first, and so on; its box and its anchor are then taken.

    Raises:
        DetectionError: There are more boxes than anchors.
    """
    boxes, anchors = fitness.shape
    if boxes > anchors:
        raise DetectionError(
            f"boxes: found {boxes} in an image with {anchors} anchors, expected no more boxes"
        )
    chosen = fitness.argmax(dim=1)
    if len(chosen.unique()) < boxes:
        left = fitness.clone()
        for _ in range(boxes):
            box, anchor = divmod(int(left.argmax()), anchors)
            chosen[box] = anchor
            left[box], left[:, anchor] = -torch.inf, -torch.inf
    matched[chosen] = torch.arange(boxes, device=matched.device)


def _leave_out(matched: Tensor, anchors: Tensor, ignored: Tensor | None, least_iou: float) -> Tensor:
    """Leave out of the background what overlaps an ignored box, or lies by half in one."""
    if ignored is None or len(ignored) == 0:
        return matched
    overlap = box_iou(ignored[:, None], anchors)
    corner = torch.maximum(ignored[:, None, :2], anchors[:, :2])
    shared = (torch.minimum(ignored[:, None, 2:], anchors[:, 2:]) - corner).clamp(min=0).prod(dim=-1)
    near = ((overlap >= least_iou) | (shared >= _sizes(anchors) / 2)).any(dim=0)
    return torch.where((matched == BACKGROUND) & near, LEFT_OUT, matched)


def _centre_distance(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Return the distance of all centres in pixels, float64, shape [M, A]."""
    first, second = ((b[:, :2].double() + b[:, 2:]) / 2 for b in (boxes, anchors))
    return (first[:, None] - second).norm(dim=-1)


def _sizes(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=-1)

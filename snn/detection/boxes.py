"""Boxes in torch.

A box is x0, y0, x1, y1 in pixels from the top left; x1 and y1 are its far edges, not pixels in it.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from snn.errors import DetectionError

# `exact`: as geometry has it. `published`: as the detector released with LT-SNN has it, see each function.
Arithmetic = Literal["exact", "published"]


def check_arithmetic(arithmetic: str) -> None:
    """Raise DetectionError unless the name is known."""
    if arithmetic not in get_args(Arithmetic):
        raise DetectionError(f"arithmetic: found {arithmetic!r}, expected exact or published")


def xywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Return x0, y0, x1, y1 of boxes given by top left corner, width and height; shape [..., 4]."""
    return torch.cat([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], dim=-1)


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """Return top left corner, width and height of boxes x0, y0, x1, y1; shape [..., 4]."""
    return torch.cat([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], dim=-1)


def box_iou(first: Tensor, second: Tensor, *, arithmetic: Arithmetic = "exact") -> Tensor:
    """Return intersection over union of boxes x0, y0, x1, y1, pair by pair; two empty boxes give 0.

    `published` takes width times height of the overlap before it looks whether both are above 0, so that
    boxes apart along both axes overlap as well, by any number.

    Args:
        first: Shape [..., 4].
        second: Shape [..., 4]; the shapes are broadcast, so [N, 1, 4] and [M, 4] give all pairs.
        arithmetic: `exact` or `published`.
    """
    check_arithmetic(arithmetic)
    # Side by side in memory, each coordinate goes through in one stride.
    one, other = (boxes.movedim(-1, 0).contiguous() for boxes in (first, second))
    width, height = torch.minimum(one[2], other[2]), torch.minimum(one[3], other[3])
    width, height = width - torch.maximum(one[0], other[0]), height - torch.maximum(one[1], other[1])
    if arithmetic == "exact":
        width, height = width.clamp(min=0), height.clamp(min=0)
    shared = (width * height).clamp(min=0)
    union = _area(first) + _area(second) - shared
    return torch.where(union == 0, 0.0, shared / union)


def clip_boxes(boxes: Tensor, *, image_hw: tuple[int, int], arithmetic: Arithmetic = "exact") -> Tensor:
    """Cut boxes x0, y0, x1, y1, shape [..., 4], down to the image; those outside become empty.

    `published` moves the top left corner to 0 to W - 1 and 0 to H - 1 and holds width and height, not
    otherwise changed, within the last pixel.
    """
    check_arithmetic(arithmetic)
    edges = boxes.new_tensor([image_hw[1], image_hw[0]])
    if arithmetic == "exact":
        return torch.minimum(boxes.clamp(min=0), edges.repeat(2))
    corner = torch.minimum(boxes[..., :2].clamp(min=0), edges - 1)
    size = torch.minimum(boxes[..., 2:] - boxes[..., :2], edges - 1 - corner)
    return torch.cat([corner, corner + size], dim=-1)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)

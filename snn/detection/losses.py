"""Losses of a detector: which class, if any, and which box."""

import math

import torch
from torch import Tensor, nn

from snn.detection.boxes import box_iou


def focal_loss(logits: Tensor, targets: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return the focal loss of each number, in the shape of the logits, float32 at least.

        - alpha (1 - p)^gamma ln p             where the target is 1
        - (1 - alpha) p^gamma ln(1 - p)        where it is 0, with p = 1 / (1 + exp(-logit))

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 5.

    Args:
        logits: Any shape.
        targets: 0 or 1, of that shape.
        alpha: Weight of targets of 1, from 0 to 1.
        gamma: How much those count less that are already told apart; 0 is cross entropy.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    targets = targets.to(logits.dtype)
    p = logits.sigmoid()
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    wrong = p * (1 - targets) + (1 - p) * targets
    return (alpha * targets + (1 - alpha) * (1 - targets)) * wrong**gamma * entropy


def giou_loss(found: Tensor, targets: Tensor) -> Tensor:
    """Return 1 - GIoU of pairs of boxes x0, y0, x1, y1, shape [N]; from 0, the same box, to 2.

        GIoU = IoU - (hull - union) / hull,    hull: the smallest box around both

    Source: Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019.
    """
    iou = box_iou(found, targets)
    corner, opposite = (
        torch.minimum(found[:, :2], targets[:, :2]),
        torch.maximum(found[:, 2:], targets[:, 2:]),
    )
    hull = (opposite - corner).prod(dim=-1)
    sizes = [(boxes[:, 2:] - boxes[:, :2]).prod(dim=-1) for boxes in (found, targets)]
    # union = (a + b) / (1 + IoU), as IoU = (a + b - union) / union.
    union = (sizes[0] + sizes[1]) / (1 + iou)
    return 1 - iou + (hull - union) / hull.clamp(min=torch.finfo(hull.dtype).tiny)


def prior_bias(probability: float) -> float:
    """Return the bias with which a class begins at this probability: -ln((1 - p) / p).

    Without it every anchor begins at one half, and the background outweighs everything for many steps.
    Source: Lin et al., ICCV 2017, section 4.1, with p = 0.01.
    """
    return math.log(probability / (1 - probability))

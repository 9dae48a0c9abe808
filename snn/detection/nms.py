"""Non-maximum suppression in plain torch: of boxes that overlap too much the best is kept, in many images.

Boxes are taken from the largest score down, among equals the first first; one that overlaps a box already
kept by more than `largest_iou` is left out. That rule asks for a loop over boxes. Here it is a fixed point:
with boxes in that order and S_ij = 1 where i comes before j and overlaps it by more,

    keep_j = not any_i (keep_i and S_ij)

begins with every box kept and is repeated until nothing changes. Box j depends on boxes before it alone, so
after n rounds the first n are as the loop has them: what no longer changes is what the loop gives, after as
many rounds as the longest chain of boxes that decide about each other, 3 to 9 in practice.
"""

import torch
from torch import Tensor, nn

from snn.detection.boxes import box_iou
from snn.errors import DetectionError

# Scores of which the largest is looked at before any other.
GROUP = 64


def best_few(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the largest scores of the last axis and their places, best first, as `torch.topk` does.

    The best n lie in those n groups of scores whose largest is largest, so that few scores are sorted. Which
    of equal scores are taken at the end is not said, as with `torch.topk`.

    Args:
        scores: Shape [..., A].
        count: How many; all where there are fewer.
    """
    A = scores.shape[-1]
    groups = -(-A // GROUP)
    if count >= groups:
        return scores.topk(min(count, A), dim=-1)
    filled = nn.functional.pad(scores, (0, groups * GROUP - A), value=-torch.inf)
    grouped = filled.unflatten(-1, (groups, GROUP))
    chosen = grouped.amax(dim=-1).topk(count, dim=-1).indices
    members = grouped.gather(-2, chosen[..., None].expand(*chosen.shape, GROUP)).flatten(-2)
    best, at = members.topk(count, dim=-1)
    return best, chosen.gather(-1, at // GROUP) * GROUP + at % GROUP


def keep_apart(
    boxes: Tensor, order_by: Tensor, *, largest_iou: float, labels: Tensor | None = None
) -> Tensor:
    """Return which boxes of one image are kept, in the order given; int64.

    Args:
        boxes: x0, y0, x1, y1 in pixels, shape [N, 4]. A box without area overlaps nothing.
        order_by: What a box is worth, shape [N].
        largest_iou: From 0 to 1.
        labels: Class numbers, shape [N]: boxes of other classes leave each other alone. None is one class.

    Raises:
        DetectionError: A value is not a number, shapes do not fit, or `largest_iou` is not from 0 to 1.
    """
    kept = which_stay(
        boxes[None],
        order_by[None],
        largest_iou=largest_iou,
        labels=None if labels is None else labels[None],
    )
    return kept[0].nonzero()[:, 0]


def which_stay(
    boxes: Tensor,
    scores: Tensor,
    *,
    largest_iou: float,
    labels: Tensor | None = None,
    there: Tensor | None = None,
) -> Tensor:
    """Return which boxes of every image are kept, bool, shape [B, N].

    Memory grows with B N²: choose the best few hundred first.

    Args:
        boxes: x0, y0, x1, y1 in pixels, shape [B, N, 4].
        scores: Shape [B, N].
        largest_iou: From 0 to 1.
        labels: Class numbers, shape [B, N]; None is one class.
        there: Which boxes count at all, bool, shape [B, N]: images of fewer than N boxes are filled up with
            anything, which is never kept. None is all.

    Raises:
        DetectionError: As `keep_apart`.
    """
    _check(boxes, scores, largest_iou, labels, there)
    order = scores.argsort(dim=1, descending=True, stable=True)
    # Half precision cannot tell neighbouring pixels apart.
    ranked = _in_order(boxes.to(torch.promote_types(boxes.dtype, torch.float32)), order)
    excludes = box_iou(ranked[:, :, None], ranked[:, None]) > largest_iou
    if labels is not None:
        of_class = _in_order(labels, order)
        excludes &= of_class[:, :, None] == of_class[:, None]
    # As numbers, so that a round is a product with a matrix; sums of 0 and 1 are exact.
    pairs = excludes.triu(diagonal=1).float()
    counted = torch.ones_like(order, dtype=torch.bool) if there is None else _in_order(there, order)
    keep = counted
    while True:
        found = counted & ((keep.float()[:, None] @ pairs)[:, 0] == 0)
        if torch.equal(found, keep):
            break
        keep = found
    return torch.zeros_like(keep).scatter(1, order, keep)


def _in_order(values: Tensor, order: Tensor) -> Tensor:
    """Return values [B, N, ...] with the N in the order given, shape [B, N]."""
    return values[torch.arange(len(order), device=order.device)[:, None], order]


def _check(
    boxes: Tensor, scores: Tensor, largest_iou: float, labels: Tensor | None, there: Tensor | None
) -> None:
    if boxes.dim() != 3 or boxes.shape[-1] != 4:
        raise DetectionError(f"boxes: found shape {tuple(boxes.shape)}, expected [..., N, 4]")
    beside = {"scores": scores, "labels": labels, "there": there}
    for name, values in beside.items():
        if values is not None and values.shape != boxes.shape[:2]:
            raise DetectionError(
                f"{name}: found shape {tuple(values.shape)} for boxes {tuple(boxes.shape)}, "
                "expected one a box"
            )
    if not 0 <= largest_iou <= 1:
        raise DetectionError(f"largest_iou: found {largest_iou}, expected a number from 0 to 1")
    for name, values in (("boxes", boxes), ("scores", scores)):
        wrong = values.isnan()
        if there is not None:
            wrong = wrong & there.reshape(*there.shape, *[1] * (values.dim() - 2))
        if bool(wrong.any()):
            where = wrong.nonzero()[0].tolist()
            raise DetectionError(
                f"{name}: found nan in image {where[0]}, box {where[1]}, expected numbers; training may have "
                "diverged"
            )

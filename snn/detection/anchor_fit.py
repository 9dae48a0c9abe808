"""Anchors that fit a data set: sizes by k-means on overlap, and how many boxes of each class they reach."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from snn.detection.anchors import AnchorSet, strides_of
from snn.detection.boxes import box_iou
from snn.detection.matcher import STRIDES_PER_BOX
from snn.errors import DetectionError

# More boxes than this say nothing new about sizes; as many are drawn.
MOST_BOXES = 20_000
MOST_ROUNDS = 100
RESTARTS = 3
# Boxes whose overlaps with all anchors are held at once.
CHUNK = 256


@dataclass(frozen=True)
class Coverage:
    """Of how many boxes of a class an anchor overlaps enough to be trained for it.

    Attributes:
        boxes: Boxes of each class.
        covered: Of these, those that some anchor overlaps by `least_iou` at their place in the image.
        mean_iou: Mean overlap with the best anchor, for each class; nan of a class without boxes.
        least_iou: From 0 to 1.
    """

    boxes: tuple[int, ...]
    covered: tuple[int, ...]
    mean_iou: tuple[float, ...]
    least_iou: float

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of each class's boxes that are covered, from 0 to 1; nan of a class without boxes."""
        return tuple(c / n if n else math.nan for c, n in zip(self.covered, self.boxes, strict=True))


def anchor_coverage(
    anchors: Tensor, boxes: Tensor, labels: Tensor, *, classes: int, least_iou: float = 0.5
) -> Coverage:
    """Count which boxes have an anchor that overlaps them enough.

    Args:
        anchors: As placed, x0, y0, x1, y1 in pixels, shape [A, 4].
        boxes: Likewise, shape [M, 4].
        labels: Class numbers, int64, shape [M].
        classes: Number of classes K.
        least_iou: Enough, from 0 to 1.

    Raises:
        DetectionError: Shapes do not fit, or a label is not from 0 to K - 1.
    """
    _check(boxes, labels, classes)
    chunks = [box_iou(part[:, None], anchors).amax(dim=1) for part in boxes.split(CHUNK)]
    best = torch.cat(chunks) if chunks else boxes.new_zeros(0)
    of_class = [best[labels == k] for k in range(classes)]
    return Coverage(
        boxes=tuple(len(found) for found in of_class),
        covered=tuple(int((found >= least_iou).sum()) for found in of_class),
        mean_iou=tuple(float(found.mean()) for found in of_class),
        least_iou=least_iou,
    )


def fit_anchors(
    boxes: Tensor,
    labels: Tensor,
    *,
    classes: int,
    maps_hw: Sequence[tuple[int, int]],
    input_hw: tuple[int, int],
    per_level: int = 3,
    least_coverage: float = 0.9,
    seed: int = 0,
) -> tuple[AnchorSet, Coverage]:
    """Fit anchors to boxes, and see that they reach enough of every class.

    Sizes are the centres of k-means with 1 - IoU as distance (Redmon and Farhadi, "YOLO9000", CVPR 2017,
    section 2). Each goes to the level whose stride is nearest to a quarter of the square root of its area; a
    level that would have none takes the size nearest to its own as well.

    Args:
        boxes: Of the training data, x0, y0, x1, y1 in pixels of the network's input, shape [M, 4].
        labels: Class numbers, int64, shape [M].
        classes: Number of classes K.
        maps_hw: Rows and columns of each level's map.
        input_hw: Height and width of the input in pixels.
        per_level: Sizes per level on average.
        least_coverage: Share of each class's boxes that an anchor has to overlap by half; 0 allows anything.
        seed: Of the draws.

    Raises:
        DetectionError: There are no boxes, one is empty, or a class is covered less than asked for.
    """
    _check(boxes, labels, classes)
    if len(boxes) == 0:
        raise DetectionError("boxes: found none, expected boxes to fit anchors to; use usual_anchors")
    sizes = boxes[:, 2:] - boxes[:, :2]
    if not bool((sizes > 0).all()):
        raise DetectionError("boxes: found one without width or height; leave empty boxes out")
    strides = strides_of(maps_hw, input_hw=input_hw)
    centres = cluster_sizes(sizes, count=per_level * len(strides), seed=seed)
    anchors = _spread(centres, strides)
    coverage = anchor_coverage(anchors.place(maps_hw, input_hw=input_hw), boxes, labels, classes=classes)
    for k, share in enumerate(coverage.shares):
        if share < least_coverage:
            raise DetectionError(
                f"anchors: found {share:.1%} of the {coverage.boxes[k]} boxes of class {k} overlapped by "
                f"{coverage.least_iou}, expected {least_coverage:.0%}; take more anchors per level or one "
                "of smaller stride, or allow less"
            )
    return anchors, coverage


def cluster_sizes(sizes: Tensor, *, count: int, seed: int = 0) -> Tensor:
    """Return widths and heights that overlap the given ones most, by area, shape [count or fewer, 2].

    k-means, begun from sizes drawn by their squared distance (k-means++, Arthur and Vassilvitskii, 2007), the
    best of a few beginnings. No more centres than there are different sizes.

    Args:
        sizes: Widths and heights, all above 0, shape [M, 2].
        count: Number of centres.
        seed: Of the draws.
    """
    draw = torch.Generator().manual_seed(seed)
    sizes = sizes.detach().cpu().double()
    if len(sizes) > MOST_BOXES:
        sizes = sizes[torch.randperm(len(sizes), generator=draw)[:MOST_BOXES]]
    count = min(count, len(sizes.unique(dim=0)))
    best, best_fit = sizes[:0], -1.0
    for _ in range(RESTARTS):
        centres = _beginning(sizes, count, draw)
        for _ in range(MOST_ROUNDS):
            nearest = _size_iou(sizes, centres).argmax(dim=1)
            moved = torch.stack(
                [
                    sizes[nearest == k].mean(dim=0) if bool((nearest == k).any()) else centre
                    for k, centre in enumerate(centres)
                ]
            )
            if torch.equal(moved, centres):
                break
            centres = moved
        fit = float(_size_iou(sizes, centres).amax(dim=1).mean())
        if fit > best_fit:
            best, best_fit = centres, fit
    return best[best.prod(dim=1).argsort()].float()


def _beginning(sizes: Tensor, count: int, draw: torch.Generator) -> Tensor:
    centres = sizes[torch.randint(len(sizes), (1,), generator=draw)]
    while len(centres) < count:
        distance = 1 - _size_iou(sizes, centres).amax(dim=1)
        chosen = torch.multinomial(distance.clamp(min=0).square(), 1, generator=draw)
        centres = torch.cat([centres, sizes[chosen]])
    return centres


def _size_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the overlap of all pairs of sizes laid on one corner, shape [N, M]."""
    shared = torch.minimum(first[:, None], second).prod(dim=-1)
    return shared / (first.prod(dim=-1)[:, None] + second.prod(dim=-1) - shared)


def _spread(centres: Tensor, strides: Sequence[float]) -> AnchorSet:
    """Give every size to the level that suits it, and every level at least one."""
    wanted = (centres.prod(dim=1).sqrt() / STRIDES_PER_BOX).log2()
    unlike = (wanted[:, None] - torch.tensor(strides).log2()).abs()  # [sizes, levels]
    of_level = unlike.argmin(dim=1)
    levels = []
    for level in range(len(strides)):
        chosen = (of_level == level).nonzero()[:, 0].tolist() or [int(unlike[:, level].argmin())]
        levels.append([centres[k].tolist() for k in chosen])
    return AnchorSet.from_lists(levels)


def _check(boxes: Tensor, labels: Tensor, classes: int) -> None:
    if boxes.dim() != 2 or boxes.shape[-1] != 4 or labels.shape != boxes.shape[:1]:
        raise DetectionError(
            f"boxes and labels: found shapes {tuple(boxes.shape)} and {tuple(labels.shape)}, "
            "expected [M, 4] and [M]"
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise DetectionError(
            f"labels: found {int(labels.min())} to {int(labels.max())}, expected classes 0 to {classes - 1}"
        )

"""The loss of a dense head, and the detections made of its predictions."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from snn.detection.box_code import Weights, decode_boxes, encode_boxes
from snn.detection.boxes import clip_boxes
from snn.detection.losses import focal_loss, giou_loss
from snn.detection.matcher import LEFT_OUT, MatcherSettings, match_anchors, match_cells
from snn.detection.nms import best_few, which_stay
from snn.detection.predictions import DetectionLoss, Detections, Predictions
from snn.errors import DetectionError

BoxLoss = Literal["smooth_l1", "giou"]


@dataclass(frozen=True)
class DenseLossSettings:
    """Loss of a dense head.

    Attributes:
        box_loss: `giou`: of the boxes. `smooth_l1`: of their code, squared below 1, as SSD has it.
        box_weight: Factor on the loss of boxes.
        alpha, gamma: Of the focal loss.
        matcher: Which location answers for which box.
    """

    box_loss: BoxLoss = "giou"
    box_weight: float = 2.0
    alpha: float = 0.25
    gamma: float = 2.0
    matcher: MatcherSettings = field(default_factory=MatcherSettings)

    def __post_init__(self) -> None:
        if self.box_loss not in get_args(BoxLoss):
            raise DetectionError(
                f"box_loss: found {self.box_loss!r}, expected {' or '.join(get_args(BoxLoss))}"
            )


def check_truth(
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    ignore: Sequence[Tensor] | None,
    *,
    images: int,
    classes: int,
) -> None:
    """Raise DetectionError unless there are boxes, labels and marks for so many images, that fit together."""
    given = {"boxes": boxes, "labels": labels} | ({} if ignore is None else {"ignore": ignore})
    for name, found in given.items():
        if len(found) != images:
            raise DetectionError(f"{name}: found {len(found)} images, expected {images}, as predicted")
    for image, (of_image, kinds) in enumerate(zip(boxes, labels, strict=True)):
        expected = of_image.shape[:1]
        marks = None if ignore is None else ignore[image]
        fits = of_image.dim() == 2 and of_image.shape[1] == 4 and kinds.shape == expected
        if not fits or (marks is not None and marks.shape != expected):
            raise DetectionError(
                f"boxes and labels: found shapes {tuple(of_image.shape)} and {tuple(kinds.shape)} in image "
                f"{image}, expected [M, 4], and [M] of everything else"
            )
        if len(kinds) and not 0 <= int(kinds.min()) <= int(kinds.max()) < classes:
            raise DetectionError(
                f"labels: found {int(kinds.min())} to {int(kinds.max())} in image {image}, "
                f"expected classes 0 to {classes - 1}"
            )


def dense_loss(
    predictions: Predictions,
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    ignore: Sequence[Tensor] | None = None,
    *,
    settings: DenseLossSettings,
    weights: Weights,
    with_anchors: bool,
) -> DetectionLoss:
    """Return the loss against the boxes of each image.

        (sum of focal loss over all locations + box_weight * sum of box loss over those that answer) / N+

    N+ is how many answer in the batch, at least 1. Locations that are left out count nowhere. Computed in
    float32. Source: RetinaNet and SSD.

    Args:
        predictions: Of a dense head.
        boxes: For each image x0, y0, x1, y1 in pixels, shape [M_b, 4].
        labels: For each image the class numbers, int64, shape [M_b].
        ignore: For each image which boxes are neither to be found nor background, bool, shape [M_b].
        settings: Weights and matching.
        weights: Of the box code.
        with_anchors: Whether locations are anchors; else they are cells.

    Raises:
        DetectionError: The boxes do not fit the predictions, or one is empty.
    """
    logits, code = predictions.class_logits.float(), predictions.box_code.float()
    check_truth(boxes, labels, ignore, images=len(logits), classes=logits.shape[-1])
    match = match_anchors if with_anchors else match_cells
    targets = torch.zeros_like(logits)
    counted = torch.ones(logits.shape[:2], dtype=torch.bool, device=logits.device)
    where, sought_boxes = [], []
    for image, (of_image, kinds) in enumerate(zip(boxes, labels, strict=True)):
        of_image, kinds = of_image.to(logits), kinds.to(logits.device)
        wanted, ignored = of_image, None
        if ignore is not None:
            left = ignore[image].to(kinds.device)
            wanted, kinds, ignored = of_image[~left], kinds[~left], of_image[left]
        _check_sizes(wanted, image)
        matched = match(predictions.locations, wanted, settings.matcher, ignored=ignored)
        answers = (matched >= 0).nonzero()[:, 0]
        of_answers = matched[answers]
        targets[image, answers, kinds[of_answers]] = 1
        counted[image] = matched != LEFT_OUT
        where.append(answers + image * len(matched))
        sought_boxes.append(wanted[of_answers])
    at = torch.cat(where)
    positives = len(at)
    locations = predictions.locations[at % len(predictions.locations)]
    of_boxes = _box_loss(code.flatten(0, 1)[at], locations, torch.cat(sought_boxes), settings, weights)
    focal = focal_loss(logits, targets, alpha=settings.alpha, gamma=settings.gamma)
    share = 1 / max(positives, 1)
    classes = (focal * counted[:, :, None]).sum() * share
    places = settings.box_weight * of_boxes * share
    return DetectionLoss(classes + places, classes.detach(), places.detach(), positives)


def _box_loss(
    code: Tensor, locations: Tensor, wanted: Tensor, settings: DenseLossSettings, weights: Weights
) -> Tensor:
    """Return the summed loss of codes beside their locations, all [n, 4]."""
    if settings.box_loss == "giou":
        return giou_loss(decode_boxes(code, locations, weights=weights), wanted).sum()
    target = encode_boxes(wanted, locations, weights=weights)
    return nn.functional.smooth_l1_loss(code, target, reduction="sum", beta=1.0)


def _check_sizes(boxes: Tensor, image: int) -> None:
    if not bool((boxes[:, 2:] > boxes[:, :2]).all()):
        raise DetectionError(
            f"boxes: found one without width or height in image {image}, expected x0 < x1 and y0 < y1; "
            "leave such boxes out"
        )


@torch.no_grad()
def dense_detections(
    predictions: Predictions,
    *,
    image_hw: tuple[int, int],
    weights: Weights,
    score_threshold: float,
    largest_iou: float,
    candidates: int,
    most: int,
) -> list[Detections]:
    """Return the detections of each image, best first.

    Of every class the best `candidates` above the threshold, without those that overlap a better one of the
    class by more than `largest_iou`; of all classes the best `most`.

    Args:
        predictions: Of a dense head.
        image_hw: Height and width boxes are cut to, in pixels.
        weights: Of the box code.
        score_threshold: Scores must be above.
        largest_iou: From 0 to 1.
        candidates, most: At least 1.

    Raises:
        DetectionError: A prediction is not a number.
    """
    _check_numbers(predictions)
    scores = predictions.class_logits.float().sigmoid().transpose(1, 2)  # [B, K, A]
    images, classes, _ = scores.shape
    best, at = best_few(scores, candidates)
    code = predictions.box_code[torch.arange(images, device=at.device)[:, None, None], at]
    boxes = decode_boxes(code.float(), predictions.locations[at], weights=weights)
    chosen = clip_boxes(boxes, image_hw=image_hw)  # [B, K, n, 4]
    there = best > score_threshold
    kept = which_stay(
        chosen.flatten(0, 1), best.flatten(0, 1), largest_iou=largest_iou, there=there.flatten(0, 1)
    ).unflatten(0, (images, classes))
    found = []
    for image in range(images):
        kinds, places = kept[image].nonzero(as_tuple=True)
        worth = best[image, kinds, places]
        order = worth.argsort(descending=True, stable=True)[:most]
        found.append(Detections(chosen[image, kinds, places][order], worth[order], kinds[order]))
    return found


def _check_numbers(predictions: Predictions) -> None:
    """Raise DetectionError where one is not a number, which would be above no threshold and pass unseen."""
    logits, code = predictions.class_logits, predictions.box_code
    # Sums are quick, and are numbers only where everything is.
    if not bool((logits.sum() + code.sum()).isnan()):
        return
    wrong = logits.isnan().any(dim=-1) | code.isnan().any(dim=-1)
    if bool(wrong.any()):
        image, location = wrong.nonzero()[0].tolist()
        raise DetectionError(
            f"predictions: found nan in image {image} at location {location}, expected numbers; training may "
            "have diverged"
        )

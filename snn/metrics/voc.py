"""Average precision as the VOC challenge has it since 2010, over every point of the curve.

Source: Everingham et al., "The Pascal visual object classes challenge: a retrospective", IJCV 2015.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from snn.errors import DetectionError

Area = Literal["edges", "inclusive"]


class ImageBoxes(NamedTuple):
    """The boxes of one image.

    Attributes:
        boxes: x0, y0, x1, y1 in pixels, shape [N, 4].
        labels: Class numbers from 0, shape [N].
        scores: How sure a detection is, shape [N]; None for the truth.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None


@dataclass(frozen=True)
class VocResult:
    """How well boxes were found, by class.

    Attributes:
        average_precision: From 0 to 1, shape [K]; NaN for a class that no image has.
        right: Detections that found a box of the truth, shape [K].
        wrong: Detections that found none, or one found before, shape [K].
        boxes: Boxes of the truth, shape [K].
    """

    average_precision: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    boxes: np.ndarray

    @property
    def mean(self) -> float:
        """Mean average precision over the classes that some image has; NaN where there is none."""
        known = self.average_precision[self.boxes > 0]
        return float(known.mean()) if len(known) else float("nan")


def average_precision(
    found: Sequence[ImageBoxes],
    truth: Sequence[ImageBoxes],
    *,
    classes: int,
    least_iou: float = 0.5,
    area: Area = "edges",
) -> VocResult:
    """Match detections with the truth, image by image, and return the average precision of each class.

    Detections of a class are taken from the highest score down, all images together, the first among
    equals. Each looks at the box of its class in its image that it overlaps most: it is right where they
    overlap by `least_iou` or more and no detection before was right about that box.

    Args:
        found: Detections, an entry for each image.
        truth: Boxes there are, an entry for each image, in the same order.
        classes: Number of classes K.
        least_iou: Smallest overlap that counts.
        area: `edges`: x1 and y1 are the far edges of a box. `inclusive`: they are its last pixels, so that
            a side is one longer than their distance; as VOC's own code and LT-SNN's detector have it.
    """
    if len(found) != len(truth):
        raise DetectionError(f"found and truth: found {len(found)} and {len(truth)} images, expected as many")
    if area not in ("edges", "inclusive"):
        raise DetectionError(f"area: found {area!r}, expected edges or inclusive")
    precision = np.full(classes, np.nan)
    right, wrong, boxes = (np.zeros(classes, np.int64) for _ in range(3))
    for k in range(classes):
        boxes[k] = sum(int((image.labels == k).sum()) for image in truth)
        hits = _hits_by_score(found, truth, k, least_iou, 1.0 if area == "inclusive" else 0.0)
        right[k], wrong[k] = hits.sum(), (~hits).sum()
        if boxes[k] > 0:
            precision[k] = _area_under_curve(hits, int(boxes[k]))
    return VocResult(precision, right, wrong, boxes)


def _hits_by_score(
    found: Sequence[ImageBoxes], truth: Sequence[ImageBoxes], label: int, least_iou: float, extra_px: float
) -> np.ndarray:
    """Return whether each detection of a class is right, the highest score first; bool [N]."""
    scores, hits = [np.zeros(0)], [np.zeros(0, np.bool_)]
    for image, there in zip(found, truth, strict=True):
        if image.scores is None:
            raise DetectionError("found: an image has no scores, expected one for each detection")
        chosen = image.labels == label
        order = np.argsort(-image.scores[chosen], kind="stable")
        boxes = image.boxes[chosen][order]
        hits.append(_hits(_overlaps(boxes, there.boxes[there.labels == label], extra_px), least_iou))
        scores.append(image.scores[chosen][order])
    return np.concatenate(hits)[np.argsort(-np.concatenate(scores), kind="stable")]


def _hits(overlaps: np.ndarray, least_iou: float) -> np.ndarray:
    """Return which rows of an image's overlaps [N, M] are right, the highest score first."""
    hits = np.zeros(len(overlaps), np.bool_)
    taken: set[int] = set()
    for n in range(len(overlaps)):
        best = int(overlaps[n].argmax()) if overlaps.shape[1] else -1
        if best >= 0 and overlaps[n, best] >= least_iou and best not in taken:
            taken.add(best)
            hits[n] = True
    return hits


def _overlaps(first: np.ndarray, second: np.ndarray, extra_px: float) -> np.ndarray:
    """Return intersection over union of all pairs of boxes, sides longer by `extra_px`; shape [N, M]."""
    first, second = first.astype(np.float64)[:, None], second.astype(np.float64)[None]
    near, far = np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:])
    # Boxes that only touch share no pixel between edges, but a row or column of last pixels.
    shared = np.prod(np.maximum(far - near + extra_px, 0), axis=-1)
    sizes = (np.prod(boxes[..., 2:] - boxes[..., :2] + extra_px, axis=-1) for boxes in (first, second))
    union = sum(sizes) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _area_under_curve(hits: np.ndarray, boxes: int) -> float:
    """Return the area under the curve of precision over recall, precision never rising again."""
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(hits) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best_from_here[hits].sum() / boxes)

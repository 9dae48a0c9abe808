"""Boxes as numbers that a network can predict: where they lie beside an anchor, and back.

    (w_x (x - x_a) / width_a, w_y (y - y_a) / height_a, w_w ln(width / width_a), w_h ln(height / height_a))

of centres x, y and sizes. Source: Girshick et al., "Rich feature hierarchies", CVPR 2014, appendix C; weights
10, 10, 5, 5 are the inverse of the variances of Liu et al., "SSD", ECCV 2016. Weights of 1 and anchors that
are the cells of a map give YOLOX's code (Ge et al., 2021).
"""

import math

import torch
from torch import Tensor

from snn.errors import DetectionError

Weights = tuple[float, float, float, float]
SSD_WEIGHTS: Weights = (10.0, 10.0, 5.0, 5.0)
CELL_WEIGHTS: Weights = (1.0, 1.0, 1.0, 1.0)
# A predicted size is at most 62.5 times that of its anchor, so that the exponential cannot overflow.
# Source: Detectron, "1000. / 16" pixels; torchvision and the SSD-SNN of Cordone et al. have it as well.
MOST_LOG_RATIO = math.log(1000 / 16)


def encode_boxes(boxes: Tensor, anchors: Tensor, *, weights: Weights = SSD_WEIGHTS) -> Tensor:
    """Return the code of boxes beside anchors, float32, shape [N, 4].

    Args:
        boxes: x0, y0, x1, y1 in pixels, shape [N, 4].
        anchors: Likewise, one a box.
        weights: Factors of the four numbers.

    Raises:
        DetectionError: A box or an anchor has no width or height.
    """
    place, size = _centre_and_size("boxes", boxes)
    place_a, size_a = _centre_and_size("anchors", anchors)
    code = torch.cat([(place - place_a) / size_a, (size / size_a).log()], dim=-1)
    return (code * code.new_tensor(weights)).float()


def decode_boxes(code: Tensor, anchors: Tensor, *, weights: Weights = SSD_WEIGHTS) -> Tensor:
    """Return boxes x0, y0, x1, y1 in pixels, float32, shape [..., N, 4]; not cut to the image.

    Computed in float64: one step of float32 at pixel 1280 is more than a round trip may lose.

    Args:
        code: Shape [..., N, 4].
        anchors: x0, y0, x1, y1 in pixels, shape [N, 4].
        weights: Factors of the four numbers, above 0.
    """
    code = code.double() / code.new_tensor(weights, dtype=torch.float64)
    corner, opposite = anchors.double().split(2, dim=-1)
    size_a = opposite - corner
    place = corner + size_a / 2 + code[..., :2] * size_a
    half = size_a * code[..., 2:].clamp(max=MOST_LOG_RATIO).exp() / 2
    return torch.cat([place - half, place + half], dim=-1).float()


def _centre_and_size(name: str, boxes: Tensor) -> tuple[Tensor, Tensor]:
    corner, opposite = boxes.double().split(2, dim=-1)
    size = opposite - corner
    if not bool((size > 0).all()):
        found = boxes[~(size > 0).all(dim=-1)][0].tolist()
        raise DetectionError(
            f"{name}: found {found}, without width or height, expected x0 < x1 and y0 < y1; leave it out"
        )
    return corner + size / 2, size

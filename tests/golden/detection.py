"""Golden vectors of the detector: the loss of its grid, its detections, and average precision."""

import numpy as np
import torch
from golden.vector import Vector

from snn.detection.boxes import xywh_to_xyxy, xyxy_to_xywh
from snn.detection.grid import GridSettings, Predictions, decode_grid, detect
from snn.detection.grid_loss import grid_loss, overlaps, place_targets
from snn.metrics.voc import ImageBoxes, average_precision

LOSSES = {
    "total": "total",
    "offset": "offset",
    "shape": "shape",
    "conf": "objectness",
    "noobj": "empty",
    "class": "classes",
}


def check_grid_loss(vector: Vector) -> None:
    """Every part of the loss 1e-5, gradient 1e-4 of the largest; places, boxes and detections 1e-5."""
    grid = GridSettings(image_hw=tuple(vector["input_shape"].tolist()), arithmetic="published")
    output = torch.from_numpy(vector["output"]).requires_grad_()
    rows = torch.from_numpy(vector["targets"])
    filled = [image.sum(dim=-1) > 0 for image in rows]  # the other rows pad
    boxes = [xywh_to_xyxy(image[some, :4]) for image, some in zip(rows, filled, strict=True)]
    labels = [image[some, 4] for image, some in zip(rows, filled, strict=True)]
    loss = grid_loss(output, boxes, labels, grid=grid)
    for name, part in LOSSES.items():
        vector.close(f"loss_{name}", getattr(loss, part).detach().numpy(), rtol=1e-5)
    (gradient,) = torch.autograd.grad(loss.total, output)
    vector.close_to_largest("grad_output", gradient.numpy(), relative=1e-4)
    _check_targets(vector, grid, output.detach(), boxes, labels, torch.stack(filled))
    _check_detections(vector, grid, output.detach())


def _check_targets(
    vector: Vector,
    grid: GridSettings,
    output: torch.Tensor,
    boxes: list[torch.Tensor],
    labels: list[torch.Tensor],
    filled: torch.Tensor,
) -> None:
    targets = place_targets(boxes, labels, grid, like=output)
    row_px, column_px = grid.lines_px(output)
    vector.close("grid", torch.stack(torch.meshgrid(row_px, column_px, indexing="ij"), -1).numpy(), rtol=1e-5)
    zero = torch.zeros((*filled.shape, 2))
    for key, values in (("gt_offset", targets.offsets), ("gt_shape_sqrt", targets.roots)):
        vector.close(key, zero.masked_scatter(filled[..., None], values).numpy(), rtol=1e-5)
    cells = {}
    for key, values in (("gt_row", targets.row), ("gt_col", targets.column)):
        cells[key] = torch.zeros(filled.shape, dtype=torch.int64).masked_scatter(filled, values)
        vector.equal(key, cells[key].numpy())
    # Rows that pad are boxes without size at 0, 0 here, in the first cell.
    every = torch.zeros((*filled.shape, 4)).masked_scatter(filled[..., None], targets.boxes)
    image = torch.arange(len(filled))[:, None].expand(filled.shape)
    predicted = decode_grid(output, grid).boxes_xywh[image, cells["gt_row"], cells["gt_col"]]
    iou = overlaps(predicted.flatten(0, 1), every.flatten(0, 1), grid)
    vector.close("iou", iou.unflatten(0, filled.shape).numpy(), rtol=1e-5)


def _check_detections(vector: Vector, grid: GridSettings, output: torch.Tensor) -> None:
    decoded = decode_grid(output, grid)
    x, y, width, height = decoded.boxes_xywh.unbind(dim=-1)
    vector.close("boxes_all", torch.stack([y, x, height, width, decoded.objectness], -1).numpy(), rtol=1e-5)
    # The release keeps width and height; in float64 they come back from the corners as they were.
    found = detect(
        Predictions(*(part.double() for part in decoded)),
        grid,
        least_objectness=vector.scalar("det_threshold"),
        within_class=False,
    )
    rows = [
        np.column_stack(
            [
                np.full(len(each.labels), image),
                xyxy_to_xywh(each.boxes),
                each.labels,
                each.scores,
                each.objectness,
            ]
        )
        for image, each in enumerate(found)
    ]
    vector.close("detections", np.concatenate(rows), rtol=1e-5)


def check_voc_ap(vector: Vector) -> None:
    """Average precision by class over every point, areas with last pixels; each image by its own number."""
    classes = vector["classes"].tolist()
    assert classes == list(range(len(classes)))
    truth, found = vector["gt"], vector["det"]
    images = np.unique(np.concatenate([truth[:, 0], found[:, 0]]))
    result = average_precision(
        [_image(found[found[:, 0] == image]) for image in images],
        [_image(truth[truth[:, 0] == image]) for image in images],
        classes=len(classes),
        least_iou=vector.scalar("iou_threshold"),
        area="inclusive",
    )
    vector.close("ap_every_point", result.average_precision, rtol=1e-5)
    vector.equal("tp", result.right)
    vector.equal("fp", result.wrong)
    vector.equal("npos", result.boxes)
    vector.close("mean_ap", np.asarray(result.mean), rtol=1e-5)


def _image(rows: np.ndarray) -> ImageBoxes:
    """Return the boxes of one image; rows are image, class, x, y, width, height and perhaps a score."""
    corners = np.concatenate([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]], axis=1)
    return ImageBoxes(corners, rows[:, 1], rows[:, 6] if rows.shape[1] > 6 else None)

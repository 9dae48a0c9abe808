"""Boxes, the grid and its loss, counted by hand and turned back."""

import pytest
import torch

from snn.detection.boxes import box_iou, clip_boxes, xywh_to_xyxy, xyxy_to_xywh
from snn.detection.grid import GridSettings, Predictions, decode_grid, detect
from snn.detection.grid_loss import GridLossSettings, grid_loss, place_targets
from snn.detection.nms import keep_apart
from snn.errors import DetectionError

# Cells of 10 x 20 pixels.
GRID = GridSettings(cells_hw=(3, 4), image_hw=(30, 80), classes=3)
BOXES = [torch.tensor([[2.0, 3.0, 7.0, 12.0], [30.0, 1.0, 79.0, 30.0]]), torch.zeros(0, 4)]
LABELS = [torch.tensor([2, 0]), torch.zeros(0, dtype=torch.int64)]


def test_overlap_of_boxes():
    box = torch.tensor([0.0, 0.0, 4.0, 2.0])
    others = torch.tensor([[2.0, 1.0, 6.0, 3.0], [4.0, 0.0, 6.0, 2.0], [5.0, 3.0, 7.0, 5.0], [0, 0, 4, 2]])
    assert box_iou(box, others).tolist() == pytest.approx([2 / 14, 0, 0, 1])
    # Apart by 1 along both axes: -1 times -1 passes for an overlap of 1.
    assert box_iou(box, others, arithmetic="published").tolist() == pytest.approx([2 / 14, 0, 1 / 11, 1])
    assert box_iou(torch.zeros(4), torch.zeros(4)) == 0
    assert box_iou(others[:, None], others).shape == (4, 4)


def test_conversions_and_clipping():
    boxes = torch.tensor([[-3.0, 1, 4, 9], [20, 20, 25, 25], [2, 2, 10, 6]])
    assert torch.equal(xywh_to_xyxy(xyxy_to_xywh(boxes)), boxes)
    assert clip_boxes(boxes, image_hw=(6, 10)).tolist() == [[0, 1, 4, 6], [10, 6, 10, 6], [2, 2, 10, 6]]
    published = clip_boxes(boxes, image_hw=(6, 10), arithmetic="published")
    assert published.tolist() == [[0, 1, 7, 5], [9, 5, 9, 5], [2, 2, 9, 5]]


def test_of_close_boxes_the_best_is_kept():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [9, 0, 19, 10], [10, 0, 20, 10]])
    assert keep_apart(boxes, torch.tensor([0.5, 0.9, 0.7, 0.7]), largest_iou=0.5).tolist() == [1, 2]
    assert keep_apart(boxes[:0], torch.zeros(0), largest_iou=0.5).tolist() == []


def perfect_output(boxes, labels):
    """The output that decodes to the targets, by the first box of their cells."""
    output = torch.full((len(boxes), *GRID.cells_hw, GRID.channels), -20.0)
    output[..., :8] = 0.1
    targets = place_targets(boxes, labels, GRID, like=output)
    cell = targets.image, targets.row, targets.column
    slots = torch.stack([targets.offsets[:, 0], targets.offsets[:, 1], *targets.roots.T], dim=-1)
    for part in range(4):
        output[(*cell, torch.tensor(2 * part))] = slots[:, part]
    output[(*cell, torch.tensor(8))] = 20.0
    output[(*cell, 10 + targets.labels)] = 20.0
    return output


def test_a_centre_lies_in_the_cell_that_begins_last_before_it():
    targets = place_targets(BOXES, LABELS, GRID, like=torch.zeros(()))
    # Centres (x, y): 4.5, 7.5 and 54.5, 15.5.
    assert targets.image.tolist() == [0, 0]
    assert (targets.row.tolist(), targets.column.tolist()) == ([0, 1], [0, 2])
    assert targets.offsets.flatten().tolist() == pytest.approx([0.75, 0.225, 0.55, 0.725])
    assert targets.roots.square().flatten().tolist() == pytest.approx([9 / 30, 5 / 80, 29 / 30, 49 / 80])


def test_the_perfect_output_gives_the_targets_back_and_no_loss_of_place():
    output = perfect_output(BOXES, LABELS)
    first, second = detect(decode_grid(output, GRID), GRID)
    torch.testing.assert_close(first.boxes, BOXES[0], atol=1e-4, rtol=0)
    assert first.labels.tolist() == [2, 0]
    assert len(second.boxes) == 0
    loss = grid_loss(output, BOXES, LABELS, grid=GRID, settings=GridLossSettings(class_weight=0.0))
    assert float(loss.total) == pytest.approx(0, abs=1e-5)


def test_loss_by_hand():
    # One cell, one box, one class; the image is 10 x 10. Predicted: all of the image, objectness 0.5.
    grid = GridSettings(cells_hw=(1, 1), boxes_per_cell=1, classes=1, image_hw=(10, 10))
    output = torch.tensor([0.5, 0.5, 1.0, 1.0, 0.0, 3.0]).reshape(1, 1, 1, 6)
    box = torch.tensor([[0.0, 0.0, 2.5, 10.0]])  # centre at 0.125 of the width, overlap 1/4
    loss = grid_loss(output, [box], [torch.tensor([0])], grid=grid)
    assert float(loss.offset) == pytest.approx(5 * 0.375**2)
    assert float(loss.shape) == pytest.approx(5 * 0.5**2)
    assert float(loss.objectness) == pytest.approx(0.25**2)
    assert float(loss.empty) == 0
    assert float(loss.classes) == pytest.approx(0.75 * 2**2)  # one class has no cross entropy
    nothing = grid_loss(output, [box[:0]], [torch.zeros(0, dtype=torch.int64)], grid=grid)
    assert float(nothing.total) == float(nothing.empty) == pytest.approx(0.5 * 0.25)


@pytest.mark.parametrize("arithmetic", ["exact", "published"])
def test_gradient_of_the_loss(arithmetic):
    grid = GridSettings(cells_hw=(2, 2), classes=2, image_hw=(31, 42), arithmetic=arithmetic)
    output = torch.rand(
        (2, 2, 2, 12), generator=torch.Generator().manual_seed(4), dtype=torch.float64, requires_grad=True
    )
    boxes = [torch.tensor([[2.0, 3, 20, 12], [25, 4, 40, 30]]), torch.tensor([[1.0, 1, 9, 9]])]
    labels = [torch.tensor([0, 1]), torch.tensor([1])]
    total = grid_loss(output, boxes, labels, grid=grid).total
    (found,) = torch.autograd.grad(total, output)
    # No gradient goes through the overlap, so only a direction that leaves boxes alone can be tried for all.
    step = torch.zeros_like(output)
    step[..., 8:] = torch.randn((2, 2, 2, 4), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    ahead, behind = (
        grid_loss(output.detach() + sign * 1e-6 * step, boxes, labels, grid=grid).total for sign in (1, -1)
    )
    assert float((found * step).sum()) == pytest.approx(float(ahead - behind) / 2e-6, rel=1e-6)
    assert found[0, 0, 0, :8].abs().sum() > 0


def test_classes_may_overlap_unless_told_otherwise():
    boxes = torch.tensor([[0.0, 0, 40, 30], [1, 0, 40, 30]]).reshape(1, 1, 2, 1, 4)
    scores = torch.tensor([[3.0, 0], [0, 2.0]]).reshape(1, 1, 2, 2)
    predictions = Predictions(boxes, torch.tensor([0.6, 0.7]).reshape(1, 1, 2, 1), scores)
    (apart,) = detect(predictions, GRID)
    assert (apart.labels.tolist(), apart.scores.tolist()) == ([0, 1], [3, 2])
    (together,) = detect(predictions, GRID, within_class=False)
    assert together.labels.tolist() == [1]
    (none,) = detect(predictions, GRID, least_objectness=0.9)
    assert none.boxes.shape == (0, 4)


def test_what_does_not_fit_is_named():
    output = torch.zeros(2, 3, 4, 13)
    with pytest.raises(DetectionError, match=r"found shape \(2, 3, 4, 12\), expected \[B, 3, 4, 13\]"):
        decode_grid(output[..., 1:], GRID)
    with pytest.raises(DetectionError, match="found 1 and 2 images, expected 2"):
        grid_loss(output, BOXES[:1], LABELS, grid=GRID)
    with pytest.raises(DetectionError, match="expected one label a box"):
        grid_loss(output, BOXES, LABELS[::-1], grid=GRID)
    with pytest.raises(DetectionError, match="without width or height"):
        grid_loss(output, [torch.zeros(2, 4), BOXES[1]], LABELS, grid=GRID)
    with pytest.raises(DetectionError, match="arithmetic: found 'near', expected exact or published"):
        GridSettings(arithmetic="near")
    with pytest.raises(DetectionError, match="classes: found 0, expected 1 or more"):
        GridSettings(classes=0)

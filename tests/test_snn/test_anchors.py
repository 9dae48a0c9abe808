"""Anchors, their fit to boxes, which of them answers for which box, and the code of boxes."""

import math

import pytest
import torch

from snn.detection.anchor_fit import anchor_coverage, cluster_sizes, fit_anchors
from snn.detection.anchors import AnchorSet, place_cells, ssd_snn_anchors, strides_of, usual_anchors
from snn.detection.box_code import CELL_WEIGHTS, SSD_WEIGHTS, decode_boxes, encode_boxes
from snn.detection.matcher import BACKGROUND, LEFT_OUT, MatcherSettings, match_anchors, match_cells
from snn.errors import DetectionError

SETTINGS = MatcherSettings()
# The maps of the SSD-SNN on Gen1.
GEN1 = (240, 304)
GEN1_MAPS = ((60, 76), (30, 38), (7, 9), (4, 5), (2, 3), (1, 2))


def random_boxes(count, *, hw, seed, smallest=2.0):
    draw = torch.Generator().manual_seed(seed)
    edge = torch.tensor([hw[1], hw[0]], dtype=torch.float32)
    size = smallest + torch.rand(count, 2, generator=draw) * (edge / 2 - smallest)
    corner = torch.rand(count, 2, generator=draw) * (edge - size)
    return torch.cat([corner, corner + size], dim=1)


def test_anchors_of_a_cell_lie_around_its_centre():
    anchors = AnchorSet((((4.0, 2.0), (10.0, 20.0)), ((6.0, 6.0),)))
    placed = anchors.place([(2, 3), (1, 1)], input_hw=(20, 60))
    assert placed.shape == (2 * 3 * 2 + 1, 4)
    # Cells of 10 rows and 20 columns; the third cell's first anchor, and its second.
    assert placed[4].tolist() == [48, 4, 52, 6]
    assert placed[5].tolist() == [45, -5, 55, 15]
    assert placed[6].tolist() == [8, 14, 12, 16]
    assert placed[-1].tolist() == [27, 7, 33, 13]
    assert anchors.per_cell == (2, 1)
    assert AnchorSet.from_lists(anchors.as_lists()) == anchors
    assert place_cells((2, 3), input_hw=(20, 60))[4].tolist() == [20, 10, 40, 20]
    assert strides_of([(2, 3)], input_hw=(20, 60)) == pytest.approx((math.sqrt(200),))


def test_anchors_of_the_ssd_snn():
    anchors = ssd_snn_anchors(GEN1)
    assert anchors.per_cell == (4, 6, 6, 6, 4, 4)
    placed = anchors.place(GEN1_MAPS, input_hw=GEN1)
    assert len(placed) == 25_610
    sizes = (placed[:4, 2:] - placed[:4, :2]) / torch.tensor([304.0, 240.0])
    # s_0 = 0.05, s_1 = 0.2, ratio 2.
    expected = [[0.05, 0.05], [0.1, 0.1], [0.05 * 2**0.5, 0.05 / 2**0.5], [0.05 / 2**0.5, 0.05 * 2**0.5]]
    torch.testing.assert_close(sizes, torch.tensor(expected))
    # At the last level sqrt(0.8 * 1), and ratios held within the image.
    assert anchors.sizes[-1][1] == pytest.approx((304 * 0.8**0.5, 240 * 0.8**0.5))
    assert anchors.sizes[-1][2] == pytest.approx((304, 240 * 0.8 / 2**0.5))
    # What the specification measured of them: upright slim boxes are reached by none.
    slim = random_boxes(400, hw=GEN1, seed=1)
    slim[:, 2:] = slim[:, :2] + torch.tensor([12.0, 34.0])
    none = anchor_coverage(placed, slim, torch.zeros(400, dtype=torch.int64), classes=1)
    assert none.covered == (0,)
    assert none.mean_iou[0] == pytest.approx(0.42, abs=0.01)


def test_usual_anchors_are_four_strides_large():
    (level,) = usual_anchors([8]).sizes
    assert len(level) == 9
    assert sorted({round(math.sqrt(w * h), 3) for w, h in level}) == [32, round(32 * 2 ** (1 / 3), 3), 50.797]
    assert sorted({round(w / h, 3) for w, h in level}) == [0.5, 1, 2]


def test_clusters_are_found_where_they_are():
    draw = torch.Generator().manual_seed(3)
    true = torch.tensor([[10.0, 12.0], [40.0, 20.0], [30.0, 90.0]])
    sizes = true.repeat(200, 1) * (1 + 0.1 * torch.rand(600, 2, generator=draw) - 0.05)
    found = cluster_sizes(sizes, count=3)
    torch.testing.assert_close(found, true, rtol=0.02, atol=0)
    assert torch.equal(found, cluster_sizes(sizes, count=3))
    assert cluster_sizes(true, count=9).shape == (3, 2)


def test_fitted_anchors_cover_every_class_or_are_refused():
    boxes, labels = random_boxes(900, hw=GEN1, seed=2, smallest=16), torch.arange(900) % 2
    # Class 1 is slim and upright.
    upright = labels == 1
    boxes[upright, 2:] = boxes[upright, :2] + torch.tensor([16.0, 44.0])
    maps = [(60, 76), (30, 38), (15, 19)]
    anchors, coverage = fit_anchors(boxes, labels, classes=2, maps_hw=maps, input_hw=GEN1)
    assert min(coverage.shares) >= 0.9
    assert coverage.boxes == (450, 450)
    again = anchor_coverage(anchors.place(maps, input_hw=GEN1), boxes, labels, classes=2)
    assert again == coverage
    assert all(count >= 1 for count in anchors.per_cell)
    # Cells of 80 pixels do not reach them, whatever the sizes.
    coarse = {"classes": 2, "maps_hw": [(3, 4)], "input_hw": GEN1}
    with pytest.raises(
        DetectionError, match=r"found \d+\.\d% of the 450 boxes of class \d overlapped by 0.5"
    ):
        fit_anchors(boxes, labels, **coarse)
    _, allowed = fit_anchors(boxes, labels, least_coverage=0, **coarse)
    assert 0 < min(allowed.shares) < 0.9
    _, one_class = fit_anchors(boxes[upright], labels[upright], classes=2, maps_hw=maps, input_hw=GEN1)
    assert math.isnan(one_class.shares[0])
    assert one_class.shares[1] > 0.9


def test_every_level_gets_anchors():
    boxes = torch.tensor([[0.0, 0.0, 30.0, 34.0], [20.0, 20.0, 60.0, 50.0]]).repeat(4, 1)
    maps = [(30, 38), (8, 10), (1, 2)]
    anchors, _ = fit_anchors(
        boxes,
        torch.zeros(8, dtype=torch.int64),
        classes=1,
        maps_hw=maps,
        input_hw=GEN1,
        least_coverage=0,
    )
    assert anchors.per_cell == (2, 1, 1)
    assert set(anchors.sizes[2]) == {(40.0, 30.0)}


@pytest.mark.parametrize("weights", [SSD_WEIGHTS, CELL_WEIGHTS])
@pytest.mark.parametrize("hw", [(96, 128), (240, 304), (720, 1280)])
def test_boxes_survive_their_code(weights, hw):
    boxes = random_boxes(3000, hw=hw, seed=4, smallest=1.0)
    # No box is 62.5 times its anchor, where the code ends.
    anchors = random_boxes(3000, hw=hw, seed=5, smallest=24.0)
    back = decode_boxes(encode_boxes(boxes, anchors, weights=weights), anchors, weights=weights)
    assert float((back - boxes).abs().max()) < 1e-4


def test_code_by_hand():
    anchor, box = torch.tensor([[10.0, 20.0, 30.0, 60.0]]), torch.tensor([[22.0, 20.0, 32.0, 40.0]])
    # Centres 20, 40 and 27, 30; sizes 20 x 40 and 10 x 20.
    expected = [10 * 7 / 20, 10 * -10 / 40, 5 * math.log(0.5), 5 * math.log(0.5)]
    assert encode_boxes(box, anchor)[0].tolist() == pytest.approx(expected)
    huge = decode_boxes(torch.tensor([[0.0, 0, 1e4, 0]]), anchor)
    assert huge[0].tolist() == pytest.approx([20 - 625, 20, 20 + 625, 60])
    with pytest.raises(DetectionError, match=r"boxes: found \[5.0, 5.0, 5.0, 9.0\], without width or height"):
        encode_boxes(torch.tensor([[5.0, 5, 5, 9]]), anchor)


def test_matching_by_hand():
    anchors = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [4, 0, 14, 10], [50, 50, 60, 60]])
    box = torch.tensor([[0.0, 0, 10, 10]])
    # Overlaps 1, 1/3, 3/7, 0.
    assert match_anchors(anchors, box, SETTINGS).tolist() == [0, BACKGROUND, LEFT_OUT, BACKGROUND]
    published = MatcherSettings(negative_iou=0.5)
    assert match_anchors(anchors, box, published).tolist() == [0, BACKGROUND, BACKGROUND, BACKGROUND]
    assert match_anchors(anchors, box[:0], SETTINGS).tolist() == [BACKGROUND] * 4
    ignored = torch.tensor([[48.0, 40, 70, 70]])
    found = match_anchors(anchors, box, SETTINGS, ignored=ignored)
    assert found.tolist() == [0, BACKGROUND, LEFT_OUT, LEFT_OUT]
    # An anchor that answers for a box is not left out because it lies in an ignored one as well.
    assert match_anchors(anchors, box, SETTINGS, ignored=box)[0] == 0


def test_a_box_takes_its_anchor_from_one_that_overlaps_it_as_much():
    anchors = torch.tensor([[0.0, 0, 10, 10], [100, 100, 110, 110]])
    # Both overlap the first anchor by 0.5; the second box has nothing else.
    boxes = torch.tensor([[0.0, 0, 10, 5], [0, 5, 10, 10]])
    assert sorted(match_anchors(anchors, boxes, SETTINGS).tolist()) == [0, 1]
    # One anchor is best for both; the better one has it, and the other the next best.
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 30]])
    boxes = torch.tensor([[0.0, 0, 10, 8], [0, 0, 10, 9]])
    assert match_anchors(anchors, boxes, SETTINGS).tolist() == [1, 0]
    # A box's only anchor stays its own, even where it overlaps another box more.
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 11]])
    boxes = torch.tensor([[0.0, 0, 10, 11], [0, 0, 4, 10]])
    assert match_anchors(anchors, boxes, SETTINGS).tolist() == [1, 0]


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("rule", ["anchors", "cells"])
def test_every_box_is_answered_for(seed, rule):
    hw = (96, 128)
    maps = [(12, 16), (6, 8), (3, 4)]
    boxes = random_boxes(1 + seed, hw=hw, seed=seed, smallest=1.0)
    # Boxes that lie on others, between cells, or outside the image.
    boxes = torch.cat([boxes, boxes[:3], boxes[:2] + 300, torch.tensor([[16.2, 16.2, 16.4, 16.4]])])
    if rule == "anchors":
        matched = match_anchors(usual_anchors((8, 16, 32)).place(maps, input_hw=hw), boxes, SETTINGS)
    else:
        cells = torch.cat([place_cells(each, input_hw=hw) for each in maps])
        matched = match_cells(cells, boxes, SETTINGS)
    assert set(range(len(boxes))) <= set(matched.tolist())
    assert int(matched.min()) < 0


def test_cells_by_hand():
    # Cells of 8 and 16 pixels. A box of 32 x 32 belongs to the first level, one of 64 x 64 to the second.
    hw, maps = (64, 64), [(8, 8), (4, 4)]
    cells = torch.cat([place_cells(each, input_hw=hw) for each in maps])
    boxes = torch.tensor([[8.0, 8, 40, 40], [0, 0, 64, 64], [16, 16, 24, 24]])
    matched = match_cells(cells, boxes, SETTINGS)
    first, second = matched[:64].reshape(8, 8), matched[64:].reshape(4, 4)
    # Within 12 pixels of 24, 24: centres at 12, 20, 28, 36. The small box is inside and takes cell 2, 2.
    expected = torch.full((8, 8), BACKGROUND)
    expected[1:5, 1:5] = 0
    expected[2, 2] = 2
    assert torch.equal(first, expected)
    assert torch.equal(
        second,
        torch.full((4, 4), BACKGROUND).index_put(
            (torch.tensor([[0], [1], [2], [3]]), torch.arange(4)), torch.tensor(1)
        ),
    )


def test_what_does_not_fit_is_named():
    anchors = torch.tensor([[0.0, 0, 10, 10]])
    with pytest.raises(DetectionError, match="boxes: found 2 in an image with 1 anchors"):
        match_anchors(anchors, anchors.repeat(2, 1), SETTINGS)
    with pytest.raises(DetectionError, match=r"found 0.4 and 0.5, expected 0 < negative_iou <= positive_iou"):
        MatcherSettings(positive_iou=0.4, negative_iou=0.5)
    with pytest.raises(DetectionError, match="anchors: found none at level 1"):
        AnchorSet((((1.0, 2.0),), ()))
    with pytest.raises(DetectionError, match=r"anchors: found \(1.0, -2.0\) at level 0"):
        AnchorSet((((1.0, -2.0),),))
    with pytest.raises(DetectionError, match="anchors: found 1 levels for 2 maps"):
        AnchorSet((((1.0, 2.0),),)).place([(1, 1), (2, 2)], input_hw=(8, 8))
    fit = {"classes": 2, "maps_hw": [(2, 2)], "input_hw": (8, 8)}
    with pytest.raises(DetectionError, match="labels: found 2 to 2, expected classes 0 to 1"):
        fit_anchors(anchors, torch.tensor([2]), **fit)
    with pytest.raises(DetectionError, match="boxes: found none, expected boxes to fit anchors to"):
        fit_anchors(anchors[:0], torch.zeros(0, dtype=torch.int64), **fit)
    with pytest.raises(
        DetectionError, match=r"found shapes \(1, 4\) and \(2,\), expected \[M, 4\] and \[M\]"
    ):
        fit_anchors(anchors, torch.tensor([0, 1]), **fit)
    with pytest.raises(DetectionError, match="boxes: found one without width or height"):
        fit_anchors(anchors * 0, torch.tensor([0]), **fit)

"""Suppression: what a loop over boxes keeps is kept, whatever the boxes."""

import numpy as np
import pytest
import torch

from snn.detection.nms import GROUP, best_few, keep_apart, which_stay
from snn.errors import DetectionError


def overlap(a, b):
    """IoU of two boxes, in float32 and the order of torch's operations, from its definition."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, np.float32(0)) * max(height, np.float32(0))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return np.float32(0) if union == 0 else shared / union


def brute_force(boxes, scores, labels, largest_iou):
    """One box after the other against those already kept."""
    kept = []
    for n in sorted(range(len(boxes)), key=lambda n: (-scores[n], n)):
        rivals = [m for m in kept if labels[m] == labels[n]]
        if all(overlap(boxes[m], boxes[n]) <= np.float32(largest_iou) for m in rivals):
            kept.append(n)
    return sorted(kept)


def random_set(draw):
    """Boxes on a coarse grid, so that equal boxes, equal scores and empty boxes are common; or none."""
    n = int(draw.choice([0, 1, 2, 5, 20, 40]))
    corner, size = draw.integers(0, 24, (n, 2)), draw.integers(0, 16, (n, 2))
    boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    if draw.random() < 0.5:
        boxes += draw.random((n, 4)).astype(np.float32) * [[0, 0, 1, 1]]
    scores = draw.integers(0, 6, n) / 5 if draw.random() < 0.5 else draw.random(n)
    return boxes.astype(np.float32), scores.astype(np.float32), draw.integers(0, 3, n)


def test_as_one_after_the_other_on_1000_random_sets():
    draw = np.random.default_rng(7)
    dropped = 0
    for number in range(1000):
        boxes, scores, labels = random_set(draw)
        largest_iou = [0.0, 0.25, 0.45, 0.5, 1.0][number % 5]
        expected = brute_force(boxes, scores, labels, largest_iou)
        found = keep_apart(
            torch.from_numpy(boxes),
            torch.from_numpy(scores),
            largest_iou=largest_iou,
            labels=torch.from_numpy(labels),
        )
        assert found.tolist() == expected, number
        dropped += len(boxes) - len(expected)
    assert dropped > 1000


def test_many_images_at_once_are_as_each_alone():
    draw = np.random.default_rng(8)
    sets = [random_set(draw) for _ in range(30)]
    most = max(len(boxes) for boxes, _, _ in sets)
    batch = torch.full((30, most, 4), torch.nan)
    scores, there = torch.full((30, most), torch.nan), torch.zeros(30, most, dtype=torch.bool)
    labels = torch.zeros(30, most, dtype=torch.int64)
    for image, (boxes, worth, kinds) in enumerate(sets):
        batch[image, : len(boxes)], scores[image, : len(boxes)] = (
            torch.from_numpy(boxes),
            torch.from_numpy(worth),
        )
        labels[image, : len(boxes)], there[image, : len(boxes)] = torch.from_numpy(kinds), True
    stay = which_stay(batch, scores, largest_iou=0.45, labels=labels, there=there)
    for image, (boxes, worth, kinds) in enumerate(sets):
        assert stay[image].nonzero()[:, 0].tolist() == brute_force(boxes, worth, kinds, 0.45)


@pytest.mark.parametrize("values", [7, 2**20], ids=["many equal", "few equal"])
def test_the_best_few_are_those_of_a_whole_sort(values):
    draw = np.random.default_rng(9)
    for A in (1, 5, GROUP - 1, GROUP, 3 * GROUP + 1, 50 * GROUP - 7):
        scores = draw.integers(0, values, (2, 3, A)).astype(np.float32) / values
        for count in (1, 4, 49, 1000):
            best, at = best_few(torch.from_numpy(scores), count)
            expected = -np.sort(-scores, axis=-1)[..., :count]
            np.testing.assert_array_equal(best, expected)
            np.testing.assert_array_equal(np.take_along_axis(scores, at.numpy(), axis=-1), expected)
            assert all(len(set(row)) == len(row) for row in at.reshape(6, -1).tolist())


def test_a_chain_is_decided_from_its_best_box():
    # Each overlaps the next by 0.6: every second one stays.
    boxes = torch.tensor([[2.5 * n, 0.0, 2.5 * n + 10, 10] for n in range(9)])
    assert keep_apart(boxes, torch.arange(9, 0, -1.0), largest_iou=0.5).tolist() == [0, 2, 4, 6, 8]


def test_half_precision_is_computed_in_single():
    # An area of 10^6 overflows in float16.
    boxes = torch.tensor([[0.0, 0, 1000, 1000], [0, 0, 1000, 600]], dtype=torch.float16)
    assert keep_apart(boxes, torch.tensor([0.9, 0.8]), largest_iou=0.5).tolist() == [0]


def test_what_does_not_fit_is_named():
    boxes, scores = torch.zeros(3, 4), torch.zeros(3)
    with pytest.raises(DetectionError, match=r"boxes: found nan in image 0, box 1, expected numbers"):
        keep_apart(boxes.index_put((torch.tensor(1),), torch.tensor(torch.nan)), scores, largest_iou=0.5)
    with pytest.raises(DetectionError, match=r"scores: found nan in image 0, box 2"):
        keep_apart(boxes, torch.tensor([0.0, 1.0, torch.nan]), largest_iou=0.5)
    with pytest.raises(DetectionError, match=r"scores: found shape \(1, 2\) for boxes \(1, 3, 4\)"):
        keep_apart(boxes, scores[:2], largest_iou=0.5)
    with pytest.raises(DetectionError, match=r"largest_iou: found 1.5, expected a number from 0 to 1"):
        keep_apart(boxes, scores, largest_iou=1.5)
    with pytest.raises(DetectionError, match=r"boxes: found shape \(1, 4, 3\), expected \[\.\.\., N, 4\]"):
        keep_apart(boxes.T.contiguous(), scores, largest_iou=0.5)

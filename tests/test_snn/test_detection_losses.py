"""Losses of the detector, by hand and at their ends."""

import math

import pytest
import torch

from snn.detection.losses import focal_loss, giou_loss, prior_bias


def test_focal_loss_by_hand():
    # p = 0.8 and 0.25.
    logits = torch.tensor([math.log(4.0), -math.log(3.0)])
    found = focal_loss(logits, torch.tensor([1.0, 0.0]))
    assert found.tolist() == pytest.approx(
        [-0.25 * 0.2**2 * math.log(0.8), -0.75 * 0.25**2 * math.log(0.75)], rel=1e-5
    )
    # Without focus, and both targets alike, it is half the cross entropy.
    plain = focal_loss(logits, torch.tensor([1.0, 0.0]), alpha=0.5, gamma=0.0)
    assert plain.tolist() == pytest.approx([-0.5 * math.log(0.8), -0.5 * math.log(0.75)], rel=1e-5)
    far = focal_loss(torch.tensor([200.0, -200.0], dtype=torch.float16), torch.tensor([0.0, 1.0]))
    assert far.tolist() == pytest.approx([150, 50])


def test_giou_by_hand():
    box = torch.tensor([[0.0, 0, 4, 2]])
    # The same; half of it; apart by 4, in a hull of 12 x 2.
    others = torch.tensor([[0.0, 0, 4, 2], [0, 0, 2, 2], [8, 0, 12, 2]])
    found = giou_loss(box.expand(3, 4), others)
    assert found.tolist() == pytest.approx([0, 0.5, 1 + 8 / 24])
    # Boxes apart still pull at each other: the near edge goes left.
    moved = torch.tensor([[8.0, 0, 12, 2]], requires_grad=True)
    giou_loss(moved, box).sum().backward()
    assert moved.grad[0, 0] > 0
    nothing = torch.zeros(1, 4)
    assert torch.isfinite(giou_loss(nothing, nothing)).all()


def test_a_class_begins_at_its_prior():
    assert 1 / (1 + math.exp(-prior_bias(0.01))) == pytest.approx(0.01)
    # What the specification says of heads without a bias: hundreds where this is a few.
    anchors = torch.zeros(25_610, 2)
    free = float(focal_loss(anchors, torch.zeros_like(anchors)).sum()) / 15
    held = float(focal_loss(anchors + prior_bias(0.01), torch.zeros_like(anchors)).sum()) / 15
    assert 330 < free < 660
    assert held < 0.1

"""Temporal efficient training loss and its target."""

import math

import pytest
import torch
from torch import nn

from snn.errors import SnnError
from snn.losses import Mixed, mean_threshold, tet_loss
from snn.neurons.modules import Neuron
from snn.neurons.settings import NeuronSettings


def test_loss_counted_by_hand():
    # Two steps, one sample, two classes. Cross entropies: log(1 + e^-2) and log(1 + e^0).
    logits = torch.tensor([[[2.0, 0.0]], [[1.0, 1.0]]])
    label = torch.tensor([0])
    entropy = (math.log(1 + math.exp(-2)) + math.log(2)) / 2
    squares = ((2 - 0.5) ** 2 + 0.5**2 + 0.5**2 + 0.5**2) / 4
    for weight in (0.0, 0.3, 1.0):
        expected = (1 - weight) * entropy + weight * squares
        assert tet_loss(logits, label, weight=weight, target=0.5).item() == pytest.approx(expected, rel=1e-6)


def test_gradient_follows_its_formula():
    draw = torch.Generator().manual_seed(2)
    logits = torch.randn(3, 4, 5, generator=draw, dtype=torch.float64, requires_grad=True)
    labels, weight, target = torch.tensor([4, 0, 2, 2]), 0.9, 0.62
    tet_loss(logits, labels, weight=weight, target=target).backward()
    onehot = torch.eye(5, dtype=torch.float64)[labels]
    x = logits.detach()
    expected = (1 - weight) * (x.softmax(-1) - onehot) / (4 * 3) + 2 * weight * (x - target) / (3 * 4 * 5)
    torch.testing.assert_close(logits.grad, expected)


def test_every_step_is_classified_with_its_own_sample():
    logits = torch.zeros(2, 3, 3)
    labels = torch.tensor([0, 1, 2])
    for step in range(2):
        logits[step, torch.arange(3), labels] = 50.0
    assert tet_loss(logits, labels, weight=0.0, target=1.0).item() < 1e-6


def test_half_precision_logits_give_a_float32_loss():
    loss = tet_loss(torch.zeros(2, 1, 2, dtype=torch.bfloat16), torch.tensor([1]), weight=0.1, target=1.0)
    assert loss.dtype == torch.float32


@pytest.mark.parametrize(
    ("logits", "labels", "weight", "message"),
    [
        (
            (2, 3),
            2,
            0.1,
            r"logits and labels: found shapes \(2, 3\) and \(2,\), expected \[T, B, K\] and \[B\]",
        ),
        ((4, 2, 3), 4, 0.1, r"found shapes \(4, 2, 3\) and \(4,\)"),
        ((4, 2, 3), 2, 1.1, r"weight: found 1\.1, expected a number from 0 to 1"),
    ],
)
def test_refusals(logits, labels, weight, message):
    with pytest.raises(SnnError, match=message):
        tet_loss(torch.zeros(logits), torch.zeros(labels, dtype=torch.int64), weight=weight, target=1.0)


def test_mean_threshold_counts_learned_ones_only():
    model = nn.Sequential(
        Neuron(NeuronSettings(learn_threshold=False, threshold=9.0)),
        Neuron(NeuronSettings(threshold=0.5)),
        Neuron(NeuronSettings(threshold=0.2, threshold_constraint="positive")),
    )
    assert mean_threshold(model) == pytest.approx(0.35)
    assert mean_threshold(nn.Sequential(Neuron(NeuronSettings(learn_threshold=False)))) is None


def test_smoothed_labels_and_samples_made_of_two_are_soft_targets():
    draw = torch.Generator().manual_seed(5)
    logits = torch.randn(3, 4, 5, generator=draw, dtype=torch.float64)
    labels, other = torch.tensor([4, 0, 2, 2]), torch.tensor([1, 0, 3, 4])
    share, smoothing = torch.tensor([0.25, 0.5, 1.0, 0.0]), 0.1
    onehot = torch.eye(5, dtype=torch.float64)
    target = share[:, None] * onehot[labels] + (1 - share[:, None]) * onehot[other]
    target = (1 - smoothing) * target + smoothing / 5
    options = {"weight": 0.0, "target": 1.0, "label_smoothing": smoothing, "mixed": Mixed(other, share)}
    expected = -(target * logits.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(tet_loss(logits, labels, **options), expected)
    expected = -(target * logits.mean(0).log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(tet_loss(logits, labels, loss_of="mean", **options), expected)


def test_loss_of_the_mean_over_steps():
    logits = torch.tensor([[[2.0, 0.0]], [[0.0, 0.0]]])
    label = torch.tensor([0])
    found = tet_loss(logits, label, weight=0.5, target=1.0, loss_of="mean")
    expected = 0.5 * math.log(1 + math.exp(-1)) + 0.5 * (1 + 1 + 1 + 1) / 4
    assert found.item() == pytest.approx(expected, rel=1e-6)
    with pytest.raises(SnnError, match="loss_of: found 'step', expected one of steps, mean"):
        tet_loss(logits, label, weight=0.5, target=1.0, loss_of="step")

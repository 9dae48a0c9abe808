"""Thresholds and decays in training: a learning rate of their own, and bounds; schedules as M-LIF's."""

import pytest
import torch
from torch import nn

from snn.errors import TrainingError
from snn.neurons.modules import Neuron
from snn.neurons.settings import published
from snn.training.optimizer import build_optimizer, keep_bounds, learning_rate_at, set_learning_rates
from snn.training.settings import TrainSettings


def network():
    return nn.ModuleDict({"layer": nn.Linear(2, 2), "neuron": Neuron(published("mlif_converted"))})


@pytest.mark.parametrize(("schedule", "expected"), [("constant", 1e-2), ("same", 2e-3)])
def test_thresholds_have_their_own_rate(schedule, expected):
    settings = TrainSettings(
        optimizer="amsgrad",
        learning_rate=1e-4,
        schedule="milestones",
        milestones=(0.5,),
        step_factor=0.2,
        epochs=10,
        threshold_learning_rate=1e-2,
        threshold_schedule=schedule,
        weight_decay=0.1,
    )
    model = network()
    optimizer = build_optimizer(model, settings, fused=False)
    assert optimizer.defaults["amsgrad"] is True
    set_learning_rates(optimizer, 5 * 3, steps_per_epoch=3, settings=settings)
    weights, rest, thresholds = optimizer.param_groups
    assert [id(p) for p in thresholds["params"]] == [id(model["neuron"].threshold)]
    assert thresholds["weight_decay"] == 0.0
    # The leak learns like biases do.
    assert any(p is model["neuron"].decay for p in rest["params"])
    assert (weights["lr"], rest["lr"]) == (pytest.approx(2e-5), pytest.approx(2e-5))
    assert thresholds["lr"] == pytest.approx(expected)


def test_milestones_as_published():
    # Divided by 5 on entering epochs int(0.6 * 150), 120 and 135.
    settings = TrainSettings(
        epochs=150, learning_rate=1.0, schedule="milestones", milestones=(0.6, 0.8, 0.9), step_factor=0.2
    )
    for epoch, falls in ((0, 0), (89, 0), (90, 1), (119, 1), (120, 2), (134, 2), (135, 3), (149, 3)):
        assert learning_rate_at(epoch * 7 + 6, steps_per_epoch=7, settings=settings) == pytest.approx(
            0.2**falls
        )


def test_a_warm_up_may_begin_above_0():
    settings = TrainSettings(learning_rate=1.0, warmup_epochs=2.0, warmup_from=0.2, schedule="constant")
    rates = [learning_rate_at(step, steps_per_epoch=2, settings=settings) for step in range(5)]
    assert rates == pytest.approx([0.4, 0.6, 0.8, 1.0, 1.0])


def test_thresholds_and_decays_come_back_within_their_bounds():
    model = network()
    with torch.no_grad():
        model["neuron"].threshold.fill_(-0.5)
        model["neuron"].decay.fill_(1.2)
    keep_bounds(model, TrainSettings())
    assert model["neuron"].threshold.item() == -0.5
    keep_bounds(model, TrainSettings(threshold_floor=0.01, decay_bounds=(0.0, 1.0)))
    assert model["neuron"].threshold.item() == pytest.approx(0.01)
    assert model["neuron"].decay.item() == 1.0
    with torch.no_grad():
        model["neuron"].decay.fill_(-0.1)
    keep_bounds(model, TrainSettings(decay_bounds=(0.0, 1.0)))
    assert model["neuron"].decay.item() == 0.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold_floor": 0.0}, "threshold_floor must be above 0, got 0.0; none turns it off"),
        ({"threshold_learning_rate": -1.0}, "threshold_learning_rate must be above 0, got -1.0"),
        ({"decay_bounds": (0.9, 0.1)}, r"decay_bounds must be two numbers from 0 to 1.*got \[0.9, 0.1\]"),
        ({"milestones": (0.5, 1.0)}, r"milestones must be shares between 0 and 1, got \[0.5, 1.0\]"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(TrainingError, match=message):
        TrainSettings(**settings)

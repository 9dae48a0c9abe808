"""LAMB against its formula."""

import pytest
import torch

from snn.training.lamb import Lamb
from snn.training.optimizer import build_optimizer
from snn.training.settings import TrainSettings


def test_first_steps_by_hand():
    """Of the first step, the direction is the sign of the gradient (eps aside), plus the decay."""
    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    free = torch.nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    groups = [{"params": [weight], "weight_decay": 0.5}, {"params": [free]}]
    optimizer = Lamb(groups, lr=0.1, eps=0.0)
    weight.grad = free.grad = torch.tensor([2.0, -1.0], dtype=torch.float64)
    optimizer.step()
    direction = torch.tensor([1 + 1.5, -1 + 2.0], dtype=torch.float64)
    expected = torch.tensor([3.0, 4.0], dtype=torch.float64) - 0.1 * 5 / direction.norm() * direction
    torch.testing.assert_close(weight.detach(), expected)
    torch.testing.assert_close(free.detach(), torch.tensor([2.9, 4.1], dtype=torch.float64))


def test_without_decay_it_is_adam():
    ends = []
    for kind in (Lamb, torch.optim.Adam):
        weight = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
        optimizer = kind([weight], lr=0.05, eps=1e-6)
        for _ in range(5):
            optimizer.zero_grad()
            weight.pow(4).sum().backward()
            optimizer.step()
        ends.append(weight.detach())
    torch.testing.assert_close(*ends)


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_a_weight_of_zeros_moves_and_a_run_goes_on_from_its_state(start):
    def after(steps, state=None):
        layer = torch.nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            layer.weight.fill_(start)
        settings = TrainSettings(optimizer="lamb", learning_rate=0.1, weight_decay=0.01)
        optimizer = build_optimizer(layer, settings, fused=False)
        for _ in range(steps):
            optimizer.zero_grad()
            (layer.weight - 2).square().sum().backward()
            optimizer.step()
        return layer, optimizer

    layer, optimizer = after(3)
    assert (layer.weight != start).all()
    again, other = after(0)
    again.load_state_dict(layer.state_dict())
    other.load_state_dict(optimizer.state_dict())
    for network, moving in ((layer, optimizer), (again, other)):
        moving.zero_grad()
        (network.weight - 2).square().sum().backward()
        moving.step()
    assert torch.equal(layer.weight, again.weight)

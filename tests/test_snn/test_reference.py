"""The definition of the neurons, against formulas written out by hand."""

import random
from dataclasses import replace

import pytest
import torch
from suites.neuron_suite import FEW, LT, SETTINGS, NeuronSuite

from snn.errors import NeuronError
from snn.neurons.membrane import CHOICES as MEMBRANE_CHOICES
from snn.neurons.membrane import MEMBRANES
from snn.neurons.reference import NeuronParameters, expand_lanes, run_lanes, run_neurons
from snn.neurons.settings import CHOICES, NeuronSettings

ONE = NeuronParameters(torch.tensor(1.0))


class TestReference(NeuronSuite):
    run = staticmethod(run_neurons)


def drawn(seed):
    """Any settings that go together; powers of two, so that on a grid nothing is rounded."""
    draw = random.Random(seed)
    options = {name: draw.choice(choices) for name, choices in CHOICES.items()}
    options |= {
        name: draw.random() < 0.4 for name in ("scaled", "learn_decay", "per_channel", "detach_reset")
    }
    options |= {
        "lanes": draw.choice([1, 1, 2, 3, 4, 8]),
        "decay": draw.choice([0.0, 0.25, 0.5, 0.75, 1.0]),
        "threshold": draw.choice([0.25, 0.5, 1.0, 2.0]),
        "rest": draw.choice([0.0, 0.0, -0.25, 0.5]),
        "gamma": draw.choice([0.5, 1.0, 2.0]),
        "slope": draw.choice([1.0, 4.0]),
        "surrogate_scale": draw.choice([1.0, 0.3]),
    }
    membrane = draw.choice(list(MEMBRANES.values()))
    if membrane.levels:
        changed = {name: draw.choice(choices) for name, choices in MEMBRANE_CHOICES.items()}
        membrane = replace(membrane, **changed, slope=draw.choice([1.0, 3.0]))
    try:
        return NeuronSettings(**options, membrane=membrane)
    except NeuronError:
        return drawn(seed + 1_000_000)


@pytest.mark.parametrize("seed", range(150))
def test_options_drawn_together_follow_the_formulas(seed):
    settings = drawn(seed)
    shape = ((4, 2, 2, 3, 5), (3, 2, 4), (4, 1, 3, 2, 2))[seed % 3]
    TestReference().follow_formulas(settings, shape, grid=8, masked=seed % 4 == 0)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_threshold_per_channel_is_summed_over_its_channel_alone():
    current = torch.tensor([[[[0.9, 1.2], [0.4, 0.7]]]])  # [T, B, C, W]
    threshold = torch.tensor([1.0, 0.5], requires_grad=True)  # [C]
    settings = NeuronSettings(threshold_gradient="subtract+explicit")
    spikes, _ = run_neurons(current, None, NeuronParameters(threshold), settings=settings)
    assert spikes.flatten().tolist() == [0, 1, 0, 1]
    spikes.sum().backward()
    # triangle: 0.9, 0.8 and 0.9, 0.8; neurons that fired add triangle * sigmoid(0.2) = 0.8 * 0.549834
    one = -(0.9 + 0.8 + 0.8 * 0.549833997)
    torch.testing.assert_close(threshold.grad, torch.tensor([one, one]))


# Lanes.


@pytest.mark.parametrize(
    "name", [*(name for name in FEW if SETTINGS[name].spike_value == "one"), "8 lanes", "8 lanes cumulative"]
)
def test_lanes_add_up_to_the_spikes_and_come_back_from_them(name):
    settings = SETTINGS[name]
    current = 3 * noise(6, 2, 3, 4)
    parameters = NeuronParameters(torch.tensor(settings.threshold))
    spikes, v = run_neurons(current, None, parameters, settings=settings)
    lanes, v_of_lanes = run_lanes(current, None, parameters, settings=settings)
    assert lanes.shape == (6, settings.lanes, 2, 3, 4)
    weights = torch.tensor(settings.lane_values, dtype=torch.float64).reshape(-1, 1, 1, 1)
    assert torch.equal((lanes * weights).sum(1), spikes)
    assert torch.equal(v, v_of_lanes)
    expanded = expand_lanes(spikes, settings=settings)
    assert expanded.dtype == torch.bool
    assert torch.equal(expanded, lanes == 1)


def test_lanes_counted_by_hand():
    current = torch.tensor([[0.9, 1.0, 1.1, 2.0, 2.1, 4.1]])
    lanes, _ = run_lanes(current, None, ONE, settings=NeuronSettings(lanes=3, fire_rule=">"))
    assert lanes[0].tolist() == [[0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1]]
    lanes, _ = run_lanes(current, None, ONE, settings=NeuronSettings(lanes=3, firing="cumulative"))
    assert lanes[0].tolist() == [[0, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1]]


@pytest.mark.parametrize("edge", ["subtract", "add"])
def test_each_lane_has_its_own_gradient(edge):
    current = torch.tensor([[1.9]], requires_grad=True)
    settings = NeuronSettings(lanes=2, upper_edge=edge)
    lanes, _ = run_lanes(current, None, ONE, settings=settings)
    sign = -1 if edge == "subtract" else 1
    # Triangles of half width 1 around 1 and 2: 0.1 and 0.9.
    for s, expected in enumerate((0.1 + sign * 0.9, 0.9)):
        (grad,) = torch.autograd.grad(lanes[0, s, 0], current, retain_graph=True)
        torch.testing.assert_close(grad, torch.tensor([[expected]]))


def test_lanes_of_half_precision_keep_its_dtype():
    lanes, v = run_lanes(torch.ones(2, 3, dtype=torch.float16), None, ONE, settings=NeuronSettings(lanes=2))
    assert (lanes.dtype, v.dtype) == (torch.float16, torch.float32)


def test_lanes_of_learned_values_cannot_be_told():
    settings = NeuronSettings(spike_value="learned")
    with pytest.raises(NeuronError, match="spike_value: found 'learned', whose values are learned"):
        expand_lanes(torch.zeros(1, 2), settings=settings)


# Twice backward.


def test_gradient_can_be_differentiated_again():
    x = torch.tensor([[0.3, 0.9, 1.4]], dtype=torch.float64, requires_grad=True)
    settings = NeuronSettings(surrogate="sigmoid", slope=4.0)
    spikes, _ = run_neurons(x, None, ONE, settings=settings)
    (first,) = torch.autograd.grad(spikes.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    z = 1 / (1 + torch.exp(-4 * (x.detach() - 1)))
    torch.testing.assert_close(first.detach(), 4 * z * (1 - z))
    torch.testing.assert_close(second, 16 * z * (1 - z) * (1 - 2 * z))


@pytest.mark.parametrize("levels", [False, True])
def test_gradient_through_the_reset_can_be_differentiated_again(levels):
    membrane = MEMBRANES["ternary" if levels else "float"]
    settings = NeuronSettings(surrogate="sigmoid", slope=4.0, membrane=membrane)
    a = torch.tensor([[0.3, 0.9, 1.4]], dtype=torch.float64, requires_grad=True)
    _, v = run_neurons(a, None, ONE, settings=settings)
    (first,) = torch.autograd.grad(v.sum(), a, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), a)

    z = 1 / (1 + torch.exp(-4 * (a.detach() - 1)))
    k, k_slope = 4 * z * (1 - z), 16 * z * (1 - z) * (1 - 2 * z)
    fired = (a.detach() >= 1).double()
    # r = (1 - f) a with k for df/da, then v = Q(r): both derivatives by the chain rule.
    r, r1, r2 = (1 - fired) * a.detach(), (1 - fired) - a.detach() * k, -2 * k - a.detach() * k_slope
    q1, q2 = torch.ones_like(r), torch.zeros_like(r)
    if levels:
        y = [1 / (1 + torch.exp(-2 * (r - boundary))) for boundary in (-0.5, 0.5)]
        q1 = sum(2 * p * (1 - p) for p in y)
        q2 = sum(4 * p * (1 - p) * (1 - 2 * p) for p in y)
    torch.testing.assert_close(first.detach(), q1 * r1)
    torch.testing.assert_close(second, q2 * r1 * r1 + q1 * r2)


SMOOTH = replace(LT, surrogate="sigmoid", detach_reset=True, learn_decay=True)


@pytest.mark.parametrize(
    "settings",
    [
        SMOOTH,
        replace(SMOOTH, surrogate="atan", reset="soft", charge="decay_input", rest=-0.25),
        replace(SMOOTH, threshold_gradient="subtract+explicit"),
        replace(SMOOTH, threshold_gradient="subtract+squared"),
        *(
            replace(
                SMOOTH, lanes=3, threshold=0.3, surrogate_width=width, reset="soft_value", upper_edge=edge
            )
            for width in ("membrane", "threshold", "lane", "ignore_threshold")
            for edge in ("subtract", "add")
        ),
        replace(SMOOTH, lanes=3, firing="cumulative", threshold=0.3),
    ],
    ids=lambda s: (
        f"{s.surrogate}-{s.reset}-{s.lanes}-{s.surrogate_width}-{s.upper_edge}-{s.threshold_gradient}"
    ),
)
def test_second_derivative_is_the_slope_of_the_first(settings):
    """With the reset detached, the first gradient is smooth between the places where a spike changes."""
    x, g, pick = noise(3, 2, 3, seed=1), noise(3, 2, 3, seed=2), noise(3, 2, 3, seed=3)
    inputs = [x, torch.tensor(settings.threshold).double(), torch.tensor(0.75).double()]

    def first_gradients(given):
        given = [value.detach().requires_grad_() for value in given]
        spikes, v = run_neurons(given[0], None, NeuronParameters(given[1], None, given[2]), settings=settings)
        loss = (spikes * g).sum() + v.square().sum()
        grads = torch.autograd.grad(loss, given, create_graph=True, materialize_grads=True)
        return given, (grads[0] * pick).sum() + 0.5 * grads[1] - 0.25 * grads[2]

    given, mixed = first_gradients(inputs)
    found = torch.autograd.grad(mixed, given, materialize_grads=True)
    for i, value in enumerate(inputs):
        numeric = torch.zeros_like(value)
        for at in range(value.numel()):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [v.clone() for v in inputs]
                moved[i].view(-1)[at] += step
                ends.append(first_gradients(moved)[1].item())
            numeric.view(-1)[at] = (ends[0] - ends[1]) / 2e-6
        torch.testing.assert_close(found[i], numeric, rtol=1e-6, atol=1e-6)

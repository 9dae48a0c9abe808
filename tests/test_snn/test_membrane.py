"""Levels of the membrane: where they change, what passes them going backward, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from snn.errors import NeuronError
from snn.neurons.membrane import (
    CHIP_LEVELS,
    MEMBRANES,
    MembraneSettings,
    fewest_bits,
    membrane_slope,
    quantise_membrane,
)

UNEVEN = MembraneSettings(levels=(-1.5, -0.25, 0.0, 0.75))


def levels_of(values, settings):
    return quantise_membrane(torch.tensor(values, dtype=torch.float64), settings).tolist()


def test_without_levels_the_membrane_is_left_alone():
    r = torch.tensor([0.3, float("nan")])
    assert quantise_membrane(r, MEMBRANES["float"]) is r


def test_nearest_level_and_the_lower_of_two():
    values = [-9.0, -1.2, -0.5, -0.499, 0.0, 0.5, 0.501, 3.0]
    assert levels_of(values, MEMBRANES["ternary"]) == [-1, -1, -1, 0, 0, 0, 1, 1]
    # Halfway: -0.875, -0.125, 0.375.
    values = [-0.876, -0.875, -0.874, -0.125, -0.124, 0.375, 0.376]
    assert levels_of(values, UNEVEN) == [-1.5, -1.5, -0.25, -0.25, 0, 0, 0.75]


def test_floor_is_the_highest_level_not_above():
    settings = replace(UNEVEN, rounding="floor")
    assert levels_of([-2.0, -1.5, -0.26, -0.25, -0.001, 0.0, 0.74, 0.75, 8.0], settings) == [
        -1.5,
        -1.5,
        -1.5,
        -0.25,
        -0.25,
        0,
        0,
        0.75,
        0.75,
    ]


def test_chip_grid_is_rounding_to_eighths_within_its_range():
    assert (len(CHIP_LEVELS), CHIP_LEVELS[0], CHIP_LEVELS[-1]) == (24, -2.0, 0.875)
    r = np.random.default_rng(0).uniform(-3, 2, size=1000)
    expected = np.clip(np.round(8 * r), -16, 7) / 8
    assert levels_of(r, MEMBRANES["chip"]) == expected.tolist()
    assert levels_of([0.0625, -0.0625, 0.1875], MEMBRANES["chip"]) == [0, -0.125, 0.125]  # ties go down


def test_released_floor_grid_has_a_hole():
    floor23 = MEMBRANES["floor23"]
    assert len(floor23.levels) == 23
    assert levels_of([0.24, 0.25, 0.374, 0.375], floor23) == [0.125, 0.125, 0.125, 0.375]
    assert membrane_slope(torch.tensor([-3.0, 1.0, 1.001]), floor23).tolist() == [1, 1, 0]


def test_not_a_number_becomes_the_lowest_level():
    assert levels_of([float("nan"), float("inf"), -float("inf")], MEMBRANES["ternary"]) == [-1, 1, -1]


@pytest.mark.parametrize(
    "name", [name for name, m in MEMBRANES.items() if m.gradient == "stacked" and m.levels]
)
@pytest.mark.parametrize("slope", [2.0, 9.0])
def test_area_of_the_stacked_slope(name, slope):
    settings = replace(MEMBRANES[name], slope=slope)
    r = torch.linspace(-40, 40, 80_001, dtype=torch.float64)
    area = torch.trapezoid(membrane_slope(r, settings), r).item()
    steps = len(settings.levels) - 1
    height = settings.levels[-1] - settings.levels[0] if settings.bump_height == "step" else steps
    assert area == pytest.approx(height, rel=1e-6)


@pytest.mark.parametrize("rounding", ["nearest", "floor"])
def test_area_of_each_bump_is_its_step_where_bumps_are_apart(rounding):
    settings = replace(UNEVEN, rounding=rounding, slope=400.0)
    r = torch.linspace(-3, 3, 600_001, dtype=torch.float64)
    slope = membrane_slope(r, settings)
    for boundary, low, high in zip(
        settings.boundaries, settings.levels[:-1], settings.levels[1:], strict=True
    ):
        near = (r - boundary).abs() < 0.1
        assert torch.trapezoid(slope[near], r[near]).item() == pytest.approx(high - low, rel=1e-6)


def test_fine_grid_passes_about_what_reaches_it():
    r = torch.linspace(-1.5, 0.25, 50, dtype=torch.float64)
    ours, released = (membrane_slope(r, MEMBRANES[name]) for name in ("chip", "chip_published"))
    # 8 bumps of area 1 per unit, smoothed: the release multiplies the gradient by 8 at every step.
    torch.testing.assert_close(released, 8 * ours)
    assert 0.7 < ours.min() < ours.max() < 1


def test_gradient_is_the_slope_or_nothing():
    r = torch.linspace(-3, 3, 31, dtype=torch.float64, requires_grad=True)
    g = torch.linspace(-1, 2, 31, dtype=torch.float64)
    for gradient in ("stacked", "pass", "zero"):
        settings = replace(UNEVEN, gradient=gradient, top=0.5)
        (found,) = torch.autograd.grad(quantise_membrane(r, settings), r, g)
        expected = {
            "stacked": g * membrane_slope(r.detach(), settings),
            "pass": torch.where(r <= 0.5, g, 0.0),
            "zero": torch.zeros_like(g),
        }[gradient]
        assert torch.equal(found, expected.detach())


@pytest.mark.parametrize("name", MEMBRANES)
def test_every_membrane_by_name(name):
    settings = MEMBRANES[name]
    assert levels_of(settings.levels, settings) == list(settings.levels)
    assert hash(settings) == hash(replace(settings))
    if not settings.levels:
        assert settings.stored_bits is None
        return
    assert len(settings.boundaries) == len(settings.bump_heights) == len(settings.levels) - 1
    assert 2 ** (settings.stored_bits - 1) < len(settings.levels) <= 2**settings.stored_bits
    assert replace(settings, bits=settings.stored_bits).levels == settings.levels


@pytest.mark.parametrize(
    ("levels", "bits"), [(2, 1), (3, 2), (4, 2), (5, 3), (23, 5), (24, 5), (32, 5), (256, 8)]
)
def test_fewest_bits(levels, bits):
    assert fewest_bits(levels) == bits


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"levels": (-1, 0, 1), "bits": 3},
            "membrane.bits: found 3 for 3 levels, expected 2, the fewest that tell them apart",
        ),
        ({"levels": (-1, 0, 1), "bits": 1}, "membrane.bits: found 1 for 3 levels, expected 2"),
        ({"bits": 2}, r"membrane.bits: found 2 without levels, expected levels, such as \(-1, 0, 1\)"),
        (
            {"levels": (1.0, 0.0)},
            r"membrane.levels: found \[1.0, 0.0\], expected 2 to 256 finite numbers, rising",
        ),
        ({"levels": (0.0, 0.0)}, r"membrane.levels: found \[0.0, 0.0\], expected .* rising"),
        ({"levels": (1.0,)}, r"membrane.levels: found \[1.0\], expected 2 to 256"),
        ({"levels": (0.0, float("inf"))}, r"membrane.levels: found \[0.0, inf\], expected .* finite"),
        ({"levels": ("a", "b")}, r"membrane.levels: found \['a', 'b'\], expected .* numbers"),
        ({"levels": tuple(range(257))}, "membrane.levels: found 257 levels from 0, expected 2 to 256"),
        ({"levels": [-1, 0, 1]}, r"membrane.levels: found \[-1, 0, 1\], expected a tuple of numbers"),
        ({"rounding": "flor"}, "membrane.rounding: found 'flor', .*; did you mean 'floor'?"),
        ({"gradient": "ste"}, "membrane.gradient: found 'ste', expected one of stacked, pass, zero"),
        ({"bump_height": 1}, "membrane.bump_height: found 1, expected one of step, one"),
        ({"slope": 0}, "membrane.slope: found 0, expected a number above 0"),
        ({"slope": "2"}, "membrane.slope: found '2', expected a number above 0"),
        ({"top": float("nan")}, "membrane.top: found nan, expected a finite number"),
    ],
    ids=str,
)
def test_refusals_name_argument_found_and_expected(arguments, message):
    with pytest.raises(NeuronError, match=message.replace("?", r"\?")):
        MembraneSettings(**arguments)

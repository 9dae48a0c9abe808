"""Weights in few bits, rule by rule: against hand counts, other formulas and their own promises."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from snn.errors import QuantError
from snn.quant import activations, reference
from snn.quant.learned_clip import fit_clip, grid, learned_clip, nearest_level, uniform_levels
from snn.quant.reference import straight_through


def some_weights(seed=0, shape=(6, 4, 3, 3)):
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_symmetric_levels_counted_by_hand():
    w = torch.tensor([-2.0, -0.7, -0.2, 0.0, 0.2, 0.5, 0.51, 3.0])
    codes, scale, limit = reference.symmetric(w, torch.tensor(1.0), bits=2)
    assert codes.tolist() == [-1, -1, 0, 0, 0, 0, 1, 1]
    assert (float(scale), float(limit)) == (1.0, 1.0)
    codes, scale, _ = reference.symmetric(w, torch.tensor(1.5), bits=3)
    assert codes.tolist() == [-3, -1, 0, 0, 0, 1, 1, 3]  # units of 0.5
    assert float(scale) == 0.5


def test_gradient_passes_inside_the_clip_alone():
    w = torch.tensor([-2.0, -1.0, 0.3, 1.0, 1.1], requires_grad=True)
    y = straight_through(w, reference.symmetric(w, torch.tensor(1.0), bits=4))
    (grad,) = torch.autograd.grad(y, w, torch.tensor([1.0, 2, 3, 4, 5]))
    assert grad.tolist() == [0, 2, 3, 4, 0]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("rule", [reference.sawb, reference.mean_abs])
def test_codes_are_whole_within_their_bits_and_scales_per_channel_are_those_of_each_channel(bits, rule):
    w = some_weights()
    codes, scale, _ = rule(w, bits=bits)
    N = 2 ** (bits - 1) - 1
    assert torch.equal(codes, codes.round())
    assert codes.abs().max() <= N
    whole = rule(w, bits=bits, per_channel=True)
    for channel in range(len(w)):
        one = rule(w[channel], bits=bits)
        assert torch.equal(whole.codes[channel], one.codes)
        torch.testing.assert_close(whole.scale[channel].flatten(), one.scale.reshape(1))
    assert scale > 0


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_sawb_is_near_the_least_error_for_normal_weights(bits):
    w = some_weights(shape=(200_000,))
    found = reference.sawb(w, bits=bits)

    def error(alpha):
        values = reference.symmetric(w, torch.tensor(alpha, dtype=torch.float32), bits=bits).values
        return float((values - w).square().mean())

    least = minimize_scalar(error, bounds=(0.05, 1), method="bounded").fun
    assert error(float(found.limit)) < 1.12 * least


def densities():
    """Return the six densities SAWB was fitted on, each over points that cover it."""
    u = np.linspace(-1, 1, 40_001)
    return {
        "normal": (12 * u, np.exp(-((12 * u) ** 2) / 2)),
        "uniform": (u, np.ones_like(u)),
        "Laplace": (40 * u, np.exp(-np.abs(40 * u))),
        "logistic": (50 * u, 1 / np.cosh(25 * u) ** 2),
        "triangle": (u, 1 - np.abs(u)),
        "von Mises": (np.pi * u, np.exp(4 * np.cos(np.pi * u))),
    }


def fitted(levels):
    """Return SAWB's two constants for levels from -1 to 1: of least error over densities, then a line."""
    levels = np.asarray(levels)
    edges, points = (levels[1:] + levels[:-1]) / 2, []
    for x, p in densities().values():
        p = p / p.sum()
        deviation, mean = np.sqrt((p * x * x).sum()), (p * np.abs(x)).sum()

        def error(alpha, x=x, p=p):
            return (p * (x - alpha * levels[np.searchsorted(edges, x / alpha)]) ** 2).sum()

        coarse = np.linspace(0.3, 12, 80) * deviation
        best = coarse[np.argmin([error(alpha) for alpha in coarse])]
        around = (best - 0.15 * deviation, best + 0.15 * deviation)
        points.append((deviation / mean, minimize_scalar(error, bounds=around, method="bounded").x / mean))
    slope, offset = np.polyfit(*np.array(points).T, 1)
    return slope, -offset


def test_the_fit_gives_back_the_constants_of_its_authors_for_four_levels():
    first, second = fitted([-1, -1 / 3, 1 / 3, 1])
    # 3.12 and 2.064: IBM's FMS Model Optimizer, code 102.
    assert first == pytest.approx(3.12, rel=0.01)
    assert second == pytest.approx(2.064, rel=0.01)


@pytest.mark.parametrize(("bits", "rel"), [(2, 0.07), (3, 1e-3), (4, 0.12)])
def test_the_constants_are_those_of_the_fit(bits, rel):
    N = 2 ** (bits - 1) - 1
    first, second = fitted(np.arange(-N, N + 1) / N)
    assert reference.SAWB[bits] == (pytest.approx(first, rel=rel), pytest.approx(second, rel=rel))


def test_power_of_two_is_the_nearest_in_ratio_and_exact():
    scale = torch.tensor([1.0, 1.4, 1.42, 3.0, 0.75, 0.7, 2.0**-20, 1e-6, 0.0, -1.0])
    expected = [1.0, 1.0, 2.0, 4.0, 1.0, 0.5, 2.0**-20, 2.0**-20, 0.0, -1.0]
    assert reference.to_power_of_two(scale).tolist() == expected
    for exponent in range(-40, 20):
        assert float(reference.to_power_of_two(torch.tensor(2.0**exponent * 1.2))) == 2.0**exponent


def test_with_a_power_of_two_the_clip_follows_the_scale():
    w = some_weights()
    codes, scale, limit = reference.sawb(w, bits=4, power_of_two=True)
    assert float(limit) == 7 * float(scale)
    assert torch.equal(codes, (w / scale).round().clamp(-7, 7))


def test_three_levels_counted_by_hand():
    w = torch.tensor([1.0, 0.5, 0.05, -0.05, 0.04, -0.3])
    codes, size, limit = reference.ternary(w)
    assert codes.tolist() == [1, 1, 1, 0, 0, -1]  # the edge of the dead zone 0.05 belongs to plus alone
    assert float(size) == pytest.approx((1 + 0.5 + 0.05 + 0.05 + 0.3) / 5)
    assert limit is None
    codes, size, _ = reference.ternary_mean(w)
    assert codes.tolist() == [1, 1, 0, 0, 0, -1]  # dead zone 0.7 * 1.94 / 6 = 0.226
    assert float(size) == pytest.approx(0.6)


def test_four_levels_counted_by_hand():
    w = some_weights()
    codes, scale, limit = reference.four_level(w)
    share = w / (3 * scale)
    expected = torch.where(share.abs() > 2 / 3, 3.0, 1.0) * torch.where(share > 0, 1.0, -1.0)
    assert torch.equal(codes, expected)
    torch.testing.assert_close(limit, 3 * scale)


def test_the_stateful_rule_settles_below_the_one_shot_clip_and_shrinks_to_nothing_for_wide_weights():
    w = some_weights(shape=(100_000,)) * 5  # deviation 0.5
    alpha = torch.tensor(1.0)
    for _ in range(60):
        _, alpha = reference.stateful_step(w, alpha, bits=4, rule="sawb")
    assert float(alpha / w.std()) == pytest.approx(2.34, abs=0.03)
    assert float(reference.sawb(w, bits=4).limit / w.std()) == pytest.approx(2.49, abs=0.03)
    alpha = torch.tensor(1.0)
    for _ in range(60):
        _, alpha = reference.stateful_step(w * 4, alpha, bits=4, rule="sawb")
        if alpha <= 0:
            break
    assert alpha <= 0 or alpha < 0.1


def test_published_defects_are_where_they_are_said_to_be():
    w = some_weights()
    right, cut = reference.sawb(w, bits=4, per_channel=True), reference.sawb_channelwise_published(w)
    assert torch.equal(cut.codes, right.codes.clamp(-3, 6))
    assert reference.mean_abs_unclipped(w).codes.abs().max() > 7
    w.requires_grad_()
    for published, passed in ((False, w.abs() <= 3 * reference.four_level(w).scale), (True, w.abs() < 1)):
        y = straight_through(w, reference.four_level(w, published=published))
        (grad,) = torch.autograd.grad(y.sum(), w)
        assert torch.equal(grad == 1, passed)


def test_learned_clip_gradients_are_those_of_its_equations():
    x = torch.linspace(-1.4, 1.4, 29).requires_grad_()
    alpha = torch.tensor(0.9, requires_grad=True)
    levels = (0.0, 0.25, 0.5, 1.0)
    y = learned_clip(x, alpha, levels=levels)
    g = torch.linspace(1, 2, 29)
    grad_x, grad_alpha = torch.autograd.grad(y, (x, alpha), g)
    by_hand = 0.0
    for value, weight in zip(x.tolist(), g.tolist(), strict=True):
        share = value / 0.9
        level = min(levels, key=lambda size: (abs(size - min(abs(share), 1)), size)) * np.sign(share)
        by_hand += weight * (np.sign(share) if abs(share) > 1 else level - share)
    assert float(grad_alpha) == pytest.approx(by_hand, rel=1e-5)
    assert torch.equal(grad_x, torch.where(x.abs() <= 0.9, g, 0))


def test_levels_become_whole_codes():
    assert grid((0.0, 0.125, 0.25, 0.5, 1.0)) == ((0, 1, 2, 4, 8), 0.125)
    assert grid(uniform_levels(4))[0] == tuple(range(8))
    codes, scale, _ = nearest_level(torch.tensor([-2.0, 0.3, 0.1]), torch.tensor(1.0), levels=(0, 0.25, 1))
    assert codes.tolist() == [-4, 1, 0]
    assert float(scale) == 0.25


@pytest.mark.parametrize("levels", [(0.0,), (0.1, 1.0), (0.0, 0.5), (0.0, 0.5, 0.5, 1.0), (0.0, 0.3333, 1.0)])
def test_levels_that_are_none_are_refused(levels):
    with pytest.raises(QuantError, match="levels: found"):
        grid(levels)


def test_the_first_clip_has_the_least_error():
    w = some_weights(shape=(5_000,))
    alpha = fit_clip(w, levels=uniform_levels(3))
    assert float(alpha / w.std()) == pytest.approx(1.95, abs=0.12)  # normal, seven levels
    assert float(fit_clip(torch.zeros(4), levels=(0, 1))) == 0


def test_activations_are_clipped_and_their_clip_learns():
    x = torch.tensor([-1.0, 0.4, 1.4, 3.0, 5.0], requires_grad=True)
    alpha = torch.tensor(3.0, requires_grad=True)
    y = activations.pact(x, alpha, bits=2)
    assert y.tolist() == [0, 0, 1, 3, 3]
    grad_x, grad_alpha = torch.autograd.grad(y.sum(), (x, alpha))
    assert grad_x.tolist() == [0, 1, 1, 1, 0]
    assert float(grad_alpha) == 2
    y = activations.rcf(x, alpha, bits=2)
    assert y.tolist() == [0, 0, 1, 3, 3]
    grad_x, grad_alpha = torch.autograd.grad(y.sum(), (x, alpha))
    assert grad_x.tolist() == [0, 1, 1, 1, 0]
    assert float(grad_alpha) == pytest.approx((0 - 0.4 / 3) + (1 / 3 - 1.4 / 3) + 0 + 1)
    assert activations.round_clip(x, alpha, bits=2).tolist() == [0, 0, 1, 3, 3]
    assert activations.round_clip(x, alpha, bits=2, published=True).tolist() == [-1, 0, 1, 3, 5]


@pytest.mark.parametrize("bits", [1, 5, 16, 32, "4"])
def test_bits_there_are_not_are_refused(bits):
    with pytest.raises(QuantError, match="expected one of 2, 3, 4, 8"):
        reference.sawb(some_weights(), bits=bits)
    with pytest.raises(QuantError, match="expected a whole number from 1 to 16"):
        activations.pact(torch.zeros(2), torch.ones(()), bits=0)

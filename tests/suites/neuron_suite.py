"""What every executor of the neurons must do: values, gradients, state and refusals.

Subclass `NeuronSuite`, set `run`, and collect the subclass in a test file. Expected values come from the
formulas written out in `suites.neuron_formulas`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from suites import neuron_formulas
from torch import Tensor

from snn.errors import NeuronError
from snn.neurons.membrane import MEMBRANES, MembraneSettings
from snn.neurons.reference import NeuronParameters
from snn.neurons.settings import BUMPS, CHOICES, MOST_LANES, NEURONS, PUBLISHED, NeuronSettings

LT = NeuronSettings(decay=0.75, threshold=0.8)
LANES = NeuronSettings(decay=0.75, threshold=0.3, lanes=3)
UNEVEN = MembraneSettings(levels=(-1.5, -0.25, 0.0, 0.75, 1.5))
# Numbers that float32 holds exactly wherever a rounding could turn a spike over.
SETTINGS: dict[str, NeuronSettings] = {
    **{f"preset {name}": settings for name, settings in NEURONS.items()},
    **{f"published {name}": settings for name, settings in PUBLISHED.items()},
    **{f"surrogate {name}": replace(LT, surrogate=name, gamma=0.6) for name in CHOICES["surrogate"]},
    "weak steep surrogate": replace(LT, surrogate="sigmoid", slope=7.0, surrogate_scale=0.3),
    **{
        f"{reset} {'detached' if detach else 'attached'} {gradient}": replace(
            LT, reset=reset, detach_reset=detach, threshold_gradient=gradient
        )
        for reset in CHOICES["reset"]
        for detach in (False, True)
        for gradient in CHOICES["threshold_gradient"]
    },
    **{
        f"explicit, weak {surrogate}": replace(
            LT,
            surrogate=surrogate,
            surrogate_scale=0.5,
            fire_rule=">",
            threshold_gradient="subtract+explicit",
        )
        for surrogate in ("sigmoid", "product")
    },
    **{
        f"spike_value {name}{', per channel' if per_channel else ''}": replace(
            LT, spike_value=name, per_channel=per_channel
        )
        for name in ("threshold", "learned")
        for per_channel in (False, True)
    },
    "no memory": replace(LT, decay=0.0),
    "no leak": replace(LT, decay=1.0),
    "negative threshold": replace(LT, threshold=-0.3, learn_decay=True),
    # Lanes.
    **{f"{s} lanes": replace(LANES, lanes=s) for s in range(1, MOST_LANES + 1)},
    **{f"{s} lanes scaled": replace(LANES, lanes=s, scaled=True, threshold=1.5) for s in (1, 2, 4, 8)},
    **{f"{s} lanes cumulative": replace(LANES, lanes=s, firing="cumulative") for s in (1, 2, 5, 8)},
    "lanes cumulative scaled": replace(LANES, firing="cumulative", scaled=True, threshold=1.5),
    **{
        f"lanes {width} {edge} {surrogate}": replace(
            LANES, surrogate_width=width, upper_edge=edge, surrogate=surrogate
        )
        for width in CHOICES["surrogate_width"]
        for edge in CHOICES["upper_edge"]
        for surrogate in BUMPS
    },
    **{
        f"one lane {width} {surrogate}": replace(LT, surrogate_width=width, surrogate=surrogate, gamma=0.6)
        for width in ("threshold", "lane", "ignore_threshold")
        for surrogate in ("triangle", "sigmoid")
    },
    **{
        f"lanes {width} cumulative": replace(LANES, surrogate_width=width, firing="cumulative", fire_rule=">")
        for width in CHOICES["surrogate_width"]
    },
    **{
        f"lanes {reset} {'detached' if detach else 'attached'} {firing} {edge}": replace(
            LANES, reset=reset, detach_reset=detach, firing=firing, upper_edge=edge, surrogate_width="lane"
        )
        for reset in CHOICES["reset"]
        for detach in (False, True)
        for firing, edge in (("one_hot", "subtract"), ("one_hot", "add"), ("cumulative", "subtract"))
    },
    "lanes without threshold gradient": replace(LANES, threshold_gradient="none", reset="soft_value"),
    "lanes scaled by threshold": replace(LANES, scaled=True, surrogate_width="threshold", threshold=1.5),
    # Rest and charge.
    **{
        f"rest {charge} {reset} {lanes} lanes": replace(
            LANES, rest=-0.25, charge=charge, reset=reset, lanes=lanes, learn_decay=True
        )
        for charge in CHOICES["charge"]
        for reset in CHOICES["reset"]
        for lanes in (1, 3)
    },
    "decay_input": replace(LT, charge="decay_input"),
    "decay_input, no memory": replace(LT, charge="decay_input", decay=0.0),
    "learned decay": replace(LT, learn_decay=True),
    # Per channel.
    "per channel": replace(LT, per_channel=True, threshold_gradient="subtract+explicit"),
    "per channel, decay too": replace(LT, per_channel=True, learn_decay=True),
    "per channel lanes": replace(
        LANES, per_channel=True, learn_decay=True, charge="decay_input", reset="soft_value"
    ),
    "per channel lanes by lane": replace(LANES, per_channel=True, surrogate_width="lane", reset="soft"),
    "per channel decay alone": replace(LT, per_channel=True, learn_decay=True, learn_threshold=False),
    # Membranes of few levels.
    **{
        f"membrane {name} {reset}": replace(LT, membrane=membrane, reset=reset)
        for name, membrane in MEMBRANES.items()
        for reset in ("hard", "soft")
    },
    **{
        f"levels {rounding} {gradient}": replace(
            LT, membrane=replace(UNEVEN, rounding=rounding, gradient=gradient, top=0.5, slope=3.0)
        )
        for rounding in ("nearest", "floor")
        for gradient in ("stacked", "pass", "zero")
    },
    "levels, bumps of one": replace(LT, membrane=replace(UNEVEN, bump_height="one"), reset="soft"),
    "levels detached": replace(LT, membrane=UNEVEN, detach_reset=True, reset="soft"),
    "levels, rest, all": replace(LT, membrane=UNEVEN, rest=0.125, reset="all"),
    "levels, rest, decay_input": replace(
        LT, membrane=UNEVEN, rest=-0.25, charge="decay_input", learn_decay=True
    ),
    "levels and lanes": replace(LANES, membrane=UNEVEN, reset="soft_value"),
    "levels and lanes cumulative": replace(
        LANES, membrane=MEMBRANES["ternary"], firing="cumulative", surrogate_width="lane", reset="soft"
    ),
}
# A walk through the family that shapes, masks, layouts and state are tried on.
FEW = (
    "preset lif",
    "preset plif",
    "preset mlif",
    "preset quantlif",
    "published lt",
    "published lt_june_2022",
    "published mlif_converted",
    "published mlif_kernel",
    "soft attached subtract",
    "lanes soft_value attached cumulative subtract",
    "rest decay_input hard 3 lanes",
    "levels floor pass",
    "levels and lanes",
)
PER_CHANNEL = ("per channel, decay too", "per channel lanes", "per channel lanes by lane")
# T longer than any chunk of steps; odd sizes; one step; one value.
SHAPES = [(1, 1), (7, 3), (40, 3), (1, 3, 5), (6, 2, 7), (3, 2, 1, 7, 5), (70, 1, 2, 3, 1)]
WITH_CHANNELS = (5, 2, 3, 3, 5)


class NeuronSuite:
    """Conformance tests of one executor.

    Attributes:
        run: Signature and behaviour of `snn.neurons.reference.run_neurons`.
        dtype: Of the currents; formulas are evaluated in float64 on the same numbers.
        device: Where it runs.
        membrane_tolerance: Greatest error of a final membrane, relative to the largest.
        gradient_tolerance: The same for gradients of currents and membranes.
        sum_tolerance: The same for gradients of parameters, which are sums over all steps and neurons.
            Spikes are equal.
    """

    run: Callable[..., tuple[Tensor, Tensor]]
    dtype = torch.float64
    device = "cpu"
    membrane_tolerance = 1e-12
    gradient_tolerance = 1e-9
    sum_tolerance = 1e-9

    @pytest.mark.parametrize("name", SETTINGS)
    def test_every_setting_follows_the_formulas(self, name):
        self.follow_formulas(SETTINGS[name], WITH_CHANNELS)

    @pytest.mark.parametrize("name", SETTINGS)
    def test_every_setting_on_the_boundaries(self, name):
        # Small multiples of 1/8 with powers of two for threshold and decay: nothing is rounded, and many
        # membranes lie exactly on a threshold, a boundary between levels, or a corner of a surrogate.
        settings = replace(SETTINGS[name], gamma=0.5, threshold=0.5, threshold_constraint="none")
        settings = replace(settings, decay=0.5, rest=round(settings.rest * 8) / 8)
        self.follow_formulas(settings, (4, 2, 2, 5, 5), grid=8)

    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    @pytest.mark.parametrize("name", FEW)
    def test_shapes(self, name, shape):
        self.follow_formulas(SETTINGS[name], shape)

    @pytest.mark.parametrize("shape", [(6, 2, 7), (3, 2, 1, 7, 5), (40, 1, 3, 2, 2)], ids=str)
    @pytest.mark.parametrize("name", PER_CHANNEL)
    def test_shapes_per_channel(self, name, shape):
        self.follow_formulas(SETTINGS[name], shape)

    @pytest.mark.parametrize("shape", [(6, 2, 7), WITH_CHANNELS], ids=str)
    @pytest.mark.parametrize("name", [*FEW, *PER_CHANNEL])
    def test_mask(self, name, shape):
        self.follow_formulas(SETTINGS[name], shape, masked=True)

    @pytest.mark.parametrize("name", [*FEW, *PER_CHANNEL])
    def test_channels_last(self, name):
        self.follow_formulas(SETTINGS[name], (4, 2, 3, 4, 5), masked=True, channels_last=True)

    @pytest.mark.parametrize("name", ["preset mlif", "lanes hard attached one_hot add", "per channel lanes"])
    def test_learned_threshold_that_turned_negative(self, name):
        self.follow_formulas(SETTINGS[name], WITH_CHANNELS, threshold=-0.4)

    def follow_formulas(
        self,
        settings: NeuronSettings,
        shape: tuple[int, ...],
        *,
        grid: int = 0,
        masked: bool = False,
        channels_last: bool = False,
        threshold: float | None = None,
    ) -> None:
        """Compare spikes, final membrane and every gradient with the formulas."""
        draw = np.random.default_rng(7)

        def normal(*sizes: int) -> Tensor:
            values = torch.tensor(1.5 * draw.normal(size=sizes), device=self.device)
            return ((values * grid).round() / grid if grid else values).to(self.dtype)

        first = settings.threshold if threshold is None else threshold
        channels = shape[2] if settings.per_channel else 0
        inputs = {
            "current": normal(*shape),
            "v": normal(*shape[1:]),
            "threshold": self.spread(first, channels, grid=grid),
            "decay": self.spread(settings.decay, channels, grid=grid) if settings.learn_decay else None,
            "scale": torch.tensor(1.25, dtype=self.dtype, device=self.device),
        }
        mask = (normal(*shape[:3]) > -0.5).to(self.dtype) if masked else None
        grads = (normal(*shape), normal(*shape[1:]))
        found = self.results(inputs, settings, mask, grads, channels_last=channels_last)
        expected = neuron_formulas.neuron(
            double(inputs["current"]),
            double(inputs["v"]),
            double(inputs["threshold"]),
            settings.decay if inputs["decay"] is None else double(inputs["decay"]),
            1.25,
            settings,
            double(grads[0]),
            double(grads[1]),
            None if mask is None else double(mask),
        )
        assert np.array_equal(found["spikes"], expected.spikes.astype(found["spikes"].dtype))
        assert_close_to_largest(found["v"], expected.v, self.membrane_tolerance)
        for key, gradient in found.items():
            if key.startswith("grad_"):
                summed = key in ("grad_threshold", "grad_decay", "grad_scale")
                tolerance = self.sum_tolerance if summed else self.gradient_tolerance
                assert_close_to_largest(gradient, getattr(expected, key), tolerance, key)

    def spread(self, value: float, channels: int, *, grid: int = 0) -> Tensor:
        """Return one number, or one per channel around it."""
        around = [1.0, 0.5, 0.25] if grid else [1.0, 0.75, 1.25]
        numbers = [value * around[c % 3] for c in range(channels)] if channels else value
        return torch.tensor(numbers, dtype=self.dtype, device=self.device)

    def results(
        self,
        inputs: dict[str, Tensor | None],
        settings: NeuronSettings,
        mask: Tensor | None,
        grads: tuple[Tensor, Tensor],
        *,
        channels_last: bool,
    ) -> dict[str, np.ndarray]:
        """Run forward and backward; return both results and the gradient of each input that is given."""
        given = {
            key: value.detach().clone().requires_grad_() for key, value in inputs.items() if value is not None
        }
        current, v = given["current"], given["v"]
        if channels_last:
            current, v = as_channels_last(current), as_channels_last(v)
            grads = (as_channels_last(grads[0]), as_channels_last(grads[1]))
        parameters = NeuronParameters(given["threshold"], given["scale"], given.get("decay"))
        spikes, final = self.run(current, v, parameters, settings=settings, mask=mask)
        assert spikes.dtype == self.dtype
        assert spikes.shape == current.shape
        assert final.shape == current.shape[1:]
        found = torch.autograd.grad(
            (spikes, final), list(given.values()), grads, allow_unused=True, materialize_grads=True
        )
        results = {"spikes": spikes, "v": final}
        results |= {f"grad_{key}": gradient for key, gradient in zip(given, found, strict=True)}
        return {key: value.detach().cpu().numpy() for key, value in results.items()}

    # Counted by hand.

    def test_counted_by_hand_hard_reset(self):
        settings = NeuronSettings(decay=0.5, threshold=1.0)
        current = self.tensor([[0.6], [0.6], [0.6], [0.8], [0.25]])
        spikes, v = self.run(current, None, NeuronParameters(self.tensor(1.0)), settings=settings)
        # a = 0.6, 0.9, 1.05 (fires, back to 0), 0.8, 0.65
        assert spikes.flatten().tolist() == [0, 0, 1, 0, 0]
        torch.testing.assert_close(v, self.tensor([0.65]))

    def test_counted_by_hand_soft_reset(self):
        settings = NeuronSettings(decay=0.5, threshold=1.0, reset="soft")
        current = self.tensor([[0.6], [0.6], [0.6], [0.0]])
        spikes, v = self.run(current, None, NeuronParameters(self.tensor(1.0)), settings=settings)
        assert spikes.flatten().tolist() == [0, 0, 1, 0]  # a = 0.6, 0.9, 1.05, 0.025
        torch.testing.assert_close(v, self.tensor([0.025]))

    def test_counted_by_hand_three_lanes(self):
        settings = NeuronSettings(decay=0.5, lanes=3, fire_rule=">", reset="soft_value")
        current = self.tensor([[1.0], [1.0], [4.5], [2.5]])
        spikes, v = self.run(current, None, NeuronParameters(self.tensor(1.0)), settings=settings)
        # a = 1 (not above), 1.5 (1 is emitted, 0.5 is left), 4.75 (4, 0.75), 2.875 (2, 0.875)
        assert spikes.flatten().tolist() == [0, 1, 4, 2]
        torch.testing.assert_close(v, self.tensor([0.875]))

    def test_counted_by_hand_ternary_membrane(self):
        settings = NeuronSettings(decay=0.5, fire_rule=">", membrane=MEMBRANES["ternary"])
        current = self.tensor([[0.6], [0.6], [-1.2], [0.5]])
        spikes, v = self.run(current, None, NeuronParameters(self.tensor(1.0)), settings=settings)
        # a = 0.6 -> 1; 1.1 fires -> 0; -1.2 -> -1; 0 -> 0
        assert spikes.flatten().tolist() == [0, 1, 0, 0]
        assert v.tolist() == [0]

    @pytest.mark.parametrize(("rule", "fires"), [(">=", [0, 1, 1]), (">", [0, 0, 1])])
    @pytest.mark.parametrize("lanes", [1, 3])
    def test_boundary_is_exact(self, rule, fires, lanes):
        settings = NeuronSettings(fire_rule=rule, lanes=lanes)
        for s, value in enumerate(settings.lane_values):
            edge = self.tensor(value)
            below, above = (
                torch.nextafter(edge, self.tensor(0.0)),
                torch.nextafter(edge, self.tensor(2 * value)),
            )
            current = torch.stack([below, edge, above]).reshape(1, 3)
            spikes, _ = self.run(current, None, NeuronParameters(self.tensor(1.0)), settings=settings)
            lower = settings.lane_values[s - 1] if s else 0
            assert spikes[0].tolist() == [value if fired else lower for fired in fires]

    # State.

    @pytest.mark.parametrize(("steps", "cut"), [(7, 1), (7, 6), (40, 33), (70, 32)])
    @pytest.mark.parametrize("name", FEW)
    def test_two_parts_are_one_run(self, name, steps, cut):
        settings = SETTINGS[name]
        current, weight = self.noise(steps, 3, 4, seed=3), self.noise(steps, 3, 4, seed=4)
        current.requires_grad_()
        threshold = self.tensor(settings.threshold).requires_grad_()
        decay = self.tensor(settings.decay).requires_grad_() if settings.learn_decay else None
        parameters = NeuronParameters(threshold, None, decay)
        whole, v_whole = self.run(current, None, parameters, settings=settings)
        first, v = self.run(current[:cut], None, parameters, settings=settings)
        second, v_parts = self.run(current[cut:], v, parameters, settings=settings)
        parts = torch.cat((first, second))
        assert torch.equal(parts, whole)
        assert torch.equal(v_parts, v_whole)
        learned = [current, threshold] + ([decay] if decay is not None else [])
        for a, b in zip(
            torch.autograd.grad((whole * weight).sum() + v_whole.sum(), learned, materialize_grads=True),
            torch.autograd.grad((parts * weight).sum() + v_parts.sum(), learned, materialize_grads=True),
            strict=True,
        ):
            assert_close_to_largest(double(a), double(b), 10 * self.sum_tolerance)

    @pytest.mark.parametrize("rest", [0.0, -0.25])
    def test_starts_at_rest(self, rest):
        settings = replace(LT, rest=rest)
        current = self.noise(4, 3, 2, seed=5)
        parameters = NeuronParameters(self.tensor(0.5))
        implied = self.run(current, None, parameters, settings=settings)
        passed = self.run(current, torch.full_like(current[0], rest), parameters, settings=settings)
        assert torch.equal(implied[0], passed[0])
        assert torch.equal(implied[1], passed[1])

    # Gradients that are not all asked for.

    @pytest.mark.parametrize("wanted", [("current",), ("v",), ("threshold",), ("decay",), ("v", "decay")])
    def test_gradient_of_some_inputs_alone(self, wanted):
        settings = replace(LANES, learn_decay=True)
        tensors = {
            "current": self.noise(5, 2, 3, seed=1),
            "v": self.noise(2, 3, seed=2),
            "threshold": self.tensor(0.5),
            "decay": self.tensor(0.75),
        }
        everything = self.gradients_of_sum(tensors, tuple(tensors), settings)
        some = self.gradients_of_sum(tensors, wanted, settings)
        for name in wanted:
            assert torch.equal(some[name], everything[name])

    def gradients_of_sum(
        self, tensors: dict[str, Tensor], wanted: tuple[str, ...], settings: NeuronSettings
    ) -> dict[str, Tensor]:
        """Return gradients of all spikes plus the squares of the final membrane."""
        given = {key: value.clone().requires_grad_(key in wanted) for key, value in tensors.items()}
        parameters = NeuronParameters(given["threshold"], None, given["decay"])
        spikes, v = self.run(given["current"], given["v"], parameters, settings=settings)
        found = torch.autograd.grad(spikes.sum() + v.square().sum(), [given[name] for name in wanted])
        return dict(zip(wanted, found, strict=True))

    @pytest.mark.parametrize("name", FEW)
    def test_each_result_can_be_used_alone(self, name):
        settings = SETTINGS[name]
        current = self.noise(5, 2, 3, seed=1).requires_grad_()
        weight = self.noise(5, 2, 3, seed=2)
        parameters = NeuronParameters(self.tensor(settings.threshold), None, None)
        by_both, by_spikes, by_final = (
            torch.autograd.grad(loss(*self.run(current, None, parameters, settings=settings)), current)[0]
            for loss in (
                lambda spikes, v: (spikes * weight).sum() + v.sum(),
                lambda spikes, v: (spikes * weight).sum(),
                lambda spikes, v: v.sum(),
            )
        )
        assert_close_to_largest(double(by_spikes + by_final), double(by_both), 10 * self.sum_tolerance)

    def test_without_gradient(self):
        current = self.noise(4, 3, 2, seed=5)
        parameters = NeuronParameters(self.tensor(0.5).requires_grad_())
        spikes, v = self.run(current, None, parameters, settings=LT)
        with torch.no_grad():
            quiet, v_quiet = self.run(current, None, parameters, settings=LT)
        assert spikes.requires_grad
        assert not quiet.requires_grad
        assert torch.equal(quiet, spikes)
        assert torch.equal(v_quiet, v)

    # Memory.

    @pytest.mark.parametrize("name", ["published lt", "preset mlif", "levels and lanes"])
    def test_memory_layout_does_not_matter(self, name):
        plain = self.noise(3, 2, 4, 5, 6, seed=5)
        layouts = {
            "channels last": as_channels_last(plain),
            "batch first": plain.transpose(0, 1).contiguous().transpose(0, 1),
            "every other": torch.stack((plain, plain), dim=-1).flatten(-2)[..., ::2],
        }
        settings = SETTINGS[name]
        expected = self.with_gradient(plain, settings)
        for strided in layouts.values():
            assert not strided.is_contiguous()
            found = self.with_gradient(strided, settings)
            assert torch.equal(found[0], expected[0])
            assert torch.equal(found[1], expected[1])
            for a, b in zip(found[2:], expected[2:], strict=True):
                assert_close_to_largest(double(a), double(b), 10 * self.sum_tolerance)

    def with_gradient(self, current: Tensor, settings: NeuronSettings) -> list[Tensor]:
        """Return spikes, final membrane and the gradients of current and threshold."""
        current = current.detach().requires_grad_()
        threshold = self.tensor(0.5).requires_grad_()
        spikes, v = self.run(current, None, NeuronParameters(threshold), settings=settings)
        grads = torch.autograd.grad(
            spikes.sum() + v.square().sum(), (current, threshold), materialize_grads=True
        )
        return [spikes.detach(), v.detach(), *grads]

    def test_inputs_are_not_changed(self):
        current, v = self.noise(3, 2, 4, seed=6), self.noise(2, 4, seed=7)
        mask = torch.ones_like(current)
        before = [tensor.clone() for tensor in (current, v, mask)]
        self.run(current, v, NeuronParameters(self.tensor(1.0)), settings=NeuronSettings(), mask=mask)
        for tensor, kept in zip((current, v, mask), before, strict=True):
            assert torch.equal(tensor, kept)

    def test_no_samples(self):
        current = self.noise(3, 0, 4, seed=6).requires_grad_()
        threshold = self.tensor(1.0).requires_grad_()
        spikes, v = self.run(current, None, NeuronParameters(threshold), settings=NeuronSettings())
        assert spikes.shape == (3, 0, 4)
        assert v.shape == (0, 4)
        (gradient,) = torch.autograd.grad(spikes.sum() + v.sum(), threshold)
        assert gradient == 0

    # Half precision.

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("name", [*FEW, "8 lanes cumulative"])
    def test_half_precision_keeps_its_membrane_in_float32(self, name, dtype):
        settings = SETTINGS[name]
        threshold = torch.tensor(settings.threshold, device=self.device)
        decay = torch.tensor(settings.decay, device=self.device) if settings.learn_decay else None
        half = self.noise(6, 2, 5, seed=8).to(dtype)
        weight = self.noise(6, 2, 5, seed=9).to(dtype)
        results = []
        for current in (half, half.float()):
            given = [current.requires_grad_(), threshold.clone().requires_grad_()]
            spikes, v = self.run(given[0], None, NeuronParameters(given[1], None, decay), settings=settings)
            loss = [(spikes, v), given, (weight.to(spikes.dtype), torch.ones_like(v))]
            results.append([spikes, v, *torch.autograd.grad(*loss, materialize_grads=True)])
        (spikes, v, grad, grad_threshold), expected = results
        assert (spikes.dtype, v.dtype, grad.dtype) == (dtype, torch.float32, dtype)
        assert grad_threshold.dtype == torch.float32
        assert torch.equal(spikes.float(), expected[0])
        assert torch.equal(v, expected[1])
        assert_close_to_largest(double(grad), double(expected[2]), 2 * torch.finfo(dtype).eps)
        assert_close_to_largest(double(grad_threshold), double(expected[3]), 1e-4)

    # Refusals.

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"current": torch.zeros(3)}, r"current: found shape \(3,\), expected \[T, B, \.\.\.\]"),
            (
                {"current": torch.zeros(0, 2)},
                r"current: found shape \(0, 2\), expected \[T, B, \.\.\.\] with T",
            ),
            (
                {"current": torch.zeros(3, 2, dtype=torch.int64)},
                r"current: found dtype torch\.int64, expected a float",
            ),
            ({"v": torch.zeros(3)}, r"v: found shape \(3,\), expected .* \(2, 4\)"),
            ({"v": torch.zeros(2, 4).double()}, r"v: found dtype torch\.float64, expected torch\.float32"),
            ({"v": torch.zeros(2, 4, device="meta")}, r"v: found on meta, expected .* cpu"),
            ({"threshold": torch.ones(3)}, r"threshold: found shape \(3,\), expected one number .*\[4\]"),
            ({"threshold": torch.ones(2, 4)}, r"threshold: found shape \(2, 4\), expected one number"),
            ({"threshold": torch.tensor(1)}, r"threshold: found dtype torch\.int64, expected a float"),
            ({"threshold": torch.tensor(1.0, device="meta")}, r"threshold: found on meta, expected .* cpu"),
            ({"threshold": torch.tensor(float("nan"))}, r"threshold: found a value that is not finite"),
            ({"threshold": torch.tensor(float("inf"))}, r"threshold: found a value that is not finite"),
            ({"decay": torch.ones(5)}, r"decay: found shape \(5,\), expected one number or .*\[4\]"),
            ({"decay": torch.tensor([0.5, 0.5, 0.5, float("nan")])}, r"decay: found a value that is not fin"),
            ({"mask": torch.ones(3, 2)}, r"mask: found shape \(3, 2\) .* expected \[T, B, C\]"),
            ({"mask": torch.ones(3, 2, 5)}, r"mask: found shape \(3, 2, 5\) for a current \(3, 2, 4\)"),
            ({"mask": torch.ones(3, 2, 4, device="meta")}, r"mask: found on meta, expected .* cpu"),
            ({"current": torch.zeros(3, 2), "mask": torch.ones(3, 2)}, r"mask: found shape .*\[T, B, C\]"),
        ],
        ids=str,
    )
    def test_refuses_what_cannot_be_run(self, change, message):
        given: dict[str, Any] = {"current": torch.zeros(3, 2, 4), "v": None, "threshold": torch.tensor(1.0)}
        given |= {"decay": None, "mask": None, **change}
        parameters = NeuronParameters(given["threshold"], None, given["decay"])
        with pytest.raises(NeuronError, match=message):
            self.run(given["current"], given["v"], parameters, settings=NeuronSettings(), mask=given["mask"])

    def test_refuses_a_learned_spike_value_that_is_missing(self):
        settings = replace(LT, spike_value="learned")
        with pytest.raises(NeuronError, match="spike_scale: found None, expected a tensor with spike_value"):
            self.run(self.noise(2, 3, seed=0), None, NeuronParameters(self.tensor(1.0)), settings=settings)

    def tensor(self, values: Any) -> Tensor:
        """Return values in the suite's dtype and on its device."""
        return torch.tensor(values, dtype=self.dtype, device=self.device)

    def noise(self, *shape: int, seed: int) -> Tensor:
        """Return normal random numbers."""
        return self.tensor(np.random.default_rng(seed).normal(size=shape))


def as_channels_last(x: Tensor) -> Tensor:
    """Return [..., C, H, W] with the channels last in memory."""
    return x.movedim(-3, -1).contiguous().movedim(-1, -3)


def double(tensor: Tensor) -> np.ndarray:
    """Return the tensor as float64 on the CPU."""
    return tensor.detach().double().cpu().numpy()


def assert_close_to_largest(
    found: np.ndarray, expected: np.ndarray, tolerance: float, name: str = ""
) -> None:
    """Fail where an error is above `tolerance` times the largest value expected; NaN always fails."""
    expected = np.asarray(expected)
    assert found.shape == expected.shape, name
    largest = max(float(np.abs(expected).max(initial=0.0)), 1.0)
    error = np.abs(found.astype(np.float64) - expected)
    worst = float(error.max(initial=0.0))
    assert worst <= tolerance * largest, f"{name}: off by {worst:.3g}, largest value {largest:.3g}"

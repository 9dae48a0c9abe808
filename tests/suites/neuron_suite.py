"""What every executor of the neurons must do: values, gradients, state and refusals.

Subclass `NeuronSuite`, set `run`, and collect the subclass in a test file.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from suites import neuron_formulas

from snn.errors import NeuronError
from snn.neurons.reference import NeuronParameters
from snn.neurons.settings import CHOICES, PUBLISHED, NeuronSettings

LT = NeuronSettings(decay=0.75, threshold=0.8)

# Every published form, then every option on its own and the pairs that meet in the formulas.
SETTINGS: dict[str, NeuronSettings] = {
    **{f"published {name}": settings for name, settings in PUBLISHED.items()},
    **{f"surrogate {name}": replace(LT, surrogate=name, gamma=0.6) for name in CHOICES["surrogate"]},
    **{
        f"{reset} {'detached' if detach else 'attached'} {gradient}": replace(
            LT, reset=reset, detach_reset=detach, threshold_gradient=gradient
        )
        for reset in CHOICES["reset"]
        for detach in (False, True)
        for gradient in CHOICES["threshold_gradient"]
    },
    "no memory": replace(LT, decay=0.0),
    "no leak": replace(LT, decay=1.0),
    "negative threshold": replace(LT, threshold=-0.3),
}

SHAPES = [(1, 1), (1, 3, 5), (5, 1, 7), (4, 2, 3, 5, 3), (7, 3)]


class NeuronSuite:
    """Conformance tests of one executor."""

    run: Callable[..., tuple[torch.Tensor, torch.Tensor]]

    @pytest.mark.parametrize("name", SETTINGS)
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_follows_the_formulas(self, name, shape):
        settings = SETTINGS[name]
        draw = np.random.default_rng(7)
        x, grad_spikes = 1.5 * draw.normal(size=shape), draw.normal(size=shape)
        v, grad_final = draw.normal(size=shape[1:]), draw.normal(size=shape[1:])
        threshold, scale = settings.threshold, 1.3
        expected = neuron_formulas.neuron(x, v, threshold, scale, settings, grad_spikes, grad_final)

        inputs = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, v, threshold, scale)]
        spikes, final = self.run(
            inputs[0], inputs[1], NeuronParameters(inputs[2], inputs[3]), settings=settings
        )
        np.testing.assert_allclose(spikes.detach(), expected.spikes, rtol=1e-12)
        np.testing.assert_allclose(final.detach(), expected.v, rtol=1e-12)
        grads = torch.autograd.grad(
            (spikes, final),
            inputs,
            (torch.tensor(grad_spikes), torch.tensor(grad_final)),
            allow_unused=True,
            materialize_grads=True,
        )
        for grad, wanted in zip(grads, expected[2:], strict=True):
            np.testing.assert_allclose(grad, wanted, rtol=1e-9, atol=1e-12)

    def test_counted_by_hand_hard_reset(self):
        settings = NeuronSettings(decay=0.5, threshold=1.0)
        current = torch.tensor([[0.6], [0.6], [0.6], [0.8], [0.25]])
        spikes, v = self.run(current, None, NeuronParameters(torch.tensor(1.0)), settings=settings)
        # a = 0.6, 0.9, 1.05 (fires, back to 0), 0.8, 0.65
        assert spikes.flatten().tolist() == [0, 0, 1, 0, 0]
        torch.testing.assert_close(v, torch.tensor([0.65]))

    def test_counted_by_hand_soft_reset(self):
        settings = NeuronSettings(decay=0.5, threshold=1.0, reset="soft")
        current = torch.tensor([[0.6], [0.6], [0.6], [0.0]])
        spikes, v = self.run(current, None, NeuronParameters(torch.tensor(1.0)), settings=settings)
        assert spikes.flatten().tolist() == [0, 0, 1, 0]  # a = 0.6, 0.9, 1.05, 0.025
        torch.testing.assert_close(v, torch.tensor([0.025]))

    @pytest.mark.parametrize(("rule", "fires"), [(">=", [0, 1, 1]), (">", [0, 0, 1])])
    def test_boundary_is_exact(self, rule, fires):
        one = np.float32(1)
        around = [np.nextafter(one, np.float32(0)), one, np.nextafter(one, np.float32(2))]
        current = torch.tensor(np.array([around]))
        settings = NeuronSettings(fire_rule=rule)
        spikes, _ = self.run(current, None, NeuronParameters(torch.tensor(1.0)), settings=settings)
        assert spikes[0].tolist() == fires

    @pytest.mark.parametrize("cut", [1, 3, 6])
    def test_two_parts_are_one_run(self, cut):
        settings = replace(LT, threshold_gradient="subtract+explicit")
        current = torch.randn(7, 3, 4, generator=torch.Generator().manual_seed(3), requires_grad=True)
        threshold = torch.tensor(0.8, requires_grad=True)
        whole, v_whole = self.run(current, None, NeuronParameters(threshold), settings=settings)
        first, v = self.run(current[:cut], None, NeuronParameters(threshold), settings=settings)
        second, v_parts = self.run(current[cut:], v, NeuronParameters(threshold), settings=settings)
        parts = torch.cat((first, second))
        assert torch.equal(parts, whole)
        assert torch.equal(v_parts, v_whole)
        weight = torch.randn(7, 3, 4, generator=torch.Generator().manual_seed(4))
        for a, b in zip(
            torch.autograd.grad((whole * weight).sum() + v_whole.sum(), (current, threshold)),
            torch.autograd.grad((parts * weight).sum() + v_parts.sum(), (current, threshold)),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)

    def test_memory_layout_does_not_matter(self):
        plain = torch.randn(3, 2, 4, 5, 6, generator=torch.Generator().manual_seed(5))
        strided = plain.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
        assert not strided.is_contiguous()
        results = []
        for current in (plain, strided):
            current = current.clone(memory_format=torch.preserve_format).requires_grad_()
            spikes, v = self.run(current, None, NeuronParameters(torch.tensor(0.5)), settings=LT)
            (spikes.sum() + v.square().sum()).backward()
            results.append((spikes, v, current.grad))
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)

    def test_half_precision_keeps_its_membrane_in_float32(self):
        current = torch.full((3, 2), 0.3, dtype=torch.bfloat16)
        spikes, v = self.run(current, None, NeuronParameters(torch.tensor(1.0)), settings=NeuronSettings())
        assert spikes.dtype == torch.bfloat16
        assert v.dtype == torch.float32
        step = np.float32(current[0, 0].item())
        np.testing.assert_array_equal(v, np.full(2, step + (step + step / 2) / 2, np.float32))

    def test_inputs_are_not_changed(self):
        current, v = torch.randn(3, 2, generator=torch.Generator().manual_seed(6)), torch.ones(2)
        before = current.clone()
        self.run(current, v, NeuronParameters(torch.tensor(1.0)), settings=NeuronSettings())
        assert torch.equal(current, before)
        assert torch.equal(v, torch.ones(2))

    @pytest.mark.parametrize(
        ("current", "v", "message"),
        [
            (torch.zeros(3), None, r"current: found shape \(3,\), expected \[T, B, \.\.\.\]"),
            (torch.zeros(0, 2), None, r"current: found shape \(0, 2\), expected \[T, B, \.\.\.\] with T"),
            (
                torch.zeros(3, 2, dtype=torch.int64),
                None,
                r"current: found dtype torch\.int64, expected a float",
            ),
            (torch.zeros(3, 2), torch.zeros(3), r"v: found shape \(3,\), expected .* \(2,\)"),
            (
                torch.zeros(3, 2),
                torch.zeros(2).double(),
                r"v: found dtype torch\.float64, expected torch\.float32",
            ),
            (torch.zeros(3, 2), torch.zeros(2, device="meta"), r"v: found on meta, expected .* cpu"),
        ],
    )
    def test_refuses_what_cannot_be_run(self, current, v, message):
        with pytest.raises(NeuronError, match=message):
            self.run(current, v, NeuronParameters(torch.tensor(1.0)), settings=NeuronSettings())

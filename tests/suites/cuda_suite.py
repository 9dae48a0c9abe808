"""What the CUDA kernels must do beyond the suite of all executors, on a GPU as in the simulation on a CPU."""

from dataclasses import replace
from typing import ClassVar

import pytest
import torch

from snn.neurons.kernels import cuda_text
from snn.neurons.kernels.launch import InputGradient
from snn.neurons.settings import NeuronSettings
from tests.suites.kernel_suite import LT, MLIF, Case, KernelSuite, channel_sums, draw, want

SIXTEEN_BIT = {
    "flat": Case(MLIF, (7, 3, 5, 11)),
    "planes": Case(LT, (5, 2, 3, 5, 7), affine=True, masked=True, per_channel=True),
    "channels last, max pool": Case(
        LT, (4, 2, 35, 5, 7), affine=True, per_channel=True, channels_last=True, pool="max"
    ),
    "avg pool, two chunks": Case(MLIF, (33, 2, 3, 6, 5), per_channel=True, pool="avg", from_rest=True),
}
# Mappings by name; each has more neurons than the few blocks allowed in the test below run at a time.
FEW_BLOCKS = {
    "flat": Case(LT, (3, 5, 7, 97)),
    "planes": Case(LT, (3, 5, 2, 13, 17), per_channel=True),
    "rows": Case(LT, (3, 5, 71, 3, 7), per_channel=True, channels_last=True),
    "rows of one pixel": Case(LT, (3, 37, 71), per_channel=True),
    "windows": Case(LT, (3, 5, 2, 29, 31), per_channel=True, pool="max"),
    "windows in rows": Case(LT, (3, 5, 71, 7, 9), per_channel=True, pool="avg", channels_last=True),
}


class CudaSuite(KernelSuite):
    tolerances: ClassVar[dict[torch.dtype, tuple[float, float]]] = {
        **KernelSuite.tolerances,
        torch.float16: (2e-3, 1e-4),
        torch.bfloat16: (2e-2, 1e-3),
    }

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("name", SIXTEEN_BIT)
    def test_sixteen_bit(self, name, dtype):
        self.compare(replace(SIXTEEN_BIT[name], dtype=dtype))

    @pytest.mark.parametrize("name", FEW_BLOCKS)
    def test_threads_take_neurons_in_turn(self, name, monkeypatch):
        monkeypatch.setattr(cuda_text, "MOST_BLOCKS", 3)
        self.compare(FEW_BLOCKS[name])

    @pytest.mark.parametrize("pool", ["none", "avg"])
    @pytest.mark.parametrize("steps", [7, 35])
    def test_decay_input_behind_affine_map_and_mask(self, steps, pool):
        """The gradient of the decay needs the current itself."""
        plif = NeuronSettings.PRESETS["plif"]
        self.compare(Case(plif, (steps, 2, 3, 5, 3), affine=True, masked=True, per_channel=True, pool=pool))

    def test_long_windows_in_float32(self):
        self.compare(
            Case(LT, (70, 2, 3, 5, 5), dtype=torch.float32, pool="max", affine=True, per_channel=True)
        )

    @pytest.mark.parametrize("channels_last", [False, True])
    def test_gradient_of_y_in_bfloat16(self, channels_last):
        case = Case(
            LT, (5, 2, 35, 4, 6), torch.bfloat16, channels_last, pool="avg", affine=True, per_channel=True
        )
        drawn = draw(case)
        wanted, mean = want(drawn), torch.linspace(-1, 1, 35)
        checkpoints = self.forward(drawn.launch, drawn.inputs).checkpoints
        rule = InputGradient(torch.linspace(0.5, 2, 35), torch.linspace(-1, 1, 35), mean, mean * 0.1)
        found = self.backward(
            drawn.launch,
            drawn.inputs,
            checkpoints,
            drawn.grad_out,
            drawn.grad_v,
            input_gradient=rule,
            mean=mean,
        )
        g_scale, y_scale, centre, shift = (term.reshape(-1, 1, 1) for term in rule)
        self.close(
            found.y, g_scale * wanted.grad_x + y_scale * (drawn.inputs.y.float() - centre) + shift, drawn
        )
        self.close(found.sums, channel_sums(wanted.grad_x, drawn.inputs.y, mean), drawn, summands=240)

    def test_no_neurons(self):
        drawn = draw(Case(LT, (3, 0, 5), per_channel=True, grad_v=False))
        forward = self.forward(drawn.launch, drawn.inputs)
        found = self.backward(
            drawn.launch,
            drawn.inputs,
            forward.checkpoints,
            drawn.grad_out,
            None,
            mean=torch.zeros(5, dtype=torch.float64),
        )
        assert forward.out.shape == (3, 0, 5)
        assert found.threshold.tolist() == [0.0] * 5
        assert found.sums.tolist() == [[0.0] * 5] * 2

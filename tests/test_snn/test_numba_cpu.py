import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from suites.kernel_suite import LT, Case, KernelSuite, draw

from snn.neurons.kernels import numba_cpu
from snn.neurons.membrane import MEMBRANES, MembraneSettings
from snn.neurons.settings import PUBLISHED, NeuronSettings, published


class TestNumba(KernelSuite):
    forward = staticmethod(numba_cpu.forward)
    backward = staticmethod(numba_cpu.backward)


@pytest.fixture
def threads():
    """Set torch's number of threads, and the former one afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def run_all(case: Case) -> list[torch.Tensor | None]:
    launch, inputs, grad_out, grad_v = draw(case)
    forward = numba_cpu.forward(launch, inputs)
    mean = torch.zeros(launch.channels)
    backward = numba_cpu.backward(launch, inputs, forward.checkpoints, grad_out, grad_v, mean=mean)
    return [*forward, *backward]


@pytest.mark.parametrize("per_channel", [False, True])
def test_any_number_of_threads_gives_the_same_bits(threads, monkeypatch, per_channel):
    monkeypatch.setattr(numba_cpu, "WORK_PER_THREAD", 1)
    case = Case(LT, (5, 3, 7, 61, 17), dtype=torch.float32, per_channel=per_channel, affine=True)
    threads(1)
    alone = run_all(case)
    for count in (2, 3, 7):
        threads(count)
        for found, wanted in zip(run_all(case), alone, strict=True):
            assert torch.equal(found, wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_that_of_float32_rounded(dtype):
    launch, inputs, grad_out, grad_v = draw(Case(LT, dtype=dtype, per_channel=True))
    single = replace(launch, dtype=torch.float32)
    forward = numba_cpu.forward(launch, inputs)
    wanted = numba_cpu.forward(single, inputs._replace(y=inputs.y.float()))
    assert forward.out.dtype == dtype
    assert torch.equal(forward.out, wanted.out.to(dtype))
    assert torch.equal(forward.v, wanted.v)
    found = numba_cpu.backward(launch, inputs, forward.checkpoints, grad_out, grad_v)
    precise = numba_cpu.backward(
        single, inputs._replace(y=inputs.y.float()), wanted.checkpoints, grad_out.float(), grad_v
    )
    assert torch.equal(found.y, precise.y.to(dtype))
    assert torch.equal(found.threshold, precise.threshold)


def test_no_neurons():
    drawn = draw(Case(LT, (3, 0, 4)))
    forward = numba_cpu.forward(drawn.launch, drawn.inputs)
    found = numba_cpu.backward(drawn.launch, drawn.inputs, forward.checkpoints, drawn.grad_out, drawn.grad_v)
    assert forward.out.shape == (3, 0, 4)
    assert found.threshold.tolist() == [0]


def test_bumps_far_apart_need_more_than_one_exponential():
    wide = MembraneSettings(levels=(-40.0, -1.0, 0.0, 1.0, 40.0), slope=2.0)
    TestNumba().compare(Case(replace(LT, membrane=wide), (7, 2, 3, 5, 3)))


def test_compiled_programs_are_kept_on_disk():
    run_all(Case(LT, (2, 1, 3), dtype=torch.float32))
    program = (
        "import torch\n"
        "from suites.kernel_suite import LT, Case, draw\n"
        "from snn.neurons.kernels import numba_cpu, numba_cpu_drive as drive, numba_cpu_step as step\n"
        "from snn.neurons.kernels.numba_cpu_options import options, source_digest\n"
        "launch, inputs, grad_out, _ = draw(Case(LT, (2, 1, 3), dtype=torch.float32))\n"
        "forward = numba_cpu.forward(launch, inputs)\n"
        "numba_cpu.backward(launch, inputs, forward.checkpoints, grad_out, None)\n"
        "loops = [loop(source_digest()).stats for loop in (drive.forward_loop, drive.backward_loop)]\n"
        "steps = [make(options(LT), 'float32') for make in (step.compiled_step, step.compiled_step_back)]\n"
        "print([s.cache_misses.total() for s in loops], [s.cache_hits for s in steps])\n"
    )
    tests = Path(__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tests.parent,
        env={**os.environ, "PYTHONPATH": f"{tests}:{tests.parent}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "[0, 0] [1, 1]\n"


def test_why_not():
    def reason(settings: NeuronSettings, dtype: torch.dtype = torch.float32) -> str | None:
        return numba_cpu.why_not(settings, dtype=dtype)

    for name, settings in PUBLISHED.items():
        assert (reason(settings) is None) == (settings.spike_value == "one"), name
    assert "spike_value 'threshold'" in reason(published("lt_spike_threshold"))
    many = MembraneSettings(levels=tuple(range(33)))
    assert "33 levels" in reason(replace(LT, membrane=many))
    assert reason(replace(LT, membrane=MEMBRANES["chip"])) is None
    assert "float8" in reason(LT, torch.float8_e4m3fn)

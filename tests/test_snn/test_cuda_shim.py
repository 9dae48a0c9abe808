"""The CUDA text, compiled as C++ and run on the CPU, against the reference: no GPU is needed to prove it."""

import os
from dataclasses import replace

import pytest
import torch

from snn.neurons.kernels.cuda_calls import Call, call_backward, call_forward
from snn.neurons.kernels.cuda_text import Variant, write_text
from snn.neurons.kernels.launch import InputGradient, traffic
from tests.cuda_shim import run_on_cpu
from tests.suites.cuda_suite import CudaSuite
from tests.suites.kernel_suite import LT, Case, draw

pytestmark = pytest.mark.skipif(
    run_on_cpu.COMPILER is None and not os.environ.get("CI"), reason="no g++ here"
)

CONVERT = """
KERNEL convert(const IO *bits, float *numbers, const float *given, IO *rounded, INT count) {
    for (INT i = 0; i < count; ++i) {
        numbers[i] = to_real(bits[i]);
        rounded[i] = from_real(given[i]);
    }
}
"""


class TestCudaTextOnCpu(CudaSuite):
    forward = staticmethod(run_on_cpu.forward)
    backward = staticmethod(run_on_cpu.backward)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_sixteen_bit_numbers_are_converted_as_torch_does(dtype):
    launch = draw(Case(LT, (1, 2), dtype)).launch
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    given = halfway_and_beside(bits.view(dtype).float())
    bits = bits.repeat(len(given) // len(bits))
    numbers, rounded = torch.zeros_like(given), torch.zeros_like(bits)
    text = write_text(launch, Variant("FLAT")) + CONVERT
    arguments = (bits, numbers, given, rounded, len(bits))
    run_on_cpu.run(Call(text, "convert", arguments, blocks=1, threads=1, device=bits.device))
    torch.testing.assert_close(numbers, bits.view(dtype).float(), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(rounded.view(dtype), given.to(dtype), rtol=0, atol=0, equal_nan=True)


def halfway_and_beside(numbers):
    """Each number, halfway to its neighbours in bits of a float, and the nearest floats to those points."""
    bits = numbers.view(torch.int32)
    offsets = [0, 1, -1, *(side + nudge for side in (2**12, 2**15, 2**11) for nudge in (-1, 0, 1))]
    return torch.cat([(bits + offset).view(torch.float32) for offset in offsets])


def counted(case):
    """Bytes that the calls of a launch load and store, by name as in `traffic`; each result is checked."""
    drawn = draw(case)
    launch, inputs, grad_out, _ = drawn
    moved = []

    def run(call):
        moved.append(sum(run_on_cpu.run(call)))

    checkpoints = call_forward(launch, inputs, run).checkpoints
    ones = torch.ones(launch.channels, dtype=launch.state_dtype)
    above = (launch, inputs, checkpoints, grad_out, None, run)
    call_backward(*above, write=False, mean=ones)
    call_backward(*above, input_gradient=InputGradient(ones, ones, ones, ones))
    return launch, dict(zip(("forward", "sums", "backward"), moved, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("pool", ["none", "max"])
@pytest.mark.parametrize("steps", [10, 40])
def test_bytes_moved_are_those_of_the_plan(dtype, pool, steps):
    case = Case(LT, (steps, 2, 35, 5, 6), dtype, pool=pool, affine=True, from_rest=True, grad_v=False)
    launch, found = counted(replace(case, channels_last=dtype == torch.bfloat16))
    planned = traffic(launch)
    assert found == {name: planned[name] for name in found}


@pytest.mark.parametrize("pool", ["none", "avg"])
def test_traffic_stays_in_its_budget(pool):
    """In elements per neuron and step, membranes left out: 2 forward, 3 backward, 8 with normalisation."""
    case = Case(LT, (10, 2, 3, 8, 6), torch.float32, pool=pool, affine=True, from_rest=True, grad_v=False)
    launch, found = counted(case)
    elements = launch.steps * launch.neurons
    membrane = launch.neurons * launch.state_dtype.itemsize
    each = {name: bytes / launch.dtype.itemsize / elements for name, bytes in found.items()}
    each["forward"] = (found["forward"] - membrane) / launch.dtype.itemsize / elements
    statistics = traffic(launch)["statistics"] / launch.dtype.itemsize / elements
    assert each["forward"] <= 2
    assert each["sums"] <= 2
    assert each["backward"] <= 3
    assert statistics + sum(each.values()) <= (8 if pool == "none" else 6)


def test_accesses_outside_of_a_tensor_are_seen():
    drawn = draw(Case(LT, (5, 2, 3)))
    short = drawn.inputs._replace(y=drawn.inputs.y[:4])
    with pytest.raises(AssertionError, match="6 accesses outside of tensors"):
        run_on_cpu.forward(drawn.launch, short)

"""The CUDA kernels on a real device, where torch and CuPy have one: the tests of the simulation once more."""

import pytest
import torch

from snn.neurons.kernels import cuda
from snn.neurons.kernels.cuda_loader import examine
from snn.neurons.kernels.cuda_text import SHARED_BYTES
from snn.neurons.kernels.launch import CHUNK
from tests.suites.cuda_suite import CudaSuite
from tests.suites.kernel_suite import LT, Case, draw

PROBLEM = examine().problem
pytestmark = pytest.mark.skipif(PROBLEM is not None, reason=str(PROBLEM))


def to_device(value):
    """The same tensors on the device, strides kept."""
    if isinstance(value, torch.Tensor):
        return value.to("cuda")
    return value._make(map(to_device, value)) if isinstance(value, tuple) else value


def to_cpu(result):
    return result._make(None if tensor is None else tensor.cpu() for tensor in result)


def skip_where_too_long(launch):
    """float64 is not used on devices, but it makes a strict test."""
    kept = 32 * min(launch.steps, CHUNK) * 9 * launch.state_dtype.itemsize
    if launch.dtype == torch.float64 and launch.pool != "none" and kept > SHARED_BYTES - 2048:
        pytest.skip("float64 windows of so many steps do not fit in shared memory")


class TestCudaDevice(CudaSuite):
    @staticmethod
    def forward(launch, inputs):
        skip_where_too_long(launch)
        return to_cpu(cuda.forward(launch, to_device(inputs)))

    @staticmethod
    def backward(launch, inputs, checkpoints, grad_out, grad_v, **options):
        tensors = map(to_device, (inputs, checkpoints, grad_out, grad_v))
        options = {name: to_device(value) for name, value in options.items()}
        return to_cpu(cuda.backward(launch, *tensors, **options))

    def test_kernels_run_on_the_current_stream(self):
        """On a side stream a kernel sees what was written there just before it."""
        drawn = draw(Case(LT, (4, 1 << 12), torch.float32, grad_v=False))
        inputs = to_device(drawn.inputs)
        expected = cuda.forward(drawn.launch, inputs).out
        late, busy = torch.zeros_like(inputs.y), torch.zeros(1 << 26, device="cuda")
        torch.cuda.synchronize()
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(50):
                busy.add_(1)
            late.copy_(inputs.y)
            found = cuda.forward(drawn.launch, inputs._replace(y=late)).out
        stream.synchronize()
        assert torch.equal(found, expected)

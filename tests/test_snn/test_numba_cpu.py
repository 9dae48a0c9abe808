from suites.kernel_suite import KernelSuite

from snn.neurons.kernels import numba_cpu


class TestNumba(KernelSuite):
    forward = staticmethod(numba_cpu.forward)
    backward = staticmethod(numba_cpu.backward)

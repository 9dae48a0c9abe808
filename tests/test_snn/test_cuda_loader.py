"""What is said where CUDA text cannot run, and what is handed to a kernel where it can; no GPU is needed."""

import numpy as np
import pytest
import torch

from snn.neurons.kernels import cuda, cuda_loader
from snn.neurons.kernels.cuda_loader import examine, find_problem
from snn.neurons.kernels.launch import CHUNK
from snn.neurons.settings import NeuronSettings, published
from tests.suites.kernel_suite import LT, Case, draw

FINE = {
    "torch_cuda": "12.8",
    "devices": ("NVIDIA H200",),
    "installed": (("cupy-cuda12x", "14.2.0"),),
    "import_error": None,
}


def test_nothing_is_wrong_where_all_fits():
    assert find_problem(**FINE) is None
    assert find_problem(**{**FINE, "installed": (("cupy", "14.2.0"),)}) is None
    cuda_11 = {"torch_cuda": "11.8", "installed": (("cupy-cuda11x", "13.6.0"),)}
    assert find_problem(**{**FINE, **cuda_11}) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"torch_cuda": None}, ["built without CUDA", "install torch for CUDA"]),
        ({"devices": ()}, ["12.8 sees no CUDA device", "nvidia-smi"]),
        ({"installed": ()}, ["CuPy is not installed", "CUDA 12.8", "pip install 'cupy-cuda12x[ctk]==14.*'"]),
        ({"torch_cuda": "11.8", "installed": ()}, ["pip install 'cupy-cuda11x==13.6.*'"]),
        ({"torch_cuda": "10.2"}, ["CUDA 10.2", "11, 12, 13 only"]),
        (
            {"installed": (("cupy-cuda11x", "13.6.0"),)},
            ["cupy-cuda11x 13.6.0 does not fit torch for CUDA 12.8", "pip install 'cupy-cuda12x[ctk]==14.*'"],
        ),
        (
            {"installed": (("cupy-cuda12x", "14.2.0"), ("cupy-cuda13x", "14.2.0"))},
            ["cupy-cuda12x 14.2.0 and cupy-cuda13x 14.2.0 are both installed", "uninstall"],
        ),
        (
            {"import_error": "ImportError: libnvrtc.so.12: cannot open shared object file"},
            [
                "cupy-cuda12x 14.2.0 cannot be imported",
                "ImportError: libnvrtc.so.12: cannot open shared object file",
            ],
        ),
    ],
)
def test_problem_is_one_line_that_says_what_to_do(change, said):
    problem = find_problem(**{**FINE, **change})
    assert problem is not None
    assert "\n" not in problem
    for part in said:
        assert part in problem


def test_report_shows_the_real_import_error(monkeypatch):
    def fail(name):
        raise ImportError(f"lib{name}.so:\n   wrong ELF class")

    monkeypatch.setattr(cuda_loader, "import_module", fail)
    monkeypatch.setattr(cuda_loader, "_installed_cupys", lambda: (("cupy-cuda12x", "14.2.0"),))
    report = examine()
    assert report.cupy == "cupy-cuda12x 14.2.0"
    assert report.cupy_error == "ImportError: libcupy.so: wrong ELF class"


def test_report_agrees_with_torch():
    report = examine()
    assert report.torch_cuda == torch.version.cuda
    assert len(report.devices) == (torch.cuda.device_count() if torch.cuda.is_available() else 0)
    if not torch.cuda.is_available():
        assert report.problem is not None


@pytest.mark.parametrize(
    ("settings", "dtype", "said"),
    [
        (published("lt_spike_threshold"), torch.float32, "spike_value 'threshold' is not fused"),
        (NeuronSettings(), torch.float64, "torch.float64 is not fused"),
    ],
)
def test_what_is_not_fused_is_named(settings, dtype, said):
    assert said in cuda.why_not(settings, dtype=dtype)


def test_all_other_neurons_are_fused():
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        assert cuda.not_fused(NeuronSettings(), dtype=dtype) is None
    assert cuda.why_not(NeuronSettings(), dtype=torch.float32) == examine().problem


class Launches:
    """Stands in for CuPy: keeps what would be compiled and launched."""

    def __init__(self, monkeypatch):
        self.texts, self.launches = [], []
        monkeypatch.setattr(cuda, "load_kernel", self.load)
        monkeypatch.setattr(cuda, "launch_kernel", self.launch)

    def load(self, text, name, device):
        self.texts.append((text, device))
        return name

    def launch(self, kernel, arguments, *, blocks, threads, device):
        self.launches.append((kernel, arguments, blocks, threads))


def test_kernels_get_addresses_and_sizes_as_64_bit_numbers(monkeypatch):
    stand_in = Launches(monkeypatch)
    drawn = draw(
        Case(LT, (CHUNK + 1, 2, 3, 70, 5), torch.float32, affine=True, per_channel=True, from_rest=True)
    )
    forward = cuda.forward(drawn.launch, drawn.inputs)
    cuda.backward(drawn.launch, drawn.inputs, forward.checkpoints, drawn.grad_out, None)
    (first, sent, blocks, threads), (second, sent_back, *_) = stand_in.launches
    assert (first, second) == ("neuron_forward", "neuron_backward")
    assert {type(argument) for argument in (*sent, *sent_back)} == {np.int64}
    given = (*drawn.inputs, *forward)
    assert [int(address) for address in sent[:10]] == [0 if x is None else x.data_ptr() for x in given]
    # Batch, channels, height, width, and blocks per channel: 2 * 70 * 5 neurons of each, 256 at a time.
    assert [int(number) for number in sent[10:]] == [2, 3, 70, 5, 3]
    assert (blocks, threads) == (9, 256)
    assert len(sent_back) == 23


def test_sizes_do_not_make_new_texts(monkeypatch):
    stand_in = Launches(monkeypatch)
    for batch in (2, 3):
        drawn = draw(Case(LT, (4, batch, 3, batch + 4, 7), torch.bfloat16, per_channel=True))
        cuda.forward(drawn.launch, drawn.inputs)
    (first, _), (second, _) = stand_in.texts
    assert first == second

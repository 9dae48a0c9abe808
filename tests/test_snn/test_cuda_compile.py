"""The CUDA text compiled for real GPUs by nvcc, where it is installed: no warnings, no spilled registers."""

import re
import shutil
import subprocess
from dataclasses import replace

import pytest
import torch

from snn.neurons.kernels.cuda_text import Variant, write_text
from snn.neurons.kernels.launch import Launch
from snn.neurons.membrane import MEMBRANES
from snn.neurons.settings import NEURONS, NeuronSettings

NVCC = shutil.which("nvcc")
ARCHITECTURES = ("sm_80", "sm_90")
pytestmark = pytest.mark.skipif(NVCC is None, reason="nvcc is not installed here")

# As much as one neuron can have: eight lanes over a membrane of 24 levels, both with exponentials.
HEAVIEST = NeuronSettings(
    lanes=8,
    charge="decay_input",
    reset="soft_value",
    surrogate="sigmoid",
    surrogate_width="lane",
    membrane=MEMBRANES["chip"],
    rest=0.1,
)
EVERYTHING = Variant(
    "PLANES",
    backward=True,
    v_given=True,
    threshold_per_channel=True,
    decay_per_channel=True,
    grad_v_given=True,
    write=True,
    input_gradient=True,
    sums=True,
)
PLAIN = Launch(NEURONS["lif"], 32, (8, 64, 24, 24), False, torch.float32)
ALL_AROUND = replace(PLAIN, settings=NEURONS["lt"], steps=70, affine=True, masked=True)
ODD = (8, 64, 23, 23)

COMPILED: dict[str, tuple[Launch, Variant]] = {
    "forward": (PLAIN, Variant("FLAT")),
    "backward": (PLAIN, Variant("FLAT", backward=True, write=True)),
    "backward, all around": (ALL_AROUND, EVERYTHING),
    "backward, bfloat16, channels last": (
        replace(ALL_AROUND, dtype=torch.bfloat16, channels_last=True),
        replace(EVERYTHING, mapping="ROWS"),
    ),
    "backward, windows, 16 steps": (replace(ALL_AROUND, steps=16, pool="max", shape=ODD), EVERYTHING),
    "forward, heaviest, windows, float16": (
        replace(ALL_AROUND, settings=HEAVIEST, pool="max", shape=ODD, dtype=torch.float16),
        replace(EVERYTHING, backward=False),
    ),
    "backward, heaviest, windows, float16": (
        replace(ALL_AROUND, settings=HEAVIEST, pool="max", shape=ODD, dtype=torch.float16),
        EVERYTHING,
    ),
    "backward, heaviest": (replace(ALL_AROUND, settings=HEAVIEST, steps=10), EVERYTHING),
    "backward, heaviest, 16 steps": (replace(ALL_AROUND, settings=HEAVIEST, steps=16), EVERYTHING),
    "forward, heaviest, windows, 10 steps": (
        replace(ALL_AROUND, settings=HEAVIEST, pool="max", shape=ODD, steps=10),
        replace(EVERYTHING, backward=False),
    ),
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", COMPILED)
def test_text_compiles_without_warnings_or_spills(name, architecture, tmp_path):
    source = tmp_path / "neuron.cu"
    source.write_text(write_text(*COMPILED[name]))
    options = ["-cubin", f"-arch={architecture}", "--fmad=false", "-Xptxas", "-v", "-std=c++14"]
    result = subprocess.run(
        [NVCC, *options, "-o", str(tmp_path / "neuron.cubin"), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    said = result.stdout + result.stderr
    assert result.returncode == 0, said
    assert "warning" not in said
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", said)
    assert spills == [("0", "0")], said
    assert re.search(r"Used \d+ registers", said), said

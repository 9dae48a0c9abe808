"""Run the CUDA kernels on a CPU: their text compiled as C++, block after block, over ordinary tensors."""

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from snn.neurons.kernels.cuda_calls import Call, call_backward, call_forward

HERE = Path(__file__).parent
COMPILER = shutil.which("g++")
# Without contraction of products and sums, as on the GPU.
OPTIONS = ("-std=c++11", "-O1", "-ffp-contract=off", "-shared", "-fPIC")


class Moved(NamedTuple):
    """Bytes that a kernel loaded from and stored to tensors of the size of a step."""

    read: int
    written: int


@cache
def directory() -> tempfile.TemporaryDirectory[str]:
    """The place of compiled kernels, removed at the end of the process."""
    return tempfile.TemporaryDirectory(prefix="cuda_shim_")


def compile_text(text: str, kernel: str) -> Path:
    """Compile one kernel to a library, once."""
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    source, library = (Path(directory().name, f"{name}{suffix}") for suffix in (".cu", ".so"))
    if library.exists():
        return library
    source.write_text(text)
    made = source.with_suffix(".part")
    defines = (f'-DTEXT="{source}"', f"-DNAME={kernel}")
    command = [COMPILER, *OPTIONS, *defines, str(HERE / "entry.cpp"), "-o", str(made), "-lm"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    made.rename(library)
    return library


@cache
def load(library: Path):
    """The function of a library that runs its kernel."""
    return ctypes.CDLL(str(library)).run


def run(call: Call) -> Moved:
    """Run all blocks of a call."""
    tensors = [argument if isinstance(argument, Tensor) else None for argument in call.arguments]
    numbers = [0 if argument is None else argument for argument in call.arguments]
    values = [
        number if tensor is None else tensor.data_ptr()
        for tensor, number in zip(tensors, numbers, strict=True)
    ]
    sizes = [0 if tensor is None else tensor.numel() * tensor.itemsize for tensor in tensors]
    array, report = ctypes.c_longlong * len(values), (ctypes.c_longlong * 3)()
    function = load(compile_text(call.text, call.kernel))
    function(array(*values), array(*sizes), len(values), ctypes.c_longlong(call.blocks), report)
    read, written, outside = report
    assert outside == 0, f"{outside} accesses outside of tensors"
    return Moved(read, written)


forward = partial(call_forward, run=run)


def backward(launch, inputs, checkpoints, grad_out, grad_v, **options):
    return call_backward(launch, inputs, checkpoints, grad_out, grad_v, run, **options)

"""What it takes to run CUDA text from Python: torch for CUDA, a device, and a CuPy of the same CUDA.

CuPy's wheels are made per major version of CUDA (cupy-cuda11x 13.6, cupy-cuda12x and cupy-cuda13x 14), and
two of them in one environment overwrite each other. Only what all of them offer is used.
"""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import distributions
from types import ModuleType
from typing import Any

import torch

from snn.errors import NeuronError

# Major versions of CUDA for which CuPy has wheels with the interface used here, and what to install.
CUPY_FOR_CUDA = {
    "11": "cupy-cuda11x==13.6.*",
    "12": "cupy-cuda12x[ctk]==14.*",
    "13": "cupy-cuda13x[ctk]==14.*",
}


@dataclass(frozen=True)
class CudaReport:
    """What was found here.

    Attributes:
        torch_cuda: Version of CUDA that torch was built for, such as `12.8`; None for a CPU build.
        devices: Names of the devices that torch sees.
        cupy: Name and version of the CuPy that is installed, or of all if there are several; None if none is.
        cupy_error: What importing CuPy said; None if it was imported or is not there.
        problem: Why CUDA text cannot run here and what to do, in one line; None where it can run.
    """

    torch_cuda: str | None
    devices: tuple[str, ...]
    cupy: str | None
    cupy_error: str | None
    problem: str | None


def examine() -> CudaReport:
    """Look at torch, the devices and CuPy."""
    installed = _installed_cupys()
    error = _import_error() if installed else None
    devices: tuple[str, ...] = ()
    if torch.version.cuda is not None and torch.cuda.is_available():
        devices = tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return CudaReport(
        torch_cuda=torch.version.cuda,
        devices=devices,
        cupy=", ".join(f"{name} {version}" for name, version in installed) or None,
        cupy_error=error,
        problem=find_problem(
            torch_cuda=torch.version.cuda, devices=devices, installed=installed, import_error=error
        ),
    )


def find_problem(
    *,
    torch_cuda: str | None,
    devices: tuple[str, ...],
    installed: tuple[tuple[str, str], ...],
    import_error: str | None,
) -> str | None:
    """Return why CUDA text cannot run and what to do, in one line; None where it can.

    Args:
        torch_cuda: Version of CUDA that torch was built for.
        devices: Names of the devices that torch sees.
        installed: Name and version of every distribution of CuPy.
        import_error: What importing CuPy said.
    """
    if torch_cuda is None:
        return f"torch {torch.__version__} is built without CUDA; install torch for CUDA and CuPy to match"
    if not devices:
        return f"torch for CUDA {torch_cuda} sees no CUDA device; check the driver with nvidia-smi"
    major = torch_cuda.split(".")[0]
    wanted = CUPY_FOR_CUDA.get(major)
    if wanted is None:
        return f"torch is built for CUDA {torch_cuda}, and CuPy is known for {', '.join(CUPY_FOR_CUDA)} only"
    if not installed:
        return f"CuPy is not installed; torch is built for CUDA {torch_cuda}: pip install '{wanted}'"
    names = " and ".join(f"{name} {version}" for name, version in installed)
    if len(installed) > 1:
        return f"{names} are both installed and break each other; uninstall all, then pip install '{wanted}'"
    (name, _), *_ = installed
    if name != "cupy" and name != f"cupy-cuda{major}x":
        return f"{names} does not fit torch for CUDA {torch_cuda}; uninstall it, then pip install '{wanted}'"
    if import_error is not None:
        return f"{names} cannot be imported: {import_error}"
    return None


def _installed_cupys() -> tuple[tuple[str, str], ...]:
    """Return name and version of every distribution of CuPy, sorted."""
    found = set()
    for distribution in distributions():
        name = str(distribution.metadata["Name"] or "").lower().replace("_", "-")
        if name == "cupy" or name.startswith("cupy-cuda"):
            found.add((name, distribution.version))
    return tuple(sorted(found))


def _import_error() -> str | None:
    """Return what importing CuPy says, in one line; None where it works."""
    try:
        import_module("cupy")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


def _import_cupy() -> ModuleType:
    """Return CuPy, or raise NeuronError with what is wrong."""
    problem = examine().problem
    if problem is not None:
        raise NeuronError(f"neurons on CUDA: {problem}")
    return import_module("cupy")


@cache
def load_kernel(text: str, name: str, device: int) -> Any:
    """Compile CUDA text for a device and return one of its kernels, both once only.

    Multiplication and addition are kept apart (`--fmad=false`), so that spikes are those of the reference.
    """
    cupy = _import_cupy()
    with cupy.cuda.Device(device):
        return cupy.RawModule(code=text, options=("--fmad=false",)).get_function(name)


def launch_kernel(
    kernel: Any, arguments: tuple[Any, ...], *, blocks: int, threads: int, device: torch.device
) -> None:
    """Launch a kernel on torch's current stream of a device."""
    cupy = import_module("cupy")
    stream = torch.cuda.current_stream(device).cuda_stream
    with cupy.cuda.Device(device.index), cupy.cuda.ExternalStream(stream, device.index):
        kernel((blocks,), (threads,), arguments)

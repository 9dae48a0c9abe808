"""Whether this installation can do its work. Everything found is said, with what to do where it is wrong."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from snn.neurons.kernels.cuda_loader import CudaReport

State = Literal["ok", "note", "problem"]

DISTRIBUTION = "spikeline"
# The names people import; other distributions may want them too.
PACKAGES = ("events", "snn", "pipelines")
SMALLEST_PYTHON = (3, 11)
# A store of 10,000 samples and its recordings fit in this.
ENOUGH_DISK_BYTES = 5 << 30


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: What was looked at.
        state: `note` works, but differs from what is tested.
        found: What was found.
        advice: What to do; empty where nothing is to be done.
    """

    subject: str
    state: State
    found: str
    advice: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the finding as plain JSON types."""
        return asdict(self)

    def line(self) -> str:
        """Return the finding as a line for people."""
        return f"{self.state:8} {self.subject:12} {self.found}{f'; {self.advice}' if self.advice else ''}"


def examine() -> list[Finding]:
    """Look at everything and return what was found."""
    checks: tuple[Callable[[], list[Finding]], ...] = (
        check_python,
        check_versions,
        check_names,
        check_torch,
        check_numba,
        check_cupy,
        check_neurons,
        check_machine,
    )
    return [finding for check in checks for finding in check()]


def check_python() -> list[Finding]:
    """Check the version of Python."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < SMALLEST_PYTHON:
        return [Finding("python", "problem", found, "install Python 3.11 or newer")]
    return [Finding("python", "ok", f"{found} at {sys.executable}")]


def check_versions() -> list[Finding]:
    """Compare installed packages with what is required and, where it is known, with what is tested."""
    from packaging.requirements import Requirement

    tested = tested_versions()
    findings = []
    for text in metadata.requires(DISTRIBUTION) or []:
        requirement = Requirement(text)
        extras = ["", "train"]
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        findings.append(_check_version(requirement.name, str(requirement.specifier), tested))
    wrong = [finding for finding in findings if finding.state != "ok"]
    summary = f"{len(findings) - len(wrong)} of {len(findings)} as tested"
    return [*wrong, Finding("packages", "ok", summary)]


def _check_version(name: str, wanted: str, tested: dict[str, str]) -> Finding:
    from packaging.specifiers import SpecifierSet

    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(
            name, "problem", "not installed", f"pip install 'spikeline[train]' (needs {name}{wanted})"
        )
    if not SpecifierSet(wanted).contains(found, prereleases=True):
        return Finding(name, "problem", f"{found}, needs {wanted}", f"pip install '{name}{wanted}'")
    expected = tested.get(name.lower())
    if expected is not None and found.split("+")[0] != expected:
        return Finding(name, "note", f"{found}, tested with {expected}")
    return Finding(name, "ok", found)


def tested_versions() -> dict[str, str]:
    """Return the versions everything is tested with, by package; empty outside a checkout."""
    path = Path(__file__).parents[1] / "constraints.txt"
    if not path.exists():
        return {}
    lines = [line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    pairs = [line.split("==") for line in lines if "==" in line]
    return {name.strip().lower(): version.split(";")[0].strip() for name, version in pairs}


def check_names() -> list[Finding]:
    """Check that `events`, `snn` and `pipelines` are ours: installing a namesake overwrites them silently."""
    owners = metadata.packages_distributions()
    here = Path(__file__).parents[1]
    return [check_name(name, owners.get(name, []), _folder_of(name), here) for name in PACKAGES]


def _folder_of(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parents[1] if spec is not None and spec.origin else None


def check_name(name: str, owners: list[str], folder: Path | None, here: Path) -> Finding:
    """Check who owns one name.

    Args:
        name: Name of a package.
        owners: Distributions that have it.
        folder: Folder it is imported from; None where it is not found.
        here: Folder our packages are in.
    """
    others = sorted(set(owners) - {DISTRIBUTION})
    if others:
        advice = (
            f"pip uninstall {' '.join(others)} and reinstall {DISTRIBUTION}, or use an environment of its own"
        )
        return Finding(name, "problem", f"also a package of {', '.join(others)}", advice)
    if folder != here:
        return Finding(
            name,
            "problem",
            f"imported from {folder}",
            f"expected {here}; look for another {name} on sys.path",
        )
    return Finding(name, "ok", f"{DISTRIBUTION}'s own, {folder}")


def check_torch() -> list[Finding]:
    """Check torch and what it can compute on."""
    if importlib.util.find_spec("torch") is None:
        return [Finding("torch", "problem", "not installed", "pip install 'spikeline[train]'")]
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count()))
        return [Finding("torch", "ok", f"{torch.__version__}, CUDA {torch.version.cuda}: {names}")]
    if torch.version.cuda is not None:
        return [
            Finding(
                "torch", "note", f"{torch.__version__} for CUDA {torch.version.cuda} sees no GPU",
                "training runs on the CPU; check `nvidia-smi` where there should be a GPU",
            )
        ]  # fmt: skip
    return [Finding("torch", "ok", f"{torch.__version__}, CPU")]


def check_numba() -> list[Finding]:
    """Compile and run a function."""
    import numba

    add = numba.njit(lambda a, b: a + b)
    found = add(2, 3)
    if found != 5:
        return [Finding("numba", "problem", f"2 + 3 gave {found}", "reinstall numba and llvmlite")]
    return [Finding("numba", "ok", f"{numba.__version__} compiles")]


def check_cupy() -> list[Finding]:
    """Look at CuPy, which compiles the neurons for a GPU."""
    if importlib.util.find_spec("torch") is None:
        return []
    from snn.neurons.kernels.cuda_loader import examine as examine_cuda

    return [judge_cupy(examine_cuda())]


def judge_cupy(report: "CudaReport") -> Finding:
    """Judge what was found: without a GPU nothing is missing, with one CuPy is what makes neurons fast."""
    if report.problem is None:
        return Finding("cupy", "ok", f"{report.cupy}, torch for CUDA {report.torch_cuda}")
    if report.cupy is None:
        if not report.devices:
            return Finding("cupy", "ok", "not installed, and no GPU to use it on")
        return Finding("cupy", "note", report.problem)
    error = report.cupy_error
    said = "" if error is None or error in report.problem else f"; importing it says {error}"
    if report.devices:
        return Finding("cupy", "problem", f"{report.problem}{said}")
    several = "; two builds break each other, keep one" if ", " in report.cupy else ""
    return Finding("cupy", "note", f"{report.cupy}{several}{said}", report.problem)


def check_neurons() -> list[Finding]:
    """Say what computes each kind of neuron here, and why nothing faster."""
    if importlib.util.find_spec("torch") is None:
        return []
    import torch

    # The precisions that training takes by itself or is likely to be told to take.
    findings = judge_neurons("cpu", ("float32",))
    if torch.cuda.is_available():
        findings += judge_neurons("cuda", ("float32", "bfloat16", "float16"))
    return findings


def judge_neurons(device_type: str, dtypes: tuple[str, ...]) -> list[Finding]:
    """Say what computes the neurons on one kind of device; what is equal shares a line."""
    import torch

    from snn.neurons.executors import Choice, choose_executor
    from snn.neurons.settings import NEURONS

    lines: dict[tuple[Choice, tuple[str, ...]], list[str]] = {}
    for dtype in dtypes:
        names: dict[Choice, list[str]] = {}
        for name, settings in NEURONS.items():
            choice = choose_executor(
                "auto", device_type=device_type, dtype=getattr(torch, dtype), settings=settings
            )
            names.setdefault(choice, []).append(name)
        for choice, alike in names.items():
            lines.setdefault((choice, tuple(alike)), []).append(dtype)
    return [
        Finding(
            "neurons",
            "note" if choice.reasons else "ok",
            f"{', '.join(alike)} on {device_type} in {', '.join(alike_dtypes)}: {choice.executor}",
            "; ".join(choice.reasons),
        )
        for (choice, alike), alike_dtypes in lines.items()
    ]


def check_machine() -> list[Finding]:
    """Look at cores and at the disk under the working folder."""
    free = shutil.disk_usage(Path.cwd()).free
    cores = Finding("cores", "ok", str(os.cpu_count()))
    text = f"{free / (1 << 30):.1f} GiB free in {Path.cwd()}"
    if free < ENOUGH_DISK_BYTES:
        return [cores, Finding("disk", "note", text, "large data sets may not fit; use another folder")]
    return [cores, Finding("disk", "ok", text)]

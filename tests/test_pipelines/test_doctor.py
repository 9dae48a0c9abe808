"""`pipelines doctor`: what is wrong is found, with what to do."""

import json
from importlib import metadata
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from pipelines import doctor
from pipelines.cli import app
from snn.neurons.executors import Choice
from snn.neurons.kernels.cuda_loader import CudaReport
from snn.neurons.settings import NEURONS

HERE = Path(doctor.__file__).parents[1]


def test_this_installation_is_fine():
    result = CliRunner().invoke(app, ["doctor", "--json"])
    findings = {finding["subject"]: finding for finding in json.loads(result.stdout)}
    assert result.exit_code == 0, result.stdout
    assert {
        "python",
        "packages",
        "events",
        "snn",
        "pipelines",
        "torch",
        "numba",
        "cupy",
        "neurons",
        "cores",
        "disk",
    } <= set(findings)
    assert {findings[name]["state"] for name in ("events", "snn", "pipelines")} == {"ok"}


def test_each_name_has_one_owner():
    owners = metadata.packages_distributions()
    for name in doctor.PACKAGES:
        assert set(owners[name]) == {"spikeline"}


def test_a_namesake_is_found_and_named():
    finding = doctor.check_name("events", ["spikeline", "Events"], HERE, HERE)
    assert finding.state == "problem"
    assert finding.line() == (
        "problem  events       also a package of Events; pip uninstall Events and reinstall spikeline, "
        "or use an environment of its own"
    )


def test_a_package_from_elsewhere_is_found():
    finding = doctor.check_name("snn", ["spikeline"], Path("/elsewhere"), HERE)
    assert (finding.state, finding.found) == ("problem", "imported from /elsewhere")
    assert doctor.check_name("snn", [], None, HERE).state == "problem"


@pytest.mark.parametrize(
    ("installed", "state", "found"),
    [
        ("2.1", "ok", "2.1"),
        ("2.2", "note", "2.2, tested with 2.1"),
        ("1.9", "problem", "1.9, needs >=2.0"),
        (None, "problem", "not installed"),
    ],
)
def test_versions_are_compared(monkeypatch, installed, state, found):
    def version(name):
        if installed is None:
            raise metadata.PackageNotFoundError(name)
        return installed

    monkeypatch.setattr(doctor.metadata, "version", version)
    finding = doctor._check_version("numpy", ">=2.0", {"numpy": "2.1"})
    assert (finding.state, finding.found) == (state, found)
    assert bool(finding.advice) == (state == "problem")


def test_tested_versions_are_those_of_the_constraints():
    tested = doctor.tested_versions()
    assert tested["numba"] == "0.68.1"
    assert all(version and not version.startswith("=") for version in tested.values())


GPU = ("NVIDIA H200",)
TWO = "cupy-cuda11x 13.6.0, cupy-cuda12x 14.2.0"


@pytest.mark.parametrize(
    ("report", "line"),
    [
        (
            CudaReport("12.8", GPU, "cupy-cuda12x 14.2.0", None, None),
            "ok       cupy         cupy-cuda12x 14.2.0, torch for CUDA 12.8",
        ),
        # No GPU and nothing for one is how most machines are.
        (
            CudaReport(None, (), None, None, "torch is built without CUDA"),
            "ok       cupy         not installed, and no GPU to use it on",
        ),
        (
            CudaReport("12.8", GPU, None, None, "CuPy is not installed; pip install it"),
            "note     cupy         CuPy is not installed; pip install it",
        ),
        (
            CudaReport(
                "13.0", GPU, "cupy-cuda12x 14.2.0", None, "cupy-cuda12x does not fit torch for CUDA 13.0"
            ),
            "problem  cupy         cupy-cuda12x does not fit torch for CUDA 13.0",
        ),
        # The error that importing gave is always shown, whatever else is wrong, and once.
        (
            CudaReport("12.8", GPU, "cupy-cuda12x 14.2.0", "ImportError: libnvrtc", "ImportError: libnvrtc"),
            "problem  cupy         ImportError: libnvrtc",
        ),
        (
            CudaReport(None, (), TWO, "ImportError: libcudart.so.11.0", "torch is built without CUDA"),
            f"note     cupy         {TWO}; two builds break each other, keep one; importing it says "
            "ImportError: libcudart.so.11.0; torch is built without CUDA",
        ),
    ],
)
def test_cupy_is_judged_by_whether_there_is_a_gpu(report, line):
    assert doctor.judge_cupy(report).line() == line


def test_neurons_that_run_alike_share_a_line(monkeypatch):
    def choose(wanted, *, device_type, dtype, settings):
        if settings.lanes > 1 and dtype == torch.float16:
            return Choice("reference", ("cuda: no lanes in half precision",))
        return Choice("cuda")

    monkeypatch.setattr("snn.neurons.executors.choose_executor", choose)
    findings = doctor.judge_neurons("cuda", ("float32", "bfloat16", "float16"))
    assert [finding.line() for finding in findings] == [
        "ok       neurons      lif, plif, lt, quantlif, mlif on cuda in float32, bfloat16: cuda",
        "ok       neurons      lif, plif, lt, quantlif on cuda in float16: cuda",
        "note     neurons      mlif on cuda in float16: reference; cuda: no lanes in half precision",
    ]


def test_every_neuron_is_named_once():
    named = [
        finding.found.split(" on ")[0].split(", ") for finding in doctor.judge_neurons("cpu", ("float32",))
    ]
    assert sorted(name for names in named for name in names) == sorted(NEURONS)


def test_old_python_is_a_problem(monkeypatch):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 4))
    (finding,) = doctor.check_python()
    assert (finding.state, finding.found) == ("problem", "3.10.4")


def test_little_disk_is_noted(monkeypatch):
    monkeypatch.setattr(doctor, "ENOUGH_DISK_BYTES", 1 << 62)
    assert doctor.check_machine()[-1].state == "note"


def test_a_problem_gives_exit_code_1(monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda: [doctor.Finding("x", "problem", "broken", "mend it")])
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert result.stdout == "problem  x            broken; mend it\n"

"""`pipelines doctor`: what is wrong is found, with what to do."""

import json
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines import doctor
from pipelines.cli import app

HERE = Path(doctor.__file__).parents[1]


def test_this_installation_is_fine():
    result = CliRunner().invoke(app, ["doctor", "--json"])
    findings = {finding["subject"]: finding for finding in json.loads(result.stdout)}
    assert result.exit_code == 0, result.stdout
    assert {"python", "packages", "events", "snn", "pipelines", "torch", "numba", "cores", "disk"} <= set(
        findings
    )
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

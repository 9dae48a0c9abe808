"""Rules about the tree itself."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


@pytest.mark.parametrize("name", ["events", "snn", "pipelines"])
def test_each_import_name_has_one_owner(name):
    assert set(packages_distributions()[name]) == {"spikeline"}


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    # What set-up installs beside: its dependencies would pull in what the tests do not need.
    wanted += re.findall(r"--no-deps (\S+)", (ROOT / "Makefile").read_text())
    assert "spikingjelly" in wanted
    names = {re.split(r"[\[<>=!~ ]", requirement)[0].lower() for requirement in wanted}
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert names - pinned == set()


def test_set_up_pulls_in_no_cupy():
    # Two builds of CuPy break each other, and none is needed where there is no GPU.
    extras = re.search(r"--editable '\.\[([^]]+)\]'", (ROOT / "Makefile").read_text())[1].split(",")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *chain(*(project["optional-dependencies"][e] for e in extras))]
    assert "torch>=2.6" in wanted
    assert not [requirement for requirement in wanted if "cupy" in requirement]


def test_a_wheel_holds_every_file_that_is_read_when_installed(tmp_path):
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("events", "snn", "pipelines"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    program = "from setuptools.build_meta import build_wheel\nbuild_wheel('.')"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert "snn/neurons/kernels/neuron.cu" in inside
    packages = [ROOT / name for name in ("events", "snn", "pipelines")]
    for pattern in ("*.cu", "*.toml", "*.html", "*.css", "py.typed"):
        found = {str(path.relative_to(ROOT)) for package in packages for path in package.rglob(pattern)}
        assert found <= inside


def test_continuous_integration_runs_the_readmes_test_command():
    assert "exec make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("command", ["events", "pipelines"])
def test_help_starts_without_heavy_imports(command):
    heavy = ("torch", "cupy", "dask", "distributed", "numba", "zarr", "numpy", "matplotlib", "scipy")
    program = (
        f"import sys\nsys.argv = [{command!r}, '--help']\nfrom {command}.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"loaded = [name for name in {heavy!r} if name in sys.modules]\n"
        "print(loaded, file=sys.stderr)\nsys.exit(bool(loaded))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_no_file_is_larger_than_a_megabyte():
    large = [path.name for path in tracked_files() if path.exists() and path.stat().st_size > 1 << 20]
    assert large == []

"""The folder of a run: where its settings, metrics, checkpoints, pictures and report are."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Iterable
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.errors import RunError
from pipelines.experiment import Experiment
from pipelines.settings_tree import as_table, build_settings, to_toml
from snn.whole_file import whole_file

if TYPE_CHECKING:
    from pipelines.convert_settings import ConvertExperiment
    from pipelines.detect_settings import DetectExperiment

# Distributions whose version can change a result.
RECORDED_VERSIONS = (
    "spikeline",
    "torch",
    "numpy",
    "numba",
    "zarr",
    "numcodecs",
    "scikit-learn",
    "torchmetrics",
)


class RunFolder:
    """Names and contents of the files of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings_toml = path / "settings.toml"
        self.settings_json = path / "settings.json"
        self.about = path / "about.json"
        self.metrics = path / "metrics.jsonl"
        self.results = path / "results.json"
        self.seen = path / "samples.npz"
        self.report = path / "report.html"
        self.checkpoints = path / "checkpoints"
        self.pictures = path / "pictures"
        self.tensorboard = path / "tensorboard"

    def create(
        self, experiment: "Experiment | ConvertExperiment | DetectExperiment", about: dict[str, Any]
    ) -> None:
        """Make the folder and write what is known before the first step.

        Raises:
            RunError: There is a run already.
        """
        if self.settings_json.exists():
            raise RunError(f"{self.path}: there is a run already; use --resume to go on, or another --out")
        for folder in (self.path, self.checkpoints, self.pictures):
            folder.mkdir(parents=True, exist_ok=True)
        table = as_table(experiment)
        self.settings_toml.write_text(to_toml(table), encoding="utf-8")
        _write_json(self.about, about)
        # Last: a folder with this file is a run.
        _write_json(self.settings_json, table)

    def experiment(self) -> Experiment:
        """Return the run's resolved settings.

        Raises:
            RunError: This is no run folder.
        """
        if self.kind == "detect":
            raise RunError(
                f"{self.path}: a run of `pipelines run detect`; this command is for classifiers; "
                f"the detector's scores are in {self.report}"
            )
        return build_settings(Experiment, self.read_settings(), where=str(self.settings_json))

    def read_settings(self) -> dict[str, Any]:
        """Return the run's resolved settings as plain tables. Raises RunError where there is no run."""
        return self._read_json(self.settings_json, "no run here; `pipelines run classify` makes one")

    @property
    def kind(self) -> str:
        """The command after `pipelines run` that made it. Raises RunError where there is no run."""
        settings = self.read_settings()
        return "convert" if "quantised" in settings else "detect" if "detector" in settings else "classify"

    @property
    def is_conversion(self) -> bool:
        """Whether it is a run of `pipelines run convert`. Raises RunError where there is no run."""
        return self.kind == "convert"

    def read_about(self) -> dict[str, Any]:
        """Return what the run recorded about itself. Raises RunError where there is none."""
        return self._read_json(self.about, "no run here; `pipelines run classify` makes one")

    def read_results(self) -> dict[str, Any]:
        """Return the results of the test. Raises RunError where the run has not finished."""
        return self._read_json(
            self.results,
            f"the run has not finished; go on with: pipelines run {self.kind} --resume {self.path}",
        )

    def _read_json(self, path: Path, advice: str) -> dict[str, Any]:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise RunError(f"{path}: not found; {advice}") from error
        except ValueError as error:
            raise RunError(f"{path}: damaged ({error}); {advice}") from error

    def write_results(self, results: dict[str, Any]) -> None:
        """Write the results of the test."""
        _write_json(self.results, results)

    def write_seen(self, arrays: dict[str, np.ndarray]) -> None:
        """Keep what the report shows of single samples."""
        with self.seen.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Add one epoch."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return all epochs so far; a line cut off by a crash is left out."""
        if not self.metrics.exists():
            return []
        lines = self.metrics.read_text(encoding="utf-8").split("\n")
        # What follows the last line end was never finished.
        return [json.loads(line) for line in lines[:-1]]

    def keep_metrics(self, epochs: int) -> None:
        """Leave out epochs after the given number: they are done again by a resumed run."""
        kept = [record for record in self.read_metrics() if record["epoch"] <= epochs]
        _write_whole(self.metrics, "".join(json.dumps(record) + "\n" for record in kept))


def new_run_folder(
    experiment: "Experiment | ConvertExperiment | DetectExperiment",
    out: Path | None,
    *,
    root: Path = Path("runs"),
) -> RunFolder:
    """Return an unused run folder: `out`, or one named after experiment and time."""
    if out is not None:
        return RunFolder(out)
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    path = root / f"{experiment.name}-{stamp}"
    number = 2
    while path.exists():
        path = root / f"{experiment.name}-{stamp}-{number}"
        number += 1
    return RunFolder(path)


def describe_run(store_path: Path, store_hash: str, class_names: Iterable[str]) -> dict[str, Any]:
    """Return what a run records about itself: data, versions, machine, command."""
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "store": str(store_path.resolve()),
        "store_config_hash": store_hash,
        "class_names": list(class_names),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "versions": {name: _version(name) for name in RECORDED_VERSIONS},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _write_json(path: Path, content: dict[str, Any]) -> None:
    _write_whole(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _write_whole(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")

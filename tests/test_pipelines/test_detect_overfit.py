"""Learning a few windows by heart: which windows, which settings, and that everything made of it says so."""

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from pipelines.cli.program import app
from pipelines.detect import run_detect
from pipelines.detect_data import prepare_detection_store, split_windows
from pipelines.detect_settings import OVERFIT_WARNING, load_detection
from pipelines.display import Silent
from pipelines.errors import ExperimentError

TINY = (
    "data.shapes.recordings=3",
    "data.shapes.duration_us=400_000",
    "data.shapes.size_share=[0.4, 0.7]",
    "data.shapes.sensor.sensor_hw=[48, 64]",
    "data.binning.frames=2",
    "data.workers=1",
    "detector.executor=reference",
    "detector.width=0.0625",
    "detector.least_coverage=0",
    "training.epochs=1",
    "training.device=cpu",
    "training.threads=1",
    "evaluation.shuffled=false",
)


class Listening(Silent):
    """Keeps what it is told."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.fixture(scope="module")
def overfit(tmp_path_factory):
    """A run on four windows that are learned by heart, its settings and what it said."""
    folder = tmp_path_factory.mktemp("overfit")
    experiment = load_detection("shapes", [*TINY, f'data.folder="{folder}"'], overfit=4)
    display = Listening()
    return run_detect(experiment, folder / "run", display=display), experiment, display.lines


def test_the_same_windows_are_for_everything(overfit):
    outcome, experiment, _ = overfit
    store = prepare_detection_store(experiment.data, Silent())
    windows = split_windows(store, experiment.data, seed=0)
    assert windows.train.tolist() == windows.validation.tolist() == windows.test.tolist()
    assert len(windows.train) == 4
    assert all(len(store.boxes_of(int(index)).xyxy) > 0 for index in windows.train)
    # Evenly over the store, whatever the splits are.
    splits = {
        name for name in ("train", "validation", "test") if np.isin(store.indices(name), windows.train).any()
    }
    assert len(splits) >= 2
    results = outcome.results
    assert (results["train_windows"], results["validation_windows"], results["test"]["windows"]) == (4, 4, 4)
    # More than there are takes all.
    everything = split_windows(store, replace(experiment.data, overfit=10_000), seed=0)
    labelled = [index for index in range(store.frames.shape[0]) if len(store.boxes_of(index).xyxy)]
    assert everything.test.tolist() == labelled


def test_log_results_and_report_say_so(overfit):
    outcome, _, lines = overfit
    assert f"overfit   {OVERFIT_WARNING}" in lines
    assert outcome.folder.read_results()["overfit"] == OVERFIT_WARNING
    page = outcome.folder.report.read_text(encoding="utf-8")
    assert page.count(OVERFIT_WARNING) == 1
    assert page.index(OVERFIT_WARNING) < page.index('<div class="cards">')


def test_what_keeps_from_learning_by_heart_is_off():
    usual, overfit = load_detection("pedro"), load_detection("pedro", overfit=9)
    assert (usual.data.overfit, overfit.data.overfit) == (None, 9)
    assert (overfit.training.weight_decay, overfit.training.average_decay) == (0, None)
    assert overfit.training.batch_size == 3
    assert overfit.name == "pedro-overfit"
    assert overfit.detector == usual.detector
    assert overfit.augment == type(overfit.augment)()
    assert load_detection("shapes").augment != overfit.augment == load_detection("shapes", overfit=1).augment
    assert load_detection("shapes", ["augment.flip=0.5"], overfit=1).augment.flip == 0.5
    assert load_detection("shapes", overfit=1).training.batch_size == 1


def test_what_cannot_be_is_refused():
    with pytest.raises(ExperimentError, match=r"data\.overfit must be at least 1 window, got 0; none keeps"):
        load_detection("pedro", overfit=0)
    with pytest.raises(ExperimentError, match="--smoke and --overfit: each makes another try"):
        load_detection("pedro", smoke=True, overfit=9)


def test_the_command_ends_with_the_warning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes = [part for assignment in TINY for part in ("--set", assignment)]
    result = CliRunner().invoke(app, ["run", "detect", "--overfit", "2", *changes, "--out", "run"])
    assert result.exit_code == 0, result.output
    assert f"\noverfit: {OVERFIT_WARNING}\n" in result.stdout
    assert result.stdout.rstrip().endswith("the same without --overfit")
    refused = CliRunner().invoke(app, ["run", "detect", "--resume", "run", "--overfit", "2"])
    assert refused.exit_code == 2
    assert "--overfit" in refused.output

"""A run in two processes from the command line: the curve of one, Ctrl-C, resumed by another number."""

import multiprocessing
import signal
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from events.errors import ConfigError
from pipelines import classify, cli
from pipelines.classify import run_classify
from pipelines.display import Silent
from pipelines.errors import ExperimentError
from pipelines.experiment import load_experiment
from pipelines.run_folder import RunFolder

CHANGES = ["training.epochs=2", "model.executor=reference", "model.dropout=0.2"]


def run(*arguments):
    return CliRunner().invoke(cli.app, ["run", "classify", *map(str, arguments)])


class InterruptsInSecondEpoch(Silent):
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def progress(self, activity, done, total, note=""):
        if activity.startswith("epoch   2") and done == 2:
            signal.raise_signal(signal.SIGINT)


def test_two_processes_stopped_and_gone_on_with_one(experiment_file, store_path, tmp_path, monkeypatch):
    alone = load_experiment(experiment_file, [f"data.source={store_path}", *CHANGES])
    expected = run_classify(alone, tmp_path / "alone", display=Silent())
    monkeypatch.setattr("pipelines.cli.classify.display_here", InterruptsInSecondEpoch)
    sets = [part for change in CHANGES for part in ("--set", change)]
    result = run(experiment_file, "--data", store_path, "--out", tmp_path / "run", "--devices", 2, *sets)
    assert result.exit_code == 130
    assert result.stderr.count("--resume") == 1
    assert multiprocessing.active_children() == []
    folder = RunFolder(tmp_path / "run")
    assert [record["epoch"] for record in folder.read_metrics()] == [1]
    monkeypatch.undo()
    result = run("--resume", folder.path, "--devices", 1)
    assert result.exit_code == 0, result.stderr
    for found, record in zip(folder.read_metrics(), expected.folder.read_metrics(), strict=True):
        # Float32, and spikes are decided by rounding now and then.
        assert found["train_loss"] == pytest.approx(record["train_loss"], rel=0.02)
        assert found["learning_rate"] == record["learning_rate"]
        assert found["step"] == record["step"]
    assert folder.read_results()["test"]["samples"] == expected.results["test"]["samples"]


def test_batches_that_cannot_be_shared_are_refused_before_anything_is_made(experiment_file, tmp_path):
    result = run(experiment_file, "--out", tmp_path / "run", "--devices", 2, "--nodes", 2)
    assert result.exit_code == 2
    assert "batch_size 6 cannot be shared by 4 devices; use a multiple of 4" in result.stderr
    assert not list(tmp_path.iterdir())


def test_fewer_samples_than_processes_are_refused_before_a_folder_is_made(experiment, tmp_path):
    experiment = replace(experiment, data=replace(experiment.data, validation_share=0.95))
    with pytest.raises(ConfigError, match="last batch of 3 samples has 3, too few for 6 processes"):
        classify._prepare(experiment, tmp_path / "run", False, 6, "reference", Silent())
    assert not list(tmp_path.iterdir())


def test_an_error_is_one_line_where_the_processes_have_no_place_to_meet(monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    result = run("absent")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: absent: neither a file nor an embedded experiment")


def test_torchrun_with_other_numbers_is_refused(experiment, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    two = replace(experiment, training=replace(experiment.training, devices=2))
    with pytest.raises(ExperimentError, match="but 3 processes were started on each of 1 mach"):
        run_classify(two, tmp_path / "run", display=Silent())
    assert not list(tmp_path.iterdir())

"""A detector beside its ANN twin, and one trained by two processes, which is the one that one trains."""

import json

import numpy as np
import pytest
import torch
from suites.tiny_detection import make_store, write_experiment
from test_pipelines.test_detect import Script
from typer.testing import CliRunner

from pipelines import cli
from pipelines.detect import run_detect
from pipelines.detect_folder import load_best_detector, read_detection
from pipelines.detect_settings import load_detection
from pipelines.display import Silent
from pipelines.errors import ExperimentError
from pipelines.report.detection import energy_rows, twin_words
from pipelines.run_folder import RunFolder
from snn.cost.report import Cost
from snn.metrics.activity import neuron_layers
from snn.training.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def experiment_file(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("experiment"))


@pytest.fixture(scope="module")
def store(experiment_file, tmp_path_factory):
    return make_store(experiment_file, tmp_path_factory.mktemp("data"))


def test_the_twin_is_trained_stopped_gone_on_with_and_stands_beside(experiment_file, store, tmp_path):
    changes = [f'data.source="{store.path}"', "training.epochs=2", "evaluation.twin=true"]
    experiment = load_detection(experiment_file, changes)
    # Two epochs of two batches are the detector's own; then the twin is stopped in its second epoch.
    stopped = run_detect(experiment, tmp_path / "run", display=Script(4 + 3))
    assert not stopped.completed
    folder, beside = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run" / "twin")
    assert len(folder.read_metrics()) == 2
    assert len(beside.read_metrics()) == 1
    assert folder.read_results()["twin"] is None
    outcome = run_detect(read_detection(folder.path), folder.path, resume=True, display=Silent())
    results, own = folder.read_results(), beside.read_results()
    assert outcome.results == results
    assert results["twin"]["mean_ap"] == own["test"]["scores"]["mean_ap"]
    assert results["twin"]["cost"] == own["test"]["cost"]
    assert own["neurons"] == "ReLU"
    assert own["test"]["windows"] == results["test"]["windows"]
    network, _ = load_best_detector(beside)
    assert neuron_layers(network) == {}
    assert neuron_layers(load_best_detector(folder)[0])

    _, _, sparse, dense = energy_rows(results)
    of_twin, of_snn = (Cost.from_dict(found["cost"]).totals() for found in (results["twin"], results["test"]))
    assert float(sparse[4]) == pytest.approx(of_twin["energy_pj"] / of_snn["energy_pj"], rel=5e-3)
    assert float(dense[4]) > float(sparse[4])
    assert f"{of_twin['dense_macs']:,.0f}" == dense[2]
    page = folder.report.read_text(encoding="utf-8")
    assert "ANN of the same layers, its zeros left out" in page
    assert f"mAP {100 * results['twin']['mean_ap']:.1f}, this one" in twin_words(results)
    assert twin_words(own).startswith("This is an ANN")
    # Alone, it is the same run.
    alone = load_detection(experiment_file, [*changes[:2], 'activation="relu"'])
    again = run_detect(alone, tmp_path / "alone", display=Silent())
    a, b = (load_checkpoint(f.checkpoints / "last.pt")["model"] for f in (again.folder, beside))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_twins_that_cannot_be_are_refused(experiment_file, tmp_path, monkeypatch):
    for change in ('activation="relu"', 'training.start_from="other"'):
        with pytest.raises(ExperimentError, match=r"evaluation\.twin .*leave out activation=relu"):
            load_detection(experiment_file, ["evaluation.twin=true", change])
    with pytest.raises(ExperimentError, match="activation must be 'neurons' or 'relu', got 'tanh'"):
        load_detection(experiment_file, ['activation="tanh"'])
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ExperimentError, match="processes of torchrun"):
        run_detect(load_detection(experiment_file, ["evaluation.twin=true"]), tmp_path / "run")


@pytest.mark.parametrize("activation", ["relu", "neurons"])
def test_two_processes_train_what_one_does(experiment_file, store, tmp_path, activation):
    changes = [
        "training.epochs=2",
        "training.batch_size=4",
        "training.accumulate=1",
        "training.optimizer=sgd",
        "evaluation.shuffled=false",
        f"activation={activation}",
    ]
    sets = [part for change in changes for part in ("--set", change)]
    folders = []
    for devices in (1, 2):
        out = tmp_path / str(devices)
        command = ["run", "detect", str(experiment_file), "--data", str(store.path), "--out", str(out), *sets]
        result = CliRunner().invoke(cli.app, [*command, "--devices", str(devices), "--json"])
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["run"] == str(out)
        folders.append(RunFolder(out))
    alone, together = (folder.read_metrics() for folder in folders)
    for one, two in zip(alone, together, strict=True):
        # With neurons rounding decides a spike now and then; ReLU is continuous.
        tolerance = 0.05 if activation == "neurons" else 1e-3
        for name in ("train_loss", "train_classes", "train_boxes", "validation_loss"):
            assert two[name] == pytest.approx(one[name], rel=tolerance), name
        assert two["train_positives"] == one["train_positives"]
        assert two["step"] == one["step"]
    if activation == "relu":
        one, two = (load_checkpoint(folder.checkpoints / "last.pt")["model"] for folder in folders)
        for name in one:
            torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-4)
        scores = [folder.read_results()["test"]["scores"]["mean_ap"] for folder in folders]
        np.testing.assert_allclose(scores[1], scores[0], atol=0.02)


def test_a_grid_is_refused_in_several_processes(experiment_file):
    changes = ["training.devices=3", "training.accumulate=1", 'detector.head="grid"', "detector.strides=[16]"]
    with pytest.raises(ExperimentError, match=r"the loss of a grid .* is no sum over windows"):
        load_detection(experiment_file, [*changes, 'detector.neck="none"'])

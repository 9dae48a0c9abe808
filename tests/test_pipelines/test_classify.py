"""A whole run on a tiny store: folder, report, resume, and what stops it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from events.errors import StoreError
from events.store.reader import open_store
from pipelines.classify import run_classify
from pipelines.display import Silent
from pipelines.errors import ExperimentError, RunError
from pipelines.evaluate import evaluate_run, load_best
from pipelines.prepare import prepare_store
from pipelines.report.build import build_report
from pipelines.run_folder import RunFolder
from snn.errors import ModelError, TrainingError
from snn.training.checkpoint import load_checkpoint


class Script(Silent):
    """Calls a function at a given batch, counted over the whole run."""

    def __init__(self, batch, action):
        self.batch, self.action, self.seen = batch, action, 0
        self.lines = []

    def say(self, text):
        self.lines.append(text)

    def progress(self, activity, done, total, note=""):
        if activity.startswith("epoch"):
            self.seen += 1
            if self.seen == self.batch:
                self.action()


@pytest.fixture(scope="module")
def finished(experiment_file, store_path, tmp_path_factory):
    """A run that nobody disturbed."""
    from pipelines.experiment import load_experiment

    experiment = load_experiment(experiment_file, [f"data.source={store_path}"])
    outcome = run_classify(experiment, tmp_path_factory.mktemp("runs") / "whole", display=Silent())
    assert outcome.completed
    return outcome


def final_weights(folder):
    return load_checkpoint(folder.checkpoints / "last.pt")["model"]


def assert_same_run(found, expected):
    """Weights, best weights, metrics but for times, and test results are the same to the bit."""
    for name in ("last.pt", "best.pt"):
        a, b = (load_checkpoint(folder.checkpoints / name)["model"] for folder in (found, expected))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)
    times = ("train_s", "data_wait_share")
    a, b = (
        [{k: v for k, v in r.items() if k not in times} for r in folder.read_metrics()]
        for folder in (found, expected)
    )
    assert a == b
    assert found.read_results()["test"] == expected.read_results()["test"]


def test_run_folder_holds_everything(finished, experiment):
    folder = finished.folder
    assert folder.experiment() == experiment
    assert folder.settings_toml.read_text(encoding="utf-8").startswith('name = "dots"')
    about = folder.read_about()
    assert about["versions"]["torch"] == torch.__version__.split("+")[0] or about["versions"]["torch"]
    assert about["class_names"] == ["cat", "dog", "frog"]
    metrics = folder.read_metrics()
    assert [record["epoch"] for record in metrics] == [1, 2, 3]
    assert set(metrics[0]["thresholds"]) == {"block1.neuron", "block2.neuron", "block3.neuron"}
    assert list(folder.tensorboard.iterdir())
    assert {path.name for path in folder.checkpoints.iterdir()} == {"last.pt", "best.pt"}
    results = folder.read_results()
    assert results["train_samples"] + results["validation_samples"] == 36
    assert results["test"]["samples"] == np.sum(results["test"]["confusion"]) == 12
    confusion = np.array(results["test"]["confusion"])
    assert results["test"]["accuracy"] == np.trace(confusion) / 12
    assert (
        results["best_epoch"]
        == max(metrics, key=lambda r: (r["validation_accuracy"], -r["validation_loss"]))["epoch"]
    )


def test_report_is_one_page_that_needs_nothing_else(finished):
    page = finished.folder.report.read_text(encoding="utf-8")
    accuracy = 100 * finished.results["test"]["accuracy"]
    assert f"{accuracy:.1f} %" in page
    sources = re.findall(r'(?:src|href)\s*=\s*"([^"]{0,30})', page)
    assert len(sources) == 5
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "<script" not in page
    assert "http" not in re.sub(r"base64,[^\"]*", "", page)
    # No placeholder was left unfilled.
    assert not re.search(r"\$[a-z_]+", re.sub(r"base64,[^\"]*", "", page))


def test_pictures_show_something(finished):
    for name in ("curves", "confusion", "neurons", "spikes", "samples"):
        picture = np.asarray(Image.open(finished.folder.pictures / f"{name}.png").convert("L"))
        assert picture.shape[1] > 400
        assert picture.std() > 5


def test_report_can_be_written_again(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished.folder.path, copy)
    (copy / "report.html").unlink()
    shutil.rmtree(copy / "pictures")
    assert build_report(RunFolder(copy)).stat().st_size > 50_000


def test_evaluate_gives_the_test_again_and_other_splits(finished, store_path):
    run = finished.folder.path
    again = evaluate_run(run, data=None, split="test")
    assert again["confusion"] == finished.results["test"]["confusion"]
    validation = evaluate_run(run, data=None, split="validation")
    assert validation["accuracy"] == finished.results["validation_accuracy"]
    on_data = evaluate_run(run, data=store_path, split="test")
    assert on_data["accuracy"] == again["accuracy"]
    with pytest.raises(RunError, match="no split 'tset'; expected one of train, validation, test"):
        evaluate_run(run, data=None, split="tset")


@pytest.mark.parametrize("batch", [1, 7, 12])
def test_interrupted_and_resumed_is_the_same_to_the_bit(finished, experiment, tmp_path, batch):
    display = Script(batch, lambda: signal.raise_signal(signal.SIGINT))
    outcome = run_classify(experiment, tmp_path / "parts", display=display)
    assert not outcome.completed
    assert outcome.results is None
    assert not outcome.folder.results.exists()
    assert display.seen == batch
    folder = outcome.folder
    resumed = run_classify(folder.experiment(), folder.path, resume=True, display=Silent())
    assert resumed.completed
    assert_same_run(folder, finished.folder)


def test_killed_and_resumed_is_the_same_to_the_bit(finished, experiment_file, store_path, tmp_path):
    run = tmp_path / "killed"
    command = [
        sys.executable, "-m", "pipelines", "run", "classify", str(experiment_file),
        "--data", str(store_path), "--out", str(run),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    metrics = run / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    folder = RunFolder(run)
    assert folder.read_metrics()
    run_classify(folder.experiment(), run, resume=True, display=Silent())
    assert_same_run(folder, finished.folder)


def test_resuming_a_finished_run_tests_nothing_again(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished.folder.path, copy)
    before = (copy / "results.json").stat().st_mtime_ns
    outcome = run_classify(RunFolder(copy).experiment(), copy, resume=True, display=Silent())
    assert outcome.results == finished.results
    assert (copy / "results.json").stat().st_mtime_ns == before


def test_another_seed_is_another_run(finished, experiment, tmp_path):
    other = run_classify(replace(experiment, seed=1), tmp_path / "other", display=Silent())
    a, b = final_weights(other.folder), final_weights(finished.folder)
    assert not torch.equal(a["block1.conv.weight"], b["block1.conv.weight"])


def test_broken_loss_stops_and_keeps_the_last_good_checkpoint(experiment, tmp_path):
    broken = replace(experiment, training=replace(experiment.training, learning_rate=1e38))
    with pytest.raises(TrainingError) as caught:
        run_classify(broken, tmp_path / "broken", display=Silent())
    # The first step throws the weights beyond what float32 holds, though its loss and gradient are fine.
    assert re.match(r"epoch 1, batch \d: block1\.\S+ is not finite after the step", str(caught.value))
    kept = load_checkpoint(tmp_path / "broken" / "checkpoints" / "last.pt")
    assert all(
        torch.isfinite(tensor).all() for tensor in kept["model"].values() if tensor.is_floating_point()
    )


def test_recordings_are_converted_once(experiment, tree, tmp_path):
    data = replace(
        experiment.data,
        source=str(tree),
        dataset="folder",
        split="random:0:0.5",
        folder=str(tmp_path / "data"),
        binning=replace(experiment.data.binning, frames=2, size_hw=(8, 8)),
    )
    display = Script(0, None)
    store = prepare_store(data, display)
    assert store.shape == (48, 2, 2, 8, 8)
    shard = next((store.path / "frames" / "c").rglob("*")) if (store.path / "frames" / "c").is_dir() else None
    again = prepare_store(data, display)
    assert again.path == store.path
    assert "(made before)" in display.lines[-1]
    assert shard is None or shard.exists()
    other = prepare_store(replace(data, binning=replace(data.binning, frames=3)), display)
    assert other.path != store.path


def test_half_written_store_is_refused(experiment, store_path, tmp_path):
    half = tmp_path / "half.zarr"
    shutil.copytree(store_path, half)
    metadata = json.loads((half / "zarr.json").read_text())
    metadata["attributes"]["event_store"]["complete"] = False
    (half / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(StoreError, match=r"half\.zarr: unfinished store"):
        run_classify(
            replace(experiment, data=replace(experiment.data, source=str(half))),
            tmp_path / "run",
            display=Silent(),
        )
    assert not (tmp_path / "run").exists()


def test_dropping_events_of_frames_that_hold_times(experiment, store_path, tmp_path):
    times = tmp_path / "times.zarr"
    shutil.copytree(store_path, times)
    metadata = json.loads((times / "zarr.json").read_text())
    metadata["attributes"]["event_store"]["binning"]["value"] = "last_time"
    (times / "zarr.json").write_text(json.dumps(metadata))
    asked = replace(experiment, data=replace(experiment.data, source=str(times)))
    with pytest.raises(
        ExperimentError, match=r"augment\.drop leaves out events, but a pixel of .*times\.zarr"
    ):
        run_classify(asked, tmp_path / "run", display=Silent())


def test_store_that_changed_since_the_run_began(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished.folder.path, copy)
    about = json.loads((copy / "about.json").read_text())
    (copy / "about.json").write_text(json.dumps(about | {"store_config_hash": "0" * 64}))
    with pytest.raises(RunError, match="its content changed since the run began"):
        run_classify(RunFolder(copy).experiment(), copy, resume=True, display=Silent())


def test_best_network_of_a_run_of_another_model(finished, experiment, store_path):
    other = replace(experiment, model=replace(experiment.model, name="vgg7"))
    with pytest.raises(
        ModelError,
        match=r"best\.pt: of another network: .*missing .*; set model\.name .* \(this network is built for",
    ):
        load_best(finished.folder, other, open_store(store_path))


def test_a_run_is_never_overwritten(finished, experiment):
    with pytest.raises(RunError, match="there is a run already; use --resume"):
        run_classify(experiment, finished.folder.path, display=Silent())


def test_folders_that_are_no_runs(tmp_path, experiment):
    folder = RunFolder(tmp_path)
    with pytest.raises(RunError, match=r"settings\.json: not found; no run here"):
        folder.experiment()
    with pytest.raises(RunError, match=r"settings\.json: not found; no run here"):
        build_report(folder)
    folder.create(experiment, {})
    expected = r"results\.json: not found; the run has not finished; go on with: pipelines run classify --"
    with pytest.raises(RunError, match=expected):
        build_report(folder)


def test_named_data_set_without_recordings(experiment):
    data = replace(experiment.data, dataset="nmnist", source=None)
    with pytest.raises(RunError, match=r"no recordings are given; add --data FOLDER"):
        prepare_store(data, Silent())


def test_store_with_other_classes_is_refused(finished, store_path, tmp_path):
    other = tmp_path / "other.zarr"
    shutil.copytree(store_path, other)
    metadata = json.loads((other / "zarr.json").read_text())
    metadata["attributes"]["event_store"]["class_names"] = ["cat", "dog", "toad"]
    (other / "zarr.json").write_text(json.dumps(metadata))
    assert open_store(other).class_names[-1] == "toad"
    with pytest.raises(RunError, match="classes cat, dog, toad; the network knows cat, dog, frog"):
        evaluate_run(finished.folder.path, data=other, split="test")

"""A whole detection run on a tiny set made here: folder, report, control, resume, and what stops it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from suites.tiny_detection import make_store, write_experiment

from events.errors import ConfigError, StoreError
from pipelines.detect import run_detect
from pipelines.detect_data import prepare_detection_store, split_windows
from pipelines.detect_folder import load_best_detector, read_detection
from pipelines.detect_settings import load_detection
from pipelines.display import Silent
from pipelines.errors import RunError
from pipelines.report.again import write_again
from pipelines.report.detection import energy_rows
from pipelines.report.energy import energy_table
from pipelines.run_folder import RunFolder
from snn.training.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def experiment_file(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("experiment"))


@pytest.fixture(scope="module")
def store(experiment_file, tmp_path_factory):
    return make_store(experiment_file, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def experiment(experiment_file, store):
    return load_detection(experiment_file, [f'data.source="{store.path}"'])


@pytest.fixture(scope="module")
def finished(experiment, tmp_path_factory):
    """A run that nobody disturbed."""
    outcome = run_detect(experiment, tmp_path_factory.mktemp("runs") / "whole", display=Silent())
    assert outcome.completed
    return outcome


class Script(Silent):
    """Interrupts at a given batch, counted over the whole run."""

    def __init__(self, batch):
        self.batch, self.seen = batch, 0

    def progress(self, activity, done, total, note=""):
        if activity.startswith("epoch"):
            self.seen += 1
            if self.seen == self.batch:
                signal.raise_signal(signal.SIGINT)


def assert_same_run(found, expected):
    """Weights, their mean, optimizer, metrics but for times, and test results are the same to the bit."""
    for name in ("last.pt", "best.pt"):
        a, b = (load_checkpoint(folder.checkpoints / name) for folder in (found, expected))
        assert_same_tensors(a["model"], b["model"])
        if name == "last.pt":
            assert_same_tensors(a["average"]["mean"], b["average"]["mean"])
            assert a["feed"] == b["feed"]
            for state_a, state_b in zip(
                a["optimizer"]["state"].values(), b["optimizer"]["state"].values(), strict=True
            ):
                assert_same_tensors(state_a, state_b)
            assert torch.equal(a["random"][0]["torch"], b["random"][0]["torch"])
    times = ("train_s", "data_wait_share")
    a, b = (
        [{k: v for k, v in r.items() if k not in times} for r in folder.read_metrics()]
        for folder in (found, expected)
    )
    assert a == b
    a, b = (
        {k: v for k, v in folder.read_results().items() if k != "train_s"} for folder in (found, expected)
    )
    assert a == b


def assert_same_tensors(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_run_folder_holds_everything(finished, experiment, store):
    folder = finished.folder
    assert read_detection(folder.path) == experiment
    metrics, results = folder.read_metrics(), folder.read_results()
    assert [record["epoch"] for record in metrics] == [1, 2, 3]
    assert {"train_loss", "train_classes", "train_boxes", "validation_map", "validation_ap50"} < set(
        metrics[0]
    )
    best = max(metrics, key=lambda r: (r["validation_map"], -r["validation_loss"]))
    assert results["best_epoch"] == best["epoch"]
    assert results["validation_map"] == best["validation_map"]
    windows = split_windows(store, experiment.data, seed=experiment.seed)
    assert results["test"]["windows"] == len(windows.test) == 8
    # Every recording has 8 labels, 50 ms apart, and is in a part of its own.
    assert (results["train_windows"], results["validation_windows"]) == (8, 8)
    assert len({int(r) for part in (windows.train, windows.test) for r in store.recording[part]}) == 2
    assert results["shuffled"]["protocol"] == "unfiltered"
    assert set(results["protocols"]) == {"psee", "rvt", "psee-script", "cordone", "voc50", "unfiltered"}
    assert results["protocols"]["unfiltered"]["map"] == results["test"]["scores"]["mean_ap"]
    known, scores = results["test"]["calibration"], results["test"]["scores"]
    assert sum(known["detections"]) == sum(of_class["detections"] for of_class in scores["classes"])
    assert 0 < known["error"] < 1
    # Recordings of 400 ms, labels 50 ms apart: those 50 ms from the ends remain.
    assert list(results["test"]["by_shift"]) == ["-50000", "-20000", "-10000", "0", "10000", "20000", "50000"]
    assert "calibration error" in finished.folder.report.read_text(encoding="utf-8")
    assert results["test"]["cost"]["layers"][0]["dense_macs"] > 0
    assert set(results["test"]["firing_rates"]) == set(results["test"]["thresholds"])


def test_best_detector_is_loaded_without_its_store(finished, experiment, store):
    detector, saved = load_best_detector(finished.folder)
    assert saved["epoch"] == finished.results["best_epoch"]
    found = load_checkpoint(finished.folder.checkpoints / "best.pt")["model"]
    assert_same_tensors(dict(detector.state_dict()), found)
    # What is kept is the mean of the weights, not the last ones.
    last = load_checkpoint(finished.folder.checkpoints / "last.pt")
    if saved["epoch"] == 3:
        assert_same_tensors(found, last["average"]["mean"])


def test_report_is_one_page_that_needs_nothing_else(finished):
    page = finished.folder.report.read_text(encoding="utf-8")
    plain = re.sub(r"base64,[^\"]*", "", page)
    sources = re.findall(r'(?:src|href)\s*=\s*"([^"]{0,16})', page)
    assert len(sources) >= 5
    assert all(source.startswith("data:image/") for source in sources)
    assert "<script" not in plain
    assert "http" not in plain
    assert not re.search(r"\$[a-z_]+", plain)
    for name in ("circle", "square", "triangle", "cordone", "backbone.stem"):
        assert name in plain
    before = page
    finished.folder.report.unlink()
    assert write_again(finished.folder) == finished.folder.report
    assert len(finished.folder.report.read_text(encoding="utf-8")) == pytest.approx(len(before), rel=0.05)


def test_pictures_show_something(finished):
    for name in ("curves", "precision", "confusion", "misses", "certainty"):
        picture = np.asarray(Image.open(finished.folder.pictures / f"{name}.png").convert("L"))
        assert picture.shape[1] > 250
        assert picture.std() > 5
    with Image.open(finished.folder.pictures / "clip.gif") as clip:
        assert clip.n_frames == 8


@pytest.mark.parametrize("batch", [1, 4])
def test_interrupted_and_resumed_is_the_same_to_the_bit(finished, experiment, tmp_path, batch):
    outcome = run_detect(experiment, tmp_path / "parts", display=Script(batch))
    assert not outcome.completed
    assert not outcome.folder.results.exists()
    resumed = run_detect(
        read_detection(outcome.folder.path), outcome.folder.path, resume=True, display=Silent()
    )
    assert resumed.completed
    assert_same_run(outcome.folder, finished.folder)


def test_in_bf16_too(experiment, finished, tmp_path):
    mixed = replace(experiment, training=replace(experiment.training, precision="bf16", epochs=2))
    whole = run_detect(mixed, tmp_path / "whole", display=Silent())
    outcome = run_detect(mixed, tmp_path / "parts", display=Script(4))
    assert not outcome.completed
    run_detect(read_detection(outcome.folder.path), outcome.folder.path, resume=True, display=Silent())
    assert_same_run(outcome.folder, whole.folder)
    weights, of_fp32 = (
        load_checkpoint(f.checkpoints / "last.pt")["model"] for f in (whole.folder, finished.folder)
    )
    assert all(weights[name].dtype == of_fp32[name].dtype for name in weights)
    # Half precision was at work, and changed little.
    losses = [f.read_metrics()[0]["train_loss"] for f in (whole.folder, finished.folder)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_killed_in_the_second_epoch_and_resumed_is_the_same_to_the_bit(
    finished, experiment_file, store, tmp_path
):
    run = tmp_path / "killed"
    command = [
        sys.executable, "-m", "pipelines", "run", "detect", str(experiment_file), "--data", str(store.path),
        "--out", str(run),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    metrics = run / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    folder = RunFolder(run)
    assert [record["epoch"] for record in folder.read_metrics()] == [1]
    assert run_detect(read_detection(run), run, resume=True, display=Silent()).completed
    assert_same_run(folder, finished.folder)


def test_data_is_made_once(experiment_file, store):
    said = []

    class Lines(Silent):
        def say(self, text):
            said.append(text)

    data = load_detection(experiment_file, [f'data.folder="{store.path.parent}"']).data
    assert prepare_detection_store(data, Lines()).path == store.path
    assert len(said) == 1
    assert "(made before)" in said[0]


def test_anchors_of_a_run_are_kept_and_a_class_they_miss_is_refused(experiment, tmp_path):
    from snn.errors import DetectionError

    ssd = replace(experiment.detector, head="ssd", strides=(4, 8))
    short = replace(experiment.training, epochs=1)
    loose = replace(experiment, detector=replace(ssd, least_coverage=0.0), training=short)
    outcome = run_detect(loose, tmp_path / "ssd", display=Silent())
    detector, _ = load_best_detector(outcome.folder)
    assert detector.anchors is not None
    about = outcome.folder.read_about()
    assert about["anchors"] == detector.anchors.as_lists()
    assert set(about["anchor_coverage"]) == {"circle", "square", "triangle"}
    strict = replace(experiment, detector=replace(ssd, strides=(32,), neck="none", least_coverage=1.0))
    with pytest.raises(DetectionError, match=r"anchors: found .* of the \d+ boxes of class"):
        run_detect(strict, tmp_path / "strict", display=Silent())
    assert not (tmp_path / "strict").exists()


def test_store_that_changed_since_the_run_began(finished, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(finished.folder.path, copy)
    about = json.loads((copy / "about.json").read_text())
    (copy / "about.json").write_text(json.dumps(about | {"store_config_hash": "0" * 64}))
    with pytest.raises(RunError, match="its content changed since the run began"):
        run_detect(read_detection(copy), copy, resume=True, display=Silent())


def test_no_second_run_in_a_folder_and_no_other_command_on_it(finished, experiment):
    with pytest.raises(RunError, match="there is a run already"):
        run_detect(experiment, finished.folder.path, display=Silent())
    with pytest.raises(RunError, match="a run of `pipelines run detect`; this command is for classifiers"):
        finished.folder.experiment()
    with pytest.raises(RunError, match=r"a detector, whose energy stands in report\.html"):
        energy_table(finished.folder)
    _, network, ann = energy_rows(finished.results)
    assert float(ann[4]) > float(network[4]) == 1.0
    assert ann[1] == "-"


def test_data_that_is_not_there_or_has_no_boxes(tmp_path):
    data = load_detection("gen1_vgg11").data
    with pytest.raises(RunError, match=r"data\.dataset is 'gen1', but no recordings are given; add --data"):
        prepare_detection_store(data, Silent())
    (tmp_path / "no.zarr").mkdir()
    (tmp_path / "no.zarr" / "zarr.json").write_text("{}")
    with pytest.raises(StoreError):
        prepare_detection_store(replace(data, source=str(tmp_path / "no.zarr")), Silent())


def test_augmentation_that_boxes_cannot_follow_is_refused(experiment, tmp_path):
    turned = replace(experiment, augment=replace(experiment.augment, rotate_deg=5.0))
    with pytest.raises(ConfigError, match="rotate_deg"):
        run_detect(turned, tmp_path / "turned", display=Silent())
    assert not (tmp_path / "turned").exists()

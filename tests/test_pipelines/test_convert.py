"""`pipelines run convert`: all stages from one command, resumed at each; what is refused before any work."""

import json
import shutil

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pipelines import classify
from pipelines.cli import app
from pipelines.convert import refuse_constant, run_convert
from pipelines.convert_settings import embedded_conversions, load_conversion
from pipelines.convert_stages import sha256
from pipelines.errors import ExperimentError, RunError
from snn.training.checkpoint import load_checkpoint, save_checkpoint

STAGES = ("ann", "quantised", "folded", "thresholds", "snn")
SMALL = (
    "data.digits.per_class=4",
    "data.workers=1",
    "data.binning.size_hw=[8, 8]",
    "search.samples=8",
    "ann.threads=1",
    "quantised.training.threads=1",
    "snn.threads=1",
)


def run(*arguments):
    return CliRunner().invoke(app, ["run", "convert", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder for the digits, and settings that put them there."""
    folder = tmp_path_factory.mktemp("digits")
    return [part for setting in (f"data.folder={folder}", *SMALL) for part in ("--set", setting)]


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    # Drawing takes longer than the rest.
    monkeypatch.setattr(classify, "build_report", lambda _folder: None)


@pytest.fixture(scope="module")
def finished(made, tmp_path_factory):
    """Return the folder of a whole conversion, and what the command printed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classify, "build_report", lambda _folder: None)
        result = run("--smoke", "--json", "--out", folder, *made)
    assert result.exit_code == 0, result.output
    return folder, json.loads(result.stdout)


def test_one_command_runs_every_stage_and_reports_it(finished):
    folder, said = finished
    results = json.loads((folder / "results.json").read_text())
    expected = {"ann", "quantised", "converted_as_it_is", "converted_rescaled", "snn"}
    assert set(results) == expected
    assert {name: said[name] for name in expected} == results
    for name in ("ann", "quantised", "snn"):
        assert 0 <= results[name]["accuracy"] <= 1
        assert results[name]["energy_uj"] > 0
    # All products of the ANN, at 4.6 pJ each.
    assert results["ann"]["dense_energy_uj"] == pytest.approx(4.6e-6 * results["ann"]["dense_macs"])
    page = (folder / "report.html").read_text()
    assert "converted, biases rescaled" in page
    assert "times less" in page


def test_energy_is_that_of_its_own_stages(finished, tmp_path):
    folder, _ = finished
    result = CliRunner().invoke(app, ["report", str(folder), "--energy", "--json"])
    assert result.exit_code == 0, result.output
    (table,) = json.loads(result.output)
    known = json.loads((folder / "results.json").read_text())
    of_stage = ["snn", "ann", "ann", "quantised"]
    assert [row["accuracy"] for row in table["rows"]] == [known[name]["accuracy"] for name in of_stage]
    network, ann, sparse_ann, quantised = table["rows"]
    assert network["energy_uj"] == pytest.approx(known["snn"]["energy_uj"])
    assert ann["energy_uj"] == ann["published_uj"] == pytest.approx(known["ann"]["dense_energy_uj"])
    assert sparse_ann["energy_uj"] == pytest.approx(known["ann"]["energy_uj"])
    assert quantised["operations"] == pytest.approx(known["quantised"]["operations"])
    # Its levels are powers of two times the range of a layer: shifted, not multiplied by.
    assert quantised["shifts"] > 0
    # Without the ANN of its own, the same products follow from its layers.
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    (again / "ann" / "results.json").unlink()
    (table,) = json.loads(CliRunner().invoke(app, ["report", str(again), "--energy", "--json"]).output)
    assert (table["rows"][1]["macs"], table["rows"][1]["accuracy"]) == (ann["macs"], None)
    (again / "report.html").unlink()
    assert CliRunner().invoke(app, ["report", str(again)]).exit_code == 0
    assert (again / "report.html").is_file()
    (again / "results.json").unlink()
    result = CliRunner().invoke(app, ["report", str(again), "--energy"])
    assert (result.exit_code, "pipelines run convert --resume" in result.output) == (1, True)
    result = CliRunner().invoke(app, ["report", str(again)])
    assert (result.exit_code, "pipelines run convert --resume" in result.output) == (1, True)


def test_every_stage_names_its_parent(finished):
    folder, _ = finished
    parents = {"ann": None, "quantised": "ann", "folded": "ann", "thresholds": "folded", "snn": "thresholds"}
    for name, parent in parents.items():
        saved = load_checkpoint(folder / "stages" / f"{name}.pt")
        assert saved["stage"] == name
        assert saved["parent"] == (parent and sha256(folder / "stages" / f"{parent}.pt"))
        assert saved["lanes"] == (3 if name in ("thresholds", "snn") else None)
    assert not any("norm" in key for key in load_checkpoint(folder / "stages" / "folded.pt")["model"])


@pytest.mark.parametrize("last", ["ann", "thresholds"])
def test_resumes_at_a_stage_with_the_same_result(finished, tmp_path, last):
    folder, _ = finished
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    later = STAGES[STAGES.index(last) + 1 :]
    for name in later:
        (again / "stages" / f"{name}.pt").unlink()
        shutil.rmtree(again / name, ignore_errors=True)
    (again / "results.json").unlink()
    result = run("--resume", again)
    assert result.exit_code == 0, result.output
    old, new = (json.loads((path / "results.json").read_text()) for path in (folder, again))
    assert {name: old[name]["accuracy"] for name in old} == {name: new[name]["accuracy"] for name in new}


def changed(path, **content):
    saved = load_checkpoint(path)
    del saved["format"]
    save_checkpoint(path, saved | content)


def test_another_parent_is_refused(finished, tmp_path):
    folder, _ = finished
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    changed(again / "stages" / "folded.pt", results={"edited": True})
    result = run("--resume", again)
    assert result.exit_code == 1
    assert "thresholds.pt: made from a checkpoint" in result.stderr
    assert "that is not" in result.stderr
    (again / "stages" / "snn.pt").unlink()
    (again / "stages" / "thresholds.pt").unlink()
    (again / "stages" / "folded.pt").unlink()
    changed(again / "stages" / "ann.pt", results={"edited": True})
    assert "quantised.pt: made from a checkpoint" in run("--resume", again).stderr


def test_begins_with_a_stage_of_another_run(finished, made, tmp_path):
    folder, _ = finished
    source = folder / "stages" / "folded.pt"
    result = run(
        "--smoke", "--from", source, "--out", tmp_path / "new", *made, "--set", "model.neuron.lanes=2"
    )
    assert result.exit_code == 0, result.output
    assert "note      no quantised ANN: the conversion began behind the ANN" in result.stderr
    saved = load_checkpoint(tmp_path / "new" / "stages" / "thresholds.pt")
    assert (saved["lanes"], saved["parent"]) == (2, sha256(source))
    # What is known of the ANN came with the stage.
    assert "ann" in json.loads((tmp_path / "new" / "results.json").read_text())


@pytest.mark.parametrize(
    ("stage", "setting", "message"),
    [
        ("thresholds", "model.neuron.lanes=4", "its thresholds are for 3 lanes"),
        ("snn", "seed=0", "found a checkpoint of stage 'snn', expected ann or folded or thresholds"),
        ("ann", "model.width=0.125", "of a network ['resnet20', 0.0625, 1, 8, 8, 10], expected"),
    ],
)
def test_a_stage_that_does_not_fit_is_refused_before_any_work(
    finished, made, tmp_path, stage, setting, message
):
    folder, _ = finished
    source = folder / "stages" / f"{stage}.pt"
    result = run("--smoke", "--from", source, "--out", tmp_path / "new", *made, "--set", setting)
    assert result.exit_code == 1
    assert message in result.stderr
    assert not (tmp_path / "new" / "stages" / "snn.pt").exists()
    assert "epoch" not in result.stderr


def test_no_stage_at_all_is_refused(finished, made, tmp_path):
    folder, _ = finished
    best = folder / "ann" / "checkpoints" / "best.pt"
    result = run("--smoke", "--from", best, "--out", tmp_path / "new", *made)
    assert "found no stage of a conversion, expected ann or folded or thresholds" in result.stderr


def test_fewer_samples_than_processes_are_refused_before_a_folder_is_made(made, tmp_path):
    result = run(
        "--smoke", "--out", tmp_path / "new", *made, "--set", "snn.devices=25", "--set", "snn.batch_size=25"
    )
    assert result.exit_code == 2
    assert "the last batch of 20 samples has 20, too few for 25 processes" in result.stderr
    assert not (tmp_path / "new").exists()


def test_processes_started_together_are_refused_before_any_work(made, tmp_path, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    conversion = load_conversion("digit_pictures_resnet20", made[1::2], smoke=True)
    with pytest.raises(ExperimentError, match="but 2 were started together; leave out torchrun"):
        run_convert(conversion, tmp_path / "new")
    assert not (tmp_path / "new").exists()


class Frames:
    """A store of frames that can all be alike."""

    path = "here.zarr"
    shape = (3, 1, 1, 2, 2)
    dtype = np.dtype(np.uint8)

    def __init__(self, odd):
        self.frames = np.full(self.shape, 7, np.uint8)
        self.frames[2, 0, 0, 1, 1] = odd

    def read_into(self, indices, out):
        out[:] = self.frames[indices]


def test_constant_and_empty_calibration_sets_are_refused():
    refuse_constant(Frames(8), np.arange(3))
    with pytest.raises(RunError, match="calibration set: found 3 samples whose every pixel is 7, expected"):
        refuse_constant(Frames(7), np.arange(3))
    with pytest.raises(RunError, match="calibration set: found no samples, expected samples that differ"):
        refuse_constant(Frames(7), np.arange(0))
    with pytest.raises(ExperimentError, match="found 0, an empty calibration set, expected 1 or more"):
        load_conversion("digit_pictures_resnet20", ["search.samples=0"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.name=vgg9", "model.name: found 'vgg9', expected one of resnet20, vgg16, vgg16_imagenet"),
        ("model.activation=relu", "model: describes the network as it ends"),
        ("model.steps=none", "model.steps: found none, expected the steps T of the SNN"),
        ("model.weights.bits=4", "model: found weights in few bits or gates, which are not converted"),
        ("snn.nodes=2", "snn.nodes: found 2, but a conversion runs on one machine"),
        ("quantised.training.start_from=runs/x", "quantised.training.start_from: stages begin with each"),
        ("search.thresholds.scaling=0", "scaling: found 0.0, expected a number above 0"),
    ],
)
def test_settings_that_cannot_be_converted_are_refused(setting, message):
    with pytest.raises(ExperimentError, match=message):
        load_conversion("digit_pictures_resnet20", [setting])


def test_a_try_keeps_what_is_converted():
    for name in embedded_conversions():
        whole, smoke = load_conversion(name), load_conversion(name, smoke=True)
        assert (smoke.model.name, smoke.model.neuron) == (whole.model.name, whole.model.neuron)
        assert smoke.search.thresholds == whole.search.thresholds
        for before, after in (
            (whole.ann, smoke.ann),
            (whole.quantised.training, smoke.quantised.training),
            (whole.snn, smoke.snn),
        ):
            assert (after.epochs, after.optimizer, after.learning_rate) == (
                1,
                before.optimizer,
                before.learning_rate,
            )
        assert len(whole.description) <= 110
        with torch.device("meta"):
            assert whole.stage("ann").model.activation == "relu"


def test_experiments_are_listed_with_their_command():
    listed = json.loads(CliRunner().invoke(app, ["experiments", "--json"]).stdout)
    names = {entry["name"] for entry in listed if entry["run"] == "convert"}
    assert names == set(embedded_conversions())

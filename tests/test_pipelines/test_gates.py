"""Runs with gates, from the command line to the report."""

import json

import pytest
from typer.testing import CliRunner

from pipelines.cli import app

SETTINGS = ("--set", "training.epochs=2", "--set", "model.executor=reference")
GATES = ("--set", "model.sparsity.kind=channel_predictor", "--set", "model.sparsity.ratio=0.5")


def classify(*arguments):
    return CliRunner().invoke(app, ["run", "classify", *map(str, arguments), *SETTINGS])


@pytest.fixture(scope="module")
def gated(experiment_file, store_path, tmp_path_factory):
    """Return the folder of a finished run with a channel predictor."""
    folder = tmp_path_factory.mktemp("runs") / "gated"
    warm_up = ("--set", "model.sparsity.warm_up_batches=2")
    result = classify(experiment_file, "--data", store_path, *GATES, *warm_up, "--out", folder)
    assert result.exit_code == 0, result.output
    assert "gates     channel_predictor, top_mass, ratio=0.5 on 2 blocks\n" in result.stderr
    return folder


def test_results_tell_what_is_kept_and_what_other_masks_give(gated):
    gates = json.loads((gated / "results.json").read_text())["gates"]
    assert gates["kind"] == "channel_predictor"
    assert list(gates["kept_shares"]) == ["block2", "block3"]
    assert [len(shares) for shares in gates["kept_shares"].values()] == [3, 3]
    assert set(gates["accuracy"]) == {"own", "shuffled", "swapped"}
    for name in ("changes_between_samples", "changes_between_steps"):
        assert all(0 <= share <= 1 for share in gates[name].values())
    epochs = [json.loads(line) for line in (gated / "metrics.jsonl").read_text().splitlines()]
    assert all(epoch["gate_loss"] > 0 for epoch in epochs)
    assert set(epochs[-1]["kept_shares"]) == set(epochs[-1]["mask_changes"]) == {"block2", "block3"}


def test_the_report_shows_them(gated):
    report = (gated / "report.html").read_text()
    assert "<h2>Gates: channel_predictor</h2>" in report
    assert "<th>masks of other samples</th>" in report
    assert (gated / "pictures" / "gates.png").exists()


def test_a_warm_up_without_end_is_one_line(experiment_file, store_path, tmp_path):
    warm_up = ("--set", "model.sparsity.warm_up_batches=100")
    result = classify(experiment_file, "--data", store_path, *GATES, *warm_up, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "sparsity.warm_up_batches: found 100, expected fewer than the" in result.stderr


def test_settings_that_make_no_sense_are_one_line(experiment_file, store_path, tmp_path):
    options = ("--set", "model.sparsity.ratio=1.5", "--set", "model.sparsity.kind=spatial")
    result = classify(experiment_file, "--data", store_path, *options, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "sparsity.ratio: found 1.5, expected a number between 0 and 1" in result.stderr

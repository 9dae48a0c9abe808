"""What a run costs, from its results to the page and the command line."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from snn.cost.report import Cost
from snn.cost.text import cost_lines, total_lines


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def finished(experiment_file, store_path, tmp_path_factory):
    """Return a finished run with 2-bit weights and a ternary membrane."""
    folder = tmp_path_factory.mktemp("runs") / "cost"
    settings = ("--set", "training.epochs=1", "--set", "model.executor=reference", "--set", "model.pool=max")
    options = ("--data", store_path, "--weights", 2, "--membrane", "ternary", "--out", folder)
    result = run("run", "classify", experiment_file, *options, *settings)
    assert result.exit_code == 0, result.output
    return folder


def test_results_and_report_hold_the_cost(finished):
    found = json.loads((finished / "results.json").read_text())["test"]["cost"]
    cost = Cost.from_dict(found)
    assert cost.as_dict() == found
    assert (cost.samples, cost.steps) == (12, 3)
    # vgg5 at width 0.25, frames of 16x16: 4, 8 and 16 channels.
    assert found["totals"]["neurons"] == 4 * 256 + 8 * 64 + 16 * 16
    assert found["totals"]["membrane_bytes"] == found["totals"]["neurons"] / 4
    assert [layer["bits"] for layer in found["layers"]] == [32, 2, 2, 2, 32]
    assert found["layers"][1]["values"] == "binary"
    page = (finished / "report.html").read_text()
    assert "<h2>What it costs</h2>" in page
    for line in total_lines(cost):
        assert line.split(" ", 1)[1].strip() in page


def test_evaluate_prints_the_cost(finished):
    result = run("evaluate", finished, "--cost")
    assert result.exit_code == 0, result.output
    cost = Cost.from_dict(json.loads((finished / "results.json").read_text())["test"]["cost"])
    assert "\n".join(cost_lines(cost)) in result.output
    other = json.loads(run("evaluate", finished, "--energy", "7nm", "--json").output)["cost"]
    assert other["energy"]["table"] == "7nm"
    assert other["totals"]["effective"] == cost.totals()["effective"]
    assert other["totals"]["energy_pj"] < cost.totals()["energy_pj"]


def test_energy_beside_anns_of_the_same_layers(finished):
    result = run("report", finished, "--energy", "--json")
    assert result.exit_code == 0, result.output
    (table,) = json.loads(result.output)
    test = json.loads((finished / "results.json").read_text())["test"]
    totals = test["cost"]["totals"]
    network, ann, quantised = table["rows"]
    assert network["accuracy"] == test["accuracy"]
    assert network["operations"] == pytest.approx(totals["effective"])
    assert network["energy_uj"] == pytest.approx(1e-6 * totals["energy_pj"])
    # A recording: the ANN sees each of its three frames.
    assert (ann["accuracy"], ann["macs"]) == (None, totals["dense_macs"])
    assert ann["energy_uj"] == ann["published_uj"] == pytest.approx(4.6e-6 * totals["dense_macs"])
    assert quantised["accumulations"] + quantised["macs"] == totals["dense_macs"]
    text = run("report", finished, finished, "--energy").output
    assert text.count("ANN, every product") == 2
    assert max(map(len, text.splitlines())) < 160
    page = (finished / "report.html").read_text()
    assert "Beside ANNs of the same layers" in page


def test_the_energy_of_a_shift_needs_a_table_of_energy(finished):
    result = run("report", finished, "--shift-pj", 0)
    assert result.exit_code == 2
    assert "--shift-pj is for --energy; add that" in result.output
    result = run("report", finished, "--energy", "--shift-pj", -1)
    assert (result.exit_code, "energy.shift_pj: found -1" in result.output) == (1, True)


def test_an_unknown_energy_table_is_said(finished):
    result = run("evaluate", finished, "--cost", "--energy", "5nm")
    assert result.exit_code == 1
    assert "energy.table: found '5nm', expected one of 45nm, 7nm" in result.output


def test_a_run_from_before_costs_were_counted_has_a_report(finished, tmp_path):
    earlier = shutil.copytree(finished, tmp_path / "earlier")
    results = json.loads((earlier / "results.json").read_text())
    del results["test"]["cost"]
    (earlier / "results.json").write_text(json.dumps(results))
    result = run("report", earlier)
    assert result.exit_code == 0, result.output
    assert "What it costs" not in (earlier / "report.html").read_text()
    result = run("report", earlier, "--energy")
    assert (result.exit_code, "no cost, it is of an earlier version" in result.output) == (1, True)

"""Runs with weights and membranes of few bits, from the command line to the report."""

import json

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.weight_words import name_weights
from snn.quant.apply import LayerWeights

SETTINGS = ("--set", "training.epochs=1", "--set", "model.executor=reference")


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def classify(*arguments):
    return run("run", "classify", *arguments, *SETTINGS)


@pytest.fixture(scope="module")
def few_bits(experiment_file, store_path, tmp_path_factory):
    """Return a finished run with 2-bit weights and a ternary membrane, and what it said."""
    folder = tmp_path_factory.mktemp("runs") / "few"
    options = ("--data", store_path, "--weights", 2, "--membrane", "ternary", "--out", folder)
    result = classify(experiment_file, *options)
    assert result.exit_code == 0, result.output
    return folder, result


@pytest.fixture(scope="module")
def in_float(experiment_file, store_path, tmp_path_factory):
    """Return a finished run of the same network in float."""
    folder = tmp_path_factory.mktemp("runs") / "float"
    result = classify(experiment_file, "--data", store_path, "--membrane", "none", "--out", folder)
    assert result.exit_code == 0, result.output
    return folder


def test_a_run_says_what_has_few_bits_and_what_stays_in_float(few_bits):
    folder, result = few_bits
    layers = (
        "2 bits (sawb, 3 levels) block2.conv, block3.conv, hidden; float block1.conv (first), "
        "classifier (last)"
    )
    assert f"weights   {layers}\n" in result.stderr
    assert "neurons   lt, membrane=ternary: reference" in result.stderr
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["model"]["weights"]["bits"] == 2
    assert settings["model"]["neuron"]["membrane"]["levels"] == [-1, 0, 1]
    results = json.loads((folder / "results.json").read_text())
    assert results["weights"] == layers
    assert [layer["bits"] for layer in results["weight_layers"]] == [32, 2, 2, 2, 32]
    report = (folder / "report.html").read_text()
    assert f"<th>weights</th><td>{layers}</td>" in report
    assert "lt, membrane=ternary; computed by reference" in report


def test_evaluation_gives_what_the_test_gave(few_bits):
    folder, _ = few_bits
    tested = json.loads((folder / "results.json").read_text())["test"]
    evaluated = json.loads(run("evaluate", folder, "--json").stdout)
    assert (evaluated["accuracy"], evaluated["loss"]) == (tested["accuracy"], tested["loss"])


def test_a_float_run_goes_on_in_few_bits(in_float, experiment_file, store_path, tmp_path):
    settings = json.loads((in_float / "settings.json").read_text())
    assert settings["model"]["neuron"]["membrane"]["levels"] == []
    rate = ("--set", "training.learning_rate=1e-12", "--set", "training.warmup_epochs=0")
    options = ("--data", store_path, "--from", in_float, "--weights", 8, "--out", tmp_path / "fine")
    result = classify(experiment_file, *options, *rate)
    assert result.exit_code == 0, result.output
    assert f"from      {in_float}/checkpoints/best.pt" in result.stderr
    # Hardly a step was taken, and 8 bits are nearly float.
    losses = [
        json.loads((folder / "results.json").read_text())["test"]["loss"]
        for folder in (in_float, tmp_path / "fine")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.2)


def test_a_run_that_goes_on_must_fit(few_bits, experiment_file, store_path, tmp_path):
    few, _ = few_bits
    result = classify(experiment_file, "--data", store_path, "--from", few, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "its weights are few bits where this network has float" in result.stderr
    result = classify(experiment_file, "--data", store_path, "--from", tmp_path, "--out", tmp_path / "run2")
    assert result.exit_code == 1
    assert f"{tmp_path}/checkpoints/best.pt: no checkpoint to begin with" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--weights", 5), "[model.weights] weights.bits: found 5, expected one of 2, 3, 4, 8, 32"),
        (("--membrane", "ternari"), "--membrane: found 'ternari', expected one of float, ternary, "),
        (
            ("--weights", 4, "--set", "model.weights.rule=ternary"),
            "weights.bits: found 4 with rule 'ternary', expected 2",
        ),
        (("--set", "model.weights.first=8"), "unknown setting 'model.weights.first'"),
        (("--set", "model.neuron.membrane.bits=1", "--membrane", "five"), "found 1 for 5 levels, expected 3"),
    ],
)
def test_what_makes_no_sense_is_one_line(options, message, experiment_file, store_path, tmp_path):
    result = classify(experiment_file, "--data", store_path, *options, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("error: ") == 1
    assert not (tmp_path / "run").exists()


def test_many_layers_are_counted():
    def layer(name, role, bits):
        few = bits != 32
        return LayerWeights(name, role, (1,), bits, "sawb" if few else "float", 3 * few, None)

    layers = [layer("a", "first", 32), *(layer(f"b{n}", "inner", 2) for n in range(9))]
    layers += [layer("c", "shortcut", 8), layer("d", "last", 32)]
    assert name_weights(layers) == (
        "2 bits (sawb, 3 levels) 9 inner layers; 8 bits (sawb, 3 levels) c (shortcut); "
        "float a (first), d (last)"
    )
    assert name_weights(layers[:1]) == "float"

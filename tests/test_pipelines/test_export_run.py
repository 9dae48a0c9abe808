"""`pipelines export`: from a run to a file in whole numbers, compared on every test sample."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from events.store.reader import open_store
from pipelines.cli import app
from snn.export.network import read_network
from snn.export.runner import run_network


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(experiment_file, store_path, tmp_path_factory):
    """Return a finished run with 2-bit weights, first and last layer in 8 bits, and a ternary membrane."""
    folder = tmp_path_factory.mktemp("runs") / "few"
    bits = ("--weights", 2, "--set", "model.weights.first_bits=8", "--set", "model.weights.last_bits=8")
    options = ("--data", store_path, *bits, "--membrane", "ternary", "--executor", "reference")
    result = run("run", "classify", experiment_file, *options, "--set", "training.epochs=1", "--out", folder)
    assert result.exit_code == 0, result.output
    return folder


def test_every_test_sample_gives_the_same_spikes(folder, store_path):
    result = run("export", folder, "--check")
    assert result.exit_code == 0, result.output
    assert f"written   {folder}/network.npz (" in result.output
    assert "compared  12 test samples with the network in torch" in result.output
    assert "every spike is the same; 0 of 12 samples are classified otherwise" in result.output
    evaluated = json.loads(run("evaluate", folder, "--json").stdout)
    accuracy = f"{100 * evaluated['accuracy']:.2f} %"
    assert f"accuracy  {accuracy} in whole numbers, {accuracy} in torch" in result.output


def test_the_file_alone_classifies_as_the_run_did(folder, store_path, tmp_path):
    result = run("export", folder, tmp_path / "chip.npz", "--json")
    assert result.exit_code == 0, result.output
    network = read_network(tmp_path / "chip.npz")
    store = open_store(store_path)
    indices = store.indices("test")
    frames = np.empty((len(indices), *store.shape[1:]), store.dtype)
    store.read_into(indices, frames)
    decided = run_network(network, frames.swapaxes(0, 1)).sum(axis=0).argmax(axis=1)
    evaluated = json.loads(run("evaluate", folder, "--json").stdout)
    confusion = np.zeros((3, 3), int)
    np.add.at(confusion, (store.label[indices], decided), 1)
    assert confusion.tolist() == evaluated["confusion"]
    assert network.about["class_names"] == list(store.class_names)


def test_powers_of_two_and_the_released_numbers(folder, tmp_path):
    released = ("--fraction-bits", 13, "--rounding", "zero", "--power-of-two")
    result = run("export", folder, tmp_path / "two.npz", *released, "--samples", 5, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["check"]["samples"], said["check"]["spikes_that_differ"]) == (5, 0)
    assert said["check"]["decisions_that_differ"] == 0
    scales = [layer for layer in said["layers"] if layer["kind"] in ("conv", "linear")]
    assert [layer["numbers"]["exact"] for layer in scales] == [True] * 5


def test_what_cannot_be_exported_is_one_line(folder, experiment_file, store_path, tmp_path):
    result = run("export", folder, tmp_path / "network.nir")
    assert result.exit_code == 1
    assert "error: layer 'block1.neuron': NIR's LIF cannot say a membrane of 3 levels" in result.stderr
    result = run("export", folder, tmp_path / "x.npz", "--bits", 40)
    assert "error: bits: found 40, expected a whole number from 2 to 32" in result.stderr
    result = run("export", folder, tmp_path / "x.nir", "--check")
    assert "NIR keeps numbers in float" in result.stderr
    result = run("export", tmp_path)
    assert "no run here" in result.stderr
    result = run("export", folder, tmp_path / "x.npz", "--samples", 0)
    assert "--samples: found 0, expected at least 1" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_run_in_float_says_what_to_do(experiment_file, store_path, tmp_path):
    options = ("--data", store_path, "--executor", "reference", "--set", "training.epochs=1")
    result = run("run", "classify", experiment_file, *options, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    result = run("export", tmp_path / "run")
    assert result.exit_code == 1
    assert "found weights in float, expected 2, 3, 4 or 8 bits" in result.stderr
    result = run("export", tmp_path / "run", "--float-bits", 8, "--check")
    assert result.exit_code == 0, result.output
    assert (
        "few bits  only now, not trained so: block1.conv, block2.conv, block3.conv, hidden," in result.output
    )
    result = run("export", tmp_path / "run", tmp_path / "network.nir")
    assert result.exit_code == 0, result.output
    assert "NIR       " in result.output

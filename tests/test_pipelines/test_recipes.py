"""Published recipes: each loads and builds, as it is and as a try, and runs as a try to its report."""

import json
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from events.datasets.catalogue import CATALOGUE
from events.datasets.registry import DATASETS
from pipelines import classify
from pipelines.cli import app
from pipelines.errors import ExperimentError
from pipelines.experiment import embedded_experiments, load_experiment
from pipelines.smoke import MADE_HERE, PICTURES_MADE_HERE, has_pictures
from snn.losses import mean_threshold
from snn.models.registry import build_model
from snn.neurons.modules import Neuron
from snn.neurons.settings import NEURONS

# Planes, size and classes of data sets that are taken as they are.
OWN_FRAMES = {"nmnist": (2, 34, 34), "mnist": (1, 28, 28), "cifar10": (3, 32, 32), "cifar100": (3, 32, 32)}
RECIPES = sorted(embedded_experiments())
# What one of each family says about its neurons.
FAMILIES = {
    "caltech101_vgg9": "lt, threshold_gradient=subtract+explicit",
    "cifar10_resnet19_spquant": "quantlif",
    "dvs_cifar10_spquant_vgg9_sparse": "quantlif",
    "ncars_mobilenet_4bit": "lt, threshold_gradient=subtract+explicit",
    "cifar10_spikformer": "lif",
    "dvs_cifar10_mlif_s3_t10": "mlif",
}
# Smaller still: a test of the machinery, not of a minute.
SMALL = ("data.digits.per_class=4", "data.digits.duration_us=40000", "data.workers=1", "training.threads=1")


def frames_of(experiment):
    """Return planes, height and width of an experiment's frames."""
    dataset, size_hw = experiment.data.dataset, experiment.data.binning.size_hw
    own = OWN_FRAMES.get(dataset, (3 if has_pictures(dataset) else 2, 0, 0))
    planes = 1 if dataset == PICTURES_MADE_HERE else own[0]
    return planes, *(size_hw or own[1:])


@pytest.mark.parametrize("smoke", [False, True])
@pytest.mark.parametrize("name", RECIPES)
def test_recipes_load_and_build(name, smoke):
    experiment = load_experiment(name, smoke=smoke)
    dataset = experiment.data.dataset
    assert dataset in {*DATASETS, MADE_HERE, PICTURES_MADE_HERE}
    assert dataset in {*CATALOGUE, MADE_HERE, PICTURES_MADE_HERE}
    planes, height, width = frames_of(experiment)
    with torch.device("meta"):
        build_model(experiment.model, in_channels=planes, input_hw=(height, width), classes=10)
    # Pictures have one frame and are given at every step, recordings have frames of their own.
    assert (experiment.data.binning.frames == 1) == has_pictures(dataset)
    assert (experiment.model.steps is not None) == has_pictures(dataset)
    assert len(experiment.description) <= 110


@pytest.mark.parametrize("name", RECIPES)
def test_a_try_keeps_what_is_trained(name):
    whole, smoke = load_experiment(name), load_experiment(name, smoke=True)
    assert smoke.data.dataset in (MADE_HERE, PICTURES_MADE_HERE)
    assert (smoke.training.epochs, smoke.training.device) == (1, "cpu")
    assert smoke.model.name == whole.model.name
    assert smoke.model.neuron == whole.model.neuron
    assert smoke.model.weights == whole.model.weights
    assert smoke.model.sparsity.kind == whole.model.sparsity.kind
    for setting in ("optimizer", "schedule", "loss_weight", "loss_target", "learning_rate"):
        assert getattr(smoke.training, setting) == getattr(whole.training, setting)


def test_published_numbers_of_the_recipes():
    """Optimizer, rate, schedule, epochs, batch, lambda and steps are those of the released scripts."""
    table = {
        "ncars_vgg7": ("adam", 1e-3, "step", 200, 16, 0.45, 16),
        "ncars_mobilenet_4bit": ("adam", 5e-4, "cosine", 200, 32, 0.1, 16),
        "ncars_mobilenet_lp": ("adam", 1e-3, "cosine", 200, 24, 0.9, 30),
        "dvs_cifar10_resnet19": ("adam", 1e-3, "cosine", 200, 24, 0.05, 10),
        "dvs_cifar10_spquant_vgg9": ("adam", 1e-3, "cosine", 200, 24, 0.9, 10),
        "n_caltech101_spquant_vgg9": ("adam", 1e-3, "cosine", 200, 16, 0.9, 10),
        "dvs_cifar10_spquant_mobilenet": ("adam", 1e-3, "cosine", 200, 32, 0.45, 16),
        "cifar10_resnet19": ("adam", 1e-3, "step", 200, 128, 0.05, 6),
        "cifar10_resnet19_spquant": ("adam", 1e-2, "cosine", 300, 128, 0.05, 2),
        "imagenet100_resnet34": ("sgd", 0.05, "cosine", 100, 64, 0.05, 2),
    }
    for lanes, pieces, frames in ((4, 80, 10), (4, 40, 5), (4, 20, 3), (3, 40, 10), (3, 20, 5), (3, 10, 3)):
        name = f"dvs_cifar10_mlif_s{lanes}_t{pieces}"
        table[name] = ("adam", 1e-3, "cosine", 300, 128, 1e-3, frames)
        binning, neuron = load_experiment(name).data.binning, load_experiment(name).model.neuron
        assert (binning.levels, binning.sub_frames, binning.binary_frames) == (lanes, pieces, 80)
        assert neuron == replace(NEURONS["mlif"], lanes=lanes)
    for name in ("cifar10_spike_driven", "cifar100_spike_driven"):
        table[name] = ("adamw", 3e-4, "cosine", 300, 64, 0.0, 4)
        node = replace(NEURONS["mlif"], charge="decay_input", scaled=True, surrogate="sigmoid")
        assert load_experiment(name).model.neuron == node
    table["imagenet_spike_driven"] = ("lamb", 1.5e-3, "cosine", 300, 192, 0.0, 1)
    fast = replace(node, fire_rule=">=", surrogate_width="threshold")
    assert load_experiment("imagenet_spike_driven").model.neuron == fast
    for name, expected in table.items():
        experiment = load_experiment(name)
        t = experiment.training
        steps = experiment.model.steps or experiment.data.binning.frames
        found = (t.optimizer, t.learning_rate, t.schedule, t.epochs, t.batch_size, t.loss_weight, steps)
        assert found == expected, name
    assert load_experiment("ncars_vgg7").training.step_factor == 0.7
    assert load_experiment("cifar10_resnet19").training.step_factor == 0.8
    imagenet = load_experiment("imagenet100_resnet34").training
    assert (imagenet.momentum, imagenet.weight_decay) == (0.9, 4e-5)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder that keeps the digits from one run to the next."""
    return tmp_path_factory.mktemp("made")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_runs_as_a_try(name, made, monkeypatch):
    folder = made / name
    if name not in FAMILIES:
        # Drawing takes longer than the rest, and is tried for each family.
        monkeypatch.setattr(classify, "build_report", lambda _folder: None)
    settings = [part for setting in (f"data.folder={made}", *SMALL) for part in ("--set", setting)]
    result = run("run", "classify", name, "--smoke", "--out", folder, *settings)
    assert result.exit_code == 0, result.output
    if name in FAMILIES:
        assert f"neurons   {FAMILIES[name]}: reference" in result.stderr
        assert (folder / "report.html").stat().st_size > 10_000
    assert json.loads((folder / "results.json").read_text())["test"]["samples"] > 0
    (record,) = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert record["learning_rate"] >= 0
    experiment = load_experiment(name)
    if experiment.training.loss_target == "mean_threshold":
        # The first block's threshold is fixed; the target is the mean of the others.
        learned = [value for layer, value in record["thresholds"].items() if layer not in first_layers(name)]
        assert record["loss_target"] == pytest.approx(sum(learned) / len(learned), abs=1e-6)
        assert record["loss_target"] != 1.0
    else:
        assert record["loss_target"] == 1.0


def first_layers(name):
    """Return the layers of neurons of a recipe's network whose threshold is fixed."""
    experiment = load_experiment(name, smoke=True)
    planes, *size_hw = frames_of(experiment)
    with torch.device("meta"):
        network = build_model(experiment.model, in_channels=planes, input_hw=tuple(size_hw), classes=10)
    neurons = {label: layer for label, layer in network.named_modules() if isinstance(layer, Neuron)}
    return {label for label, layer in neurons.items() if not layer.settings.learn_threshold}


@pytest.mark.parametrize("constraint", ["none", "positive", "sigmoid"])
def test_constraints_of_thresholds_from_the_command_line(constraint):
    experiment = load_experiment(
        "dvs_cifar10_vgg9",
        [f"model.neuron.threshold_constraint={constraint}", "model.neuron.threshold=0.8"],
        smoke=True,
    )
    network = build_model(experiment.model, input_hw=(32, 32), classes=10)
    assert mean_threshold(network) == pytest.approx(0.8, abs=1e-6)
    with torch.no_grad():
        for label, parameter in network.named_parameters():
            if "threshold" in label:
                parameter.fill_(-50.0)
    lowest = mean_threshold(network)
    assert lowest == pytest.approx(-50.0) if constraint == "none" else 0 <= lowest < 1e-6


def test_one_flag_makes_thresholds_constant():
    for assignments in (["model.neuron.learn_threshold=false"], ['model.neuron.preset="lif"']):
        experiment = load_experiment("dvs_cifar10_vgg9", assignments, smoke=True)
        assert mean_threshold(build_model(experiment.model, input_hw=(32, 32), classes=10)) is None
        assert experiment.training.loss_target == "mean_threshold"


def test_a_try_makes_its_own_data(tmp_path):
    result = run("run", "classify", "cifar10_resnet19", "--smoke", "--data", tmp_path)
    assert result.exit_code == 2
    assert "--smoke makes its own data; leave out --data" in result.stderr
    result = run("run", "classify", "--resume", tmp_path, "--smoke")
    assert "--resume goes on with the run's own settings" in result.stderr


def test_steps_are_for_pictures_alone(store_path, tmp_path):
    result = run("run", "classify", "mnist_vgg5", "--data", store_path, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "model.steps is 4, which gives one picture at every step" in result.stderr


def test_a_recipe_without_its_data_says_what_to_do():
    result = run("run", "classify", "cifar10_resnet19")
    assert result.exit_code == 1
    assert "--data FOLDER" in result.stderr
    assert "--smoke tries it without" in result.stderr


def test_unknown_recipes_are_refused_in_a_try_too():
    with pytest.raises(ExperimentError, match="neither a file nor an embedded experiment"):
        load_experiment("cifar10_vgg99", smoke=True)

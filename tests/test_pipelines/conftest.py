"""A tiny store and an experiment that trains on it in a second."""

from pathlib import Path

import pytest
from suites.store_tree import write_tree

from events.binning.settings import BinSettings
from events.convert import ConvertSettings, convert
from events.datasets.registry import list_samples
from pipelines.experiment import Experiment, load_experiment

PER_CLASS = 16

EXPERIMENT = """
description = "three classes of wandering dots"

[augment]
flip = 0.5
roll_px = 1
drop = 0.2

[model]
name = "vgg5"
width = 0.25

[training]
epochs = 3
batch_size = 6
learning_rate = 1e-2
device = "cpu"
threads = 1
checkpoint_every_s = 0.0
"""


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    """Recordings of three classes in class folders."""
    return write_tree(tmp_path_factory.mktemp("recordings") / "dots", per_class=PER_CLASS)


@pytest.fixture(scope="session")
def store_path(tree, tmp_path_factory) -> Path:
    """A store of these recordings: 36 for training, 12 for testing, frames of 16 x 16."""
    path = tmp_path_factory.mktemp("store") / "dots.zarr"
    settings = ConvertSettings(binning=BinSettings(frames=3, size_hw=(16, 16)), shard_samples=16)
    convert(list_samples("folder", tree, split="random:0:0.75"), path, settings)
    return path


@pytest.fixture(scope="session")
def experiment_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("experiment") / "dots.toml"
    path.write_text(EXPERIMENT, encoding="utf-8")
    return path


@pytest.fixture
def experiment(experiment_file, store_path) -> Experiment:
    return load_experiment(experiment_file, [f"data.source={store_path}"])

"""Settings: from TOML and --set to dataclasses and back, and what is said where they cannot be used."""

import tomllib
from dataclasses import dataclass, field
from typing import Literal

import pytest

from pipelines.errors import ExperimentError
from pipelines.experiment import Experiment, embedded_experiments, find_experiment, load_experiment
from pipelines.settings_tree import as_table, assign, build_settings, parse_assignment, to_toml


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    kind: Literal["soft", "hard"] = "soft"
    size_hw: tuple[int, int] | None = None
    target: float | Literal["mean"] = 1.0


@dataclass(frozen=True)
class Outer:
    name: str = "x"
    steps: int = 3
    quick: bool = False
    inner: Inner = field(default_factory=Inner)


def build(**table):
    return build_settings(Outer, table, where="here.toml")


def test_values_take_the_type_of_their_field():
    outer = build(steps=4, quick=True, inner={"rate": 2, "size_hw": [4, 5], "target": "mean"})
    assert outer == Outer(steps=4, quick=True, inner=Inner(rate=2.0, size_hw=(4, 5), target="mean"))
    assert type(outer.inner.rate) is float
    assert build(inner={"size_hw": "none"}).inner.size_hw is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"stepz": 1}, "here.toml: unknown setting 'stepz'; did you mean 'steps'?"),
        ({"inner": {"rat": 1}}, "here.toml: unknown setting 'inner.rat'; did you mean 'inner.rate'?"),
        ({"inner": {"qqqq": 1}}, "unknown setting 'inner.qqqq'; known here: rate, kind, size_hw, target"),
        ({"steps": "4"}, "here.toml: steps must be a whole number, got '4'"),
        ({"steps": 4.5}, "here.toml: steps must be a whole number, got 4.5"),
        ({"steps": True}, "here.toml: steps must be a whole number, got True"),
        ({"quick": 1}, "here.toml: quick must be true or false, got 1"),
        ({"inner": 3}, "here.toml: inner is a table of settings, got 3"),
        (
            {"inner": {"kind": "sofd"}},
            "inner.kind must be 'soft' or 'hard', got 'sofd'; did you mean 'soft'?",
        ),
        (
            {"inner": {"size_hw": [1]}},
            r"inner.size_hw must be none or a list of 2 values such as [48, 48], got [1]",
        ),
        (
            {"inner": {"target": "men"}},
            "inner.target must be a number or 'mean', got 'men'; did you mean 'mean'?",
        ),
    ],
)
def test_what_cannot_be_used_is_named(table, message):
    with pytest.raises(ExperimentError) as caught:
        build(**table)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "names", "value"),
    [
        ("a.b=1", ["a", "b"], 1),
        ("a=1e-3", ["a"], 0.001),
        ("a=true", ["a"], True),
        ("a=[4, 5]", ["a"], [4, 5]),
        ("a=vgg9", ["a"], "vgg9"),
        ('a="3"', ["a"], "3"),
        ("a=/some/path=odd", ["a"], "/some/path=odd"),
    ],
)
def test_assignments(text, names, value):
    assert parse_assignment(text) == (names, value)


@pytest.mark.parametrize("text", ["epochs", "=3", "a..b=3"])
def test_assignment_without_name_or_value(text):
    with pytest.raises(ExperimentError, match=r"expected name=value, such as --set training\.epochs=20"):
        parse_assignment(text)


def test_assignment_below_a_value():
    with pytest.raises(ExperimentError, match=r"--set name\.x: name is a value, not a table of settings"):
        assign({"name": "dots"}, ["name", "x"], 1)


def test_toml_round_trip():
    outer = Outer(name='with "quotes" and \\', inner=Inner(rate=1e-30, size_hw=(3, 4)))
    text = to_toml(as_table(outer))
    assert build_settings(Outer, tomllib.loads(text), where="text") == outer
    assert "target = 1.0\n" in to_toml(as_table(Outer()))
    assert build_settings(Outer, tomllib.loads(to_toml(as_table(Outer()))), where="text") == Outer()


@pytest.mark.parametrize("name", sorted(embedded_experiments()))
def test_embedded_experiments_load_and_survive_a_round_trip(name):
    experiment = load_experiment(name)
    assert experiment.name == name
    assert 20 < len(experiment.description) < 120
    again = build_settings(Experiment, tomllib.loads(to_toml(as_table(experiment))), where="text")
    assert again == experiment


def test_published_recipe_of_vgg9():
    # LT-SNN's released recipe: VGG-9, T 10, Adam 1e-3, cosine to 0 over 200 epochs, batch 24, lambda 0.9,
    # target = mean threshold (LT-SNN's released main_avgVth, its defaults).
    training = load_experiment("dvs_cifar10_vgg9").training
    assert (training.optimizer, training.learning_rate, training.final_learning_rate) == ("adam", 1e-3, 0.0)
    assert (training.epochs, training.batch_size, training.schedule) == (200, 24, "cosine")
    assert (training.loss_weight, training.loss_target) == (0.9, "mean_threshold")


def test_set_changes_a_file(experiment_file):
    experiment = load_experiment(
        experiment_file, ["training.epochs=7", "model.neuron.learn_threshold=false", "seed=5"]
    )
    assert (experiment.training.epochs, experiment.model.neuron.learn_threshold, experiment.seed) == (
        7,
        False,
        5,
    )
    assert experiment.training.batch_size == 6


def test_unknown_option_in_a_file_names_the_file_and_the_nearest(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[training]\nepocs = 1\n", encoding="utf-8")
    with pytest.raises(
        ExperimentError,
        match=r"mine\.toml: unknown setting 'training\.epocs'; did you mean 'training\.epochs'\?",
    ):
        load_experiment(path)


def test_unknown_option_in_set(experiment_file):
    with pytest.raises(
        ExperimentError, match=r"--set: unknown setting 'augment\.flp'; did you mean 'augment\.flip'\?"
    ):
        load_experiment(experiment_file, ["augment.flp=1"])


def test_a_value_the_owner_refuses_says_where(experiment_file):
    with pytest.raises(ExperimentError, match=r"--set: \[training\] epochs must be at least 1, got 0"):
        load_experiment(experiment_file, ["training.epochs=0"])
    with pytest.raises(ExperimentError, match=r"--set: \[data.binning\] frames must be at least 1, got 0"):
        load_experiment(experiment_file, ["data.binning.frames=0"])
    with pytest.raises(ExperimentError, match=r"validation_share must be between 0 and 1, got 0.0"):
        load_experiment(experiment_file, ["data.validation_share=0"])


def test_files_that_are_no_experiments(tmp_path):
    with pytest.raises(ExperimentError, match=r"embedded: digits, .*; did you mean 'nmnist'"):
        find_experiment("nmnst")
    path = tmp_path / "broken.toml"
    path.write_text("a = = 3", encoding="utf-8")
    with pytest.raises(ExperimentError, match=r"broken\.toml: no TOML file"):
        load_experiment(path)

"""Settings: from TOML and --set to dataclasses and back, and what is said where they cannot be used."""

import json
import tomllib
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import pytest

from pipelines.errors import ExperimentError
from pipelines.experiment import Experiment, embedded_experiments, find_experiment, load_experiment
from pipelines.settings_tree import as_table, assign, build_settings, parse_assignment, to_toml
from snn.neurons.membrane import MEMBRANES, MembraneSettings
from snn.neurons.settings import NEURONS, PUBLISHED, NeuronSettings


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


@dataclass(frozen=True)
class Engine:
    cylinders: int = 4
    inner: Inner = field(default_factory=Inner)

    PRESETS: ClassVar[dict[str, "Engine"]] = {}


Engine.PRESETS["big"] = Engine(cylinders=12, inner=Inner(rate=0.25, kind="hard"))


@dataclass(frozen=True)
class Car:
    engine: Engine = field(default_factory=Engine)


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
    with pytest.raises(ExperimentError, match=r"embedded: .*, digits, .*; did you mean 'nmnist'"):
        find_experiment("nmnst")
    path = tmp_path / "broken.toml"
    path.write_text("a = = 3", encoding="utf-8")
    with pytest.raises(ExperimentError, match=r"broken\.toml: no TOML file"):
        load_experiment(path)


@pytest.mark.parametrize(
    ("table", "engine"),
    [
        ({"preset": "big"}, Engine.PRESETS["big"]),
        ({"cylinders": 8, "preset": "big"}, replace(Engine.PRESETS["big"], cylinders=8)),
        # A table inside changes what the preset has there, not the defaults.
        (
            {"preset": "big", "inner": {"rate": 1}},
            Engine(cylinders=12, inner=Inner(rate=1.0, kind="hard")),
        ),
        ({"cylinders": 8}, Engine(cylinders=8)),
    ],
)
def test_a_table_starts_from_a_preset(table, engine):
    assert build_settings(Car, {"engine": table}, where="car.toml") == Car(engine)
    assert build_settings(Engine, table, where="car.toml") == engine


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"engine": {"preset": "bigg"}},
            "car.toml: engine.preset must be one of big, got 'bigg'; did you mean 'big'?",
        ),
        ({"engine": {"preset": 3}}, "car.toml: engine.preset must be one of big, got 3"),
        ({"engine": {"prest": "big"}}, "unknown setting 'engine.prest'; did you mean 'engine.preset'?"),
        ({"engine": {"PRESETS": {}}}, "unknown setting 'engine.PRESETS'"),
        ({"engine": {"inner": {"preset": "big"}}}, "unknown setting 'engine.inner.preset'"),
        ({"preset": "big"}, "unknown setting 'preset'"),
    ],
)
def test_presets_that_cannot_be_used(table, message):
    with pytest.raises(ExperimentError) as caught:
        build_settings(Car, table, where="car.toml")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "neuron",
    [*NEURONS.values(), *PUBLISHED.values(), *(NeuronSettings(membrane=m) for m in MEMBRANES.values())],
)
def test_every_neuron_survives_a_round_trip_as_toml_and_json(neuron):
    table = as_table(neuron)
    assert "preset" not in table
    assert build_settings(NeuronSettings, tomllib.loads(to_toml(table)), where="text") == neuron
    assert build_settings(NeuronSettings, json.loads(json.dumps(table)), where="text") == neuron


@pytest.mark.parametrize("name", NEURONS)
def test_experiments_take_a_neuron_by_name(name, experiment_file):
    experiment = load_experiment(experiment_file, [f"model.neuron.preset={name}"])
    assert experiment.model.neuron == NEURONS[name]
    again = build_settings(Experiment, tomllib.loads(to_toml(as_table(experiment))), where="text")
    assert again == experiment


def test_a_preset_replaces_the_files_neurons_and_other_values_change_it():
    # The file's threshold_gradient does not go with lanes.
    changes = ["model.neuron.lanes=4", "model.neuron.preset=mlif"]
    assert load_experiment("dvs_cifar10_vgg9", changes).model.neuron == replace(NEURONS["mlif"], lanes=4)
    changes = [
        "model.neuron.membrane.slope=3",
        "model.neuron.membrane.preset=chip",
        "model.neuron.preset=lif",
    ]
    assert load_experiment("digits", changes).model.neuron == replace(
        NEURONS["lif"], membrane=replace(MEMBRANES["chip"], slope=3.0)
    )


def test_presets_in_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        '[model.neuron]\npreset = "quantlif"\ndecay = 0.25\n[model.neuron.membrane]\nslope = 1\n',
        encoding="utf-8",
    )
    neuron = load_experiment(path).model.neuron
    assert neuron == replace(
        NEURONS["quantlif"], decay=0.25, membrane=MembraneSettings(levels=(-1.0, 0.0, 1.0), slope=1.0)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "model.neuron.preset=mliff",
            "--set: model.neuron.preset must be one of lif, plif, lt, quantlif, mlif, got 'mliff'; "
            "did you mean 'mlif'?",
        ),
        ("model.neuron.membrane.preset=trenary", "did you mean 'ternary'?"),
        ("model.neuron.lanes=9", "--set: [model.neuron] lanes: found 9, expected a whole number from 1 to 8"),
        (
            "model.neuron.membrane.levels=[1, 0]",
            "--set: [model.neuron.membrane] membrane.levels: found [1.0, 0.0]",
        ),
        ("model.neuron.membrane.levels=3", "must be a list of values such as [-1, 0, 1], got 3"),
        (
            "model.neuron.kind=lif",
            "--set: setting 'model.neuron.kind' was replaced: instead of kind \"lt\" write "
            'learn_threshold = true, instead of kind "lif" learn_threshold = false',
        ),
    ],
)
def test_neurons_that_cannot_be_used(change, message, experiment_file):
    with pytest.raises(ExperimentError) as caught:
        load_experiment(experiment_file, [change])
    assert message in str(caught.value)

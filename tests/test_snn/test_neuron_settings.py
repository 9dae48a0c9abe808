"""Settings of neurons: what is refused, what was published."""

import pytest

from snn.errors import NeuronError
from snn.neurons.settings import NEURONS, PUBLISHED, NeuronSettings, published


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"charge": "decy"},
            "charge: found 'decy', expected one of decay, decay_input; did you mean 'decay'?",
        ),
        ({"fire_rule": "=>"}, "fire_rule: found '=>', expected one of >=, >"),
        ({"reset": "zero"}, "reset: found 'zero', expected one of hard, soft"),
        (
            {"surrogate": "triangel"},
            "surrogate: found 'triangel', expected one of .*; did you mean 'triangle'",
        ),
        (
            {"threshold_gradient": "explicit"},
            "threshold_gradient: found 'explicit', expected one of subtract, ",
        ),
        (
            {"threshold_constraint": "pos"},
            "threshold_constraint: found 'pos', expected one of none, positive",
        ),
        ({"decay": 1.5}, "decay: found 1.5, expected a number from 0 to 1"),
        ({"decay": True}, "decay: found True, expected a number from 0 to 1"),
        ({"threshold": float("nan")}, "threshold: found nan, expected a finite number"),
        ({"gamma": 0}, "gamma: found 0, expected a number above 0"),
        ({"slope": "4"}, "slope: found '4', expected a number above 0"),
        (
            {"threshold": 0.0, "threshold_constraint": "positive"},
            "threshold: found 0.0, expected above 0 with",
        ),
        (
            {"threshold": 1.0, "threshold_constraint": "sigmoid"},
            "threshold: found 1.0, expected between 0 and 1",
        ),
        (
            {"learn_threshold": False, "spike_value": "learned"},
            "spike_value: found 'learned' with a constant threshold, expected one, or learn_threshold",
        ),
        ({"rest": float("inf")}, "rest: found inf, expected a finite number"),
        ({"slope": 0.0}, "slope: found 0.0, expected a number above 0"),
        ({"surrogate_scale": -1.0}, "surrogate_scale: found -1.0, expected a number above 0"),
        ({"lanes": 0}, "lanes: found 0, expected a whole number from 1 to 8"),
        ({"lanes": 9}, "lanes: found 9, expected a whole number from 1 to 8"),
        ({"lanes": 3.0}, "lanes: found 3.0, expected a whole number from 1 to 8"),
        ({"lanes": True}, "lanes: found True, expected a whole number from 1 to 8"),
        (
            {"firing": "onehot"},
            "firing: found 'onehot', expected one of one_hot, cumulative; did you mean 'one",
        ),
        ({"upper_edge": "plus"}, "upper_edge: found 'plus', expected one of subtract, add"),
        ({"surrogate_width": "lanes"}, "surrogate_width: found 'lanes', .*; did you mean 'lane'?"),
        (
            {"decay_constraint": "positive"},
            "decay_constraint: found 'positive', expected one of none, sigmoid",
        ),
        (
            {"decay": 1.0, "decay_constraint": "sigmoid"},
            "decay: found 1.0, expected between 0 and 1 with decay_constraint 'sigmoid'",
        ),
        (
            {"threshold": 0.0, "lanes": 3},
            "threshold: found 0.0, expected above 0 with lanes=3 and surrogate_width 'membrane'",
        ),
        (
            {"threshold": -1.0, "surrogate_width": "threshold"},
            "threshold: found -1.0, expected above 0 with lanes=1 and surrogate_width 'threshold'",
        ),
        (
            {"threshold": -1.0, "surrogate_width": "lane"},
            "threshold: found -1.0, expected above 0 with lanes=1 and surrogate_width 'lane'",
        ),
        (
            {"lanes": 2, "surrogate": "product"},
            "surrogate: found 'product', expected one of triangle, sigmoid, atan, identity with lanes=2",
        ),
        (
            {"surrogate": "triangle_membrane", "surrogate_width": "threshold"},
            "surrogate: found 'triangle_membrane', expected one of .* surrogate_width 'threshold'",
        ),
        (
            {"lanes": 2, "threshold_gradient": "subtract+explicit"},
            "threshold_gradient: found 'subtract.explicit', expected subtract or none with lanes=2",
        ),
        (
            {"lanes": 2, "spike_value": "threshold"},
            "spike_value: found 'threshold', expected one with lanes=2",
        ),
        ({"membrane": "ternary"}, "membrane: found 'ternary', expected MembraneSettings"),
    ],
)
def test_refusals_name_argument_found_and_expected(arguments, message):
    with pytest.raises(NeuronError, match=message.replace("?", r"\?")):
        NeuronSettings(**arguments)


def test_default_is_the_ordinary_threshold_gradient():
    default = NeuronSettings()
    assert (default.learn_threshold, default.decay, default.threshold, default.gamma) == (True, 0.5, 1.0, 1.0)
    assert (default.fire_rule, default.reset, default.detach_reset) == (">=", "hard", False)
    assert (default.surrogate, default.threshold_gradient) == ("triangle", "subtract")


def test_published_forms_differ_from_the_default_as_documented():
    assert published().threshold_gradient == "subtract+explicit"
    june = published("lt_june_2022")
    assert (june.surrogate, june.threshold_gradient) == ("product", "subtract+squared")
    assert (published("lt_detector").decay, published("lt_detector").surrogate) == (1.0, "identity")
    assert published("lif_strict").fire_rule == ">"
    # M-LIF's comparisons cut the gradient at the reset; every other release lets it through.
    assert {name for name, settings in PUBLISHED.items() if settings.detach_reset} == {
        "mlif",
        "mlif_converted",
        "mlif_node",
        "mlif_fast",
        "mlif_kernel",
    }
    assert published("mlif").upper_edge == published("mlif_node").upper_edge == "add"
    assert (published("mlif_fast").upper_edge, published("mlif_fast").fire_rule) == ("subtract", ">=")
    assert published("mlif_kernel").surrogate_width == "ignore_threshold"
    assert (published("mlif_converted").reset, published("mlif_converted").surrogate_scale) == (
        "soft_value",
        0.3,
    )
    assert published("quantlif_chip").membrane.bump_height == "one"


def test_unknown_release_names_the_nearest():
    with pytest.raises(
        NeuronError, match=r"published neuron: found 'lt_june', .*did you mean 'lt_june_2022'\?"
    ):
        published("lt_june")


def test_presets_by_name():
    assert list(NEURONS) == ["lif", "plif", "lt", "quantlif", "mlif"]
    assert NeuronSettings.PRESETS == NEURONS
    assert NEURONS["lt"] == NeuronSettings()
    assert NEURONS["lif"] == NeuronSettings(learn_threshold=False) == published("lif")
    assert [name for name, preset in NEURONS.items() if preset.learn_threshold] == ["lt"]
    assert [name for name, preset in NEURONS.items() if preset.learn_decay] == ["plif"]
    assert [name for name, preset in NEURONS.items() if preset.lanes > 1] == ["mlif"]
    assert NEURONS["quantlif"].membrane.levels == (-1.0, 0.0, 1.0)
    # None of them has what we hold to be an accident of a release.
    for preset in NEURONS.values():
        assert (preset.upper_edge, preset.membrane.bump_height) == ("subtract", "step")
        assert preset.surrogate_width != "ignore_threshold"
        assert preset.reset != "all"


def test_settings_can_be_looked_up():
    by_settings = {settings: name for name, settings in PUBLISHED.items()}
    assert by_settings[published("mlif_kernel")] == "mlif_kernel"
    assert len(by_settings) == len(PUBLISHED)


@pytest.mark.parametrize(
    ("arguments", "lane_values", "spike_values"),
    [
        ({}, (1,), (0, 1)),
        ({"lanes": 3}, (1, 2, 4), (0, 1, 2, 4)),
        ({"lanes": 3, "scaled": True}, (0.25, 0.5, 1), (0, 0.25, 0.5, 1)),
        ({"lanes": 3, "firing": "cumulative"}, (1, 2, 4), (0, 1, 3, 7)),
        ({"lanes": 2, "firing": "cumulative", "scaled": True}, (0.5, 1), (0, 0.5, 1.5)),
        ({"lanes": 1, "scaled": True}, (1,), (0, 1)),
        ({"lanes": 8}, (1, 2, 4, 8, 16, 32, 64, 128), (0, 1, 2, 4, 8, 16, 32, 64, 128)),
    ],
)
def test_values_of_lanes_and_spikes(arguments, lane_values, spike_values):
    settings = NeuronSettings(**arguments)
    assert settings.lane_values == lane_values
    assert settings.spike_values == spike_values


@pytest.mark.parametrize("spike_value", ["threshold", "learned"])
def test_learned_spike_values_are_not_known(spike_value):
    with pytest.raises(NeuronError, match=f"spike_value: found '{spike_value}', whose values are learned"):
        NeuronSettings(spike_value=spike_value).spike_values  # noqa: B018


def test_fixed_is_the_same_neuron_with_a_constant_threshold():
    learned = NeuronSettings(threshold=0.7, gamma=0.5, threshold_constraint="positive", spike_value="learned")
    assert learned.fixed() == NeuronSettings(learn_threshold=False, threshold=0.7, gamma=0.5)
    assert published("lt").fixed() == NEURONS["lif"]
    assert NEURONS["plif"].fixed() == NEURONS["plif"]
    converted = published("mlif_converted").fixed()
    assert (converted.learn_threshold, converted.learn_decay, converted.reset) == (False, True, "soft_value")

"""Settings of neurons: what is refused, what was published."""

import pytest

from snn.errors import NeuronError
from snn.neurons.settings import PUBLISHED, NeuronSettings, published


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
        ({"threshold": float("nan")}, "threshold: found nan, expected a number finite"),
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
            "spike_value 'learned' needs learn_threshold, found a constant one",
        ),
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
    assert not any(settings.detach_reset for settings in PUBLISHED.values())


def test_unknown_release_names_the_nearest():
    with pytest.raises(
        NeuronError, match=r"published neuron: found 'lt_june', .*did you mean 'lt_june_2022'\?"
    ):
        published("lt_june")


def test_fixed_is_the_same_neuron_with_a_constant_threshold():
    learned = NeuronSettings(threshold=0.7, gamma=0.5, threshold_constraint="positive", spike_value="learned")
    assert learned.fixed() == NeuronSettings(learn_threshold=False, threshold=0.7, gamma=0.5)

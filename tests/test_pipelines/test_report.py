"""The report of neurons that learn more than one thing and fire in several levels."""

import numpy as np
import pytest

from pipelines.classify import run_classify
from pipelines.display import Silent
from pipelines.experiment import load_experiment
from pipelines.neuron_words import name_neuron
from pipelines.report.build import build_report
from pipelines.report.pictures import draw_neurons, draw_spikes
from snn.neurons.membrane import MembraneSettings
from snn.neurons.settings import NEURONS, PUBLISHED, NeuronSettings

LAYERS = ("block1.neuron", "block2.neuron")
EPOCH = {
    "epoch": 1,
    "thresholds": {LAYERS[0]: 1.0, LAYERS[1]: 0.9},
    "firing_rates": {LAYERS[0]: 0.1, LAYERS[1]: 0.2},
}


class Lines(Silent):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.mark.parametrize(
    ("neuron", "decays", "expected"),
    [
        ({"learn_threshold": False}, {}, ["Neurons firing in a step (%)"]),
        ({"learn_threshold": True}, {}, ["Firing threshold", "Neurons firing in a step (%)"]),
        (
            {"learn_threshold": True, "per_channel": True},
            {LAYERS[0]: 0.5, LAYERS[1]: 0.6},
            [
                "Firing threshold, mean of channels",
                "Membrane kept per step, mean of channels",
                "Neurons firing in a step (%)",
            ],
        ),
        # A run of an earlier version.
        ({"kind": "lt"}, None, ["Firing threshold", "Neurons firing in a step (%)"]),
    ],
)
def test_what_is_learned_is_drawn(neuron, decays, expected):
    record = EPOCH if decays is None else EPOCH | {"decays": decays}
    figure = draw_neurons([record], neuron)
    # Titles stand left in the report's style and centred without it.
    assert [axes.get_title() or axes.get_title(loc="left") for axes in figure.axes] == expected


def test_larger_spikes_are_darker_and_the_legend_says_how_large():
    spikes = np.array([[0.0, 1.0, 2.0, 4.0]])
    seen = {
        "labels": np.array([0]),
        "spike_values": np.array([0.0, 1.0, 2.0, 4.0]),
        "spikes/a.neuron": spikes,
    }
    figure = draw_spikes(seen, ["cat"])
    shades = figure.axes[0].images[0].get_array()[:, 0]
    np.testing.assert_allclose(shades, [0.0, 0.3, 0.65, 1.0])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["1", "2", "4"]


def test_binary_spikes_are_black_and_need_no_legend():
    spikes = np.array([[False, True]])
    figure = draw_spikes({"labels": np.array([0]), "spikes/a.neuron": spikes}, ["cat"])
    assert figure.axes[0].images[0].get_array()[:, 0].tolist() == [0.0, 1.0]
    assert figure.legends == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (NEURONS["plif"], "plif"),
        (NeuronSettings(), "lt"),
        (NeuronSettings(decay=0.25), "lt, decay=0.25"),
        (PUBLISHED["quantlif_five"], "quantlif, membrane=five"),
        (NeuronSettings(membrane=MembraneSettings(levels=(0.0, 0.5))), "lt, membrane.levels=2 values"),
        (PUBLISHED["mlif"], "mlif, upper_edge=add"),
    ],
)
def test_neurons_in_words(settings, words):
    assert name_neuron(settings) == words


@pytest.fixture(scope="module")
def told(experiment_file, store_path, tmp_path_factory):
    """A run of neurons with lanes that learn threshold and decay, and what it said."""
    changes = [
        f"data.source={store_path}",
        "training.epochs=1",
        "model.neuron.preset=mlif",
        "model.neuron.learn_threshold=true",
        "model.neuron.learn_decay=true",
    ]
    display = Lines()
    experiment = load_experiment(experiment_file, changes)
    outcome = run_classify(experiment, tmp_path_factory.mktemp("lanes") / "run", display=display)
    return outcome, display.lines


def test_a_run_says_once_which_neurons_it_has_and_what_computes_them(told):
    outcome, lines = told
    (line,) = [line for line in lines if line.startswith("neurons")]
    assert line.startswith("neurons   mlif, learn_decay=True, learn_threshold=True: ")
    assert line.endswith(outcome.results["executor"])
    assert outcome.results["executor"].split()[0] in ("reference", "numba", "cuda")


def test_report_of_spikes_in_levels(told):
    folder = told[0].folder
    page = build_report(folder).read_text(encoding="utf-8")
    assert "The darker, the larger the spike: lightest grey 1, black 4. Neurons are" in page
    assert "mlif, learn_decay=True, learn_threshold=True; computed by " in page
    with np.load(folder.seen) as seen:
        assert seen["spike_values"].tolist() == [0, 1, 2, 4]
        layers = [seen[name] for name in seen if name.startswith("spikes/")]
        assert set(np.unique(np.concatenate([layer.ravel() for layer in layers]))) <= {0, 1, 2, 4}
    (record,) = folder.read_metrics()
    assert set(record["decays"]) == set(record["thresholds"]) == set(told[0].results["test"]["decays"])
    assert all(0 < value < 1 for value in record["decays"].values())

"""The module around the recurrence: what it holds, and that it keeps nothing else."""

import copy
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from snn.errors import NeuronError
from snn.neurons.membrane import MEMBRANES
from snn.neurons.modules import LIF, LT, MLIF, PLIF, Neuron, QuantLIF
from snn.neurons.settings import NEURONS, NeuronSettings

PRESETS = {"lif": LIF, "plif": PLIF, "lt": LT, "quantlif": QuantLIF, "mlif": MLIF}


def spikes_of(neuron, seed=0):
    return neuron(torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(seed)))


def test_learned_threshold_is_a_parameter_and_fixed_one_a_buffer():
    learned, fixed = (
        Neuron(NeuronSettings(threshold=0.6)),
        Neuron(NeuronSettings(learn_threshold=False, threshold=0.6)),
    )
    assert {name: p.requires_grad for name, p in learned.named_parameters()} == {
        "threshold": True,
        "spike_scale": False,
    }
    assert list(fixed.parameters()) == []
    assert list(dict(fixed.named_buffers())) == ["threshold"]
    assert learned.threshold.item() == fixed.threshold.item() == pytest.approx(0.6)


def test_no_state_is_kept_between_calls():
    neuron = Neuron(NeuronSettings())
    first = spikes_of(neuron)
    spikes_of(neuron, seed=1)
    assert torch.equal(spikes_of(neuron), first)
    assert set(neuron.state_dict()) == {"threshold", "spike_scale"}


def test_state_is_passed_on_with_run():
    neuron = Neuron(NeuronSettings(learn_threshold=False))
    spikes, v = neuron.run(torch.tensor([[0.8]]))
    assert (spikes.item(), v.item()) == (0.0, pytest.approx(0.8))
    spikes, v = neuron.run(torch.tensor([[0.7]]), v)
    assert (spikes.item(), v.item()) == (1.0, 0.0)  # a = 0.4 + 0.7


@pytest.mark.parametrize(
    ("constraint", "threshold"), [("positive", 1.0), ("positive", 0.01), ("sigmoid", 0.6)]
)
def test_constraint_keeps_its_value_and_its_bounds(constraint, threshold):
    neuron = Neuron(NeuronSettings(threshold=threshold, threshold_constraint=constraint))
    assert neuron.threshold.item() == pytest.approx(threshold, rel=1e-5)
    copied = copy.deepcopy(neuron)
    optimizer = torch.optim.SGD(neuron.parameters(), lr=3.0)
    (spikes_of(neuron) * -1).sum().backward()  # more spikes: lower threshold
    optimizer.step()
    assert 0 < neuron.threshold.item() < threshold
    assert copied.threshold.item() == pytest.approx(threshold, rel=1e-5)
    copied.load_state_dict(neuron.state_dict())
    assert copied.threshold.item() == neuron.threshold.item()


def test_free_threshold_may_turn_negative():
    neuron = Neuron(NeuronSettings(threshold=0.1))
    (spikes_of(neuron) * -1).sum().backward()
    torch.optim.SGD(neuron.parameters(), lr=10.0).step()
    assert neuron.threshold.item() < 0


def test_learned_spike_value_scales_the_spikes():
    neuron = Neuron(NeuronSettings(spike_value="learned"))
    with torch.no_grad():
        neuron.spike_scale.fill_(2.5)
    assert set(spikes_of(neuron).unique().tolist()) <= {0.0, 2.5}
    neuron(torch.tensor([[2.0], [0.0], [3.0]])).sum().backward()
    assert neuron.spike_scale.grad.item() == 2.0  # two spikes


def test_repr_says_what_the_layer_computes():
    assert repr(Neuron(NeuronSettings(threshold=0.75))) == (
        "Neuron(learned threshold=0.75, decay=0.5, fires at >=, hard reset, surrogate=triangle, "
        "threshold_gradient=subtract)"
    )
    assert repr(
        Neuron(NeuronSettings(learn_threshold=False, reset="soft", detach_reset=True, fire_rule=">"))
    ) == ("Neuron(threshold=1, decay=0.5, fires at >, soft reset, detached, surrogate=triangle)")


def test_executor_is_named_only_where_it_was_chosen():
    assert "executor" not in repr(LIF())
    assert repr(LIF(executor="reference")) == (
        "LIF(threshold=1, decay=0.5, fires at >=, hard reset, surrogate=triangle, executor=reference)"
    )


class TestPresets:
    @pytest.mark.parametrize("name", PRESETS)
    def test_class_is_the_preset(self, name):
        neuron = PRESETS[name]()
        assert neuron.settings == NEURONS[name]
        assert torch.equal(spikes_of(neuron), spikes_of(Neuron(NEURONS[name])))

    def test_every_preset_has_a_class(self):
        assert set(PRESETS) == set(NEURONS)

    def test_options_change_the_preset(self):
        assert MLIF(lanes=4).settings == replace(NEURONS["mlif"], lanes=4)
        chip = MEMBRANES["chip"]
        assert QuantLIF(membrane=chip).settings == replace(NEURONS["quantlif"], membrane=chip)
        neuron = LT(threshold=0.8, per_channel=True, channels=64)
        assert neuron.threshold.shape == (64,)
        assert neuron.threshold.detach().unique().tolist() == pytest.approx([0.8])

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"treshold": 1.0}, r"LIF: found option 'treshold', .*; did you mean 'threshold'\?"),
            ({"chanels": 3}, r"LIF: found option 'chanels', .*; did you mean 'channels'\?"),
            ({"lanes": 9}, r"lanes: found 9, expected a whole number from 1 to 8"),
            ({"per_channel": True}, r"channels: found None"),
            ({"executor": "cdua"}, r"executor: found 'cdua', .*; did you mean 'cuda'\?"),
        ],
    )
    def test_bad_options(self, options, message):
        with pytest.raises(NeuronError, match=message):
            LIF(**options)

    def test_one_line_each_in_a_network(self):
        net = nn.Sequential(PLIF(decay=0.75), QuantLIF())
        assert repr(net).splitlines()[1:-1] == [
            "  (0): PLIF(threshold=1, learned decay=0.75, charge=decay_input, fires at >=, "
            "hard reset, detached, surrogate=atan)",
            "  (1): QuantLIF(threshold=1, decay=0.5, membrane of 3 levels, fires at >, "
            "hard reset, surrogate=triangle)",
        ]

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
    def test_copies(self, copied):
        net = nn.Sequential(
            PLIF(decay=0.8),
            LT(threshold=0.3, threshold_constraint="positive", per_channel=True, channels=3),
            MLIF(executor="reference"),
        )
        twin = copied(net)
        assert repr(twin) == repr(net)
        assert torch.equal(spikes_of(twin), spikes_of(net))
        with torch.no_grad():
            twin[0].free_decay.add_(1)
        assert net[0].decay.item() == pytest.approx(0.8)
        net.load_state_dict(twin.state_dict())
        assert net[0].decay.item() == twin[0].decay.item() > 0.8

    def test_a_constrained_number_that_is_set_goes_on_learning(self):
        neuron = PLIF()
        neuron.decay = 0.9
        assert neuron.decay.item() == pytest.approx(0.9)
        spikes_of(neuron).sum().backward()
        assert neuron.free_decay.grad.item() != 0
        assert list(neuron.state_dict()) == ["free_decay", "threshold"]

    def test_names_in_a_checkpoint(self):
        learned = NeuronSettings(learn_decay=True)
        assert list(Neuron(learned).state_dict()) == ["threshold", "spike_scale", "decay"]
        assert list(PLIF().state_dict()) == ["free_decay", "threshold"]
        assert list(LT(threshold_constraint="sigmoid", threshold=0.5).state_dict()) == [
            "free_threshold",
            "spike_scale",
        ]

    def test_every_learned_number_learns(self):
        neuron = LT(learn_decay=True, decay_constraint="sigmoid", per_channel=True, channels=3)
        spikes_of(neuron).sum().backward()
        assert (neuron.threshold.grad != 0).all()
        assert (neuron.free_decay.grad != 0).any()
        assert neuron.spike_scale.grad is None


@pytest.mark.parametrize("gradient", ["subtract", "none"])
@pytest.mark.parametrize("spike_value", ["one", "threshold", "learned"])
@pytest.mark.parametrize("constraint", ["none", "positive"])
def test_what_asks_for_a_gradient_gets_one(gradient, spike_value, constraint):
    """Processes that train together wait for every such gradient."""
    neuron = Neuron(
        NeuronSettings(threshold_gradient=gradient, spike_value=spike_value, threshold_constraint=constraint)
    )
    neuron(torch.ones(4, 2, 3, requires_grad=True)).sum().backward()
    for name, parameter in neuron.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name


def test_neurons_import_no_optional_package():
    code = """
import sys
import snn.neurons.modules
print(sorted({"cupy", "spikingjelly", "numba"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""Our neurons in SpikingJelly networks, and its nodes as ours: equal spikes, membranes and gradients."""

import copy
from functools import partial

import pytest
import torch
from spikingjelly.activation_based import functional, layer, surrogate
from spikingjelly.activation_based import neuron as nodes
from torch import nn

from snn.errors import NeuronError
from snn.neurons.modules import LT, MLIF, PLIF
from snn.neurons.spikingjelly import NeuronNode, convert_network, from_spikingjelly

RESETS = [None, 0.0, -0.25]
SURROGATES = [
    surrogate.Sigmoid(alpha=3.0),
    surrogate.ATan(alpha=2.5),
    surrogate.PiecewiseQuadratic(alpha=0.8),
]
KINDS = {
    "IF": nodes.IFNode,
    "LIF": partial(nodes.LIFNode, tau=3.0, decay_input=False),
    "LIF decay_input": partial(nodes.LIFNode, tau=3.0, decay_input=True),
    "PLIF": partial(nodes.ParametricLIFNode, init_tau=2.5, decay_input=False),
    "PLIF decay_input": partial(nodes.ParametricLIFNode, init_tau=2.5, decay_input=True),
}


def draw(*shape, seed=0):
    return 1.5 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestNodesAsOurs:
    @pytest.mark.parametrize("detach", [False, True])
    @pytest.mark.parametrize("function", SURROGATES, ids=lambda function: type(function).__name__)
    @pytest.mark.parametrize("reset", RESETS)
    @pytest.mark.parametrize("name", KINDS)
    def test_equal_spikes_membranes_and_gradients(self, name, reset, function, detach):
        node = KINDS[name](
            v_threshold=0.75,
            v_reset=reset,
            surrogate_function=function,
            detach_reset=detach,
            step_mode="m",
        )
        ours = from_spikingjelly(node, executor="reference")
        currents = [draw(8, 3, 4, 5).requires_grad_() for _ in range(2)]
        weight = draw(8, 3, 4, 5, seed=1)
        expected = node(currents[0])
        spikes, v = ours.run(currents[1])
        assert spikes.count_nonzero() > 20
        assert torch.equal(spikes, expected)
        torch.testing.assert_close(v, node.v, rtol=1e-5, atol=1e-5)
        (expected * weight).sum().add(node.v.sum()).backward()
        (spikes * weight).sum().add(v.sum()).backward()
        torch.testing.assert_close(currents[1].grad, currents[0].grad, rtol=1e-4, atol=1e-5)
        if name.startswith("PLIF"):
            # decay = sigmoid(-w): the same parameter, of the other sign.
            torch.testing.assert_close(-ours.free_decay.grad, node.w.grad, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("kind", [nodes.IFNode, nodes.LIFNode, nodes.ParametricLIFNode])
    def test_of_defaults_through_compiled_kernels(self, kind):
        node = kind(step_mode="m")
        current = draw(8, 3, 4)
        assert torch.equal(from_spikingjelly(node)(current), node(current))

    def test_says_what_it_read(self):
        node = nodes.LIFNode(tau=4.0, v_reset=None, v_threshold=0.5, surrogate_function=surrogate.ATan())
        assert repr(from_spikingjelly(node)) == (
            "LIF(threshold=0.5, decay=0.75, charge=decay_input, fires at >=, soft reset, surrogate=atan)"
        )

    def test_learned_decay_goes_on_learning(self):
        node = nodes.ParametricLIFNode(init_tau=2.0).eval()
        with torch.no_grad():
            node.w.fill_(-1.25)
        ours = from_spikingjelly(node)
        assert isinstance(ours, PLIF)
        assert ours.free_decay.item() == 1.25
        assert ours.decay.item() == pytest.approx(1 - node.w.sigmoid().item())
        assert ours.settings.decay == pytest.approx(ours.decay.item())
        assert (ours.training, ours.free_decay.requires_grad) == (False, True)

    @pytest.mark.parametrize("w", [-40.0, 40.0])
    def test_decay_at_the_ends(self, w):
        node = nodes.ParametricLIFNode(step_mode="m")
        with torch.no_grad():
            node.w.fill_(w)
        current = draw(5, 3)
        assert torch.equal(from_spikingjelly(node)(current), node(current))

    @pytest.mark.parametrize(
        ("node", "message"),
        [
            (nodes.QIFNode(), "node: found QIFNode, expected an IFNode, LIFNode or ParametricLIFNode"),
            (nn.ReLU(), "node: found ReLU, expected"),
            (
                nodes.LIFNode(surrogate_function=surrogate.Erf()),
                "surrogate_function: found Erf, expected one of Sigmoid, ATan, PiecewiseQuadratic",
            ),
            (
                nodes.LIFNode(surrogate_function=surrogate.Sigmoid(spiking=False)),
                "surrogate_function: found Sigmoid not spiking",
            ),
            (nodes.LIFNode(store_v_seq=True), "store_v_seq: found True"),
        ],
    )
    def test_what_we_do_not_have(self, node, message):
        with pytest.raises(NeuronError, match=message):
            from_spikingjelly(node)

    def test_threshold_that_is_no_number(self):
        node = nodes.LIFNode()
        node.v_threshold = nn.Parameter(torch.tensor(1.0))
        with pytest.raises(NeuronError, match="v_threshold: found Parameter"):
            from_spikingjelly(node)


class TestOursInTheirNetworks:
    @pytest.mark.parametrize("make", [LT, MLIF, PLIF])
    def test_single_steps_are_all_steps(self, make):
        neuron, current = make(), 2 * draw(6, 3, 4)
        expected, v = neuron.run(current)
        node = NeuronNode(neuron, step_mode="s")
        assert torch.equal(torch.stack([node(step) for step in current]), expected)
        assert torch.equal(node.v, v)
        node = NeuronNode(neuron, step_mode="m")
        assert torch.equal(torch.cat([node(current[:2]), node(current[2:])]), expected)
        assert torch.equal(node.v, v)

    def test_reset_net_returns_to_rest(self):
        net = nn.Sequential(nn.Identity(), NeuronNode(LT(rest=0.25)))
        current = draw(5, 3, 4)
        first = net(current)
        assert not torch.equal(net(current), first)
        functional.reset_net(net)
        assert net[1].v == 0.25
        assert torch.equal(net(current), first)

    def test_membrane_may_be_set_and_detached(self):
        node = NeuronNode(LT(), step_mode="s")
        node.v = 1.0
        assert node(torch.full((2,), 0.6)).tolist() == [1, 1]  # a = 0.5 + 0.6
        functional.reset_net(node)
        node(torch.ones(2, requires_grad=True))
        functional.detach_net(node)
        assert not node.v.requires_grad

    def test_another_batch_size_starts_at_rest(self):
        node, neuron = NeuronNode(LT()), LT()
        node(draw(4, 5, 3))
        smaller = draw(4, 2, 3)
        assert torch.equal(node(smaller), neuron(smaller))

    def test_half_precision_keeps_its_membrane_in_float32(self):
        node = NeuronNode(LT())
        for _ in range(2):
            assert node(draw(3, 2).half()).dtype == torch.float16
            assert node.v.dtype == torch.float32

    def test_step_mode_of_a_network(self):
        net = nn.Sequential(NeuronNode(LT()), nodes.LIFNode())
        functional.set_step_mode(net, "s")
        assert [module.step_mode for module in net] == ["s", "s"]
        assert net(draw(2, 3)).shape == (2, 3)

    def test_a_node_is_saved_and_copied(self):
        node = NeuronNode(LT(threshold=0.5))
        assert set(node.state_dict()) == {"neuron.threshold", "neuron.spike_scale"}
        current = draw(4, 2)
        assert torch.equal(copy.deepcopy(node)(current), node(current))


def network(step_mode):
    net = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1),
        nodes.LIFNode(surrogate_function=surrogate.ATan()),
        layer.MaxPool2d(2),
        nn.Sequential(layer.Flatten(), layer.Linear(16, 6)),
        nodes.ParametricLIFNode(v_reset=None, detach_reset=True),
    )
    functional.set_step_mode(net, step_mode)
    return net


class TestConvertedNetworks:
    @pytest.mark.parametrize("step_mode", ["s", "m"])
    def test_does_what_it_did(self, step_mode):
        torch.manual_seed(3)
        theirs = network(step_mode)
        ours = convert_network(theirs, executor="reference")
        assert [type(module).__name__ for module in (theirs[1], ours[1], ours[4])] == [
            "LIFNode",
            "NeuronNode",
            "NeuronNode",
        ]
        x = 3 * draw(5, 2, 2, 4, 4) if step_mode == "m" else 3 * draw(2, 2, 4, 4)
        for _ in range(2):
            expected, found = theirs(x), ours(x)
            assert torch.equal(found, expected)
        expected.sum().backward()
        found.sum().backward()
        torch.testing.assert_close(ours[0].weight.grad, theirs[0].weight.grad, rtol=1e-4, atol=1e-5)
        functional.reset_net(ours)
        assert torch.equal(ours(x), convert_network(network_at_rest(theirs))(x))

    def test_goes_on_from_the_membrane_it_held(self):
        theirs = network("m")
        x = 3 * draw(5, 2, 2, 4, 4)
        with torch.no_grad():
            theirs(x)
            ours = convert_network(theirs, executor="reference")
            assert torch.equal(ours(x), theirs(x))

    def test_one_node_alone_and_one_in_two_places(self):
        node = nodes.IFNode(step_mode="m")
        assert isinstance(convert_network(node), NeuronNode)
        twice = convert_network(nn.Sequential(node, nn.Identity(), node))
        assert twice[0] is twice[2]

    def test_a_node_we_do_not_have_is_named_with_its_place(self):
        net = nn.Sequential(nodes.IFNode(), nn.Sequential(nodes.QIFNode()))
        with pytest.raises(NeuronError, match=r"^1\.0: node: found QIFNode"):
            convert_network(net)
        assert isinstance(net[0], nodes.IFNode)

    def test_a_membrane_with_a_gradient(self):
        net = nn.Sequential(nodes.ParametricLIFNode(step_mode="m"))
        net(draw(3, 2))
        with pytest.raises(NeuronError, match=r"^0\.v: found a membrane with a gradient, .*reset_net"):
            convert_network(net)


def network_at_rest(net):
    functional.reset_net(net)
    return net

"""Our neurons inside SpikingJelly 2.0 networks, and SpikingJelly's LIF, PLIF and IF nodes as ours.

SpikingJelly is optional, and this file is the only one that imports it.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from snn.errors import NeuronError
from snn.neurons.modules import LIF, PLIF, Neuron
from snn.neurons.reference import state_dtype

try:
    from spikingjelly.activation_based import base, surrogate
    from spikingjelly.activation_based import neuron as nodes
except ImportError as error:
    raise ImportError(
        f"SpikingJelly cannot be imported ({error}), which snn.neurons.spikingjelly is for: "
        "pip install --no-deps spikingjelly==2.0.0 and pip install loguru"
    ) from error


class NeuronNode(base.MemoryModule):
    """A layer of our neurons that behaves as SpikingJelly's nodes do.

    It keeps its membrane between calls until `functional.reset_net`, and takes one step [B, ...] in step
    mode `s`, all steps [T, B, ...] in step mode `m`. A membrane of another shape, as the last, smaller
    batch leaves it, is given up for rest.

    Attributes:
        neuron: The neurons.
        v: Membrane, shape [B, ...], float32 for currents of half precision; a number before the first step.
    """

    v: Tensor | float

    def __init__(self, neuron: Neuron, *, step_mode: str = "m") -> None:
        super().__init__()
        self.neuron = neuron
        self.step_mode = step_mode
        self.register_memory("v", neuron.settings.rest)

    def materialize_states(
        self, inputs: tuple[Tensor, ...], states: tuple[Any, ...], step_mode: str
    ) -> tuple[Tensor]:
        """Return the membrane before the first step as a tensor."""
        step = inputs[0][0] if step_mode == "m" else inputs[0]
        dtype = state_dtype(step)
        (v,) = states
        if isinstance(v, Tensor) and v.shape == step.shape:
            return (v.to(device=step.device, dtype=dtype),)
        start = self.neuron.settings.rest if isinstance(v, Tensor) else v
        return (torch.full_like(step, start, dtype=dtype, requires_grad=False),)

    def single_step_functional_forward(
        self, inputs: tuple[Tensor, ...], states: tuple[Any, ...], **_: object
    ) -> tuple[tuple[Tensor], tuple[Tensor]]:
        """Return the spikes [B, ...] of a current [B, ...], and the membrane after it."""
        spikes, v = self.neuron.run(inputs[0].unsqueeze(0), states[0])
        return (spikes.squeeze(0),), (v,)

    def multi_step_functional_forward(
        self, inputs: tuple[Tensor, ...], states: tuple[Any, ...], **_: object
    ) -> tuple[tuple[Tensor], tuple[Tensor]]:
        """Return the spikes [T, B, ...] of a current [T, B, ...], and the membrane after it."""
        spikes, v = self.neuron.run(inputs[0], states[0])
        return (spikes,), (v,)


def _slope(name: str) -> Callable[[Any], dict[str, Any]]:
    return lambda function: {"surrogate": name, "slope": float(function.alpha)}


# alpha - alpha^2 |u| is the triangle of half width 1 / alpha.
SURROGATES: dict[type, Callable[[Any], dict[str, Any]]] = {
    surrogate.Sigmoid: _slope("sigmoid"),
    surrogate.ATan: _slope("atan"),
    surrogate.PiecewiseQuadratic: lambda function: {"surrogate": "triangle", "gamma": 1 / function.alpha},
}


def from_spikingjelly(node: base.MemoryModule, *, executor: str = "auto") -> Neuron:
    """Return neurons that spike and learn as a SpikingJelly node does, starting at rest.

    Read are tau, decay_input, v_threshold, v_reset (None resets by subtraction), detach_reset and the
    surrogate function; of a PLIF node the learned w, of which the decay is 1 - sigmoid(w). The membrane a
    node holds is not: pass it to `Neuron.run`.

    Args:
        node: An IFNode, LIFNode or ParametricLIFNode with the surrogate Sigmoid, ATan or PiecewiseQuadratic.
        executor: What runs the neurons, see `snn.neurons.executors`.

    Raises:
        NeuronError: The node, its surrogate or one of its options has no counterpart here.
    """
    if type(node) is nodes.ParametricLIFNode:
        return _learned_decay(node, executor)
    if type(node) is nodes.LIFNode:
        decay, charge = 1 - 1 / node.tau, "decay_input" if node.decay_input else "decay"
    elif type(node) is nodes.IFNode:
        decay, charge = 1.0, "decay"
    else:
        raise NeuronError(
            f"node: found {type(node).__name__}, expected an IFNode, LIFNode or ParametricLIFNode"
        )
    options = {**_options(node), "decay": decay, "charge": charge}
    return LIF(executor=executor, **options).train(node.training)


def _learned_decay(node: Any, executor: str) -> Neuron:
    """Return the neurons of a PLIF node."""
    w = node.w.detach()
    decay = 1 / (1 + math.exp(float(w)))
    charge = "decay_input" if node.decay_input else "decay"
    neuron = PLIF(executor=executor, **_options(node), charge=charge).to(w.device, w.dtype)
    # 1 - sigmoid(w) = sigmoid(-w): taken over without a rounding, even where the decay is as good as 0 or 1.
    if 0 < decay < 1:
        neuron.settings = replace(neuron.settings, decay=decay)
    with torch.no_grad():
        neuron.free_decay.copy_(-w)
    neuron.free_decay.requires_grad_(node.w.requires_grad)
    return neuron.train(node.training)


def _options(node: Any) -> dict[str, Any]:
    """Return the settings that all nodes have in common; raise NeuronError for what we do not have."""
    for name in ("v_threshold", "v_reset"):
        found = getattr(node, name)
        number = isinstance(found, int | float) and math.isfinite(found)
        if not (number or (name == "v_reset" and found is None)):
            raise NeuronError(f"{name}: found {found!r}, expected a number")
    if node.store_v_seq:
        raise NeuronError("store_v_seq: found True, expected False; only the last membrane is kept")
    if getattr(node, "_neuron_precision", None) is not None:
        raise NeuronError("precision: found one set for this node, expected the default, float32")
    function = node.surrogate_function
    if type(function) not in SURROGATES or not function.spiking:
        known = ", ".join(kind.__name__ for kind in SURROGATES)
        found = type(function).__name__ + ("" if getattr(function, "spiking", True) else " not spiking")
        raise NeuronError(f"surrogate_function: found {found}, expected one of {known}, spiking")
    return {
        "threshold": float(node.v_threshold),
        "reset": "soft" if node.v_reset is None else "hard",
        "rest": float(node.v_reset or 0),
        "detach_reset": bool(node.detach_reset),
        **SURROGATES[type(function)](function),
    }


def convert_network(net: nn.Module, *, executor: str = "auto") -> nn.Module:
    """Return a copy of a SpikingJelly network in which our neurons stand for its nodes.

    Each keeps its step mode and the membrane it holds. A network that is one node becomes a `NeuronNode`.

    Raises:
        NeuronError: Some node has no counterpart, or holds a membrane through which a gradient could still
            flow; the message begins with its place in the network.
    """
    for name, module in net.named_modules():
        v = getattr(module, "v", None) if isinstance(module, base.MemoryModule) else None
        if isinstance(v, Tensor) and v.grad_fn is not None:
            raise NeuronError(
                f"{name or 'net'}.v: found a membrane with a gradient, expected none; "
                "call functional.reset_net or functional.detach_net first"
            )
    net = copy.deepcopy(net)
    device = next((parameter.device for parameter in net.parameters()), None)
    converted: dict[nn.Module, NeuronNode] = {}
    for name, module in list(net.named_modules()):
        if _is_node(module):
            try:
                converted[module] = _as_node(module, executor).to(device)
            except NeuronError as error:
                raise NeuronError(f"{name or 'net'}: {error}") from error
    if net in converted:
        return converted[net]
    # A node that stands in two places is one node afterwards, too.
    for parent in list(net.modules()):
        for name, child in parent._modules.items():
            if child in converted:
                parent._modules[name] = converted[child]
    return net


def _is_node(module: nn.Module) -> bool:
    """Return whether a module is one of SpikingJelly's neurons, or made from one."""
    return any(kind.__module__.startswith(nodes.__name__) for kind in type(module).__mro__)


def _as_node(module: Any, executor: str) -> NeuronNode:
    node = NeuronNode(from_spikingjelly(module, executor=executor), step_mode=module.step_mode)
    node.v = module.v
    return node

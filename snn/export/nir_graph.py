"""Export as a graph of NIR, the Neuromorphic Intermediate Representation, where NIR can say it.

One unit of NIR's time is one step. NIR's LIF, tau dv/dt = (v_leak - v) + R I, taken by Euler steps of 1, is
v + (v_leak - v + R I) / tau, which is decay v + x with tau = 1 / (1 - decay) and R = tau, or R = 1 where the
current is scaled by 1 - decay. NIR fires where v > v_threshold: a neuron that fires at >= has the largest
float32 below its threshold. Source: Pedersen et al., "Neuromorphic intermediate representation", Nature
Communications 15, 2024, and the package `nir` 1.0.8.
"""

from pathlib import Path
from typing import Any

import numpy as np

from snn.errors import ExportError
from snn.export.plan import FRAMES, Neurons, Node, Plan
from snn.whole_file import whole_file


def nir_graph(plan: Plan) -> Any:
    """Return a plan as a `nir.NIRGraph`.

    Raises:
        ExportError: NIR has no node for a layer; names it and says why.
    """
    import nir

    nodes: dict[str, Any] = {"input": nir.Input({"input": np.array(plan.frames)})}
    # What each name stands for: sums are no nodes, but two edges into the node after.
    sources: dict[str, tuple[str, ...]] = {FRAMES: ("input",)}
    shapes = {FRAMES: plan.frames} | {node.name: node.shape for node in plan.nodes}
    edges = []
    for node in plan.nodes:
        given = tuple(source for name in node.inputs for source in sources[name])
        if node.kind == "add":
            sources[node.name] = given
            continue
        # A dot would be a path in NIR's file.
        name = node.name.replace(".", "_")
        made = _nodes(node, shapes[node.inputs[0]])
        for number, part in enumerate(made):
            part_name = name if number == len(made) - 1 else f"{name}_{number}"
            nodes[part_name] = part
            edges += [(source, part_name) for source in given]
            given = (part_name,)
        sources[node.name] = given
    nodes["output"] = nir.Output({"output": np.array(plan.nodes[-1].shape)})
    edges += [(source, "output") for source in given]
    # Not checked by nir: it takes the channels of a convolution in groups from the shape of its weights.
    grouped = any(node.weights is not None and node.weights.groups > 1 for node in plan.nodes)
    return nir.NIRGraph(nodes, edges, metadata={"step": "1 unit of time"}, type_check=not grouped)


def write_nir(plan: Plan, path: Path) -> int:
    """Write a plan as a NIR file, all of it or nothing, and return how many nodes it has.

    Raises:
        ExportError: NIR has no node for a layer, or the package `nir` is not there.
    """
    try:
        import nir
    except ModuleNotFoundError as error:
        raise ExportError("nir is not installed; pip install 'spikeline[nir]'") from error
    graph = nir_graph(plan)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        nir.write(temporary, graph)
    return len(graph.nodes)


def _nodes(node: Node, given: tuple[int, ...]) -> list[Any]:
    """Return what a step is in NIR, one node after the other; `given` is the shape of its input."""
    import nir

    two = np.array([2, 2])
    if node.weights is not None:
        return [_weighted(node, given)]
    if node.neurons is not None:
        return [_neuron(node.name, node.neurons, node.shape)]
    if node.kind == "sum_pool":
        return [nir.AvgPool2d(kernel_size=two, stride=two, padding=np.array([0, 0]))]
    if node.kind == "flatten":
        return [nir.Flatten({"input": np.array(given)}, start_dim=0, end_dim=-1)]
    if node.kind == "sum_places":
        places, shape = np.array(given[1:]), {"input": np.array([given[0], 1, 1])}
        mean = nir.AvgPool2d(kernel_size=places, stride=places, padding=np.array([0, 0]))
        return [mean, nir.Flatten(shape, start_dim=0, end_dim=-1)]
    if node.kind == "attention":
        raise ExportError(f"layer {node.name!r}: NIR has no product of spikes; export to a .npz file")
    raise ExportError(f"layer {node.name!r}: NIR has no maximum over places; use model.pool='avg'")


def _weighted(node: Node, given: tuple[int, ...]) -> Any:
    import nir

    w = node.weights
    assert w is not None
    over = (-1, *[1] * (w.values.ndim - 1))
    weight, bias = (w.values * w.scale.reshape(over)).astype(np.float32), w.bias.astype(np.float32)
    if node.kind == "linear":
        return nir.Affine(weight=weight, bias=bias)
    return nir.Conv2d(
        input_shape=(given[1], given[2]),
        weight=weight,
        stride=w.stride,
        padding=w.padding,
        dilation=(1, 1),
        groups=w.groups,
        bias=bias,
    )


def _neuron(name: str, neurons: Neurons, shape: tuple[int, ...]) -> Any:
    import nir

    _refuse(name, neurons)
    s, over = neurons.settings, (-1, *[1] * (len(shape) - 1))
    threshold = neurons.threshold.astype(np.float32)
    if s.fire_rule == ">=":
        threshold = np.nextafter(threshold, np.float32(-np.inf))
    threshold = np.broadcast_to(threshold.reshape(over), shape).copy()
    leak = np.broadcast_to((1 - neurons.decay).reshape(over), shape).astype(np.float32)
    zeros = np.zeros(shape, np.float32)
    if (leak == 0).all():
        scale = np.ones(shape, np.float32) if s.charge == "decay" else zeros
        return nir.IF(r=scale, v_threshold=threshold, v_reset=zeros)
    tau = 1 / leak
    r = tau if s.charge == "decay" else np.ones(shape, np.float32)
    return nir.LIF(tau=tau, r=r, v_leak=zeros, v_threshold=threshold, v_reset=zeros)


def _refuse(name: str, neurons: Neurons) -> None:
    """Raise ExportError where NIR's LIF is another neuron."""
    s = neurons.settings
    mixed = bool((neurons.decay == 1).any() and (neurons.decay != 1).any())
    reasons = {
        f"{s.lanes} lanes (M-LIF): its spikes are 0 or 1": s.lanes > 1,
        f"a membrane of {len(s.membrane.levels)} levels": bool(s.membrane.levels),
        f"the {s.reset} reset: it resets to a value": s.reset != "hard",
        f"the rest {s.rest:g}: it does not say where a membrane starts": s.rest != 0,
        "channels with and without a leak in one layer": mixed,
    }
    for reason, found in reasons.items():
        if found:
            raise ExportError(f"layer {name!r}: NIR's LIF cannot say {reason}; export to a .npz file")

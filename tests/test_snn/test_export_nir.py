"""Graphs of NIR compute what the network in torch does, as a plain interpreter of NIR's definitions shows."""

from dataclasses import replace

import nir
import numpy as np
import pytest
import torch
from suites.few_bit_networks import few_bit_network, some_frames

from snn.errors import ExportError
from snn.export.nir_graph import write_nir
from snn.export.walk import plan_of
from snn.neurons.membrane import MEMBRANES
from snn.neurons.settings import NEURONS
from snn.quant.settings import WeightSettings


def interpret(graph, frames):
    """Run a graph by NIR's equations, Euler steps of 1; return its output [T, B, ...]."""
    signals, waiting = {"input": torch.from_numpy(frames).float()}, set(graph.nodes) - {"input"}
    while waiting:
        for name in sorted(waiting):
            sources = [source for source, target in graph.edges if target == name]
            if all(source in signals for source in sources):
                signals[name] = compute(graph.nodes[name], sum(signals[source] for source in sources))
                waiting.remove(name)
    return signals["output"]


def compute(node, x):
    T, B = x.shape[:2]
    merged = x.flatten(0, 1)
    tensors = {
        name: torch.from_numpy(np.asarray(value)) for name, value in vars(node).items() if name in ARRAYS
    }
    if isinstance(node, nir.Conv2d):
        options = {name: tuple(map(int, getattr(node, name))) for name in ("stride", "padding", "dilation")}
        groups = int(node.groups)
        out = torch.conv2d(merged, tensors["weight"], tensors["bias"], **options, groups=groups)
    elif isinstance(node, nir.Affine):
        out = torch.nn.functional.linear(merged, tensors["weight"], tensors["bias"])
    elif isinstance(node, nir.AvgPool2d):
        kernel, stride = (tuple(map(int, size)) for size in (node.kernel_size, node.stride))
        out = torch.nn.functional.avg_pool2d(merged, kernel, stride)
    elif isinstance(node, nir.Flatten):
        out = merged.flatten(1)
    elif isinstance(node, nir.Output):
        out = merged
    else:
        return neurons(node, x, tensors)
    return out.unflatten(0, (T, B))


ARRAYS = ("weight", "bias", "tau", "r", "v_leak", "v_threshold", "v_reset")


def neurons(node, x, p):
    v, spikes = torch.zeros_like(x[0]), []
    for step in x:
        leak = (p["v_leak"] - v) / p["tau"] if isinstance(node, nir.LIF) else 0
        scale = p["r"] / p["tau"] if isinstance(node, nir.LIF) else p["r"]
        v = v + leak + scale * step
        fired = v > p["v_threshold"]
        v = torch.where(fired, p["v_reset"], v)
        spikes.append(fired.float())
    return torch.stack(spikes)


CASES = {
    "lif": ("vgg5", NEURONS["lif"]),
    "lt": ("vgg5", replace(NEURONS["lt"], per_channel=True)),
    "plif": ("vgg5", replace(NEURONS["plif"], threshold=0.4)),
    "no_leak": ("vgg5", replace(NEURONS["lif"], decay=1.0)),
    "strides": ("vggsnn", replace(NEURONS["lif"], fire_rule=">")),
    "residual": ("resnet18", NEURONS["lif"]),
    "preactivation": ("preact_resnet18", NEURONS["lif"]),
    "groups": ("mobilenet_depthwise", NEURONS["lif"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_graph_computes_what_the_network_does(case, tmp_path):
    name, neuron = CASES[case]
    weights = WeightSettings() if case == "lif" else WeightSettings(bits=4)
    model = few_bit_network(name, neuron, weights=weights, width=0.15)
    path = tmp_path / "network.nir"
    count = write_nir(plan_of(model), path)
    # As nir's own reader checks groups, see nir_graph.
    graph = nir.read(path) if case not in ("groups", "preactivation") else nir.read(path, type_check=False)
    assert len(graph.nodes) == count
    frames = some_frames()
    with torch.no_grad():
        expected, found = model(torch.from_numpy(frames).float()), interpret(graph, frames)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("neuron", "options", "message"),
    [
        (NEURONS["mlif"], {}, r"layer 'block1\.neuron': NIR's LIF cannot say 3 lanes \(M-LIF\)"),
        (NEURONS["quantlif"], {}, "NIR's LIF cannot say a membrane of 3 levels"),
        (replace(NEURONS["lif"], membrane=MEMBRANES["chip"]), {}, "a membrane of 24 levels"),
        (replace(NEURONS["lif"], reset="soft"), {}, "the soft reset: it resets to a value"),
        (replace(NEURONS["lif"], rest=0.5), {}, "the rest 0.5: it does not say where"),
        (NEURONS["lif"], {"pool": "max"}, "layer 'pool1': NIR has no maximum over places"),
    ],
)
def test_what_nir_cannot_say_is_named(neuron, options, message, tmp_path):
    plan = plan_of(few_bit_network("vgg5", neuron, **options))
    with pytest.raises(ExportError, match=message):
        write_nir(plan, tmp_path / "network.nir")
    assert list(tmp_path.iterdir()) == []

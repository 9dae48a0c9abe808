"""Neurons on a CPU beside other people's: forward and backward of one layer over T steps.

    .venv/bin/python benchmarks/peers/neurons.py [--shape 10 16 64 48 48] [--threads 1] [--rounds 7]

Every round runs each contender once, one after the other, so that all meet the same machine; ratios are of
rounds. All LIF have decay 1/2, threshold 1, a hard reset to 0 that the gradient passes, and the arctan
surrogate of slope 2; before timing, their spikes are compared. SpikingJelly is needed (set-up installs it);
snnTorch is left out where it is not installed.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec

import torch
from torch import Tensor

from snn.neurons.modules import Neuron
from snn.neurons.reference import NeuronParameters, run_lanes
from snn.neurons.settings import NEURONS, NeuronSettings

LIF = NeuronSettings(learn_threshold=False, surrogate="atan", slope=2.0)
Layer = Callable[[Tensor], Tensor]


class Atan(torch.autograd.Function):
    """A spike with the arctan surrogate of slope 2."""

    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        return grad / (1 + (torch.pi * u) ** 2)


def plain_loop(current: Tensor) -> Tensor:
    """Run LIF neurons as one writes them down first."""
    v, spikes = torch.zeros_like(current[0]), []
    for x in current.unbind(0):
        a = 0.5 * v + x
        s = Atan.apply(a - 1)
        v = (1 - s) * a
        spikes.append(s)
    return torch.stack(spikes)


def lanes(current: Tensor) -> Tensor:
    """Run one-hot M-LIF as released: a tensor of lanes, weighted and added up."""
    settings = NEURONS["mlif"]
    fired, _ = run_lanes(current, None, NeuronParameters(torch.tensor(1.0)), settings=settings)
    weights = torch.tensor(settings.lane_values, dtype=current.dtype).reshape(-1, *[1] * (current.dim() - 1))
    return (fired * weights).sum(1)


def spikingjelly() -> Layer:
    from spikingjelly.activation_based import functional, neuron, surrogate

    node = neuron.LIFNode(
        tau=2.0, decay_input=False, v_threshold=1.0, v_reset=0.0, surrogate_function=surrogate.ATan(2.0),
        detach_reset=False, step_mode="m",
    )  # fmt: skip

    def run(current: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(current)

    return run


def snntorch() -> Layer:
    import snntorch as snn
    from snntorch import surrogate

    # At its threshold a Leaky does not fire; random currents do not lie there. It resets one step late, to 0.
    leaky = snn.Leaky(beta=0.5, threshold=1.0, spike_grad=surrogate.atan(2.0), reset_mechanism="zero")

    def run(current: Tensor) -> Tensor:
        v, spikes = leaky.reset_mem(), []
        for x in current.unbind(0):
            s, v = leaky(x, v)
            spikes.append(s)
        return torch.stack(spikes)

    return run


def contenders() -> dict[str, Layer]:
    """Return every layer by name; ours first."""
    found: dict[str, Layer] = {
        "spikeline lif": Neuron(LIF),
        "spikeline lif, reference": Neuron(LIF, executor="reference"),
        "plain loop": plain_loop,
        "SpikingJelly LIFNode, multi-step": spikingjelly(),
        "spikeline mlif, 3 lanes": Neuron(NEURONS["mlif"]),
        "mlif as a tensor of 3 lanes": lanes,
        "spikeline lt": Neuron(replace(NEURONS["lt"])),
        "spikeline quantlif": Neuron(NEURONS["quantlif"]),
    }
    if find_spec("snntorch") is not None:
        found["snnTorch Leaky"] = snntorch()
    return found


def check(layers: dict[str, Layer]) -> None:
    """Stop where contenders that should agree do not."""
    current = torch.randn(4, 2, 3, 8, 8)
    groups = (
        ("spikeline lif", "spikeline lif, reference", "plain loop", "SpikingJelly LIFNode, multi-step"),
        ("spikeline mlif, 3 lanes", "mlif as a tensor of 3 lanes"),
    )
    for first, *others in groups:
        expected, grad = _with_gradient(layers[first], current)
        for name in others:
            spikes, found = _with_gradient(layers[name], current)
            torch.testing.assert_close(spikes, expected, rtol=0, atol=0)
            torch.testing.assert_close(found, grad, rtol=1e-4, atol=1e-6)


def _with_gradient(layer: Layer, current: Tensor) -> tuple[Tensor, Tensor]:
    x = current.clone().requires_grad_()
    spikes = layer(x)
    spikes.backward(torch.linspace(-1, 1, spikes.numel()).reshape(spikes.shape))
    return spikes.detach(), x.grad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs="+", default=[10, 16, 64, 48, 48])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    layers = contenders()
    check(layers)
    current = torch.randn(options.shape, requires_grad=True)
    grad = torch.randn(options.shape)
    taken: dict[str, list[float]] = {name: [] for name in layers}
    for turn in range(options.rounds + 1):
        for name, layer in layers.items():
            current.grad = None
            started = time.perf_counter()
            layer(current).backward(grad)
            # The first round compiles.
            if turn:
                taken[name].append(time.perf_counter() - started)
    for name, seconds in taken.items():
        nanoseconds = 1e9 * statistics.median(seconds) / current.numel()
        ratios = [mine / ours for mine, ours in zip(seconds, taken["spikeline lif"], strict=True)]
        print(
            f"{name:34} {nanoseconds:6.2f} ns per neuron and step, {statistics.median(ratios):5.2f} times "
            f"spikeline lif ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()

"""Time and saved memory of fused neurons on one core of a CPU, beside other packages and plain loops.

    python benchmarks/neurons_cpu.py [--core 1] [--rounds 7] [--batch 16] [--steps 10 32]

One process, one core; every round runs all contenders once, forward and backward, and ratios are medians of
the ratios of a round, since times move with whatever else the machine does. A ratio is time over that of
our LIF, so above 1 is slower. All LIF contenders compute the same neuron: current scaled by 1 - decay, tau 2,
hard reset, detached, arctangent surrogate of slope 2; snnTorch's own form of it differs.

Without the peers what is there runs. To have them, in an environment of their own:

    pip install torch --index-url https://download.pytorch.org/whl/cpu
    pip install -e . && pip install loguru && pip install --no-deps spikingjelly==2.0.0 snntorch==1.0.0
"""

import argparse
import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from snn.neurons.executors import run_neurons
from snn.neurons.reference import NeuronParameters
from snn.neurons.settings import NEURONS, NeuronSettings

# Memory that is given back and taken anew costs a page fault per 4 kB, 1.7 ns a number, and hides all else.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "40000000000"}
LIF = NeuronSettings(
    learn_threshold=False, charge="decay_input", detach_reset=True, surrogate="atan", slope=2.0
)
OURS = {
    "ours: lif": LIF,
    "ours: plif": NEURONS["plif"],
    "ours: lt": NEURONS["lt"],
    "ours: ternary membrane": NEURONS["quantlif"],
    "ours: mlif, 3 lanes": NEURONS["mlif"],
}
Contender = Callable[[Tensor], Tensor]


def ours(settings: NeuronSettings) -> Contender:
    threshold = torch.tensor(settings.threshold, requires_grad=settings.learn_threshold)
    decay = torch.tensor(settings.decay, requires_grad=True) if settings.learn_decay else None
    parameters = NeuronParameters(threshold, decay=decay)
    return lambda x: run_neurons(x, None, parameters, settings=settings, executor="numba")[0]


class Arctangent(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        return grad / (1 + (torch.pi * u).square())


def plain_loop(x: Tensor) -> Tensor:
    v, spikes = torch.zeros_like(x[0]), []
    for step in x.unbind(0):
        v = v + (step - v) / 2
        s = Arctangent.apply(v - 1.0)
        v = v * (1 - s.detach())
        spikes.append(s)
    return torch.stack(spikes)


class Lanes(torch.autograd.Function):
    """One-hot lanes, [S, B, ...], with a triangle as wide as each lane; one ends where the next starts."""

    @staticmethod
    def forward(ctx, a, lows):
        ctx.save_for_backward(a, lows)
        reached = a > lows
        ended = torch.cat([reached[1:], torch.zeros_like(reached[:1])])
        return (reached & ~ended).to(a.dtype)

    @staticmethod
    def backward(ctx, grad):
        a, lows = ctx.saved_tensors
        slopes = (1 - (a / lows - 1).abs()).clamp(min=0) / lows
        psi = grad * slopes
        psi = psi - torch.cat([torch.zeros_like(grad[:1]), grad[:-1]]) * slopes
        return psi.sum(0), None


def lanes_loop(x: Tensor) -> Tensor:
    lows = torch.tensor([1.0, 2.0, 4.0]).reshape(-1, *[1] * (x.dim() - 1))
    v, spikes = torch.zeros_like(x[0]), []
    for step in x.unbind(0):
        a = v / 2 + step
        lanes = Lanes.apply(a, lows)
        v = a * (1 - lanes.detach().sum(0))
        spikes.append((lanes * lows).sum(0))
    return torch.stack(spikes)


def spikingjelly() -> Contender:
    from spikingjelly.activation_based import functional, neuron, surrogate

    node = neuron.LIFNode(tau=2.0, detach_reset=True, surrogate_function=surrogate.ATan(), step_mode="m")

    def run(x: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(x)

    return run


def snntorch() -> Contender:
    import snntorch
    from snntorch import surrogate

    cell = snntorch.Leaky(beta=0.5, reset_mechanism="zero", spike_grad=surrogate.atan(alpha=2.0))

    def run(x: Tensor) -> Tensor:
        membrane, spikes = torch.zeros_like(x[0]), []
        for step in x.unbind(0):
            s, membrane = cell(step, membrane)
            spikes.append(s)
        return torch.stack(spikes)

    return run


def contenders() -> dict[str, Contender]:
    found: dict[str, Contender] = {name: ours(settings) for name, settings in OURS.items()}
    found["plain loop: lif"] = plain_loop
    found["plain loop: mlif, 3 lanes"] = lanes_loop
    for name, package, build in (
        ("SpikingJelly multi-step", "spikingjelly", spikingjelly),
        ("snnTorch Leaky", "snntorch", snntorch),
    ):
        if importlib.util.find_spec(package) is None:
            print(f"{package} is not installed; how is said at the top of benchmarks/neurons_cpu.py")
        else:
            found[name] = build()
    return found


def saved_bytes(run: Contender, x: Tensor) -> float:
    """Return what is kept for the backward beside the spikes handed on, in bytes per neuron and step."""
    kept: dict[tuple[int, int], int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()] = 0
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        spikes = run(x)
    del spikes
    return sum(nbytes for _, nbytes in kept) / x.numel()


def compare(steps: int, batch: int, rounds: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(steps, batch, 64, 48, 48, requires_grad=True)
    grad, runs = torch.randn_like(x), contenders()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    saved = {name: saved_bytes(run, x) for name, run in runs.items()}
    for round_number in range(rounds + 1):
        for name, run in runs.items():
            x.grad = None
            start = time.perf_counter()
            run(x).backward(grad)
            # The first round compiles and takes memory.
            if round_number:
                seconds[name].append(time.perf_counter() - start)
    print(f"\n[{steps}, {batch}, 64, 48, 48] float32, forward and backward")
    print(f"{'':28}{'ns/neuron-step':>15}{'ratio':>8}{'saved B':>9}")
    for name, times in seconds.items():
        ratios = [a / b for a, b in zip(times, seconds["ours: lif"], strict=True)]
        each = statistics.median(times) / x.numel() * 1e9
        print(f"{name:28}{each:15.2f}{statistics.median(ratios):8.2f}{saved[name]:9.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 32])
    options = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):
        # The allocator reads them when a program starts.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})
    os.sched_setaffinity(0, {options.core})
    torch.set_num_threads(1)
    for steps in options.steps:
        compare(steps, options.batch, options.rounds)


if __name__ == "__main__":
    main()

"""Time of neurons and of training steps on a CPU, by executor, in turns.

python benchmarks/neuron_step.py [--threads 1] [--rounds 9] [--networks vgg5:1 vggsnn:0.5] [--neuron lt]

Every round runs each variant once, so that whatever else the machine does hits all of them; figures are
medians, and ratios medians of the ratios within a round.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch

from snn.losses import tet_loss
from snn.models.registry import ModelSettings, build_model
from snn.neurons.modules import Neuron
from snn.neurons.settings import NEURONS, NeuronSettings, published

KINDS = {
    "lif": published("lif"),
    "lt": NeuronSettings(),
    "lt, reset detached": NeuronSettings(detach_reset=True),
    "published lt": published("lt"),
    "published lt_june_2022": published("lt_june_2022"),
    "quantlif": NEURONS["quantlif"],
    "mlif": NEURONS["mlif"],
}
NETWORKS = ("vgg5:1", "vggsnn:0.5")
# What a network is trained with: the executor of its neurons, and whether spikes are packed.
VARIANTS = {"reference": ("reference", False), "fused": ("auto", False), "fused, packed": ("auto", True)}

Step = Callable[[], None]


def in_turns(steps: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    """Seconds of each step in each round, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if round_ > 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: list[float], to: list[float]) -> float:
    return median(a / b for a, b in zip(seconds, to, strict=True))


def time_neurons(rounds: int) -> None:
    current = torch.randn(5, 32, 16, 34, 34, requires_grad=True)
    grad = torch.randn_like(current)
    print("forward and backward, ns per neuron and step: plain torch, fused, ratio")
    for name, settings in KINDS.items():
        steps = {}
        for executor in ("reference", "auto"):
            neuron = Neuron(settings, executor=executor)
            steps[executor] = lambda neuron=neuron: neuron(current).backward(grad)
        seconds = in_turns(steps, rounds)
        plain, fused = (median(times) * 1e9 / current.numel() for times in seconds.values())
        print(f"{name:24} {plain:6.1f} {fused:6.1f} {ratio(seconds['reference'], seconds['auto']):6.2f}x")


def training_step(name: str, width: float, neuron: NeuronSettings, executor: str, pack_spikes: bool) -> Step:
    torch.manual_seed(0)
    frames, labels = (torch.rand(5, 32, 2, 34, 34) < 0.1).float(), torch.arange(32) % 10
    settings = ModelSettings(name, width=width, neuron=neuron, executor=executor, pack_spikes=pack_spikes)
    model = build_model(settings, input_hw=(34, 34), classes=10)

    def step() -> None:
        model.zero_grad()
        tet_loss(model(frames), labels, weight=0.05, target=1.0).backward()

    return step


def bytes_kept(step: Step) -> int:
    """Bytes that one step keeps for its backward pass, each tensor counted once."""
    kept = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(kept.values())


def time_networks(networks: list[str], neuron: NeuronSettings, rounds: int) -> None:
    print("\ntraining step, frames [5, 32, 2, 34, 34]: ms, times the first, MB kept for backward")
    for network in networks:
        name, _, width = network.partition(":")
        steps = {
            variant: training_step(name, float(width or 1), neuron, *options)
            for variant, options in VARIANTS.items()
        }
        seconds = in_turns(steps, rounds)
        for variant, times in seconds.items():
            share, kept = ratio(times, seconds["reference"]), bytes_kept(steps[variant]) / 1e6
            print(f"{network:12} {variant:14} {median(times) * 1e3:7.0f} {share:6.2f} {kept:7.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--networks", nargs="*", default=NETWORKS)
    parser.add_argument("--neuron", choices=NEURONS, default="lt")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    time_neurons(options.rounds)
    time_networks(options.networks, NEURONS[options.neuron], options.rounds)


if __name__ == "__main__":
    main()

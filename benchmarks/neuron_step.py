"""Time of neurons and of training steps on a CPU: the last section of docs/neurons.md.

python benchmarks/neuron_step.py [--threads 1] [--repeats 9]
"""

import argparse
import time
from collections.abc import Callable

import torch

from snn.losses import tet_loss
from snn.models.registry import ModelSettings, build_model
from snn.neurons.modules import Neuron
from snn.neurons.settings import NeuronSettings, published

NEURONS = {
    "lif": published("lif"),
    "lt": NeuronSettings(),
    "lt, reset detached": NeuronSettings(detach_reset=True),
    "published lt": published("lt"),
    "published lt_june_2022": published("lt_june_2022"),
}
NETWORKS = (("vgg5", 1.0), ("vgg7", 0.5), ("vgg9", 0.5), ("vggsnn", 0.5))


def best_seconds(step: Callable[[], None], repeats: int) -> float:
    step()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times)


def time_neurons(repeats: int) -> None:
    current = torch.randn(5, 32, 16, 34, 34, requires_grad=True)
    grad = torch.randn_like(current)
    for name, settings in NEURONS.items():
        neuron = Neuron(settings)
        seconds = best_seconds(lambda n=neuron: n(current).backward(grad), repeats)
        print(f"{name:24} {seconds * 1e9 / current.numel():6.1f} ns per neuron and step")


def time_networks(repeats: int) -> None:
    frames, labels = (torch.rand(5, 32, 2, 34, 34) < 0.1).float(), torch.arange(32) % 10
    for name, width in NETWORKS:
        for layout in (torch.contiguous_format, torch.channels_last):
            model = build_model(ModelSettings(name, width=width), input_hw=(34, 34), classes=10)
            model = model.to(memory_format=layout)

            def step(model: torch.nn.Module = model) -> None:
                model.zero_grad()
                tet_loss(model(frames), labels, weight=0.05, target=1.0).backward()

            print(f"{name:8} width {width:g} {layout!s:24} {best_seconds(step, repeats) * 1e3:6.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    time_neurons(options.repeats)
    time_networks(options.repeats)


if __name__ == "__main__":
    main()

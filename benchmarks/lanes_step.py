"""A training step of a network with M-LIF neurons of several lanes beside one of one lane, on one CPU core.

    taskset -c 0 python benchmarks/lanes_step.py [--lanes 4] [--width 0.25] [--pairs 3] [--rounds 3]

Both have the same weights and parameters and are given the same recording: events of 2 x 48 x 48 pixels, of
which the network of several lanes sees powers of two and the other whether there was any. A step is forward,
loss, backward and Adam. Steps are taken in turns, in pairs; the ratio of a round is the median of its pairs'.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from snn.losses import tet_loss
from snn.models.registry import ModelSettings, build_model
from snn.neurons.settings import NEURONS

STEPS, BATCH, SENSOR_HW = 3, 16, (48, 48)
# Share of pixels with events in a frame.
ACTIVE = 0.1


def make_step(lanes: int, width: float, frames: Tensor) -> Callable[[], float]:
    """Return a function that takes a training step and returns its seconds."""
    torch.manual_seed(0)
    settings = ModelSettings("vggsnn", width=width, neuron=replace(NEURONS["mlif"], lanes=lanes))
    model = build_model(settings, input_hw=SENSOR_HW, classes=10).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    labels = torch.arange(BATCH) % 10

    def step() -> float:
        start = time.perf_counter()
        optimizer.zero_grad()
        tet_loss(model(frames), labels, weight=1e-3, target=1.0).backward()
        optimizer.step()
        return time.perf_counter() - start

    return step


def machine() -> str:
    """Return the processor, the cores this process may use, what else runs, and versions."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    cores = f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} cores"
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{(names or [platform.machine()])[0]}, {cores}, load {load}; {versions}"


def main() -> None:
    """Time both in turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lanes", type=int, default=4)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(1)
    shape = (STEPS, BATCH, 2, *SENSOR_HW)
    active = torch.rand(shape, generator=draw) < ACTIVE
    levels = torch.where(active, 2.0 ** torch.randint(options.lanes, shape, generator=draw), 0.0)
    many, one = (
        make_step(lanes, options.width, frames)
        for lanes, frames in ((options.lanes, levels), (1, active.float()))
    )
    print(machine())
    # Kernels are compiled or read, and memory is taken, before anything counts.
    many(), one()
    ratios = []
    for number in range(1, options.rounds + 1):
        pairs = [(many(), one()) for _ in range(options.pairs)]
        ratios.append(median(a / b for a, b in pairs))
        several, single = (1e3 * median(times) for times in zip(*pairs, strict=True))
        print(f"round {number}: {several:.0f} ms to {single:.0f} ms, ratio {ratios[-1]:.3f}")
    whole = f"{median(ratios):.3f}, rounds {min(ratios):.3f} to {max(ratios):.3f}"
    print(f"a step with {options.lanes} lanes, over one with 1 lane: {whole}")


if __name__ == "__main__":
    main()

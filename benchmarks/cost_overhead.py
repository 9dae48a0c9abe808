"""Time that counting operations adds to an evaluation pass.

    .venv/bin/python benchmarks/cost_overhead.py [--model vgg9 ...] [--width 1] [--size 48] [--batch 4]

Passes with and without counting take turns, so that what else the machine does falls on both alike; the
ratio is that of the fastest, and of the medians. Claim: counting adds at most 10 % to a pass.
"""

import argparse
import json
import statistics
import time
from contextlib import nullcontext

import torch

from snn.cost.counter import count_operations
from snn.models.registry import MODELS, ModelSettings, build_model
from snn.neurons.settings import NEURONS


def seconds(
    model: torch.nn.Module, frames: torch.Tensor, *, batches: int, counted: bool
) -> tuple[float, float]:
    """Return a pass by the clock that says something, and by that of the wall."""
    # On one thread of a busy machine, only the time of the process itself does.
    clock = time.perf_counter if frames.is_cuda else time.process_time
    started, wall = clock(), time.perf_counter()
    with count_operations(model) if counted else nullcontext():
        for _ in range(batches):
            model(frames)
    if frames.is_cuda:
        torch.cuda.synchronize()
    return clock() - started, time.perf_counter() - wall


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["vgg9", "mobilenet", "resnet19"], choices=list(MODELS))
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--batches", type=int, default=4, help="of a pass")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    for name in options.model:
        settings = ModelSettings(name, width=options.width, neuron=NEURONS["lt"], pool="max")
        model = build_model(settings, input_hw=(options.size, options.size), classes=10)
        model = model.eval().to(options.device)
        shape = (options.steps, options.batch, 2, options.size, options.size)
        frames = torch.poisson(torch.full(shape, 0.3)).to(options.device)
        taken: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for round_number in range(options.rounds + 1):
            for counted in (False, True):
                passed = seconds(model, frames, batches=options.batches, counted=counted)
                # The first round compiles.
                if round_number:
                    taken[counted].append(passed)
        plain, counting = (list(zip(*taken[counted], strict=True)) for counted in (False, True))
        fastest, middle = (pick(counting[0]) / pick(plain[0]) for pick in (min, statistics.median))
        found = {
            "model": name,
            "pass_s": round(min(plain[0]), 4),
            "overhead_fastest": round(fastest - 1, 4),
            "overhead_median": round(middle - 1, 4),
            "overhead_fastest_by_the_wall": round(min(counting[1]) / min(plain[1]) - 1, 4),
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()

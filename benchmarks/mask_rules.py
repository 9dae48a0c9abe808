"""Whether better decisions would make learned masks better than a fixed random half of the channels.

    python benchmarks/mask_rules.py FOLDER [--seeds 3] [--epochs 30] [--width 0.25]

Trains the network of `pipelines run classify digits` with half of the channels kept by several rules.
`hindsight` keeps what the predictor is taught to keep, the most active half, which it can only know once
everything is computed: no predictor can do better by that rule. `passed on` hands the gradient to what was
left out, too, as if it had been kept, and the predictor learns from the task. A second call goes on where
the first was stopped.
"""

import argparse
import contextlib
import io
import json
import statistics
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor, nn

from pipelines.cli import app
from snn.layers import Gated, convolve, let_through
from snn.sparsity.gates import ChannelPredictor
from snn.sparsity.targets import mean_after_norm, prune_fraction, shares


class Hindsight(ChannelPredictor):
    """Keeps its own target, for every step on its own."""

    def forward(
        self, x: Tensor, conv: nn.Conv2d, norm: nn.Module, *, book: tuple[float, ...] | None = None
    ) -> Gated:
        """Run the convolution and decide by what it gave."""
        y, warm = convolve(x, conv, book), self.warm()
        kept = self.settled(self.target(y, norm), warm)
        return Gated(y, kept, kept, None)


class HindsightOfSamples(Hindsight):
    """Keeps, for all steps of a sample, the channels that are the most active over all of them."""

    def target(self, y: Tensor, norm: nn.Module) -> Tensor:
        """Return which channels are to be kept, shape [T, B, C]."""
        scores = shares(mean_after_norm(y.flatten(0, 1), norm)).unflatten(0, y.shape[:2]).mean(dim=0)
        return prune_fraction(scores, self.settings.share).expand(len(y), -1, -1).contiguous()


class PassedOn(ChannelPredictor):
    """Its mask is of places, so that `pass_on` has it."""

    def forward(
        self, x: Tensor, conv: nn.Conv2d, norm: nn.Module, *, book: tuple[float, ...] | None = None
    ) -> Gated:
        """Run the convolution and decide by channel."""
        gated = super().forward(x, conv, norm, book=book)
        return gated._replace(mask=gated.kept[..., None, None])


def pass_on(current: Tensor, mask: Tensor | None) -> Tensor:
    """Return the current times the mask, with the gradient of a current that no mask holds back."""
    return let_through(current.detach(), mask) + (current - current.detach())


TASK = ["--set", "model.sparsity.learn_from_task=true", "--set", "model.sparsity.loss_weight=0.1"]
# Name of the rule: the gate, what currents go through, and options.
RULES = {
    "fixed": (ChannelPredictor, let_through, ["--set", "model.sparsity.random=fixed"]),
    "drawn": (ChannelPredictor, let_through, ["--set", "model.sparsity.random=drawn"]),
    "learned": (ChannelPredictor, let_through, []),
    "learned, from the task too": (ChannelPredictor, let_through, TASK),
    "learned, passed on": (PassedOn, pass_on, TASK),
    "hindsight": (Hindsight, let_through, []),
    "hindsight, steps alike": (HindsightOfSamples, let_through, []),
}


def accuracy(rule: str, seed: int, arguments: argparse.Namespace) -> float:
    """Return the test accuracy of a run, made now or before."""
    path = arguments.folder / f"{rule.replace(', ', '-').replace(' ', '-')}-{seed}"
    gate, through, options = RULES[rule]
    if not (path / "results.json").is_file():
        words = ["run", "classify", "digits", "--neuron", "lt", "--json", "--out", str(path), *options]
        words += ["--seed", str(seed), "--width", str(arguments.width)]
        settings = {
            "data.folder": arguments.folder / "data",
            "data.split": "random:0:0.7",
            "training.epochs": arguments.epochs,
            "model.sparsity.kind": "channel_predictor",
            "model.sparsity.target": "prune_fraction",
        }
        words += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        with (
            patch("snn.sparsity.apply.ChannelPredictor", gate),
            patch("snn.layers.let_through", through),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            app(words, standalone_mode=False)
    return float(json.loads((path / "results.json").read_text())["test"]["accuracy"])


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--rules", default=";".join(RULES), help="separated by semicolons")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| half of the channels | test accuracy | of seeds |\n|---|---|---|")
    for rule in arguments.rules.split(";"):
        found = [100 * accuracy(rule, seed, arguments) for seed in range(arguments.seeds)]
        mean, spread = statistics.mean(found), statistics.stdev(found) if len(found) > 1 else 0.0
        print(
            f"| {rule} | {mean:.1f} ± {spread:.1f} % | {', '.join(f'{x:.1f}' for x in found)} |", flush=True
        )


if __name__ == "__main__":
    main()

"""What learned thresholds, few bits, masks and lanes do to accuracy: several seeds of small runs.

    python benchmarks/results.py FOLDER [--nmnist RECORDINGS] [--seeds 3] [--only digits/vgg5]

Runs `pipelines run classify` for every network, variant and seed, and keeps the runs in FOLDER: a second call
goes on where the first was stopped. Then prints one table for each network: mean and standard deviation of
the test accuracy over the seeds, and of the first seed what a sample costs, as `snn.cost` counts it. Digits
are scikit-learn's before the simulated sensor, 30 % of them for testing; N-MNIST is a folder of its
recordings.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

DIGITS = [
    "digits",
    *("--set", "data.split=random:0:0.7"),
    *("--set", "training.epochs=10"),
]
NMNIST = ["nmnist", "--dataset", "nmnist", "--set", "training.epochs=10"]

# What makes a step of a deep network short.
SMALL_FRAMES = [
    *("--set", "data.binning.frames=3"),
    *("--set", "data.binning.size_hw=[16,16]"),
    *("--set", "training.batch_size=25"),
    *("--set", "training.epochs=40"),
]

# Name of the network: its data and what makes it small. `levels` is `vgg5` once more.
NETWORKS: dict[str, list[str]] = {
    "digits/vgg5": DIGITS,
    "nmnist/vgg5": NMNIST,
    "digits/levels": DIGITS,
    "nmnist/levels": NMNIST,
    "digits/mobilenet": [*DIGITS, "--model", "mobilenet", "--width", "0.5", "--set", "training.epochs=30"],
    "digits/resnet19": [*DIGITS, "--model", "resnet19", "--width", "0.25", *SMALL_FRAMES],
}

HALF = ["--set", "model.sparsity.kind=channel_predictor", "--set", "model.sparsity.target=prune_fraction"]

# Name of the variant: what it changes.
VARIANTS: dict[str, list[str]] = {
    "fixed threshold": ["--neuron", "lif"],
    "learned threshold": ["--neuron", "lt"],
    "ternary membrane": ["--neuron", "lt", "--membrane", "ternary"],
    "2-bit weights, ternary membrane": ["--neuron", "lt", "--weights", "2", "--membrane", "ternary"],
    "learned masks, 50 % kept": ["--neuron", "lt", *HALF],
    "random masks, 50 % kept": ["--neuron", "lt", *HALF, "--set", "model.sparsity.random=fixed"],
    "drawn masks, 50 % kept": ["--neuron", "lt", *HALF, "--set", "model.sparsity.random=drawn"],
}


def lanes(count: int) -> list[str]:
    """Return the options of multi-level frames and neurons of so many lanes."""
    frames = ["--set", "data.binning.frames=3", "--set", f"data.binning.levels={count}"]
    return [*frames, "--neuron", "mlif", "--set", f"model.neuron.lanes={count}"]


BINARY = ["--neuron", "lif", "--set", "data.binning.value=binary"]
LEVELS: dict[str, list[str]] = {
    "LIF, 3 binary frames": [*BINARY, "--set", "data.binning.frames=3"],
    "LIF, 10 binary frames": [*BINARY, "--set", "data.binning.frames=10"],
    "LIF, 3 frames of counts": ["--neuron", "lif", "--set", "data.binning.frames=3"],
    "M-LIF, 3 frames of 3 levels": lanes(3),
    "the same, upper edge added": [*lanes(3), "--set", "model.neuron.upper_edge=add"],
    "M-LIF, 3 frames of 4 levels": lanes(4),
}


def variants(network: str) -> dict[str, list[str]]:
    """Return the variants that a network's table compares."""
    return LEVELS if network.endswith("/levels") else VARIANTS


def pipelines(*arguments: str) -> dict[str, Any]:
    """Run the program and return the JSON it prints."""
    command = [sys.executable, "-m", "pipelines", *arguments, "--json"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def run(folder: Path, network: str, variant: str, seed: int, recordings: Path | None) -> dict[str, Any]:
    """Return the results of a run, made now or before."""
    words = "-".join([*network.split("/"), *variant.replace("%", "").replace(",", "").split(), str(seed)])
    path = folder / words
    if not (path / "results.json").is_file():
        arguments = [*NETWORKS[network], *variants(network)[variant], "--seed", str(seed), "--out", str(path)]
        arguments += ["--set", f"data.folder={folder / 'data'}"]
        arguments += ["--data", str(recordings)] if network.startswith("nmnist") else []
        began = ["--resume", str(path)] if (path / "checkpoints" / "last.pt").is_file() else arguments
        pipelines("run", "classify", *began)
    return json.loads((path / "results.json").read_text()) | {"run": str(path)}


def table(network: str, results: dict[str, list[dict[str, Any]]]) -> str:
    """Return the rows of a network as Markdown."""
    lines = [
        f"\n{network}\n",
        "| | test accuracy | of seeds | weights, kB | membranes, kB | operations | energy, nJ |",
        "|---|---|---|---|---|---|---|",
    ]
    for variant, runs in results.items():
        accuracies = [100 * one["test"]["accuracy"] for one in runs]
        deviation = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
        cost = runs[0]["test"]["cost"]["totals"]
        cells = [
            variant,
            f"{statistics.mean(accuracies):.1f} ± {deviation:.1f} %",
            ", ".join(f"{accuracy:.1f}" for accuracy in accuracies),
            f"{cost['weight_bytes'] / 1e3:.1f}",
            f"{cost['membrane_bytes'] / 1e3:.1f}",
            f"{cost['effective'] / 1e6:.2f} M",
            f"{cost['energy_pj'] / 1e3:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--nmnist", type=Path, help="folder of N-MNIST recordings; without it they are left out"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", help="networks, separated by commas; all if left out")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",") if arguments.only else list(NETWORKS)
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for network in wanted:
        if network.startswith("nmnist") and arguments.nmnist is None:
            continue
        for seed in range(arguments.seeds):
            for variant in variants(network):
                result = run(arguments.folder, network, variant, seed, arguments.nmnist)
                found.setdefault(network, {}).setdefault(variant, []).append(result)
                load = os.getloadavg()[0]
                print(f"{network}, {variant}, seed {seed}: {result['test']['accuracy']:.1%}, load {load:.1f}")
    for network, results in found.items():
        print(table(network, results))


if __name__ == "__main__":
    main()

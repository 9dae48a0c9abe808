"""Test accuracy and time of `pipelines run classify nmnist` on N-MNIST recordings, over several seeds.

    python benchmarks/nmnist.py PATH_TO_RECORDINGS [--seeds 3]

Each seed is one run of the program from the recordings on: convert, train, choose the best epoch on
validation samples of the training split, test once. Time is wall-clock time of the whole program.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def run_seed(recordings: Path, seed: int, folder: Path) -> tuple[float, float, float]:
    """Return test accuracy, validation accuracy of the chosen epoch, and seconds."""
    program = Path(sys.executable).parent / "pipelines"
    command = [program, "run", "classify", "nmnist", "--data", recordings, "--dataset", "nmnist"]
    command += ["--seed", str(seed), "--out", folder / "run", "--json"]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.perf_counter() - began
    result = json.loads(done.stdout)
    return result["test"]["accuracy"], result["validation_accuracy"], seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    accuracies = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            test, validation, seconds = run_seed(arguments.recordings.resolve(), seed, Path(folder))
        accuracies.append(test)
        load = os.getloadavg()[0]
        print(f"seed {seed}: test {test:.1%}, validation {validation:.1%}, {seconds:.0f} s, load {load:.1f}")
    print(f"mean of {len(accuracies)} seeds: test {statistics.mean(accuracies):.2%}")


if __name__ == "__main__":
    main()

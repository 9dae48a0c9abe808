"""Seconds until `events --help` and `pipelines --help` have answered: a new process each time.

    .venv/bin/python benchmarks/start_up.py

Claim: `events --help` takes less than 0.4 s.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 15


def seconds(command: list[str | Path]) -> float:
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def main() -> None:
    programs = ("events", "pipelines")
    commands = {name: [Path(sys.executable).parent / name, "--help"] for name in programs}
    commands["python alone"] = [sys.executable, "-c", ""]
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            taken[name].append(seconds(command))
    for name, values in taken.items():
        print(f"{name:14} median {statistics.median(values):.3f} s, {min(values):.3f} to {max(values):.3f} s")


if __name__ == "__main__":
    main()

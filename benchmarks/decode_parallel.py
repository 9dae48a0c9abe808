"""Whether two workers decode two recordings in the time of one, in threads and in processes.

    taskset -c 0,1 .venv/bin/python benchmarks/decode_parallel.py

Each worker reads its own file in chunks, in memory used again. A ratio is the wall time of one worker that
reads both files, one after the other, by that of two workers that read one each; the best of the rounds of
each, for whatever else the machine does only ever takes time away. The decoding loops hold no lock of
Python's, so threads should do as well as processes.
Claim: at least 1.8. `spin` is what this machine gives two processes that only count: no reader can do better.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from decode_formats import CASES, uniform

from events.readers.registry import open_recording
from events.writers.registry import write_recording

CLAIM = 1.8
CHUNK = 1 << 17
SPINS = 8_000_000


def decode(path: Path) -> int:
    """Read a recording; return its events."""
    return sum(len(chunk) for chunk in open_recording(path).chunks(count=CHUNK))


def spin(_path: Path) -> int:
    """Count, in Python, without memory or files."""
    count = 0
    while count < SPINS:
        count += 1
    return count


def seconds(run: Callable[[], object]) -> float:
    """Return how long a run takes, wall time."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def gain(pool: Executor, work: Callable[[Path], int], paths: list[Path], rounds: int) -> float:
    """Return how much sooner two workers are done with two files than one; both in every round."""
    list(pool.map(work, paths))  # imports, compiles, fills the page cache
    one, two = [], []
    for _ in range(rounds):
        one.append(seconds(lambda: [pool.submit(work, path).result() for path in paths]))
        two.append(seconds(lambda: list(pool.map(work, paths))))
    return min(one) / min(two)


def main() -> None:
    """Run the cases asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--formats", default=",".join(CASES), help="cases of decode_formats.py")
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    processes = ProcessPoolExecutor(2, mp_context=get_context("forkserver"))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as threads, processes:
        print("| case | threads | processes | |\n|---|---|---|---|")
        print(f"| spin | | {gain(processes, spin, [Path(), Path()], arguments.rounds):.2f} | |")
        for case in arguments.formats.split(","):
            format_name, sensor_hw, suffix, details = CASES[case]
            paths = [Path(folder) / f"{number}{suffix}" for number in range(2)]
            for path in paths:
                events = uniform(arguments.events, sensor_hw)
                write_recording(path, events, format=format_name, sensor_hw=sensor_hw, **details)
            gains = [gain(pool, decode, paths, arguments.rounds) for pool in (threads, processes)]
            verdict = "met" if min(gains) >= CLAIM else "**missed**"
            print(f"| {case} | {gains[0]:.2f} | {gains[1]:.2f} | {verdict} |", flush=True)


if __name__ == "__main__":
    main()

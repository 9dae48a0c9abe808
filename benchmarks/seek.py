"""How long it takes to reach the middle of a recording: the first time, and with the index there is then.

    .venv/bin/python benchmarks/seek.py --events 20 --peers PEERS/site-packages

One core, files in the page cache, written by our own writers. Timed is opening, and reading the events
of 10 ms in the middle; evutils, if installed, does the same with `seek(t=...)` and one `read`. Ours returns
every event of the range wherever it lies in the file, and the report of the whole file; evutils searches for
the place, and relies on times in order. Each is given a first and a second range, both in every round.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from decode_formats import uniform

from events.readers.registry import open_recording
from events.writers.registry import write_recording

SENSOR_HW = (720, 1280)
WINDOW_US = 10_000
SUFFIXES = {
    "dat": ".dat",
    "evt2": ".raw",
    "evt21": ".raw",
    "evt3": ".raw",
    "aedat2": ".aedat",
    "aedat4": ".aedat4",
}


def ours(path: Path, starts_us: list[int]) -> tuple[list[int], list[float]]:
    """Return how many events each range has and the seconds each took, the first with opening."""
    counts, seconds = [], []
    began = time.process_time()
    recording = open_recording(path)
    for start_us in starts_us:
        counts.append(sum(map(len, recording.chunks(start_us=start_us, stop_us=start_us + WINDOW_US))))
        seconds.append(time.process_time() - began)
        began = time.process_time()
    return counts, seconds


def evutils(path: Path, starts_us: list[int]) -> tuple[list[int], list[float]]:
    """Do the same with evutils."""
    from evutils.io import EventReader

    counts, seconds = [], []
    began = time.process_time()
    reader = EventReader(str(path), delta_t=WINDOW_US)
    for start_us in starts_us:
        reader.seek(t=start_us)
        counts.append(len(reader.read()))
        seconds.append(time.process_time() - began)
        began = time.process_time()
    return counts, seconds


def run_format(name: str, n: int, rounds: int, folder: Path) -> None:
    """Write a file, seek in it with every package and print the medians."""
    events = uniform(n, (128, 128) if name == "aedat2" else SENSOR_HW)
    path = folder / f"{name}{SUFFIXES[name]}"
    write_recording(path, events, format=name, sensor_hw=(128, 128) if name == "aedat2" else SENSOR_HW)
    starts_us = [n // 2, n // 3]
    t = events["t"]
    expected = [int(np.count_nonzero((t >= start) & (t < start + WINDOW_US))) for start in starts_us]
    timed: dict[str, list[list[float]]] = {}
    readers: dict[str, Callable[[Path, list[int]], tuple[list[int], list[float]]]] = {
        "ours": ours,
        "evutils": evutils,
    }
    for _ in range(rounds + 1):
        for package, reader in readers.items():
            try:
                counts, seconds = reader(path, starts_us)
            except ModuleNotFoundError:
                continue
            except Exception as error:  # noqa: BLE001 - whatever a peer raises is its answer
                counts, seconds = [f"{type(error).__name__}: {error}"], []
            if counts == expected:
                timed.setdefault(package, []).append(seconds)
            else:
                print(f"    {package}: wrong: {counts}, expected {expected} events")
    for package, rows in timed.items():
        first, second = np.median(np.array(rows[1:]), axis=0) * 1000
        print(f"{name}: {package}: first {first:.2f} ms, second {second:.3f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--formats", default="dat,evt3", help=f"of {', '.join(SUFFIXES)}")
    parser.add_argument("--events", type=float, default=20, help="millions of events in a file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=Path, help="site-packages of other packages")
    arguments = parser.parse_args()
    if arguments.peers is not None:
        sys.path.append(str(arguments.peers))
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.formats.split(","):
            run_format(name, int(arguments.events * 1e6), arguments.rounds, Path(folder))


if __name__ == "__main__":
    main()

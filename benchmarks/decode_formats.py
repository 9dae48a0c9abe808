"""How fast each format's reader decodes, beside other packages that are installed.

    .venv/bin/python benchmarks/decode_formats.py --formats dat,evt2 --peers PEERS/site-packages

One core, files in the page cache, written by our own writers: uniform addresses, times in order, and for
formats with vectors a second file of rows (`evt3:rows`). Interleaved rounds: every round runs all readers
once, and a ratio is the median over rounds of a reader's CPU time by ours. Peers that are not installed are
left out; one that does not return as many events as were written is named as wrong. Only the number is
compared: expelliarmus 1.1.12 gives the right number of EVT 3 events with wrong times.
A format is a line of `CASES`, a peer's reader a line of `PEERS`.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from events.readers.registry import open_recording
from events.recording import EVENT_DTYPE, EventBuffer
from events.writers.registry import write_recording

# Name of the case: format, height and width, file suffix that peers ask for.
CASES: dict[str, tuple[str, tuple[int, int], str]] = {
    "dat": ("dat", (720, 1280), ".dat"),
    "evt2": ("evt2", (720, 1280), ".raw"),
    "evt21": ("evt21", (720, 1280), ".raw"),
    "evt21:rows": ("evt21", (720, 1280), ".raw"),
    "evt3": ("evt3", (720, 1280), ".raw"),
    "evt3:rows": ("evt3", (720, 1280), ".raw"),
    "aedat3": ("aedat3", (480, 640), ".aedat"),
    "aedat4": ("aedat4", (480, 640), ".aedat4"),
}


def expelliarmus(path: Path, format_name: str) -> int:
    """Decode with expelliarmus."""
    from expelliarmus import Wizard

    return len(Wizard(encoding=format_name).read(str(path)))


def faery(path: Path, format_name: str) -> int:
    """Decode with faery."""
    from faery import events_stream_from_file

    return sum(len(packet) for packet in events_stream_from_file(path))


def aedat(path: Path, format_name: str) -> int:
    """Decode with the package aedat."""
    from aedat import Decoder

    return sum(len(packet["events"]) for packet in Decoder(path) if "events" in packet)


# Name of a package: what decodes a file with it and returns the number of events, and the formats it reads.
PEERS: dict[str, tuple[Callable[[Path, str], int], tuple[str, ...]]] = {
    "expelliarmus": (expelliarmus, ("dat", "evt2", "evt3")),
    "faery": (faery, ("aedat4",)),
    "aedat": (aedat, ("aedat4",)),
}


def uniform(n: int, sensor_hw: tuple[int, int]) -> np.ndarray:
    """Return n events anywhere, one a microsecond on average."""
    rng = np.random.default_rng(0)
    events = np.zeros(n, EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(0, n, n))
    events["x"] = rng.integers(0, sensor_hw[1], n)
    events["y"] = rng.integers(0, sensor_hw[0], n)
    events["p"] = rng.integers(0, 2, n)
    return events


def rows(n: int, sensor_hw: tuple[int, int]) -> np.ndarray:
    """Return n events in rows of eight among 24 columns, at one time and with one polarity."""
    rng = np.random.default_rng(0)
    count = -(-n // 8)
    events = np.zeros(8 * count, EVENT_DTYPE)
    columns = np.sort(rng.permuted(np.tile(np.arange(24), (count, 1)), axis=1)[:, :8], axis=1)
    events["t"] = np.repeat(np.arange(count) * 8, 8)
    events["x"] = (columns + rng.integers(0, sensor_hw[1] - 24, count)[:, None]).ravel()
    events["y"] = np.repeat(rng.integers(0, sensor_hw[0], count), 8)
    events["p"] = np.repeat(rng.integers(0, 2, count), 8)
    return events[:n]


def readers_of(path: Path, format_name: str) -> dict[str, Callable[[], int]]:
    """Return what decodes the file and returns the number of events, by name; ours first."""
    buffer = EventBuffer()
    readers: dict[str, Callable[[], int]] = {
        "ours, read_into": lambda: len(open_recording(path).read_into(buffer)),
        "ours, chunks": lambda: sum(len(chunk) for chunk in open_recording(path).chunks(count=1 << 17)),
    }
    for name, (decode, formats) in PEERS.items():
        if format_name in formats:
            readers[name] = lambda decode=decode: decode(path, format_name)
    return readers


def first_answers(readers: dict[str, Callable[[], int]], expected: int) -> dict[str, Callable[[], int]]:
    """Run every reader once, compiling and filling caches; return those whose answer is right."""
    right = {}
    for name, reader in readers.items():
        try:
            found: Any = reader()
        except ModuleNotFoundError:
            continue
        except Exception as error:  # noqa: BLE001 - whatever a peer raises is its answer
            found = f"{type(error).__name__}: {error}"
        if found == expected:
            right[name] = reader
        else:
            print(f"    {name}: wrong: {str(found)[:80]}, expected {expected} events")
    return right


def time_rounds(readers: dict[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Return the CPU seconds of each reader in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(rounds):
        for name, reader in readers.items():
            start = time.process_time()
            reader()
            seconds[name].append(time.process_time() - start)
    return seconds


def run_case(case: str, n: int, rounds: int, folder: Path) -> None:
    """Write a file, time all readers of it and print the results."""
    format_name, sensor_hw, suffix = CASES[case]
    events = (rows if case.endswith(":rows") else uniform)(n, sensor_hw)
    path = folder / f"recording{suffix}"
    write_recording(path, events, format=format_name, sensor_hw=sensor_hw)
    print(f"{case}: {n} events, {path.stat().st_size / n:.2f} bytes each")
    seconds = time_rounds(first_answers(readers_of(path, format_name), n), rounds)
    ours = np.array(next(iter(seconds.values())))
    for name, times in seconds.items():
        speed, best = n / np.median(times) / 1e6, n / min(times) / 1e6
        ratio = np.median(np.array(times) / ours)
        print(f"    {name:20} {speed:7.1f} M events/s (best {best:.1f}), {ratio:.2f} times our time")


def main() -> None:
    """Run the cases asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--formats", default=",".join(CASES), help="cases, separated by commas")
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", help="site-packages of the environment that has the peers")
    arguments = parser.parse_args()
    if arguments.peers:
        sys.path.append(arguments.peers)
    with tempfile.TemporaryDirectory() as folder:
        for case in arguments.formats.split(","):
            run_case(case, arguments.events, arguments.rounds, Path(folder))


if __name__ == "__main__":
    main()

"""How fast each format's reader decodes, beside every other package that reads it; prints a table.

    taskset -c 0 .venv/bin/python benchmarks/decode_formats.py --peers PEERS/site-packages
    taskset -c 0 .venv/bin/python benchmarks/decode_formats.py --peers PEERS/site-packages --file REAL.raw

One core, one process, files in the page cache, written by our own writers: uniform addresses, times in order,
and for formats with vectors a second file of rows (`evt3:rows`); or a real file. Interleaved rounds: each
runs all readers once, and a ratio is the median over rounds of a reader's CPU time by ours.

Every reader's t, x, y and p are compared first: with what was written, or in a real file with ours. Mirrored
or turned pictures and ON for OFF pass as conventions. A peer that gives anything else is named as wrong and
not timed. Ours in the table is `read` as the first of a process, all events in new memory, as peers give
them; `read` again, when nobody refers to an earlier reading and its memory is used again (`events.memory`);
and `read_into`, a buffer for all readings. A format is a line of `CASES`, a peer one of `decode_peers.PEERS`.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from decode_peers import PEERS, Columns

from events import memory
from events.readers.registry import identify, open_recording
from events.recording import EVENT_DTYPE, EventBuffer, ReadOptions
from events.writers.registry import write_recording

# Name of the case: format, height and width, file suffix that peers ask for, options of our writer.
CASES: dict[str, tuple[str, tuple[int, int], str, dict[str, str]]] = {
    "aedat1": ("aedat1", (128, 128), ".aedat", {}),
    "aedat2": ("aedat2", (128, 128), ".aedat", {}),
    "aedat3": ("aedat3", (128, 128), ".aedat", {}),
    "aedat4:none": ("aedat4", (480, 640), ".aedat4", {"compression": "none"}),
    "aedat4:lz4": ("aedat4", (480, 640), ".aedat4", {"compression": "LZ4"}),
    "aedat4:zstd": ("aedat4", (480, 640), ".aedat4", {"compression": "ZSTD"}),
    "bin40": ("bin40", (34, 34), ".bin", {}),
    "dat": ("dat", (720, 1280), ".dat", {}),
    "evt2": ("evt2", (720, 1280), ".raw", {}),
    "evt21": ("evt21", (720, 1280), ".raw", {}),
    "evt21:legacy": ("evt21", (720, 1280), ".raw", {"endianness": "legacy"}),
    "evt21:rows": ("evt21", (720, 1280), ".raw", {}),
    "evt3": ("evt3", (720, 1280), ".raw", {}),
    "evt3:rows": ("evt3", (720, 1280), ".raw", {}),
    "es": ("es", (480, 640), ".es", {}),
    "hdf5:dsec": ("hdf5", (480, 640), ".h5", {}),
    "hdf5:prophesee": ("hdf5", (480, 640), ".h5", {"layout": "prophesee"}),
    "npz": ("npz", (480, 640), ".npz", {}),
    "csv": ("csv", (480, 640), ".csv", {}),
}
OURS = ("first", "again", "read_into")
HEADER = (
    "| case | first, M/s | again, M/s | read_into, M/s | peers right, M/s | fastest / first | "
    "fastest / again | fastest / read_into | wrong |"
)


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


def our_readers(path: Path, options: ReadOptions) -> dict[str, Callable[[], Any]]:
    """Return our ways to read a file, `OURS`."""
    buffer = EventBuffer()

    def first() -> np.ndarray:
        with mock.patch.dict(os.environ, {memory.VARIABLE: "0"}):
            return open_recording(path, options).read()

    return {
        "first": first,
        "again": lambda: open_recording(path, options).read(),
        "read_into": lambda: open_recording(path, options).read_into(buffer),
    }


def right_peers(
    path: Path, format_name: str, events: np.ndarray, sensor_hw: tuple[int, int]
) -> tuple[dict[str, Callable[[], Any]], list[str]]:
    """Run every peer once, compiling and filling caches; return those that are right, and what others did."""
    right: dict[str, Callable[[], Any]] = {}
    wrong = []
    for name, peer in PEERS.items():
        if format_name not in peer.formats:
            continue

        def read(peer: Any = peer) -> Any:
            return peer.decode(path, format_name)

        try:
            with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
                fault = difference(peer.columns(read()), events, sensor_hw)
        except ModuleNotFoundError as error:
            if error.name not in (name, None):
                wrong.append(f"{name}: needs {error.name}")
            continue
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            fault = f"{type(error).__name__}: {error}"
        if fault is None:
            right[name] = read
        else:
            wrong.append(f"{name}: {' '.join(fault.split())[:70]}")
    return right, wrong


def difference(found: Columns, events: np.ndarray, sensor_hw: tuple[int, int]) -> str | None:
    """Say in what columns are not the events; None where they are, up to mirrors, turns and ON for OFF."""
    t, x, y, p = (np.asarray(column) for column in found)
    if len(t) != len(events):
        return f"{len(t)} of {len(events)} events"
    if not np.array_equal(t.astype(np.int64), events["t"]):
        moved = np.count_nonzero(t.astype(np.int64) != events["t"])
        return f"{moved} times differ"
    on = p.astype(np.int64) > 0
    if not (np.array_equal(on, events["p"] == 1) or np.array_equal(on, events["p"] == 0)):
        return "polarities differ"
    for first, second, sizes in (("x", "y", sensor_hw[::-1]), ("y", "x", sensor_hw)):
        if mirrored(x, events[first], sizes[0]) and mirrored(y, events[second], sizes[1]):
            return None
    return "addresses differ"


def mirrored(found: np.ndarray, wanted: np.ndarray, size: int) -> bool:
    """Whether a coordinate is the wanted one, perhaps counted from the other side."""
    found, wanted = found.astype(np.int64), wanted.astype(np.int64)
    return np.array_equal(found, wanted) or np.array_equal(found, size - 1 - wanted)


def time_rounds(readers: dict[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Return the CPU seconds of each reader in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(rounds):
        for name, reader in readers.items():
            start = time.process_time()
            reader()
            seconds[name].append(time.process_time() - start)
    return {name: np.array(times) for name, times in seconds.items()}


def run_case(
    case: str, path: Path, format_name: str, events: np.ndarray, options: ReadOptions, rounds: int
) -> None:
    """Time all readers of a file and print its row."""
    ours = our_readers(path, options)
    sensor_hw = open_recording(path, options).sensor_hw
    if fault := difference(tuple(ours["first"]()[name] for name in "txyp"), events, sensor_hw):  # type: ignore[arg-type]
        raise SystemExit(f"{case}: ours is wrong: {fault}")
    peers, wrong = right_peers(path, format_name, events, sensor_hw)
    seconds = time_rounds(ours | peers, rounds)
    speed = {name: len(events) / np.median(times) / 1e6 for name, times in seconds.items()}
    ranked = sorted(peers, key=lambda name: np.median(seconds[name]))
    ratios = [f"{np.median(seconds[ranked[0]] / seconds[way]):.2f}" if ranked else "-" for way in OURS]
    right = ", ".join(f"{name} {speed[name]:.1f}" for name in ranked) or "none"
    ways = " | ".join(f"{speed[way]:.1f}" for way in OURS)
    print(f"| {case} | {ways} | {right} | {' | '.join(ratios)} | {'; '.join(wrong) or '-'} |", flush=True)


def run_made(case: str, n: int, rounds: int, folder: Path) -> None:
    """Write the file of a case and time it."""
    format_name, sensor_hw, suffix, details = CASES[case]
    events = (rows if case.endswith(":rows") else uniform)(n, sensor_hw)
    path = folder / f"recording{suffix}"
    write_recording(path, events, format=format_name, sensor_hw=sensor_hw, **details)
    options = ReadOptions(format=format_name, sensor_hw=sensor_hw if format_name == "bin40" else None)
    run_case(case, path, format_name, events, options, rounds)


def main() -> None:
    """Run the cases asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--formats", default=",".join(CASES), help="cases, separated by commas")
    parser.add_argument("--file", type=Path, action="append", default=[], help="a real file instead of these")
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", help="site-packages of the environment that has the peers")
    arguments = parser.parse_args()
    if arguments.peers:
        sys.path.append(arguments.peers)
    print(HEADER)
    print("|---" * HEADER.count(" | ") + "|---|")
    for path in arguments.file:
        events = open_recording(path).read()
        run_case(path.name, path, identify(path), events, ReadOptions(), arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        for case in arguments.formats.split(",") if not arguments.file else ():
            run_made(case, arguments.events, arguments.rounds, Path(folder))


if __name__ == "__main__":
    main()

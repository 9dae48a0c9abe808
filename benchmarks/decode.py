"""How fast a large recording is decoded, beside SpikingJelly and tonic in the same process.

    .venv/bin/python benchmarks/decode.py --peers PEER_ENVIRONMENT/lib/python3.11/site-packages

The peers are installed in an environment of their own (`pip install --no-deps tonic spikingjelly`, then
`pip install tqdm loguru matplotlib h5py torch`), whose packages come last on the path, so that all three
run on the same NumPy. SpikingJelly imports torchvision for its downloads alone; an empty stand-in takes its
place. tonic's own reader for a DVS128 raises an error (`read_dvs_128` unpacks two values of three), so its
parts are put together here the way it means to.

Every reader's events are compared with the events that were written, and the answer is printed: a fast
wrong reader is no peer. Files are synthetic: uniform addresses, sorted times, in the page cache. One core,
interleaved rounds: every round runs all readers once, and a ratio is the median over rounds of a reader's
time by that of ours which does the same: all events in new memory at once (`read`).

`chunks` and `read_into` are how conversion reads: into memory that is used again.
Claim: at least 100 M events/s on one core for AEDAT 2.0 and 5-byte records, 1.8 times the best correct peer.
"""

import argparse
import importlib
import os
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np

from events.readers.registry import open_recording
from events.recording import EVENT_DTYPE, EventBuffer, ReadOptions
from events.writers.registry import write_recording

SENSOR_HW = {
    "aedat2": (128, 128),
    "aedat1": (128, 128),
    "bin40": (34, 34),
    "aedat3": (128, 128),
    "aedat4": (480, 640),
}

# Makes t, x, y, p of a file, in whatever orientation the reader has.
Reader = Callable[[], tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]


def random_events(n: int, sensor_hw: tuple[int, int], span_us: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    events = np.zeros(n, EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(0, span_us, n))
    events["x"] = rng.integers(0, sensor_hw[1], n)
    events["y"] = rng.integers(0, sensor_hw[0], n)
    events["p"] = rng.integers(0, 2, n)
    return events


def our_readers(path: Path, sensor_hw: tuple[int, int]) -> dict[str, Reader]:
    options = ReadOptions(sensor_hw=sensor_hw)
    buffer = EventBuffer()

    def columns(events: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return events["t"], events["x"], events["y"], events["p"]

    def chunks() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        count = sum(len(chunk) for chunk in open_recording(path, options).chunks(count=1 << 17))
        empty = np.empty(count, "V0")
        return empty, empty, empty, empty

    return {
        "ours, read": lambda: columns(open_recording(path, options).read()),
        "ours, read_into": lambda: columns(open_recording(path, options).read_into(buffer)),
        "ours, chunks": chunks,
    }


class Nothing(types.ModuleType):
    """A module that has every name and does nothing."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return object


def import_part(package: str, module: str) -> types.ModuleType:
    """Import one module of a package without running the package's own __init__, which imports too much."""
    if package not in sys.modules:
        parent = importlib.import_module(package.partition(".")[0]) if "." in package else None
        folders = parent.__path__ if parent else sys.path
        stand_in = types.ModuleType(package)
        stand_in.__path__ = [str(Path(folder) / package.rpartition(".")[2]) for folder in folders]
        sys.modules[package] = stand_in
    return importlib.import_module(f"{package}.{module}")


def peer_readers(path: Path, file_format: str) -> dict[str, Reader]:
    for name in ("", ".datasets", ".datasets.utils", ".transforms"):
        sys.modules.setdefault(f"torchvision{name}", Nothing(f"torchvision{name}"))
    if file_format == "aedat2":
        load = import_part("spikingjelly.datasets", "cifar10_dvs")._load_origin_data
        return {"SpikingJelly": as_columns(lambda: load(path)), "tonic (its parts)": tonic_dvs128(path)}
    if file_format == "bin40":
        load = import_part("spikingjelly.datasets", "utils").load_ATIS_bin
        tonic_io = import_part("tonic", "io")
        dtype = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])  # as tonic's NMNIST has it
        return {
            "SpikingJelly": as_columns(lambda: load(path)),
            "tonic": as_columns(lambda: tonic_io.read_mnist_file(str(path), dtype=dtype)),
        }
    return {}


def as_columns(load: Callable[[], dict[str, np.ndarray]]) -> Reader:
    def read() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        events = load()
        return events["t"], events["x"], events["y"], events["p"]

    return read


def tonic_dvs128(path: Path) -> Reader:
    tonic_io = import_part("tonic", "io")

    def read() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        version, start, _ = tonic_io.read_aedat_header_from_file(str(path))
        records = tonic_io.get_aer_events_from_file(str(path), version, start)
        address = records["address"]
        columns = ((address >> 8) & 0x7F, (address >> 1) & 0x7F, records["timeStamp"], address & 1)
        events = tonic_io.make_structured_array(*columns)
        return events["t"], events["x"], events["y"], events["p"]

    return read


def verdict(found: tuple[np.ndarray, ...], events: np.ndarray) -> str:
    """Say whether a reader's events are those that were written, perhaps in another orientation."""
    t, x, y, p = found
    if t.dtype.itemsize == 0:
        return "count right" if len(t) == len(events) else "wrong"
    if len(t) != len(events) or not np.array_equal(np.asarray(t, np.int64), events["t"]):
        return "wrong"
    right_x, right_y = events["x"].astype(np.int64), events["y"].astype(np.int64)
    pictures = {
        "right": (right_x, right_y),
        "right, SpikingJelly's orientation": (right_y, right_x),
        "right, raw address bits": (127 - right_y, 127 - right_x),
    }
    for name, (want_x, want_y) in pictures.items():
        if np.array_equal(x, want_x) and np.array_equal(y, want_y):
            inverted = np.array_equal(p.astype(bool), ~events["p"])
            return name if not inverted else f"{name} and polarity"
    return "wrong"


def measure(readers: dict[str, Reader], rounds: int) -> dict[str, np.ndarray]:
    """Return the processor seconds of each reader in each round."""
    seconds = {name: np.empty(rounds) for name in readers}
    for i in range(rounds):
        for name, read in readers.items():
            start = time.process_time()
            found = read()
            seconds[name][i] = time.process_time() - start
            del found
    return seconds


def run(path: Path, file_format: str, chosen: argparse.Namespace) -> None:
    sensor_hw = SENSOR_HW[file_format]
    span_us = (1 << 23) - 1 if file_format == "bin40" else 1 << 31
    events = random_events(chosen.events, sensor_hw, span_us)
    write_recording(path, events, format=file_format, sensor_hw=sensor_hw)
    readers = our_readers(path, sensor_hw)
    if chosen.peers is not None:
        readers |= peer_readers(path, file_format)
    verdicts = {name: verdict(read(), events) for name, read in readers.items()}
    del events
    seconds = measure(readers, chosen.rounds)
    print(
        f"\n{file_format}: {chosen.events:,} events, {path.stat().st_size / 1e6:.0f} MB, core {chosen.core}"
    )
    print(f"{'':20}{'M events/s: median':>20}{'best':>8}{'x ours, read':>14}  events")
    for name, taken in seconds.items():
        rates = chosen.events / taken / 1e6
        ratio = np.median(taken / seconds["ours, read"])
        print(f"{name:20}{np.median(rates):20.0f}{rates.max():8.0f}{ratio:14.2f}  {verdicts[name]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, help="site-packages with tonic and spikingjelly; none without")
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--formats", nargs="+", choices=sorted(SENSOR_HW), default=["aedat2", "bin40", "aedat1"]
    )
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)))
    chosen = parser.parse_args()
    os.sched_setaffinity(0, {chosen.core})
    if chosen.peers is not None:
        sys.path.append(str(chosen.peers))
    with tempfile.TemporaryDirectory() as folder:
        for file_format in chosen.formats:
            run(Path(folder) / f"recording.{file_format}", file_format, chosen)
            (Path(folder) / f"recording.{file_format}").unlink()


if __name__ == "__main__":
    main()

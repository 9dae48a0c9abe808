"""How fast 200,000 events become 10 frames, beside SpikingJelly and tonic in the same process.

    .venv/bin/python benchmarks/bin_events.py --peers PEER_ENVIRONMENT/lib/python3.11/site-packages

The peers are installed in an environment of their own (`pip install --no-deps tonic spikingjelly`), whose
packages come last on the path, so that all three run on the same NumPy. Only their binning functions are
imported: SpikingJelly's data sets need torchvision and tonic's need a downloader, neither of which has to
do with binning. SpikingJelly gets the int64 columns that its own loaders make, tonic a structured array;
both are checked to give our frames first.

One core, interleaved rounds: every round runs all candidates, each once to warm up and once timed, so that
none pays for what the one before left in the caches. A ratio is the median over rounds of a candidate's time
by ours in the same round; a peer is compared with the setting of ours that gives the same frames.
Claim: 10x2x128x128 by event count at least 2.5x faster than SpikingJelly, 30x faster than tonic.
"""

import argparse
import importlib
import os
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np

from events.binning import numba_cpu, reference
from events.binning.settings import BinSettings
from events.recording import EVENT_DTYPE

FRAMES = 10


def random_events(n: int, sensor_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    events = np.zeros(n, EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(0, 1_000_000, n))
    events["x"] = rng.integers(0, sensor_hw[1], n)
    events["y"] = rng.integers(0, sensor_hw[0], n)
    events["p"] = rng.integers(0, 2, n)
    return events


def import_part(package: str, part: str) -> types.ModuleType:
    """Import a module of a package without running the package's own __init__, which imports too much."""
    for name in (package, part.rpartition(".")[0]):
        if name not in sys.modules:
            folder = name.replace(".", "/")
            found = [path for path in sys.path if (Path(path) / folder / "__init__.py").is_file()]
            if not found:
                sys.exit(f"{name} is not installed; say with --peers where it is")
            stand_in = types.ModuleType(name)
            stand_in.__path__ = [str(Path(found[0]) / folder)]
            sys.modules[name] = stand_in
    return importlib.import_module(part)


def spikingjelly_candidates(
    events: np.ndarray, sensor_hw: tuple[int, int]
) -> dict[str, Callable[[], np.ndarray]]:
    # Named by the module's imports and used by its data sets alone.
    for name in ("torchvision", "torchvision.transforms"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]
    importlib.import_module("spikingjelly")
    integrate = import_part(
        "spikingjelly", "spikingjelly.datasets.utils"
    ).integrate_events_by_fixed_frames_number
    columns = {name: events[name].astype(np.int64) for name in ("t", "x", "y", "p")}
    return {
        f"SpikingJelly, by {split_by}": lambda split_by=split_by: integrate(
            columns, split_by, FRAMES, *sensor_hw
        )
        for split_by in ("number", "time")
    }


def tonic_candidates(events: np.ndarray, sensor_hw: tuple[int, int]) -> dict[str, Callable[[], np.ndarray]]:
    to_frame = import_part("tonic", "tonic.functional.to_frame").to_frame_numpy
    size = (sensor_hw[1], sensor_hw[0], 2)
    native = np.empty(len(events), np.dtype([("t", np.int64), ("x", np.int16), ("y", np.int16), ("p", bool)]))
    for name in ("t", "x", "y", "p"):
        native[name] = events[name]
    return {
        "tonic, n_event_bins": lambda: to_frame(native, size, n_event_bins=FRAMES),
        "tonic, n_time_bins": lambda: to_frame(native, size, n_time_bins=FRAMES),
    }


def our_candidates(events: np.ndarray, sensor_hw: tuple[int, int]) -> dict[str, Callable[[], np.ndarray]]:
    wanted = {
        "ours, by count": BinSettings(frames=FRAMES),
        "ours, by count, uint16": BinSettings(frames=FRAMES, dtype="uint16"),
        "ours, by count, dropped": BinSettings(frames=FRAMES, tail="drop"),
        "ours, by time": BinSettings(frames=FRAMES, split="time"),
        "ours, by time, dropped": BinSettings(frames=FRAMES, split="time", tail="drop"),
        "ours, last time": BinSettings(frames=FRAMES, value="last_time"),
        "ours, direct to 48x48": BinSettings(frames=FRAMES, size_hw=(48, 48)),
        "ours, area to 48x48": BinSettings(frames=FRAMES, size_hw=(48, 48), resize="area"),
    }
    candidates = {}
    for name, settings in wanted.items():
        out = np.empty(settings.frame_shape(sensor_hw), settings.dtype)
        candidates[name] = lambda settings=settings, out=out: (
            numba_cpu.bin_events(events, settings=settings, sensor_hw=sensor_hw, out=out).frames
        )
    by_count = BinSettings(frames=FRAMES)
    candidates["ours, by count, new array"] = lambda: (
        numba_cpu.bin_events(events, settings=by_count, sensor_hw=sensor_hw).frames
    )
    candidates["reference (NumPy)"] = lambda: (
        reference.bin_events(events, settings=by_count, sensor_hw=sensor_hw).frames
    )
    return candidates


SAME_FRAMES = {
    "SpikingJelly, by number": "ours, by count",
    "SpikingJelly, by time": "ours, by time",
    "tonic, n_event_bins": "ours, by count, dropped",
    "tonic, n_time_bins": "ours, by time, dropped",
    "reference (NumPy)": "ours, by count",
    "ours, by count, uint16": "ours, by count",
}


def check_same_frames(candidates: dict[str, Callable[[], np.ndarray]]) -> None:
    """Exit unless every candidate gives the frames of the candidate it is compared with."""
    for name, ours in SAME_FRAMES.items():
        if name in candidates and not np.array_equal(candidates[name](), candidates[ours]()):
            sys.exit(f"{name} does not give the frames of {ours}")


def measure(candidates: dict[str, Callable[[], np.ndarray]], rounds: int) -> dict[str, np.ndarray]:
    """Return the seconds of each candidate in each round, after one round that is not counted."""
    seconds = {name: np.empty(rounds) for name in candidates}
    for i in range(-1, rounds):
        for name, run in candidates.items():
            run()
            start = time.perf_counter()
            run()
            elapsed = time.perf_counter() - start
            if i >= 0:
                seconds[name][i] = elapsed
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, help="site-packages with tonic and spikingjelly; none without")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--sensor", type=int, nargs=2, default=(128, 128), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)))
    chosen = parser.parse_args()
    os.sched_setaffinity(0, {chosen.core})
    sensor_hw = tuple(chosen.sensor)
    events = random_events(chosen.events, sensor_hw)
    candidates = our_candidates(events, sensor_hw)
    if chosen.peers is not None:
        sys.path.append(str(chosen.peers))
        candidates |= spikingjelly_candidates(events, sensor_hw) | tonic_candidates(events, sensor_hw)
        check_same_frames(candidates)
    seconds = measure(candidates, chosen.rounds)
    print(f"{chosen.events:,} events to {FRAMES}x2x{sensor_hw[0]}x{sensor_hw[1]}, core {chosen.core}")
    print(f"{'':28}{'median ms':>10}{'best ms':>10}{'M events/s':>12}{'x ours':>8}  compared with")
    for name, taken in seconds.items():
        ours = SAME_FRAMES.get(name, "ours, by count")
        median, ratio = np.median(taken), np.median(taken / seconds[ours])
        rate = chosen.events / median / 1e6
        print(f"{name:28}{median * 1e3:10.2f}{taken.min() * 1e3:10.2f}{rate:12.0f}{ratio:8.2f}  {ours}")


if __name__ == "__main__":
    main()

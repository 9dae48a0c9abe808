"""How fast random samples come out of a store: ours, zarr-python, and decompression alone.

    taskset -c 0 .venv/bin/python benchmarks/read_store.py

Makes a store of CIFAR10-DVS-like samples [10, 2, 128, 128] in a temporary folder (or takes `--store`) and
reads random samples from it in turns, one process, one thread, warm cache.
Claim: at least 8 times as fast as zarr-python over the same files, and at least 70 % of the speed of the
decompressor working on bytes that are in memory already.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr
from convert_tree import make_tree
from numcodecs import blosc, zstd

from events.convert import ConvertSettings, convert
from events.datasets.registry import list_samples
from events.store.reader import FrameStore, open_store
from events.store.shard import index_bytes, parse_index

BATCH = 32


def stored_samples(store: FrameStore) -> list[bytes]:
    """Return all samples of a store as they are compressed, without their CRC."""
    slots = store.attributes["shard_samples"]
    samples = []
    for shard in range(-(-len(store) // slots)):
        path = store.path / "frames" / f"c.{shard}.0.0.0.0"
        content = path.read_bytes()
        start = len(content) - index_bytes(slots)
        index = parse_index(content[start:], slots=slots, index_offset=start, where=path)
        samples.extend(content[offset : offset + length - 4] for offset, length in index if length)
    return samples


def seconds_per_sample(read: Callable[[np.ndarray], None], batches: list[np.ndarray]) -> float:
    started = time.perf_counter()
    for batch in batches:
        read(batch)
    return (time.perf_counter() - started) / sum(len(batch) for batch in batches)


def measure(path: Path, *, rounds: int, batches_per_round: int) -> dict[str, float]:
    """Read random batches with each in turn; return the median time of each and the ratios."""
    store = open_store(path)
    array = zarr.open_array(path / "frames", mode="r")
    samples = stored_samples(store)
    decompress = blosc.decompress if store.attributes["codec"] == "fast" else zstd.decompress
    out = np.empty((BATCH, *store.shape[1:]), store.dtype)

    def ours(batch: np.ndarray) -> None:
        store.read_into(batch, out)

    def zarr_python(batch: np.ndarray) -> None:
        for row, index in enumerate(batch.tolist()):
            out[row] = array[index]

    def decompression(batch: np.ndarray) -> None:
        for row, index in enumerate(batch.tolist()):
            decompress(samples[index], out[row])

    readers = {"ours": ours, "zarr_python": zarr_python, "decompression": decompression}
    times: dict[str, list[float]] = {name: [] for name in readers}
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        batches = list(rng.integers(0, len(store), (batches_per_round, BATCH)))
        for name, read in readers.items():
            times[name].append(seconds_per_sample(read, batches))
    # Ratios within a round, so that a machine that gets slower or faster meanwhile does not matter.
    against_zarr = np.median(np.array(times["zarr_python"]) / np.array(times["ours"]))
    of_decompression = np.median(np.array(times["decompression"]) / np.array(times["ours"]))
    return {name: round(float(np.median(seconds)) * 1e6, 1) for name, seconds in times.items()} | {
        "times_zarr_python": round(float(against_zarr), 2),
        "of_decompression": round(float(of_decompression), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path)
    parser.add_argument("--files", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--codec", default="fast")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.store
        if path is None:
            make_tree(Path(folder) / "tree", files=arguments.files, distinct=32)
            listing = list_samples(
                "dvs-cifar10", Path(folder) / "tree", split="random:0:0.9", allow_missing=True
            )
            path = Path(folder) / "tree.zarr"
            convert(listing, path, ConvertSettings(codec=arguments.codec))
        result = measure(path, rounds=arguments.rounds, batches_per_round=arguments.batches)
    print(json.dumps({"codec": arguments.codec, "unit": "us per sample"} | result))


if __name__ == "__main__":
    main()

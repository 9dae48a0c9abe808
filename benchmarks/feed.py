"""How fast shuffled batches reach the training loop, beside tonic's disk cache and SpikingJelly's frames.

    PEER_ENVIRONMENT/bin/python benchmarks/feed.py

Run it with an environment that has spikeline with `train`, and the peers (`pip install --no-deps tonic
spikingjelly`, `pip install h5py`). The same CIFAR10-DVS-like samples [10, 2, 128, 128] are stored three
ways: our store; tonic's DiskCachedDataset (int16, HDF5 with lzf, its default); SpikingJelly's compressed
.npz frames. Every round drains shuffled epochs of each for a second or more, warm cache, batch 32. The peers
go through torch's DataLoader with 0, 1 and 2 workers that stay alive between rounds, ours runs with 1 and 2
threads; the best of each counts.

Ours delivers float32 [T, B, P, H, W] ready for the network, or, as tonic does, the stored counts. The peers
deliver [B, T, P, H, W], tonic int16 and SpikingJelly float32. "In memory" keeps decoded samples, as
`pipelines` does where they need at most 1 GiB; the first epoch, which fills it, is not counted.

Then a small network trains on the feed, and the share of time it waits for data is printed.
Claim: stored counts at least 15 times as fast as tonic's cache and 25 times as SpikingJelly's frames; the
network waits at most 5 % of the time. Float32 is bound by the memory it is written to, not by decoding.
"""

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from convert_tree import make_tree
from torch import nn
from torch.utils.data import DataLoader, Dataset

from events.batches import Feed, FeedSettings
from events.convert import ConvertSettings, convert
from events.datasets.registry import list_samples
from events.store.reader import FrameStore, open_store
from snn.layers import ConvBlock, Stepwise
from snn.losses import tet_loss
from snn.neurons.settings import NeuronSettings

BATCH = 32
WORKERS = (0, 1, 2)
THREADS = (1, 2)
OURS: dict[str, dict] = {
    "ours, float32": {},
    "ours, counts": {"counts": True},
    "ours in memory, float32": {"cache": "decoded"},
    "ours in memory, counts": {"cache": "decoded", "counts": True},
}


def import_file(package: str, part: str) -> types.ModuleType:
    """Import one module of a package without the package's own imports (torchvision, downloaders)."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        sys.exit(f"{package} is not installed; run this with an environment that has it")
    path = Path(found.submodule_search_locations[0]) / part
    spec = importlib.util.spec_from_file_location(f"{package}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class NpzFrames(Dataset):
    """SpikingJelly's frame files: what its DatasetFolder does with its own loader of .npz frames."""

    def __init__(self, files: list[Path], labels: np.ndarray) -> None:
        self.files, self.labels = files, labels

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        # The body of spikingjelly.datasets.utils.load_npz_frames, whose module needs torchvision.
        return np.load(str(self.files[index]), allow_pickle=True)["frames"].astype(np.float32), int(
            self.labels[index]
        )


def store_for_peers(store: FrameStore, folder: Path) -> tuple[Dataset, Dataset]:
    """Write the samples of a store as tonic and SpikingJelly store them."""
    tonic = import_file("tonic", "cached_dataset.py")
    (folder / "tonic").mkdir()
    files = []
    for index in range(len(store)):
        frames, label = store.read(index), int(store.label[index])
        tonic.save_to_disk_cache(frames.astype(np.int16), label, folder / "tonic" / f"{index}_0.hdf5")
        files.append(folder / f"{index}.npz")
        np.savez_compressed(files[-1], frames=frames.astype(np.float64))
    return tonic.DiskCachedDataset(None, str(folder / "tonic")), NpzFrames(files, store.label)


def drain(batches: Iterable[object], samples: int) -> float:
    """Return samples a second over whole epochs of at least a second together.

    Every batch is let go before the next.
    """
    started = time.perf_counter()
    epochs = 0
    while time.perf_counter() - started < 1:
        epochs += 1
        for _ in batches:
            pass
    return epochs * samples / (time.perf_counter() - started)


def candidates(store: FrameStore, peers: tuple[Dataset, Dataset]) -> dict[str, Callable[[], float]]:
    samples = len(store)
    ours = {
        f"{kind}, {threads} threads": Feed(
            store,
            np.arange(samples),
            FeedSettings(batch_size=BATCH, shuffle=True, threads=threads, **options),
        )
        for kind, options in OURS.items()
        for threads in THREADS
    }
    loaders = {
        f"{name}, {workers} workers": DataLoader(
            dataset, batch_size=BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
        )
        for name, dataset in zip(("tonic", "SpikingJelly"), peers, strict=True)
        for workers in WORKERS
    }
    return {
        name: lambda batches=batches: drain(batches, samples) for name, batches in (ours | loaders).items()
    }


def waiting_share(store: FrameStore, *, epochs: int) -> tuple[float, float]:
    """Train a small network; return the share of time waited for data and samples a second."""
    _, _, P, H, W = store.shape
    model = nn.Sequential(
        Stepwise(nn.AvgPool2d(4)),
        ConvBlock(P, 8, neuron=NeuronSettings()),
        Stepwise(nn.AvgPool2d(4)),
        nn.Flatten(start_dim=2),
        nn.Linear(8 * (H // 16) * (W // 16), len(store.class_names)),
    )
    optimizer = torch.optim.AdamW(model.parameters())
    settings = FeedSettings(batch_size=BATCH, shuffle=True)
    with Feed(store, np.arange(len(store)), settings) as feed:
        for epoch in range(epochs + 1):
            if epoch == 1:  # the first warms up
                started, feed.wait_s = time.perf_counter(), 0.0
            for batch in feed:
                optimizer.zero_grad()
                tet_loss(model(batch.frames), batch.labels, weight=0.0, target=1.0).backward()
                optimizer.step()
        seconds = time.perf_counter() - started
        return feed.wait_s / seconds, epochs * len(store) / seconds


def measure(store: FrameStore, folder: Path, *, rounds: int) -> dict[str, float]:
    run = candidates(store, store_for_peers(store, folder))
    for drain_once in run.values():
        drain_once()
    speeds: dict[str, list[float]] = {name: [] for name in run}
    for _ in range(rounds):
        for name, drain_once in run.items():
            speeds[name].append(drain_once())
    result = {f"{name}, samples/s": statistics.median(values) for name, values in speeds.items()}
    for kind in OURS:
        for peer in ("tonic", "SpikingJelly"):
            ours, theirs = best_of(kind, speeds), best_of(peer, speeds)
            ratios = [a / b for a, b in zip(speeds[ours], speeds[theirs], strict=True)]
            result[f"{ours} / {theirs}"] = statistics.median(ratios)
    return result


def best_of(kind: str, speeds: dict[str, list[float]]) -> str:
    """Return which number of threads or workers was the fastest."""
    return max((n for n in speeds if n.startswith(kind)), key=lambda n: statistics.median(speeds[n]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=384)
    parser.add_argument("--distinct", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2, help="of the small network")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "tree"
        make_tree(root, files=arguments.samples, distinct=arguments.distinct)
        path = Path(folder) / "samples.zarr"
        convert(list_samples("dvs-cifar10", root, split="random:0:0.9"), path, ConvertSettings())
        store = open_store(path)
        result = measure(store, Path(folder), rounds=arguments.rounds)
        share, speed = waiting_share(store, epochs=arguments.epochs)
        result |= {"training, share of time waiting": share, "training, samples/s": speed}
    for name, value in result.items():
        print(f"{name:48} {value:10.3g}", file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()

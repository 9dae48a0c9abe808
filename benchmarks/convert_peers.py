"""From a recording to stored frames on one core: ours beside SpikingJelly and tonic, in one process.

    taskset -c 0 .venv/bin/python benchmarks/convert_peers.py \\
        --peers PEER_ENVIRONMENT/lib/python3.11/site-packages

Each does its whole way for the same recordings: read AEDAT 2.0, make ten frames, write. Ours: decode, bin,
lz4hc, CRC of the recording, a shard. SpikingJelly: its CIFAR10-DVS loader, frames by number, compressed npz
(in truth it writes the events to another npz first; that is left out). tonic: its record reader, ToFrame,
HDF5 with lzf as its disk cache writes. The environment is made as in decode.py.

Interleaved rounds; a ratio is the median over rounds of a peer's time by ours in the same round.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from convert_tree import SENSOR_HW, make_tree
from decode import import_part, peer_readers

from events.binning.settings import BinSettings
from events.recording import ReadOptions
from events.store.task import ShardJob, convert_shard

FRAMES = 10
Prepare = Callable[[Path], object]


def ours(folder: Path, paths: list[Path]) -> Callable[[], object]:
    (folder / "frames").mkdir(parents=True)
    job = ShardJob(
        store=str(folder),
        shard=0,
        slots=len(paths),
        root="/",
        sources=tuple((number, str(path)) for number, path in enumerate(paths)),
        read=ReadOptions(sensor_hw=SENSOR_HW),
        binning=BinSettings(frames=FRAMES),
        frame_shape=(FRAMES, 2, *SENSOR_HW),
        codec="fast",
    )
    return lambda: convert_shard(job)


def spikingjelly(folder: Path, paths: list[Path]) -> Callable[[], object]:
    folder.mkdir()
    peer_readers(paths[0], "aedat2")  # prepares what SpikingJelly imports
    load = import_part("spikingjelly.datasets", "cifar10_dvs")._load_origin_data
    integrate = import_part("spikingjelly.datasets", "utils").integrate_events_by_fixed_frames_number

    def prepare() -> None:
        for path in paths:
            frames = integrate(load(path), "number", FRAMES, *SENSOR_HW)
            np.savez_compressed(folder / f"{path.stem}.npz", frames=frames)

    return prepare


def tonic(folder: Path, paths: list[Path]) -> Callable[[], object]:
    import h5py  # one of the peers' packages

    folder.mkdir()
    to_frame = import_part("tonic.functional", "to_frame").to_frame_numpy
    readers = {path: peer_readers(path, "aedat2")["tonic (its parts)"] for path in paths}
    dtype = np.dtype([("t", np.int64), ("x", np.int16), ("y", np.int16), ("p", bool)])

    def prepare() -> None:
        for path, read in readers.items():
            t, x, y, p = read()
            events = np.empty(len(t), dtype)
            events["t"], events["x"], events["y"], events["p"] = t, x, y, p
            frames = to_frame(events, (*SENSOR_HW[::-1], 2), n_event_bins=FRAMES)
            with h5py.File(folder / f"{path.stem}.hdf5", "w") as file:
                file.create_dataset("data/0", data=frames, compression="lzf")

    return prepare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, required=True, help="site-packages with tonic and spikingjelly")
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    sys.path.append(str(chosen.peers))
    with tempfile.TemporaryDirectory() as folder:
        make_tree(Path(folder) / "tree", files=chosen.files, distinct=chosen.files)
        paths = sorted((Path(folder) / "tree").rglob("*.aedat"))
        candidates = {
            make.__name__: make(Path(folder) / make.__name__, paths) for make in (ours, spikingjelly, tonic)
        }
        seconds: dict[str, list[float]] = {name: [] for name in candidates}
        for _ in range(chosen.rounds + 1):
            for name, prepare in candidates.items():
                started = time.perf_counter()
                prepare()
                seconds[name].append(time.perf_counter() - started)
    # The first round compiles.
    taken = {name: np.array(times[1:]) for name, times in seconds.items()}
    for name, times in taken.items():
        result = {
            "name": name,
            "recordings_per_s": round(float(len(paths) / np.median(times)), 1),
            "times_ours": round(float(np.median(times / taken["ours"])), 2),
        }
        print(json.dumps(result))


if __name__ == "__main__":
    main()

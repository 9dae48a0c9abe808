"""How fast a tree of CIFAR10-DVS-like recordings becomes a store, in how much memory, in how many bytes.

    .venv/bin/python benchmarks/convert_tree.py --files 1000 --workers 2

Makes a few distinct recordings of 181,000 events (the mean of CIFAR10-DVS is about 200,000) in a temporary
folder, copied to as many names as asked for, and converts them to frames [10, 2, 128, 128].
Claim: at least 120 recordings/s on two cores with a warm cache, no slower per recording with ten times the
files, less than 1.5 GB per worker, at most 80 KB per sample.
"""

import argparse
import json
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from events.binning.settings import BinSettings
from events.convert import ConvertSettings, convert
from events.datasets.class_order import CIFAR10_CLASSES
from events.datasets.registry import list_samples
from events.synth.motion import MotionSettings, closed_loops
from events.synth.sensor import SensorSettings, draw_pixels, record_moving_picture
from events.writers.registry import write_recording

EVENTS = 181_000
DURATION_US = 1_300_000
SENSOR_HW = (128, 128)


def loop_recording(seed: int) -> np.ndarray:
    """Return events of a picture moved in closed loops before a simulated DVS128, as in CIFAR10-DVS.

    The picture has 32 x 32 pixels like CIFAR-10's, of flat patches with edges between them, enlarged to the
    sensor; its contrast is raised until the recording has enough events, which are then cut off. About a
    fifth of the pixels of ten frames are occupied. Pictures that are all texture, without flat patches, take
    half as many bytes again and about twice the time to compress.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :32]
    picture = np.zeros((32, 32), np.float32)
    for _ in range(8):
        row, column, radius = *rng.integers(0, 32, 2), rng.integers(3, 12)
        picture[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = rng.normal()
    motion = MotionSettings(loops=6, radius_px=6)
    side = SENSOR_HW[0] + 13  # the loops' diameter and one pixel for interpolation
    large = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))
    sensor = SensorSettings()
    for contrast in 0.3 * 1.1 ** np.arange(40):
        noise = np.random.default_rng([seed, 1])
        events = record_moving_picture(
            (contrast * large).astype(np.float32),
            motion.radius_px - closed_loops(motion, steps=DURATION_US // 1000),
            step_us=1000,
            settings=sensor,
            pixels=draw_pixels(sensor, noise),
            rng=noise,
        )
        if len(events) >= EVENTS:
            return events[:EVENTS]
    raise ValueError(f"picture {seed} gives no {EVENTS} events at any contrast")


def make_tree(root: Path, *, files: int, distinct: int) -> None:
    """Write recordings in CIFAR10-DVS's folder layout; those beyond the distinct ones are copies."""
    originals = []
    for seed in range(distinct):
        original = root.parent / f"original_{seed}.aedat"
        write_recording(original, loop_recording(seed), format="aedat2", sensor_hw=SENSOR_HW)
        originals.append(original)
    for number in range(files):
        name = CIFAR10_CLASSES[number % len(CIFAR10_CLASSES)]
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"cifar10_{name}_{number // len(CIFAR10_CLASSES)}.aedat"
        os.link(originals[number % distinct], path)


class PeakMemory:
    """Largest resident memory of any child process, sampled ten times a second."""

    def __init__(self) -> None:
        self.bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(0.1):
            for process in [me, *me.children(recursive=True)]:
                try:
                    self.bytes = max(self.bytes, process.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue


def processor_seconds() -> float:
    """Return the processor time of this process and of its children that have ended.

    On a machine shared with others it says more than wall time does.
    """
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def measure(files: int, *, workers: int, distinct: int, codec: str, folder: Path) -> dict[str, float]:
    """Convert a tree; report the faster of two runs, as the first fills caches. A large tree gets one."""
    root = folder / f"tree_{files}" / "DVS-CIFAR10"
    root.mkdir(parents=True)
    make_tree(root, files=files, distinct=distinct)
    listing = list_samples("dvs-cifar10", root, split="random:0:0.9", allow_missing=True)
    settings = ConvertSettings(binning=BinSettings(frames=10), codec=codec)
    runs = []
    for repeat in range(2 if files <= 2000 else 1):
        dst = folder / f"out_{files}_{repeat}.zarr"
        marks: list[tuple[float, int]] = []

        def note(state, marks=marks):
            marks.append((time.perf_counter(), state.files_ok))

        cpu = processor_seconds()
        with PeakMemory() as memory:
            summary = convert(listing, dst, settings, workers=workers, progress=note)
        cpu = processor_seconds() - cpu
        assert summary.ok == files, summary.failures[:3]
        first, last = marks[1], marks[-1]
        runs.append(
            {
                "files": files,
                "workers": workers,
                "seconds": round(summary.seconds, 2),
                "recordings_per_s": round(files / summary.seconds, 1),
                "steady_recordings_per_s": round((last[1] - first[1]) / (last[0] - first[0]), 1),
                "processor_ms_per_recording": round(1e3 * cpu / files, 2),
                "million_events_per_s": round(summary.events / summary.seconds / 1e6, 1),
                "kb_per_sample": round(summary.frame_bytes / files / 1e3, 1),
                "peak_worker_mb": round(memory.bytes / 1e6),
            }
        )
        shutil.rmtree(dst)
    shutil.rmtree(root)
    return max(runs, key=lambda run: run["recordings_per_s"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, nargs="+", default=[1000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--distinct", type=int, default=20)
    parser.add_argument("--codec", default="fast")
    parser.add_argument("--folder", type=Path, help="where to work; default a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for files in arguments.files:
            result = measure(
                files,
                workers=arguments.workers,
                distinct=arguments.distinct,
                codec=arguments.codec,
                folder=Path(folder),
            )
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()

"""How fast recordings become frames straight from their bytes, beside decoding first and binning then.

    taskset -c 0 .venv/bin/python benchmarks/fused_binning.py --events 20000000

Synthetic events, uniform over the sensor, in sorted times; the files are in the page cache. Every round runs
both ways once, in processor time, and the ratio is the median over the rounds. That both give the same frames
is checked first.
Aim: 300 M events/s on one quiet core for Prophesee DAT of a 304x240 sensor in 10 frames; 190 on a shared one.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from events.binning.fused import bin_fused
from events.binning.numba_cpu import bin_events
from events.binning.settings import BinSettings
from events.readers.registry import open_recording
from events.recording import EVENT_DTYPE, EventBuffer
from events.writers.registry import write_recording

SENSOR_HW = {"dat": (240, 304), "aedat2": (128, 128)}


def random_events(n: int, sensor_hw: tuple[int, int], *, span_us: int) -> np.ndarray:
    """Return uniform events in sorted times."""
    rng = np.random.default_rng(0)
    events = np.zeros(n, EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(0, span_us, n))
    events["y"] = rng.integers(0, sensor_hw[0], n)
    events["x"] = rng.integers(0, sensor_hw[1], n)
    events["p"] = rng.integers(0, 2, n)
    return events


def measure(path: Path, settings: BinSettings, *, rounds: int) -> tuple[float, float, float]:
    """Return Mev/s from bytes and by decoding, the best of each, and the median ratio."""
    buffer = EventBuffer()
    recording = open_recording(path)
    out = np.zeros(settings.frame_shape(recording.sensor_hw), settings.dtype)
    other = np.zeros_like(out)

    def fused() -> None:
        if bin_fused(open_recording(path), settings, out=out) is None:
            raise SystemExit(f"{path}: not binned from its bytes")

    def decoded() -> None:
        opened = open_recording(path)
        bin_events(opened.read_into(buffer), settings=settings, sensor_hw=opened.sensor_hw, out=other)

    fused()
    decoded()
    if not np.array_equal(out, other):
        raise SystemExit(f"{path}: the frames differ")
    seconds: dict[str, list[float]] = {"fused": [], "decoded": []}
    for _ in range(rounds):
        for name, run in (("fused", fused), ("decoded", decoded)):
            started = time.process_time()
            run()
            seconds[name].append(time.process_time() - started)
    n = len(recording.read_into(buffer)) / 1e6
    ratio = statistics.median(
        slow / fast for fast, slow in zip(seconds["fused"], seconds["decoded"], strict=True)
    )
    return n / min(seconds["fused"]), n / min(seconds["decoded"]), ratio


def main() -> None:
    """Measure each format with frames of equal count and of equal time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--formats", nargs="+", default=list(SENSOR_HW))
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print("format  split  from bytes  decode + bin  ratio")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.formats:
            path = Path(folder) / f"recording.{name}"
            events = random_events(arguments.events, SENSOR_HW[name], span_us=2_000_000_000)
            write_recording(path, events, format=name, sensor_hw=SENSOR_HW[name])
            del events
            for split in ("count", "time"):
                settings = BinSettings(frames=10, split=split)
                fast, slow, ratio = measure(path, settings, rounds=arguments.rounds)
                print(f"{name:7s} {split:5s} {fast:7.0f} Mev/s {slow:8.0f} Mev/s  {ratio:.2f}x", flush=True)
            path.unlink()


if __name__ == "__main__":
    main()

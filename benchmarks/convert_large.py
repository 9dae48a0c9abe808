"""How much memory and time a recording takes that is far larger than memory, as frames and as events.

    .venv/bin/python benchmarks/convert_large.py --gigabytes 10

Writes one DAT recording of a moving edge in noise in a temporary folder, then runs `events convert` on it in
a process of its own, once for frames and once with `--events`. Needs twice the recording's size on disk, for
the store of events beside it.
Claim: 10 GB in less than 1 GB of memory.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from events.recording import EVENT_DTYPE
from events.writers.registry import write_recording

SENSOR_HW = (480, 640)
RECORD_BYTES = 8
CHUNK_EVENTS = 1 << 22


def moving_edge(events: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield that many events, one a microsecond: half of them along an edge that sweeps over the sensor."""
    height, width = SENSOR_HW
    rng = np.random.default_rng(seed)
    chunk = np.zeros(CHUNK_EVENTS, EVENT_DTYPE)
    noise = rng.integers(0, width, CHUNK_EVENTS)
    on_edge = rng.random(CHUNK_EVENTS) < 0.5
    chunk["y"] = rng.integers(0, height, CHUNK_EVENTS)
    chunk["p"] = rng.random(CHUNK_EVENTS) < 0.5
    for first in range(0, events, CHUNK_EVENTS):
        part = chunk[: min(CHUNK_EVENTS, events - first)]
        part["t"] = np.arange(first, first + len(part))
        edge = (part["t"] // 100) % width
        part["x"] = np.where(on_edge[: len(part)], edge, noise[: len(part)])
        yield part


def convert(source: Path, store: Path, *options: str) -> dict[str, float]:
    """Run `events convert` and return its seconds, processor seconds and peak memory in MB."""
    command = [sys.executable, "-m", "events", "convert", "folder", str(source), str(store)]
    started = time.perf_counter()
    process = subprocess.Popen([*command, "--workers", "1", *options], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    written = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": round(usage.ru_maxrss / 1024, 1),
        "store_mb": round(written / 1e6, 1),
    }


def main() -> None:
    """Make the recording, convert it twice, print figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=10, help="size of the recording")
    parser.add_argument("--folder", type=Path, help="where to make temporary files")
    arguments = parser.parse_args()
    events = int(arguments.gigabytes * 1e9) // RECORD_BYTES
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        recording = Path(folder) / "large" / "edge" / "0.dat"
        recording.parent.mkdir(parents=True)
        write_recording(recording, moving_edge(events), format="dat", sensor_hw=SENSOR_HW)
        source = recording.parents[1]
        figures = {
            "events": events,
            "recording_mb": round(recording.stat().st_size / 1e6, 1),
            "frames": convert(source, Path(folder) / "frames.zarr"),
            "raw_events": convert(source, Path(folder) / "events.zarr", "--events"),
        }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()

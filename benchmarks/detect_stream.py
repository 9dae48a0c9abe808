"""Looking at a long recording: latency by part, real time, and whether memory stays the same.

    taskset -c 0 chrt -f 1 .venv/bin/python benchmarks/detect_stream.py [--events 10] [--times 10]

A recording of 640 x 480 pixels with 1 M events a second, uniform over the sensor, is written as EVT 3.0, and
one that is `--times` as long. Each is looked at in a process of its own, one after the other, by a detector
that is not trained: time depends on its shape and on how many boxes NMS gets. So that these are as many as
can be, every box counts whatever its score. Windows are 50 ms, neurons go on from window to window, boxes are
written as CSV. `--scale 4` makes frames of 160 x 120 pixels.

Memory is that of the process (resident set), looked at ten times a second; "first" is its median over the
first tenth of the time after the first five seconds, "last" over the last tenth, "most" its largest value.

Claim: "last" of the long recording is within 50 MB of that of the short one. No claim on the rest, which is
that of the network.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from events.recording import EVENT_DTYPE
from events.writers.registry import write_recording

SENSOR_HW = (480, 640)
RATE = 1_000_000
WINDOW_US = 50_000
SETTLED_S = 5.0


def chunks(events: int) -> Iterator[np.ndarray]:
    """Yield events of a second each."""
    rng = np.random.default_rng(0)
    for second in range(-(-events // RATE)):
        n = min(RATE, events - second * RATE)
        chunk = np.zeros(n, EVENT_DTYPE)
        chunk["t"] = np.sort(rng.integers(0, 1_000_000, n)) + second * 1_000_000
        chunk["x"], chunk["y"] = rng.integers(0, SENSOR_HW[1], n), rng.integers(0, SENSOR_HW[0], n)
        chunk["p"] = rng.integers(0, 2, n)
        yield chunk


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def look(path: Path, width: float, size_hw: tuple[int, int]) -> dict[str, object]:
    """Look at a recording in this process."""
    import torch

    from events.binning.settings import PRESETS
    from events.readers.registry import open_recording
    from pipelines.detect_stream import detect_stream
    from pipelines.stream.detector import StreamNetwork
    from pipelines.stream.settings import StreamFiles, StreamSettings
    from pipelines.stream.windows import WindowCut
    from snn.detection.detector import build_detector
    from snn.detection.settings import DetectorSettings

    torch.manual_seed(0)
    binning = replace(PRESETS["cube"], window_us=WINDOW_US)
    settings = DetectorSettings(width=width)
    detector = build_detector(settings, in_channels=binning.channels, input_hw=size_hw, classes=2)
    network = StreamNetwork(detector, binning, ("car", "pedestrian"), SENSOR_HW, "untrained")
    samples: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            samples.append(resident_mb())

    with tempfile.TemporaryDirectory() as folder:
        files = StreamFiles((Path(folder) / "boxes.csv",), Path(folder) / "summary.json")
        watching = threading.Thread(target=watch)
        watching.start()
        found = detect_stream(
            network,
            open_recording(path),
            StreamSettings(WindowCut(WINDOW_US, WINDOW_US), least_score=0.0, device="cpu", rescale=True),
            files,
        )
        done.set()
        watching.join()
    settled = samples[int(SETTLED_S * 10) :] or samples
    tenth = max(1, len(settled) // 10)
    memory = {
        "first_mb": statistics.median(settled[:tenth]),
        "last_mb": statistics.median(settled[-tenth:]),
        "most_mb": max(samples),
    }
    kept = ("windows", "boxes", "events", "recorded_s", "busy_s", "real_time_factor", "events_per_s")
    parts = {name: found["parts_ms"][name] for name in ("decode", "encode", "forward", "nms")}
    return (
        {name: found[name] for name in (*kept, "deadline_misses")}
        | memory
        | {"parts_ms": parts | {"latency": found["latency_ms"], "age": found["age_ms"]}}
    )


def main() -> None:
    """Write the recordings, look at each in a process of its own, and print tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=float, default=10, help="millions of the short recording")
    parser.add_argument("--times", type=int, default=10, help="how much longer the long one is; 1: none")
    parser.add_argument("--width", type=float, default=0.25, help="of the detector")
    parser.add_argument("--scale", type=int, default=1, help="frames are so many times smaller")
    parser.add_argument("--folder", type=Path, help="where the recordings stay; else they are removed")
    parser.add_argument("--look", type=Path, help="look at this recording in this process")
    arguments = parser.parse_args()
    size_hw = (SENSOR_HW[0] // arguments.scale, SENSOR_HW[1] // arguments.scale)
    if arguments.look:
        print(json.dumps(look(arguments.look, arguments.width, size_hw)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = {}
        for times in sorted({1, arguments.times}):
            events = int(arguments.events * 1e6) * times
            path = folder / f"uniform_{events}.raw"
            if not path.exists():
                write_recording(path, chunks(events), format="evt3", sensor_hw=SENSOR_HW)
            began, load = time.strftime("%H:%M"), os.getloadavg()[0]
            options = ["--width", str(arguments.width), "--scale", str(arguments.scale)]
            command = [sys.executable, __file__, "--look", str(path), *options]
            printed = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
            one = found[events] = json.loads(printed.splitlines()[-1])
            print(
                f"{path.name} from {began}, load {load:.1f} before and {os.getloadavg()[0]:.1f} after",
                flush=True,
            )
            print("\n| ms | p50 | p90 | p99 | p99.9 | max |\n|---|---|---|---|---|---|")
            for name, part in one["parts_ms"].items():
                cells = " | ".join(f"{part[key]:.2f}" for key in ("p50", "p90", "p99", "p99.9", "max"))
                print(f"| {name} | {cells} |")
    print(
        "\n| events | windows | times real time | events/s | p99, ms | too late "
        "| first, MB | last, MB | most, MB |\n|---|---|---|---|---|---|---|---|---|"
    )
    for events, one in found.items():
        print(
            f"| {events / 1e6:g} M | {one['windows']} | {one['real_time_factor']:.2f} | "
            f"{one['events_per_s'] / 1e6:.2f} M | {one['parts_ms']['latency']['p99']:.0f} | "
            f"{one['deadline_misses']} | {one['first_mb']:.0f} | {one['last_mb']:.0f} | "
            f"{one['most_mb']:.0f} |"
        )
    if len(found) == 2:
        short, long = found.values()
        apart = long["last_mb"] - short["last_mb"]
        print(f"\nthe long one ends {apart:+.0f} MB from the short one, claim within 50: {abs(apart) <= 50}")


if __name__ == "__main__":
    main()

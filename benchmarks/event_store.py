"""What keeping raw events costs: bytes, writing, reading and binning them again, beside plain columns.

    taskset -c 0 .venv/bin/python benchmarks/event_store.py [RECORDING...]

Without recordings, a simulated scene is used: a textured picture that moves in closed loops, on 128x128 and
240x304 pixels. Plain columns, as most HDF5 files of events hold, are t int64, x and y uint16, p uint8, in
chunks of the same length, codec and checksum, kept in memory; both are decompressed alone (`unpack`) and to
events (`read`). Every round runs all once, in processor time; figures are medians. Files are in the page
cache.
Aim: 8 to 23 % fewer bytes than plain columns, unpacked 1.7 times as fast.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numcodecs import blosc
from PIL import Image

from events.binning.numba_cpu import bin_events
from events.binning.settings import BinSettings
from events.datasets.registry import list_samples
from events.readers.registry import open_recording
from events.recording import EventBuffer
from events.store.event_layout import CHUNK, PACKED_COLUMNS
from events.store.event_reader import EventStore
from events.store.event_shards import FlatColumn, encode_chunk
from events.store.event_writer import convert_events
from events.store.shard import crc_is_right
from events.synth.motion import MotionSettings, closed_loops
from events.synth.sensor import SensorSettings, draw_pixels, record_moving_picture
from events.writers.registry import write_recording

PLAIN_COLUMNS = {"t": "<i8", "x": "<u2", "y": "<u2", "p": "u1"}
SCENES = {"128x128": (128, 128), "240x304": (240, 304)}
STEP_US = 1_000
LOOP_US = 150_000


def moving_texture(sensor_hw: tuple[int, int], *, span_us: int, seed: int = 0) -> np.ndarray:
    """Return events of a random texture moved before a simulated sensor, shape [N], EVENT_DTYPE."""
    rng = np.random.default_rng(seed)
    height, width = sensor_hw
    coarse = rng.random((height // 8 + 3, width // 8 + 3)).astype(np.float32)
    texture = np.asarray(Image.fromarray(coarse).resize((width + 16, height + 16), Image.Resampling.BICUBIC))
    motion = MotionSettings(loops=max(1, span_us // LOOP_US))
    settings = SensorSettings(sensor_hw=sensor_hw)
    return record_moving_picture(
        np.log(1 + 3 * np.clip(texture, 0, 1)),
        motion.radius_px - closed_loops(motion, steps=span_us // STEP_US),
        step_us=STEP_US,
        settings=settings,
        pixels=draw_pixels(settings, rng),
        rng=rng,
    )


class PlainColumns:
    """The events of a recording as plain compressed columns in memory."""

    def __init__(self, events: np.ndarray) -> None:
        """Compress them, chunk by chunk."""
        self._values = {name: np.empty(CHUNK, dtype) for name, dtype in PLAIN_COLUMNS.items()}
        self.chunks = [
            {name: self._encode(name, events[at : at + CHUNK]) for name in PLAIN_COLUMNS}
            for at in range(0, len(events), CHUNK)
        ]

    def _encode(self, name: str, events: np.ndarray) -> bytes:
        values = self._values[name]
        values[: len(events)], values[len(events) :] = events[name], 0
        return encode_chunk(values, "fast")

    def unpack(self, out: np.ndarray | None = None) -> None:
        """Check and decompress all of it, into the same memory over and over, and from there to events."""
        for number, chunk in enumerate(self.chunks):
            for name, stored in chunk.items():
                if not crc_is_right(stored):
                    raise SystemExit(f"checksum of a chunk of {name} is wrong")
                blosc.decompress(memoryview(stored)[:-4], self._values[name])
                if out is not None:
                    part = out[number * CHUNK : (number + 1) * CHUNK]
                    part[name] = self._values[name][: len(part)]


def unpack_columns(columns: list[FlatColumn], chunks: int) -> None:
    """Check and decompress packed columns, into the same memory over and over."""
    for number in range(chunks):
        for column in columns:
            column.chunk(number)


def measure(source: Path, folder: Path, *, rounds: int) -> dict[str, float]:
    """Store one recording and return bytes per event and M events/s; its events are compared first."""
    tree = folder / "tree" / "all"
    shutil.rmtree(folder / "tree", ignore_errors=True)
    tree.mkdir(parents=True)
    (tree / source.name).symlink_to(source)
    listing = list_samples("folder", tree.parent)
    events = open_recording(source).read()

    def write() -> None:
        shutil.rmtree(folder / "events.zarr", ignore_errors=True)
        convert_events(listing, folder / "events.zarr")

    write()
    store = EventStore(folder / "events.zarr")
    plain, stored = PlainColumns(events), store.recording(0)
    if not np.array_equal(stored.read(), events):
        raise SystemExit(f"{source}: the store gives other events")
    types = store.attributes["column_types"]
    columns = [FlatColumn(store.path / name, types[name]) for name in PACKED_COLUMNS]
    buffer, settings = EventBuffer(), BinSettings(frames=10)
    n, sensor_hw = len(events), stored.sensor_hw
    windows = np.random.default_rng(0).integers(int(events["t"][0]), int(events["t"][-1]) + 1, 8).tolist()
    runs: dict[str, Callable[[], object]] = {
        "write": write,
        "unpack_plain": plain.unpack,
        "unpack": lambda: unpack_columns(columns, len(plain.chunks)),
        "read_plain": lambda: plain.unpack(buffer.room(n)),
        "read": lambda: stored.read_into(buffer),
        "bin": lambda: bin_events(stored.read_into(buffer), settings=settings, sensor_hw=sensor_hw),
        "window": lambda: [sum(map(len, stored.chunks(start_us=t, stop_us=t + 5000))) for t in windows],
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            started = time.process_time()
            run()
            seconds[name].append(time.process_time() - started)
    median = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    files = [
        file for name in ("dt", "xp", "y", "high") for file in (folder / "events.zarr" / name).glob("c.*")
    ]
    return {
        "events": n / 1e6,
        "plain_bytes": sum(len(part) for chunk in plain.chunks for part in chunk.values()) / n,
        "bytes": sum(file.stat().st_size for file in files) / n,
        "window_us": median["window"] / len(windows) * 1e6,
    } | {name: n / median[name] / 1e6 for name in runs if name != "window"}


def main() -> None:
    """Measure each recording, or simulated ones, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recordings", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="length of the simulated recordings")
    arguments = parser.parse_args()
    print("M events/s; where there are two, plain columns and ours")
    print("recording           M events  bytes/event  write     unpack       read  read+bin  5 ms window")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recordings = [path.absolute() for path in arguments.recordings]
        for scene, sensor_hw in {} if recordings else SCENES.items():
            recordings.append(folder / f"{scene}.dat")
            events = moving_texture(sensor_hw, span_us=round(arguments.seconds * 1e3) * STEP_US)
            write_recording(recordings[-1], events, format="dat", sensor_hw=sensor_hw)
        for path in recordings:
            found = measure(path, folder, rounds=arguments.rounds)
            cells = [f"{path.name[:19]:19s}", f"{found['events']:8.2f}"]
            cells += [f"{found['plain_bytes']:7.2f} {found['bytes']:4.2f}", f"{found['write']:5.0f}"]
            cells += [f"{found[f'{name}_plain']:5.0f} {found[name]:4.0f}" for name in ("unpack", "read")]
            print(*cells, f"{found['bin']:8.0f}", f"{found['window_us']:9.0f} us", flush=True)


if __name__ == "__main__":
    main()

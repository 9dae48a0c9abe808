"""Small sound recordings of every format that has a writer, from which damaged ones are made."""

import tempfile
from pathlib import Path

import numpy as np

from events.recording import EVENT_DTYPE
from events.writers.registry import WRITERS, write_recording

SENSOR_HW = (128, 128)
EVENTS = (0, 1, 60, 400)
# Files taken from a folder of real recordings are cut to that many bytes.
LARGEST_SEED = 20_000


def made_seeds() -> list[tuple[str, bytes]]:
    """Return format and content of recordings made by our writers; the same every time."""
    seeds = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed"
        for format in sorted(WRITERS):
            for count in EVENTS:
                write_recording(path, some_events(count), format=format, sensor_hw=SENSOR_HW)
                seeds.append((format, path.read_bytes()))
    return seeds


def some_events(count: int) -> np.ndarray:
    """Return events with pauses, repeats and rows, such as cameras send, shape [count], EVENT_DTYPE."""
    rng = np.random.default_rng(count)
    events = np.zeros(count, EVENT_DTYPE)
    events["t"] = np.cumsum(rng.choice([0, 0, 1, 3, 200, 5000], count))
    events["x"] = (np.cumsum(rng.choice([1, 1, 2, 40], count))) % SENSOR_HW[1]
    events["y"] = np.repeat(rng.integers(0, SENSOR_HW[0], count // 7 + 1), 7)[:count]
    events["p"] = rng.integers(0, 2, count)
    return events


def folder_seeds(folder: Path) -> list[tuple[str, bytes]]:
    """Return the first part of each file of a folder, whatever it is; its format is left to be told."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [("", path.open("rb").read(LARGEST_SEED)) for path in files]

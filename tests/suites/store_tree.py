"""A small tree of recordings in class folders, its frames counted without the code under test, and damage."""

from pathlib import Path

import numpy as np

from events.binning.settings import BinSettings
from events.convert import ConvertSettings
from events.datasets.listing import Listing
from events.datasets.registry import list_samples
from events.recording import EVENT_DTYPE
from events.writers.registry import write_recording

SENSOR_HW = (128, 128)
CLASSES = ("cat", "dog", "frog")
EVENTS = 400
# Nine recordings make three shards.
SETTINGS = ConvertSettings(binning=BinSettings(frames=3), shard_samples=4)
# What `damage_file` does to a file.
DAMAGES = ("flip", "cut", "delete")


def moving_dot(seed: int, *, events: int = EVENTS) -> np.ndarray:
    """Return events of a dot that wanders, shape [events], EVENT_DTYPE; the same for the same seed."""
    rng = np.random.default_rng(seed)
    recording = np.empty(events, EVENT_DTYPE)
    recording["t"] = 1000 + 50 * np.arange(events)
    recording["x"] = rng.integers(20, 40, events) + seed % 60
    recording["y"] = rng.integers(30, 60, events)
    recording["p"] = rng.random(events) < 0.5
    return recording


def write_tree(root: Path, *, per_class: int) -> Path:
    """Write `per_class` AEDAT 2.0 recordings for each class below a folder and return the folder."""
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            path = root / name / f"{number}.aedat"
            write_recording(path, moving_dot(1000 * label + number), format="aedat2", sensor_hw=SENSOR_HW)
    return root


def list_tree(root: Path) -> Listing:
    """List such a tree: half of it for training."""
    return list_samples("folder", root, split="random:0:0.5")


def frames_by_hand(events: np.ndarray, *, frames: int) -> np.ndarray:
    """Count events one by one into frames of equal event count, the rest into the last frame."""
    counts = np.zeros((frames, 2, *SENSOR_HW), np.int64)
    for number, event in enumerate(events):
        step = min(number // (len(events) // frames), frames - 1)
        counts[step, int(event["p"]), event["y"], event["x"]] += 1
    return counts


def file_bytes(store: Path) -> dict[str, bytes]:
    """Return the files that must not depend on how a store was made: shards, columns, sources."""
    kept = {}
    for path in sorted(store.rglob("*")):
        name = path.relative_to(store).as_posix()
        changing = name in ("zarr.json", "manifest.jsonl", "README.md", ".writer.lock")
        if path.is_file() and not changing:
            kept[name] = path.read_bytes()
    return kept


def damage_file(path: Path, damage: str) -> int:
    """Flip a bit of a file, cut its last byte off, or delete it; return how many bytes it had."""
    stored = path.read_bytes()
    if damage == "delete":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(stored[:-1])
    else:
        path.write_bytes(stored[:50] + bytes([stored[50] ^ 4]) + stored[51:])
    return len(stored)

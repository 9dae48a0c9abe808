"""NumPy files: `.npz` with the arrays t, x, y, p and sensor_hw, `.npy` with one structured array."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from events.recording import EVENT_DTYPE
from events.writers.atomic import atomic_file
from events.writers.event_stream import pieces


def write_npz(path: Path, events: np.ndarray | Iterable[np.ndarray], *, sensor_hw: tuple[int, int]) -> None:
    """Write a compressed `.npz`; the events are gathered in memory first. Raises as `write_recording`."""
    whole = gather(events, sensor_hw)
    t, x, y, p = (np.ascontiguousarray(whole[name]) for name in ("t", "x", "y", "p"))
    with atomic_file(path) as stream:
        np.savez_compressed(stream, t=t, x=x, y=y, p=p, sensor_hw=np.array(sensor_hw, np.int64))


def write_npy(path: Path, events: np.ndarray | Iterable[np.ndarray], *, sensor_hw: tuple[int, int]) -> None:
    """Write a structured `.npy`; the events are gathered in memory first. Raises as `write_recording`."""
    whole = gather(events, sensor_hw)
    with atomic_file(path) as stream:
        np.save(stream, whole, allow_pickle=False)


def gather(events: np.ndarray | Iterable[np.ndarray], sensor_hw: tuple[int, int]) -> np.ndarray:
    """Return all events in one array, shape [N], EVENT_DTYPE, without stray bytes between the fields."""
    parts = [piece.copy() for piece, _ in pieces(events, sensor_hw=sensor_hw)]
    whole = np.zeros(sum(len(part) for part in parts), EVENT_DTYPE)
    if parts:
        np.concatenate(parts, out=whole)
    return whole

"""Comma-separated text with a line of names: t in microseconds, x, y, p."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from events.writers.atomic import atomic_file
from events.writers.event_stream import pieces


def write_csv(path: Path, events: np.ndarray | Iterable[np.ndarray], *, sensor_hw: tuple[int, int]) -> None:
    """Write a text file. Raises as `write_recording`."""
    with atomic_file(path) as stream:
        stream.write(b"t,x,y,p\n")
        for piece, _ in pieces(events, sensor_hw=sensor_hw):
            table = np.stack([piece[name].astype(np.int64) for name in ("t", "x", "y", "p")], axis=1)
            np.savetxt(stream, table, fmt="%d", delimiter=",")

"""Comma-separated text with a line of names: t in microseconds, x, y, p."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from events.writers.atomic import atomic_file
from events.writers.event_stream import PIECE_EVENTS, pieces
from events.writers.text_rows import LONGEST_ROW, format_rows


def write_csv(path: Path, events: np.ndarray | Iterable[np.ndarray], *, sensor_hw: tuple[int, int]) -> None:
    """Write a text file. Raises as `write_recording`."""
    with atomic_file(path) as stream:
        stream.write(b"t,x,y,p\n")
        text = np.empty(PIECE_EVENTS * LONGEST_ROW, np.uint8)
        for piece, _ in pieces(events, sensor_hw=sensor_hw):
            length = format_rows(np.ascontiguousarray(piece).view(np.int64), text)
            stream.write(text[:length].data)

"""The 5-byte format of N-MNIST; the inverse of `events.readers.bin40`.

A record holds 23 bits of time. Later times are reached by overflow markers, records with y = 240 that add
8192 us to all that follow.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from events.errors import ConfigError
from events.readers.bin40 import MARKER_ROW, MARKER_US, RECORD_BYTES
from events.writers.atomic import atomic_file
from events.writers.event_stream import check_times, pieces

TIME_BITS = 23
LARGEST_COLUMN = 255

# Markers written at most: an hour's worth. More would be a file of markers.
MOST_MARKERS = 3600 * 1_000_000 // MARKER_US


def write_bin40(path: Path, events: np.ndarray | Iterable[np.ndarray], *, sensor_hw: tuple[int, int]) -> None:
    """Write a recording.

    Args:
        path: Where to; an existing file is replaced.
        events: EVENT_DTYPE, shape [N], or chunks of it; once past 8.39 s, no earlier than the markers
            written so far allow.
        sensor_hw: Height and width in pixels, at most 240 and 256.

    Raises:
        ConfigError: The events or the sensor do not fit the format.
        EventsError: The file cannot be written.
    """
    if sensor_hw[0] > MARKER_ROW or sensor_hw[1] > LARGEST_COLUMN + 1:
        raise ConfigError(
            f"a sensor of {sensor_hw[0]}x{sensor_hw[1]} does not fit 5-byte records, which hold "
            f"{MARKER_ROW}x{LARGEST_COLUMN + 1}; use csv or npz"
        )
    markers = 0
    with atomic_file(path) as stream:
        for piece, _ in pieces(events, sensor_hw=sensor_hw):
            check_times(
                piece["t"],
                first=markers * MARKER_US,
                stop=MOST_MARKERS * MARKER_US,
                format_name="5-byte records",
            )
            needed = markers_before(piece["t"], markers)
            stream.write(encode(piece, needed, markers))
            markers = int(needed[-1])


def markers_before(t: np.ndarray, written: int) -> np.ndarray:
    """Return how many markers, in all, must precede each event, shape [n], int64."""
    over = t - ((1 << TIME_BITS) - 1)
    needed = np.maximum.accumulate(np.maximum(-(-over // MARKER_US), written))
    if np.any(t < needed * MARKER_US):
        raise ConfigError(
            "a time falls further back than 5-byte records can say after 8.39 s; sort the events"
        )
    return needed


def encode(events: np.ndarray, needed: np.ndarray, written: int) -> bytes:
    """Return the records of events with the markers between them."""
    new = np.diff(needed, prepend=written)
    rows = np.arange(len(events)) + np.cumsum(new)
    records = np.zeros((len(events) + int(new.sum()), RECORD_BYTES), np.uint8)
    records[:, 1] = MARKER_ROW
    t = events["t"] - needed * MARKER_US
    records[rows, 0] = events["x"]
    records[rows, 1] = events["y"]
    records[rows, 2] = (events["p"].astype(np.uint8) << 7) | (t >> 16).astype(np.uint8)
    records[rows, 3] = (t >> 8) & 0xFF
    records[rows, 4] = t & 0xFF
    return records.tobytes()

"""Event Stream 2.0.0 (`.es`) of a DVS. The byte layout is in `events.readers.event_stream`."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numba import njit

from events.errors import ConfigError
from events.readers.event_stream import DVS, ES_MARK, VERSION
from events.writers.atomic import atomic_file
from events.writers.event_stream import check_times, pieces

# Later first times would begin the file with more than 30 MB that only count time.
STOP_US = 1 << 32
LARGEST_SIDE = 0xFFFF


def write_event_stream(
    path: Path, events: np.ndarray | Iterable[np.ndarray], *, sensor_hw: tuple[int, int]
) -> None:
    """Write an Event Stream of type DVS, y counted from the bottom. Raises as `write_recording`.

    Raises:
        ConfigError: Also where time falls, which the format cannot say.
    """
    height, width = sensor_hw
    if not (0 < height <= LARGEST_SIDE and 0 < width <= LARGEST_SIDE):
        raise ConfigError(f"sensor of {height}x{width} does not fit Event Stream, whose sides end at 65535")
    with atomic_file(path) as stream:
        stream.write(ES_MARK + bytes([*VERSION, DVS]) + np.array([width, height], "<u2").tobytes())
        for piece, previous in pieces(events, sensor_hw=sensor_hw):
            t = piece["t"]
            check_times(t, first=0, stop=STOP_US, format_name="Event Stream")
            steps = np.diff(t, prepend=0 if previous is None else previous)
            if steps.min() < 0:
                late = int(np.argmin(steps))
                raise ConfigError(
                    f"time falls by {-int(steps[late])} us at t={int(t[late])}, and Event Stream has no way "
                    "to say so; sort the events or write another format"
                )
            stream.write(encode(np.ascontiguousarray(piece), steps, height - 1).tobytes())


@njit(nogil=True, cache=True)
def encode(events: np.ndarray, steps: np.ndarray, last_row: int) -> np.ndarray:
    """Return the bytes, uint8; `steps` are the microseconds before each, int64, at least 0."""
    size = 0
    for step in steps:
        size += step // 127 + 5
    out = np.empty(size, np.uint8)
    at = 0
    for i in range(len(events)):
        for _ in range(steps[i] // 127):
            out[at] = 0xFF
            at += 1
        x, y = np.int64(events[i]["x"]), last_row - np.int64(events[i]["y"])
        out[at] = (steps[i] % 127) << 1 | np.int64(events[i]["p"])
        out[at + 1], out[at + 2] = x & 0xFF, x >> 8
        out[at + 3], out[at + 4] = y & 0xFF, y >> 8
        at += 5
    return out

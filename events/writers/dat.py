"""Prophesee DAT, version 2, type 0x0C; the inverse of `events.readers.dat`.

Times are stored modulo 2^32, and a reader that unwraps gives them back as long as no step is of 2^31 or more.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from events.errors import ConfigError
from events.readers.record_clock import WRAP_US
from events.writers.aedat import check_steps
from events.writers.atomic import atomic_file
from events.writers.event_stream import pieces

CD_EVENTS = b"\x0c\x08"
Y_SHIFT = 14
P_SHIFT = 28
LARGEST_SIDE = 1 << Y_SHIFT


def write_dat(path: Path, events: np.ndarray | Iterable[np.ndarray], *, sensor_hw: tuple[int, int]) -> None:
    """Write a recording; the same events give the same bytes.

    Args:
        path: Where to; an existing file is replaced.
        events: EVENT_DTYPE, shape [N], or chunks of it.
        sensor_hw: Height and width in pixels.

    Raises:
        ConfigError: The events or the sensor do not fit the format.
        EventsError: The file cannot be written.
    """
    height, width = sensor_hw
    if max(height, width) > LARGEST_SIDE:
        raise ConfigError(
            f"a sensor of {height}x{width} does not fit DAT, whose coordinates have 14 bits; use csv or npz"
        )
    with atomic_file(path) as stream:
        stream.write(header(sensor_hw) + CD_EVENTS)
        for piece, previous in pieces(events, sensor_hw=sensor_hw):
            check_steps(piece["t"], previous, format_name="DAT")
            stream.write(records(piece).tobytes())


def header(sensor_hw: tuple[int, int]) -> bytes:
    """Return the header lines."""
    height, width = sensor_hw
    return (f"% Data file containing CD events.\n% Version 2\n% Height {height}\n% Width {width}\n").encode()


def records(events: np.ndarray) -> np.ndarray:
    """Return the records of events, shape [n, 2], little-endian uint32: time, address."""
    words = np.empty((len(events), 2), "<u4")
    words[:, 0] = events["t"] & (WRAP_US - 1)
    words[:, 1] = events["x"]
    words[:, 1] |= events["y"].astype(np.uint32) << Y_SHIFT
    words[:, 1] |= events["p"].astype(np.uint32) << P_SHIFT
    return words

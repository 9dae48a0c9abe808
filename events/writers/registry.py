"""The writers by format name; the same names as the readers'."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from events.errors import ConfigError
from events.writers.aedat import write_aedat
from events.writers.bin40 import write_bin40
from events.writers.columns import write_npy, write_npz
from events.writers.dat import write_dat
from events.writers.event_stream_file import write_event_stream
from events.writers.text import write_csv

WRITERS: dict[str, Callable[..., None]] = {
    "aedat1": partial(write_aedat, version=1),
    "aedat2": partial(write_aedat, version=2),
    "bin40": write_bin40,
    "es": write_event_stream,
    "dat": write_dat,
    "npz": write_npz,
    "npy": write_npy,
    "csv": write_csv,
}


def write_recording(
    path: Path | str,
    events: np.ndarray | Iterable[np.ndarray],
    *,
    format: str,
    sensor_hw: tuple[int, int],
    **details: Any,
) -> None:
    """Write events as a recording, whole or not at all; the same events give the same bytes.

    Args:
        path: Where to; an existing file is replaced.
        events: EVENT_DTYPE, shape [N], or any number of such arrays in order.
        format: A key of `WRITERS`.
        sensor_hw: Height and width in pixels.
        **details: What a format has of its own: orientation, polarity and comments for AEDAT.

    Raises:
        ConfigError: The events or the sensor do not fit the format.
        EventsError: The file cannot be written.
    """
    if format not in WRITERS:
        raise ConfigError(f"format {format!r} has no writer; known are {', '.join(WRITERS)}")
    WRITERS[format](Path(path), events, sensor_hw=sensor_hw, **details)

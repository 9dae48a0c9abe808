"""The writers by format name; the same names as the readers'."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from events.errors import ConfigError
from events.writers.aedat import write_aedat
from events.writers.aedat3 import write_aedat3
from events.writers.aedat4 import write_aedat4
from events.writers.asl_mat import write_asl_mat
from events.writers.bin40 import write_bin40
from events.writers.columns import write_npy, write_npz
from events.writers.dat import write_dat
from events.writers.event_stream_file import write_event_stream
from events.writers.evt2 import write_evt2
from events.writers.evt3 import write_evt3
from events.writers.evt21 import write_evt21
from events.writers.hdf5 import write_hdf5
from events.writers.rosbag import write_bag
from events.writers.text import write_csv

WRITERS: dict[str, Callable[..., None]] = {
    "aedat1": partial(write_aedat, version=1),
    "aedat2": partial(write_aedat, version=2),
    "aedat3": write_aedat3,
    "aedat4": write_aedat4,
    "bin40": write_bin40,
    "es": write_event_stream,
    "dat": write_dat,
    "evt2": write_evt2,
    "evt21": write_evt21,
    "evt3": write_evt3,
    "hdf5": write_hdf5,
    "mat": write_asl_mat,
    "rosbag1": partial(write_bag, container="rosbag1"),
    "rosbag2": partial(write_bag, container="rosbag2"),
    "mcap": partial(write_bag, container="mcap"),
    "npz": write_npz,
    "npy": write_npy,
    "csv": write_csv,
}

# What a new file of a suffix most likely is to be; a suffix says nothing about a file that is there.
SUFFIXES = {
    ".aedat": "aedat2",
    ".aedat2": "aedat2",
    ".aedat4": "aedat4",
    ".raw": "evt3",
    ".dat": "dat",
    ".es": "es",
    ".bin": "bin40",
    ".bs2": "bin40",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".bag": "rosbag1",
    ".db3": "rosbag2",
    ".mcap": "mcap",
    ".npz": "npz",
    ".npy": "npy",
    ".csv": "csv",
    ".txt": "csv",
}


def format_for(path: Path | str) -> str:
    """Return the format, a key of `WRITERS`, in which a new file of that name is written.

    Raises:
        ConfigError: Its suffix says none that has a writer.
    """
    suffix = Path(path).suffix.lower()
    if SUFFIXES.get(suffix) in WRITERS:
        return SUFFIXES[suffix]
    known = ", ".join(name for name, format in SUFFIXES.items() if format in WRITERS)
    raise ConfigError(
        f"{path}: suffix {suffix!r} says no format that has a writer; known are {known}; "
        f"or name a format: {', '.join(WRITERS)}"
    )


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

"""AEDAT 1.0 and 2.0, as jAER writes them; the inverse of `events.readers.aedat`.

The sensor is a DVS128 where the events fit one, and a DAVIS where `sensor_hw` is that of a DAVIS. Times
are stored modulo 2^32, and a reader that unwraps gives them back as long as no step is of 2^31 or more.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from events.errors import ConfigError
from events.readers.aedat_address import (
    DAVIS_HW,
    DAVIS_P_SHIFT,
    DAVIS_X_SHIFT,
    DAVIS_Y_SHIFT,
    DVS128_HW,
    DVS128_ORIENTATIONS,
)
from events.readers.record_clock import HALF_WRAP_US, WRAP_US
from events.recording import Orientation, Polarity
from events.writers.atomic import atomic_file
from events.writers.event_stream import pieces

DVS128_CHIP = "ch.unizh.ini.jaer.chip.retina.DVS128"
DAVIS_CHIPS = {
    DAVIS_HW["240"]: "eu.seebetter.ini.chips.davis.DAVIS240C",
    DAVIS_HW["346"]: "eu.seebetter.ini.chips.davis.Davis346blue",
    DAVIS_HW["640"]: "eu.seebetter.ini.chips.davis.Davis640",
}

RECORD_TYPES = {
    1: np.dtype([("address", ">u2"), ("time", ">u4")]),
    2: np.dtype([("address", ">u4"), ("time", ">u4")]),
}
FORMAT_LINES = {
    1: "Data format is int16 address, int32 timestamp (6 bytes total), repeated for each event",
    2: "Data format is int32 address, int32 timestamp (8 bytes total), repeated for each event",
}


def write_aedat(
    path: Path,
    events: np.ndarray | Iterable[np.ndarray],
    *,
    version: int,
    sensor_hw: tuple[int, int],
    orientation: Orientation = "jaer",
    polarity: Polarity = "on1",
    comments: tuple[str, ...] = (),
) -> None:
    """Write a recording; the same events give the same bytes.

    Args:
        path: Where to; an existing file is replaced.
        events: EVENT_DTYPE, shape [N], or chunks of it.
        version: 1 for AEDAT 1.0, 2 for AEDAT 2.0.
        sensor_hw: Height and width in pixels.
        orientation: What the events' coordinates mean, as in `events.readers.aedat`.
        polarity: What the events' polarity means, likewise.
        comments: Lines for the header, without `#`.

    Raises:
        ConfigError: The events or the sensor do not fit the format.
        EventsError: The file cannot be written.
    """
    davis = version == 2 and sensor_hw in DAVIS_CHIPS
    if not davis and (sensor_hw[0] > DVS128_HW[0] or sensor_hw[1] > DVS128_HW[1]):
        raise ConfigError(
            f"a sensor of {sensor_hw[0]}x{sensor_hw[1]} does not fit AEDAT {version}.0; use csv or npz"
        )
    if davis and orientation not in ("jaer", "raw"):
        raise ConfigError(f"orientation {orientation!r} is about a DVS128, not a DAVIS; use 'jaer' or 'raw'")
    chip = DAVIS_CHIPS[sensor_hw] if davis else DVS128_CHIP
    with atomic_file(path) as stream:
        stream.write(header(version, chip, comments))
        for piece, previous in pieces(events, sensor_hw=sensor_hw):
            check_steps(piece["t"], previous)
            records = np.empty(len(piece), RECORD_TYPES[version])
            if davis:
                records["address"] = davis_address(piece, sensor_hw, orientation=orientation)
            else:
                records["address"] = dvs128_address(piece, orientation=orientation, polarity=polarity)
            records["time"] = piece["t"] & (WRAP_US - 1)
            stream.write(records.tobytes())


def header(version: int, chip: str, comments: tuple[str, ...]) -> bytes:
    """Return the header; its last line says that it is the last, so that no record can be taken for one."""
    lines = [
        f"!AER-DAT{version}.0",
        " This is a raw AE data file - do not edit",
        f" {FORMAT_LINES[version]}",
        " Timestamps tick is 1 us",
        f" AEChip: {chip}",
        *(f" {comment}" for comment in comments),
        "End Of ASCII Header",
    ]
    if any("\n" in line or "\r" in line for line in lines):
        raise ConfigError(f"comments {comments} must not hold line ends")
    return "".join(f"#{line}\r\n" for line in lines).encode()


def dvs128_address(events: np.ndarray, *, orientation: Orientation, polarity: Polarity) -> np.ndarray:
    """Return the addresses of a DVS128's events, shape [n], uint32."""
    if orientation not in DVS128_ORIENTATIONS:
        raise ConfigError(
            f"orientation {orientation!r} is unknown; known are {', '.join(DVS128_ORIENTATIONS)}"
        )
    x_shift, x_flipped, y_shift, y_flipped, _ = DVS128_ORIENTATIONS[orientation]
    x = events["x"].astype(np.uint32) ^ (127 * x_flipped)
    y = events["y"].astype(np.uint32) ^ (127 * y_flipped)
    bit = events["p"] ^ (polarity == "on1")
    return (x << x_shift) | (y << y_shift) | bit


def davis_address(events: np.ndarray, sensor_hw: tuple[int, int], *, orientation: Orientation) -> np.ndarray:
    """Return the addresses of a DAVIS's events, shape [n], uint32; its polarity bit is 1 for ON."""
    x, y = events["x"].astype(np.uint32), events["y"].astype(np.uint32)
    if orientation == "jaer":
        x, y = sensor_hw[1] - 1 - x, sensor_hw[0] - 1 - y
    return (x << DAVIS_X_SHIFT) | (y << DAVIS_Y_SHIFT) | (events["p"].astype(np.uint32) << DAVIS_P_SHIFT)


def check_steps(t: np.ndarray, previous: int | None, *, format_name: str = "AEDAT") -> None:
    """Refuse times that 32 bits cannot bring back.

    Raises:
        ConfigError: The first time is not within 0 to 2^32 - 1, or a step is of 2^31 us or more.
    """
    if previous is None and not 0 <= int(t[0]) < WRAP_US:
        raise ConfigError(
            f"first time {int(t[0])} us does not fit 32 bits; subtract it from all, as "
            "events cat --zero-time does"
        )
    steps = np.diff(t, prepend=t[0] if previous is None else previous)
    largest = int(np.abs(steps).max())
    if largest >= HALF_WRAP_US or int(t.min()) < 0:
        raise ConfigError(
            f"times from {int(t.min())} us with a step of {largest} us do not fit {format_name}; expected "
            f"times from 0 and steps below {HALF_WRAP_US} us"
        )

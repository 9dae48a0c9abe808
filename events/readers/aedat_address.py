"""Where x, y and polarity are in the addresses of AEDAT 1.0 and 2.0, for each sensor and orientation.

The readers' and the writers' one source for these bits; the table of meanings is in `events.readers.aedat`.
"""

import re
from typing import NamedTuple

from events.errors import ConfigError
from events.readers.record_layout import RecordLayout
from events.recording import Orientation, Polarity

# Address bits of a DVS128: 15 external event, 14..8 y, 7..1 x, 0 polarity (0 is ON); bits 16 to 30 are
# never set in AEDAT 2.0, bit 31 marks an event of jAER's own. Source: jAER, DVS128.java.
DVS128_X_SHIFT, DVS128_Y_SHIFT, DVS128_MASK = 1, 8, 0x7F
DVS128_GARBAGE = 0x7FFF0000
DVS128_SPECIAL = 0x80008000
DVS128_HW = (128, 128)

# Address bits of a DAVIS: 31 APS or IMU sample, 30..22 y, 21..12 x, 11 polarity (1 is ON), 10 external
# event. Source: inivation, "AEDAT file formats", AEDAT 2.0.
DAVIS_X_SHIFT, DAVIS_X_MASK = 12, 0x3FF
DAVIS_Y_SHIFT, DAVIS_Y_MASK = 22, 0x1FF
DAVIS_P_SHIFT = 11
DAVIS_SPECIAL = 0x80000400

# Sensors with the DAVIS address map, by the number in the name of their Java class.
DAVIS_HW = {"128": (128, 128), "208": (192, 208), "240": (180, 240), "346": (260, 346), "640": (480, 640)}

DAVIS_CLASS = re.compile(r"davis[a-z_]*(\d{3})", re.IGNORECASE)
DVS128_CLASS = re.compile(r"dvs128|tmpdiff128", re.IGNORECASE)
SBRET10_CLASS = re.compile(r"sbret10", re.IGNORECASE)  # the name of the DAVIS240 before it had one


class Sensor(NamedTuple):
    """A kind of sensor: how its addresses are laid out, and its height and width in pixels."""

    addresses: str
    hw: tuple[int, int]


DVS128 = Sensor("dvs128", DVS128_HW)


def sensor_of_chip(chip: str | None) -> Sensor | None:
    """Return the sensor that a header's `AEChip` names; None for one whose addresses are not known here.

    Files without that line are taken for a DVS128's, as every reader of them does.
    """
    if chip is None or DVS128_CLASS.search(chip):
        return DVS128
    if SBRET10_CLASS.search(chip):
        return Sensor("davis", DAVIS_HW["240"])
    davis = DAVIS_CLASS.search(chip.rsplit(".", 1)[-1])
    if davis and davis[1] in DAVIS_HW:
        return Sensor("davis", DAVIS_HW[davis[1]])
    return None


def dvs128_layout(
    record_bytes: int, sensor_hw: tuple[int, int], *, orientation: Orientation, polarity: Polarity
) -> RecordLayout:
    """Return the meaning of a DVS128's addresses.

    jAER leaves out special events; so does `raw`. `dat2mat` and `spikingjelly` look at no bit above 14.
    """
    if orientation not in DVS128_ORIENTATIONS:
        raise ConfigError(
            f"orientation {orientation!r} is unknown; known are {', '.join(sorted(DVS128_ORIENTATIONS))}"
        )
    x_shift, x_flipped, y_shift, y_flipped, filtered = DVS128_ORIENTATIONS[orientation]
    wide = record_bytes == 8
    return RecordLayout(
        record_bytes=record_bytes,
        x_shift=x_shift,
        x_mask=DVS128_MASK,
        x_flip=-x_flipped,
        x_add=128 * x_flipped,
        y_shift=y_shift,
        y_mask=DVS128_MASK,
        y_flip=-y_flipped,
        y_add=128 * y_flipped,
        p_shift=0,
        p_flip=int(polarity == "on1"),
        garbage_mask=DVS128_GARBAGE if filtered and wide else 0,
        special_mask=DVS128_SPECIAL & (0xFFFFFFFF if wide else 0xFFFF) if filtered else 0,
        marker_row=-1,
        marker_us=0,
        height=sensor_hw[0],
        width=sensor_hw[1],
    )


# For each orientation: x from which bits, counted from the other side (1) or not, y likewise, and whether
# special events are left out.
DVS128_ORIENTATIONS: dict[str, tuple[int, int, int, int, bool]] = {
    "jaer": (DVS128_X_SHIFT, 1, DVS128_Y_SHIFT, 1, True),
    "dat2mat": (DVS128_X_SHIFT, 1, DVS128_Y_SHIFT, 0, False),
    "spikingjelly": (DVS128_Y_SHIFT, 1, DVS128_X_SHIFT, 1, False),
    "raw": (DVS128_X_SHIFT, 0, DVS128_Y_SHIFT, 0, True),
}


def davis_layout(
    sensor_hw: tuple[int, int], *, chip_hw: tuple[int, int], orientation: Orientation
) -> RecordLayout:
    """Return the meaning of a DAVIS's addresses; its polarity bit is 1 for ON, whatever is asked for."""
    if orientation not in ("jaer", "raw"):
        raise ConfigError(
            f"orientation {orientation!r} is about a DVS128, and this is a DAVIS; use 'jaer' or 'raw'"
        )
    flipped = int(orientation == "jaer")
    return RecordLayout(
        record_bytes=8,
        x_shift=DAVIS_X_SHIFT,
        x_mask=DAVIS_X_MASK,
        x_flip=-flipped,
        x_add=chip_hw[1] * flipped,
        y_shift=DAVIS_Y_SHIFT,
        y_mask=DAVIS_Y_MASK,
        y_flip=-flipped,
        y_add=chip_hw[0] * flipped,
        p_shift=DAVIS_P_SHIFT,
        p_flip=0,
        garbage_mask=0,
        special_mask=DAVIS_SPECIAL,
        marker_row=-1,
        marker_us=0,
        height=sensor_hw[0],
        width=sensor_hw[1],
    )

"""AEDAT 3.1, as cAER writes it; the inverse of `events.readers.aedat3`.

A packet holds at most `PACKET_EVENTS` events, all with the same upper bits of time; where these rise, a
special event of type 0 (TIMESTAMP_WRAP) stands between two packets, as in cAER's files.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from events.errors import ConfigError
from events.readers.aedat3 import CAMERA_HW, LARGEST_HW
from events.readers.aedat3_packets import EVENT_BYTES, OVERFLOW_BITS, POLARITY_TYPE, SPECIAL_TYPE
from events.writers.atomic import atomic_file
from events.writers.event_stream import check_times
from events.writers.packets import event_packets

# cAER's default for the events of a packet.
PACKET_EVENTS = 4096
# Upper bits of time are a positive int32.
STOP_US = 1 << (OVERFLOW_BITS + 31)

HEADER_DTYPE = np.dtype(
    [
        ("type", "<i2"),
        ("source", "<i2"),
        ("size", "<i4"),
        ("ts_offset", "<i4"),
        ("ts_overflow", "<i4"),
        ("capacity", "<i4"),
        ("number", "<i4"),
        ("valid", "<i4"),
    ]
)
SOURCE_ID = 1


def write_aedat3(
    path: Path, events: np.ndarray | Iterable[np.ndarray], *, sensor_hw: tuple[int, int]
) -> None:
    """Write a recording; the same events give the same bytes. Raises as `write_recording`.

    The header names the camera with that sensor, or the size itself on a `#Sensor` line of ours.
    """
    if sensor_hw[0] > LARGEST_HW[0] or sensor_hw[1] > LARGEST_HW[1]:
        raise ConfigError(
            f"a sensor of {sensor_hw[0]}x{sensor_hw[1]} does not fit AEDAT 3.1, which holds "
            f"{LARGEST_HW[0]}x{LARGEST_HW[1]}; use csv or npz"
        )
    overflow = None
    with atomic_file(path) as stream:
        stream.write(header(sensor_hw))
        for packet in event_packets(events, sensor_hw=sensor_hw, packet_events=PACKET_EVENTS):
            check_times(packet["t"], first=0, stop=STOP_US, format_name="AEDAT 3.1")
            for run in runs_of_overflow(packet):
                last, overflow = overflow, int(run["t"][0] >> OVERFLOW_BITS)
                if last is not None and overflow > last:
                    stream.write(timestamp_wrap(last))
                stream.write(encode(run, overflow))


def header(sensor_hw: tuple[int, int]) -> bytes:
    """Return the lines before the first packet."""
    camera = next((name for name, known in CAMERA_HW.items() if known == sensor_hw), None)
    lines = [
        "!AER-DAT3.1",
        "Format: RAW",
        f"Source {SOURCE_ID}: {camera or 'Unknown'}",
        *([] if camera else [f"Sensor: {sensor_hw[0]}x{sensor_hw[1]}"]),
        "Start-Time: 1970-01-01 00:00:00 (TZ+0000)",
        "!END-HEADER",
    ]
    return "".join(f"#{line}\r\n" for line in lines).encode()


def runs_of_overflow(events: np.ndarray) -> Iterator[np.ndarray]:
    """Yield runs of events whose times have the same upper bits."""
    upper = events["t"] >> OVERFLOW_BITS
    yield from np.split(events, np.flatnonzero(np.diff(upper)) + 1)


def packet_header(kind: int, number: int, overflow: int) -> bytes:
    """Return the header of a packet of events of eight bytes, all valid."""
    fields = (kind, SOURCE_ID, EVENT_BYTES, 4, overflow, number, number, number)
    return np.array([fields], HEADER_DTYPE).tobytes()


def timestamp_wrap(overflow: int) -> bytes:
    """Return a packet with the special event that ends an epoch of the clock."""
    words = np.array([1, (1 << OVERFLOW_BITS) - 1], "<u4")
    return packet_header(SPECIAL_TYPE, 1, overflow) + words.tobytes()


def encode(events: np.ndarray, overflow: int) -> bytes:
    """Return a packet of polarity events."""
    words = np.empty((len(events), 2), "<u4")
    words[:, 0] = 1 | events["p"].astype(np.uint32) << 1
    words[:, 0] |= events["y"].astype(np.uint32) << 2 | events["x"].astype(np.uint32) << 17
    words[:, 1] = events["t"] & ((1 << OVERFLOW_BITS) - 1)
    return packet_header(POLARITY_TYPE, len(events), overflow) + words.tobytes()

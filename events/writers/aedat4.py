"""AEDAT 4, as DV reads it; the inverse of `events.readers.aedat4`.

One stream of events, number 0, in packets of `PACKET_EVENTS`; no table of packets, which readers have to do
without anyway in recordings that were not ended properly. The layout of a payload is the shortest that
FlatBuffers allows with the events at a multiple of 16 bytes.
"""

import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape

import numpy as np

from events.errors import ConfigError, did_you_mean
from events.readers.aedat4 import LARGEST_HW
from events.readers.aedat4_compression import COMPRESSIONS
from events.readers.aedat4_header import HEADER_MARK, VERSION_LINE
from events.writers.atomic import atomic_file
from events.writers.packets import event_packets

Compression = Literal["none", "LZ4", "LZ4_HIGH", "ZSTD", "ZSTD_HIGH"]

PACKET_EVENTS = 10_000
# Levels of the two strengths of each library.
LZ4_LEVELS = {"LZ4": 0, "LZ4_HIGH": 9}
ZSTD_LEVELS = {"ZSTD": 3, "ZSTD_HIGH": 9}


def write_aedat4(
    path: Path,
    events: np.ndarray | Iterable[np.ndarray],
    *,
    sensor_hw: tuple[int, int],
    compression: Compression = "LZ4",
    camera: str = "spikeline",
) -> None:
    """Write a recording; the same events give the same bytes. Raises as `write_recording`.

    Args:
        path: Where to; an existing file is replaced.
        events: EVENT_DTYPE, shape [N], or chunks of it.
        sensor_hw: Height and width in pixels.
        compression: How packets are packed.
        camera: Name of the camera for the header.
    """
    if sensor_hw[0] >= LARGEST_HW[0] or sensor_hw[1] >= LARGEST_HW[1]:
        raise ConfigError(
            f"a sensor of {sensor_hw[0]}x{sensor_hw[1]} does not fit AEDAT 4, which holds less than "
            f"{LARGEST_HW[0]}x{LARGEST_HW[1]}; use csv or npz"
        )
    if compression not in COMPRESSIONS:
        hint = did_you_mean(compression, COMPRESSIONS)
        raise ConfigError(
            f"compression {compression!r} is unknown; known are {', '.join(COMPRESSIONS)}{hint}"
        )
    pack = packer(compression)
    with atomic_file(path) as stream:
        stream.write(header(sensor_hw, compression, camera))
        for packet in event_packets(events, sensor_hw=sensor_hw, packet_events=PACKET_EVENTS):
            stored = pack(payload(packet))
            stream.write(struct.pack("<iI", 0, len(stored)) + stored)


def packer(compression: str) -> Callable[[bytes], bytes]:
    """Return what packs a payload."""
    if compression in LZ4_LEVELS:
        import lz4.frame

        level = LZ4_LEVELS[compression]
        return lambda data: lz4.frame.compress(data, compression_level=level)
    if compression in ZSTD_LEVELS:
        import zstandard

        return zstandard.ZstdCompressor(level=ZSTD_LEVELS[compression]).compress
    return lambda data: data


def info_node(sensor_hw: tuple[int, int], compression: str, camera: str) -> bytes:
    """Return the description of the one stream, as DV words it."""
    path = "/mainloop/Recorder/outInfo/"
    return (
        f'<dv version="2.0"><node name="outInfo" path="{path}"><node name="0" path="{path}0/">'
        f'<attr key="compression" type="string">{compression}</attr>'
        '<attr key="originalModuleName" type="string">capture</attr>'
        '<attr key="originalOutputName" type="string">events</attr>'
        '<attr key="typeDescription" type="string">Array of events (polarity ON/OFF).</attr>'
        '<attr key="typeIdentifier" type="string">EVTS</attr>'
        f'<node name="info" path="{path}0/info/">'
        f'<attr key="sizeX" type="int">{sensor_hw[1]}</attr>'
        f'<attr key="sizeY" type="int">{sensor_hw[0]}</attr>'
        f'<attr key="source" type="string">{escape(camera)}</attr>'
        '<attr key="tsOffset" type="long">0</attr>'
        "</node></node></node></dv>"
    ).encode()


def header(sensor_hw: tuple[int, int], compression: str, camera: str) -> bytes:
    """Return the version line and the IOHeader.

    Counted from behind the size: root 24, IOHE, at 12 the vtable (10, 20, 8, 12, 4), at 24 the table: its
    vtable 12 before it, at 28 the string 16 further on, at 32 the compression, at 36 that there is no table
    of packets.
    """
    text = info_node(sensor_hw, compression, camera)
    body = struct.pack("<I4s4x5H2x", 24, HEADER_MARK, 10, 20, 8, 12, 4)
    body += struct.pack("<iIiq", 12, 16, COMPRESSIONS.index(compression), -1)
    body += struct.pack("<I", len(text)) + text + b"\0"
    body += bytes(-len(body) % 8)
    return VERSION_LINE + struct.pack("<I", len(body)) + body


def payload(events: np.ndarray) -> bytes:
    """Return the FlatBuffer of a packet of events; see `events.readers.aedat4_payload`.

    Counted from behind the size: root 16, EVTS, at 8 the vtable (6, 8, 4), at 16 the table: its vtable 8
    before it, at 20 the vector 4 further on.
    """
    count = len(events)
    start = struct.pack("<II4s4HiII", 28 + 16 * count, 16, b"EVTS", 6, 8, 4, 0, 8, 4, count)
    words = events.view(np.int64).reshape(count, 2).copy()
    # Padding is whatever the memory held before.
    words[:, 1] &= 0x1_FFFF_FFFF
    return start + words.tobytes()

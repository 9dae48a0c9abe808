"""AEDAT 3.1 and 3.0, as cAER writes them: DVS128 Gesture and other recordings of iniVation's cameras.

Text lines that start with `#` and end with CR LF: `#!AER-DAT3.1`, `#Format: RAW`, `#Source 1: DVS128`,
`#Start-Time: ...`; in 3.1 the line `#!END-HEADER` is the last. Then packets: `events.readers.aedat3_packets`.
Origin top left in 3.1, bottom left in 3.0. The sensor's size is that of the camera the source line names, or
the smallest that holds all events. Polarity events that the camera software marked invalid are left out and
counted. Source: iniVation, "AEDAT file formats".
"""

import re
from typing import Any

import numpy as np

from events.errors import DamagedRecording, UnknownFormat
from events.readers.aedat3_packets import (
    EVENT_BYTES,
    HEADER_BYTES,
    LARGEST_TYPE,
    OVERFLOW_BITS,
    SPECIAL_TYPE,
    Aedat3Layout,
)
from events.readers.aedat3_pass import Aedat3Pass
from events.readers.byte_window import ByteWindow
from events.readers.conventions import only_plain_conventions
from events.readers.packet_recording import PacketRecording
from events.readers.source import Source
from events.recording import TRIGGER_DTYPE, FileReport, ReadOptions

VERSION = re.compile(rb"#!AER-DAT(3\.[01])\r?\n")
END_MARK = b"#!END-HEADER"
LARGEST_HEADER_BYTES = 1 << 16
FACT = re.compile(rb"^#(Format|Source \d+|Sensor|Start-Time): (.*?)\r?$", re.MULTILINE)
SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")

# Height and width by the start of the name a source line gives. Source: libcaer's device descriptions.
CAMERA_HW = {
    "DVS128": (128, 128),
    "DAVIS128": (128, 128),
    "DAVIS208": (192, 208),
    "DAVIS240": (180, 240),
    "DAVIS346": (260, 346),
    "DAVIS640": (480, 640),
    "DVS132": (104, 132),
}
# x and y have 15 bits.
LARGEST_HW = (1 << 15, 1 << 15)

# What happened in a special event: channel and whether the signal rose. Source: libcaer's events/special.h,
# inputs 0 to 2 and, as channel 3, the signal generator.
EDGES = {
    2: (0, True),
    3: (0, False),
    6: (1, True),
    7: (1, False),
    9: (2, True),
    10: (2, False),
    12: (3, True),
    13: (3, False),
}


def open_aedat3(source: Source, options: ReadOptions) -> "Aedat3Recording":
    """Open an AEDAT 3 file.

    Raises:
        UnknownFormat: The first line names another version.
        DamagedRecording: The file ends inside its header.
        ConfigError: The options do not fit the format.
    """
    only_plain_conventions(options, format_name="AEDAT 3")
    head = source.head[:LARGEST_HEADER_BYTES]
    version = VERSION.match(head)
    if version is None:
        if len(head) < 16 and b"#!AER-DAT3.1\r\n".startswith(head):
            raise DamagedRecording(f"{source.path}: byte {len(head)}: the file ends inside its header")
        line = head[:32].split(b"\n")[0].strip().decode("utf-8", errors="replace")
        raise UnknownFormat(f"{source.path}: first line {line!r}; expected #!AER-DAT3.1 or #!AER-DAT3.0")
    end = header_end(head, source)
    facts: dict[str, Any] = {"version": version[1].decode(), "header_bytes": end}
    for name, value in FACT.findall(head[:end]):
        facts[name.decode().lower().replace("-", "_").replace(" ", "_")] = value.decode(
            "utf-8", errors="replace"
        )
    return Aedat3Recording(source, options, facts=facts)


def header_end(head: bytes, source: Source) -> int:
    """Return the byte after the header's last line.

    Raises:
        DamagedRecording: The file ends before, or there is no such line.
    """
    ended = False
    end = 0
    while head.startswith(b"#", end) and not ended:
        line_end = head.find(b"\n", end) + 1
        if line_end == 0:
            raise DamagedRecording(
                f"{source.path}: byte {len(head)}: the file ends inside its header; fetch or record it again"
            )
        ended = head.startswith(END_MARK, end)
        end = line_end
    if not ended and head.startswith(b"#!AER-DAT3.1"):
        raise DamagedRecording(
            f"{source.path}: byte {end}: the header has no line #!END-HEADER; fetch or record it again"
        )
    return end


def camera_hw(facts: dict[str, Any]) -> tuple[int, int] | None:
    """Return height and width of the camera that a source line names, or of our own writer's line."""
    size = SIZE.fullmatch(facts.get("sensor", ""))
    if size is not None:
        return int(size[1]), int(size[2])
    for key, name in facts.items():
        if key.startswith("source"):
            for start, sensor_hw in CAMERA_HW.items():
                if name.upper().startswith(start):
                    return sensor_hw
    return None


class Aedat3Recording(PacketRecording):
    """A recording in an AEDAT 3 file."""

    def __init__(self, source: Source, options: ReadOptions, *, facts: dict[str, Any]) -> None:
        """Describe the file; `facts` hold what the header says."""
        super().__init__(
            source,
            options,
            name="aedat3",
            sensor_hw=camera_hw(facts),
            largest_hw=LARGEST_HW,
            facts=facts,
        )

    def _pass(self, sensor_hw: tuple[int, int], options: ReadOptions, report: FileReport) -> Aedat3Pass:
        """Return a pass over the file that fills a report."""
        upward = int(self.facts["version"] == "3.0")
        strict = int(options.damage == "strict")
        layout = Aedat3Layout(*sensor_hw, upward, strict)
        return Aedat3Pass(self._source, layout, self.facts["header_bytes"], options.damage, report)

    @property
    def _most_events(self) -> int:
        """Return more events than the file has room for."""
        return self._source.size // EVENT_BYTES + 1

    def triggers(self) -> np.ndarray:
        """Return the edges of external signals, shape [n], TRIGGER_DTYPE; channel 3 is the signal generator.

        Reads the file on its own, up to a packet header that cannot be one.
        """
        edges = []
        window = ByteWindow(self._source, self.facts["header_bytes"])
        try:
            while window.have(HEADER_BYTES):
                header = np.frombuffer(window.raw[window.at : window.at + HEADER_BYTES].tobytes(), "<i4")
                kind, size, number = int(header[0]) & 0xFFFF, int(header[1]), int(header[5])
                if kind > LARGEST_TYPE or size < 1 or number < 0:
                    break
                window.skip(HEADER_BYTES)
                if kind == SPECIAL_TYPE and size == EVENT_BYTES and window.have(number * size):
                    words = window.raw[window.at : window.at + number * size].tobytes()
                    edges.append(decode_edges(np.frombuffer(words, "<u4"), int(header[3])))
                window.skip(number * size)
        finally:
            window.close()
        return np.concatenate([np.empty(0, TRIGGER_DTYPE), *edges])


def decode_edges(words: np.ndarray, overflow: int) -> np.ndarray:
    """Return the edges among the special events of a packet, shape [2 n], uint32 pairs of data and time."""
    data, time = words[::2], words[1::2]
    happened = (data >> 1) & 0x7F
    rows = np.flatnonzero((data & 1).astype(bool) & np.isin(happened, list(EDGES)))
    edges = np.zeros(len(rows), TRIGGER_DTYPE)
    edges["t"] = time[rows].astype(np.int64) + (overflow << OVERFLOW_BITS)
    edges["channel"] = [EDGES[int(kind)][0] for kind in happened[rows]]
    edges["rising"] = [EDGES[int(kind)][1] for kind in happened[rows]]
    return edges

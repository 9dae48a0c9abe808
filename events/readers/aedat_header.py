"""The text header of AEDAT 1.0 and 2.0 files, as jAER and older tools write it.

Lines that start with `#` and end with CR LF or LF alone; data starts at the first byte that begins no such
line, or after a line with `End Of ASCII Header`. The first line names the version, `#!AER-DAT2.0`; without
one the version is 1.0. Newer jAER dumps kilobytes of XML preferences as such lines.

A first record that happens to begin with the byte of `#` looks like one more line. So a line must be text,
and where the header does not say where it ends, whole records must fit between it and the end of the file
and the first of them must be plausible; otherwise the last "lines" are taken for data.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from events.errors import DamagedRecording
from events.readers.source import HEAD_BYTES, Source

VERSION_MARK = b"#!AER-DAT"
# No control characters but tab, vertical tab, form feed and CR; other bytes may be in any encoding.
LINE = re.compile(rb"#[^\x00-\x08\x0a\x0e-\x1f]*\n")
UNFINISHED_LINE = re.compile(rb"#[^\x00-\x08\x0a\x0e-\x1f]*\Z")
END_MARK = b"End Of ASCII Header"
VERSION = re.compile(rb"^#!AER-DAT(\d+(?:\.\d+)?)", re.MULTILINE)
FACT = re.compile(
    rb"^# ?(AEChip|HardwareInterface|created|Creation time|Creation date):? (.*?)\r?$", re.MULTILINE
)
FACT_NAMES = {
    "AEChip": "chip",
    "HardwareInterface": "hardware",
    "created": "created",
    "Creation date": "created",
    "Creation time": "creation_time",
}

# The longest header seen is some 200 kB of preferences.
LARGEST_HEADER_BYTES = 1 << 24


@dataclass(frozen=True)
class AedatHeader:
    """What the text before the data says.

    Attributes:
        version: As written, such as `2.0`; None where there is no version line.
        end: First byte of the data.
        facts: For people: version, chip, hardware, created, creation_time, header_bytes.
        unfinished: Whether the file ends inside a header line.
    """

    version: str | None
    end: int
    facts: dict[str, Any]
    unfinished: bool

    @property
    def chip(self) -> str | None:
        """Name of the sensor's Java class, where there is one."""
        return self.facts.get("chip")


def read_header(source: Source, *, data_fits: Callable[[bytes, int], bool]) -> AedatHeader:
    """Read the header of a file, which may have none.

    Args:
        source: The file.
        data_fits: Whether whole, plausible records are there from a byte on; given the first part of the
            file, which reaches some records further, and that byte.
    """
    head, line_ends, unfinished = split_lines(source)
    end = line_ends[-1] if line_ends else 0
    said = END_MARK in head[line_ends[-2] if len(line_ends) > 1 else 0 : end]
    if unfinished:
        end = source.size
    elif not said:
        end = next((stop for stop in [*reversed(line_ends), 0] if data_fits(head, stop)), end)
    text = head[:end]
    version = VERSION.search(text)
    facts: dict[str, Any] = {FACT_NAMES[name.decode()]: as_text(value) for name, value in FACT.findall(text)}
    if version:
        facts["version"] = as_text(version[1])
    facts["header_bytes"] = end
    return AedatHeader(facts.get("version"), end, facts, unfinished)


def split_lines(source: Source) -> tuple[bytes, list[int], bool]:
    """Return the first part of the file, where each header line in it ends, and whether the last has no end.

    A line that says that the header ends is the last.
    """
    head = source.head
    while True:
        line_ends = find_line_ends(head)
        start = line_ends[-1] if line_ends else 0
        unfinished = UNFINISHED_LINE.match(head, start) is not None
        short = len(head) - start < HEAD_BYTES // 2 and not source.open_ended
        if len(head) == source.size or not (unfinished or short):
            return head, line_ends, unfinished and len(head) == source.size
        if len(head) >= LARGEST_HEADER_BYTES:
            raise DamagedRecording(
                f"{source.path}: byte {start}: no end of the header in {len(head)} bytes; expected records"
            )
        head = source.read(0, 2 * len(head))


def find_line_ends(head: bytes) -> list[int]:
    """Return the byte after each header line."""
    line_ends = []
    start = 0
    while line := LINE.match(head, start):
        start = line.end()
        line_ends.append(start)
        if END_MARK in line[0]:
            break
    return line_ends


def as_text(value: bytes) -> str:
    """Return bytes as text, whatever their encoding."""
    return value.decode("utf-8", errors="replace").strip()

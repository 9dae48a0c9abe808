"""Prophesee DAT.

Header lines `% key value`, then two bytes: the type of the events and the length of a record, 8. A record is
a time in microseconds, uint32, and an address, uint32, both little-endian:

| version | x | y | polarity, 1 = ON |
|---|---|---|---|
| 2 | bits 13..0 | bits 27..14 | bits 31..28 |
| 1 | bits 8..0 | bits 16..9 | bit 17 |

A file without any header is version 1, from its first byte on. Types 0x00 (Event2d) and 0x0C (EventCD) have
the same records. Origin top left. Files without a size in the header (N-Cars) get the smallest sensor that
holds every event. Source: docs.prophesee.ai, "DAT file format"; Prophesee's load_atis_data.m for version 1.

Times wrap at 2^32 us; a fall of more than 2^31 is a wrap, smaller ones are kept and counted (`record_clock`).
"""

from typing import Any

from events.errors import UnknownFormat
from events.readers.conventions import only_plain_conventions
from events.readers.prophesee_header import MARK, PropheseeHeader, read_header
from events.readers.record_layout import RecordLayout
from events.readers.record_recording import RecordRecording
from events.readers.source import Source
from events.recording import ReadOptions

RECORD_BYTES = 8
EVENT_TYPES = {0x00: "Event2d", 0x0C: "EventCD"}
OTHER_TYPES = {0x0E: "external triggers, of which there are no events"}

# Height and width that fit the addresses of version 1.
VERSION_1_HW = (256, 512)


def open_dat(source: Source, options: ReadOptions) -> RecordRecording:
    """Open a DAT recording.

    Raises:
        UnknownFormat: Its records are no events of pixels, or have another length.
    """
    only_plain_conventions(options, format_name="Prophesee DAT")
    header = dat_header(source)
    headed = source.head.startswith(MARK) and header.end > 0
    damage = None
    data_offset = header.end
    facts: dict[str, Any] = header.facts()
    if headed:
        kind = source.read(header.end, 2)
        data_offset += len(kind)
        if len(kind) < 2:
            damage = f"byte {source.size}: the file ends inside its header"
        else:
            facts["event_type"] = event_type(source, header.end, kind)
    version = dat_version(header) if headed else 1
    facts["version"] = str(version)
    return RecordRecording(
        source,
        options,
        name="dat",
        layout_for=lambda hw: dat_layout(hw, version=version),
        sensor_hw=options.sensor_hw or header.sensor_hw,
        data_offset=data_offset,
        facts=facts if headed else {"note": "no header: version 1"} | facts,
        header_damage=damage,
    )


def dat_header(source: Source) -> PropheseeHeader:
    """Read the header; where it ends is plain, as no event type has the byte of `%`."""
    return read_header(source, data_fits=lambda data: False)


def event_type(source: Source, at: int, kind: bytes) -> str:
    """Return the name of the events' type."""
    if kind[0] not in EVENT_TYPES or kind[1] != RECORD_BYTES:
        other = OTHER_TYPES.get(kind[0], "unknown")
        raise UnknownFormat(
            f"{source.path}: byte {at}: event type 0x{kind[0]:02x} ({other}) of {kind[1]} bytes; "
            "expected type 0x00 or 0x0c of 8 bytes; record or export events of pixels"
        )
    return EVENT_TYPES[kind[0]]


def dat_version(header: PropheseeHeader) -> int:
    """Return the version of the addresses: as named, else 1 unless the sensor is too large for it."""
    named = header.fields.get("version", "")
    if named.strip().isdecimal():
        return 1 if int(named) < 2 else 2
    height, width = header.sensor_hw or (1, 1)
    return 2 if height > VERSION_1_HW[0] or width > VERSION_1_HW[1] else 1


def dat_layout(sensor_hw: tuple[int, int], *, version: int) -> RecordLayout:
    """Return the meaning of the bits."""
    y_shift, y_mask, p_shift = (14, 0x3FFF, 28) if version == 2 else (9, 0xFF, 17)
    return RecordLayout(
        record_bytes=RECORD_BYTES,
        x_shift=0,
        x_mask=(1 << y_shift) - 1,
        x_flip=0,
        x_add=0,
        y_shift=y_shift,
        y_mask=y_mask,
        y_flip=0,
        y_add=0,
        p_shift=p_shift,
        p_flip=0,
        garbage_mask=0xFFFFFFFF & ~((2 << p_shift) - 1),
        special_mask=0,
        marker_row=-1,
        marker_us=0,
        height=sensor_hw[0],
        width=sensor_hw[1],
        little=1,
    )

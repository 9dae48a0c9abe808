"""AEDAT 1.0 and 2.0, the formats of jAER.

Records are an address and a time in microseconds, both unsigned and big-endian: 16 and 32 bits in AEDAT
1.0, 32 and 32 bits in 2.0. Source: inivation, "AEDAT file formats"; jAER, AEFileInputStream.java.

What each tool makes of a DVS128's address, with xb = address >> 1 & 127, yb = address >> 8 & 127,
b = address & 1 (`orientation` picks the row for x and y; `polarity="on1"` gives 1 - b, `"raw"` gives b):

| orientation | x | y | p | special events (bit 15 or 31) |
|---|---|---|---|---|
| jaer | 127 - xb | 127 - yb | 1 - b | left out |
| dat2mat | 127 - xb | yb | 1 - b | kept |
| spikingjelly | 127 - yb | 127 - xb | 1 - b | kept |
| raw | xb | yb | b | left out |

`jaer` is what jAER shows, with the origin at the top left (jAER itself counts y upwards). `dat2mat` is
conv_snn's and TET's dat2mat.m, whose y counts upwards. `spikingjelly` exchanges the axes: its picture is
jAER's mirrored about a diagonal. `raw` is the stored bits.

A DAVIS, named by the header's `AEChip`, has other bits: y 30..22, x 21..12, polarity 11 (1 = ON), and its
frame and motion samples (bit 31) and external events (bit 10) are counted as special and left out.
jaer: x = width - 1 - xb, y = height - 1 - yb.

A file without any `#` line is AEDAT 1.0 by definition. Nothing in it says that it is a retina's: a silicon
cochlea's channels are read as if they were pixels, and a note says so. Its times are in its own ticks.
"""

from typing import Any

from events.errors import DamagedRecording, UnknownFormat
from events.readers.aedat_address import (
    DVS128,
    DVS128_HW,
    Sensor,
    davis_layout,
    dvs128_layout,
    sensor_of_chip,
)
from events.readers.aedat_header import AedatHeader, read_header
from events.readers.plausible import records_fit
from events.readers.record_layout import RecordLayout
from events.readers.record_recording import RecordRecording
from events.readers.source import Source
from events.recording import ReadOptions

# dat2mat.m stops reading after that many records (`maxEvents`).
DAT2MAT_MAX_EVENTS = 30_000_000


def open_aedat1(source: Source, options: ReadOptions) -> RecordRecording:
    """Open an AEDAT 1.0 recording."""
    return open_aedat(source, options, version="1", record_bytes=6)


def open_aedat2(source: Source, options: ReadOptions) -> RecordRecording:
    """Open an AEDAT 2.0 recording."""
    return open_aedat(source, options, version="2", record_bytes=8)


def open_aedat(source: Source, options: ReadOptions, *, version: str, record_bytes: int) -> RecordRecording:
    """Open a recording of either version.

    Raises:
        UnknownFormat: The header names another version, or a chip whose addresses are not known.
        DamagedRecording: dat2mat.m would stop with an error.
    """
    header = aedat_header(source, record_bytes)
    if header.version is not None and header.version.split(".")[0] != version:
        raise UnknownFormat(
            f"{source.path}: the header says AEDAT {header.version}, asked to read it as AEDAT {version}.0; "
            "leave the format out"
        )
    if options.timestamps == "dat2mat":
        check_dat2mat(source, header, record_bytes)
    sensor = sensor_for(source, header, options)
    chip_hw, sensor_hw = sensor.hw, options.sensor_hw or sensor.hw

    def layout_for(hw: tuple[int, int]) -> RecordLayout:
        if sensor.addresses == "davis" and record_bytes == 8:
            return davis_layout(hw, chip_hw=chip_hw, orientation=options.orientation)
        return dvs128_layout(record_bytes, hw, orientation=options.orientation, polarity=options.polarity)

    return RecordRecording(
        source,
        options,
        name=f"aedat{version}",
        layout_for=layout_for,
        sensor_hw=sensor_hw,
        data_offset=header.end,
        max_records=DAT2MAT_MAX_EVENTS if options.timestamps == "dat2mat" else None,
        facts=facts_of(header, sensor),
        header_damage=f"byte {source.size}: the file ends inside its header" if header.unfinished else None,
    )


def aedat_header(source: Source, record_bytes: int) -> AedatHeader:
    """Read the header of a file whose records have that many bytes."""
    layout = plausible_layout(record_bytes)

    def data_fits(head: bytes, start: int) -> bool:
        whole = source.open_ended or (source.size - start) % record_bytes == 0
        return whole and records_fit(head, start, layout)

    return read_header(source, data_fits=data_fits)


def plausible_layout(record_bytes: int) -> RecordLayout:
    """Return the loosest meaning of the bits, which takes any address for an event's."""
    return dvs128_layout(record_bytes, DVS128_HW, orientation="dat2mat", polarity="raw")


def sensor_for(source: Source, header: AedatHeader, options: ReadOptions) -> Sensor:
    """Return the sensor whose addresses the file has."""
    sensor = sensor_of_chip(header.chip)
    if sensor is not None:
        return sensor
    if options.orientation == "jaer":
        raise UnknownFormat(
            f"{source.path}: recorded by {header.chip!r}, whose addresses are not known; "
            "read it with orientation 'raw' to take them for a DVS128's"
        )
    return DVS128


def check_dat2mat(source: Source, header: AedatHeader, record_bytes: int) -> None:
    """Stop where dat2mat.m stops with an error."""
    if header.version is None:
        raise DamagedRecording(
            f"{source.path}: has no #!AER-DAT line, where dat2mat.m stops; read it with timestamps 'unwrap'"
        )
    if source.size - header.end < record_bytes:
        raise DamagedRecording(
            f"{source.path}: has no events, where dat2mat.m stops; read it with timestamps 'unwrap'"
        )


def facts_of(header: AedatHeader, sensor: Sensor) -> dict[str, Any]:
    """Return what people may want to know of the header."""
    facts = dict(header.facts)
    facts["addresses"] = sensor.addresses
    if header.version is None:
        facts["note"] = "no version line: AEDAT 1.0, its addresses read as a DVS128's"
    return facts

"""The 5-byte format of N-MNIST, N-Caltech101 and SLAYER (`.bin`, `.bs2`).

No header. A record is x (8 bits), y (8 bits), polarity (1 bit, 1 = ON) and time in microseconds (23 bits),
big-endian. A record with y = 240 is no event: the time counter ran over, and every later time gains
8192 us. Origin top left. Source: Orchard et al., "Converting static image datasets to spiking neuromorphic
datasets using saccades", 2015, and its MATLAB reader.

Nothing in the file says how large the sensor is. Where the caller does not say either, it is the smallest
of `KNOWN_SENSORS` that holds every event.
"""

from events.readers.conventions import only_plain_conventions
from events.readers.record_layout import RecordLayout
from events.readers.record_recording import RecordRecording
from events.readers.source import Source
from events.recording import ReadOptions

RECORD_BYTES = 5
MARKER_ROW = 240
MARKER_US = 8192

# N-MNIST, DVS128, N-Caltech101 and DAVIS240, and all that eight bits of x and 240 rows can say.
KNOWN_SENSORS = ((34, 34), (128, 128), (180, 240), (240, 256))


def open_bin40(source: Source, options: ReadOptions) -> RecordRecording:
    """Open a recording of 5-byte records."""
    only_plain_conventions(options, format_name="the 5-byte format")
    facts = (
        {} if options.sensor_hw else {"note": "sensor size not in the file: the smallest known one that fits"}
    )
    return RecordRecording(
        source,
        options,
        name="bin40",
        layout_for=bin40_layout,
        sensor_hw=options.sensor_hw,
        guess_sensor=known_sensor,
        facts=facts,
    )


def bin40_layout(sensor_hw: tuple[int, int]) -> RecordLayout:
    """Return the meaning of the bits; the address is the first three bytes of a record."""
    return RecordLayout(
        record_bytes=RECORD_BYTES,
        x_shift=16,
        x_mask=0xFF,
        x_flip=0,
        x_add=0,
        y_shift=8,
        y_mask=0xFF,
        y_flip=0,
        y_add=0,
        p_shift=7,
        p_flip=0,
        garbage_mask=0,
        special_mask=0,
        marker_row=MARKER_ROW,
        marker_us=MARKER_US,
        height=min(sensor_hw[0], MARKER_ROW),  # so that a marker is never taken for an event
        width=sensor_hw[1],
    )


def known_sensor(last_y: int, last_x: int) -> tuple[int, int]:
    """Return the smallest known sensor with that row and column, or the largest."""
    return next((hw for hw in KNOWN_SENSORS if hw[0] > last_y and hw[1] > last_x), KNOWN_SENSORS[-1])

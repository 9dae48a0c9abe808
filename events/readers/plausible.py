"""Tell records of events from other bytes by what a camera can have written."""

import numpy as np
from numba import njit

from events.readers.record_layout import (
    IN_STEP_US,
    RecordLayout,
    is_marker,
    is_special,
    load,
    pixel,
    records_in_step,
    suspicion,
)

# Records looked at to tell a format, and the fewest that can tell it: eight times in order happen by
# chance once in 8! = 40,320.
LOOKED_AT_RECORDS = 256
FEWEST_RECORDS = 8

# Records looked at to tell where a header ends.
FIRST_RECORDS = 4

# Of the records looked at, at most one in that many may be out of step: real files have glitches.
ONE_GLITCH_IN = 50


def records_fit(head: bytes, start: int, layout: RecordLayout) -> bool:
    """Whether the first whole records from a byte on are plausible; true where there are none."""
    raw = np.frombuffer(head, np.uint8)[start:].copy()
    wanted = min(FIRST_RECORDS, len(raw) // layout.record_bytes)
    return records_in_step(raw, 0, len(raw), wanted, layout) == wanted


def looks_like_records(head: bytes, layout: RecordLayout) -> bool:
    """Whether a file without a header starts with records in order of time."""
    count = min(LOOKED_AT_RECORDS, len(head) // layout.record_bytes)
    if count < FEWEST_RECORDS:
        return False
    raw = np.frombuffer(head, np.uint8)[: count * layout.record_bytes].copy()
    return bool(mostly_in_step(raw, layout))


@njit(cache=True, nogil=True)
def mostly_in_step(raw: np.ndarray, layout: RecordLayout) -> bool:
    """Whether all records are events of the sensor or special, nearly all in step, and time goes on.

    Markers of an overflow advance time. Records that are markers alone, as before an event that is late on
    its clock, are plausible as well.
    """
    size = layout.record_bytes
    count = len(raw) // size
    glitches = 0
    markers = 0
    first = np.int64(-1)
    previous = np.int64(-1)
    for i in range(count):
        address, stored = load(raw, i * size, layout)
        if is_special(address, layout):
            markers += is_marker(address, layout)
            continue
        x, y, _ = pixel(address, layout)
        if suspicion(address, x, y, layout) != 0:
            return False
        time = np.int64(stored) + markers * layout.marker_us
        if previous >= 0 and (time < previous or time - previous > IN_STEP_US):
            glitches += 1
        first = time if first < 0 else first
        previous = time
    return markers == count or bool(glitches * ONE_GLITCH_IN <= count and previous > first)

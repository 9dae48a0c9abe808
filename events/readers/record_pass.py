"""One pass over a file of records of fixed length, in bounded memory, under a damage policy."""

from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from events.errors import DamagedRecording
from events.readers.byte_window import ByteWindow
from events.readers.record_clock import BACKWARD, LARGEST_BACKWARD_US, WRAPS
from events.readers.record_file import decode_file
from events.readers.record_layout import (
    COUNTS_LENGTH,
    FIRST_DAMAGE,
    OUT_OF_SENSOR,
    SKIPPED,
    SPECIAL,
    STRICT,
    RecordLayout,
)
from events.readers.source import Source
from events.recording import FileReport

# How far `salvage` looks for plausible records around a doubtful one; beyond, it goes on record by record.
SEARCH_BYTES = 1 << 12


class RecordPlace(NamedTuple):
    """Where a pass stands, with all that later events depend on.

    Attributes:
        position: Byte of the file that comes next.
        clock: As in `record_clock`.
        counts: As in `record_layout`.
    """

    position: int
    clock: np.ndarray
    counts: np.ndarray


def first_place(data_offset: int, clock: np.ndarray) -> RecordPlace:
    """Return the place before the first record, for a new clock."""
    counts = np.zeros(COUNTS_LENGTH, np.int64)
    counts[FIRST_DAMAGE] = -1
    return RecordPlace(data_offset, clock, counts)


class RecordPass:
    """Decodes a file from its first record to its last.

    Nothing that is delivered or counted depends on how much is asked for at a time.
    """

    def __init__(
        self,
        source: Source,
        layout: RecordLayout,
        place: RecordPlace,
        end: int,
        policy: int,
        report: FileReport,
    ) -> None:
        """Stand at a place.

        Args:
            source: The file.
            layout: What the bits of a record mean.
            place: Where to begin: `first_place`, or the `place` of another pass, which stays as it is.
            end: First byte no longer to be read.
            policy: SKIP, STRICT or SALVAGE of `record_layout`.
            report: Filled on the way.
        """
        self._source = source
        self._layout = layout
        self._bits = tuple(layout)
        self._clock = place.clock.copy()
        self._policy = policy
        self._report = report
        self._counts = place.counts.copy()
        self._window = ByteWindow(source, place.position, end)

    @property
    def place(self) -> RecordPlace:
        """Where the pass stands."""
        return RecordPlace(self._window.position, self._clock.copy(), self._counts.copy())

    def __enter__(self) -> Self:
        """Return the pass itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._window.close()

    def fill(self, out: np.ndarray) -> int:
        """Decode the next events into `out`, EVENT_DTYPE; return how many.

        Fewer than fit only at the end, or before damage that the next call raises.

        Raises:
            DamagedRecording: There is damage and the policy is STRICT.
        """
        words = out.view(np.int64)
        window, size = self._window, self._layout.record_bytes
        n = 0
        # What arrives live is delivered as it comes, and waited for only where there is nothing yet.
        live = self._source.open_ended
        while n < len(out) and (not (live and n) or window.stop - window.at >= size) and window.have(size):
            at, stop, arrived, written, damaged = decode_file(
                window.descriptor,
                window.raw,
                window.at,
                window.stop,
                window.arrived,
                window.end,
                words[2 * n :],
                self._bits,
                self._clock,
                self._counts,
                self._policy,
                SEARCH_BYTES,
            )
            window.go_on(at, stop, arrived)
            if stop - at < SEARCH_BYTES:
                window.realign()  # what a search has moved to an odd byte
            n += written
            if damaged and self._policy == STRICT and n > 0:
                break  # first deliver what is good; the next call comes back to it
            if damaged and self._policy == STRICT:
                self._raise_damage()
            if damaged:
                window.have(SEARCH_BYTES)
        self._update_report(out[:n])
        return n

    def finish(self) -> None:
        """Look at what is left after the last event.

        Raises:
            DamagedRecording: Something is left and the policy is STRICT.
        """
        window, size = self._window, self._layout.record_bytes
        if window.have(size) and self._policy == STRICT:
            self._raise_damage()
        left = window.stop - window.at
        if left == 0:
            return
        self._damage_at(window.position)
        if self._policy == STRICT:
            raise DamagedRecording(
                f"{self._source.path}: byte {window.position}: the file ends inside a record, "
                f"{left} of {size} bytes; read with damage 'skip' to leave it out"
            )
        self._report.partial_records = 1

    def _damage_at(self, position: int) -> None:
        """Remember where the first damage is."""
        if self._report.first_damage_byte is None:
            self._report.first_damage_byte = position

    def _raise_damage(self) -> None:
        """Raise for the damaged record that comes next."""
        window = self._window
        self._damage_at(window.position)
        record = window.raw[window.at : window.at + self._layout.record_bytes].tobytes().hex(" ")
        raise DamagedRecording(
            f"{self._source.path}: byte {window.position}: record {record} is no event of a sensor of "
            f"{self._layout.height}x{self._layout.width}; read with damage 'skip' to leave it out"
        )

    def _update_report(self, events: np.ndarray) -> None:
        """Bring the report up to the events just delivered."""
        report = self._report
        report.events += len(events)
        if self._counts[FIRST_DAMAGE] >= 0:
            self._damage_at(int(self._counts[FIRST_DAMAGE]))
        report.bytes_skipped = int(self._counts[SKIPPED])
        report.bytes_read = self._window.position - report.bytes_skipped
        if self._source.open_ended:
            report.bytes_total = self._window.arrived
        report.special_events = int(self._counts[SPECIAL])
        report.out_of_sensor = int(self._counts[OUT_OF_SENSOR])
        report.backward_steps = int(self._clock[BACKWARD])
        report.largest_backward_us = int(self._clock[LARGEST_BACKWARD_US])
        report.wraps = int(self._clock[WRAPS])
        if len(events):
            if report.t_first_us is None:
                report.t_first_us = int(events["t"][0])
            report.t_last_us = int(events["t"][-1])

"""A recording made of records of fixed length: AEDAT 1.0, AEDAT 2.0 and the 5-byte format."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from events.errors import DamagedRecording
from events.readers.once import Once
from events.readers.pass_recording import SCRATCH_EVENTS, PassRecording, last_row_and_column, lenient
from events.readers.record_clock import HALF_WRAP_US, new_clock
from events.readers.record_layout import IN_STEP_US, SALVAGE, SKIP, STRICT, RecordLayout
from events.readers.record_pass import RecordPass, RecordPlace, first_place
from events.readers.source import Source
from events.recording import EventBuffer, FileReport, ReadOptions

POLICIES = {"skip": SKIP, "strict": STRICT, "salvage": SALVAGE}


def smallest_sensor(last_y: int, last_x: int) -> tuple[int, int]:
    """Return height and width that just hold the largest row and column."""
    return last_y + 1, last_x + 1


class PlainRecords(NamedTuple):
    """Where the records of a file lie, of which each may be taken for an event if all turn out plain.

    Attributes:
        offset: Byte of the first.
        records: How many, at least 1; the file ends with the last.
        layout: What their bits mean.
        limit_us: Longest step of the clock from one to the next.
    """

    offset: int
    records: int
    layout: RecordLayout
    limit_us: int


class RecordRecording(PassRecording):
    """A recording made of records of fixed length."""

    def __init__(
        self,
        source: Source,
        options: ReadOptions,
        *,
        name: str,
        layout_for: Callable[[tuple[int, int]], RecordLayout],
        sensor_hw: tuple[int, int] | None,
        guess_sensor: Callable[[int, int], tuple[int, int]] = smallest_sensor,
        data_offset: int = 0,
        max_records: int | None = None,
        facts: dict[str, Any],
        header_damage: str | None = None,
    ) -> None:
        """Describe the file; nothing more is read yet.

        Args:
            source: The file.
            options: How to read it.
            name: Name of the format.
            layout_for: Gives the meaning of the bits for a sensor's height and width.
            sensor_hw: Height and width in pixels; None to guess them from the events.
            guess_sensor: Gives height and width from the largest row and column, where `sensor_hw` is None.
            data_offset: Byte of the first record.
            max_records: Records after that many are left out, with a note.
            facts: For people.
            header_damage: What is wrong with the header, if anything.
        """
        self.path = source.path
        self.format = name
        self.facts = facts
        self.report = FileReport(str(source.path), name, bytes_total=source.size)
        self._source = source
        self._options = options
        self._layout_for = layout_for
        self._sensor_hw = sensor_hw
        self._guess_sensor = guess_sensor
        self._data_offset = data_offset
        self._max_records = max_records
        self._header_damage = header_damage
        layout = layout_for((1, 1))
        self._record_bytes = layout.record_bytes
        self._last_yx = layout.y_mask, layout.x_mask  # largest row and column that an address can say

    @Once
    def sensor_hw(self) -> tuple[int, int]:
        """Height and width in pixels; guessed from the events, by reading them once, where not known."""
        if self._sensor_hw is not None:
            return self._sensor_hw
        if self._source.open_ended:  # nothing can be read ahead: the largest there is
            return self._guess_sensor(*self._last_yx)
        largest_hw = self._guess_sensor(*self._last_yx)
        reading = self._pass(largest_hw, lenient(self._options), FileReport("", self.format))
        last_y, last_x = last_row_and_column(reading, room=min(self.record_count, SCRATCH_EVENTS))
        return self._guess_sensor(last_y, last_x)

    @property
    def record_count(self) -> int:
        """Whole records the file has room for; there are never more events."""
        count = (self._source.size - self._data_offset) // self._record_bytes
        return count if self._max_records is None else min(count, self._max_records)

    @property
    def _most_events(self) -> int:
        """Events that the file has room for."""
        return self.record_count

    def read_into(self, buffer: EventBuffer) -> np.ndarray:
        """Decode all events straight into a buffer; see `Recording.read_into`."""
        if self._source.open_ended:
            return super().read_into(buffer)
        out = buffer.room(self.record_count)
        with self._new_pass() as reading:
            events = out[: reading.fill(out)]
            reading.finish()
            return events

    def plain_records(self) -> PlainRecords | None:
        """Return where the records lie, for `events.binning.fused`; None where not all can be plain."""
        left = (self._source.size - self._data_offset) % self._record_bytes
        if self._source.open_ended or self._header_damage is not None or left or self.record_count == 0:
            return None
        if self._max_records is not None or self._options.timestamps != "unwrap":
            return None
        limit_us = IN_STEP_US if self._options.damage == "salvage" else HALF_WRAP_US
        return PlainRecords(self._data_offset, self.record_count, self._layout_for(self.sensor_hw), limit_us)

    def report_plain(self, events: int, t_first_us: int, t_last_us: int) -> None:
        """Fill a new report after all records turned out to be plain events."""
        size = self._source.size
        self.report = FileReport(
            str(self.path),
            self.format,
            bytes_total=size,
            bytes_read=size,
            events=events,
            t_first_us=t_first_us,
            t_last_us=t_last_us,
        )

    def _new_pass(self) -> RecordPass:
        """Return a pass over the file that fills a new report of this recording."""
        sensor_hw = self.sensor_hw
        self.report = FileReport(str(self.path), self.format, bytes_total=self._source.size)
        if self.record_count == 0:
            self.report.notes.append("no events: no whole record in the file")
        if self._max_records is not None and self.record_count == self._max_records:
            self.report.notes.append(
                f"records after the first {self._max_records} are left out, as dat2mat.m does"
            )
        return self._pass(sensor_hw, self._options, self.report)

    def _pass(self, sensor_hw: tuple[int, int], options: ReadOptions, report: FileReport) -> RecordPass:
        """Return a pass over the file."""
        if self._header_damage is not None:
            if options.damage == "strict":
                raise DamagedRecording(f"{self.path}: {self._header_damage}")
            report.first_damage_byte = self._source.size
            report.notes.append(self._header_damage)
        clock = new_clock(repair=options.timestamps == "dat2mat")
        return self._pass_from(first_place(self._data_offset, clock), sensor_hw, options, report)

    def _pass_behind(self, place: RecordPlace) -> RecordPass:
        """Return a pass from where another stood; see `PassRecording`."""
        return self._pass_from(place, self.sensor_hw, self._options, self.report)

    def _pass_from(
        self, place: RecordPlace, sensor_hw: tuple[int, int], options: ReadOptions, report: FileReport
    ) -> RecordPass:
        """Return a pass over the file from a place on."""
        end = self._source.size
        if self._max_records is not None and self.record_count == self._max_records:
            end = self._data_offset + self._max_records * self._record_bytes
        layout, policy = self._layout_for(sensor_hw), POLICIES[options.damage]
        return RecordPass(self._source, layout, place, end, policy, report)

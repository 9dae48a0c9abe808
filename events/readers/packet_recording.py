"""A recording made of packets of events among other packets: AEDAT 3 and AEDAT 4."""

from abc import abstractmethod
from typing import Any, Protocol

import numpy as np

from events.errors import ConfigError
from events.readers.once import Once
from events.readers.pass_recording import Pass, PassRecording, last_row_and_column, lenient
from events.readers.source import Source
from events.recording import EventBuffer, FileReport, ReadOptions

# Bytes of an event in a file at the least, as far as room for all of them goes: a guess that may be too high.
EVENT_BYTES = 4


class PacketPass(Pass, Protocol):
    """One pass over a file of packets."""

    def go_to(self, place: Any) -> None:
        """Stand where another pass over the file stood; the report is a copy of that at the place."""


class PacketRecording(PassRecording):
    """A recording made of packets."""

    def __init__(
        self,
        source: Source,
        options: ReadOptions,
        *,
        name: str,
        sensor_hw: tuple[int, int] | None,
        largest_hw: tuple[int, int],
        facts: dict[str, Any],
    ) -> None:
        """Describe the file; no packet is read yet.

        Args:
            source: The file.
            options: How to read it; its `sensor_hw` goes before the one given here.
            name: Name of the format.
            sensor_hw: Height and width in pixels; None to take the smallest that holds all events.
            largest_hw: Height and width that the format can hold.
            facts: For people.
        """
        self.path = source.path
        self.format = name
        self.facts = facts
        self.report = FileReport(str(source.path), name, bytes_total=source.size)
        self._source = source
        self._options = options
        self._sensor_hw = options.sensor_hw or sensor_hw
        self._largest_hw = largest_hw

    @abstractmethod
    def _pass(self, sensor_hw: tuple[int, int], options: ReadOptions, report: FileReport) -> PacketPass:
        """Return a pass over the file that fills a report."""

    @Once
    def sensor_hw(self) -> tuple[int, int]:
        """Height and width in pixels; where nothing says them, just large enough for every event."""
        if self._sensor_hw is not None:
            return self._sensor_hw
        if self._source.open_ended:
            raise ConfigError(
                f"{self.path}: does not say how large its sensor is, and cannot be read twice; give sensor_hw"
            )
        reading = self._pass(self._largest_hw, lenient(self._options), FileReport("", self.format))
        last_y, last_x = last_row_and_column(reading)
        return last_y + 1, last_x + 1

    def _new_pass(self) -> PacketPass:
        """Return a pass over the file that fills a new report of this recording."""
        sensor_hw = self.sensor_hw
        self.report = FileReport(str(self.path), self.format, bytes_total=self._source.size)
        return self._pass(sensor_hw, self._options, self.report)

    def _pass_behind(self, place: Any) -> PacketPass:
        """Return a pass from where another stood; see `PassRecording`."""
        reading = self._pass(self.sensor_hw, self._options, self.report)
        reading.go_to(place)
        return reading

    @property
    def _most_events(self) -> int:
        """Return a number of events that the file is not likely to exceed; less than that many fit memory."""
        return self._source.size // EVENT_BYTES + 1

    def read_into(self, buffer: EventBuffer) -> np.ndarray:
        """Decode all events straight into a buffer; see `Recording.read_into`."""
        if self._source.open_ended:
            return super().read_into(buffer)
        reading = self._new_pass()
        out = buffer.room(self._most_events)
        n = 0
        with reading:
            while True:
                written = reading.fill(out[n:])
                n += written
                if written == 0:
                    break
                if n == len(out):
                    kept = out.copy()
                    out = buffer.room(2 * len(out))
                    out[:n] = kept
            reading.finish()
        return out[:n]


def report_times(report: FileReport, events: np.ndarray) -> None:
    """Add the events just delivered to a report: their number, the first and the last time."""
    report.events += len(events)
    if len(events):
        if report.t_first_us is None:
            report.t_first_us = int(events["t"][0])
        report.t_last_us = int(events["t"][-1])

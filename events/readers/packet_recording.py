"""A recording made of packets of events among other packets: AEDAT 3 and AEDAT 4."""

from abc import abstractmethod
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from events.errors import ConfigError
from events.readers.source import Source
from events.recording import (
    DEFAULT_CHUNK_EVENTS,
    EVENT_DTYPE,
    Bookmark,
    EventBuffer,
    FileReport,
    ReadOptions,
    Recording,
)

# Bytes of an event in a file at the least, as far as room for all of them goes: a guess that may be too high.
EVENT_BYTES = 4


class PacketPass(Protocol):
    """One pass over a file; how much is asked for at a time changes nothing that it delivers or counts."""

    def fill(self, out: np.ndarray) -> int:
        """Decode the next events into `out`, EVENT_DTYPE; return how many, 0 only at the end."""

    def finish(self) -> None:
        """Bring the report up to the end of the file."""

    @property
    def place(self) -> Any:
        """Where the pass stands, with all that later events and counts depend on."""

    def go_to(self, place: Any) -> None:
        """Stand where another pass over the file stood; the report is a copy of that at the place."""

    def __enter__(self) -> Self:
        """Return the pass itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""


class PacketRecording(Recording):
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
        self._reading: PacketPass | None = None  # of the iterator that yielded last

    @abstractmethod
    def _pass(self, sensor_hw: tuple[int, int], options: ReadOptions, report: FileReport) -> PacketPass:
        """Return a pass over the file that fills a report."""

    @cached_property
    def sensor_hw(self) -> tuple[int, int]:  # type: ignore[override]
        """Height and width in pixels; where nothing says them, just large enough for every event."""
        if self._sensor_hw is not None:
            return self._sensor_hw
        if self._source.open_ended:
            raise ConfigError(
                f"{self.path}: does not say how large its sensor is, and cannot be read twice; give sensor_hw"
            )
        last_y = last_x = 0
        out = np.empty(DEFAULT_CHUNK_EVENTS, EVENT_DTYPE)
        lenient = replace(self._options, damage="salvage" if self._options.damage == "salvage" else "skip")
        with self._pass(self._largest_hw, lenient, FileReport("", self.format)) as reading:
            while n := reading.fill(out):
                last_y = max(last_y, int(out["y"][:n].max()))
                last_x = max(last_x, int(out["x"][:n].max()))
        return last_y + 1, last_x + 1

    def decode_chunks(self, *, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[np.ndarray]:
        """Yield the events in file order, at most `max_events` at a time; see `Recording.decode_chunks`."""
        if max_events < 1:
            raise ConfigError(f"max_events must be at least 1, got {max_events}")
        yield from self._decode(self._new_pass(), max_events)

    def bookmark(self) -> Bookmark | None:
        """Return the place behind the chunk yielded last; see `Recording.bookmark`."""
        if self._reading is None or self._source.open_ended:
            return None
        return Bookmark(self._reading.place, deepcopy(self.report))

    def decode_from(self, place: Bookmark, *, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[np.ndarray]:
        """Yield the events behind a bookmark; see `Recording.decode_from`."""
        if max_events < 1:
            raise ConfigError(f"max_events must be at least 1, got {max_events}")
        sensor_hw = self.sensor_hw
        self.report = deepcopy(place.report)
        reading = self._pass(sensor_hw, self._options, self.report)
        reading.go_to(place.at)
        yield from self._decode(reading, max_events)

    def _decode(self, reading: PacketPass, max_events: int) -> Iterator[np.ndarray]:
        """Yield what a pass still has to give."""
        out = np.empty(max_events, EVENT_DTYPE)
        with reading:
            while n := reading.fill(out):
                self._reading = reading
                yield out[:n]
            reading.finish()

    def _new_pass(self) -> PacketPass:
        """Return a pass over the file that fills a new report of this recording."""
        sensor_hw = self.sensor_hw
        self.report = FileReport(str(self.path), self.format, bytes_total=self._source.size)
        return self._pass(sensor_hw, self._options, self.report)

    def _most_events(self) -> int:
        """Return a number of events that the file is not likely to exceed; less than that many fit memory."""
        return self._source.size // EVENT_BYTES + 1

    def read_into(self, buffer: EventBuffer) -> np.ndarray:
        """Decode all events straight into a buffer; see `Recording.read_into`."""
        if self._source.open_ended:
            return super().read_into(buffer)
        reading = self._new_pass()
        out = buffer.room(self._most_events())
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

    def read(self) -> np.ndarray:
        """Return all events, shape [N], EVENT_DTYPE. Raises as `decode_chunks` does."""
        return super().read() if self._source.open_ended else self.read_into(EventBuffer())


def report_times(report: FileReport, events: np.ndarray) -> None:
    """Add the events just delivered to a report: their number, the first and the last time."""
    report.events += len(events)
    if len(events):
        if report.t_first_us is None:
            report.t_first_us = int(events["t"][0])
        report.t_last_us = int(events["t"][-1])

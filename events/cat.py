"""Copy a recording into any format that has a writer, through filters, in memory of a chunk."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from events.errors import ConfigError
from events.filters.hot_pixels import find_hot_pixels
from events.filters.settings import FilterSettings
from events.filters.stream import EventFilter
from events.readers.live import is_live
from events.recording import FileReport, Recording
from events.writers.atomic import remove_leftovers
from events.writers.registry import format_for, write_recording

# Events copied at a time; with what a filter writes they stay in the cache.
COPY_EVENTS = 1 << 17


@dataclass(frozen=True)
class CatSettings:
    """What is done to the events on their way.

    Attributes:
        filters: The steps; times in them are those of the recording.
        from_first: Whether times in `filters` count from the first event.
        find_hot: Whether to look for hot pixels in a pass over the recording before the copy.
        hot_rate_hz: Events per second above which a pixel is hot; None takes the rule of
            `events.filters.hot_pixels`.
        zero_time: Whether the first event written gets the time 0, and the others theirs from it.
    """

    filters: FilterSettings = field(default_factory=FilterSettings)
    from_first: bool = False
    find_hot: bool = False
    hot_rate_hz: float | None = None
    zero_time: bool = False


DEFAULT_SETTINGS = CatSettings()


@dataclass(frozen=True)
class CatSummary:
    """What was copied.

    Attributes:
        path: The file written.
        format: Its format.
        sensor_hw: Its sensor's height and width in pixels.
        events_in, events_out: Events read and written.
        removed: Events left out, by the step that did it; steps that removed nothing are not named.
        hot_pixels: Pixels found hot, as x, y.
        leftovers_removed: Unfinished files of killed processes that were beside it.
        seconds: Time it took.
        report: What was read, and what was wrong with it.
    """

    path: str
    format: str
    sensor_hw: tuple[int, int]
    events_in: int
    events_out: int
    removed: dict[str, int]
    hot_pixels: tuple[tuple[int, int], ...]
    leftovers_removed: int
    seconds: float
    report: FileReport

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return self.__dict__ | {"report": self.report.as_dict()}


def copy_recording(
    recording: Recording,
    dst: Path | str,
    settings: CatSettings = DEFAULT_SETTINGS,
    *,
    format: str | None = None,
    progress: Callable[[FileReport], None] | None = None,
) -> CatSummary:
    """Copy the events of a recording through filters into a new file, whole or not at all.

    Args:
        recording: Where the events come from.
        dst: Where to; an existing file is replaced once the new one is complete.
        settings: What is done to them.
        format: A key of `events.writers.registry.WRITERS`; None takes what the suffix says.
        progress: Called after each chunk with the report so far.

    Raises:
        ConfigError: The settings do not fit the recording, or the events not the format.
        EventsError: The recording cannot be read, or the file not be written.
    """
    started = time.perf_counter()
    format = format or format_for(dst)
    filters = settings.filters
    if settings.find_hot:
        filters = replace(filters, hot_pixels=find_hot(recording, settings))
    filters.check_sensor(recording.sensor_hw)
    copy = _Copy(recording, replace(settings, filters=filters), progress)
    sensor_hw = filters.sensor_after(recording.sensor_hw)
    leftovers_removed = remove_leftovers(Path(dst))
    write_recording(dst, copy.events(), format=format, sensor_hw=sensor_hw)
    counts = copy.filter.report.as_dict() if copy.filter is not None else {}
    events_in, events_out = counts.pop("events_in", 0), counts.pop("events_out", 0)
    return CatSummary(
        path=str(dst),
        format=format,
        sensor_hw=sensor_hw,
        events_in=events_in,
        events_out=events_out,
        removed={name: count for name, count in counts.items() if count},
        hot_pixels=filters.hot_pixels,
        leftovers_removed=leftovers_removed,
        seconds=time.perf_counter() - started,
        report=recording.report,
    )


def find_hot(recording: Recording, settings: CatSettings) -> tuple[tuple[int, int], ...]:
    """Return the pixels named hot and those found so, which takes a pass over the recording."""
    if is_live(recording.path):
        raise ConfigError(
            f"{recording.path}: hot pixels are found by reading twice, which a pipe does not allow; "
            "name the pixels, or save the recording to a file first"
        )
    found = find_hot_pixels(
        recording.chunks(count=COPY_EVENTS), recording.sensor_hw, rate_hz=settings.hot_rate_hz
    )
    return tuple(dict.fromkeys([*settings.filters.hot_pixels, *found]))


class _Copy:
    """The events of one copy, filtered as they are asked for.

    Attributes:
        filter: The steps, once the first event is known.
    """

    def __init__(
        self, recording: Recording, settings: CatSettings, progress: Callable[[FileReport], None] | None
    ) -> None:
        self.filter: EventFilter | None = None
        self._recording = recording
        self._settings = settings
        self._progress = progress
        self._zero_us: int | None = None if settings.zero_time else 0

    def events(self) -> Iterator[np.ndarray]:
        """Yield what is left of each chunk."""
        for chunk in self._recording.chunks(count=COPY_EVENTS):
            if self.filter is None:
                self.filter = self._filter_from(int(chunk["t"][0]))
            left = self.filter(chunk)
            if len(left):
                if self._zero_us is None:
                    self._zero_us = int(left["t"][0])
                left["t"] -= self._zero_us
                yield left
            if self._progress is not None:
                self._progress(self._recording.report)

    def _filter_from(self, first_us: int) -> EventFilter:
        """Return the filter for a recording whose first event has that time."""
        filters = self._settings.filters
        if self._settings.from_first:
            start_us, stop_us = (
                None if time_us is None else time_us + first_us
                for time_us in (filters.start_us, filters.stop_us)
            )
            filters = replace(filters, start_us=start_us, stop_us=stop_us)
        return EventFilter(filters, self._recording.sensor_hw)

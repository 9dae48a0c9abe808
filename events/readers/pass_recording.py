"""A recording that is decoded in passes: one goes over the file, and another may go on where it stood."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numba import njit

from events.errors import ConfigError
from events.readers.source import Source
from events.recording import (
    DEFAULT_CHUNK_EVENTS,
    EVENT_DTYPE,
    Bookmark,
    ReadOptions,
    Recording,
)

# Events decoded at a time where only the largest row and column are wanted: they stay in the cache.
SCRATCH_EVENTS = 1 << 16


class Pass(Protocol):
    """One pass over a file; how much is asked for at a time changes nothing that it delivers or counts."""

    def fill(self, out: np.ndarray) -> int:
        """Decode the next events into `out`, EVENT_DTYPE; return how many, 0 only at the end."""

    def finish(self) -> None:
        """Bring the report up to the end of the file."""

    @property
    def place(self) -> Any:
        """Where the pass stands, with all that later events and counts depend on."""

    def __enter__(self) -> Self:
        """Return the pass itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""


class PassRecording(Recording):
    """A recording decoded in passes."""

    _source: Source
    _reading: Pass | None = None  # of the iterator that yielded last

    @property
    @abstractmethod
    def _most_events(self) -> int:
        """Events that a file of this size is likely to hold at most: a chunk has room for no more."""

    @abstractmethod
    def _new_pass(self) -> Pass:
        """Return a pass over the file that fills a new report of this recording."""

    @abstractmethod
    def _pass_behind(self, place: Any) -> Pass:
        """Return a pass from where another stood, which goes on with the report of this recording."""

    def decode_chunks(self, *, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[np.ndarray]:
        """Yield the events in file order, at most `max_events` at a time; see `Recording.decode_chunks`."""
        check_room(max_events)
        yield from self._decode(self._new_pass(), max_events)

    def bookmark(self) -> Bookmark | None:
        """Return the place behind the chunk yielded last; see `Recording.bookmark`."""
        if self._reading is None or self._source.open_ended:
            return None
        return Bookmark(self._reading.place, self.report.copy())

    def decode_from(self, place: Bookmark, *, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[np.ndarray]:
        """Yield the events behind a bookmark; see `Recording.decode_from`."""
        check_room(max_events)
        self.report = place.report.copy()
        yield from self._decode(self._pass_behind(place.at), max_events)

    def _decode(self, reading: Pass, max_events: int) -> Iterator[np.ndarray]:
        """Yield what a pass still has to give."""
        out = np.empty(min(max_events, self._most_events), EVENT_DTYPE)
        with reading:
            while n := reading.fill(out):
                self._reading = reading
                yield out[:n]
            reading.finish()


def check_room(max_events: int) -> None:
    """Raise ConfigError unless chunks have room for an event."""
    if max_events < 1:
        raise ConfigError(f"max_events must be at least 1, got {max_events}")


def lenient(options: ReadOptions) -> ReadOptions:
    """Return options under which damage raises nothing, to look through a file before it is read."""
    return options if options.damage == "salvage" else replace(options, damage="skip")


def last_row_and_column(reading: Pass, *, room: int = SCRATCH_EVENTS) -> tuple[int, int]:
    """Return the largest y and x of a pass, 0 without events, decoding at most `room` events at a time."""
    last_y = last_x = 0
    out = np.empty(room, EVENT_DTYPE)
    with reading:
        while n := reading.fill(out):
            last_y, last_x = larger_pixel(out[:n].view(np.int64), last_y, last_x)
    return last_y, last_x


@njit(cache=True, nogil=True)
def larger_pixel(words: np.ndarray, last_y: int, last_x: int) -> tuple[int, int]:
    """Return the largest y and x of events, two words each, shape [2 n], int64, and of those before."""
    for i in range(len(words) // 2):
        last_x = max(last_x, words[2 * i + 1] & 0xFFFF)
        last_y = max(last_y, (words[2 * i + 1] >> 16) & 0xFFFF)
    return last_y, last_x

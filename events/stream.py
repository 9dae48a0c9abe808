"""Cut a stream of events anew: into chunks of one length, into windows of time, down to a range.

All of it works on one chunk at a time, in memory that is used again. What comes out does not depend on how
the stream was cut before. A chunk that comes out is a view of a buffer that the next one overwrites.
Where the stream ends with an error, what still waits for more events is delivered before it.
"""

from collections.abc import Callable, Iterator

import numpy as np

from events.errors import EventsError

# Windows without events in a row that are yielded: at 1 ms, a pause of more than a quarter of an hour.
MOST_EMPTY_WINDOWS = 1_000_000


class ChunkBuffer:
    """Events that wait for more, in memory that grows to the largest chunk met and is used again."""

    def __init__(self, dtype: np.dtype) -> None:
        self._events = np.empty(0, dtype)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, events: np.ndarray) -> None:
        """Copy events, shape [n], behind those that wait."""
        needed = self._length + len(events)
        if needed > len(self._events):
            larger = np.empty(max(needed, 2 * len(self._events)), self._events.dtype)
            larger[: self._length] = self._events[: self._length]
            self._events = larger
        # Whole words: NumPy copies records with gaps field by field.
        self._events[self._length : needed].view(np.int64)[:] = events.view(np.int64)
        self._length = needed

    def take(self) -> np.ndarray:
        """Return the events that wait, shape [n], and wait for none; the next `add` overwrites them."""
        taken = self._events[: self._length]
        self._length = 0
        return taken


class EndKept:
    """Iterates over a stream to its end or its error, which it keeps for later."""

    def __init__(self, chunks: Iterator[np.ndarray]) -> None:
        self._chunks = chunks
        self._error: EventsError | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        try:
            yield from self._chunks
        except EventsError as error:
            self._error = error

    def raise_error(self) -> None:
        """Raise the error with which the stream ended, if any."""
        if self._error is not None:
            raise self._error


def by_count(chunks: Iterator[np.ndarray], count: int, dtype: np.dtype) -> Iterator[np.ndarray]:
    """Yield chunks of exactly `count` events, the last with what is left; none where there are no events."""
    waiting, stream = ChunkBuffer(dtype), EndKept(chunks)
    for chunk in stream:
        at = 0
        while len(chunk) - at + len(waiting) >= count:
            stop = at + count - len(waiting)
            if len(waiting):
                waiting.add(chunk[at:stop])
                yield waiting.take()
            else:
                yield chunk[at:stop]
            at = stop
        waiting.add(chunk[at:])
    if len(waiting):
        yield waiting.take()
    stream.raise_error()


def by_duration(
    chunks: Iterator[np.ndarray],
    duration_us: int,
    dtype: np.dtype,
    *,
    start_us: int | None = None,
    count_late: Callable[[int], None] | None = None,
    on_leap: Callable[[int, int], None] | None = None,
) -> Iterator[np.ndarray]:
    """Yield windows [start + k * duration, start + (k + 1) * duration), k = 0, 1, ..., also empty ones.

    A window closes when the first event at or past its end arrives. An event that comes after its window
    has closed, because the clock stepped back, belongs to the window that is open.

    Where the clock leaps over more than `MOST_EMPTY_WINDOWS`, forward or back, the windows between are left
    out, and the next one is that of the event after the leap: a single wrong time neither gives windows
    without end nor swallows what follows.

    Args:
        chunks: Events in order of arrival, shape [n], with a field `t` in microseconds.
        duration_us: Length of a window, at least 1.
        dtype: Type of the events.
        start_us: Start of the first window; None takes the time of the first event.
        count_late: Called with how many events came after their window had closed.
        on_leap: Called with how many windows were left out, and the time after the leap; may raise.
    """
    waiting, stream = ChunkBuffer(dtype), EndKept(chunks)
    open_window = last = 0
    for chunk in stream:
        if len(chunk) == 0:
            continue
        if start_us is None:
            start_us = int(chunk["t"][0])
        own = (chunk["t"] - start_us) // duration_us
        window = assigned_windows(own, open_window, last)
        last = int(own[-1])
        late = int(np.count_nonzero(own < window))
        if late and count_late is not None:
            count_late(late)
        closing = np.flatnonzero(window[1:] != window[:-1]) + 1
        if window[0] != open_window:
            closing = np.concatenate([[0], closing])
        at = 0
        for stop in closing.tolist():
            if len(waiting):
                waiting.add(chunk[at:stop])
                yield waiting.take()
            else:
                yield chunk[at:stop]
            left_out = int(window[stop]) - open_window - 1
            if 0 <= left_out <= MOST_EMPTY_WINDOWS:
                for _ in range(left_out):
                    yield chunk[:0]
            elif on_leap is not None:
                on_leap(abs(left_out), int(chunk["t"][stop]))
            open_window, at = int(window[stop]), stop
        waiting.add(chunk[at:])
    if len(waiting):
        yield waiting.take()
    stream.raise_error()


def assigned_windows(own: np.ndarray, open_window: int, last: int) -> np.ndarray:
    """Return the number of the window that each event goes to, shape [n], int64.

    Args:
        own: Number of the window that its time says, shape [n], int64, n at least 1.
        open_window: Number of the window that is open.
        last: What `own` was for the event before the first.
    """
    starts = [0]
    if max(int(own.max()), last) - min(int(own.min()), last) > MOST_EMPTY_WINDOWS:
        # In floating point, where the difference of any two numbers has a place.
        steps = np.diff(own.astype(np.float64), prepend=float(last))
        leaps = np.flatnonzero(np.abs(steps) > MOST_EMPTY_WINDOWS)
        starts = sorted({0, *leaps.tolist()})
        if leaps[0] == 0:
            open_window = int(own[0])
    window = np.empty_like(own)
    for start, stop in zip(starts, [*starts[1:], len(own)], strict=True):
        np.maximum.accumulate(own[start:stop], out=window[start:stop])
    first = window[: starts[1] if len(starts) > 1 else len(own)]
    np.maximum(first, open_window, out=first)
    return window

"""Cut a recording that arrives into windows: of a length of time at a rate, or of a number of events.

By time, windows end at multiples of `step_us` on the recording's own clock, the first behind its first event,
and hold the `window_us` before: where that is more than a step, windows overlap; where it is less, events
between them are not seen. By number, a window holds `events` events in the order of arrival, and begins where
the one before it ended.

The ends of windows rise without exception. Where a clock falls back by so much that a window would not
end later than the one before it, that window is left out and counted.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from events.recording import EVENT_DTYPE, Recording
from events.seek import BLOCK_EVENTS
from events.stream import by_duration
from pipelines.errors import ExperimentError


@dataclass(frozen=True)
class WindowCut:
    """Where windows begin and end; either by time or by number of events.

    Attributes:
        step_us: From the end of a window to that of the next, in microseconds.
        window_us: Length of a window.
        events: Events of a window; then the other two are None.
    """

    step_us: int | None = None
    window_us: int | None = None
    events: int | None = None

    def __post_init__(self) -> None:
        by_time = (self.step_us is not None, self.window_us is not None)
        if by_time not in ((True, True), (False, False)) or by_time[0] == (self.events is not None):
            raise ExperimentError(
                f"windows: found step_us {self.step_us}, window_us {self.window_us} and events {self.events}"
                "; expected the first two, or the last alone"
            )
        for name in ("step_us", "window_us", "events"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ExperimentError(f"windows: found {name} {value}, expected at least 1")

    @property
    def overlapping(self) -> bool:
        """Whether an event lies in more than one window."""
        return self.step_us is not None and self.window_us is not None and self.window_us > self.step_us

    @property
    def least_step_us(self) -> int:
        """By how much the end of a window is later than that of the one before, at least."""
        return self.step_us or 1


@dataclass(frozen=True)
class Window:
    """Part of a recording.

    Attributes:
        number: By time, its place on the grid of steps; by number of events, how many were before it.
        start_us: First microsecond.
        stop_us: First microsecond behind it.
        events: Shape [n], EVENT_DTYPE; a view that the next window may overwrite. Those outside of
            [start_us, stop_us) are not of it.
        fresh: Position of the first event that was in no window before.
        joined: Of how many windows it was made.
    """

    number: int
    start_us: int
    stop_us: int
    events: np.ndarray
    fresh: int = 0
    joined: int = 1

    def copy(self) -> "Window":
        """Return the window with events of its own."""
        return Window(self.number, self.start_us, self.stop_us, self.events.copy(), self.fresh, self.joined)


def join_windows(windows: list[Window]) -> Window:
    """Return one window from the start of the first to the end of the last, with all their events."""
    first, last = windows[0], windows[-1]
    if len(windows) == 1:
        return first
    events = np.concatenate([first.events, *(window.events[window.fresh :] for window in windows[1:])])
    joined = sum(window.joined for window in windows)
    return Window(last.number, first.start_us, last.stop_us, events, first.fresh, joined)


@dataclass
class CutCounts:
    """What cutting met.

    Attributes:
        events: Events that arrived.
        late_events: Events that came after their window had closed; in no window.
        clock_leaps: Leaps of the clock over so many windows that these were left out.
        windows_back: Windows left out because the clock had fallen back.
        events_back: Events of these.
        notes: One line each, for people.
    """

    events: int = 0
    late_events: int = 0
    clock_leaps: int = 0
    windows_back: int = 0
    events_back: int = 0
    notes: list[str] = field(default_factory=list)


def cut_windows(recording: Recording, cut: WindowCut, counts: CutCounts) -> Iterator[Window]:
    """Yield the windows of a recording, in memory of a window and a chunk.

    Args:
        recording: Read from its start.
        cut: How.
        counts: Where to count; added to.

    Raises:
        DamagedRecording: As `Recording.chunks`, after the windows before the damage.
    """
    found = _by_events(recording, cut) if cut.events is not None else _by_time(recording, cut, counts)
    last_us: int | None = None
    for window in found:
        counts.events += len(window.events) - window.fresh
        if last_us is not None and window.stop_us <= last_us:
            counts.windows_back += 1
            counts.events_back += len(window.events) - window.fresh
            continue
        if cut.events is not None and len(window.events):
            counts.late_events += int(np.count_nonzero(window.events["t"] < window.start_us))
        last_us = window.stop_us
        yield window
    if counts.windows_back:
        counts.notes.append(
            f"left out {counts.windows_back} windows with {counts.events_back} events: the clock fell back"
        )


def _by_events(recording: Recording, cut: WindowCut) -> Iterator[Window]:
    stop_us: int | None = None
    for number, events in enumerate(recording.chunks(count=cut.events)):
        t = events["t"]
        start_us, end_us = int(t.min()), int(t.max()) + 1
        if stop_us is not None:
            start_us = stop_us
        # Where its end does not rise, the window is left out by the caller.
        stop_us = end_us if stop_us is None else max(stop_us, end_us)
        yield Window(number, min(start_us, end_us), end_us, events)


def _by_time(recording: Recording, cut: WindowCut, counts: CutCounts) -> Iterator[Window]:
    assert cut.step_us is not None
    assert cut.window_us is not None
    step_us, window_us = cut.step_us, cut.window_us
    # Small enough that decoding is not done for many windows at once.
    stream = recording.chunks(count=BLOCK_EVENTS)
    first = next((chunk for chunk in stream if len(chunk)), None)
    if first is None:
        return
    origin_us = int(first["t"][0]) // step_us * step_us
    number = 0
    # Steps before the present one of which a window still holds something.
    before: deque[np.ndarray] = deque(maxlen=-(-window_us // step_us) - 1)

    def count_late(events: int) -> None:
        counts.late_events += events

    def on_leap(windows: int, t_us: int) -> None:
        nonlocal number
        number = (t_us - origin_us) // step_us
        before.clear()
        counts.clock_leaps += 1
        counts.notes.append(f"the clock leaps over {windows} windows to t = {t_us} us; they are left out")

    chunks = chain([first], stream)
    for events in by_duration(
        chunks, step_us, EVENT_DTYPE, start_us=origin_us, count_late=count_late, on_leap=on_leap
    ):
        stop_us = origin_us + (number + 1) * step_us
        shown, fresh = events, 0
        if before.maxlen:
            fresh = sum(map(len, before))
            shown = np.concatenate([*before, events]) if fresh else events
            before.append(events.copy())
        # Before the window is handed on: a leap behind it sets the number of the next.
        number += 1
        yield Window(number - 1, stop_us - window_us, stop_us, shown, fresh)

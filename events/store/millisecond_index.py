"""Where in a recording each millisecond of its clock begins."""

import numpy as np

from events.store.event_layout import MOST_MS


class MillisecondIndex:
    """Position of the first event at or after each millisecond of the clock.

    Entry k is the position of the first event with t >= (origin + k) * 1000, so that every such event is at
    it or behind it, also where the clock falls.

    Attributes:
        origin: Millisecond of the first event.
        rising: Whether no time is below the one before it.
    """

    def __init__(self) -> None:
        """Begin before the first event."""
        self.origin = 0
        self.rising = True
        self._last_t: int | None = None
        self._parts: list[np.ndarray] = []
        self._length = 0
        self._given_up = False

    @property
    def length(self) -> int:
        """Milliseconds in the index; 0 where the clock leaps too far to keep one."""
        return 0 if self._given_up else self._length

    def positions(self) -> np.ndarray:
        """Return the entries, shape [length], int64."""
        return np.concatenate(self._parts) if self.length else np.empty(0, np.int64)

    def add(self, times: np.ndarray, position: int) -> None:
        """Add the times of the next events, shape [n], the first of which is at `position`."""
        if self._last_t is None:
            self.origin = int(times[0]) // 1000
            self._last_t = int(times[0])
        highest = np.maximum(np.maximum.accumulate(times), self._last_t)
        self.rising = self.rising and bool((highest == times).all())
        self._last_t = int(highest[-1])
        length = self._last_t // 1000 - self.origin + 1
        if self._given_up or length > MOST_MS:
            self._given_up, self._parts = True, []
            return
        wanted = (self.origin + np.arange(self._length, length, dtype=np.int64)) * 1000
        self._parts.append(np.searchsorted(highest, wanted).astype(np.int64) + position)
        self._length = length

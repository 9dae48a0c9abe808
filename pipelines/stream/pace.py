"""When windows arrive, and what is done with those that wait.

A file is read as fast as windows are worked off, or, in real time, as its own clock says: a window arrives
when its last microsecond is over. Whoever is too slow then has windows waiting, and a policy:

- `wait`: all are worked off in order, later and later. They wait in the file, not in memory.
- `drop-oldest`: the newest that has arrived is taken, those before it are left out and counted.
- `widen`: those that wait become one window, `MOST_JOINED` at most, so that no event is left out; a frame
  then covers more time than the network was trained with.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, get_args

from pipelines.errors import ExperimentError
from pipelines.stream.windows import Window, join_windows

Policy = Literal["wait", "drop-oldest", "widen"]

MOST_JOINED = 8
# Longest sleep, so that Ctrl-C is heard.
NAP_S = 0.1


class Clock(Protocol):
    """A clock that can be waited on."""

    def now(self) -> float:
        """Return seconds from any beginning."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class WallClock:
    """The machine's."""

    def now(self) -> float:
        """Return seconds from any beginning."""
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


@dataclass(frozen=True)
class PaceSettings:
    """When windows arrive.

    Attributes:
        speed: Seconds of the recording in a second, for real time; None is as fast as can be.
        policy: What is done with windows that wait, see above.
    """

    speed: float | None = None
    policy: Policy = "wait"

    def __post_init__(self) -> None:
        if self.policy not in get_args(Policy):
            raise ExperimentError(
                f"policy: found {self.policy!r}, expected one of {', '.join(get_args(Policy))}"
            )
        if self.speed is not None and not 0 < self.speed < float("inf"):
            raise ExperimentError(f"realtime: found a speed of {self.speed}, expected a number above 0")
        if self.speed is None and self.policy != "wait":
            raise ExperimentError(
                f"policy {self.policy!r} is for windows that wait, which there are in real time alone; "
                "add --realtime, or leave the policy out"
            )


class Arrival(NamedTuple):
    """A window and when it came.

    Attributes:
        window: The window.
        arrived_s: When it was over, on the clock; without real time when decoding it began.
        ahead_s: Seconds of its decoding that were spent before that.
        decode_s: All seconds of its decoding, those of windows dropped or joined for it included.
    """

    window: Window
    arrived_s: float
    ahead_s: float
    decode_s: float


class _Pulled(NamedTuple):
    window: Window
    arrived_s: float
    began_s: float
    ended_s: float

    @property
    def decode_s(self) -> float:
        return self.ended_s - self.began_s

    @property
    def ahead_s(self) -> float:
        return max(0.0, min(self.arrived_s, self.ended_s) - self.began_s)


class Pace:
    """Iterates over windows as they arrive.

    Attributes:
        dropped, dropped_events: Windows left out by `drop-oldest`, and their events.
        joined: Windows that became part of a wider one.
        slept_s: Seconds spent waiting for windows.
        first_us, last_us: From where to where windows arrived; None before the first.
    """

    def __init__(
        self,
        windows: Iterator[Window],
        settings: PaceSettings,
        *,
        least_step_us: int,
        clock: Clock,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Pace windows.

        Args:
            windows: As they are cut.
            settings: When they arrive.
            least_step_us: By how much each ends later than the one before, at least.
            clock: What tells the time.
            stop: Whether to end.
        """
        self._windows, self._settings, self._clock, self._stop = windows, settings, clock, stop
        self._least_step_us = least_step_us
        self._began_s: float | None = None
        self._dropped_decode_s = 0.0
        self.dropped = self.dropped_events = self.joined = 0
        self.slept_s = 0.0
        self.first_us: int | None = None
        self.last_us: int | None = None

    def __iter__(self) -> Iterator[Arrival]:
        ahead = self._pull()
        while ahead is not None and not self._stop():
            self._wait_until(ahead.arrived_s)
            if self._stop():
                return
            if self._settings.policy == "wait":
                yield Arrival(ahead.window, ahead.arrived_s, ahead.ahead_s, ahead.decode_s)
                ahead = self._pull()
            else:
                waiting, ahead, ended = self._gather(ahead)
                yield self._one_of(waiting)
                if ahead is None and not ended:
                    ahead = self._pull()

    def _arrival_s(self, stop_us: int) -> float:
        """Return when a window is over that ends at a time; of real time."""
        assert self._settings.speed is not None
        assert self._began_s is not None
        assert self.first_us is not None
        return self._began_s + (stop_us - self.first_us) / 1e6 / self._settings.speed

    def _pull(self) -> _Pulled | None:
        began = self._clock.now()
        window = next(self._windows, None)
        ended = self._clock.now()
        if window is None:
            return None
        if self._began_s is None:
            self._began_s, self.first_us = ended, window.start_us
        self.last_us = window.stop_us
        arrived = began if self._settings.speed is None else self._arrival_s(window.stop_us)
        return _Pulled(window, arrived, began, ended)

    def _wait_until(self, moment_s: float) -> None:
        if self._settings.speed is None:
            return
        while not self._stop() and (left := moment_s - self._clock.now()) > 0:
            nap = min(left, NAP_S)
            self._clock.sleep(nap)
            self.slept_s += nap

    def _gather(self, first: _Pulled) -> tuple[list[_Pulled], _Pulled | None, bool]:
        """Return the windows that have arrived, the next if it was pulled, and whether they have ended."""
        most = MOST_JOINED if self._settings.policy == "widen" else None
        waiting = [first._replace(window=first.window.copy())]
        while most is None or len(waiting) < most:
            # Not to spend time on a window that cannot have arrived.
            if self._arrival_s(waiting[-1].window.stop_us + self._least_step_us) > self._clock.now():
                return waiting, None, False
            pulled = self._pull()
            if pulled is None or pulled.arrived_s > self._clock.now():
                return waiting, pulled, pulled is None
            pulled = pulled._replace(window=pulled.window.copy())
            if most is not None:
                waiting.append(pulled)
                continue
            # The newest alone is kept, so that memory is that of a window however far behind.
            self.dropped += waiting[-1].window.joined
            self.dropped_events += len(waiting[-1].window.events) - waiting[-1].window.fresh
            self._dropped_decode_s += waiting[-1].decode_s
            waiting = [pulled]
        return waiting, None, False

    def _one_of(self, waiting: list[_Pulled]) -> Arrival:
        """Return the windows that wait as one; it is as old as its newest part."""
        window, newest = join_windows([pulled.window for pulled in waiting]), waiting[-1]
        self.joined += len(waiting) - 1
        decode_s = sum(pulled.decode_s for pulled in waiting) + self._dropped_decode_s
        self._dropped_decode_s = 0.0
        return Arrival(window, newest.arrived_s, newest.ahead_s, decode_s)

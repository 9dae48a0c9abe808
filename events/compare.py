"""Compare two recordings event by event, whatever their formats, in memory of a chunk."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np

from events.errors import ConfigError
from events.recording import EVENT_DTYPE, Recording

COMPARED_EVENTS = 1 << 17
FIELDS = ("t", "x", "y", "p")


@dataclass
class Comparison:
    """What two recordings, A and B, have in common and where they differ.

    Events are compared by their position: event i of A with event i of B.

    Attributes:
        path_a, path_b: The recordings.
        format_a, format_b: Their formats.
        sensor_a, sensor_b: Height and width in pixels.
        events_a, events_b: Number of events.
        differing: Events that differ in each field, among those that both have.
        first_difference: Position of the first event that differs or that only one has; None where none.
        first_a, first_b: That event as t, x, y, p; None where the recording has ended.
        shift_us: What to add to each time of A to get that of B, where it is the same for all; else None.
        largest_time_difference_us: Of events that both have.
        explanations: What would explain a field's differences: mirrored, exchanged, inverted.
    """

    path_a: str
    path_b: str
    format_a: str
    format_b: str
    sensor_a: tuple[int, int]
    sensor_b: tuple[int, int]
    events_a: int = 0
    events_b: int = 0
    differing: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FIELDS, 0))
    first_difference: int | None = None
    first_a: tuple[int, int, int, bool] | None = None
    first_b: tuple[int, int, int, bool] | None = None
    shift_us: int | None = None
    largest_time_difference_us: int = 0
    explanations: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        """Whether both hold the same events."""
        return self.first_difference is None

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {"same": self.same} | self.__dict__


def compare_recordings(
    a: Recording, b: Recording, *, tolerance_us: int = 0, ignore_shift: bool = False
) -> Comparison:
    """Read two recordings side by side and compare their events.

    Args:
        a: One recording.
        b: The other.
        tolerance_us: Times that differ by at most that much are taken for equal.
        ignore_shift: Whether times count from the first event of each.

    Raises:
        ConfigError: The tolerance is below 0.
        EventsError: One of them cannot be read.
    """
    if tolerance_us < 0:
        raise ConfigError(f"tolerance_us must be at least 0, got {tolerance_us}")
    found = Comparison(str(a.path), str(b.path), a.format, b.format, a.sensor_hw, b.sensor_hw)
    work = _Work(found, tolerance_us, ignore_shift)
    nothing = np.empty(0, EVENT_DTYPE)
    for one, other in zip_longest(_chunks(a), _chunks(b), fillvalue=nothing):
        work.update(one, other)
    work.finish()
    return found


def _chunks(recording: Recording) -> Iterator[np.ndarray]:
    return recording.chunks(count=COMPARED_EVENTS)


class _Work:
    """Fills a comparison from pairs of chunks, which begin at the same position."""

    def __init__(self, found: Comparison, tolerance_us: int, ignore_shift: bool) -> None:
        self._found = found
        self._tolerance_us = tolerance_us
        self._ignore_shift = ignore_shift
        self._first_shift_us: int | None = None
        self._shift_us: int | None = None
        self._constant = True
        self._holds = dict.fromkeys(
            (
                "x is mirrored: x_b = width - 1 - x_a",
                "y is mirrored: y_b = height - 1 - y_a",
                "x and y are exchanged",
                "polarity is inverted",
            ),
            True,
        )

    def update(self, a: np.ndarray, b: np.ndarray) -> None:
        """Compare the next events of both, shapes [n] and [m], EVENT_DTYPE; n and m differ at an end only."""
        found, n = self._found, min(len(a), len(b))
        at = found.events_a if len(a) >= len(b) else found.events_b
        differs = self._compare(a[:n], b[:n])
        if found.first_difference is None and (differs.any() or len(a) != len(b)):
            place = int(differs.argmax()) if differs.any() else n
            found.first_difference = at + place
            found.first_a, found.first_b = _event(a, place), _event(b, place)
        found.events_a += len(a)
        found.events_b += len(b)

    def _compare(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Compare equally many events; return which differ, shape [n], bool."""
        if len(a) == 0:
            return np.zeros(0, np.bool_)
        shift = b["t"] - a["t"]
        if self._shift_us is None:
            self._shift_us = int(shift[0])
        self._constant &= bool((shift == self._shift_us).all())
        if self._ignore_shift:
            shift = shift - self._shift_us
        self._found.largest_time_difference_us = max(
            self._found.largest_time_difference_us, int(np.abs(shift).max())
        )
        differing = {"t": np.abs(shift) > self._tolerance_us}
        differing |= {name: a[name] != b[name] for name in ("x", "y", "p")}
        for name in FIELDS:
            self._found.differing[name] += int(np.count_nonzero(differing[name]))
        self._explain(a, b)
        return differing["t"] | differing["x"] | differing["y"] | differing["p"]

    def _explain(self, a: np.ndarray, b: np.ndarray) -> None:
        height, width = self._found.sensor_a
        checks = (
            lambda: (a["x"].astype(np.int64) + b["x"] == width - 1).all(),
            lambda: (a["y"].astype(np.int64) + b["y"] == height - 1).all(),
            lambda: (a["x"] == b["y"]).all() and (a["y"] == b["x"]).all(),
            lambda: (a["p"] != b["p"]).all(),
        )
        for name, check in zip(self._holds, checks, strict=True):
            self._holds[name] = self._holds[name] and bool(check())

    def finish(self) -> None:
        """Say what holds for all events."""
        found = self._found
        if self._shift_us is None:
            return
        found.shift_us = self._shift_us if self._constant else None
        needed = zip(self._holds, (("x",), ("y",), ("x", "y"), ("p",)), strict=True)
        for name, fields in needed:
            if self._holds[name] and any(found.differing[field] for field in fields):
                found.explanations.append(name)


def _event(events: np.ndarray, place: int) -> tuple[int, int, int, bool] | None:
    """Return an event as plain numbers; None behind the last."""
    return events[place].item() if place < len(events) else None


def format_comparison(found: Comparison) -> str:
    """Return a comparison as text, one fact a line."""
    lines = [f"{found.path_a} ({found.format_a}) and {found.path_b} ({found.format_b})"]
    if found.same:
        lines.append(f"  same: {found.events_a:,} events")
    else:
        lines.append(f"  events  {found.events_a:,} and {found.events_b:,}")
        both = min(found.events_a, found.events_b)
        lines += [
            f"  {name}       differs in {count:,} of {both:,}"
            for name, count in found.differing.items()
            if count
        ]
        place = found.first_difference
        lines.append(f"  first   event {place:,}: {_said(found.first_a)} and {_said(found.first_b)}")
    if found.shift_us:
        lines.append(f"  time    B is {found.shift_us:+,} us from A throughout")
    lines += [f"  looks as if {explanation}" for explanation in found.explanations]
    if found.sensor_a != found.sensor_b:
        a, b = (f"{height}x{width}" for height, width in (found.sensor_a, found.sensor_b))
        lines.append(f"  sensor  {a} and {b} (height x width); not compared")
    return "\n".join(lines)


def _said(event: tuple[int, int, int, bool] | None) -> str:
    if event is None:
        return "its end"
    t, x, y, p = event
    return f"t={t} x={x} y={y} {'ON' if p else 'OFF'}"

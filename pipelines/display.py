"""Telling a person how a run goes, on stderr: a bar on a terminal, else a plain line now and then."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console

# Seconds between plain lines of one activity.
LINE_EVERY_S = 10.0


class Display(Protocol):
    """Where a run says how it goes."""

    def say(self, text: str) -> None:
        """Print one line."""

    def progress(self, activity: str, done: int, total: int, note: str = "") -> None:
        """Show how far an activity is; a new name begins a new activity."""


class Silent:
    """Says nothing: tests, and processes other than the first."""

    def say(self, text: str) -> None:
        """Print nothing."""

    def progress(self, activity: str, done: int, total: int, note: str = "") -> None:
        """Show nothing."""


class PlainLines:
    """Lines without colour, for logs."""

    def __init__(self) -> None:
        self._activity = ""
        self._began = self._printed = 0.0

    def say(self, text: str) -> None:
        """Print one line."""
        print(text, file=sys.stderr, flush=True)

    def progress(self, activity: str, done: int, total: int, note: str = "") -> None:
        """Print how far the activity is, at most every 10 seconds."""
        now = time.monotonic()
        if activity != self._activity:
            self._activity, self._began, self._printed = activity, now, now
        if now - self._printed < LINE_EVERY_S:
            return
        self._printed = now
        left = f", {_duration((now - self._began) / done * (total - done))} left" if done else ""
        self.say(f"{activity}: {done}/{total}{left}{f'  {note}' if note else ''}")


class Bars:
    """A bar with rate and time left under the lines printed so far, for terminals."""

    def __init__(self, console: "Console | None" = None) -> None:
        """Draw on a console, by default on stderr."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = console or Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
        )
        self._task: Any = None
        self._activity = ""

    def say(self, text: str) -> None:
        """Print one line above the bar."""
        self._console.print(text, markup=False, soft_wrap=True)

    def progress(self, activity: str, done: int, total: int, note: str = "") -> None:
        """Move the bar."""
        if activity != self._activity:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._activity = activity
            self._task = self._progress.add_task(activity, total=total, note=note)
        self._progress.update(self._task, completed=done, total=total, note=note)

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


def _duration(seconds: float) -> str:
    """Return seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"

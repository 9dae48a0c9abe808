"""A run in several processes on this machine: they are started here, and what they say is said here."""

from collections.abc import Callable
from functools import partial
from typing import Any

from pipelines.display import Display
from snn.training.launch import Tell, start_processes
from snn.training.settings import TrainSettings


class Relayed:
    """Hands what is said in a process to the one that started it."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def say(self, text: str) -> None:
        """Print one line, there."""
        self._tell(("say", (text,)))

    def progress(self, activity: str, done: int, total: int, note: str = "") -> None:
        """Show how far an activity is, there."""
        self._tell(("progress", (activity, done, total, note)))


def run_in_processes(run: Callable[[Display], Any], settings: TrainSettings, display: Display) -> Any:
    """Call a function with a display in every process of a run on this machine, return the first's result.

    Args:
        run: Importable, with picklable arguments and result.
        settings: How many processes and machines.
        display: Where all is said.
    """
    return start_processes(partial(_with_display, run), settings, listen=partial(_show, display))


def _with_display(run: Callable[[Display], Any], tell: Tell) -> Any:
    return run(Relayed(tell))


def _show(display: Display, message: tuple[str, tuple[Any, ...]]) -> None:
    kind, arguments = message
    getattr(display, kind)(*arguments)

"""What all commands share: errors as one line, JSON, progress on a terminal or in a log."""

import functools
import json
import os
import shlex
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

import typer

from events.errors import ConfigError, EventsError

EXIT_PROBLEM, EXIT_USAGE, EXIT_PARTIAL, EXIT_INTERRUPTED = 1, 2, 3, 130

# Seconds between two lines of progress where standard error is no terminal.
LINE_SECONDS = 10

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")


def errors_as_lines(command: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """Make a command end with one line and an exit code instead of a traceback."""

    @functools.wraps(command)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            # The reader of our output, such as `head`, has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(EXIT_PROBLEM) from None
        except ConfigError as error:
            raise stop(str(error), code=EXIT_USAGE) from None
        except EventsError as error:
            raise stop(str(error)) from None
        except MemoryError as error:
            raise stop(f"not enough memory: {error}; name a smaller sensor or frame") from None
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise stop(f"{where}{error.strerror or error}") from None

    return wrapped


def stop(message: str, *, code: int = EXIT_PROBLEM) -> typer.Exit:
    """Print an error as one line and return the exit to raise."""
    say(f"error: {' '.join(message.split())}")
    return typer.Exit(code)


def say(line: str) -> None:
    """Print a line for people on standard error."""
    typer.echo(line, err=True)


def print_json(data: Any) -> None:
    """Print data on standard output as JSON."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str))


def this_command() -> str:
    """Return the command line that started the program, as one would type it again."""
    return shlex.join(["events", *sys.argv[1:]])


class ProgressBar:
    """One line of progress: a bar on a terminal, else a plain line every ten seconds.

    Both show the same: what is done of how much, then a text such as a rate.
    """

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        self._title = title
        self._quiet = quiet
        self._bar: Any = None
        self._said = time.monotonic()
        self._started = self._said

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[text]}"),
                TextColumn("ETA"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=None, text="")
        return self

    def show(self, done: int, total: int, text: str = "") -> None:
        """Say how much is done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, text=text)
        elif not self._quiet and time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            left = (self._said - self._started) * (total - done) / done if done else 0
            say(f"{self._title} {done}/{total}{', ' + text if text else ''}, ETA {left:.0f} s")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

"""What all commands share: options, bars, errors in one line, exit codes."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from events.errors import ConfigError, EventsError
from pipelines.errors import ExperimentError, PipelineError
from snn.errors import SnnError

if TYPE_CHECKING:
    from pipelines.display import Display

PROBLEM, USAGE, INTERRUPTED = 1, 2, 130

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Change one setting; may be repeated."),
]
OutOption = Annotated[
    Path | None,
    typer.Option(help="Folder of the run (default: runs/NAME-TIME).", show_default=False),
]
SeedOption = Annotated[int | None, typer.Option(help="Seed of the run.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="Run folder, as in runs/digits-20260101-120000.")
]


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Turn our own errors into one line on stderr and an exit code."""
    try:
        yield
    except (EventsError, PipelineError, SnnError) as error:
        if _says_errors():
            print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(USAGE if isinstance(error, ExperimentError | ConfigError) else PROBLEM) from None
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("events", "snn", "pipelines"):
            raise
        print(
            f"error: {error.name} is not installed; pip install 'spikeline[train]'; "
            "`pipelines doctor` says what else is missing",
            file=sys.stderr,
        )
        raise typer.Exit(PROBLEM) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        raise typer.Exit(PROBLEM) from None
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to go on", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def _says_errors() -> bool:
    """Return whether an error is to be said here: of the processes of torchrun, one says it."""
    if "RANK" not in os.environ:
        return True
    from snn.training.devices import started_world
    from snn.training.launch import says_errors

    try:
        return says_errors(started_world())
    except SnnError:
        return True


@contextlib.contextmanager
def display_here() -> Iterator["Display"]:
    """Show bars on a terminal, else plain lines; of torchrun's processes, the first does."""
    from pipelines.display import Bars, PlainLines, Silent

    if os.environ.get("RANK", "0") != "0":
        yield Silent()
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with Bars() as bars:
            yield bars
    else:
        yield PlainLines()

"""What all commands share: options, bars, errors in one line, exit codes."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from events.errors import ConfigError, EventsError, did_you_mean
from pipelines.cli.names import EXECUTORS, NEURONS, explained
from pipelines.errors import ExperimentError, PipelineError
from snn.errors import SnnError

if TYPE_CHECKING:
    from pipelines.detect_settings import DetectExperiment
    from pipelines.display import Display
    from pipelines.experiment import Experiment

_Trained = TypeVar("_Trained", "Experiment", "DetectExperiment")

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
NeuronOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help=f"Neurons of every layer. {explained(NEURONS)}", show_default=False),
]
ExecutorOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help=f"What computes the neurons. {explained(EXECUTORS)}", show_default=False
    ),
]
ResumeOption = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="Go on with a run that was stopped, bit for bit.", show_default=False),
]
DevicesOption = Annotated[
    int | None,
    typer.Option(
        help="Processes on a machine: one for each GPU, or on the CPU as many as given. They share every "
        "batch and train as one would. With --resume, go on with so many.",
        show_default=False,
    ),
]
NodesOption = Annotated[
    int | None,
    typer.Option(
        help="Machines: give the same command on each, with MASTER_ADDR, MASTER_PORT and NODE_RANK set; "
        "or use torchrun.",
        show_default=False,
    ),
]
RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="Run folder, as in runs/digits-20260101-120000.")
]


def setting_changes(
    assignments: list[str] | None,
    given: Mapping[str, Any],
    *,
    settings: Mapping[str, str],
    known: Mapping[str, Mapping[str, str]],
) -> list[str]:
    """Return `--set` values and the options that are short for one.

    Args:
        assignments: Values of `--set`.
        given: Value of each option; None where it was left out.
        settings: Name of the setting by option.
        known: Names that an option takes, by option.

    Raises:
        ExperimentError: A name is not known.
    """
    changes = list(assignments or [])
    for option, value in given.items():
        if value is not None:
            check_name(option, value, known.get(option))
            text = value if isinstance(value, int | float) else json.dumps(str(value))
            changes.append(f"{settings[option]}={text}")
    return changes


def with_processes(settings: _Trained, *, devices: int | None, nodes: int | None) -> _Trained:
    """Return the settings of a run that goes on with another number of processes.

    Without a number, started by torchrun, it goes on with the processes there are.
    """
    from snn.training.devices import started_world

    processes: dict[str, Any] = {
        name: n for name, n in (("devices", devices), ("nodes", nodes)) if n is not None
    }
    if not processes and started_world() is not None:
        processes = {"devices": 1, "nodes": 1}
    return replace(settings, training=replace(settings.training, **processes))


def check_name(option: str, value: Any, known: Mapping[str, str] | None) -> None:
    """Raise ExperimentError where the name after an option is not known; None knows all."""
    if known is not None and value not in known:
        raise ExperimentError(
            f"--{option}: found {value!r}, expected one of {', '.join(known)}{did_you_mean(value, known)}"
        )


def refuse_smoke_on_data(smoke: bool, data: Path | None) -> None:
    """Raise ExperimentError where a try is asked for on data that is given."""
    if smoke and data is not None:
        raise ExperimentError("--smoke makes its own data; leave out --data, or --smoke to train on it")


def say_how_to_resume(command: str, run: Path) -> None:
    """Print with which command a run that was stopped goes on."""
    print(f"\nsaved; go on with:\n  pipelines run {command} --resume {run}", file=sys.stderr)


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

"""A run in several processes on this machine: they are started here, and what they say is said here."""

from collections.abc import Callable
from functools import partial
from typing import Any

from pipelines.display import Display
from pipelines.errors import ExperimentError
from snn.training.devices import World, check_device, started_world
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


def run_together(
    run: Callable[[World | None, Display], Any], settings: TrainSettings, display: Display
) -> Any:
    """Call a function in this process, or in every process of a run, and return what the first returns.

    Args:
        run: Importable, with picklable arguments and result; given the processes that were started together,
            None for one alone, and where to say how it goes.
        settings: How many processes and machines.
        display: Where all is said.

    Raises:
        ExperimentError: Other processes were started than are asked for.
        TrainingError: A device or precision asked for is not there.
    """
    world = started_world()
    if world is not None:
        _refuse_other_processes(settings, world)
        return run(world, display)
    if settings.processes == 1:
        return run(None, display)
    # Before any work: a device or precision that is not there is refused.
    check_device(settings)
    return run_in_processes(partial(_as_member, run), settings, display)


def _as_member(run: Callable[[World | None, Display], Any], display: Display) -> Any:
    return run(started_world(), display)


def _refuse_other_processes(settings: TrainSettings, world: World) -> None:
    """Raise ExperimentError where other processes were started than are asked for."""
    if settings.processes > 1 and (settings.devices, settings.nodes) != (world.processes_here, world.nodes):
        raise ExperimentError(
            f"training.devices is {settings.devices} and training.nodes {settings.nodes}, but "
            f"{world.processes_here} processes were started on each of {world.nodes} machines; leave out "
            "--devices and --nodes under torchrun"
        )


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

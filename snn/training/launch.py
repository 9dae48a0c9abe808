"""Start the processes of a run on this machine, and end them all when one ends badly or somebody stops it.

What `torchrun` does for one run: the same environment variables, a store that outlives every process; but
errors in one line, and nothing of a run is left when it is over.
"""

import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from torch import distributed

from snn.errors import LostProcessError, SnnError, TrainingError
from snn.training.devices import World
from snn.training.settings import TrainSettings

# Seconds that processes have to end by themselves after one has failed.
TO_FAIL_TOO_S = 5.0

# Exit code of a process that has said why it failed.
FAILED = 3

Tell = Callable[[Any], None]


@contextmanager
def lost_processes_named() -> Iterator[None]:
    """Turn what communication says when another process has ended into an error of one line.

    Raises:
        LostProcessError: Another process has ended.
    """
    try:
        yield
    except RuntimeError as error:
        signs = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
        if not isinstance(error, distributed.DistError) and not any(sign in str(error) for sign in signs):
            raise
        raise LostProcessError(
            "another process of the run ended before its time, and this one with it; --resume goes on from "
            "the last checkpoint"
        ) from error


def leave_processes() -> None:
    """Part from the other processes, if there are any; all must call it, and none waits for the others."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def says_errors(world: World | None) -> bool:
    """Return whether this process is the one to say why a run failed: the first of its world to ask."""
    if world is None or multiprocessing.parent_process() is not None:
        return True
    wait_at_most = timedelta(seconds=5)
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT", "")
    if not address or not port.isdecimal():
        return world.rank == 0
    try:
        store = distributed.TCPStore(address, int(port), is_master=False, timeout=wait_at_most)
        return store.add("spikeline/failed", 1) == 1
    except RuntimeError:
        return world.rank == 0


def start_processes(
    function: Callable[[Tell], Any], settings: TrainSettings, *, listen: Tell = lambda message: None
) -> Any:
    """Call a function in `settings.devices` processes here, which see what torchrun would tell them.

    Ctrl-C and SIGTERM are passed on once, as SIGTERM, so that the processes can end in order; a second Ctrl-C
    ends them at once.

    Args:
        function: Called in each process with `tell`; importable, with picklable arguments and result.
        settings: How many processes and machines.
        listen: Called here with what a process hands to `tell`.

    Returns:
        What the first process on this machine returned.

    Raises:
        TrainingError: A process was killed, or machines cannot find each other.
        KeyboardInterrupt: Somebody stopped the processes before they could say how far they were.
        Exception: What the first process to fail raised.
    """
    # The store serves from this process until it is forgotten.
    node, place, _store = _meet(settings)
    context = multiprocessing.get_context("spawn")
    processes: dict[Connection, BaseProcess] = {}
    with _passed_on(processes) as stopped:
        try:
            for local in range(settings.devices):
                here, there = context.Pipe(duplex=False)
                process: BaseProcess = context.Process(target=_member, args=(function, there), daemon=False)
                with _environment(settings, node, local, place), _ignored(signal.SIGINT):
                    process.start()
                there.close()
                processes[here] = process
            if stopped:
                # Some were not there yet to be told.
                raise KeyboardInterrupt
            return _wait_for(processes, listen, stopped)
        finally:
            for process in processes.values():
                process.kill()
            for process in processes.values():
                process.join()


def _meet(settings: TrainSettings) -> tuple[int, tuple[str, str], distributed.TCPStore | None]:
    """Return this machine's number, address and port of the store of all processes, and it where it is here.

    Raises:
        TrainingError: There are several machines, and the environment does not say which this is, or the port
            is taken.
    """
    if settings.nodes == 1:
        # Port 0: the system picks one that is free.
        here = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        return 0, ("127.0.0.1", str(here.port)), here
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    number = os.environ.get("NODE_RANK", os.environ.get("SLURM_NODEID", ""))
    is_port = (port or "").isdecimal() and 0 < int(port or 0) < 1 << 16
    if not address or not is_port or not number.isdecimal() or int(number) >= settings.nodes:
        raise TrainingError(
            f"training.nodes is {settings.nodes}: found MASTER_ADDR={address or ''} MASTER_PORT={port or ''} "
            f"NODE_RANK={number}, expected the first machine's address, a free port of it, and the number of "
            f"this machine from 0 to {settings.nodes - 1}; set them on each, or start with torchrun"
        )
    store: distributed.TCPStore | None = None
    if int(number) == 0:
        try:
            store = distributed.TCPStore(address, int(port or 0), is_master=True, wait_for_workers=False)
        except distributed.DistNetworkError as error:
            raise TrainingError(
                f"MASTER_PORT={port}: other machines cannot be heard there, it may be in use; take another, "
                "the same on each machine"
            ) from error
    return int(number), (address, port or ""), store


@contextmanager
def _environment(settings: TrainSettings, node: int, local: int, place: tuple[str, str]) -> Iterator[None]:
    """Have the environment of one process while it is started."""
    cores = max((os.cpu_count() or 1) // settings.devices, 1)
    new = {
        "RANK": node * settings.devices + local,
        "WORLD_SIZE": settings.processes,
        "LOCAL_RANK": local,
        "LOCAL_WORLD_SIZE": settings.devices,
        "GROUP_RANK": node,
        "MASTER_ADDR": place[0],
        "MASTER_PORT": place[1],
        "TORCHELASTIC_USE_AGENT_STORE": True,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", cores),
        "NUMBA_NUM_THREADS": os.environ.get("NUMBA_NUM_THREADS", cores),
    }
    before = {name: os.environ.get(name) for name in new}
    os.environ.update({name: str(value) for name, value in new.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _ignored(number: signal.Signals) -> Iterator[None]:
    """Have a signal ignored, as a process started meanwhile does until it says otherwise."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def _passed_on(processes: dict[Connection, BaseProcess]) -> Iterator[list[int]]:
    """Pass Ctrl-C and SIGTERM on to processes; yields a list that then has the signal's number."""
    stopped: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def pass_on(number: int, frame: FrameType | None) -> None:
        if stopped:
            raise KeyboardInterrupt
        stopped.append(number)
        for process in processes.values():
            process.terminate()

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _member(function: Callable[[Tell], Any], connection: Connection) -> None:
    """What a process does: end when its parent is gone, call the function, say how that ended."""
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    lock = threading.Lock()

    def send(kind: str, content: Any) -> None:
        with lock:
            connection.send((kind, content))

    try:
        send("result", function(lambda message: send("message", message)))
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)
    except Exception as error:  # noqa: BLE001 - it is raised again by the process that started this one
        if not isinstance(error, SnnError):
            error.add_note(traceback.format_exc())
        send("failure", _sendable(error))
        os._exit(FAILED)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _sendable(error: Exception) -> Exception:
    """Return an error that arrives as it is; one that would not, as text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - whatever it is, the error cannot be sent
        return TrainingError(f"{type(error).__name__}: {error}")
    return error


def _wait_for(processes: dict[Connection, BaseProcess], listen: Tell, stopped: list[int]) -> Any:
    """Return the first process's result when all have ended, or raise what was wrong."""
    results: dict[Connection, Any] = {}
    failures: list[Exception] = []
    open_ends, failed_at = list(processes), 0.0
    while open_ends:
        ready = wait(open_ends, timeout=0.2)
        for end in [end for end in open_ends if end in ready]:
            try:
                kind, content = end.recv()
            except (EOFError, OSError):
                open_ends.remove(end)
                processes[end].join()
                if end in results:
                    continue
                failed_at = failed_at or time.monotonic()
                if processes[end].exitcode not in (FAILED, 128 + signal.SIGINT):
                    failures.append(_killed(list(processes).index(end), processes[end]))
                continue
            if kind == "message":
                listen(content)
            elif kind == "result":
                results[end] = content
            else:
                failures.append(content)
        if failed_at and time.monotonic() - failed_at > TO_FAIL_TOO_S:
            break
    # One that only says that another is gone, last.
    causes = sorted(failures, key=lambda error: isinstance(error, LostProcessError))
    if len(results) == len(processes):
        return results[next(iter(processes))]
    if stopped or not causes:
        raise KeyboardInterrupt
    raise causes[0]


def _killed(rank: int, process: BaseProcess) -> TrainingError:
    code = process.exitcode or 0
    how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    return TrainingError(
        f"process {rank} of the run on this machine ended {how}, and the others with it; if there was too "
        "little memory, use a smaller batch_size; --resume goes on from the last checkpoint"
    )

"""Running independent jobs: one after the other, on processes of this machine, or on a Dask cluster.

One interface for all three, so that the same code prepares ten files on a laptop and a million on a cluster.
"""

import logging
import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing import resource_tracker
from typing import Any, TypeVar

from events.errors import ConfigError, StoreError

Job = TypeVar("Job")
Result = TypeVar("Result")

# Each worker process runs one thread; libraries that would start their own are told not to.
# Dask's own default trims freed memory at once, which makes every array of a few MB start with page
# faults again; the larger thresholds keep such memory in the process.
WORKER_ENVIRONMENT = {
    "NUMBA_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
}

# Dask's settings for workers on this machine. Its profiler looks at every worker a hundred times a second,
# for a dashboard that is not shown.
LOCAL_SETTINGS = {
    "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
    "distributed.worker.profile.enabled": False,
}

CONNECT_SECONDS = 30


def run_jobs(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    workers: int,
    scheduler: str | None = None,
    warm_up: Callable[[Job], None] | None = None,
) -> Generator[Result, None, None]:
    """Yield the results of all jobs in the order in which they finish.

    The function must be importable by name and its jobs picklable. Closing the iterator early, also by an
    exception such as KeyboardInterrupt, abandons the jobs that have not finished.

    Args:
        function: Runs one job.
        jobs: What to run.
        workers: 0 or 1 runs the jobs in this process, in order, without importing Dask, and so does a
            single job; more start that many processes with one thread each. Ignored where a scheduler
            is given.
        scheduler: Address of a running Dask scheduler, such as tcp://host:8786. All of its workers must
            see the same files and have this package installed.
        warm_up: Called once on each worker with the first job, before the jobs start.

    Raises:
        EventsError: As raised by the function.
        StoreError: A worker process died again and again, or the cluster was lost.
    """
    if not jobs:
        return
    workers = min(workers, len(jobs))
    if scheduler is None and workers <= 1:
        for job in jobs:
            yield function(job)
        return
    with _client(workers, scheduler) as client:
        if warm_up is not None:
            # On all at once: those that find Numba's cache empty compile side by side, the cache copes.
            client.run(warm_up, jobs[0])
        yield from _as_completed(client, function, jobs)


def _as_completed(client: Any, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
    from distributed import as_completed
    from distributed.client import FutureCancelledError
    from distributed.comm import CommClosedError
    from distributed.scheduler import KilledWorker

    # A key of our own for each run: results of an earlier run on the same cluster are never taken for ours.
    run = f"{getattr(function, '__name__', 'job')}-{time.time_ns()}"
    futures = client.map(function, jobs, pure=False, key=[f"{run}-{number}" for number in range(len(jobs))])
    try:
        for future in as_completed(futures, loop=client.loop):
            yield future.result()
            future.release()
    except KilledWorker as error:
        raise StoreError(
            f"a worker process died {error.allowed_failures + 1} times on the same shard, most likely for "
            "want of memory; use fewer --workers, or --workers 1 to see the cause"
        ) from error
    except (CommClosedError, FutureCancelledError) as error:
        raise StoreError(
            f"lost the Dask cluster ({error}); run the same command again to continue"
        ) from error
    finally:
        client.cancel(futures)


@contextmanager
def _children_deaf_to_interrupts() -> Iterator[None]:
    """Start threads and processes that never see Ctrl-C, which a terminal sends to all of them.

    The driver alone takes it and stops the workers in order. The signal is blocked, not ignored, so that
    one that arrives meanwhile is delivered to the driver afterwards; children inherit the block.
    """
    # Started first, because starting it unblocks the signal again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Any]:
    import dask
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        if scheduler is not None:
            address = scheduler
        else:
            stack.enter_context(dask.config.set(LOCAL_SETTINGS))
            with _children_deaf_to_interrupts():
                cluster = stack.enter_context(
                    LocalCluster(
                        n_workers=workers,
                        threads_per_worker=1,
                        processes=True,
                        dashboard_address=None,
                        # Even without a dashboard an HTTP port is opened; any free one will do.
                        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                        silence_logs=logging.CRITICAL,
                    )
                )
            address = cluster.scheduler_address
        try:
            client = stack.enter_context(Client(address, timeout=CONNECT_SECONDS, set_as_default=False))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"--scheduler {address}: no Dask scheduler answers ({error}); start one with `dask scheduler`"
            ) from error
        if not client.scheduler_info(n_workers=-1)["workers"]:
            raise ConfigError(
                f"--scheduler {address}: the scheduler has no workers; start some with `dask worker`"
            )
        yield client

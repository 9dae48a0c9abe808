"""Share a kernel's work among threads on the CPU.

Kernels release Python's lock, so ordinary threads do. Numba's own parallel loops would bring a second set
of threads beside torch's, and abort where two threads of a program start one at the same time.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import torch


def run_ranges(kernel: Callable[..., Any], arguments: tuple[Any, ...], count: int, *, most: int) -> list[Any]:
    """Call a kernel on ranges that cover 0 to count, at the same time, in as many threads as torch uses.

    Args:
        kernel: Called as kernel(*arguments, begin, end); must release Python's lock.
        arguments: What it gets before its range.
        count: End of the last range.
        most: Threads that are worth it, at least 1 is used.

    Returns:
        What each call returned, in order of ranges.
    """
    threads = max(1, min(torch.get_num_threads(), most, count))
    if threads == 1:
        return [kernel(*arguments, 0, count)]
    bounds = [count * i // threads for i in range(threads + 1)]
    pool = _threads(threads - 1, os.getpid())
    *others, own = pairwise(bounds)
    parts = [pool.submit(kernel, *arguments, *pair) for pair in others]
    # This thread works too: of two that it wakes and waits for, both would often begin on its own core.
    last = kernel(*arguments, *own)
    return [*(part.result() for part in parts), last]


@cache
def _threads(count: int, process: int) -> ThreadPoolExecutor:
    """Return the threads of a process; after a fork those of the parent do not exist any more."""
    return ThreadPoolExecutor(count, thread_name_prefix="neurons")

"""Ctrl-C ends a run after the batch in work, with everything saved."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Whether somebody asked to stop."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        """Return whether somebody asked to stop."""
        return self.asked


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Note Ctrl-C and SIGTERM instead of breaking off; a second Ctrl-C breaks off at once.

    Outside the main thread, where Python allows no signal handlers, nothing is noted.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return

    def note(number: int, frame: FrameType | None) -> None:
        if interruption.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        interruption.asked = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

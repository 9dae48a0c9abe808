"""Recordings that are not a file at rest: a pipe, standard input, a file that still grows.

Formats whose records follow each other without a table (`LIVE_FORMATS`) are decoded as their bytes arrive.
Others need to seek; a pipe of these is first copied to a temporary file, up to `SPOOL_BYTES`.

A pipe is opened only where the caller says so: a conversion that meets one must not wait for its writer.
"""

import os
import select
import stat
import sys
import tempfile
import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from events.errors import ConfigError, EventsError, UnknownFormat
from events.readers.registry import identify_source, open_as, open_recording
from events.readers.source import HEAD_BYTES, Source
from events.recording import ReadOptions, Recording

LIVE_FORMATS = ("aedat1", "aedat2", "bin40", "es", "dat", "evt2", "evt21", "evt3", "aedat3", "aedat4")

# Size given to a source whose end is not known: larger than any file.
UNKNOWN_SIZE = 1 << 60
# A temporary copy of a pipe holds at most that many bytes.
SPOOL_BYTES = 16 << 30
# Seconds without a byte after which what is there must tell the format.
QUIET_SECONDS = 0.25
# Seconds between two looks at a file that grows; a pipe wakes us by itself.
LOOK_SECONDS = 0.02
COPY_BYTES = 1 << 20

DEFAULT_OPTIONS = ReadOptions()


class Feed:
    """Bytes that arrive: in order from a pipe, or at the end of a file that grows."""

    def __init__(self, path: Path, descriptor: int, *, follow: bool, timeout_s: float | None) -> None:
        self.path = path
        self._descriptor = descriptor
        self._regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._follow = follow
        self._timeout_s = timeout_s
        self._stopped = False
        self._next = 0  # byte that a pipe gives next
        weakref.finalize(self, os.close, descriptor)

    def stop(self) -> None:
        """End the recording with the bytes that have arrived; may be called from a signal handler."""
        self._stopped = True

    def read_into(self, target: memoryview, position: int) -> int:
        """Read bytes of the recording from `position` on; wait for the first; return how many, 0 at the end.

        The end is that of the pipe or, where a file is followed, a time-out, `stop` or Ctrl-C.

        Raises:
            EventsError: The pipe is past `position`.
        """
        if not self._regular and position != self._next:
            raise EventsError(f"{self.path}: is a pipe, which can be read only once; save it to a file first")
        try:
            return self._wait(target, position)
        except KeyboardInterrupt:
            self._stopped = True
            return 0

    def _wait(self, target: memoryview, position: int) -> int:
        quiet_since = time.monotonic()
        while not self._stopped:
            left = None if self._timeout_s is None else self._timeout_s - (time.monotonic() - quiet_since)
            if self._regular:
                count = os.preadv(self._descriptor, [target], position)
            elif select.select([self._descriptor], [], [], left)[0]:
                count = os.readv(self._descriptor, [target])
                self._next += count
                return count
            else:
                return 0
            if count or not self._follow or (left is not None and left <= 0):
                return count
            time.sleep(LOOK_SECONDS if left is None else min(LOOK_SECONDS, left))
        return 0

    def head(self) -> bytes:
        """Return the first bytes: up to `HEAD_BYTES`, or what was there when it got quiet."""
        data = bytearray(HEAD_BYTES)
        done = 0
        while done < HEAD_BYTES:
            if done and not self._more_soon(done):
                break
            count = self.read_into(memoryview(data)[done:], done)
            if count == 0:
                break
            done += count
        return bytes(data[:done])

    def _more_soon(self, position: int) -> bool:
        if self._regular:
            return os.fstat(self._descriptor).st_size > position
        return bool(select.select([self._descriptor], [], [], QUIET_SECONDS)[0])


@dataclass(frozen=True)
class LiveSource(Source):
    """A source whose end is not known.

    Attributes:
        feed: Where bytes behind the head come from.
    """

    feed: Feed

    @property
    def open_ended(self) -> bool:
        """Whether the end is not known: yes."""
        return True

    def read(self, offset: int, count: int) -> bytes:
        """Return bytes of the head; a header that does not end in it cannot be read."""
        if offset + count > len(self.head):
            raise UnknownFormat(
                f"{self.path}: its first {len(self.head)} bytes, all that arrived at first, are not enough "
                "to tell what it is; save it to a file first"
            )
        return self.head[offset : offset + count]

    def read_into(self, target: memoryview, position: int) -> int:
        """Read as the bytes arrive; see `Feed.read_into`."""
        return self.feed.read_into(target, position)


def is_live(path: Path | str) -> bool:
    """Whether a path is standard input (`-`) or a pipe."""
    return str(path) == "-" or Path(path).is_fifo()


def open_live(
    path: Path | str,
    options: ReadOptions = DEFAULT_OPTIONS,
    *,
    follow: bool = False,
    timeout_s: float | None = None,
    on_feed: Callable[[Feed], None] | None = None,
) -> Recording:
    """Open a recording whose bytes still arrive.

    Args:
        path: A pipe, `-` for standard input, or with `follow` a file that grows.
        options: How to read it.
        follow: Wait at the end of a file for more bytes.
        timeout_s: The recording ends after that many seconds without a byte; None waits for ever.
        on_feed: Called with the feed, which it may `stop`, before the first byte is waited for.

    Raises:
        EventsError: There is no such thing, or more than `SPOOL_BYTES` of a format that needs to seek.
        ConfigError: A file of a format that cannot be followed.
        UnknownFormat: No byte came, or they are no known format.
    """
    feed = Feed(Path(path), open_waiting(path), follow=follow, timeout_s=timeout_s)
    if on_feed is not None:
        on_feed(feed)
    head = feed.head()
    if not head:
        raise UnknownFormat(f"{path}: ended before its first byte, expected a recording; record it again")
    name = options.format or name_of_head(feed.path, head)
    if name in LIVE_FORMATS:
        return open_as(name, LiveSource(feed.path, UNKNOWN_SIZE, head, feed), options)
    if follow:
        raise ConfigError(
            f"{path}: {name or 'its format'} cannot be read while it grows, only {', '.join(LIVE_FORMATS)}; "
            "wait for its end"
        )
    return open_spooled(feed, head, options)


def open_any(path: Path | str, options: ReadOptions = DEFAULT_OPTIONS) -> Recording:
    """Open a file, a pipe or standard input; raises as `open_recording` and `open_live`."""
    return open_live(path, options) if is_live(path) else open_recording(path, options)


def open_waiting(path: Path | str) -> int:
    """Open a file, a pipe or standard input for reading; waits for a pipe's writer."""
    try:
        if str(path) == "-":
            return os.dup(sys.stdin.fileno())
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise EventsError(f"{path}: cannot be opened: {error.strerror}; check the path") from None


def name_of_head(path: Path, head: bytes) -> str | None:
    """Return the format that the first bytes tell; None where they do not suffice."""
    with suppress(EventsError):
        return identify_source(Source(path, len(head), head))
    return None


def open_spooled(feed: Feed, head: bytes, options: ReadOptions) -> Recording:
    """Copy what arrives to a temporary file, which is removed with the recording, and open that."""
    with ExitStack() as on_failure:
        descriptor, name = tempfile.mkstemp(prefix="events-")
        on_failure.callback(Path(name).unlink, missing_ok=True)
        with os.fdopen(descriptor, "wb") as stream:
            copy_all(feed, head, stream)
        try:
            recording = open_recording(name, options)
        except EventsError as error:  # named as it was given, not as its copy
            raise type(error)(str(error).replace(name, str(feed.path))) from None
        on_failure.pop_all()
    weakref.finalize(recording, Path(name).unlink, missing_ok=True)
    return recording


def copy_all(feed: Feed, head: bytes, stream: BinaryIO) -> None:
    """Write the first bytes and all that arrive after them.

    Raises:
        EventsError: More arrive than are kept on disk.
    """
    stream.write(head)
    total, buffer = len(head), memoryview(bytearray(COPY_BYTES))
    while count := feed.read_into(buffer, total):
        total += count
        if total > SPOOL_BYTES:
            raise EventsError(
                f"{feed.path}: more than {SPOOL_BYTES} bytes of a format that needs to seek; "
                "save it to a file first"
            )
        stream.write(buffer[:count])

"""Open a file once and keep its first bytes, from which its format is told and small files are read."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from events.errors import EventsError, UnknownFormat

# Holds a whole N-MNIST recording and every jAER header met so far: one read identifies and decodes them.
HEAD_BYTES = 1 << 16


@dataclass(frozen=True)
class Source:
    """A file that can be read.

    Attributes:
        path: Where it is.
        size: Its length in bytes; never 0.
        head: Its first bytes, all of them where it is shorter than `HEAD_BYTES`.
    """

    path: Path
    size: int
    head: bytes

    @property
    def whole(self) -> bool:
        """Whether `head` is the whole file."""
        return len(self.head) == self.size

    @property
    def open_ended(self) -> bool:
        """Whether more bytes may arrive than `size` says; see `events.readers.live`."""
        return False

    def read_into(self, target: memoryview, position: int) -> int:
        """Read bytes from `position` on into `target`; return how many."""
        raise NotImplementedError("a file at rest is read through a descriptor of its pass")

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset`, fewer only at the end of the file."""
        if offset + count <= len(self.head) or self.whole:
            return self.head[offset : offset + count]
        descriptor = open_descriptor(self.path)
        try:
            return read_exactly(descriptor, offset, count)
        finally:
            os.close(descriptor)


def open_source(path: Path | str) -> Source:
    """Read the first bytes of a file.

    Raises:
        EventsError: There is no such file, it is a folder or a device, or it may not be read.
        UnknownFormat: It is empty.
    """
    path = path if isinstance(path, Path) else Path(path)
    descriptor = open_descriptor(path)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise EventsError(f"{path}: is a folder, expected one recording file; name a file in it")
        if not stat.S_ISREG(status.st_mode):
            raise EventsError(f"{path}: is no regular file; copy the recording to a file first")
        if status.st_size == 0:
            raise UnknownFormat(f"{path}: is empty (0 bytes), expected a recording; fetch or record it again")
        return Source(path, status.st_size, read_exactly(descriptor, 0, min(HEAD_BYTES, status.st_size)))
    finally:
        os.close(descriptor)


def open_descriptor(path: Path) -> int:
    """Open a file for reading; not blocking, so that a pipe cannot hang a conversion."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise EventsError(f"{path}: no such file; check the path") from None
    except PermissionError:
        raise EventsError(f"{path}: no permission to read it; change its owner or mode") from None
    except OSError as error:
        raise EventsError(f"{path}: cannot be opened: {error.strerror}; check the path") from None


def read_exactly(descriptor: int, offset: int, count: int) -> bytes:
    """Return `count` bytes from `offset`, fewer only at the end of the file."""
    data = os.pread(descriptor, count, offset)
    while len(data) < count:
        more = os.pread(descriptor, count - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data

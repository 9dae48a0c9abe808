"""Write a file whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from events.errors import EventsError


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`, and put it in its place once the block ends without an error.

    Its content is on the disk before it gets its name, so a crash leaves the old file or the new one. Where
    `path` is a link, the file it leads to is replaced.

    Raises:
        EventsError: The folder cannot be written to, the disk is full, or there is something at `path` that
            is no regular file: to replace a device or a pipe would destroy it.
    """
    if str(path) == "-" or (path.exists() and not path.is_file()):
        raise EventsError(f"{path}: cannot be written: is no regular file; name a new file")
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise EventsError(
            f"{path}: cannot be written: {error.strerror}; check the folder and its free space"
        ) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Put a new name of a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Write a file whole or not at all."""

import fcntl
import os
import re
import secrets
import shutil
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
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with create_locked(target) as stream:
            temporary = Path(stream.name)
            try:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
                temporary.replace(target)  # while it is locked: it never looks like a leftover
            finally:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
        sync_folder(target.parent)
    except OSError as error:
        raise EventsError(
            f"{path}: cannot be written: {error.strerror}; check the folder and its free space"
        ) from None


def create_locked(target: Path) -> IO[bytes]:
    """Create a temporary file beside `target`, locked until it is closed or its process ends, however."""
    while True:
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
        stream = temporary.open("xb")
        with suppress(OSError):  # some file systems have no locks, so that none is taken for a leftover
            fcntl.flock(stream, fcntl.LOCK_EX)
        if os.fstat(stream.fileno()).st_nlink:
            return stream
        stream.close()  # was taken for a leftover before it was locked


def remove_leftovers(path: Path) -> int:
    """Remove the temporary files of `path` whose process has ended, as when it was killed; return how many.

    A file that is locked, or cannot be, is left alone: somebody may be writing it.
    """
    target = Path(os.path.realpath(path))
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.partial")
    found = target.parent.iterdir() if target.parent.is_dir() else []
    removed = 0
    for leftover in [entry for entry in found if name.fullmatch(entry.name) and entry.is_file()]:
        with suppress(OSError), leftover.open("r+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(parts_folder(leftover), ignore_errors=True)
            leftover.unlink()
            removed += 1
    return removed


def parts_folder(temporary: Path) -> Path:
    """Return where a writer may keep what its temporary file is put together from."""
    return temporary.with_name(f"{temporary.name}.parts")


def sync_folder(folder: Path) -> None:
    """Put a new name of a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

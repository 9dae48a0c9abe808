"""Refuse to start what the disk has no room for."""

import shutil
from pathlib import Path

from events.errors import DownloadError

# Left free beside the files themselves, for whatever else the machine writes.
RESERVE_BYTES = 64 * 1024 * 1024


def free_bytes(folder: Path) -> int:
    """Return the bytes free for this user on the disk that holds `folder`."""
    return shutil.disk_usage(folder).free


def require_space(folder: Path, needed_bytes: int, *, what: str) -> None:
    """Raise DownloadError where `folder` has no room for `needed_bytes` and a small reserve."""
    free = free_bytes(folder)
    if needed_bytes + RESERVE_BYTES > free:
        raise DownloadError(
            f"{folder}: {what} needs {megabytes(needed_bytes)}, {megabytes(free)} are free of which "
            f"{megabytes(RESERVE_BYTES)} are kept in reserve; make room or choose another folder"
        )


def megabytes(count: int) -> str:
    """Return bytes for people, in units of 10^6 bytes."""
    return f"{count / 1e6:,.1f} MB"

"""Unpack an archive beside itself, without letting it write anywhere else."""

import os
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from events.datasets.disk_space import require_space
from events.datasets.scan import IGNORED_NAMES
from events.errors import DownloadError

_ENCRYPTED_BIT = 0x1  # APPNOTE.TXT 4.4.4, general purpose bit 0


def unpack_zip(archive: Path, dst: Path) -> int:
    """Unpack a zip archive into a folder; nothing half-written becomes visible there.

    Members that are there already with the right size are kept, so a second call is quick.

    Returns:
        The number of files written.

    Raises:
        DownloadError: The archive is damaged, encrypted, or names a file outside `dst`; or the disk
            has no room.
    """
    try:
        with zipfile.ZipFile(archive) as source:
            members = [info for info in source.infolist() if not info.is_dir() and _is_wanted(info)]
            for info in members:
                _refuse_unsafe(archive, info)
            missing = [info for info in members if not _is_there(dst / info.filename, info)]
            if not missing:
                return 0
            require_space(dst, sum(info.file_size for info in missing), what=f"unpacking {archive.name}")
            _unpack(source, missing, dst, dst / f".{archive.name}.unpacking")
            return len(missing)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DownloadError(
            f"{archive}: cannot be unpacked ({error}); delete it and download it again"
        ) from error
    except OSError as error:
        raise DownloadError(
            f"{dst}: cannot be written ({error.strerror}); check permissions and space"
        ) from error


def _is_wanted(info: zipfile.ZipInfo) -> bool:
    return not any(part.lower() in IGNORED_NAMES for part in PurePosixPath(info.filename).parts)


def _is_there(path: Path, info: zipfile.ZipInfo) -> bool:
    return path.is_file() and path.stat().st_size == info.file_size


def _refuse_unsafe(archive: Path, info: zipfile.ZipInfo) -> None:
    """Raise where a member would land outside the folder, or is no plain file."""
    name = PurePosixPath(info.filename.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
        raise DownloadError(
            f"{archive}: member {info.filename!r} would be written outside the folder; "
            "do not trust this archive"
        )
    if stat.S_ISLNK(info.external_attr >> 16):
        raise DownloadError(f"{archive}: member {info.filename!r} is a link; do not trust this archive")
    if info.flag_bits & _ENCRYPTED_BIT:
        raise DownloadError(f"{archive}: member {info.filename!r} is encrypted; unpack it by hand")


def _unpack(source: zipfile.ZipFile, members: list[zipfile.ZipInfo], dst: Path, hidden: Path) -> None:
    """Write members below a hidden folder first, then move them to their places."""
    shutil.rmtree(hidden, ignore_errors=True)
    try:
        for info in members:
            path = hidden / info.filename
            path.parent.mkdir(parents=True, exist_ok=True)
            # Reading to the end checks the member's CRC-32.
            with source.open(info) as member, path.open("wb") as out:
                shutil.copyfileobj(member, out, 1 << 20)
        for info in members:
            place = dst / info.filename
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(hidden / info.filename, place)  # noqa: PTH105, Path.replace hides which two are meant
    finally:
        shutil.rmtree(hidden, ignore_errors=True)

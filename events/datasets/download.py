"""Fetch the files of a known data set: resumed after a break, checked, visible only when whole."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from events.datasets.catalogue import CATALOGUE, KnownSet, RemoteFile
from events.datasets.disk_space import require_space
from events.datasets.fetch import FetchSettings, OnBytes, fetch_partial, forget, forget_validator
from events.datasets.unpack import unpack_zip
from events.errors import DownloadError, did_you_mean


@dataclass(frozen=True)
class DownloadProgress:
    """How far a download is.

    Attributes:
        file: The file being fetched.
        files_done, files_total: Files finished, and files in all.
        done_bytes: Bytes of this file that are here.
        total_bytes: Its size; None where the server does not say.
        seconds: Time since the download began.
    """

    file: str
    files_done: int
    files_total: int
    done_bytes: int
    total_bytes: int | None
    seconds: float


@dataclass(frozen=True)
class FileOutcome:
    """What became of one file.

    Attributes:
        path: Where it is.
        state: `kept` was here already, `resumed` continued an earlier try, `fetched` is new.
        checked: The checksum it was compared with; None where none is published.
        size_bytes: Its size.
        unpacked: Files written by unpacking it; None where that was not asked for.
    """

    path: str
    state: Literal["kept", "resumed", "fetched"]
    checked: Literal["md5", "sha256"] | None
    size_bytes: int
    unpacked: int | None = None


@dataclass(frozen=True)
class DownloadSummary:
    """What a download did; one outcome per file, in the order of the catalogue."""

    dataset: str
    folder: str
    files: tuple[FileOutcome, ...]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain JSON types."""
        return asdict(self) | {"files": [asdict(file) for file in self.files]}


def download(
    name: str,
    dst: Path | str,
    *,
    base_url: str | None = None,
    files: Sequence[str] | None = None,
    progress: Callable[[DownloadProgress], None] | None = None,
    extract: bool = False,
    settings: FetchSettings | None = None,
) -> DownloadSummary:
    """Fetch a known data set into a folder.

    Files that are here and whole are kept. A file appears under its name only when it is whole and its
    checksum right; until then it is `<name>.partial`, which the next run continues.

    Args:
        name: A key of `CATALOGUE`.
        dst: Made if need be.
        base_url: Fetch `<base_url>/<file name>` instead of the published addresses, from a mirror.
        files: Names of some of the set's files; None fetches all.
        progress: Called as bytes arrive.
        extract: Also unpack zip archives, in `dst`.
        settings: How long to try.

    Raises:
        DownloadError: The set or file is not known or has no public address, the server refuses, a
            checksum is wrong, or the disk has no room.
    """
    known = _known_set(name)
    wanted = _wanted_files(name, known, files)
    folder = Path(dst)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(f"{folder}: cannot be made ({error.strerror}); choose another folder") from error
    _require_space(folder, known, wanted)
    began = time.monotonic()
    outcomes: list[FileOutcome] = []
    for file in wanted:
        url = file.url if base_url is None else f"{base_url.rstrip('/')}/{file.name}"
        report = _reporter(progress, file.name, len(outcomes), len(wanted), began)
        state = _bring(file, url, folder, settings or FetchSettings(), report)
        outcomes.append(_outcome(file, folder, state, extract=extract))
    return DownloadSummary(name, str(folder), tuple(outcomes), time.monotonic() - began)


def _known_set(name: str) -> KnownSet:
    """Return a set that can be fetched."""
    known = CATALOGUE.get(name)
    if known is None:
        hint = did_you_mean(name, CATALOGUE)
        raise DownloadError(f"no known data set {name!r}; known: {', '.join(sorted(CATALOGUE))}{hint}")
    if not known.files:
        raise DownloadError(f"{name}: has no public file address; get it by hand from {known.page}")
    return known


def _wanted_files(name: str, known: KnownSet, files: Sequence[str] | None) -> list[RemoteFile]:
    """Return the files asked for, in the order of the catalogue."""
    if files is None:
        return list(known.files)
    names = [file.name for file in known.files]
    unknown = sorted(set(files) - set(names))
    if unknown:
        raise DownloadError(f"{name}: has no file {', '.join(unknown)}; its files: {', '.join(names)}")
    return [file for file in known.files if file.name in files]


def _require_space(folder: Path, known: KnownSet, wanted: Sequence[RemoteFile]) -> None:
    """Refuse before the first byte what the disk has no room for.

    Where not all sizes are published, the rounded size of the whole set stands for them if all of it
    is wanted; each file's own size is checked again when the server tells it.
    """
    sizes = [file.size_bytes for file in wanted]
    if None not in sizes:
        total = sum(size for size in sizes if size is not None)
    elif len(wanted) == len(known.files) and known.download_gb is not None:
        total = int(known.download_gb * 1e9)
    else:
        return
    here = [
        path for file in wanted for path in (folder / file.name, _partial(folder, file)) if path.is_file()
    ]
    needed = total - sum(path.stat().st_size for path in here)
    if needed > 0:
        require_space(folder, needed, what=known.title)


def _partial(folder: Path, file: RemoteFile) -> Path:
    return folder / f"{file.name}.partial"


def _reporter(
    progress: Callable[[DownloadProgress], None] | None,
    name: str,
    files_done: int,
    files_total: int,
    began: float,
) -> OnBytes | None:
    """Return what turns the bytes of one file into progress of the whole."""
    if progress is None:
        return None

    def report(done_bytes: int, total_bytes: int | None) -> None:
        seconds = time.monotonic() - began
        progress(DownloadProgress(name, files_done, files_total, done_bytes, total_bytes, seconds))

    return report


def _bring(
    file: RemoteFile, url: str, folder: Path, settings: FetchSettings, on_bytes: OnBytes | None
) -> Literal["kept", "resumed", "fetched"]:
    """Have one file whole and checked under its name."""
    place, partial = folder / file.name, _partial(folder, file)
    if place.exists() and not place.is_file():
        raise DownloadError(f"{place}: is a folder, expected a file or nothing; move it and run again")
    if place.exists():
        wrong = _wrong_checksum(place, file)
        if wrong:
            raise DownloadError(
                f"{place}: {wrong}; it is not the published file, move or delete it and run again"
            )
        return "kept"
    checked = _checksum(file) is not None
    fetched = fetch_partial(url, partial, will_be_checked=checked, settings=settings, on_bytes=on_bytes)
    if fetched.resumed and _wrong_checksum(partial, file):
        # The earlier bytes may be of another version of the file; the whole of it decides.
        forget(partial)
        fetched = fetch_partial(url, partial, will_be_checked=checked, settings=settings, on_bytes=on_bytes)
    wrong = _wrong_checksum(partial, file)
    if wrong:
        forget(partial)
        page = " (the server sent a web page)" if fetched.content_type == "text/html" else ""
        raise DownloadError(
            f"{url}: {wrong}{page}; nothing was kept; run again, and if it stays wrong "
            "the published file has changed"
        )
    partial.replace(place)
    forget_validator(partial)
    return "resumed" if fetched.resumed else "fetched"


def _checksum(file: RemoteFile) -> tuple[Literal["md5", "sha256"], str] | None:
    """Return the strongest published checksum and its name."""
    if file.sha256 is not None:
        return "sha256", file.sha256
    return ("md5", file.md5) if file.md5 is not None else None


def _wrong_checksum(path: Path, file: RemoteFile) -> str | None:
    """Say what is wrong with the bytes of a file; None where nothing is."""
    size = path.stat().st_size
    if file.size_bytes is not None and size != file.size_bytes:
        return f"found {size} bytes, expected {file.size_bytes}"
    published = _checksum(file)
    if published is None:
        return None
    kind, expected = published
    with path.open("rb") as content:
        found = hashlib.file_digest(content, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
    return (
        None if found == expected.lower() else f"{kind} of its {size} bytes is {found}, expected {expected}"
    )


def _outcome(
    file: RemoteFile, folder: Path, state: Literal["kept", "resumed", "fetched"], *, extract: bool
) -> FileOutcome:
    """Describe a file that is here, unpacking it where asked."""
    place = folder / file.name
    published = _checksum(file)
    return FileOutcome(
        path=str(place),
        state=state,
        checked=published[0] if published else None,
        size_bytes=place.stat().st_size,
        unpacked=unpack_zip(place, folder) if extract and place.suffix == ".zip" else None,
    )

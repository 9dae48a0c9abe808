"""What lies below a folder: files with their sizes, found with one system call each."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from events.errors import DatasetError

# Left behind by file managers and by archives made with macOS; never part of a data set.
IGNORED_NAMES = frozenset({"__macosx", "thumbs.db", "desktop.ini"})
ARCHIVE_SUFFIXES = frozenset({".zip", ".rar", ".7z", ".tar", ".gz", ".tgz"})


class FoundFile(NamedTuple):
    """One file; `path` is relative to the scanned folder, with forward slashes."""

    path: str
    size_bytes: int

    @property
    def name(self) -> str:
        """The file's name without its folders."""
        return self.path.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """Path of the folder the file lies in, empty at the top."""
        return self.path.rpartition("/")[0]

    @property
    def folders(self) -> tuple[str, ...]:
        """Names of the folders above the file, outermost first."""
        return tuple(self.path.split("/")[:-1])

    @property
    def suffix(self) -> str:
        """The last suffix in lower case, with its dot; empty where there is none."""
        return os.path.splitext(self.path)[1].lower()  # noqa: PTH122, a Path per file costs 10x

    @property
    def stem(self) -> str:
        """The file's name without any archive suffixes: `airplane` for `airplane.tar.gz`."""
        path = PurePosixPath(self.name)
        while path.suffix.lower() in ARCHIVE_SUFFIXES:
            path = path.with_suffix("")
        return path.name


@dataclass(frozen=True)
class Tree:
    """Everything below one folder, hidden files apart.

    Attributes:
        root: The folder.
        files: Sorted by path.
        folders: Relative paths of all folders, sorted.
        broken_links: Links that lead nowhere, or back to a folder they lie in.
        special_files: Pipes, sockets and devices, sorted.
    """

    root: Path
    files: tuple[FoundFile, ...]
    folders: tuple[str, ...]
    broken_links: tuple[str, ...]
    special_files: tuple[str, ...]

    def archives(self) -> tuple[FoundFile, ...]:
        """Return the files that are archives by their suffix."""
        return tuple(file for file in self.files if file.suffix in ARCHIVE_SUFFIXES)

    def packed_archives(self) -> tuple[FoundFile, ...]:
        """Return the archives beside which there is no folder of the same name, in any case."""
        unpacked = {folder.rpartition("/")[2].lower() for folder in self.folders}
        return tuple(archive for archive in self.archives() if archive.stem.lower() not in unpacked)

    def empty_siblings(self, class_folders: set[str], recordings: list[FoundFile]) -> list[str]:
        """Return folders beside the class folders that hold no recording at any depth."""
        parents = {str(PurePosixPath(folder).parent) for folder in class_folders}
        holding = {
            str(above)
            for folder in {file.folder for file in recordings}
            for above in (PurePosixPath(folder), *PurePosixPath(folder).parents)
        }
        return [
            folder
            for folder in self.folders
            if folder not in holding and str(PurePosixPath(folder).parent) in parents
        ]


def scan_tree(root: Path) -> Tree:
    """List every file and folder below `root`, following links.

    Hidden names (leading dot) and what file managers leave behind are ignored.

    Raises:
        DatasetError: `root` is no folder, or something below it cannot be listed.
    """
    if root.is_file():
        raise DatasetError(f"{root}: is a file, expected a folder of recordings; {_instead_of(root)}")
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; check the spelling, or download the data set first")
    if (root / "zarr.json").is_file():
        raise DatasetError(
            f"{root}: is a store, expected a folder of recordings; frames of a store of events are made with "
            f"`events convert event-store {root} NEW.zarr`"
        )
    files: list[FoundFile] = []
    folders: list[str] = []
    broken: list[str] = []
    special: list[str] = []
    _scan_folder(os.fspath(root), "", (), files, folders, broken, special)
    return Tree(
        root, tuple(sorted(files)), tuple(sorted(folders)), tuple(sorted(broken)), tuple(sorted(special))
    )


def _instead_of(file: Path) -> str:
    """Return what to do with a file where a folder belongs."""
    if file.suffix.lower() in ARCHIVE_SUFFIXES:
        return "unzip it and name the folder"
    return (
        f"name the folder that holds the data set, such as {file.parent}; a recording alone is copied with "
        f"`events cat`, or becomes a data set of its own in a folder ANY/CLASS/{file.name}: "
        "`events convert folder ANY`"
    )


def _scan_folder(
    folder: str,
    prefix: str,
    above: tuple[tuple[int, int], ...],
    files: list[FoundFile],
    folders: list[str],
    broken: list[str],
    special: list[str],
) -> None:
    """Add what lies in `folder` to the four lists; `above` identifies the folders it lies in."""
    try:
        here = os.stat(folder)  # noqa: PTH116, os.scandir works on the same plain strings
        entries = list(os.scandir(folder))
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error
    identity = (here.st_dev, here.st_ino)
    if identity in above:
        broken.append(prefix.rstrip("/"))
        return
    if prefix:
        folders.append(prefix.rstrip("/"))
    for entry in entries:
        if entry.name.startswith(".") or entry.name.lower() in IGNORED_NAMES:
            continue
        path = prefix + entry.name
        if entry.is_dir():
            _scan_folder(entry.path, path + "/", (*above, identity), files, folders, broken, special)
        elif entry.is_file():
            files.append(FoundFile(path, entry.stat().st_size))
        elif entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110
            broken.append(path)
        else:
            special.append(path)

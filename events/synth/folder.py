"""A folder of made-up recordings remembers the settings it was made with, in a hidden file."""

import json
from pathlib import Path
from typing import Any

from events.errors import ConfigError, StoreError


def claim_folder(
    dst: Path, wanted: dict[str, Any], *, note: str, growing: str, folders: tuple[str, ...], may_hold: bool
) -> None:
    """Make the folders and note the settings there; refuse a folder made with others.

    Args:
        dst: The folder.
        wanted: The settings, as JSON has them.
        note: Name of the file that holds them.
        growing: The setting that says how many recordings there are; it may be larger than it was, because
            the first recordings stay the same.
        folders: Folders to make below.
        may_hold: Whether a folder without such a file may hold something else.

    Raises:
        ConfigError: The folder was made with other settings, or holds something else and may not.
        StoreError: The folder cannot be written.
    """
    wanted = json.loads(json.dumps(wanted))
    path = dst / note
    try:
        if path.exists():
            _compare_settings(dst, json.loads(path.read_text(encoding="utf-8")), wanted, growing)
        elif not may_hold and dst.is_dir() and (found := next(dst.iterdir(), None)) is not None:
            raise ConfigError(
                f"{dst}: holds {found.name} and no {note}: made by something else; choose a new folder"
            )
        for name in folders:
            (dst / name).mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{note}.tmp")
        temporary.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise StoreError(f"{dst}: cannot be written ({error.strerror}); choose another folder") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}: is no longer JSON ({error}); remove the folder {dst}") from error


def _compare_settings(dst: Path, found: dict[str, Any], wanted: dict[str, Any], growing: str) -> None:
    """Raise ConfigError unless recordings of the wanted settings may be added to those found."""
    differing = [key for key in wanted if key != growing and found.get(key) != wanted[key]]
    if found.get(growing, 0) > wanted[growing]:
        differing.append(growing)
    if differing:
        said = "; ".join(f"{key} is {found.get(key)}, asked for {wanted[key]}" for key in differing)
        raise ConfigError(f"{dst}: made with other settings ({said}); choose another folder or remove it")

"""Lines that tell a person what is missing from a data set, or extra in it."""

from collections import Counter
from collections.abc import Iterable, Sequence

from events.datasets.scan import FoundFile


def join_some(names: Sequence[str], *, limit: int = 5) -> str:
    """Return the first names, and how many more there are: `a, b and 3 more`."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def count_of(count: int, noun: str) -> str:
    """Return `1 file` or `3 files`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def join_ranges(numbers: Iterable[int], *, limit: int = 10) -> str:
    """Return numbers as sorted ranges: `17, 40-41`."""
    ranges: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return join_some([f"{a}" if a == b else f"{a}-{b}" for a, b in ranges], limit=limit)


def missing_numbers(name: str, found: Iterable[int], expected: range) -> str | None:
    """Say which numbers of a class or split are missing; None where none is.

    The line reads `airplane: 3 of 1000 missing: 17, 40-41`.
    """
    missing = set(expected).difference(found)
    if not missing:
        return None
    return f"{name}: {len(missing)} of {len(expected)} missing: {join_ranges(missing)}"


def empty_files(recordings: Sequence[FoundFile]) -> str | None:
    """Say which recordings have no bytes; they are listed, and will fail to be read."""
    empty = [file.path for file in recordings if file.size_bytes == 0]
    return f"{count_of(len(empty), 'empty file')}: {join_some(empty)}" if empty else None


def extra_files(extra: Sequence[FoundFile]) -> str | None:
    """Say how many files belong to nothing, of which suffixes, and name the first."""
    if not extra:
        return None
    suffixes = Counter(file.suffix or "no suffix" for file in extra)
    counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(suffixes.items()))
    return f"{count_of(len(extra), 'other file')} left out ({counts}), first: {min(extra).path}"


def unextracted(archives: Sequence[FoundFile]) -> str | None:
    """Say which archives still have to be unpacked."""
    if not archives:
        return None
    names = join_some([file.path for file in archives])
    return f"{count_of(len(archives), 'archive')} not unpacked: {names}; unzip and list again"


def broken_links(links: Sequence[str]) -> str | None:
    """Say which links lead nowhere or in a circle."""
    return f"{count_of(len(links), 'broken link')} left out: {join_some(links)}" if links else None


def special_files(paths: Sequence[str]) -> str | None:
    """Say which names are neither files, folders nor links: pipes, sockets, devices."""
    if not paths:
        return None
    return f"{count_of(len(paths), 'special file')} left out (pipe, socket or device): {join_some(paths)}"


def present(lines: Iterable[str | None]) -> tuple[str, ...]:
    """Return the lines that say something."""
    return tuple(line for line in lines if line)

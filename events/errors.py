"""Errors of the events package.

Every message is one line that says where, what was found, what was expected and what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class EventsError(Exception):
    """Base of every error that events raises on purpose.

    What a file or a name contributes to the message may hold anything; line ends and other characters that
    are not printed are written as in a Python string.
    """

    def __str__(self) -> str:
        """Return the message, on one line."""
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in super().__str__())


class UnknownFormat(EventsError):
    """The content of a file is no recording format that has a reader."""


class DamagedRecording(EventsError):
    """A recording breaks its format; the message names the byte."""


class LabelError(EventsError):
    """Labels break their format, hold what no box can be, or do not fit their recording."""


class ConfigError(EventsError):
    """A setting has a value that cannot be used."""


class DatasetError(EventsError):
    """A folder of recordings does not have the layout of the named data set."""


class StoreError(EventsError):
    """A store is missing, unfinished, damaged, or made with other settings."""


class DownloadError(EventsError):
    """A file could not be fetched, or its checksum is wrong."""


def did_you_mean(found: object, known: Iterable[object]) -> str:
    """Return the end of a message that suggests the nearest known name; empty where none is near."""
    names = [str(name) for name in known]
    # The same words in another order are nearer than most of the letters.
    words = sorted(str(found).split("-"))
    near = [name for name in names if sorted(name.split("-")) == words] or get_close_matches(
        str(found), names, n=1
    )
    return f"; did you mean {near[0]!r}?" if near else ""

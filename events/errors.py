"""Errors of the events package.

Every message is one line that says where, what was found, what was expected and what to do.
"""


class EventsError(Exception):
    """Base of every error that events raises on purpose."""


class UnknownFormat(EventsError):
    """The content of a file is no recording format that has a reader."""


class DamagedRecording(EventsError):
    """A recording breaks its format; the message names the byte."""


class ConfigError(EventsError):
    """A setting has a value that cannot be used."""


class DatasetError(EventsError):
    """A folder of recordings does not have the layout of the named data set."""


class StoreError(EventsError):
    """A store is missing, unfinished, damaged, or made with other settings."""


class DownloadError(EventsError):
    """A file could not be fetched, or its checksum is wrong."""

"""Conventions that only AEDAT 1.0 and 2.0 have, refused elsewhere rather than ignored."""

from events.errors import ConfigError
from events.recording import ReadOptions


def only_plain_conventions(options: ReadOptions, *, format_name: str) -> None:
    """Refuse conventions that only AEDAT addresses and times have.

    Raises:
        ConfigError: There is one.
    """
    for name, value, plain in (
        ("orientation", options.orientation, ("jaer", "raw")),
        ("timestamps", options.timestamps, ("unwrap",)),
    ):
        if value not in plain:
            raise ConfigError(
                f"{name} {value!r} is about AEDAT 1 and 2, not {format_name}; leave it at {plain[0]!r}"
            )

"""Messages of errors."""

import pickle

import pytest

from events.errors import ConfigError, EventsError


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("a.raw: topic 'größe' — 3 µs", "a.raw: topic 'größe' — 3 µs"),
        ("a\nb.raw: is no folder", "a\\nb.raw: is no folder"),
        ("type \x1b[2J\r\tof a bag", "type \\x1b[2J\\r\\tof a bag"),
    ],
)
def test_whatever_a_file_says_a_message_is_one_printable_line(message, shown):
    assert str(ConfigError(message)) == shown
    assert str(pickle.loads(pickle.dumps(EventsError(message)))) == shown  # as workers hand errors over

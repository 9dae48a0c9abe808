"""Going on from a bookmark, in files of which something may be wrong."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from events.errors import EventsError
from events.readers.registry import open_recording
from events.recording import EVENT_DTYPE, ReadOptions


def read_out(chunks: Iterator[np.ndarray]) -> tuple[np.ndarray, str | None]:
    """Return all events, and the message of the error with which they end, if any."""
    parts = [np.empty(0, EVENT_DTYPE)]
    try:
        for chunk in chunks:
            parts.append(chunk.copy())
    except EventsError as error:
        return np.concatenate(parts), str(error)
    return np.concatenate(parts), None


def assert_goes_on(path: Path, options: ReadOptions, *, max_events: int) -> None:
    """From behind every chunk, events, error and report are those of a reading from the first byte."""
    recording = open_recording(path, options)
    events, error = read_out(recording.decode_chunks(max_events=max_events))
    report = recording.report.as_dict()
    marks = []
    try:
        for _ in recording.decode_chunks(max_events=max_events):
            marks.append((recording.report.events, recording.bookmark()))
    except EventsError:
        pass
    assert marks or len(events) == 0
    for done, mark in marks:
        found, end = read_out(recording.decode_from(mark, max_events=2 * max_events + 1))
        np.testing.assert_array_equal(found, events[done:])
        assert end == error
        assert recording.report.as_dict() == report

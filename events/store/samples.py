"""Opening one sample of a listing: a file, or what a package gives for it."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c

from events.datasets.detection.rvt import DATASET as RVT
from events.datasets.detection.rvt import RvtFrames
from events.datasets.images.picture import Picture, is_archived, is_pictures, open_picture
from events.datasets.tonic import TonicRecording, is_tonic, open_tonic
from events.readers.registry import open_recording
from events.recording import FileReport, ReadOptions, Recording
from events.store.event_reader import EVENT_STORE_DATASET, StoredRecording, open_event_sample
from events.store.shard import file_crc32c


def open_sample(dataset: str, root: Path, path: str, read: ReadOptions) -> Recording:
    """Open a sample.

    Args:
        dataset: Name of the data set, as in its listing.
        root: The listing's root.
        path: The sample's path, relative to the root.
        read: How to read it.

    Raises:
        EventsError: As `events.readers.registry.open_recording`.
    """
    if is_tonic(dataset):
        return open_tonic(dataset, root, path, read)
    if is_pictures(dataset):
        return open_picture(dataset, root, path)
    if dataset == EVENT_STORE_DATASET:
        return open_event_sample(root, path)
    if dataset == RVT:
        return _open_file(root / path, read, lambda path, read: RvtFrames(path))
    return _open_file(root / path, read, open_recording)


def is_file_of_its_own(dataset: str) -> bool:
    """Whether each sample of a data set is a file, or a part of one, below the listing's root."""
    return not is_tonic(dataset) and not is_archived(dataset)


class _Last(threading.local):
    """The file that a thread opened last, its report before it was read, and its CRC-32C once known."""

    key: tuple[Any, ...] | None = None
    recording: Recording | None = None
    report: FileReport
    crc32c: int | None = None


_last = _Last()


def _open_file(path: Path, read: ReadOptions, open_it: Callable[[Path, ReadOptions], Recording]) -> Recording:
    """Open a file; the one opened last is given again, for its index leads to another part of it at once."""
    if not path.is_file():
        return open_it(path, read)
    status = path.stat()
    key = (path, status.st_mtime_ns, status.st_size, read)
    if _last.recording is None or _last.key != key:
        _last.recording = _last.crc32c = None
        _last.recording = open_it(path, read)
        _last.key, _last.report = key, _last.recording.report
    _last.recording.report = _last.report.copy()
    return _last.recording


def sample_crc32c(recording: Recording) -> int:
    """Return the CRC-32C of an opened sample's file, or of its events where it has none."""
    if isinstance(recording, TonicRecording) or (
        isinstance(recording, Picture) and is_archived(recording.format)
    ):
        return int(google_crc32c.value(recording.content))
    if isinstance(recording, StoredRecording):
        return recording.source_crc32c
    if recording is not _last.recording:
        return file_crc32c(recording.path)
    if _last.crc32c is None:
        _last.crc32c = file_crc32c(recording.path)
    return _last.crc32c

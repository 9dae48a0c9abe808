"""The unit of parallel work of an event store: some recordings, each into shard files of its own.

Where a recording begins in the flat columns depends on the lengths of all before it, which nobody knows yet.
So its shards are written beside the columns, as parts, and put in place when all recordings are there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from events.errors import EventsError, StoreError
from events.recording import FileReport, ReadOptions, Recording
from events.store.event_layout import EVENT_COLUMNS, MS_INDEX, SHARD
from events.store.event_parts import part_path
from events.store.event_shards import write_flat_shard
from events.store.layout import Codec
from events.store.millisecond_index import MillisecondIndex
from events.store.samples import open_sample, sample_crc32c
from events.store.task import DAMAGE_FIELDS, JobSource, empty_part, failed_entry, unwritable

# What a row keeps of the report of a recording.
REPORT_FIELDS = ("bytes_total", *DAMAGE_FIELDS)


@dataclass(frozen=True)
class EventJob:
    """What a worker must know to store the events of some recordings.

    Attributes:
        store: The store; the same path on every worker.
        dataset: Name of the data set.
        root: Folder of the recordings.
        sources: The recordings.
        read: How they are read.
        codec: Codec preset.
    """

    store: str
    dataset: str
    root: str
    sources: tuple[JobSource, ...]
    read: ReadOptions
    codec: Codec


def convert_recordings(job: EventJob) -> list[dict[str, Any]]:
    """Write the parts of each recording and return their manifest rows.

    A recording that cannot be read is data: a row with its reason.

    Raises:
        StoreError: A part could not be written, for example because the disk is full.
    """
    return [_convert_recording(job, source) for source in job.sources]


def _convert_recording(job: EventJob, source: JobSource) -> dict[str, Any]:
    parts = _Parts(job, source.source)
    recording: Recording | None = None
    row = {"shard": source.source, "path": source.path}
    try:
        recording = open_sample(job.dataset, Path(job.root), source.path, job.read)
        events, index, times = _write_events(parts, recording, source.t_range_us)
        content = sample_crc32c(recording)
    except StoreError:
        raise
    except (EventsError, OSError) as error:
        parts.remove()
        return row | failed_entry(Path(job.root) / source.path, error, recording) | {"events": 0}
    for piece in _cut(index.positions()):
        parts.write(MS_INDEX, piece)
    return row | {
        "ok": True,
        "events": events,
        "format": recording.format,
        "sensor_hw": list(recording.sensor_hw),
        "rising": index.rising,
        "ms": index.length,
        "ms_origin": index.origin,
        "crc32c": f"{content:08x}",
        "report": _kept_report(recording.report) | times,
        "files": parts.written,
    }


class _Parts:
    """The shard files of one recording.

    Attributes:
        written: Bytes and CRC-32C of each shard, by column.
    """

    def __init__(self, job: EventJob, number: int) -> None:
        self.written: dict[str, list[tuple[int, str]]] = {name: [] for name in (*EVENT_COLUMNS, MS_INDEX)}
        self._store, self._codec, self._number = Path(job.store), job.codec, number

    def write(self, column: str, values: np.ndarray) -> None:
        """Write the next shard of a column, at most SHARD values."""
        path = part_path(self._store, self._number, column, len(self.written[column]))
        try:
            size, crc = write_flat_shard(path, values, self._codec)
        except OSError as error:
            raise unwritable(path, error) from error
        self.written[column].append((size, f"{crc:08x}"))

    def remove(self) -> None:
        """Remove what was written of a recording that turned out not to be readable."""
        for column, shards in self.written.items():
            for shard in range(len(shards)):
                part_path(self._store, self._number, column, shard).unlink(missing_ok=True)


def _write_events(
    parts: _Parts, recording: Recording, t_range_us: tuple[int, int] | None
) -> tuple[int, MillisecondIndex, dict[str, int | None]]:
    """Write the columns of one recording; return how many events, the index by time, first and last time."""
    start, stop = t_range_us or (None, None)
    index = MillisecondIndex()
    events = 0
    t_first: int | None = None
    t_last: int | None = None
    for chunk in recording.chunks(count=SHARD, start_us=start, stop_us=stop):
        index.add(chunk["t"], events)
        for name, dtype in EVENT_COLUMNS.items():
            parts.write(name, chunk[name].astype(dtype))
        events += len(chunk)
        t_first, t_last = int(chunk["t"][0]) if t_first is None else t_first, int(chunk["t"][-1])
    if events == 0 and t_range_us is not None:
        raise empty_part(recording, t_range_us)
    return events, index, {"t_first_us": t_first, "t_last_us": t_last}


def _cut(values: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(values), SHARD):
        yield values[first : first + SHARD]


def _kept_report(report: FileReport) -> dict[str, Any]:
    plain = report.as_dict()
    return {name: plain[name] for name in REPORT_FIELDS}

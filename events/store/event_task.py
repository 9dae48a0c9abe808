"""The unit of parallel work of an event store: some recordings, each into shard files of its own.

Where a recording begins in the flat columns depends on the lengths of all before it, which nobody knows yet.
So its shards are written beside the columns, as parts, and put in place when all recordings are there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from events.errors import EventsError, StoreError
from events.recording import FileReport, ReadOptions, Recording
from events.store.event_columns import EventPacker
from events.store.event_layout import CHUNK, CHUNK_T0, FLAT_COLUMNS, MS_INDEX, SHARD_CHUNKS
from events.store.event_parts import part_path
from events.store.event_shards import encode_chunk, write_flat_shard
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
        types: Of the flat columns.
        codec: Codec preset.
    """

    store: str
    dataset: str
    root: str
    sources: tuple[JobSource, ...]
    read: ReadOptions
    types: Mapping[str, str]
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
    parts.write_index(index)
    return row | {
        "ok": True,
        "events": events,
        "format": recording.format,
        "sensor_hw": list(recording.sensor_hw),
        "rising": index.rising,
        "ms": index.length,
        "ms_origin": index.origin,
        "crc32c": f"{content:08x}",
        CHUNK_T0: parts.chunk_t0,
        "report": _kept_report(recording.report) | times,
        "files": parts.written,
    }


class _Parts:
    """The shard files of one recording.

    Attributes:
        written: Bytes and CRC-32C of each shard, by column; None for one that is all zero and has no file.
        chunk_t0: Time of the first event of each chunk.
    """

    def __init__(self, job: EventJob, number: int) -> None:
        self.written: dict[str, list[tuple[int, str] | None]] = {name: [] for name in FLAT_COLUMNS}
        self.chunk_t0: list[int] = []
        self._store, self._codec, self._number = Path(job.store), job.codec, number
        self._packer = EventPacker(job.types, job.codec)
        self._chunks: dict[str, list[bytes | None]] = {}

    def add(self, events: np.ndarray) -> None:
        """Add the next CHUNK events, or the last ones."""
        self.chunk_t0.append(int(events["t"][0]))
        for column, chunk in self._packer.encode(events).items():
            self._chunks.setdefault(column, []).append(chunk)
        if len(self.chunk_t0) % SHARD_CHUNKS == 0:
            self.flush()

    def flush(self) -> None:
        """Write the shards of the events that wait."""
        for column, chunks in self._chunks.items():
            self._write(column, chunks)
        self._chunks = {}

    def write_index(self, index: MillisecondIndex) -> None:
        """Write the shards of the index by time."""
        positions = index.positions()
        padded = np.zeros(-(-len(positions) // CHUNK) * CHUNK, np.int64)
        padded[: len(positions)] = positions
        chunks = [encode_chunk(part, self._codec) for part in padded.reshape(-1, CHUNK)]
        for first in range(0, len(chunks), SHARD_CHUNKS):
            self._write(MS_INDEX, chunks[first : first + SHARD_CHUNKS])

    def _write(self, column: str, chunks: Sequence[bytes | None]) -> None:
        if all(chunk is None for chunk in chunks):
            self.written[column].append(None)
            return
        path = part_path(self._store, self._number, column, len(self.written[column]))
        try:
            size, crc = write_flat_shard(path, chunks)
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
    t_last: int | None = None
    for chunk in recording.chunks(count=CHUNK, start_us=start, stop_us=stop):
        index.add(chunk["t"], events)
        parts.add(chunk)
        events += len(chunk)
        t_last = int(chunk["t"][-1])
    parts.flush()
    if events == 0 and t_range_us is not None:
        raise empty_part(recording, t_range_us)
    t_first = parts.chunk_t0[0] if events else None
    return events, index, {"t_first_us": t_first, "t_last_us": t_last}


def _kept_report(report: FileReport) -> dict[str, Any]:
    plain = report.as_dict()
    return {name: plain[name] for name in REPORT_FIELDS}

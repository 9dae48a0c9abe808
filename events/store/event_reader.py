"""Reading an event store: each of its recordings as a `Recording`, ranges of time through the index."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from events.datasets.listing import Listing, Sample
from events.errors import ConfigError, DamagedRecording, StoreError, did_you_mean
from events.recording import (
    DEFAULT_CHUNK_EVENTS,
    EVENT_DTYPE,
    EventBuffer,
    FileReport,
    Recording,
    check_cuts,
)
from events.store.attributes import read_attributes
from events.store.event_columns import EventColumns
from events.store.event_layout import CHUNK, EVENTS_KIND, EVENTS_SCHEMA, SHARD
from events.store.layout import KIND, SCHEMA, stored_read_options
from events.store.manifest import read_manifest, read_sources

# What the samples of an event store are called as a data set.
EVENT_STORE_DATASET = "event-store"


class StoredRecording(Recording):
    """One recording of an event store."""

    def __init__(self, store: "EventStore", row: dict[str, Any]) -> None:
        """Stand for the recording of a manifest row.

        Raises:
            DamagedRecording: It could not be decoded when the store was made.
        """
        if not row["ok"]:
            raise DamagedRecording(row["error"])
        self.path = Path(f"{store.path}:{row['shard']}")
        self.format = EVENT_STORE_DATASET
        self.sensor_hw = (row["sensor_hw"][0], row["sensor_hw"][1])
        self.facts = {"source": row["path"]}
        if "format" in row:
            self.facts["source_format"] = row["format"]
        self._store = store
        self.source_crc32c = int(row["crc32c"], 16)
        self._row = row
        self._range = (0, int(row["events"]))
        self.report = self._new_report()

    def _new_report(self) -> FileReport:
        kept = {name: value for name, value in self._row["report"].items() if not name.startswith("t_")}
        return FileReport(str(self.path), self.format, **kept)

    def decode_chunks(self, *, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[np.ndarray]:
        """Yield the events in file order; see `Recording.decode_chunks`."""
        if max_events < 1:
            raise ConfigError(f"max_events must be at least 1, got {max_events}")
        start, stop = self._range
        yield from self._decode_into(np.empty(min(max_events, stop - start), EVENT_DTYPE))

    def read(self) -> np.ndarray:
        """Return all events, shape [N], EVENT_DTYPE."""
        return self._whole_into(np.empty(self._row["events"], EVENT_DTYPE))

    def read_into(self, buffer: EventBuffer) -> np.ndarray:
        """Return all events in memory that the next call with `buffer` overwrites."""
        return self._whole_into(buffer.room(self._row["events"]))

    def _whole_into(self, out: np.ndarray) -> np.ndarray:
        for _ in self._decode_into(out):
            pass
        return out

    def _decode_into(self, out: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the events of the range in pieces of the length of `out`, each in its memory."""
        self.report = report = self._new_report()
        start, stop = self._range
        with self._store.columns() as columns:
            for at in range(start, stop, max(len(out), 1)):
                chunk = out[: stop - at]
                columns.read_into(chunk, self._row, at)
                report.events += len(chunk)
                report.t_first_us = int(chunk["t"][0]) if report.t_first_us is None else report.t_first_us
                report.t_last_us = int(chunk["t"][-1])
                report.bytes_read = report.bytes_total * (at + len(chunk)) // stop
                yield chunk
        report.bytes_read = report.bytes_total

    def chunks(
        self,
        *,
        count: int | None = None,
        duration_us: int | None = None,
        start_us: int | None = None,
        stop_us: int | None = None,
        start_event: int = 0,
        stop_event: int | None = None,
    ) -> Iterator[np.ndarray]:
        """Yield the events as `Recording.chunks` does; of a range, only the chunks are read that hold it."""
        check_cuts(count, duration_us, (start_us, stop_us), (start_event, stop_event))
        first, last = self.positions(start_us, stop_us)
        first = max(first, start_event)
        last = last if stop_event is None else min(last, stop_event)
        part = copy.copy(self)
        part._range, part._index = (first, max(first, last)), None
        yield from Recording.chunks(
            part, count=count, duration_us=duration_us, start_us=start_us, stop_us=stop_us
        )
        self.report = replace(self._whole_report(), late_events=part.report.late_events)

    def _whole_report(self) -> FileReport:
        report = FileReport(str(self.path), self.format, **self._row["report"])
        report.events, report.bytes_read = self._row["events"], report.bytes_total
        return report

    def positions(self, start_us: int | None, stop_us: int | None) -> tuple[int, int]:
        """Return a range of positions that holds every event with start <= t < stop; narrow, not exact."""
        events, length = int(self._row["events"]), int(self._row["ms"])
        first, last = 0, events
        if length == 0:
            return first, last
        base = self._row["first"]["ms_shard"] * SHARD
        if start_us is not None:
            ms = start_us // 1000 - self._row["ms_origin"]
            if ms >= length:
                first = events
            elif ms > 0:
                first = self._index_at(base + ms)
        if stop_us is not None and self._row["rising"]:
            ms = max(-(-stop_us // 1000) - self._row["ms_origin"], 0)
            if ms < length:
                last = self._index_at(base + ms)
        return first, max(first, last)

    def ms_index(self) -> np.ndarray:
        """Return the index by time as stored, shape [ms], int64; see `MillisecondIndex`."""
        base = self._row["first"]["ms_shard"] * SHARD
        with self._store.columns() as columns:
            chunks = range(base // CHUNK, -(-(base + self._row["ms"]) // CHUNK))
            parts = [columns.ms_index.chunk(number).copy() for number in chunks]
        return np.concatenate([np.empty(0, np.int64), *parts])[: self._row["ms"]]

    def _index_at(self, position: int) -> int:
        with self._store.columns() as columns:
            return columns.ms_index.value(position)


class EventStore:
    """A finished event store.

    Attributes:
        path: Its folder.
        attributes: The attribute `event_store`.
    """

    def __init__(self, path: Path | str, *, allow_partial: bool = False) -> None:
        """Open the store at a path; an unfinished one, which cannot be read, only where that is allowed.

        Raises:
            StoreError: There is none, it is not finished, or of another kind or schema.
        """
        self.path = Path(path)
        self.attributes = read_attributes(self.path)
        found = (self.attributes.get("schema"), self.attributes.get("kind"))
        if found == (SCHEMA, KIND):
            raise StoreError(
                f"{self.path}: holds frames, expected raw events; store these with "
                "`events convert DATASET SRC NEW.zarr --events`"
            )
        if found != (EVENTS_SCHEMA, EVENTS_KIND):
            raise StoreError(
                f"{self.path}: found a store of schema {found[0]!r}, kind {found[1]!r}, expected schema "
                f"{EVENTS_SCHEMA}, kind {EVENTS_KIND!r}; convert again, or read it with the spikeline that "
                f"wrote it ({self.attributes.get('tool_version', 'unknown version')})"
            )
        if self.attributes.get("complete") is not True and not allow_partial:
            raise StoreError(
                f"{self.path}: not finished; run the same `events convert --events` again, it continues"
            )
        rows = read_manifest(self.path)
        self.rows = [rows[number] for number in sorted(rows)]
        self.sources = read_sources(self.path)
        self._spare: list[EventColumns] = []

    @contextmanager
    def columns(self) -> Iterator[EventColumns]:
        """Lend the columns to one reading at a time; buffers and open shards serve the next again."""
        try:
            columns = self._spare.pop()
        except IndexError:  # none left; to ask first would let another thread take it meanwhile
            columns = EventColumns(self.path, self.attributes["column_types"])
        try:
            yield columns
        finally:
            self._spare.append(columns)

    def __len__(self) -> int:
        """Return how many recordings there are, failed ones included."""
        return len(self.sources)

    def find(self, name: str) -> int:
        """Return the position of a recording from its position in digits, or the path of its file.

        Raises:
            StoreError: There is none of that name, or several parts of one file.
        """
        paths = [source["path"] for source in self.sources]
        found = [number for number, path in enumerate(paths) if path == name]
        if not found and name.isdecimal():
            return int(name)
        if not found:
            raise StoreError(
                f"{self.path}: no recording {name!r}; it has 0 to {len(self) - 1}, such as {paths[0]}"
                f"{did_you_mean(name, paths)}"
            )
        if len(found) > 1:
            raise StoreError(
                f"{self.path}: {len(found)} recordings are parts of {name}; "
                f"name one by its position, {found[0]} to {found[-1]}"
            )
        return found[0]

    def recording(self, index: int) -> StoredRecording:
        """Open the recording at a position of the listing.

        Raises:
            StoreError: There is no such position.
            DamagedRecording: It could not be decoded when the store was made.
        """
        if not 0 <= index < len(self.rows):
            raise StoreError(f"{self.path}: no recording {index}; it has 0 to {len(self.rows) - 1}")
        return StoredRecording(self, self.rows[index])

    def listing(self) -> Listing:
        """Return the recordings as a data set that `events.convert.convert` bins."""
        names = self.attributes["split_names"]
        sensor = self.attributes["listing_sensor_hw"]
        return Listing(
            dataset=EVENT_STORE_DATASET,
            root=self.path,
            class_names=tuple(self.attributes["class_names"]),
            samples=tuple(
                Sample(
                    path=f"{number}:{source['path']}",
                    label=source["label"],
                    split=names[source["split"]] if isinstance(source["split"], int) else source["split"],
                    number=source["number"],
                    size_bytes=source["size_bytes"],
                )
                for number, source in enumerate(self.sources)
            ),
            split_rule=self.attributes["split_rule"],
            sensor_hw=None if sensor is None else (sensor[0], sensor[1]),
            read_options=stored_read_options(self.attributes["read"]),
            selection=self.attributes["selection"],
        )


def open_event_sample(root: Path, path: str) -> StoredRecording:
    """Open a sample of `EventStore.listing`, whose path starts with its position."""
    metadata = root / "zarr.json"
    written_ns = metadata.stat().st_mtime_ns if metadata.exists() else 0
    return _open_once(root, written_ns).recording(int(path.split(":", 1)[0]))


@lru_cache(maxsize=1)
def _open_once(root: Path, written_ns: int) -> EventStore:
    """Open a store: its samples, asked for in a row, share one reading of the manifest."""
    return EventStore(root)

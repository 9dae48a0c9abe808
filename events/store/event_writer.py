"""Converting recordings to an event store: one recording after another, resumable after any break."""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from events.datasets.listing import SPLIT_NAMES, Listing, Sample
from events.errors import DatasetError, EventsError, StoreError
from events.recording import FileReport, ReadOptions, Recording
from events.store.attributes import read_attributes, write_attributes
from events.store.event_layout import (
    CHUNK,
    EVENT_COLUMNS,
    EVENTS_KIND,
    EVENTS_SCHEMA,
    FLAT_COLUMNS,
    MOST_MS,
    MS_INDEX,
    RECORDING_COLUMNS,
    SHARD,
    flat_codecs,
    settings_hash,
)
from events.store.event_shards import write_flat
from events.store.layout import (
    ATTRIBUTE,
    COLUMN_CODECS,
    SOURCES_NAME,
    STATUS_FAILED,
    STATUS_OK,
    Codec,
    source_identity,
    source_rows,
)
from events.store.manifest import ManifestWriter, json_lines, read_manifest
from events.store.samples import open_sample, sample_crc32c
from events.store.shard import write_atomically
from events.store.task import DAMAGE_FIELDS, empty_part, failed_entry, unwritable
from events.store.writer import only_writer, sweep


@dataclass(frozen=True)
class EventsSummary:
    """What a conversion to an event store did.

    Attributes:
        path: The store.
        files, ok, failed: Recordings in all, converted, and not to be read.
        kept: Recordings that an earlier run had converted.
        events: Events in the store.
        stored_bytes: Bytes of all shards.
        seconds: Wall time of this run.
        failures: (path, reason) of each failed recording.
    """

    path: Path
    files: int
    ok: int
    failed: int
    kept: int
    events: int
    stored_bytes: int
    seconds: float
    failures: tuple[tuple[str, str], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain JSON types."""
        return asdict(self) | {"path": str(self.path)}


def convert_events(
    listing: Listing,
    dst: Path | str,
    *,
    read: ReadOptions | None = None,
    codec: Codec = "fast",
    overwrite: bool = False,
    progress: Callable[[int, int, int], None] | None = None,
) -> EventsSummary:
    """Write the events of all recordings of a listing to an event store, or continue doing so.

    Recordings are decoded one by one, in memory for one shard whatever their length.

    Args:
        listing: The recordings.
        dst: The store's folder.
        read: How recordings are read; None takes the data set's own way.
        codec: `fast` is lz4, `small` zstd.
        overwrite: Remove a store already at dst.
        progress: Called with recordings done, recordings in all and events so far.

    Raises:
        StoreError: dst holds something else or a store of other settings, or cannot be written.
        DatasetError: There is nothing to convert.
    """
    started = time.perf_counter()
    dst = Path(dst)
    if not listing.samples:
        raise DatasetError(f"{listing.root}: no recordings of {listing.dataset} found; check the folder")
    settings = _settings(listing, read or listing.read_options, codec)
    try:
        if overwrite and dst.exists():
            read_attributes(dst)
            shutil.rmtree(dst)
        _create_or_check(dst, listing, settings, codec)
        with only_writer(dst):
            sweep(dst)
            rows, kept = _write_recordings(dst, listing, read or listing.read_options, codec, progress)
            _finish(dst, listing, rows)
    except OSError as error:
        raise unwritable(Path(error.filename or dst), error) from error
    failures = tuple((row["path"], row["error"]) for row in rows if not row["ok"])
    return EventsSummary(
        path=dst,
        files=len(rows),
        ok=len(rows) - len(failures),
        failed=len(failures),
        kept=kept,
        events=sum(row["events"] for row in rows),
        stored_bytes=sum(file.stat().st_size for name in FLAT_COLUMNS for file in (dst / name).glob("c.*")),
        seconds=time.perf_counter() - started,
        failures=failures,
    )


def _settings(listing: Listing, read: ReadOptions, codec: Codec) -> dict[str, Any]:
    """Return everything that decides the content of a store, as plain JSON types."""
    plain = {
        "schema": EVENTS_SCHEMA,
        "kind": EVENTS_KIND,
        "dataset": listing.dataset,
        "class_names": listing.class_names,
        "split_rule": listing.split_rule,
        "split_names": SPLIT_NAMES,
        "listing_sensor_hw": listing.sensor_hw,
        "selection": listing.selection,
        "read": asdict(read),
        "codec": codec,
        "source": source_identity(source_rows(listing.samples)),
    }
    return json.loads(json.dumps(plain))


def _create_or_check(dst: Path, listing: Listing, settings: Mapping[str, Any], codec: Codec) -> None:
    """Make an empty, incomplete store, or refuse one of other settings."""
    if dst.exists() and not (dst.is_dir() and not any(dst.iterdir())):
        if read_attributes(dst).get("config_hash") != settings_hash(settings):
            raise StoreError(
                f"{dst}: made with other settings or recordings; choose another destination, "
                "or replace the store with --overwrite"
            )
        return
    temporary = dst.with_name(f".{dst.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    dst.parent.mkdir(parents=True, exist_ok=True)
    attributes = dict(settings) | {"config_hash": settings_hash(settings), "complete": False}
    group = zarr.create_group(temporary, attributes={ATTRIBUTE: attributes})
    for name, dtype in FLAT_COLUMNS.items():
        _create_array(
            group, name, dtype, 0, CHUNK, SHARD, flat_codecs(codec, np.dtype(dtype).itemsize), "event"
        )
    for name, column in RECORDING_COLUMNS.items():
        samples = len(listing.samples)
        _create_array(group, name, column.dtype, samples, samples, None, COLUMN_CODECS, "recording")
    write_atomically(temporary / SOURCES_NAME, [json_lines(source_rows(listing.samples))])
    temporary.rename(dst)


def _create_array(
    group: zarr.Group,
    name: str,
    dtype: str,
    length: int,
    chunk: int,
    shard: int | None,
    codecs: list[dict[str, Any]],
    dimension: str,
) -> None:
    group.create_array(
        name,
        shape=(length,),
        dtype=dtype,
        chunks=(chunk,),
        shards=None if shard is None else (shard,),
        compressors=codecs,
        fill_value=0,
        chunk_key_encoding={"name": "default", "separator": "."},
        dimension_names=(dimension if name != MS_INDEX else "millisecond",),
    )


def _write_recordings(
    dst: Path,
    listing: Listing,
    read: ReadOptions,
    codec: Codec,
    progress: Callable[[int, int, int], None] | None,
) -> tuple[list[dict[str, Any]], int]:
    """Write what is not there yet, in listing order; return all manifest rows and how many were there."""
    found = read_manifest(dst)
    rows: list[dict[str, Any]] = []
    while len(rows) in found:
        rows.append(found[len(rows)])
    kept = len(rows)
    events = sum(row["events"] for row in rows)
    if kept < len(listing.samples):
        write_attributes(dst, read_attributes(dst) | {"complete": False})
    with ManifestWriter(dst) as manifest:
        for number in range(kept, len(listing.samples)):
            first = {"event_shard": 0, "ms_shard": 0} if not rows else rows[-1]["next"]
            row = {"shard": number, "path": listing.samples[number].path, "first": first}
            row |= _write_recording(dst, listing, listing.samples[number], read, codec, first)
            manifest.append(row)
            rows.append(row)
            events += row["events"]
            if progress is not None:
                progress(len(rows), len(listing.samples), events)
    return rows, kept


def _write_recording(
    dst: Path, listing: Listing, sample: Sample, read: ReadOptions, codec: Codec, first: Mapping[str, int]
) -> dict[str, Any]:
    """Write one recording's shards; one that cannot be read is an entry with its reason."""
    shown = Path(listing.root) / sample.path
    recording: Recording | None = None
    try:
        recording = open_sample(listing.dataset, listing.root, sample.path, read)
        height, width = recording.sensor_hw
        n, shards, index = _write_columns(dst, recording, sample.t_range_us, codec, first["event_shard"])
        content = sample_crc32c(recording)
    except (EventsError, OSError) as error:
        if isinstance(error, StoreError):
            raise
        return failed_entry(shown, error, recording) | {"events": 0, "next": dict(first)}
    ms_shards = write_flat(dst / MS_INDEX, first["ms_shard"], index.positions(), codec)
    return {
        "ok": True,
        "events": n,
        "sensor_hw": [height, width],
        "rising": index.rising,
        "ms": index.length,
        "ms_origin": index.origin,
        "crc32c": f"{content:08x}",
        "report": _kept_report(recording.report),
        "next": {"event_shard": first["event_shard"] + shards, "ms_shard": first["ms_shard"] + ms_shards},
    }


def _kept_report(report: FileReport) -> dict[str, Any]:
    plain = report.as_dict()
    return {name: plain[name] for name in ("bytes_total", "t_first_us", "t_last_us", *DAMAGE_FIELDS)}


def _write_columns(
    dst: Path, recording: Recording, t_range_us: tuple[int, int] | None, codec: Codec, first_shard: int
) -> tuple[int, int, "MillisecondIndex"]:
    """Write the columns of one recording; return its events, its shards and its index by time."""
    start, stop = t_range_us or (None, None)
    index = MillisecondIndex()
    events = shards = 0
    for chunk in recording.chunks(count=SHARD, start_us=start, stop_us=stop):
        index.add(chunk["t"], events)
        for name, dtype in EVENT_COLUMNS.items():
            write_flat(dst / name, first_shard + shards, chunk[name].astype(dtype), codec)
        events += len(chunk)
        shards += 1
    if events == 0 and t_range_us is not None:
        raise empty_part(recording, t_range_us)
    return events, shards, index


class MillisecondIndex:
    """Position of the first event at or after each millisecond of the clock.

    Entry k is the position of the first event with t >= (origin + k) * 1000, so that every such event is at
    it or behind it, also where the clock falls.

    Attributes:
        origin: Millisecond of the first event.
        rising: Whether no time is below the one before it.
    """

    def __init__(self) -> None:
        """Begin before the first event."""
        self.origin = 0
        self.rising = True
        self._last_t: int | None = None
        self._parts: list[np.ndarray] = []
        self._length = 0
        self._given_up = False

    @property
    def length(self) -> int:
        """Milliseconds in the index; 0 where the clock leaps too far to keep one."""
        return 0 if self._given_up else self._length

    def positions(self) -> np.ndarray:
        """Return the entries, shape [length], int64."""
        return np.concatenate(self._parts) if self.length else np.empty(0, np.int64)

    def add(self, times: np.ndarray, position: int) -> None:
        """Add the times of the next events, shape [n], the first of which is at `position`."""
        if self._last_t is None:
            self.origin = int(times[0]) // 1000
            self._last_t = int(times[0])
        highest = np.maximum(np.maximum.accumulate(times), self._last_t)
        self.rising = self.rising and bool((highest == times).all())
        self._last_t = int(highest[-1])
        length = self._last_t // 1000 - self.origin + 1
        if self._given_up or length > MOST_MS:
            self._given_up, self._parts = True, []
            return
        wanted = (self.origin + np.arange(self._length, length, dtype=np.int64)) * 1000
        self._parts.append(np.searchsorted(highest, wanted).astype(np.int64) + position)
        self._length = length


def _finish(dst: Path, listing: Listing, rows: list[dict[str, Any]]) -> None:
    """Set lengths, fill the columns of one value per recording, and set `complete` last."""
    if read_attributes(dst)["complete"] is True:
        return
    group = zarr.open_group(dst, mode="r+")
    for name in FLAT_COLUMNS:
        _array(group, name).resize((rows[-1]["next"][_shard_key(name)] * SHARD,))
    for name, values in _recording_columns(listing, rows).items():
        _array(group, name)[...] = values
    sources = source_rows(listing.samples)
    known = [source | {"crc32c": row.get("crc32c")} for source, row in zip(sources, rows, strict=True)]
    write_atomically(dst / SOURCES_NAME, [json_lines(known)])
    write_attributes(dst, read_attributes(dst) | {"complete": True})


def _array(group: zarr.Group, name: str) -> zarr.Array:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise StoreError(f"{group.store_path}: {name} is no array; convert again with --overwrite")
    return array


def _shard_key(name: str) -> str:
    return "ms_shard" if name == MS_INDEX else "event_shard"


def _recording_columns(listing: Listing, rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    values: dict[str, list[int]] = {
        "label": [sample.label for sample in listing.samples],
        "split": [SPLIT_NAMES.index(sample.split) for sample in listing.samples],
        "status": [STATUS_OK if row["ok"] else STATUS_FAILED for row in rows],
        "first_event": [row["first"]["event_shard"] * SHARD for row in rows],
        "n_events": [row["events"] for row in rows],
        "first_ms": [row["first"]["ms_shard"] * SHARD for row in rows],
        "n_ms": [row.get("ms", 0) for row in rows],
        "ms_origin": [row.get("ms_origin", 0) for row in rows],
    }
    return {name: np.array(value, RECORDING_COLUMNS[name].dtype) for name, value in values.items()}

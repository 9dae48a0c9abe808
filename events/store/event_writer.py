"""Converting recordings to an event store: plan, resume, one task per few recordings, finish.

    Listing -> settings -> EventJob per few recordings -> parts and manifest rows -> flat columns, complete

Whatever stops it, running it again with the same settings continues where it stopped; the finished store has
the same bytes whatever the number of workers and of breaks.
"""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from events.datasets.listing import SPLIT_NAMES, Listing
from events.errors import ConfigError, DatasetError, EventsError, StoreError
from events.parallel import run_jobs
from events.recording import ReadOptions
from events.store.attributes import read_attributes, write_attributes
from events.store.event_creation import create_event_store, finish_event_store, row_bytes
from events.store.event_layout import EVENTS_KIND, EVENTS_SCHEMA, column_types
from events.store.event_parts import PARTS, Places, places_of, shard_problems, take_out
from events.store.event_reader import EVENT_STORE_DATASET
from events.store.event_task import EventJob, convert_recordings
from events.store.layout import Codec, differences, read_settings, source_identity, source_rows
from events.store.manifest import ManifestWriter, read_manifest
from events.store.outcome import (
    ConvertProgress,
    EventsSummary,
    FileFailure,
    ProgressCallback,
    damage_warning,
)
from events.store.samples import open_sample
from events.store.task import JobSource
from events.store.writer import is_free, only_writer, read_destination, remove_store, sweep, write_errors

# A task takes recordings of that many bytes together: enough to make Dask's overhead vanish.
JOB_BYTES = 16 << 20
JOB_RECORDINGS = 64
# Each worker gets that many tasks, where there are recordings enough.
JOBS_PER_WORKER = 8


def convert_events(
    listing: Listing,
    dst: Path | str,
    *,
    read: ReadOptions | None = None,
    codec: Codec = "fast",
    workers: int = 1,
    scheduler: str | None = None,
    retry_failed: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    command: str = "",
) -> EventsSummary:
    """Write the events of all recordings of a listing to an event store, or continue doing so.

    A worker holds one shard of one recording at a time, whatever the recording's length.

    Args:
        listing: The recordings.
        dst: The store's folder.
        read: How recordings are read; None takes the data set's own way.
        codec: `fast` is lz4, `small` zstd.
        workers: Processes; 0 or 1 runs in this process.
        scheduler: Address of a running Dask scheduler, instead of own processes.
        retry_failed: Also try recordings again that failed before.
        overwrite: Remove a store already at dst. A folder that is no store is never removed.
        progress: Called after each task.
        command: Recorded in the store.

    Raises:
        StoreError: dst holds something else or a store of other settings, or cannot be written.
        DatasetError: There is nothing to convert.
    """
    started = time.perf_counter()
    dst, read = Path(dst), read or listing.read_options
    if not listing.samples:
        raise DatasetError(f"{listing.root}: no recordings of {listing.dataset} found; check the folder")
    if listing.dataset == EVENT_STORE_DATASET:
        raise ConfigError(
            f"{listing.root}: holds raw events already; convert it to frames, or copy the folder"
        )
    settings = _settings(listing, read, codec)
    with write_errors(dst):
        if overwrite:
            remove_store(dst)
        if is_free(dst):
            create_event_store(dst, listing, settings, _column_types(listing, read), codec, command)
        _refuse_other_settings(dst, settings)
        with only_writer(dst):
            sweep(dst)
            rows, pending = _pending(dst, len(listing.samples), retry_failed=retry_failed)
            kept = len(rows)
            meter = _EventMeter(len(listing.samples), kept, started, progress)
            jobs = _jobs(listing, dst, pending, read, workers)
            rows |= _make_parts(dst, jobs, meter, workers=workers, scheduler=scheduler)
            ordered = [rows[number] for number in range(len(rows))]
            if pending or read_attributes(dst)["complete"] is not True:
                finish_event_store(dst, listing, ordered)
    return _summarise(dst, ordered, kept=kept, seconds=time.perf_counter() - started)


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
        "read": read_settings(read),
        "codec": codec,
        "source": source_identity(source_rows(listing.samples)),
    }
    return json.loads(json.dumps(plain))


def _column_types(listing: Listing, read: ReadOptions) -> dict[str, str]:
    """Return types that fit the sensor: the one given, the data set's, or of the first recording that opens.

    They only decide how many bytes the store takes, not what it can hold.
    """
    sensor_hw = read.sensor_hw or listing.sensor_hw
    for sample in listing.samples:
        if sensor_hw is not None:
            break
        with suppress(EventsError, OSError):
            sensor_hw = open_sample(listing.dataset, listing.root, sample.path, read).sensor_hw
    return column_types(sensor_hw)


def _refuse_other_settings(dst: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a destination that was made with other settings, naming each of them."""
    changed = differences(read_destination(dst), settings)
    if changed:
        raise StoreError(
            f"{dst}: made with other settings or recordings ({'; '.join(changed)}); "
            "choose another destination, or replace the store with --overwrite"
        )


def _pending(dst: Path, samples: int, *, retry_failed: bool) -> tuple[dict[int, dict[str, Any]], list[int]]:
    """Return the rows of finished recordings and the numbers of the others, whose room is then free.

    Finished means: the row is there, its shards have the length and CRC-32C it states and, where failed
    recordings are to be tried again, it did not fail.
    """
    rows = {number: row for number, row in read_manifest(dst).items() if number < samples}
    places, _ = places_of(rows)
    finished = {
        number: row
        for number, row in rows.items()
        if not (retry_failed and not row["ok"]) and _is_whole(dst, row, places)
    }
    pending = [number for number in range(samples) if number not in finished]
    if pending:
        # Until the columns agree with the recordings again, nobody may take the store for finished.
        write_attributes(dst, read_attributes(dst) | {"complete": False})
        (dst / PARTS).mkdir(exist_ok=True)
        take_out(dst, list(finished.values()), places)
    return finished, pending


def _is_whole(dst: Path, row: Mapping[str, Any], places: Places) -> bool:
    return not any(shard_problems(dst, row, places.get(row["shard"]), with_contents=True))


def _jobs(
    listing: Listing, dst: Path, pending: Sequence[int], read: ReadOptions, workers: int
) -> list[EventJob]:
    """Put recordings together to tasks, in the order of the listing; how does not change the store."""
    attributes = read_attributes(dst)
    most = min(JOB_RECORDINGS, max(1, len(pending) // (JOBS_PER_WORKER * max(workers, 1))))
    groups: list[list[int]] = []
    room = 0
    for number in pending:
        size = listing.samples[number].size_bytes
        if not groups or len(groups[-1]) == most or size > room:
            groups.append([])
            room = JOB_BYTES
        groups[-1].append(number)
        room -= size
    samples = listing.samples
    return [
        EventJob(
            store=str(dst.absolute()),
            dataset=listing.dataset,
            root=str(listing.root.absolute()),
            sources=tuple(JobSource(i, samples[i].path, samples[i].t_range_us) for i in group),
            read=read,
            types=attributes["column_types"],
            codec=attributes["codec"],
        )
        for group in groups
    ]


def _make_parts(
    dst: Path, jobs: Sequence[EventJob], meter: "_EventMeter", *, workers: int, scheduler: str | None
) -> dict[int, dict[str, Any]]:
    """Run the tasks, enter each recording in the manifest once its parts are written, return their rows."""
    made: dict[int, dict[str, Any]] = {}
    try:
        with (
            ManifestWriter(dst) as manifest,
            closing(run_jobs(convert_recordings, jobs, workers=workers, scheduler=scheduler)) as results,
        ):
            for rows in results:
                manifest.append(*rows)
                made |= {row["shard"]: row for row in rows}
                meter.add(rows)
    finally:
        # After an interruption, what the abandoned tasks had begun to write.
        sweep(dst)
    return made


class _EventMeter:
    """Adds up what this run has done and reports it after each task."""

    def __init__(self, files: int, before: int, started: float, callback: ProgressCallback | None) -> None:
        self._files, self._before, self._started, self._callback = files, before, started, callback
        self._rows: list[Mapping[str, Any]] = []
        self._events = self._bytes = self._ok = 0

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Count the recordings of a task."""
        self._rows.extend(rows)
        self._ok += sum(row["ok"] for row in rows)
        self._events += sum(row["events"] for row in rows)
        self._bytes += sum(map(row_bytes, rows))
        if self._callback is not None:
            seconds = time.perf_counter() - self._started
            failed = len(self._rows) - self._ok
            self._callback(
                ConvertProgress(
                    self._files, self._before, self._ok, failed, self._events, self._bytes, seconds
                )
            )


def _summarise(dst: Path, rows: Sequence[Mapping[str, Any]], *, kept: int, seconds: float) -> EventsSummary:
    failures = tuple(FileFailure(row["path"], row["error"], row["byte"]) for row in rows if not row["ok"])
    damaged = sum(row["ok"] and row["report"]["first_damage_byte"] is not None for row in rows)
    return EventsSummary(
        path=dst,
        files=len(rows),
        ok=len(rows) - len(failures),
        failed=len(failures),
        damaged=damaged,
        kept=kept,
        events=sum(row["events"] for row in rows),
        stored_bytes=sum(map(row_bytes, rows)),
        seconds=seconds,
        failures=failures,
        warnings=damage_warning(damaged),
    )

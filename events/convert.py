"""From recordings to a store: plan, resume, run one task per shard, finish.

    Listing -> Plan -> ShardJob per shard -> manifest row -> columns, card, complete

Whatever stops a conversion, running it again with the same settings continues where it stopped: at most the
shards in flight are made again, and the finished store has the same bytes as one made without a break.
"""

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from events.datasets.listing import SPLIT_NAMES, Listing
from events.errors import StoreError
from events.parallel import run_jobs
from events.store.attributes import check_schema, read_attributes, write_attributes
from events.store.layout import shard_name, source_rows
from events.store.manifest import ManifestWriter, read_manifest, read_sources
from events.store.outcome import (
    ConvertProgress,
    ConvertSummary,
    FileFailure,
    Meter,
    ProgressCallback,
    summarise,
)
from events.store.plan import ConvertSettings, Plan, changed_settings, plan_conversion, provenance
from events.store.shard import file_crc32c
from events.store.task import convert_shard, warm_up
from events.store.writer import (
    create_store,
    finish_store,
    is_free,
    only_writer,
    read_destination,
    remove_store,
    sweep,
    write_errors,
)

__all__ = [
    "ConvertProgress",
    "ConvertSettings",
    "ConvertSummary",
    "FileFailure",
    "ProgressCallback",
    "convert",
]


def convert(
    listing: Listing,
    dst: Path | str,
    settings: ConvertSettings | None = None,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    retry_failed: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    command: str | None = None,
) -> ConvertSummary:
    """Convert all recordings of a listing to a store, or continue a conversion that was stopped.

    Args:
        listing: The recordings, from `events.datasets.registry.list_samples`.
        dst: The store's folder.
        settings: What the store is made of; None takes the defaults.
        workers: Processes; 0 or 1 runs in this process.
        scheduler: Address of a running Dask scheduler, instead of own processes.
        retry_failed: Also make shards again whose recordings failed before.
        overwrite: Remove a store already at dst. A folder that is no store is never removed.
        progress: Called after each shard.
        command: Recorded in the store; None takes this program's command line.

    Raises:
        StoreError: dst holds something else or a store of other settings, or cannot be written.
        DatasetError: There is nothing to convert.
    """
    dst = Path(dst)
    started = time.perf_counter()
    plan = plan_conversion(listing, settings or ConvertSettings())
    with write_errors(dst):
        if overwrite:
            remove_store(dst)
        if is_free(dst):
            _create(plan, dst, command or shlex.join(sys.argv))
        _refuse_other_settings(plan, dst)
        with only_writer(dst):
            sweep(dst)
            rows, pending = _pending(plan, dst, retry_failed=retry_failed)
            kept = len(rows)
            meter = Meter(plan, rows, started, progress)
            rows |= _make_shards(plan, dst, pending, meter, workers=workers, scheduler=scheduler)
            ordered = [rows[shard] for shard in sorted(rows)]
            _finish(plan, dst, ordered, changed=bool(pending))
    return summarise(plan, dst, ordered, kept=kept, pending=pending, seconds=time.perf_counter() - started)


def _create(plan: Plan, dst: Path, command: str) -> None:
    samples = plan.listing.samples
    labels = np.array([sample.label for sample in samples], np.int32)
    splits = np.array([SPLIT_NAMES.index(sample.split) for sample in samples], np.uint8)
    create_store(
        dst,
        config=plan.config,
        attributes=provenance(plan, command),
        sources=source_rows(samples),
        columns={"label": labels[plan.order], "split": splits[plan.order], "source_index": plan.order},
        boxes=None if plan.boxes is None else plan.boxes.columns(),
    )


def _refuse_other_settings(plan: Plan, dst: Path) -> None:
    """Refuse a destination that was made with other settings, naming each of them.

    Raises:
        StoreError: dst is no store of ours, of another schema version, or has other settings.
    """
    attributes = read_destination(dst)
    check_schema(dst, attributes)
    changed = changed_settings(plan, attributes, read_sources(dst))
    if changed:
        raise StoreError(
            f"{dst}: made with other settings ({'; '.join(changed)}); "
            "choose another destination, or replace the store with --overwrite"
        )


def _pending(plan: Plan, dst: Path, *, retry_failed: bool) -> tuple[dict[int, dict[str, Any]], list[int]]:
    """Return the manifest rows of finished shards and the numbers of the shards still to make.

    Finished means: the row is there, the file has the length and CRC-32C it states and, where failed
    recordings are to be tried again, none failed.
    """
    finished = {
        shard: row
        for shard, row in read_manifest(dst).items()
        if shard < plan.shards
        and _shard_is_whole(dst / "frames" / shard_name(shard), row)
        and not (retry_failed and any(not file["ok"] for file in row["files"]))
    }
    return finished, [shard for shard in range(plan.shards) if shard not in finished]


def _shard_is_whole(path: Path, row: Mapping[str, Any]) -> bool:
    if not path.is_file() or path.stat().st_size != row["bytes"]:
        return False
    return f"{file_crc32c(path):08x}" == row["crc32c"]


def _make_shards(
    plan: Plan, dst: Path, pending: Sequence[int], meter: Meter, *, workers: int, scheduler: str | None
) -> dict[int, dict[str, Any]]:
    """Make the pending shards, enter each in the manifest once it is in place, and return their rows."""
    if not pending:
        return {}
    # Until the columns agree with the shards again, nobody may take the store for finished.
    write_attributes(dst, read_attributes(dst) | {"complete": False})
    jobs = [plan.job(dst, shard) for shard in pending]
    made = {}
    try:
        with (
            ManifestWriter(dst) as manifest,
            closing(
                run_jobs(convert_shard, jobs, workers=workers, scheduler=scheduler, warm_up=warm_up)
            ) as rows,
        ):
            for row in rows:
                manifest.append(row)
                made[row["shard"]] = row
                meter.add(row)
    finally:
        # After an interruption, what the abandoned tasks had begun to write.
        sweep(dst)
    return made


def _finish(plan: Plan, dst: Path, rows: Sequence[Mapping[str, Any]], *, changed: bool) -> None:
    attributes = read_attributes(dst)
    if changed or attributes["complete"] is not True:
        finish_store(dst, attributes=attributes, sources=source_rows(plan.listing.samples), rows=rows)

"""Creating and finishing an event store: only the driver of a conversion does, workers write parts alone."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import zarr

from events.datasets.listing import SPLIT_NAMES, Listing
from events.errors import StoreError
from events.store.attributes import read_attributes, write_attributes
from events.store.event_layout import (
    CHUNK,
    CHUNK_T0,
    FLAT_COLUMNS,
    MS_INDEX,
    RECORDING_COLUMNS,
    SHARD,
    SHARD_CHUNKS,
    flat_codecs,
    settings_hash,
)
from events.store.event_parts import PARTS, places_of, put_in_place, remove_others, shard_key
from events.store.layout import (
    ATTRIBUTE,
    COLUMN_CODECS,
    MANIFEST_NAME,
    SOURCES_NAME,
    STATUS_FAILED,
    STATUS_OK,
    Codec,
    source_rows,
)
from events.store.manifest import json_lines
from events.store.shard import write_atomically
from events.store.writer import FAILURES_NAMED


def create_event_store(
    dst: Path,
    listing: Listing,
    settings: Mapping[str, Any],
    types: Mapping[str, str],
    codec: Codec,
    command: str,
) -> None:
    """Make an empty, incomplete store that appears at `dst` all at once.

    Args:
        dst: Where.
        listing: The recordings.
        settings: All that decides the store's content, plain JSON types.
        types: Of the flat columns, from `event_layout.column_types`.
        codec: Codec preset.
        command: Recorded in the store.
    """
    temporary = dst.with_name(f".{dst.name}.new")
    rmtree(temporary, ignore_errors=True)
    dst.parent.mkdir(parents=True, exist_ok=True)
    attributes = dict(settings) | {
        "source": {"root_name": listing.root.absolute().name} | settings["source"],
        "config_hash": settings_hash(settings),
        "column_types": dict(types),
        "complete": False,
        "listing_problems": list(listing.problems),
        "tool_version": version("spikeline"),
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        group = zarr.create_group(temporary, attributes={ATTRIBUTE: attributes})
        for name in FLAT_COLUMNS:
            codecs = flat_codecs(codec, np.dtype(types[name]).itemsize)
            dimension = "millisecond" if name == MS_INDEX else "event"
            _create_array(group, name, types[name], 0, CHUNK, SHARD, codecs, dimension)
        _create_array(group, CHUNK_T0, "int64", 0, CHUNK, None, COLUMN_CODECS, "chunk")
        samples = len(listing.samples)
        for name, column in RECORDING_COLUMNS.items():
            _create_array(group, name, column.dtype, samples, samples, None, COLUMN_CODECS, "recording")
        write_atomically(temporary / SOURCES_NAME, [json_lines(source_rows(listing.samples))])
        # An empty folder may stand at the destination; renaming replaces it.
        temporary.rename(dst)
    finally:
        rmtree(temporary, ignore_errors=True)


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
        dimension_names=(dimension,),
    )


def row_bytes(row: Mapping[str, Any]) -> int:
    """Return the bytes of a recording's shards."""
    return sum(entry[0] for shards in row.get("files", {}).values() for entry in shards if entry is not None)


def finish_event_store(dst: Path, listing: Listing, rows: Sequence[dict[str, Any]]) -> None:
    """Put all shards in place, fill the columns of one value per recording, and set `complete` last."""
    places, end = places_of({row["shard"]: row for row in rows})
    put_in_place(dst, rows, places)
    remove_others(dst, rows, places)
    placed = [row | {"first": places[row["shard"]]} for row in rows]
    group = zarr.open_group(dst, mode="r+")
    for name in FLAT_COLUMNS:
        _array(group, name).resize((end[shard_key(name)] * SHARD,))
    chunk_t0 = _chunk_times(placed, end["event_shard"])
    _array(group, CHUNK_T0).resize(chunk_t0.shape)
    _array(group, CHUNK_T0)[...] = chunk_t0
    for name, values in _recording_columns(listing, placed).items():
        _array(group, name)[...] = values
    sources = source_rows(listing.samples)
    known = [source | {"crc32c": row.get("crc32c")} for source, row in zip(sources, rows, strict=True)]
    write_atomically(dst / SOURCES_NAME, [json_lines(known)])
    write_atomically(dst / MANIFEST_NAME, [json_lines(placed)])
    # All shards, which were not synced one by one.
    os.sync()
    write_attributes(dst, read_attributes(dst) | _outcome(placed) | {"complete": True})
    rmtree(dst / PARTS, ignore_errors=True)


def _array(group: zarr.Group, name: str) -> zarr.Array:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise StoreError(f"{group.store_path}: {name} is no array; convert again with --overwrite")
    return array


def _chunk_times(rows: Sequence[Mapping[str, Any]], shards: int) -> np.ndarray:
    """Return the time of the first event of every chunk, int64; 0 where a shard has no chunk."""
    times = np.zeros((shards, SHARD_CHUNKS), np.int64)
    for row in rows:
        own = row.get(CHUNK_T0, [])
        times[row["first"]["event_shard"] :].reshape(-1)[: len(own)] = own
    return times.reshape(-1)


def _recording_columns(listing: Listing, rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
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


def _outcome(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    failed = [row for row in rows if not row["ok"]]
    return {
        "counts": {
            "ok": len(rows) - len(failed),
            "failed": len(failed),
            "events": sum(row["events"] for row in rows),
            "event_bytes": sum(map(row_bytes, rows)),
        },
        "failed_files": [
            {"path": row["path"], "error": row["error"], "byte": row["byte"]}
            for row in failed[:FAILURES_NAMED]
        ],
    }

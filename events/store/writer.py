"""Creating and finishing a store. Only the driver of a conversion calls this; workers write shards alone.

All arrays exist before any task runs, so workers never touch metadata. `complete` is set last, by renaming
the group's metadata into place; until then every reader of ours refuses the store.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from events.datasets.detection.boxes import WINDOW_COLUMNS
from events.errors import StoreError
from events.store.attributes import read_attributes, write_attributes
from events.store.card import card_text
from events.store.layout import (
    ATTRIBUTE,
    BOXES,
    CARD_NAME,
    COLUMN_CODECS,
    COLUMNS,
    LOCK_NAME,
    SOURCES_NAME,
    TEMPORARY_SUFFIX,
    StoreConfig,
    content_digest,
    frame_codecs,
)
from events.store.manifest import columns_from_rows, failed_files, json_lines, with_contents
from events.store.shard import sync_folder, write_atomically
from events.store.task import unwritable

# At most this many failed files are named in the attributes; all of them are in the manifest.
FAILURES_NAMED = 100


@contextmanager
def write_errors(dst: Path) -> Iterator[None]:
    """Turn a refusal of the file system into one line that says what to do."""
    try:
        yield
    except OSError as error:
        raise unwritable(Path(error.filename or dst), error) from error


def is_free(dst: Path) -> bool:
    """Say whether nothing, or an empty folder, is where a store is to be."""
    return not dst.exists() or (dst.is_dir() and not any(dst.iterdir()))


def read_destination(dst: Path) -> dict[str, Any]:
    """Return the attribute `event_store` of a store that is to be continued.

    Raises:
        StoreError: Something else is there.
    """
    try:
        return read_attributes(dst)
    except StoreError:
        raise StoreError(
            f"{dst}: is there already and is no store of ours; choose another destination"
        ) from None


def remove_store(dst: Path) -> None:
    """Remove a store; a folder that is none is refused.

    Raises:
        StoreError: There is something else, or another process is writing it.
    """
    if is_free(dst):
        return
    read_destination(dst)
    with only_writer(dst):
        shutil.rmtree(dst)


def create_store(
    path: Path,
    *,
    config: StoreConfig,
    attributes: Mapping[str, Any],
    sources: Sequence[Mapping[str, Any]],
    columns: Mapping[str, np.ndarray],
    boxes: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Make an empty, incomplete store that appears at `path` all at once.

    Args:
        path: Where the store will be; nothing may be there.
        config: What decides its content.
        attributes: The attribute `event_store`, `complete` false.
        sources: Rows of `sources.jsonl`.
        columns: Columns known beforehand: label, split, source_index, each of shape [N].
        boxes: Columns of the group `boxes`, of windows of labelled recordings.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        group = zarr.create_group(temporary, attributes={ATTRIBUTE: dict(attributes)})
        _create_frames(group, config, samples=len(sources))
        for name in COLUMNS:
            _create_column(group, name, samples=len(sources), frames=config.frame_shape[0])
        for name, values in columns.items():
            _fill(group, name, values)
        if boxes is not None:
            _create_boxes(group, boxes)
        write_atomically(temporary / SOURCES_NAME, [json_lines(sources)])
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync_folder(path.parent)


def _create_frames(group: zarr.Group, config: StoreConfig, *, samples: int) -> None:
    dtype = np.dtype(config.binning.dtype)
    group.create_array(
        "frames",
        shape=(samples, *config.frame_shape),
        dtype=dtype,
        chunks=(1, *config.frame_shape),
        shards=(config.shard_samples, *config.frame_shape),
        compressors=frame_codecs(config.codec, dtype.itemsize),
        fill_value=0,
        chunk_key_encoding={"name": "default", "separator": "."},
        dimension_names=("sample", "step", _plane_axis(config), "row", "column"),
    )


def _plane_axis(config: StoreConfig) -> str:
    """Return the name of the axis of planes."""
    if config.planes:
        return "plane"
    return "polarity" if config.binning.channels == 2 else "channel"


def _create_column(group: zarr.Group, name: str, *, samples: int, frames: int) -> None:
    column = COLUMNS[name]
    shape = (samples, frames + 1)[: len(column.dimensions)]
    group.create_array(
        name,
        shape=shape,
        dtype=column.dtype,
        chunks=shape,
        compressors=COLUMN_CODECS,
        fill_value=0,
        chunk_key_encoding={"name": "default", "separator": "."},
        dimension_names=column.dimensions,
    )


def _create_boxes(group: zarr.Group, columns: Mapping[str, np.ndarray]) -> None:
    """Write the group of columns of windows and boxes, each column as one chunk."""
    boxes = group.create_group(BOXES)
    for name, values in columns.items():
        array = boxes.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=tuple(max(1, length) for length in values.shape),
            compressors=COLUMN_CODECS,
            fill_value=0,
            chunk_key_encoding={"name": "default", "separator": "."},
            dimension_names=(_rows_of(name), "corner")[: values.ndim],
        )
        array[...] = values


def _rows_of(name: str) -> str:
    """Return what a column of the group `boxes` has a value for."""
    if name == "window_ptr":
        return "window_edge"
    return "sample" if name in WINDOW_COLUMNS else "box"


def _fill(group: zarr.Group, name: str, values: np.ndarray) -> None:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise StoreError(f"{group.store_path}: {name} is no array; convert again with --overwrite")
    array[...] = values


def finish_store(
    path: Path,
    *,
    attributes: Mapping[str, Any],
    sources: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Fill the columns, write the card, and set `complete` last.

    Args:
        path: The store; every shard has its manifest row.
        attributes: The attribute `event_store` so far.
        sources: Rows of `sources.jsonl` as at the start.
        rows: Manifest rows.
    """
    group = zarr.open_group(path, mode="r+")
    frames = int(attributes["binning"]["frames"])
    columns = columns_from_rows(rows, samples=len(sources), frames=frames)
    for name, values in columns.items():
        _fill(group, name, values)
    read = with_contents(sources, rows)
    write_atomically(path / SOURCES_NAME, [json_lines(read)])
    final = dict(attributes) | _outcome(rows, columns) | {"complete": True}
    final["source"] = final["source"] | {"content_sha256": content_digest(read)}
    write_atomically(path / CARD_NAME, [card_text(path.name, final).encode()])
    write_attributes(path, final)


def _outcome(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
    failed = failed_files(rows)
    return {
        "counts": {
            "ok": sum(len(row["files"]) for row in rows) - len(failed),
            "failed": len(failed),
            "events": int(columns["n_events"].sum(dtype=np.int64)),
            "saturated_pixels": int(columns["n_saturated"].sum(dtype=np.int64)),
            "saturated_samples": int(np.count_nonzero(columns["n_saturated"])),
            "frame_bytes": sum(row["bytes"] for row in rows),
        },
        "failed_files": [
            {"path": file["path"], "error": file["error"], "byte": file["byte"]}
            for file in failed[:FAILURES_NAMED]
        ],
    }


def sweep(path: Path) -> int:
    """Remove what killed writers left behind: our own temporary files and Zarr's; return how many."""
    leftovers = [*path.rglob(f"*{TEMPORARY_SUFFIX}"), *path.rglob("*.partial")]
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)
    return len(leftovers)


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold the store's lock, so that two conversions never write the same manifest.

    The operating system lets go of the lock when its process ends, however it ends.

    Raises:
        StoreError: Another process holds it.
    """
    with (path / LOCK_NAME).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"{path}: another conversion is writing this store; wait for it or stop it"
            ) from None
        yield

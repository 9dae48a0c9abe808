"""Checking a store: is everything there, undamaged, and what its recordings give?"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from events.binning.settings import BinSettings
from events.errors import EventsError, StoreError
from events.recording import ReadOptions
from events.store.detection import box_problems, has_boxes
from events.store.layout import (
    STATUS_OK,
    content_digest,
    row_time_range,
    shard_name,
    stored_binning,
    stored_read_options,
)
from events.store.manifest import columns_from_rows, read_manifest, read_sources
from events.store.reader import FrameStore, open_store
from events.store.samples import is_file_of_its_own, open_sample, sample_crc32c
from events.store.shard import file_crc32c
from events.store.task import bin_recording

Level = Literal["fast", "index", "full"]
LEVELS: tuple[Level, ...] = ("fast", "index", "full")

Progress = Callable[[int, int], None]


@dataclass
class CheckReport:
    """What a check found.

    Attributes:
        path: The store.
        level: How far it looked.
        samples, shards: What the store has.
        samples_read: Samples decompressed.
        recordings_compared: Recordings decoded again and compared with their frames.
        problems: One line each; empty for a sound store.
        failed_files: Recordings that could not be converted; not a problem of the store.
    """

    path: Path
    level: Level
    samples: int = 0
    shards: int = 0
    samples_read: int = 0
    recordings_compared: int = 0
    problems: list[str] = field(default_factory=list)
    failed_files: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON types."""
        return asdict(self) | {"path": str(self.path), "sound": not self.problems}


def check_store(
    path: Path | str, *, level: Level = "full", against: Path | None = None, progress: Progress | None = None
) -> CheckReport:
    """Check a finished store.

    `fast`: metadata, manifest, columns, sizes of all shard files. `index`: also each shard's index.
    `full`: also the CRC-32C of every file and sample, and the counts of each sample against n_events.

    Args:
        path: The store.
        level: How far to look.
        against: Folder of the recordings; each is compared by CRC-32C, decoded again and compared
            with its frames.
        progress: Called with samples done and all samples.

    Raises:
        StoreError: There is no finished store of this schema at the path.
    """
    store = open_store(path)
    report = CheckReport(store.path, level, samples=len(store))
    rows = read_manifest(store.path)
    report.shards = len(rows)
    report.failed_files = store.counts()["failed"]
    report.problems.extend(_column_problems(store, rows))
    report.problems.extend(_shard_problems(store, rows, with_contents=level == "full"))
    if level != "fast":
        report.problems.extend(_index_problems(store))
    if has_boxes(store):
        report.problems.extend(box_problems(store))
    if level == "full":
        report.problems.extend(_sample_problems(store, report, progress))
    if against is not None:
        report.problems.extend(_source_problems(store, Path(against), report, progress))
    return report


def _column_problems(store: FrameStore, rows: dict[int, dict[str, Any]]) -> Iterator[str]:
    classes = len(store.class_names)
    outside = (store.label < 0) | (store.label >= classes)
    if has_boxes(store):
        outside = store.label != -1
    if outside.any():
        yield f"label: {int(outside.sum())} samples have a label outside 0 to {classes - 1}"
    if (store.split >= len(store.attributes["split_names"])).any():
        yield f"split: values up to {int(store.split.max())}, expected 0 to 2"
    if not np.array_equal(np.sort(store.source_index), np.arange(len(store))):
        yield "source_index: not every recording is there exactly once"
    written = columns_from_rows(rows.values(), samples=len(store), frames=store.shape[1])
    for name, values in written.items():
        if not np.array_equal(values, getattr(store, name)):
            yield f"{name}: differs from the manifest"
    sources = read_sources(store.path)
    if len(sources) != len(store):
        yield f"sources.jsonl: {len(sources)} recordings, expected {len(store)}"
    elif content_digest(sources) != store.attributes["source"].get("content_sha256"):
        yield "sources.jsonl: changed since the conversion"


def _shard_problems(
    store: FrameStore, rows: dict[int, dict[str, Any]], *, with_contents: bool
) -> Iterator[str]:
    expected = -(-len(store) // store.attributes["shard_samples"])
    for shard in range(expected):
        path = store.path / "frames" / shard_name(shard)
        if shard not in rows:
            yield f"manifest.jsonl: no row of shard {shard}"
        elif not path.is_file():
            yield f"{path.name}: missing"
        elif path.stat().st_size != rows[shard]["bytes"]:
            yield f"{path.name}: {path.stat().st_size} bytes, expected {rows[shard]['bytes']}"
        elif with_contents and f"{file_crc32c(path):08x}" != rows[shard]["crc32c"]:
            yield f"{path.name}: CRC-32C of the file differs from the manifest"


def _index_problems(store: FrameStore) -> Iterator[str]:
    """Read one shard's index after the other; zarr-python checks it as well for other layouts."""
    for first in range(0, len(store), store.attributes["shard_samples"]):
        try:
            store.check_index(first)
        except StoreError as error:
            yield str(error)


def _sample_problems(store: FrameStore, report: CheckReport, progress: Progress | None) -> Iterator[str]:
    exact = _counts_are_exact(store)
    largest = None if store.values is None else len(store.values) - 1
    for position in np.flatnonzero(store.status == STATUS_OK).tolist():
        try:
            frames = store.read(position)
        except StoreError as error:
            yield str(error)
            continue
        report.samples_read += 1
        total = int(frames.sum(dtype=np.int64))
        if exact and store.n_saturated[position] == 0 and total != store.n_events[position]:
            yield f"sample {position}: {total} counts in its frames, n_events is {store.n_events[position]}"
        if largest is not None and frames.max() > largest:
            yield f"sample {position}: holds {frames.max()}, its levels end at {largest}"
        if progress is not None:
            progress(report.samples_read, len(store))


def _counts_are_exact(store: FrameStore) -> bool:
    """Say whether the frames of an unsaturated sample add up to the number of its events."""
    binning = store.attributes["binning"]
    return not store.planes and binning["value"] == "count" and binning["resize"] == "direct"


def _source_problems(
    store: FrameStore, root: Path, report: CheckReport, progress: Progress | None
) -> Iterator[str]:
    """Decode every converted recording again and compare it with what is stored."""
    if not root.is_dir():
        raise StoreError(f"{root}: no folder of recordings to compare {store.path} with")
    read, binning = stored_settings(store.attributes)
    sources = read_sources(store.path)
    for position in np.flatnonzero(store.status == STATUS_OK).tolist():
        source = sources[int(store.source_index[position])]
        problem = _source_problem(store, position, root, source, read, binning)
        if problem:
            yield problem
        report.recordings_compared += 1
        if progress is not None:
            progress(report.recordings_compared, len(store))


def _source_problem(
    store: FrameStore,
    position: int,
    root: Path,
    source: dict[str, Any],
    read: ReadOptions,
    binning: BinSettings,
) -> str | None:
    dataset = store.attributes["dataset"]
    if is_file_of_its_own(dataset):
        if not (root / source["path"]).is_file():
            return f"{source['path']}: missing in {root}"
        if f"{file_crc32c(root / source['path']):08x}" != source["crc32c"]:
            return f"{source['path']}: its content changed since the conversion"
    try:
        recording = open_sample(dataset, root, source["path"], read)
        if not is_file_of_its_own(dataset) and f"{sample_crc32c(recording):08x}" != source["crc32c"]:
            return f"{source['path']}: its content changed since the conversion"
        frames = bin_recording(recording, binning, t_range_us=row_time_range(source))
        stored = store.read(position)
    except EventsError as error:
        return str(error)
    if not np.array_equal(frames.frames, stored):
        return f"{source['path']}: decoding it again gives other frames than sample {position}"
    return None


def stored_settings(attributes: dict[str, Any]) -> tuple[ReadOptions, BinSettings]:
    """Return how a store's recordings were read and binned."""
    return stored_read_options(attributes["read"]), stored_binning(attributes["binning"])

"""Checking a store of events: is everything there, undamaged, and what its recordings give?"""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np

from events.datasets.tonic import is_tonic
from events.errors import EventsError, StoreError
from events.recording import EVENT_DTYPE, Recording
from events.store.check import CheckReport, Level, Progress
from events.store.event_layout import CHUNK
from events.store.event_parts import event_shards, places_of, shard_problems
from events.store.event_reader import EventStore, StoredRecording
from events.store.layout import row_time_range, stored_read_options
from events.store.millisecond_index import MillisecondIndex
from events.store.samples import open_sample, sample_crc32c


def check_event_store(
    path: Path | str, *, level: Level = "full", against: Path | None = None, progress: Progress | None = None
) -> CheckReport:
    """Check a finished store of events.

    `fast`: manifest, and length of all shard files. `index`: also their CRC-32C. `full`: also each event
    is decompressed.

    Args:
        path: The store.
        level: How far to look.
        against: Folder of the recordings; each is compared by CRC-32C, decoded again and compared.
        progress: Called with recordings done and all recordings.

    Raises:
        StoreError: There is no finished store of this schema at the path.
    """
    store = EventStore(path)
    report = CheckReport(store.path, level, samples=len(store))
    rows = {row["shard"]: row for row in store.rows}
    places, _ = places_of(rows)
    report.shards = sum(event_shards(row) for row in store.rows)
    report.failed_files = sum(not row["ok"] for row in store.rows)
    if len(rows) != len(store) or len(places) != len(store):
        report.problems.append(f"manifest.jsonl: {len(rows)} recordings, expected {len(store)}")
    for number, row in rows.items():
        if row.get("first") != places.get(number):
            report.problems.append(f"manifest.jsonl: recording {number} is not behind the one before it")
            continue
        found = list(shard_problems(store.path, row, places[number], with_contents=level != "fast"))
        report.problems.extend(found)
        if row["ok"] and not found:
            report.problems.extend(_recording_problems(store, number, report, against))
        if progress is not None:
            progress(number + 1, len(store))
    return report


def _recording_problems(
    store: EventStore, number: int, report: CheckReport, against: Path | None
) -> Iterator[str]:
    stored = store.recording(number)
    try:
        if against is not None:
            yield from _source_problems(store, number, stored, against)
            report.recordings_compared += 1
        elif report.level == "full":
            yield from _index_problems(stored)
        else:
            return
        report.samples_read += 1
    except EventsError as error:
        yield str(error)


def _index_problems(stored: StoredRecording) -> Iterator[str]:
    """Decompress a recording and compare its index by time with one made anew."""
    index, events = MillisecondIndex(), 0
    for chunk in stored.chunks(count=CHUNK):
        index.add(chunk["t"], events)
        events += len(chunk)
    if not np.array_equal(index.positions(), stored.ms_index()):
        yield f"{stored.path}: its ms_index does not fit its times; convert again with --overwrite"


def _source_problems(store: EventStore, number: int, stored: Recording, root: Path) -> Iterator[str]:
    """Decode a recording again and compare it event by event with what is stored."""
    if not root.is_dir():
        raise StoreError(f"{root}: no folder of recordings to compare {store.path} with")
    source, dataset = store.sources[number], store.attributes["dataset"]
    if not is_tonic(dataset) and not (root / source["path"]).is_file():
        yield f"{source['path']}: missing in {root}"
        return
    recording = open_sample(dataset, root, source["path"], stored_read_options(store.attributes["read"]))
    start, stop = row_time_range(source) or (None, None)
    again = recording.chunks(count=CHUNK, start_us=start, stop_us=stop)
    nothing = np.empty(0, EVENT_DTYPE)
    pairs = zip_longest(again, stored.chunks(count=CHUNK), fillvalue=nothing)
    same = all(np.array_equal(now, before) for now, before in pairs)
    if f"{sample_crc32c(recording):08x}" != source["crc32c"]:
        yield f"{source['path']}: its content changed since the conversion"
    elif not same:
        yield f"{source['path']}: decoding it again gives other events than recording {number}"

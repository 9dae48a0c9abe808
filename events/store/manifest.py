"""The manifest of a store: one JSON line for each shard that was written, and what became of its files.

Only the driver of a conversion writes it, one line at a time, after the shard's file is in place. So a row
means: this shard was complete. The last line may be torn by a kill; it is ignored, its shard is made again.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from events.errors import StoreError
from events.store.layout import COLUMNS, MANIFEST_NAME, SOURCES_NAME, STATUS_FAILED, STATUS_OK


def read_manifest(store: Path) -> dict[int, dict[str, Any]]:
    """Return the latest row of each shard. A shard converted again has a later row, which counts.

    Raises:
        StoreError: A line other than a torn last one is no JSON object.
    """
    return {row["shard"]: row for row in _read_lines(store / MANIFEST_NAME)}


def read_sources(store: Path) -> list[dict[str, Any]]:
    """Return the rows of `sources.jsonl`, one for each recording in listing order."""
    return _read_lines(store / SOURCES_NAME)


def json_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    text = path.read_bytes()
    lines = text.split(b"\n")
    # What follows the last newline was never finished.
    lines.pop()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise StoreError(
                f"{path}: line {number} is no JSON ({error}); "
                "delete that line, its shard is then converted again"
            ) from None
    return rows


class ManifestWriter:
    """Appends rows to the manifest; each is on disk when `append` returns."""

    def __init__(self, store: Path) -> None:
        self._path = store / MANIFEST_NAME

    def __enter__(self) -> Self:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        self._end = _end_of_last_line(self._descriptor)
        return self

    def append(self, *rows: Mapping[str, Any]) -> None:
        """Add the rows of shards that have just been put in place."""
        line = json_lines(rows)
        # A line that did not fit on a full disk is cut off again, so that the next one starts clean.
        os.ftruncate(self._descriptor, self._end)
        written = os.pwrite(self._descriptor, line, self._end)
        while written < len(line):
            written += os.pwrite(self._descriptor, line[written:], self._end + written)
        os.fsync(self._descriptor)
        self._end += len(line)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)


def _end_of_last_line(descriptor: int) -> int:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, 0).rfind(b"\n") + 1


def columns_from_rows(
    rows: Iterable[Mapping[str, Any]], *, samples: int, frames: int
) -> dict[str, np.ndarray]:
    """Return the columns that a conversion fills: status, n_events, n_saturated, t_edges_us.

    Args:
        rows: Manifest rows; samples of shards without a row get status 0 (missing).
        samples: Number of samples N.
        frames: Number of frames T.
    """
    shapes: dict[str, tuple[int, ...]] = {
        "status": (samples,),
        "n_events": (samples,),
        "n_saturated": (samples,),
    }
    shapes["t_edges_us"] = (samples, frames + 1)
    columns = {name: np.zeros(shape, COLUMNS[name].dtype) for name, shape in shapes.items()}
    for row in rows:
        for position, file in enumerate(row["files"], start=row["first_sample"]):
            if not file["ok"]:
                columns["status"][position] = STATUS_FAILED
                continue
            columns["status"][position] = STATUS_OK
            columns["n_events"][position] = file["events"]
            columns["n_saturated"][position] = file["saturated"]
            columns["t_edges_us"][position] = file["t_edges_us"]
    return columns


def failed_files(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the manifest entries of the files that could not be converted, ordered by source index."""
    failed = [file for row in rows for file in row["files"] if not file["ok"]]
    return sorted(failed, key=lambda file: file["source"])


def with_contents(
    sources: Sequence[Mapping[str, Any]], rows: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the source rows with the CRC-32C each file had when it was read; None where it was not."""
    contents = {file["source"]: file.get("crc32c") for row in rows for file in row["files"]}
    return [dict(source) | {"crc32c": contents.get(index)} for index, source in enumerate(sources)]

"""What a conversion has done: progress while it runs, a summary at its end."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from events.binning.settings import BinSettings
from events.store.manifest import failed_files
from events.store.plan import Plan
from events.store.task import job_files


@dataclass(frozen=True)
class ConvertProgress:
    """How far a conversion is; counts of this run, files of earlier runs are only in `files_before`."""

    files_total: int
    files_before: int
    files_ok: int
    files_failed: int
    events: int
    bytes_written: int
    seconds: float


@dataclass(frozen=True)
class FileFailure:
    """A recording that could not be converted: why, and at which byte where that is known."""

    path: str
    error: str
    byte: int | None


@dataclass(frozen=True)
class Summary:
    """What a conversion to a store did.

    Attributes:
        path: The store.
        files, ok, failed: Recordings in all, converted, and not to be read.
        damaged: Converted recordings in which a reader passed over damage.
        events: Events in the store.
        seconds: Wall time of this run.
        failures: One for each failed recording.
        warnings: What a person should know, one line each.
    """

    path: Path
    files: int
    ok: int
    failed: int
    damaged: int
    events: int
    seconds: float
    failures: tuple[FileFailure, ...]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain JSON types."""
        return asdict(self) | {"path": str(self.path)}


@dataclass(frozen=True)
class ConvertSummary(Summary):
    """What a conversion to frames did.

    Attributes:
        shards_written, shards_kept: Shards made by this run, and found finished.
        windows: Whether samples are windows of recordings; their recordings that are left out are among the
            failures, but not counted in `failed`.
        saturated_pixels, saturated_samples: Pixels that reached the largest value, and samples with any.
        bytes_written: Bytes of the shards made by this run.
        frame_bytes: Bytes of all shards.
    """

    shards_written: int
    shards_kept: int
    saturated_pixels: int
    saturated_samples: int
    bytes_written: int
    frame_bytes: int
    windows: bool = False


@dataclass(frozen=True)
class EventsSummary(Summary):
    """What a conversion to an event store did.

    Attributes:
        kept: Recordings that an earlier run had converted.
        stored_bytes: Bytes of all shards.
    """

    kept: int
    stored_bytes: int


ProgressCallback = Callable[[ConvertProgress], None]


class Meter:
    """Adds up what this run has done and reports it after each shard."""

    def __init__(
        self,
        plan: Plan,
        kept: Mapping[int, Mapping[str, Any]],
        started: float,
        callback: ProgressCallback | None,
    ) -> None:
        before = sum(len(row["files"]) for row in kept.values())
        self._state = ConvertProgress(len(plan.order), before, 0, 0, 0, 0, 0.0)
        self._started, self._callback = started, callback
        self._report()

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a shard that was finished in this run."""
        ok, failed = job_files(row)
        self._state = replace(
            self._state,
            files_ok=self._state.files_ok + ok,
            files_failed=self._state.files_failed + failed,
            events=self._state.events + sum(file.get("events", 0) for file in row["files"]),
            bytes_written=self._state.bytes_written + row["bytes"],
        )
        self._report()

    def _report(self) -> None:
        if self._callback is not None:
            self._callback(replace(self._state, seconds=time.perf_counter() - self._started))


def summarise(
    plan: Plan,
    dst: Path,
    rows: Sequence[Mapping[str, Any]],
    *,
    kept: int,
    pending: Sequence[int],
    seconds: float,
) -> ConvertSummary:
    """Return the summary of a finished conversion.

    Args:
        plan: What was asked for.
        dst: The store.
        rows: Manifest rows of all shards.
        kept: Shards found finished.
        pending: Numbers of the shards made by this run.
        seconds: Wall time of this run.
    """
    files = [file for row in rows for file in row["files"]]
    failed = failed_files(rows)
    failures = tuple(FileFailure(*left_out, None) for left_out in plan.listing.left_out) + _failures(failed)
    saturated = [file["saturated"] for file in files if file["ok"] and file["saturated"]]
    damaged = sum("damage" in file for file in files)
    return ConvertSummary(
        path=dst,
        files=len(files),
        ok=len(files) - len(failed),
        failed=len(failed),
        damaged=damaged,
        shards_written=len(pending),
        shards_kept=kept,
        events=sum(file["events"] for file in files if file["ok"]),
        saturated_pixels=sum(saturated),
        saturated_samples=len(saturated),
        bytes_written=sum(row["bytes"] for row in rows if row["shard"] in set(pending)),
        frame_bytes=sum(row["bytes"] for row in rows),
        seconds=seconds,
        failures=failures,
        windows=plan.boxes is not None,
        warnings=_warnings(plan.config.binning, len(saturated), sum(saturated), damaged),
    )


def _failures(failed: Sequence[Mapping[str, Any]]) -> tuple[FileFailure, ...]:
    """Return failed samples; those of one file for one reason, such as all windows of a recording, as one."""
    counts = Counter((file["path"], file["error"], file["byte"]) for file in failed)
    return tuple(
        FileFailure(path, error if count == 1 else f"{error} ({count} samples)", byte)
        for (path, error, byte), count in counts.items()
    )


def _warnings(binning: BinSettings, samples: int, pixels: int, damaged: int) -> tuple[str, ...]:
    warnings = []
    if samples and binning.cutoff is None:
        largest = np.iinfo(binning.dtype).max
        advice = "; convert with --dtype uint16 to keep them" if binning.dtype == "uint8" else ""
        warnings.append(f"{pixels} pixels in {samples} samples have more than {largest} events{advice}")
    return (*warnings, *damage_warning(damaged))


def damage_warning(damaged: int) -> tuple[str, ...]:
    """Return the line that tells of recordings in which damage was passed over; none without any."""
    if not damaged:
        return ()
    return (f"{damaged} recordings are damaged and were read as far as possible; see manifest.jsonl",)

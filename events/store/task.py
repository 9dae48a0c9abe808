"""The unit of parallel work: turn some recordings into one whole shard file.

A task reads its recordings and writes its shard itself; only small dictionaries travel. It is idempotent and
its result depends on nothing but its job, so a task that was lost with its worker is simply run again.
"""

import errno
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from events.binning.chunked import bin_chunked
from events.binning.fused import bin_fused
from events.binning.numba_cpu import bin_events
from events.binning.settings import BinSettings, Frames
from events.binning.window import window_before
from events.binning.window_numba import bin_window
from events.datasets.detection.rvt import RvtFrames
from events.datasets.images.picture import Picture
from events.errors import ConfigError, DamagedRecording, EventsError, StoreError
from events.recording import EVENT_DTYPE, EventBuffer, FileReport, ReadOptions, Recording
from events.seek import Range
from events.store.layout import Codec, shard_name, time_range_entry
from events.store.samples import open_sample, sample_crc32c
from events.store.shard import encode_sample, shard_parts, write_atomically

# Larger files, and parts of them with more events, are read twice by chunks, instead of once into memory.
LARGE_BYTES, LARGE_EVENTS = 1 << 26, 1 << 22

# How far back the events of a window of so many are looked for first; then four times as far, and so on.
FIRST_LOOK_US = 100_000

# What a store keeps of a report on a damaged file.
DAMAGE_FIELDS = ("partial_records", "out_of_sensor", "bytes_skipped", "first_damage_byte")


class JobSource(NamedTuple):
    """One sample of a shard.

    Attributes:
        source: Its index in the listing.
        path: Its file, relative to the root.
        t_range_us: The part of the file that it is, [start, stop); None is all of it.
    """

    source: int
    path: str
    t_range_us: tuple[int, int] | None = None


@dataclass(frozen=True)
class ShardJob:
    """What a worker must know to make one shard.

    Attributes:
        store: The store; the same path on every worker.
        shard: Number of the shard.
        slots: Samples a full shard holds.
        dataset: Name of the data set.
        root: Folder of the recordings.
        sources: Each sample in stored order.
        read: How the recordings are read.
        binning: How they become frames.
        frame_shape: (T, P, H, W) of every sample.
        codec: Codec preset.
    """

    store: str
    shard: int
    slots: int
    dataset: str
    root: str
    sources: tuple[JobSource, ...]
    read: ReadOptions
    binning: BinSettings
    frame_shape: tuple[int, int, int, int]
    codec: Codec


def convert_shard(job: ShardJob) -> dict[str, Any]:
    """Make one shard file and return its manifest row.

    A recording that cannot be read is data: it is listed with its reason and leaves its slot empty.

    Raises:
        StoreError: The shard could not be written, for example because the disk is full.
    """
    started = time.perf_counter()
    encoded: list[bytes | None] = []
    files = []
    read_bytes = 0
    scratch = _scratch(job)
    for source in job.sources:
        sample, entry = _convert_file(job, source, scratch)
        encoded.append(sample)
        part = time_range_entry(source.t_range_us)
        files.append({"source": source.source, "path": source.path} | part | entry)
        read_bytes += entry.get("bytes", 0)
    path = Path(job.store) / "frames" / shard_name(job.shard)
    size, crc = write_shard(path, encoded, slots=job.slots)
    return {
        "shard": job.shard,
        "first_sample": job.shard * job.slots,
        "bytes": size,
        "crc32c": f"{crc:08x}",
        "source_bytes": read_bytes,
        "seconds": round(time.perf_counter() - started, 3),
        "host": socket.gethostname(),
        "files": files,
    }


def write_shard(path: Path, encoded: list[bytes | None], *, slots: int) -> tuple[int, int]:
    """Write a shard file whole and return its length in bytes and its CRC-32C.

    Raises:
        StoreError: The file could not be written; says why and what to do.
    """
    try:
        return write_atomically(path, shard_parts(encoded, slots=slots))
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> StoreError:
    """Return the error that says why a file of a store could not be written."""
    again = "and run the same command again, it continues where it stopped"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        advice = f"free some space {again}"
    elif error.errno in (errno.ENOTDIR, errno.EEXIST):
        advice = "a file is in the way; choose another destination"
    else:
        advice = f"make the folder writable {again}"
    return StoreError(f"{path}: cannot write: {error.strerror}; {advice}")


@dataclass
class Scratch:
    """Memory that one file after another uses: the first touch of new memory costs more than the work.

    Attributes:
        events: For the events of a recording.
        frames: Shape [T, P, H, W].
    """

    events: EventBuffer
    frames: np.ndarray


def _scratch(job: ShardJob) -> Scratch:
    return Scratch(EventBuffer(), np.empty(job.frame_shape, job.binning.dtype))


def _convert_file(job: ShardJob, source: JobSource, scratch: Scratch) -> tuple[bytes | None, dict[str, Any]]:
    """Return the encoded sample, None where the file failed, and its manifest entry."""
    path = Path(job.root) / source.path
    recording = None
    try:
        recording = open_sample(job.dataset, Path(job.root), source.path, job.read)
        frames = bin_recording(recording, job.binning, scratch, t_range_us=source.t_range_us)
        content = sample_crc32c(recording)
    except (EventsError, OSError) as error:
        return None, failed_entry(path, error, recording)
    report = recording.report
    entry = {
        "ok": True,
        "crc32c": f"{content:08x}",
        "bytes": report.bytes_total,
        "events": int(frames.n_events),
        "saturated": int(frames.n_saturated),
        "t_edges_us": frames.t_edges_us.tolist(),
    }
    return encode_sample(frames.frames, job.codec), entry | _damage(report)


def failed_entry(path: Path, error: Exception, recording: Recording | None) -> dict[str, Any]:
    """Return the manifest entry of a file that cannot be read.

    Args:
        path: The file, as errors name it.
        error: Why it cannot be read.
        recording: What was opened of it, if anything.
    """
    byte = recording.report.first_damage_byte if recording is not None else None
    # The entry names the file already, by a path that does not depend on where its folder lies.
    reason = " ".join(str(error).removeprefix(f"{path}: ").split())
    return {"ok": False, "error": reason, "byte": byte}


def _damage(report: FileReport) -> dict[str, Any]:
    """Return what a reader passed over in a damaged but usable file, empty for a sound one."""
    if not report.damaged:
        return {}
    found = {name: getattr(report, name) for name in DAMAGE_FIELDS}
    return {"damage": {name: value for name, value in found.items() if value is not None}}


def bin_recording(
    recording: Recording,
    binning: BinSettings,
    scratch: Scratch | None = None,
    *,
    t_range_us: tuple[int, int] | None = None,
) -> Frames:
    """Read one recording whole, or a part of it, and bin it; a picture is brought to size.

    Args:
        recording: An opened recording.
        binning: How it becomes frames.
        scratch: Memory to use; the frames returned lie in it. None takes new memory.
        t_range_us: Take the events with start <= t < stop only; the file is read to its end all the same,
            so that its report is complete. With `split="window"` its stop ends the window, which may hold
            no events; None begins the window with the first event.

    Raises:
        EventsError: The file cannot be read, holds no events, or its sensor does not fit the scratch frames.
    """
    if isinstance(recording, Picture):
        return recording.frames(binning)
    if isinstance(recording, RvtFrames):
        return recording.frames(binning, t_range_us)
    shape = binning.frame_shape(recording.sensor_hw)
    out = None if scratch is None else scratch.frames
    if out is not None and shape != out.shape:
        raise ConfigError(
            f"{recording.path}: a sensor of {shape[2]} x {shape[3]} pixels, the store is for "
            f"{out.shape[2]} x {out.shape[3]}; set one size for all (--size)"
        )
    if binning.split == "window":
        return _bin_window(recording, binning, out, t_range_us)
    frames = bin_fused(recording, binning, out=out) if t_range_us is None else None
    if frames is None and _is_large(recording, t_range_us):
        frames = bin_chunked(recording, binning, t_range_us=t_range_us)
    if frames is not None:
        return frames
    if t_range_us is not None:
        events = _read_part(recording, t_range_us)
    else:
        events = recording.read() if scratch is None else recording.read_into(scratch.events)
    if len(events) == 0:
        raise _no_events(recording)
    return bin_events(events, settings=binning, sensor_hw=recording.sensor_hw, out=out)


def _bin_window(
    recording: Recording, binning: BinSettings, out: np.ndarray | None, t_range_us: tuple[int, int] | None
) -> Frames:
    """Bin the window that ends with a range, or that begins with the first event."""
    if t_range_us is None:
        events = recording.read()
        if len(events) == 0:
            raise _no_events(recording)
        stop_us = int(events["t"].min()) + (binning.window_us or 0)
    else:
        stop_us = t_range_us[1]
        events = _read_window(recording, binning, stop_us)
    return bin_window(events, settings=binning, sensor_hw=recording.sensor_hw, stop_us=stop_us, out=out)


def _read_window(recording: Recording, binning: BinSettings, stop_us: int) -> np.ndarray:
    """Return the events of a window; of one of so many, at least those, from no further back than needed."""
    earliest_us, behind_us = window_before(stop_us, binning)
    start_us, enough = earliest_us, binning.window_events
    if enough is not None:
        start_us = max(earliest_us, stop_us - FIRST_LOOK_US)
    while True:
        parts = [chunk.copy() for chunk in recording.chunks(start_us=start_us, stop_us=behind_us)]
        if enough is None or start_us == earliest_us or sum(map(len, parts)) >= enough:
            return np.concatenate(parts) if parts else np.empty(0, EVENT_DTYPE)
        start_us = max(earliest_us, stop_us - 4 * (stop_us - start_us))


def _no_events(recording: Recording) -> DamagedRecording:
    size = recording.report.bytes_total
    return DamagedRecording(f"{recording.path}: holds no events ({size} bytes); get the file again")


def _is_large(recording: Recording, t_range_us: tuple[int, int] | None) -> bool:
    """Whether a recording, or a part of it, is too large to be held in memory."""
    if recording.report.bytes_total <= LARGE_BYTES or t_range_us is None:
        return recording.report.bytes_total > LARGE_BYTES
    runs = recording.index().runs(Range(*t_range_us))
    return sum(run[-1].stop_event - run[0].first_event for run in runs) > LARGE_EVENTS


def _read_part(recording: Recording, t_range_us: tuple[int, int]) -> np.ndarray:
    """Return the events of a part of a recording, shape [N], EVENT_DTYPE.

    Raises:
        DamagedRecording: The part holds none, or as `Recording.chunks`.
    """
    start, stop = t_range_us
    parts = [chunk.copy() for chunk in recording.chunks(start_us=start, stop_us=stop)]
    if not parts:
        raise empty_part(recording, t_range_us)
    return np.concatenate(parts)


def empty_part(recording: Recording, t_range_us: tuple[int, int]) -> DamagedRecording:
    """Return the error of a part of a recording without events."""
    start, stop = t_range_us
    return DamagedRecording(
        f"{recording.path}: holds no events from {start} to {stop} us; "
        f"it has times from {recording.report.t_first_us} to {recording.report.t_last_us}"
    )


def warm_up(job: ShardJob) -> None:
    """Compile or load everything a task needs by binning its smallest recording, without writing anything.

    A large one is not worth it: reading it once more takes longer than compiling while it is read.
    """
    sizes = {source: _file_bytes(Path(job.root) / source.path) for source in job.sources}
    smallest = min(sizes, key=sizes.__getitem__, default=None)
    if smallest is not None and sizes[smallest] <= LARGE_BYTES:
        _convert_file(job, smallest, _scratch(job))


def _file_bytes(path: Path) -> int:
    """Return a file's size; 0 for a sample that is no file."""
    return path.stat().st_size if path.is_file() else 0


def job_files(row: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many files of a manifest row were converted, and how many failed."""
    ok = sum(file["ok"] for file in row["files"])
    return ok, len(row["files"]) - ok

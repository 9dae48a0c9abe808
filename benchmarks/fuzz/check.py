"""What must hold for any bytes at all: an error of ours or events of the sensor, soon, in bounded memory."""

import faulthandler
import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import events.seek
from events.errors import EventsError
from events.readers import aedat4_seek, hdf5_blocks
from events.readers.registry import READERS, open_recording
from events.recording import ReadOptions, Recording

# Seconds for one file. Some milliseconds do, but the first may have to compile.
SECONDS = 120
# Memory: four times the file, and what buffers of a fixed size take (a chunk is 16 MiB).
MEMORY_TIMES = 4
MEMORY_FIXED = 48 << 20
CHUNK = 1 << 12
# Events before a bookmark.
FEW = 40
# Events of a file of which ranges are compared with the whole.
MOST_KEPT = 1 << 11
# Events in a block of an index, few, that even these have some.
BLOCK_EVENTS = 64


class Broken(AssertionError):
    """A reader did what no reader may."""


def check(path: Path, *, formats: tuple[str | None, ...]) -> int:
    """Read a file under every damage policy; return the events of the most lenient.

    A file that takes longer than `SECONDS` ends the process with a traceback.

    Raises:
        Broken: Something that must hold does not.
        Exception: Anything but an `EventsError` is a fault too.
    """
    count = 0
    for format in formats:
        for damage in ("strict", "skip", "salvage"):
            options = ReadOptions(format=format, damage=damage, columns="t:us,x,y,p")
            faulthandler.dump_traceback_later(SECONDS, exit=True, file=sys.stderr)
            before = start_peak()
            try:
                count = read(path, options)
            except EventsError as error:
                if "\n" in str(error) or not str(error):
                    raise Broken(f"message is not one line: {str(error)!r}") from error
            finally:
                peak = resident("VmHWM") - before
                faulthandler.cancel_dump_traceback_later()
            if peak > MEMORY_TIMES * path.stat().st_size + MEMORY_FIXED:
                raise Broken(f"{peak} bytes of memory for a file of {path.stat().st_size}")
    return count


def start_peak() -> int:
    """Forget the peak of resident memory so far; return what is resident now. See proc(5), clear_refs."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def resident(field: str) -> int:
    """Return bytes of resident memory, whoever took them: VmRSS now, VmHWM at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024


def read(path: Path, options: ReadOptions) -> int:
    """Read a recording in small chunks and check what comes; return how many events."""
    recording = open_recording(path, options)
    height, width = recording.sensor_hw
    count, kept = 0, []
    for chunk in recording.chunks(count=CHUNK):
        if len(chunk) == 0 or int(chunk["x"].max()) >= width or int(chunk["y"].max()) >= height:
            raise Broken(f"a chunk of {len(chunk)} events that are not all on the sensor of {height}x{width}")
        count += len(chunk)
        if count <= MOST_KEPT:
            kept.append(chunk.copy())
    report = recording.report
    if report.events != count:
        raise Broken(f"report says {report.events} events of {count}")
    if recording.format not in READERS or not 0 <= report.bytes_read <= report.bytes_total:
        raise Broken(f"{recording.format}: read {report.bytes_read} of {report.bytes_total} bytes")
    if report.first_damage_byte is not None and options.damage == "strict":
        raise Broken(f"strict, and yet damage at byte {report.first_damage_byte} raised nothing")
    json.dumps(report.as_dict())
    recording.triggers()
    if count:
        go_on(open_recording(path, options), count, report.as_dict())
    if 0 < count <= MOST_KEPT:
        with (
            mock.patch.object(events.seek, "BLOCK_EVENTS", BLOCK_EVENTS),
            mock.patch.object(aedat4_seek, "BLOCK_EVENTS", BLOCK_EVENTS),
            mock.patch.object(hdf5_blocks, "ROWS_AT_A_TIME", BLOCK_EVENTS),
        ):
            seek(open_recording(path, options), np.concatenate(kept))
    return count


def go_on(recording: Recording, count: int, report: dict[str, Any]) -> None:
    """Check that reading on from a bookmark gives the rest, and the report of the whole."""
    reading = recording.decode_chunks(max_events=FEW)
    before, place = len(next(reading)), recording.bookmark()
    reading.close()
    if place is None:
        return
    after = sum(len(chunk) for chunk in recording.decode_from(place, max_events=CHUNK))
    if before + after != count or recording.report.as_dict() != report:
        raise Broken(
            f"{before} events, and {after} from a bookmark on, of {count}: {recording.report}, {report}"
        )


def seek(recording: Recording, whole: np.ndarray) -> None:
    """Check that a range holds the events of the whole that lie in it, read through and by the index.

    A recording whose own table leads to a range may hold other events than the table tells of elsewhere:
    all that lie in the range is what can be asked.
    """
    start, stop = len(whole) // 3, len(whole) - len(whole) // 3
    start_us, stop_us = np.quantile(whole["t"], (0.4, 0.6), method="nearest").tolist()
    in_time = (whole["t"] >= start_us) & (whole["t"] < stop_us)
    ranges = [
        ({"start_event": start, "stop_event": stop}, whole[start:stop]),
        ({"start_us": start_us, "stop_us": stop_us}, whole[in_time]),
        ({"start_us": start_us}, whole[whole["t"] >= start_us]),
    ]
    for limits, wanted in ranges * 2:
        found = np.concatenate([whole[:0], *(chunk.copy() for chunk in recording.chunks(**limits))])
        if any("not read through" in note for note in recording.report.notes):
            late = "stop_us" in limits and np.any(found["t"] >= stop_us)
            if late or ("start_us" in limits and np.any(found["t"] < start_us)):
                raise Broken(f"{limits} gives events outside it")
        elif not np.array_equal(found, wanted):
            raise Broken(f"{limits} gives {len(found)} events of {len(wanted)}: {recording.report}")

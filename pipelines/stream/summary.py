"""What looking at a recording came to: JSON and a picture of the latencies."""

import json
import os
import resource
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from events.recording import Recording
from events.writers.atomic import atomic_file
from pipelines.stream.detector import StreamNetwork
from pipelines.stream.latency import Latencies
from pipelines.stream.pace import Pace
from pipelines.stream.settings import StreamFiles, StreamSettings
from pipelines.stream.windows import CutCounts


@dataclass
class Totals:
    """How much was found."""

    windows: int = 0
    boxes: int = 0
    tracks: int = 0


def summarise(
    network: StreamNetwork,
    recording: Recording,
    settings: StreamSettings,
    files: StreamFiles,
    counts: CutCounts,
    totals: Totals,
    latencies: Latencies,
    pace: Pace,
    wall_s: float,
) -> dict[str, Any]:
    """Return what was done as plain JSON types. Times of a recording are on its own clock."""
    recorded_s = 0.0
    if pace.first_us is not None and pace.last_us is not None:
        recorded_s = (pace.last_us - pace.first_us) / 1e6
    busy_s = wall_s - pace.slept_s
    found = latencies.as_dict()
    return {
        "recording": str(recording.path),
        "run": network.name,
        "settings": asdict(settings),
        "windows": totals.windows,
        "boxes": totals.boxes,
        "tracks": totals.tracks,
        "recorded_s": recorded_s,
        "wall_s": wall_s,
        "busy_s": busy_s,
        # Above 1 it is faster than the events come.
        "real_time_factor": recorded_s / busy_s if busy_s > 0 else None,
        "events": counts.events,
        "events_per_s": counts.events / busy_s if busy_s > 0 else None,
        **found,
        "deadline_miss_share": found["deadline_misses"] / totals.windows if totals.windows else None,
        "dropped_windows": pace.dropped,
        "dropped_events": pace.dropped_events,
        "joined_windows": pace.joined,
        "late_events": counts.late_events,
        "clock_leaps": counts.clock_leaps,
        "windows_back": counts.windows_back,
        "notes": [*counts.notes, *recording.report.notes],
        "report": recording.report.as_dict(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "files": [str(path) for path in files.all()],
    }


def write_summary(
    files: StreamFiles, summary: dict[str, Any], latencies: Latencies, settings: StreamSettings
) -> None:
    """Write the JSON, and the picture where one is wanted."""
    if files.latency is not None:
        from pipelines.report.latency import draw_latency

        speed = settings.pace.speed or 1.0
        step_us = settings.cut.step_us
        deadline_ms = settings.deadline_ms or (None if step_us is None else step_us / 1e3 / speed)
        title = f"{Path(summary['recording']).name}: {summary['windows']} windows"
        with atomic_file(files.latency) as stream:
            draw_latency(stream, latencies, deadline_ms=deadline_ms, title=title)
    with atomic_file(files.summary) as stream:
        stream.write(json.dumps(summary, indent=2).encode() + b"\n")

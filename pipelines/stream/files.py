"""Boxes as files, written window by window: CSV, Prophesee's records, JSON lines, MOT tracks.

A file gets its name once it is complete, which it also is where a stream was stopped: until then it is a
temporary file beside. Nothing is kept in memory.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from events.labels.bbox_records import EVENT_BBOX_DTYPE, records_of_table
from events.labels.table import PREDICTED, make_table
from events.writers.atomic import atomic_file
from events.writers.columns import write_header
from pipelines.errors import ExperimentError


@dataclass(frozen=True)
class WindowResult:
    """What was found in a window.

    Attributes:
        number: The window's.
        start_us, stop_us: From where to where it reached; its boxes are those at its end.
        events: How many it had.
        joined: Of how many windows it was made.
        xyxy: In pixels of the sensor, float32, shape [n, 4], best first.
        class_id: int64, shape [n].
        score: float32, shape [n].
        track_id: -1 for none, int64, shape [n].
        latency_s: From its end to its boxes.
        parts_s: Seconds of its parts by name.
    """

    number: int
    start_us: int
    stop_us: int
    events: int
    joined: int
    xyxy: np.ndarray
    class_id: np.ndarray
    score: np.ndarray
    track_id: np.ndarray
    latency_s: float = 0.0
    parts_s: dict[str, float] = field(default_factory=dict)


Write = Callable[[WindowResult], None]


@contextmanager
def csv_file(path: Path, class_names: tuple[str, ...]) -> Iterator[Write]:
    """Give what writes a row for each box: time, corners, class, score, track (empty for none)."""
    with atomic_file(path) as stream:
        stream.write(b"t_us,x0,y0,x1,y1,class_id,class,score,track_id\n")

        def write(found: WindowResult) -> None:
            for xyxy, number, score, track in _rows(found):
                corners = ",".join(f"{value:.2f}" for value in xyxy)
                name = _csv_word(class_names[number])
                of_track = "" if track < 0 else str(track)
                line = f"{found.stop_us},{corners},{number},{name},{score:.4f},{of_track}\n"
                stream.write(line.encode())

        yield write


@contextmanager
def npy_file(path: Path, class_names: tuple[str, ...]) -> Iterator[Write]:
    """Give what writes Prophesee's records of 40 bytes, as in 1Mpx; no track is the largest number."""
    with atomic_file(path) as stream:
        write_header(stream, EVENT_BBOX_DTYPE, 0)
        count = 0

        def write(found: WindowResult) -> None:
            nonlocal count
            if not len(found.score):
                return
            table = make_table(
                np.full(len(found.score), found.stop_us),
                found.xyxy,
                found.class_id,
                track_id=found.track_id,
                score=found.score,
                kind=PREDICTED,
                class_names=class_names,
                where=str(path),
            )
            stream.write(records_of_table(table, where=str(path)).tobytes())
            count += len(table)

        yield write
        stream.seek(0)
        write_header(stream, EVENT_BBOX_DTYPE, count)


@contextmanager
def json_lines_file(path: Path, class_names: tuple[str, ...]) -> Iterator[Write]:
    """Give what writes a line for each window, also without boxes, with what it took."""
    with atomic_file(path) as stream:

        def write(found: WindowResult) -> None:
            boxes = [
                {
                    "xyxy": [round(value, 2) for value in xyxy],
                    "class": class_names[number],
                    "class_id": number,
                    "score": round(score, 4),
                    "track_id": None if track < 0 else track,
                }
                for xyxy, number, score, track in _rows(found)
            ]
            took = {name: round(1e3 * seconds, 3) for name, seconds in found.parts_s.items()}
            line = {
                "window": found.number,
                "start_us": found.start_us,
                "t_us": found.stop_us,
                "events": found.events,
                "joined": found.joined,
                "latency_ms": round(1e3 * found.latency_s, 3),
                "parts_ms": took,
                "boxes": boxes,
            }
            stream.write(json.dumps(line).encode() + b"\n")

        yield write


@contextmanager
def mot_file(path: Path, class_names: tuple[str, ...]) -> Iterator[Write]:
    """Give what writes tracks as MOTChallenge has them; boxes of no track are left out.

    A line is frame, track, left, top, width, height, score, -1, -1, -1; frames, tracks and pixels count from
    1. Source: Milan et al., "MOT16: A benchmark for multi-object tracking", 2016, section 3.3.
    """
    with atomic_file(path) as stream:

        def write(found: WindowResult) -> None:
            for (x0, y0, x1, y1), _, score, track in _rows(found):
                if track >= 0:
                    place = f"{x0 + 1:.2f},{y0 + 1:.2f},{x1 - x0:.2f},{y1 - y0:.2f}"
                    line = f"{found.number + 1},{track + 1},{place},{score:.4f},-1,-1,-1\n"
                    stream.write(line.encode())

        yield write


FILES = {".csv": csv_file, ".npy": npy_file, ".jsonl": json_lines_file, ".txt": mot_file}


def check_names(paths: list[Path]) -> None:
    """Refuse files of boxes of a kind that is not written.

    Raises:
        ExperimentError: A suffix is unknown.
    """
    for path in paths:
        if path.suffix.lower() == ".parquet":
            raise ExperimentError(
                f"{path}: Parquet is not written, its library is no dependency of spikeline; take .csv, .npy "
                "or .jsonl, which pandas and polars read"
            )
        if path.suffix.lower() not in FILES:
            raise ExperimentError(
                f"{path}: no boxes are written as {path.suffix or 'no suffix'!r}; expected .csv, .npy "
                "(Prophesee's records), .jsonl (a line for each window) or .txt (MOT tracks)"
            )


def check_apart(paths: list[Path], *, source: str) -> None:
    """Refuse two files of one name, and the recording's own.

    Raises:
        ExperimentError: There are such.
    """
    taken = {Path(source).resolve(): "the recording itself"}
    for path in paths:
        other = taken.get(path.resolve())
        if other is not None:
            raise ExperimentError(f"{path}: would overwrite {other}; name another file")
        taken[path.resolve()] = "another file of this command"


def _rows(found: WindowResult) -> Iterator[tuple[list[float], int, float, int]]:
    return zip(
        found.xyxy.tolist(),
        found.class_id.tolist(),
        found.score.tolist(),
        found.track_id.tolist(),
        strict=True,
    )


def _csv_word(text: str) -> str:
    """Return a value of CSV, in quotes where it needs them (RFC 4180)."""
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') else text

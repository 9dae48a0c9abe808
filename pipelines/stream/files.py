"""Boxes as files, written window by window: CSV, Prophesee's records, JSON lines, MOT tracks, Parquet.

A file gets its name once it is complete, which it also is where a stream was stopped: until then it is a
temporary file beside. Nothing is kept in memory, but of Parquet the rows of one group.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from events.labels.bbox_records import EVENT_BBOX_DTYPE, records_of_table
from events.labels.table import PREDICTED, make_table
from events.writers.atomic import atomic_file
from events.writers.columns import write_header
from pipelines.errors import ExperimentError, RunError

# Rows of a group of a Parquet file, at least: 3 MB. Of pyarrow's 2**20 they would be 50, and a group for each
# window of 100 boxes would be more description than boxes.
GROUP_ROWS = 2**16


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


@contextmanager
def parquet_file(path: Path, class_names: tuple[str, ...]) -> Iterator[Write]:
    """Give what writes a row for each box, with the columns of the CSV file; no track is null.

    Columns say their unit and meaning in their metadata; the schema's has the names of all classes, in the
    order of their numbers, as JSON.
    """
    import pyarrow
    from pyarrow import parquet

    schema = _parquet_schema(class_names)
    with atomic_file(path) as stream, parquet.ParquetWriter(stream, schema, compression="zstd") as writer:
        waiting: list[Any] = []
        rows = 0

        def write(found: WindowResult) -> None:
            nonlocal rows
            count = len(found.score)
            if not count:
                return
            kinds = pyarrow.array(found.class_id, pyarrow.int32())
            columns = [
                np.full(count, found.stop_us, np.int64),
                *found.xyxy.astype(np.float32).T,
                kinds,
                pyarrow.DictionaryArray.from_arrays(kinds, list(class_names)),
                found.score.astype(np.float32),
                pyarrow.array(found.track_id, pyarrow.int64(), mask=found.track_id < 0),
            ]
            waiting.append(pyarrow.record_batch(columns, schema=schema))
            rows += count
            if rows >= GROUP_ROWS:
                write_group()

        def write_group() -> None:
            nonlocal rows
            table = pyarrow.Table.from_batches(waiting, schema=schema)
            writer.write_table(table, row_group_size=max(rows, 1))
            waiting.clear()
            rows = 0

        yield write
        if waiting:
            write_group()


def _parquet_schema(class_names: tuple[str, ...]) -> Any:
    import pyarrow

    pixels = pyarrow.float32()
    columns = {
        "t_us": (pyarrow.int64(), "us", "end of the window, on the recording's clock"),
        "x0": (pixels, "px", "left edge"),
        "y0": (pixels, "px", "upper edge"),
        "x1": (pixels, "px", "right edge, no pixel of the box"),
        "y1": (pixels, "px", "lower edge, no pixel of the box"),
        "class_id": (pyarrow.int32(), "1", "number of the class, from 0"),
        "class": (pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), "1", "name of the class"),
        "score": (pyarrow.float32(), "1", "from 0 to 1"),
        "track_id": (pyarrow.int64(), "1", "number of the track, from 0; null is none"),
    }
    return pyarrow.schema(
        [
            pyarrow.field(
                name, kind, nullable=name == "track_id", metadata={"unit": unit, "description": words}
            )
            for name, (kind, unit, words) in columns.items()
        ],
        metadata={"class_names": json.dumps(class_names)},
    )


FILES = {
    ".csv": csv_file,
    ".npy": npy_file,
    ".jsonl": json_lines_file,
    ".txt": mot_file,
    ".parquet": parquet_file,
}


def check_names(paths: list[Path]) -> None:
    """Refuse files of boxes of a kind that is not written.

    Raises:
        ExperimentError: A suffix is unknown.
        RunError: The package that writes it is not installed.
    """
    for path in paths:
        if path.suffix.lower() not in FILES:
            raise ExperimentError(
                f"{path}: no boxes are written as {path.suffix or 'no suffix'!r}; expected .csv, .npy "
                "(Prophesee's records), .jsonl (a line for each window), .txt (MOT tracks) or .parquet"
            )
        if path.suffix.lower() == ".parquet":
            check_package("pyarrow", path, instead=".csv, .npy or .jsonl, which need none")


def check_package(package: str, path: Path, *, instead: str) -> None:
    """Refuse a file that takes a package of the extra `stream` where it is not there.

    Raises:
        RunError: It is not installed.
    """
    try:
        import_module(package)
    except ImportError:
        raise RunError(
            f"{path}: is written with the package {package}, which is not installed; "
            f"pip install 'spikeline[stream]', or take {instead}"
        ) from None


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

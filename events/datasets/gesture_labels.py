"""Label files of DVS128 Gesture: which parts of a recording are which gesture.

A header, then rows `class,startTime_usec,endTime_usec` with classes from 1; a row is [start, end).
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from events.datasets.problems import join_some
from events.datasets.scan import FoundFile
from events.errors import DatasetError

# By class number from 1, as in the data set's gesture_mapping.csv.
CLASS_NAMES = (
    "hand_clapping",
    "right_hand_wave",
    "left_hand_wave",
    "right_arm_clockwise",
    "right_arm_counter_clockwise",
    "left_arm_clockwise",
    "left_arm_counter_clockwise",
    "arm_roll",
    "air_drums",
    "air_guitar",
    "other_gestures",
)
EVERY_ROW, FIRST_ROW, JOINED_ROWS = "every-row", "first-row", "joined-rows"
SELECTIONS = {
    EVERY_ROW: "a sample for each row of the label files (1,464; SpikingJelly, snnTorch)",
    FIRST_ROW: "only the first row of each class in a recording (at most 1,342, the paper's count)",
    JOINED_ROWS: "rows of one class that follow each other are one sample (at most 1,342)",
}


class Row(NamedTuple):
    """One row of a label file: class from 1, [start, end) in microseconds."""

    gesture: int
    start_us: int
    end_us: int


def read_labels(root: Path, file: FoundFile) -> tuple[Row, ...]:
    """Read one label file.

    Raises:
        DatasetError: A line is no class from 1 to 11 with a start before its end.
    """
    rows = []
    for number, line in enumerate(read_lines(root / file.path), start=1):
        if not line or (number == 1 and not line[0].isdigit()):
            continue
        parts = [part.strip() for part in line.split(",")]
        whole = len(parts) == 3 and all(part.isdecimal() for part in parts)
        row = Row(*map(int, parts)) if whole else None
        if row is None or not 1 <= row.gesture <= len(CLASS_NAMES) or row.start_us >= row.end_us:
            raise DatasetError(
                f"{root / file.path}:{number}: found {line!r}, expected class,startTime_usec,endTime_usec "
                f"with a class from 1 to {len(CLASS_NAMES)} and a start before its end; correct it"
            )
        rows.append(row)
    return tuple(rows)


def read_lines(path: Path) -> list[str]:
    """Return the lines of a small text file without the space around them."""
    try:
        return [line.strip() for line in path.read_text("utf-8-sig", errors="replace").splitlines()]
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def select_rows(rows: Sequence[Row], selection: str) -> tuple[Row, ...]:
    """Return the rows that become samples, in the order of the file."""
    if selection == EVERY_ROW:
        return tuple(rows)
    kept: list[Row] = []
    for row in rows:
        if selection == JOINED_ROWS and kept and kept[-1].gesture == row.gesture:
            kept[-1] = Row(row.gesture, kept[-1].start_us, max(kept[-1].end_us, row.end_us))
        elif selection == JOINED_ROWS or row.gesture not in {earlier.gesture for earlier in kept}:
            kept.append(row)
    return tuple(kept)


def overlap_line(rows: Mapping[str, Iterable[Row]]) -> str | None:
    """Say which rows end after the next one starts; the events between belong to both samples."""
    late = []
    for stem, found in rows.items():
        ordered = sorted(found, key=lambda row: row.start_us)
        if any(a.end_us > b.start_us for a, b in pairwise(ordered)):
            late.append(stem.rpartition("/")[2] + "_labels.csv")
    if not late:
        return None
    return (
        f"rows that end after the next one starts, the events between are in both samples: {join_some(late)}"
    )

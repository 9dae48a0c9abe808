"""The `.mat` files that the MATLAB script test_dvs.m wrote, for people in the middle of a migration.

test_dvs.m calls dat2mat.m on `<class>/cifar10_<class>_<n>.aedat` and saves the result as the variable `out1`
in `<class>/<n>.mat`. Two copies of dat2mat.m are in use, which differ in the matrix:

| layout | from | matrix | polarity |
|---|---|---|---|
| conv_snn | aa-samad/conv_snn | N x 4 uint32: t, x, y, p | 1 ON, 0 OFF |
| tet | brain-intelligence-lab/temporal_efficient_training | N x 6: t, 0, -1, x, y, p | 1 ON, -1 OFF |

TET's matrix is double in MATLAB. MATLAB stores whole doubles as integers, so SciPy loads its files as int32,
and the published loaders index arrays with these columns; so int32 is written here. Time is in microseconds
from the first event, repaired as dat2mat.m does.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.io import savemat

from events.errors import ConfigError, EventsError
from events.readers.aedat_header import VERSION_MARK
from events.readers.registry import open_recording
from events.recording import ReadOptions
from events.writers.atomic import atomic_file

Layout = Literal["conv_snn", "tet"]

VARIABLE = "out1"
READ_OPTIONS = ReadOptions(orientation="dat2mat", timestamps="dat2mat", polarity="on1", damage="skip")
NUMBERED = re.compile(r"cifar10_.+_(\d+)\Z")


@dataclass
class MatSummary:
    """What became of a tree of recordings.

    Attributes:
        written: Files written.
        skipped: Files that were there already.
        failures: Recordings that could not be converted, each with the reason.
    """

    written: int = 0
    skipped: int = 0
    failures: list[tuple[Path, str]] = field(default_factory=list)


def write_mat(src_path: Path | str, dst_path: Path | str, *, layout: Layout = "conv_snn") -> None:
    """Convert one AEDAT recording to a `.mat` file, whole or not at all.

    Raises:
        ConfigError: The layout is unknown.
        EventsError: dat2mat.m could not have read the recording, or the file cannot be written.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"layout {layout!r} is unknown; known are {', '.join(LAYOUTS)}")
    events = open_recording(src_path, READ_OPTIONS).read()
    with atomic_file(Path(dst_path)) as stream:
        savemat(stream, {VARIABLE: LAYOUTS[layout](events)}, format="5", do_compression=True)


def conv_snn_matrix(events: np.ndarray) -> np.ndarray:
    """Return N x 4 uint32: t, x, y, p."""
    return np.stack([events[name].astype(np.uint32) for name in ("t", "x", "y", "p")], axis=1)


def tet_matrix(events: np.ndarray) -> np.ndarray:
    """Return N x 6 int32: t, 0, -1, x, y, p with p = 1 or -1; float64 where a time is 2^31 us or more."""
    matrix = np.zeros((len(events), 6), np.float64)
    matrix[:, 0] = events["t"]
    matrix[:, 2] = -1
    matrix[:, 3] = events["x"]
    matrix[:, 4] = events["y"]
    matrix[:, 5] = np.where(events["p"], 1, -1)
    return matrix.astype(np.int32) if matrix[:, 0].max(initial=0) < 2**31 else matrix


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"conv_snn": conv_snn_matrix, "tet": tet_matrix}


def write_mat_tree(
    src: Path | str,
    dst: Path | str,
    *,
    layout: Layout = "conv_snn",
    progress: Callable[[int, int], None] | None = None,
) -> MatSummary:
    """Convert every AEDAT recording below a folder to a `.mat` file in the same folder below another.

    Recordings are the files whose name ends in `.aedat` or whose content starts as AEDAT's does. Files that
    are there already are left alone, so a stopped run goes on where it was. A recording that cannot be
    converted does not stop the others.

    Args:
        src: Folder of recordings.
        dst: Folder to write to; made where absent.
        layout: See above.
        progress: Called with recordings done and recordings in all.

    Raises:
        ConfigError: The layout is unknown.
        EventsError: There is no such folder, or no recording in it.
    """
    src, dst = Path(src), Path(dst)
    if layout not in LAYOUTS:
        raise ConfigError(f"layout {layout!r} is unknown; known are {', '.join(LAYOUTS)}")
    if not src.is_dir():
        raise EventsError(f"{src}: no such folder; expected one with class folders of .aedat files")
    recordings = sorted(find_recordings(src))
    if not recordings:
        raise EventsError(f"{src}: no AEDAT recording below it; expected .aedat files")
    summary = MatSummary()
    taken: dict[Path, Path] = {}
    for done, path in enumerate(recordings, start=1):
        target = dst / path.relative_to(src).with_name(mat_name(path.stem))
        first = taken.setdefault(target, path)
        try:
            if first != path:
                raise EventsError(f"{path}: would overwrite {target}, made from {first}; rename one of them")
            if target.exists():
                summary.skipped += 1
            else:
                write_mat(path, target, layout=layout)
                summary.written += 1
        except EventsError as error:
            summary.failures.append((path, str(error)))
        if progress is not None:
            progress(done, len(recordings))
    return summary


def find_recordings(folder: Path) -> Iterator[Path]:
    """Yield the AEDAT recordings below a folder; hidden files are left out."""
    for path in folder.rglob("*"):
        if path.name.startswith(".") or not path.is_file():
            continue
        if path.suffix.lower() == ".aedat" or starts_as_aedat(path):
            yield path


def starts_as_aedat(path: Path) -> bool:
    """Whether a file starts with AEDAT's version line."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(VERSION_MARK)) == VERSION_MARK
    except OSError:
        return False


def mat_name(stem: str) -> str:
    """Return the name test_dvs.m gives: the number of a CIFAR10-DVS recording, else the recording's own."""
    numbered = NUMBERED.match(stem)
    return f"{numbered[1]}.mat" if numbered else f"{stem}.mat"

"""Labels in the layout of RVT's preprocessing, which SAST, S5-ViT, SMamba, LEOD and EvRT-DETR read too.

    <sequence>/labels_v2/labels.npz          labels: records of `bbox_records`; objframe_idx_2_label_idx: the
                                             first row of each labelled frame
    <sequence>/labels_v2/timestamps_us.npy   time of each labelled frame

The time of a row is that of its frame. A record whose own time is 0 in a later frame is a pseudo label of
LEOD, which marks them so. Sources: uzh-rpg/RVT, scripts/genx/preprocess_dataset.py; Wuziyi616/LEOD,
data/genx_utils/labels.py.
"""

from pathlib import Path
from typing import Any

import numpy as np

from events.errors import LabelError
from events.labels.bbox_records import TIME_NAMES, UNREADABLE, records_of_table, table_of_records
from events.labels.table import PREDICTED, LabelTable
from events.writers.atomic import atomic_file

FOLDER, LABELS, TIMES = "labels_v2", "labels.npz", "timestamps_us.npy"
ROWS, FRAMES = "labels", "objframe_idx_2_label_idx"


def rvt_folder(path: Path) -> Path | None:
    """Return the folder with labels.npz of a sequence, its `labels_v2` or the file itself; None of others."""
    folders = [path.parent] if path.name == LABELS else [path / FOLDER, path]
    return next((folder for folder in folders if (folder / LABELS).is_file()), None)


def read_rvt(
    path: Path,
    *,
    class_names: tuple[str, ...] = (),
    sensor_hw: tuple[int, int] | None = None,
    kind: int,
) -> LabelTable:
    """Read the labels of a sequence in RVT's layout.

    Args:
        path: The sequence's folder, its `labels_v2`, or `labels.npz`.
        class_names: Names of the classes.
        sensor_hw: Height and width in pixels of the labels: of the full sensor, also beside halved frames.
        kind: Of rows that are no pseudo labels.

    Raises:
        LabelError: A file is missing or damaged, or frames and rows do not fit each other.
    """
    folder = rvt_folder(path)
    if folder is None:
        raise LabelError(f"{path}: has no {FOLDER}/{LABELS}; expected a sequence in RVT's layout")
    if not (folder / TIMES).is_file():
        raise LabelError(f"{folder}: has {LABELS} but no {TIMES}; copy the sequence again")
    try:
        with (folder / LABELS).open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            records, first = archive[ROWS], archive[FRAMES]
        times = np.load(folder / TIMES, allow_pickle=False)
    except UNREADABLE as error:
        raise LabelError(
            f"{folder}: {error}; expected {LABELS} with {ROWS} and {FRAMES}, and {TIMES}"
        ) from None
    bounds = np.append(first.astype(np.int64), len(records))
    if len(times) != len(first) or (len(first) and bounds[0] != 0) or (np.diff(bounds) < 0).any():
        raise LabelError(
            f"{folder}: {len(first)} labelled frames over {len(records)} rows do not fit {len(times)} times "
            f"in {TIMES}; copy the sequence again"
        )
    if len(records) and not len(first):
        raise LabelError(
            f"{folder}: {len(records)} rows belong to no labelled frame; copy the sequence again"
        )
    frame = np.repeat(np.arange(len(first)), np.diff(bounds)[: len(first)])
    rows_t = np.asarray(times, np.int64)[frame]
    own = next((records[name] for name in TIME_NAMES if name in (records.dtype.names or ())), rows_t)
    return table_of_records(
        records,
        where=str(folder / LABELS),
        kind=np.where((own == 0) & (rows_t != 0), PREDICTED, kind),
        times_us=rows_t,
        class_names=class_names,
        sensor_hw=sensor_hw,
    )


def write_rvt(path: Path, labels: LabelTable) -> None:
    """Write labels as `labels_v2` of a sequence folder in RVT's layout; one frame for each time with a box.

    Raises:
        LabelError: A value does not fit its field.
        EventsError: The folder cannot be written to.
    """
    folder = path if path.name == FOLDER else path / FOLDER
    columns: dict[str, Any] = {
        ROWS: records_of_table(labels, variant="1mpx", where=str(folder)),
        FRAMES: labels.frame_ptr[:-1],
    }
    with atomic_file(folder / LABELS) as stream:
        np.savez(stream, **columns)
    with atomic_file(folder / TIMES) as stream:
        np.save(stream, labels.frame_t)

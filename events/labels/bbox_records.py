"""Prophesee's box records, as `_bbox.npy` of Gen1, 1Mpx and eTraM, DSEC-Det's `tracks.npy` and RVT have them.

    variant              fields in the file's order                                        bytes
    Gen1                 ts u8, x y w h f4, class_id u1, confidence f4, track_id u4        33; 40 where padded
    1Mpx, OpenEB, eTraM  t i8, x y w h f4, class_id u4, track_id u4, class_confidence f4   40
    DSEC-Det             t u8, x y w h f4 or f8, class_id u1, class_confidence, track_id, img_name

The order of track and confidence differs, so fields are taken by name alone, whatever their types, offsets
and padding. x and y are the top left corner in pixels. Sources: prophesee-automotive-dataset-toolbox
(src/io/psee_loader.py, src/io/box_loading.py); src/dsec_det/label.py of uzh-rpg/dsec-det.
"""

from pathlib import Path
from typing import Any

import numpy as np

from events.boxes import xywh_to_xyxy, xyxy_to_xywh
from events.errors import LabelError
from events.labels.table import AUTO, MANUAL, LabelTable, make_table
from events.readers.columns import HEADER_ERRORS, ZIP_ERRORS

GEN1_DTYPE = np.dtype(
    [
        ("ts", "<u8"),
        ("x", "<f4"),
        ("y", "<f4"),
        ("w", "<f4"),
        ("h", "<f4"),
        ("class_id", "u1"),
        ("confidence", "<f4"),
        ("track_id", "<u4"),
    ]
)
EVENT_BBOX_DTYPE = np.dtype(
    {
        "names": ["t", "x", "y", "w", "h", "class_id", "track_id", "class_confidence"],
        "formats": ["<i8", "<f4", "<f4", "<f4", "<f4", "<u4", "<u4", "<f4"],
        "offsets": [0, 8, 12, 16, 20, 24, 28, 32],
        "itemsize": 40,
    }
)
DTYPES = {"gen1": GEN1_DTYPE, "1mpx": EVENT_BBOX_DTYPE}

# What NumPy raises of a `.npy` or `.npz` file that is damaged; MemoryError where a header claims too much.
UNREADABLE = (*HEADER_ERRORS, *(error for error in ZIP_ERRORS if error is not OSError), MemoryError)

# The names under which each fact is found; the first is that of the newer files.
TIME_NAMES = ("t", "ts")
SCORE_NAMES = ("class_confidence", "confidence")
NEEDED = ("x", "y", "w", "h", "class_id")

# No sensor is so large; coordinates beyond it are bytes read as something that they are not.
MOST_PX = 1 << 16
# Below this, a float32 that is not 0 has lost digits: no confidence or coordinate, but the bits of a small
# whole number. Source: IEEE 754, binary32, smallest normal number.
SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)


def read_records(path: Path) -> np.ndarray:
    """Return the records of a `.npy` file, shape [M], with named fields.

    Raises:
        LabelError: The file is cut off, holds pickles, or has no named fields.
    """
    try:
        with path.open("rb") as stream:
            records = np.load(stream, allow_pickle=False)
            more = len(stream.read(1)) if isinstance(records, np.ndarray) else 0
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else "it is empty"
        raise LabelError(f"{path}: is no readable .npy of boxes ({reason}); copy it again") from None
    if not isinstance(records, np.ndarray) or records.dtype.names is None or records.ndim != 1:
        found = f"{records.dtype} {list(records.shape)}" if isinstance(records, np.ndarray) else "an archive"
        raise LabelError(
            f"{path}: holds {found} without names of fields, so which column is which cannot be known; "
            f"expected records with t (or ts), {', '.join(NEEDED)}"
        )
    if more:
        raise LabelError(
            f"{path}: has bytes behind its {len(records)} records of {records.dtype.itemsize}; records of "
            "another size were written under this header; write the file again, field by field"
        )
    return records


def table_of_records(
    records: np.ndarray,
    *,
    where: str,
    kind: Any = None,
    times_us: np.ndarray | None = None,
    class_names: tuple[str, ...] = (),
    sensor_hw: tuple[int, int] | None = None,
) -> LabelTable:
    """Return the table of records with named fields, shape [M].

    Args:
        records: The records; fields that are not known are left out.
        where: Begins the message of an error: the file.
        kind: Of the rows; None is MANUAL where the time's name is `ts`, as in Gen1, else AUTO.
        times_us: Times that stand for those of the records, shape [M].
        class_names: Names of the classes.
        sensor_hw: Height and width in pixels.

    Raises:
        LabelError: A field is missing, values cannot be what their names say, or `LabelTable.check` refuses.
    """
    names = records.dtype.names or ()
    time, score = (next((n for n in known if n in names), None) for known in (TIME_NAMES, SCORE_NAMES))
    missing = [name for name in NEEDED if name not in names] + ([] if time else ["t (or ts)"])
    if missing or time is None:
        raise LabelError(
            f"{where}: has no field {', '.join(missing)}; its records of {records.dtype.itemsize} bytes have "
            f"{', '.join(names)}"
        )
    used = [time, *NEEDED, *(name for name in (score, "track_id") if name in names)]
    columns = {name: np.asarray(records[name]) for name in used if name is not None}
    for name, column in columns.items():
        if column.ndim != 1 or column.dtype.kind not in "iuf":
            raise LabelError(f"{where}: field {name} holds {records.dtype[name]}; expected a number in each")
    _refuse_other_bytes(columns, score, where, records.dtype.itemsize)
    xywh = np.column_stack([columns[name].astype(np.float64) for name in ("x", "y", "w", "h")])
    return make_table(
        columns[time] if times_us is None else times_us,
        xywh_to_xyxy(xywh),
        columns["class_id"],
        track_id=_track_ids(columns.get("track_id")),
        score=None if score is None else columns[score],
        kind=(MANUAL if time == "ts" else AUTO) if kind is None else kind,
        class_names=class_names,
        sensor_hw=sensor_hw,
        where=where,
    )


def records_of_table(labels: LabelTable, *, variant: str = "1mpx", where: str = "labels") -> np.ndarray:
    """Return a table as records of a variant, a key of `DTYPES`, shape [M].

    Kind, ignore and coverage are lost. Rows without a track get the largest number that a track can have.

    Raises:
        LabelError: A value does not fit its field.
    """
    records = np.zeros(len(labels), DTYPES[variant])
    xywh = xyxy_to_xywh(labels.xyxy.astype(np.float64))
    time, score = ("ts", "confidence") if variant == "gen1" else ("t", "class_confidence")
    values = dict(zip(("x", "y", "w", "h"), xywh.T, strict=True)) | {
        time: labels.t,
        score: labels.score,
        "class_id": labels.class_id,
        "track_id": np.where(labels.track_id < 0, np.iinfo(np.uint32).max, labels.track_id),
    }
    for name, column in values.items():
        field = records.dtype[name]
        if field.kind in "iu" and len(column):
            limit = np.iinfo(field.str)
            if int(column.min()) < limit.min or int(column.max()) > limit.max:
                raise LabelError(
                    f"{where}: {name} runs from {column.min()} to {column.max()}, which {field} of variant "
                    f"{variant!r} cannot hold; choose another format"
                )
        records[name] = column
    return records


def _track_ids(column: np.ndarray | None) -> np.ndarray | None:
    """Return track ids with -1 where a record has none, written as the largest number of its type."""
    if column is None or column.dtype.kind != "u" or column.dtype.itemsize < 4:
        return column
    missing = column == np.iinfo(column.dtype).max
    ids = np.where(missing, 0, column)
    if int(ids.max(initial=0)) > np.iinfo(np.int64).max:
        return column  # refused, with its values, where the table is made
    return np.where(missing, -1, ids.astype(np.int64))


def _refuse_other_bytes(columns: dict[str, np.ndarray], score: str | None, where: str, size: int) -> None:
    """Refuse records whose values show that they were written under another dtype."""
    written = f"these of {size} bytes were written under the wrong one; write the file again, field by field"
    mixed = f"records of 33 bytes (Gen1) and 40 (1Mpx) have their fields in another order, and {written}"
    for name in (*NEEDED[:4], score):
        values = None if name is None else columns[name]
        if values is None or values.dtype.kind != "f":
            continue
        size_px = np.abs(values[np.isfinite(values)].astype(np.float64))
        tiny = (size_px > 0) & (size_px < SMALLEST_NORMAL)
        if tiny.any() or (size_px > MOST_PX).any():
            worst = size_px[tiny][0] if tiny.any() else size_px.max()
            raise LabelError(f"{where}: {name} holds {worst:.3g}, the bytes of something else; {mixed}")
    if score is None or "track_id" not in columns:
        return
    scores, tracks = columns[score], columns["track_id"]
    if len(scores) and scores.max() > 1 and (scores == np.floor(scores)).all() and tracks.max() <= 1:
        raise LabelError(
            f"{where}: {score} runs to {scores.max():g} and track_id to {tracks.max()}: they are exchanged; "
            f"{mixed}"
        )

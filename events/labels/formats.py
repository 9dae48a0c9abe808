"""Label files of every format, read and written by name; a format is told by content where none is given."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from events.errors import ConfigError, EventsError, LabelError, did_you_mean
from events.labels.bbox_records import read_records, records_of_table, table_of_records
from events.labels.classes import label_set
from events.labels.coco import write_coco
from events.labels.pictures import read_ncaltech101, read_voc, read_yolo
from events.labels.rvt import read_rvt, rvt_folder, write_rvt
from events.labels.table import MANUAL, LabelTable
from events.writers.atomic import atomic_file

NPY_MARK = b"\x93NUMPY"


def read_bbox(
    path: Path,
    *,
    class_names: tuple[str, ...] = (),
    sensor_hw: tuple[int, int] | None = None,
    kind: int | None,
) -> LabelTable:
    """Read a `.npy` of box records; see `events.labels.bbox_records.table_of_records`."""
    records = read_records(path)
    return table_of_records(records, where=str(path), kind=kind, class_names=class_names, sensor_hw=sensor_hw)


READERS: dict[str, Callable[..., LabelTable]] = {
    "bbox": read_bbox,
    "rvt": read_rvt,
    "ncaltech101": read_ncaltech101,
    "voc": read_voc,
    "yolo": read_yolo,
}


def read_labels(
    path: Path | str,
    format: str | None = None,
    *,
    like: str | None = None,
    class_names: tuple[str, ...] | None = None,
    sensor_hw: tuple[int, int] | None = None,
    kind: int | None = None,
    **given: Any,
) -> LabelTable:
    """Read the labels of one recording.

    Args:
        path: A label file; of RVT, the folder of the sequence.
        format: A key of `READERS`; None tells it by content.
        like: Name of a published set, a key of `LABEL_SETS`: its classes, sensor and kind stand where none
            are given.
        class_names: Names of the classes in order.
        sensor_hw: Height and width in pixels.
        kind: MANUAL or AUTO; None is what the set or the format says.
        **given: What a single format takes besides: `t_us` of `voc` and `yolo`; `times_us` and `class_id`
            of `ncaltech101`.

    Raises:
        ConfigError: The format or the set is unknown.
        EventsError: There is no such file.
        LabelError: The file is none of the format, is damaged, or holds what no box can be.
    """
    path = Path(path)
    format = format or identify_labels(path)
    if format not in READERS:
        hint = did_you_mean(format, READERS)
        raise ConfigError(f"label format {format!r} has no reader; known are {', '.join(READERS)}{hint}")
    known = None if like is None else label_set(like)
    if known is not None:
        class_names = known.class_names if class_names is None else class_names
        sensor_hw = known.sensor_hw if sensor_hw is None else sensor_hw
        kind = known.kind if kind is None else kind
    if kind is None and format != "bbox":
        kind = MANUAL
    if sensor_hw is not None:
        given["sensor_hw"] = sensor_hw
    try:
        return READERS[format](path, class_names=tuple(class_names or ()), kind=kind, **given)
    except OSError as error:
        raise EventsError(f"{path}: cannot be read: {error.strerror}; check the name") from None
    except UnicodeDecodeError:
        raise LabelError(f"{path}: is no text; name its format") from None


def identify_labels(path: Path) -> str:
    """Return the format of a label file, a key of `READERS`, from its first bytes.

    Raises:
        EventsError: There is no such file.
        LabelError: It is none of them.
    """
    if rvt_folder(path) is not None:
        return "rvt"
    try:
        with path.open("rb") as stream:
            head = stream.read(1024)
    except OSError as error:
        raise EventsError(f"{path}: cannot be read: {error.strerror}; check the name") from None
    if head.startswith(NPY_MARK):
        return "bbox"
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        return "voc"
    if path.suffix == ".txt" or (head and not head.strip(b"0123456789.eE+- \r\n\t")):
        return "yolo"
    if head[:2] == b"\x02\x00" and len(head) >= 20:
        return "ncaltech101"
    raise LabelError(
        f"{path}: is no label file known here; known are .npy box records, a folder of RVT, annotations of "
        "N-Caltech101, VOC xml and YOLO txt; if it is one of these, name its format"
    )


def write_bbox(path: Path, labels: LabelTable, *, variant: str) -> None:
    """Write `.npy` box records of a variant, a key of `events.labels.bbox_records.DTYPES`.

    Raises:
        LabelError: A value does not fit its field.
        EventsError: The file cannot be written.
    """
    records = records_of_table(labels, variant=variant, where=str(path))
    with atomic_file(path) as stream:
        np.save(stream, records)


def _write_one_coco(path: Path, labels: LabelTable) -> None:
    write_coco(path, {path.stem: labels})


WRITERS: dict[str, Callable[[Path, LabelTable], None]] = {
    "gen1": partial(write_bbox, variant="gen1"),
    "1mpx": partial(write_bbox, variant="1mpx"),
    "rvt": write_rvt,
    "coco": _write_one_coco,
}


def write_labels(path: Path | str, labels: LabelTable, format: str) -> None:
    """Write labels as a format, a key of `WRITERS`; several recordings in one COCO json: `write_coco`.

    Raises:
        ConfigError: The format is unknown.
        LabelError: The format cannot hold a value.
        EventsError: The file cannot be written.
    """
    if format not in WRITERS:
        hint = did_you_mean(format, WRITERS)
        raise ConfigError(f"label format {format!r} has no writer; known are {', '.join(WRITERS)}{hint}")
    WRITERS[format](Path(path), labels)

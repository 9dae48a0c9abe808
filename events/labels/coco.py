"""Labels as one COCO json of any number of recordings, each labelled time as an image.

Source of the format: cocodataset.org/#format-data. Ids begin at 1: pycocotools takes annotation 0 for none.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from events.boxes import xyxy_to_xywh
from events.errors import LabelError
from events.labels.table import KIND_NAMES, LabelTable
from events.writers.atomic import atomic_file


def coco_of_tables(
    tables: Mapping[str, LabelTable], *, times_us: Mapping[str, Sequence[int]] | None = None
) -> dict[str, Any]:
    """Return labels as COCO's dictionary.

    An image has `file_name` RECORDING@T, and besides what COCO has its `recording` and `t_us`; an annotation
    its `track_id`, `score` and `kind`. Rows to be ignored are `iscrowd`. A class's category id is its
    number + 1.

    Args:
        tables: Labels by the name of their recording; all with the same classes and known sensors.
        times_us: Times of images without boxes besides, by recording: where there is none in truth.

    Raises:
        LabelError: Tables of different classes, or a sensor that is not known.
    """
    names = next((table.class_names for table in tables.values()), ())
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for recording, table in tables.items():
        if table.class_names != names:
            raise LabelError(f"{recording}: classes {table.class_names}, the recordings before {names}")
        if table.sensor_hw is None:
            raise LabelError(f"{recording}: the sensor's size is not known, which COCO needs; give it")
        height, width = table.sensor_hw
        empty = np.array((times_us or {}).get(recording, ()), np.int64)
        xywh = xyxy_to_xywh(table.xyxy.astype(np.float64))
        for t in np.union1d(table.frame_t, empty).tolist():
            images.append(
                {
                    "id": len(images) + 1,
                    "file_name": f"{recording}@{t}",
                    "height": height,
                    "width": width,
                    "recording": recording,
                    "t_us": t,
                }
            )
            first, last = np.searchsorted(table.t, [t, t + 1])
            for row in range(first, last):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": len(images),
                        "category_id": int(table.class_id[row]) + 1,
                        "bbox": xywh[row].tolist(),
                        "area": float(xywh[row, 2] * xywh[row, 3]),
                        "iscrowd": int(table.ignore[row]),
                        "track_id": int(table.track_id[row]),
                        "score": float(table.score[row]),
                        "kind": KIND_NAMES[table.kind[row]],
                    }
                )
    known = names or [str(one) for one in range(max([a["category_id"] for a in annotations], default=0))]
    return {
        "info": {"description": "labels of event recordings, by spikeline"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(known, 1)],
    }


def write_coco(
    path: Path,
    tables: Mapping[str, LabelTable],
    *,
    times_us: Mapping[str, Sequence[int]] | None = None,
) -> None:
    """Write labels of recordings as one COCO json; see `coco_of_tables`.

    Raises:
        LabelError: Tables of different classes, or a sensor that is not known.
        EventsError: The file cannot be written.
    """
    data = json.dumps(coco_of_tables(tables, times_us=times_us)).encode()
    with atomic_file(path) as stream:
        stream.write(data)

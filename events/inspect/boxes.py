"""What boxes a store of windows has."""

from typing import Any

import numpy as np

from events.datasets.detection.boxes import WindowBoxes
from events.datasets.detection.windows import LABEL, NEGATIVE, REGULAR
from events.datasets.listing import SPLIT_NAMES
from events.inspect.text import settings_text
from events.store.detection import read_boxes
from events.store.layout import BOXES
from events.store.reader import FrameStore


def boxes_info(store: FrameStore) -> dict[str, Any]:
    """Return what is in the group `boxes` of a store, as plain JSON types.

    Raises:
        StoreError: A column is absent or damaged.
    """
    found = read_boxes(store)
    per_window = np.diff(found.window_ptr)
    empty = (found.why == LABEL) & (per_window == 0)
    return {
        "recordings": store.attributes[BOXES]["recordings"],
        "windows": {
            "before a label": int((found.why == LABEL).sum()),
            "known to be empty": int((found.why == NEGATIVE).sum() + empty.sum()),
            "of which nothing is known": int((found.why == REGULAR).sum()),
        },
        "boxes": len(found.xyxy),
        "ignored": int(found.ignore.sum()),
        "most_in_a_window": int(per_window.max(initial=0)),
        "rules": store.attributes[BOXES]["rules"],
        "side_px": _sides(found),
    }


def boxes_by_class(store: FrameStore) -> dict[str, dict[str, int]]:
    """Return the boxes by class name and split."""
    found = read_boxes(store)
    split = np.repeat(store.split, np.diff(found.window_ptr)).astype(np.int64)
    cells = found.class_id.astype(np.int64) * len(SPLIT_NAMES) + split
    table = np.bincount(cells, minlength=len(store.class_names) * len(SPLIT_NAMES))
    return {
        name: dict(zip(SPLIT_NAMES, row, strict=True))
        for name, row in zip(store.class_names, table.reshape(-1, len(SPLIT_NAMES)).tolist(), strict=True)
    }


def boxes_rows(info: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what `boxes_info` found as pairs of a name and its text."""
    windows = ", ".join(f"{count:,} {why}" for why, count in info["windows"].items() if count)
    sides = info["side_px"]
    sizes = f"; side {sides['smallest']:g} to {sides['largest']:g} px, half below {sides['median']:g}"
    return [
        ("windows", f"{windows}; of {info['recordings']:,} recordings"),
        (
            "boxes",
            f"{info['boxes']:,}, at most {info['most_in_a_window']} in a window, {info['ignored']:,} to be "
            f"ignored{sizes if info['boxes'] else ''}",
        ),
        ("rules", settings_text(info["rules"])),
    ]


def _sides(boxes: WindowBoxes) -> dict[str, float] | None:
    """Return the smallest, middle and largest of the boxes' shorter sides in pixels of the frames."""
    if len(boxes.xyxy) == 0:
        return None
    sides = (boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]).min(axis=1)
    named = {"smallest": sides.min(), "median": np.median(sides), "largest": sides.max()}
    return {name: round(float(value), 1) for name, value in named.items()}

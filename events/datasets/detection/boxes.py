"""The boxes of all windows of a listing, as columns: what a store keeps of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np

from events.datasets.detection.windows import WindowPlan, WindowRules

# Columns with a value for each window, and for each box; those of boxes have `box` as their first axis.
WINDOW_COLUMNS = {"recording": "uint32", "t_end_us": "int64", "why": "uint8"}
BOX_COLUMNS = {
    "xyxy": "float32",
    "class_id": "uint16",
    "track_id": "int64",
    "score": "float32",
    "kind": "uint8",
    "ignore": "uint8",
}


@dataclass(frozen=True, eq=False)
class WindowBoxes:
    """The windows of a listing in order, and their boxes.

    Attributes:
        rules: By which the windows were taken.
        recording: Position of each window's recording in their order, uint32, shape [N].
        t_end_us: Where each window ends on its recording's clock, int64, shape [N].
        why: LABEL, NEGATIVE or REGULAR of `events.datasets.detection.windows`, uint8, shape [N].
        window_ptr: Window i has the boxes window_ptr[i] to window_ptr[i + 1]; int64, shape [N + 1].
        xyxy: Boxes x0, y0, x1, y1 in pixels of the sensor; of the frames once `scaled`; float32 [M, 4].
        class_id, track_id, score, kind, ignore: As in `events.labels.table.LabelTable`, shape [M].
    """

    rules: WindowRules
    recording: np.ndarray
    t_end_us: np.ndarray
    why: np.ndarray
    window_ptr: np.ndarray
    xyxy: np.ndarray
    class_id: np.ndarray
    track_id: np.ndarray
    score: np.ndarray
    kind: np.ndarray
    ignore: np.ndarray

    def columns(self) -> dict[str, np.ndarray]:
        """Return all columns by name, as a store has them."""
        names = [*WINDOW_COLUMNS, "window_ptr", *BOX_COLUMNS]
        return {name: getattr(self, name) for name in names}

    def scaled(self, sensor_hw: tuple[int, int], frame_hw: tuple[int, int]) -> "WindowBoxes":
        """Return the same with boxes in pixels of frames of another size."""
        if tuple(sensor_hw) == tuple(frame_hw):
            return self
        share = np.array([frame_hw[1] / sensor_hw[1], frame_hw[0] / sensor_hw[0]])
        return replace(self, xyxy=(self.xyxy * np.tile(share, 2)).astype(np.float32))

    def identity(self) -> dict[str, Any]:
        """Return counts, rules and a digest of all columns: what decides the store's boxes."""
        digest = sha256()
        for name, column in self.columns().items():
            digest.update(f"{name} {column.dtype.str} {column.shape}\n".encode())
            digest.update(np.ascontiguousarray(column).tobytes())
        return {
            "boxes": len(self.xyxy),
            "recordings": int(self.recording[-1]) + 1 if len(self.recording) else 0,
            "rules": rules_settings(self.rules),
            "sha256": digest.hexdigest(),
        }


def rules_settings(rules: WindowRules) -> dict[str, Any]:
    """Return rules as plain JSON types, without those that are not given."""
    return {name: value for name, value in asdict(rules).items() if value is not None}


def stored_rules(rules: Mapping[str, Any]) -> WindowRules:
    """Return the rules of which a store keeps the `rules_settings`."""
    return WindowRules(**rules)


def join_plans(plans: Sequence[WindowPlan], rules: WindowRules) -> WindowBoxes:
    """Return the windows of recordings, one recording after the other.

    Args:
        plans: One for each recording that has a window, in order.
        rules: By which they were made.
    """
    counts = [plan.box_ptr[:, 1] - plan.box_ptr[:, 0] for plan in plans]
    ends = np.cumsum(_joined(counts, np.int64))
    boxes = {
        name: _joined([getattr(plan.labels, name)[_rows(plan)] for plan in plans], np.dtype(dtype))
        for name, dtype in BOX_COLUMNS.items()
    }
    boxes["xyxy"] = boxes["xyxy"].reshape(-1, 4)
    return WindowBoxes(
        rules=rules,
        recording=np.repeat(np.arange(len(plans), dtype=np.uint32), [len(plan) for plan in plans]),
        t_end_us=_joined([plan.stop_us for plan in plans], np.int64),
        why=_joined([plan.why for plan in plans], np.uint8),
        window_ptr=np.concatenate([np.zeros(1, np.int64), ends]),
        **boxes,
    )


def _rows(plan: WindowPlan) -> np.ndarray:
    """Return the rows of a plan's labels that its windows have, in order."""
    rows = [np.arange(first, last) for first, last in plan.box_ptr.tolist()]
    return np.concatenate(rows) if rows else np.empty(0, np.int64)


def _joined(parts: Iterable[np.ndarray], dtype: Any) -> np.ndarray:
    parts = list(parts)
    return np.concatenate(parts).astype(dtype) if parts else np.empty(0, dtype)

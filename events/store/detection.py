"""Reading a store of windows with boxes: the frames of `events.store.reader`, and the group `boxes` beside.

    boxes/window_ptr  [N + 1]   window i has the boxes window_ptr[i] to window_ptr[i + 1]
    boxes/recording   [N]       position of its recording       boxes/t_end_us  [N]  where it ends
    boxes/why         [N]       0 before a label, 1 known to be empty, 2 nothing known
    boxes/xyxy        [M, 4]    in pixels of the frames
    boxes/class_id track_id score kind ignore  [M]

Windows lie recording after recording, in order of time, so that a network can go through them in order.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from events.datasets.detection.boxes import BOX_COLUMNS, WINDOW_COLUMNS, WindowBoxes, stored_rules
from events.datasets.detection.windows import REGULAR
from events.errors import StoreError
from events.store.columns import read_column
from events.store.layout import BOXES
from events.store.manifest import read_sources
from events.store.reader import FrameStore, open_store


class BoxesOfWindow(NamedTuple):
    """The boxes of one window, views of the store's columns.

    Attributes:
        xyxy: x0, y0, x1, y1 in pixels of the frames, float32, shape [n, 4].
        class_id: Position in the class names, uint16, shape [n].
        track_id: -1 for none, int64, shape [n].
        ignore: Whether a detection of it is neither right nor wrong, bool, shape [n].
    """

    xyxy: np.ndarray
    class_id: np.ndarray
    track_id: np.ndarray
    ignore: np.ndarray


class DetectionStore:
    """A store of windows with boxes, opened by `open_detection_store`.

    Attributes:
        frames: The frames; sample i is window i.
        path: The store.
        class_names: In the order of class numbers.
        sensor_hw: Height and width of the sensor in pixels.
        frame_hw: Height and width of the frames, to which all boxes refer.
        boxes: All columns.
        recording: Position of each window's recording in `recording_names`, uint32, shape [N].
        t_end_us: Where each window ends on its recording's clock, int64, shape [N].
        window_us: Length of a window, or how far back one of so many events may reach.
        t_start_us: Where each window begins, int64, shape [N].
        labelled: Whether the boxes of a window are known, if only that there are none; bool, shape [N].
    """

    def __init__(self, frames: FrameStore) -> None:
        self.frames = frames
        self.path = frames.path
        self.class_names = frames.class_names
        self.sensor_hw = frames.sensor_hw
        self.frame_hw: tuple[int, int] = (frames.shape[3], frames.shape[4])
        self.boxes = read_boxes(frames)
        self.recording, self.t_end_us = self.boxes.recording, self.boxes.t_end_us
        self.window_us = self.boxes.rules.window_us
        self.t_start_us = frames.t_edges_us[:, 0]
        self.labelled = self.boxes.why != REGULAR
        self._ignore = self.boxes.ignore.astype(bool)

    def __len__(self) -> int:
        return len(self.frames)

    def boxes_of(self, index: int) -> BoxesOfWindow:
        """Return the boxes of window `index`; none where it is empty, or nothing is known of it.

        Raises:
            StoreError: There is no such window.
        """
        if not 0 <= index < len(self):
            raise StoreError(f"{self.path}: no window {index}; expected 0 to {len(self) - 1}")
        first, last = self.boxes.window_ptr[index : index + 2].tolist()
        of_all = self.boxes
        return BoxesOfWindow(
            of_all.xyxy[first:last],
            of_all.class_id[first:last],
            of_all.track_id[first:last],
            self._ignore[first:last],
        )

    def indices(self, split_name: str, *, labelled: bool = True) -> np.ndarray:
        """Return the windows of a split whose frames are there, ascending, int64.

        Args:
            split_name: `train`, `validation` or `test`.
            labelled: Leave out windows of which nothing is known.

        Raises:
            StoreError: There is no such split.
        """
        found = self.frames.indices(split_name)
        return found[self.labelled[found]] if labelled else found

    @cached_property
    def recording_names(self) -> tuple[str, ...]:
        """Paths of the recordings, relative to the converted folder, in their order in the store."""
        names = dict.fromkeys(row["path"] for row in read_sources(self.path))
        return tuple(names)

    def __reduce__(self) -> tuple[type["DetectionStore"], tuple[FrameStore]]:
        return DetectionStore, (self.frames,)


def open_detection_store(path: Path | str, *, allow_partial: bool = False) -> DetectionStore:
    """Open a store of windows with boxes.

    Args:
        path: The store's folder.
        allow_partial: Also open a store whose conversion has not finished.

    Raises:
        StoreError: As `events.store.reader.open_store`, or the store has no boxes.
    """
    return DetectionStore(open_store(path, allow_partial=allow_partial))


def has_boxes(store: FrameStore) -> bool:
    """Whether the samples of a store are windows with boxes."""
    return BOXES in store.attributes


def read_boxes(store: FrameStore) -> WindowBoxes:
    """Return the columns of a store's windows and boxes.

    Raises:
        StoreError: It has none, or a column is absent, damaged or of another length.
    """
    if not has_boxes(store):
        raise StoreError(
            f"{store.path}: holds frames without boxes; convert a data set with boxes, such as "
            "`events convert gen1`"
        )
    columns = {
        name: read_column(store.path / BOXES / name) for name in ("window_ptr", *WINDOW_COLUMNS, *BOX_COLUMNS)
    }
    found = WindowBoxes(rules=stored_rules(store.attributes[BOXES]["rules"]), **columns)
    for problem in _misfits(found, len(store)):
        raise StoreError(f"{store.path}/{BOXES}: {problem}; convert again with --overwrite")
    return found


def box_problems(store: FrameStore) -> Iterator[str]:
    """Yield what is wrong with the group `boxes` of a store that should have one."""
    try:
        found = read_boxes(store)
    except StoreError as error:
        yield str(error)
        return
    expected = store.attributes[BOXES]
    if found.identity()["sha256"] != expected["sha256"]:
        yield f"{BOXES}: its columns differ from those that were written"
    height, width = store.shape[3:]
    x0, y0, x1, y1 = found.xyxy.T
    outside = ~((x0 >= 0) & (y0 >= 0) & (x0 < x1) & (y0 < y1) & (x1 <= width) & (y1 <= height))
    if outside.any():
        yield f"{BOXES}: {int(outside.sum())} boxes are empty or reach beyond {height} x {width} pixels"
    if (found.class_id >= len(store.class_names)).any():
        yield f"{BOXES}: classes up to {int(found.class_id.max())}, of {len(store.class_names)}"


def _misfits(boxes: WindowBoxes, windows: int) -> Iterator[str]:
    ptr, count = boxes.window_ptr, len(boxes.xyxy)
    if len(ptr) != windows + 1 or ptr[0] != 0 or ptr[-1] != count or (np.diff(ptr) < 0).any():
        yield f"window_ptr does not lead {windows} windows through {count} boxes"
    for name, column in boxes.columns().items():
        expected = windows if name in WINDOW_COLUMNS else count
        if name != "window_ptr" and len(column) != expected:
            yield f"{name} has {len(column)} rows, expected {expected}"

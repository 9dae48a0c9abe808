"""Golden vectors of boxes, and of events that are moved and mirrored with them."""

import numpy as np
from golden.vector import Vector

from events.augment_events import flip_events, shift_events
from events.boxes import clip_boxes, flip_corners, moved_corners, xywh_to_xyxy, xyxy_to_xywh
from events.recording import EVENT_DTYPE

# Size of the sensor: that of `data_histogram_counts`, recorded from the same events; and N-Caltech101's.
AUGMENT_HW = (9, 12)
CALTECH_HW = (180, 240)


def check_augment(vector: Vector) -> None:
    """Shifted and mirrored events, and a mirrored box; rows are x, y, t and a polarity of -1 or 1."""
    x, y, t, p = vector["events"].T
    events = np.zeros(len(t), EVENT_DTYPE)
    events["x"], events["y"], events["t"], events["p"] = x, y, t, p > 0
    dx, dy = vector["shift"].tolist()
    vector.equal("shifted", _rows(shift_events(events, dx=dx, dy=dy, sensor_hw=AUGMENT_HW)))
    vector.equal("flipped", _rows(flip_events(events, width=AUGMENT_HW[1])))
    vector.equal("box_flipped", flip_corners(vector["box_in"], width=AUGMENT_HW[1]))


def check_box_crop(vector: Vector) -> None:
    """Boxes held within the sensor as released."""
    sensor_hw = (int(vector.scalar("height")), int(vector.scalar("width")))
    clipped = clip_boxes(xywh_to_xyxy(vector["boxes"]), sensor_hw=sensor_hw, rule="published")
    vector.equal("cropped", xyxy_to_xywh(clipped))


def check_box_motion(vector: Vector) -> None:
    """N-Caltech101's box over the three saccades."""
    vector.close("boxes", moved_corners(vector["box"], vector["times"], sensor_hw=CALTECH_HW), rtol=1e-5)


def _rows(events: np.ndarray) -> np.ndarray:
    sign = np.where(events["p"], 1, -1)
    return np.stack([events["x"], events["y"], events["t"], sign], axis=1)

"""Where boxes go when the frames of their window are augmented by `events.augment`: by the same draw.

A frame is mirrored, enlarged about its centre, and moved (`events.augment`); so is a box, whose corners lie
on the edges of pixels: of a frame W wide, u becomes W - u where it is mirrored, and then
W / 2 + scale (u - W / 2) + dx.
"""

import numpy as np

from events.augment import AugmentSettings, drawn_geometry
from events.augment_pictures import PictureAugmentSettings
from events.boxes import clip_boxes
from events.errors import ConfigError

# A box of which less than this share is left in the frame is to be ignored: what it is can hardly be seen.
LEAST_VISIBLE = 0.25


def check_window_augment(settings: AugmentSettings, where: str) -> None:
    """Refuse what does something to frames that boxes cannot follow.

    Raises:
        ConfigError: Frames are turned, wrap around, or are mixed as pictures.
    """
    wrong = [
        f"{name} {value}"
        for name, value, wanted in (
            ("rotate_deg", settings.rotate_deg, 0.0),
            ("roll_fill", settings.roll_fill, "zero"),
            ("pictures", "set", settings.pictures == PictureAugmentSettings() and "set"),
        )
        if value != wanted
    ]
    if wrong:
        raise ConfigError(
            f"{where}: boxes cannot follow {' and '.join(wrong)}; use flip, roll_px, zoom and drop alone"
        )


def moved_boxes(
    xyxy: np.ndarray,
    *,
    window: int,
    settings: AugmentSettings,
    seed: int,
    epoch: int,
    frame_hw: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where the boxes of a window are in its augmented frames.

    Args:
        xyxy: x0, y0, x1, y1 in pixels of the frames, float32, shape [n, 4]. Not changed.
        window: Number of the window in the store; with seed and epoch it decides the draw.
        settings: As the frames were augmented with.
        seed: Seed of the run.
        epoch: Epoch, from 0.
        frame_hw: Height and width of the frames.

    Returns:
        The boxes, cut down to the frame, float32 [n, 4]; which of them are still seen, bool [n]; which of
        them are to be ignored because too little of them is, bool [n].
    """
    drawn = drawn_geometry(window, settings=settings, seed=seed, epoch=epoch)
    height, width = frame_hw
    boxes = xyxy.astype(np.float64)
    if drawn.flip:
        boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    centre = np.array([width, height, width, height]) / 2
    boxes = centre + drawn.scale * (boxes - centre) + np.array([drawn.dx, drawn.dy] * 2)
    cut = clip_boxes(boxes, sensor_hw=frame_hw)
    area, left = _areas(boxes), _areas(cut)
    seen = left > 0
    return cut.astype(np.float32), seen, seen & (left < LEAST_VISIBLE * area)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])

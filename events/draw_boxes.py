"""Boxes over pictures of frames, each class in a colour of its own, with its name.

Colours are those of Okabe and Ito's palette ("Color universal design", 2008) that polarities do not use.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CLASS_RGB = ((0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (0, 0, 0))
IGNORED_RGB = (150, 150, 150)
NAME_PX = 11


@dataclass(frozen=True)
class DrawnBoxes:
    """Boxes to draw over frames.

    Attributes:
        xyxy: x0, y0, x1, y1 in pixels of the frames, shape [n, 4].
        names: What stands at each.
        class_id: Decides the colour, shape [n].
        ignore: Those drawn in grey, shape [n].
    """

    xyxy: np.ndarray
    names: Sequence[str]
    class_id: np.ndarray
    ignore: np.ndarray


def draw_boxes(picture: Image.Image, boxes: DrawnBoxes, *, frame_hw: tuple[int, int]) -> Image.Image:
    """Return a picture of a frame with boxes drawn over it.

    The line of a box lies just inside of its edges, so that it surrounds the pixels x0 <= x < x1.

    Args:
        picture: Of a frame, enlarged or reduced.
        boxes: In pixels of the frame.
        frame_hw: Height and width of the frame.
    """
    drawn = picture.copy()
    pen = ImageDraw.Draw(drawn)
    font = ImageFont.load_default(size=NAME_PX)
    scale = np.array([picture.width / frame_hw[1], picture.height / frame_hw[0]] * 2)
    edges = np.round(np.asarray(boxes.xyxy, np.float64).reshape(-1, 4) * scale).astype(int).tolist()
    for (x0, y0, x1, y1), name, number, ignored in zip(
        edges, boxes.names, boxes.class_id.tolist(), boxes.ignore.tolist(), strict=True
    ):
        rgb = IGNORED_RGB if ignored else CLASS_RGB[number % len(CLASS_RGB)]
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=rgb)
        above = y0 - NAME_PX - 3
        pen.text((x0 + 2, above if above >= 0 else y0 + 1), name, fill=rgb, font=font)
    return drawn

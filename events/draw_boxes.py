"""Boxes over pictures of frames, each class in a colour of its own, with its name.

Colours are those of Okabe and Ito's palette ("Color universal design", 2008) that polarities do not use.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CLASS_RGB = ((0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (0, 0, 0))
IGNORED_RGB = (150, 150, 150)
PAPER_RGB = (255, 255, 255)
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
    scale = np.array([picture.width / frame_hw[1], picture.height / frame_hw[0]] * 2)
    edges = np.round(np.asarray(boxes.xyxy, np.float64).reshape(-1, 4) * scale).astype(int).tolist()
    colours = [
        IGNORED_RGB if ignored else CLASS_RGB[number % len(CLASS_RGB)]
        for number, ignored in zip(boxes.class_id.tolist(), boxes.ignore.tolist(), strict=True)
    ]
    for (x0, y0, x1, y1), rgb in zip(edges, colours, strict=True):
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=rgb)
    write_names(drawn, edges, boxes.names, colours)
    return drawn


def write_names(
    picture: Image.Image,
    edges: Sequence[Sequence[int]],
    names: Sequence[str],
    colours: Sequence[tuple[int, int, int]],
) -> None:
    """Write a name on white at each box: above it, or else where no other name is, and never off the picture.

    Args:
        picture: The picture; changed.
        edges: x0, y0, x1, y1 of the boxes in pixels of the picture.
        names: As many; those first in order have the first choice of places.
        colours: As many.
    """
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=NAME_PX)
    taken: list[tuple[int, int, int, int]] = []
    for box, name, rgb in zip(edges, names, colours, strict=True):
        size = (round(font.getlength(name)) + 4, NAME_PX + 4)
        x, y = place_name(box, size, picture.size, taken)
        taken.append((x, y, x + size[0], y + size[1]))
        pen.rectangle((x, y, x + size[0] - 1, y + size[1] - 1), fill=PAPER_RGB)
        pen.text((x + 2, y), name, fill=rgb, font=font)


def place_name(
    box: Sequence[int],
    size: tuple[int, int],
    within: tuple[int, int],
    taken: Sequence[tuple[int, int, int, int]],
) -> tuple[int, int]:
    """Return the left upper corner of a name's place at a box.

    Above the box, inside at its upper edge, below it, or inside at its lower edge, each at its left or its
    right end: the first place on the picture that is free, or else the first that is on the picture.

    Args:
        box: x0, y0, x1, y1.
        size: Width and height of the name.
        within: Width and height of the picture.
        taken: Places of other names, x0, y0, x1, y1.
    """
    x0, y0, x1, y1 = box
    width, height = size
    rows = ((y0 - height, 0), (y0 + 2, 2), (y1, 0), (y1 - height - 2, 2))
    anywhere = [(x, y) for y, inset in rows for x in (x0 + inset, x1 - width - inset)]
    places = [
        (min(max(x, 0), max(within[0] - width, 0)), y)
        for x, y in [*anywhere, (x0, 0)]
        if 0 <= y <= max(within[1] - height, 0)
    ]
    for x, y in places:
        if all(
            x >= right or x + width <= left or y >= low or y + height <= high
            for left, high, right, low in taken
        ):
            return x, y
    return places[0]

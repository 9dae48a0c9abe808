"""Boxes on pictures of frames, and sheets of pictures with a caption each."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from events.draw import FONT_PX, GAP_PX, INK_RGB, PAPER_RGB, draw_frame
from events.errors import ConfigError

# Bluish green and reddish purple of Okabe and Ito's palette, beside the vermilion and blue of events.
BOX_RGB = (0, 158, 115)
MARKED_RGB = (170, 51, 119)

# Pictures are enlarged by whole factors to about so many pixels a side, and reduced to it where larger.
TILE_PX = 320


def draw_boxes(
    picture: Image.Image,
    xyxy: np.ndarray,
    *,
    scale: float = 1.0,
    rgb: tuple[int, int, int] = BOX_RGB,
    captions: Sequence[str] = (),
    line_px: int = 1,
) -> Image.Image:
    """Return a picture with the outlines of boxes, within their edges.

    Args:
        picture: The picture. Not changed.
        xyxy: Boxes x0, y0, x1, y1 in pixels of the sensor, far edges exclusive, shape [M, 4]; parts outside
            are not seen.
        scale: Pixels of the picture to a pixel of the sensor.
        rgb: Colour of the lines.
        captions: A text for each box, above its upper left corner; none draws none.
        line_px: Width of the lines.
    """
    if captions and len(captions) != len(xyxy):
        raise ConfigError(f"{len(captions)} captions for {len(xyxy)} boxes; expected as many")
    drawn = picture.copy()
    pen = ImageDraw.Draw(drawn)
    font = ImageFont.load_default(size=FONT_PX)
    for i, box in enumerate(np.round(np.asarray(xyxy, np.float64) * scale).astype(int).tolist()):
        x0, y0 = box[0], box[1]
        x1, y1 = max(x0, box[2] - 1), max(y0, box[3] - 1)
        pen.rectangle((x0, y0, x1, y1), outline=rgb, width=line_px)
        if captions:
            above = y0 - FONT_PX - 3 if y0 >= FONT_PX + 3 else y0 + line_px
            left = min(max(x0, 0), max(0, drawn.width - int(font.getlength(captions[i]))))
            pen.text((left, above), captions[i], fill=rgb, font=font)
    return drawn


def fit_scale(sensor_hw: tuple[int, int], side_px: int = TILE_PX) -> float:
    """Return by how much a sensor's picture is enlarged, a whole number, or reduced to about `side_px`."""
    side = max(sensor_hw)
    return side_px / side if side > 1.5 * side_px else float(max(1, round(side_px / side)))


def draw_scaled_frame(frame: np.ndarray, *, scale: float, peak: float | None = None) -> Image.Image:
    """Draw one frame, shape [P, H, W], as `events.draw.draw_frame` does, enlarged or reduced by `scale`."""
    if scale >= 1 and scale == int(scale):
        return draw_frame(frame, scale=int(scale), peak=peak)
    picture = draw_frame(frame, peak=peak)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.BOX)


def draw_gallery(
    tiles: Sequence[Image.Image], captions: Sequence[str], *, title: str = "", columns: int = 4
) -> Image.Image:
    """Return pictures side by side, each with its caption below; a caption may have several lines.

    Args:
        tiles: The pictures, at least one.
        captions: As many texts.
        title: Line above all.
        columns: Pictures in a row.
    """
    if not tiles or len(tiles) != len(captions):
        raise ConfigError(f"{len(captions)} captions for {len(tiles)} pictures; expected as many, and some")
    font = ImageFont.load_default(size=FONT_PX)
    lines = [caption.split("\n") for caption in captions]
    text_w = max(int(font.getlength(line)) for caption in lines for line in caption)
    cell_w = max(*(tile.width for tile in tiles), text_w, 1)
    cell_h = max(tile.height for tile in tiles) + max(map(len, lines)) * (FONT_PX + 4) + 4
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    top = 2 * GAP_PX + FONT_PX
    width = max(columns * (cell_w + GAP_PX) + GAP_PX, int(font.getlength(title)) + 2 * GAP_PX)
    sheet = Image.new("RGB", (width, top + rows * (cell_h + GAP_PX)), PAPER_RGB)
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP_PX, GAP_PX), title, fill=INK_RGB, font=font)
    for i, (tile, caption) in enumerate(zip(tiles, lines, strict=True)):
        left = GAP_PX + (i % columns) * (cell_w + GAP_PX)
        upper = top + (i // columns) * (cell_h + GAP_PX)
        sheet.paste(tile, (left, upper))
        pen.rectangle((left - 1, upper - 1, left + tile.width, upper + tile.height), outline=(225, 225, 225))
        for number, line in enumerate(caption):
            at = (left, upper + tile.height + 4 + number * (FONT_PX + 4))
            pen.text(at, line, fill=INK_RGB, font=font)
    return sheet

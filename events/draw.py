"""Pictures of frames: ON red, OFF blue, on white; for files and for terminals.

The two colours are those of Okabe and Ito's palette that people with any colour vision tell apart
("Color universal design", 2008): vermilion and blue.
"""

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from events.draw_boxes import PAPER_RGB, DrawnBoxes, draw_boxes
from events.errors import ConfigError

ON_RGB = (213, 94, 0)
OFF_RGB = (0, 114, 178)
INK_RGB = (40, 40, 40)
FAINT_RGB = (225, 225, 225)

# A count at or above this percentile of the counts that are not 0 gets the full colour.
PEAK_PERCENTILE = 98
# Share of the full colour that a single event gets at least.
FAINTEST = 0.25
# Frames are enlarged by whole factors to about this many pixels, and reduced to it where larger.
FRAME_PX = 200
GIF_PX = 320
FONT_PX = 13
GAP_PX = 10
STRIP_PX = 64


def draw_frame(frame: np.ndarray, *, scale: int = 1, peak: float | None = None) -> Image.Image:
    """Draw one frame, each pixel as a square of `scale` pixels.

    Args:
        frame: Shape [P, H, W], P = (OFF, ON), not negative; or a picture, P = (grey) or (red, green, blue),
            from 0 to 255.
        scale: Enlargement, at least 1.
        peak: Value that gets the full colour; None takes the 98th percentile of the values above 0.

    Returns:
        RGB picture of H * scale by W * scale pixels.
    """
    _check_frames(frame[None] if frame.ndim == 3 else frame)
    if scale < 1:
        raise ConfigError(f"scale must be at least 1, got {scale}")
    rgb = _colours(frame, _peak(frame) if peak is None else peak)
    return Image.fromarray(rgb.repeat(scale, axis=0).repeat(scale, axis=1))


def draw_sheet(
    frames: np.ndarray,
    *,
    title: str = "",
    t_edges_us: np.ndarray | None = None,
    columns: int | None = None,
    boxes: DrawnBoxes | None = None,
) -> Image.Image:
    """Draw frames side by side, each with its time, above a strip that shows when what happened.

    All frames share one scale of colours. Below each stands its number, its time in milliseconds from
    the first, and the sum of its values. The strip's bars are sums per millisecond, ON up and OFF down.

    Args:
        frames: Shape [T, P, H, W], not negative.
        title: Line above the frames.
        t_edges_us: Shape [T + 1], as in `events.binning.settings.Frames`; None draws no times, and frames
            of equal width in the strip.
        columns: Frames in a row; None makes rows that are equally full, of at most five frames, or
            of ten where there are more than twenty.
        boxes: Drawn over every frame.

    Returns:
        RGB picture.
    """
    _check_frames(frames)
    if t_edges_us is not None and len(t_edges_us) != len(frames) + 1:
        raise ConfigError(f"t_edges_us must have {len(frames) + 1} times, got {len(t_edges_us)}")
    T = len(frames)
    columns = min(T, columns or _even_columns(T))
    peak = _peak(frames)
    tiles = [_with_boxes(_fitted(draw_frame(frame, peak=peak)), boxes, frame) for frame in frames]
    font = ImageFont.load_default(size=FONT_PX)
    labels = [_label(i, frames, t_edges_us) for i in range(T)]
    cell_w = max(tiles[0].width, *(int(font.getlength(label)) for label in labels))
    cell_h = tiles[0].height + FONT_PX + 8
    rows = -(-T // columns)
    width = max(columns * (cell_w + GAP_PX) + GAP_PX, _header_width(title, font))
    top = GAP_PX + FONT_PX + GAP_PX
    strip_px = 0 if _is_picture(frames[0]) else STRIP_PX + GAP_PX
    sheet = Image.new("RGB", (width, top + rows * (cell_h + GAP_PX) + strip_px), PAPER_RGB)
    pen = ImageDraw.Draw(sheet)
    _draw_header(pen, title, width, font, legend=not _is_picture(frames[0]))
    for i, (tile, label) in enumerate(zip(tiles, labels, strict=True)):
        left = GAP_PX + (i % columns) * (cell_w + GAP_PX)
        upper = top + (i // columns) * (cell_h + GAP_PX)
        sheet.paste(tile, (left, upper))
        pen.rectangle((left - 1, upper - 1, left + tile.width, upper + tile.height), outline=FAINT_RGB)
        pen.text((left, upper + tile.height + 4), label, fill=INK_RGB, font=font)
    if _is_picture(frames[0]):
        return sheet
    strip = (GAP_PX, sheet.height - STRIP_PX - GAP_PX, width - GAP_PX, sheet.height - GAP_PX)
    _draw_strip(pen, frames, t_edges_us, strip, font)
    return sheet


def write_gif(
    path: Path | str,
    frames: np.ndarray,
    *,
    frame_ms: int = 100,
    t_edges_us: np.ndarray | None = None,
    boxes: DrawnBoxes | None = None,
) -> None:
    """Write frames as an animation that repeats, with a bar below that shows how far it is.

    Args:
        path: File to write.
        frames: Shape [T, P, H, W], not negative.
        frame_ms: How long each frame is shown, in milliseconds; GIF counts in tens of them.
        t_edges_us: Shape [T + 1]; where given, each frame's time is written below it.
        boxes: Drawn over every frame.

    Raises:
        ConfigError: The frames cannot be drawn, or the file cannot be written.
    """
    _check_frames(frames)
    if frame_ms < 20:
        raise ConfigError(f"frame_ms must be at least 20, which is as fast as viewers go; got {frame_ms}")
    peak = _peak(frames)
    font = ImageFont.load_default(size=FONT_PX)
    pictures = []
    for i, frame in enumerate(frames):
        tile = _with_boxes(_fitted(draw_frame(frame, peak=peak), GIF_PX), boxes, frame)
        picture = Image.new("RGB", (tile.width, tile.height + FONT_PX + 12), PAPER_RGB)
        picture.paste(tile, (0, 0))
        pen = ImageDraw.Draw(picture)
        pen.rectangle((0, tile.height, tile.width, tile.height + 3), fill=FAINT_RGB)
        pen.rectangle((0, tile.height, tile.width * (i + 1) // len(frames), tile.height + 3), fill=INK_RGB)
        pen.text((4, tile.height + 6), _label(i, frames, t_edges_us), fill=INK_RGB, font=font)
        pictures.append(picture.quantize(64))
    try:
        pictures[0].save(
            path, format="GIF", save_all=True, append_images=pictures[1:], duration=frame_ms, loop=0
        )
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); choose another file") from error


def half_blocks(frame: np.ndarray, width: int = 80, *, colour: bool | None = None) -> str:
    """Return a frame as text for a terminal: two pixels to a character, one above the other.

    Wider frames are reduced to `width` by adding up counts, narrower ones enlarged by a whole factor
    where one fits.

    Args:
        frame: Shape [P, H, W], P = (OFF, ON), not negative.
        width: Characters in a line, at least 1.
        colour: True for 24-bit colours; False for `+` where ON, `-` where OFF and `#` where both are as
            many, leaving out what is faint; None for colours unless the environment variable NO_COLOR is
            set (no-color.org).

    Returns:
        Lines joined by newlines, without one at the end.
    """
    _check_frames(frame[None])
    if width < 1:
        raise ConfigError(f"width must be at least 1, got {width}")
    if colour is None:
        colour = not os.environ.get("NO_COLOR")
    fitted = _fit_width(frame, width)
    if fitted.shape[1] % 2:
        fitted = np.pad(fitted, ((0, 0), (0, 1), (0, 0)))
    if not colour:
        return _plain_lines(fitted)
    rgb = _colours(fitted, _peak(fitted))
    return "\n".join(_coloured_line(upper, lower) for upper, lower in zip(rgb[::2], rgb[1::2], strict=True))


def _check_frames(frames: np.ndarray) -> None:
    if frames.ndim != 4 or frames.shape[1] not in (1, 2, 3) or 0 in frames.shape:
        raise ConfigError(
            f"frames must have the shape [T, P, H, W] with P = 2, or 1 or 3 of pictures, got {frames.shape}"
        )


def _is_picture(frame: np.ndarray) -> bool:
    """Whether the planes of a frame [P, H, W] are grey or colours, not polarities."""
    return frame.shape[0] != 2


def _peak(frames: np.ndarray) -> float:
    """Return the value that gets the full colour, at least 1."""
    above = frames[frames > 0]
    return max(1.0, float(np.percentile(above, PEAK_PERCENTILE))) if above.size else 1.0


def _colours(frame: np.ndarray, peak: float) -> np.ndarray:
    """Return a frame [P, H, W] as colours, uint8 [H, W, 3]: white, dyed by each polarity, dark by both."""
    if _is_picture(frame):
        return np.minimum(np.broadcast_to(frame, (3, *frame.shape[1:])).transpose(1, 2, 0), 255).astype(
            np.uint8
        )
    strength = np.where(frame > 0, FAINTEST + (1 - FAINTEST) * np.minimum(1, frame / peak), 0)
    off, on = strength[..., None]
    paper = np.array(PAPER_RGB, float)
    light = paper * (1 - off * (1 - np.array(OFF_RGB) / 255)) * (1 - on * (1 - np.array(ON_RGB) / 255))
    return np.round(light).astype(np.uint8)


def _fitted(picture: Image.Image, side_px: int = FRAME_PX) -> Image.Image:
    """Return a picture enlarged by a whole factor to at most `side_px` and a half, or reduced to it."""
    side = max(picture.size)
    if side > 1.5 * side_px:
        shape = [max(1, round(length * side_px / side)) for length in picture.size]
        return picture.resize((shape[0], shape[1]), Image.Resampling.BOX)
    factor = max(1, round(side_px / side))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def _with_boxes(tile: Image.Image, boxes: DrawnBoxes | None, frame: np.ndarray) -> Image.Image:
    """Return the picture of a frame [P, H, W] with boxes over it, if there are any."""
    return tile if boxes is None else draw_boxes(tile, boxes, frame_hw=(frame.shape[1], frame.shape[2]))


def _even_columns(T: int) -> int:
    """Return how many columns fill rows equally, of at most five frames, or ten where there are many."""
    most = 5 if T <= 20 else 10
    rows = -(-T // most)
    return -(-T // rows)


def _label(i: int, frames: np.ndarray, t_edges_us: np.ndarray | None) -> str:
    if _is_picture(frames[i]):
        return str(i)
    total = f"{int(frames[i].sum(dtype=np.int64)):,}"
    if t_edges_us is None:
        return f"{i}   {total}"
    start_ms, stop_ms = ((int(t) - int(t_edges_us[0])) / 1000 for t in t_edges_us[i : i + 2])
    return f"{i}   {_number(start_ms)} to {_number(stop_ms)} ms   {total}"


def _number(value: float) -> str:
    """Return a value as text, with a decimal where it is small and not whole."""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def _header_width(title: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    return int(font.getlength(title) + font.getlength("ONOFF")) + 80


def _draw_header(
    pen: ImageDraw.ImageDraw,
    title: str,
    width: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    *,
    legend: bool,
) -> None:
    """Draw the title, and at the right what the colours mean where that is to be told."""
    pen.text((GAP_PX, GAP_PX), title, fill=INK_RGB, font=font)
    right = width - GAP_PX
    for word, rgb in (("OFF", OFF_RGB), ("ON", ON_RGB)) if legend else ():
        right -= int(font.getlength(word))
        pen.text((right, GAP_PX), word, fill=INK_RGB, font=font)
        right -= FONT_PX + 4
        pen.rectangle((right, GAP_PX + 3, right + FONT_PX - 2, GAP_PX + FONT_PX + 1), fill=rgb)
        right -= GAP_PX


def _draw_strip(
    pen: ImageDraw.ImageDraw,
    frames: np.ndarray,
    t_edges_us: np.ndarray | None,
    box: tuple[int, int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Draw each frame's span of time with its ON (up) and OFF (down) values per millisecond."""
    left, top, right, bottom = box
    bars_bottom = bottom - FONT_PX - 4
    middle = (top + bars_bottom) // 2
    edges_us = (
        np.arange(len(frames) + 1) * 1000.0 if t_edges_us is None else t_edges_us - float(t_edges_us[0])
    )
    span_us = max(1.0, float(edges_us[-1]))
    off, on = frames.sum(axis=(2, 3), dtype=np.int64).T / np.maximum(np.diff(edges_us), 1) * 1000
    tallest = max(float(max(off.max(), on.max())), 1e-9)
    at = [round(left + (right - left) * float(edge) / span_us) for edge in edges_us]
    for i, (start, stop) in enumerate(pairwise(at)):
        for rate, rgb, sign in ((on[i], ON_RGB, -1), (off[i], OFF_RGB, 1)):
            end = middle + sign * round((bars_bottom - top) / 2 * float(rate) / tallest)
            if end != middle:
                pen.rectangle(
                    (start + 1, min(middle, end), max(start + 1, stop - 1), max(middle, end)), fill=rgb
                )
        pen.line((start, top, start, bars_bottom), fill=FAINT_RGB)
    pen.line((left, middle, right, middle), fill=INK_RGB)
    pen.line((right, top, right, bars_bottom), fill=FAINT_RGB)
    if t_edges_us is not None:
        last = f"{_number(span_us / 1000)} ms"
        pen.text((left, bars_bottom + 4), "0", fill=INK_RGB, font=font)
        pen.text((right - font.getlength(last), bars_bottom + 4), last, fill=INK_RGB, font=font)
        unit = f"tallest bar {_number(tallest)} per ms"
        pen.text(((left + right - font.getlength(unit)) / 2, bars_bottom + 4), unit, fill=INK_RGB, font=font)


def _fit_width(frame: np.ndarray, width: int) -> np.ndarray:
    """Return a frame [P, H, W] added up to at most `width` columns, or enlarged by a whole factor."""
    H, W = frame.shape[1:]
    if width >= W:
        factor = width // W
        return frame.repeat(factor, axis=1).repeat(factor, axis=2)
    height = max(1, round(H * width / W))
    rows = np.arange(height) * H // height
    columns = np.arange(width) * W // width
    if _is_picture(frame):
        return frame[:, rows][:, :, columns]
    added = np.add.reduceat(frame.astype(np.int64), rows, axis=1)
    return np.add.reduceat(added, columns, axis=2)


def _plain_lines(frame: np.ndarray) -> str:
    """Return a frame [P, H, W], H even, as lines of `+`, `-`, `#` and blanks."""
    if _is_picture(frame):
        # Ten shades, as many pixels of ink as the picture is light.
        light = frame.mean(axis=0).reshape(len(frame[0]) // 2, 2, -1).mean(axis=1)
        shades = np.array(list(" .:-=+*#%@"))[np.minimum(light * 10 // 256, 9).astype(int)]
        return "\n".join("".join(line).rstrip() for line in shades)
    off, on = frame[:, ::2].astype(np.int64) + frame[:, 1::2]
    signs = np.where(on > off, "+", np.where(off > on, "-", "#"))
    signs[np.maximum(off, on) < max(1.0, FAINTEST * _peak(np.stack([off, on])))] = " "
    return "\n".join("".join(line).rstrip() for line in signs)


def _coloured_line(upper: np.ndarray, lower: np.ndarray) -> str:
    """Return a line of upper half blocks: the upper pixel is the ink, the lower one the paper."""
    cells = [
        f"\x1b[38;2;{a[0]};{a[1]};{a[2]};48;2;{b[0]};{b[1]};{b[2]}m▀"
        for a, b in zip(upper, lower, strict=True)
    ]
    return "".join(cells) + "\x1b[0m"

"""Boxes on pictures of windows: true boxes green, detections purple with class and score. Sheets and GIFs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from events.draw import FONT_PX, INK_RGB, PAPER_RGB
from events.draw_boxes import IGNORED_RGB, write_names
from events.errors import ConfigError
from events.inspect.label_sheet import (
    BOX_RGB,
    MARKED_RGB,
    TILE_PX,
    draw_gallery,
    draw_scaled_frame,
    fit_scale,
    outline_boxes,
)

# Below the picture, for the time.
STRIP_PX = 24
# The end of a recording's name is cut off behind so many letters.
NAME_LETTERS = 40
# How long a window of a clip is shown, and where the one before it is no neighbour of it.
FRAME_MS, ALONE_MS = 100, 1000


@dataclass(frozen=True)
class SeenWindow:
    """A window and its boxes, as they are drawn.

    Attributes:
        frame: Events by polarity, OFF first, shape [2, H, W].
        t_us: Where it ends on its recording's clock, in microseconds.
        truth: True boxes x0, y0, x1, y1 in pixels of the frame, shape [M, 4].
        truth_class: Position in the class names, shape [M].
        ignore: Whether a detection of a true box is neither right nor wrong, bool, shape [M].
        found: Detections, shape [N, 4].
        found_class, score: Of these, shape [N].
        recording: Name of its recording; empty where it is not known.
    """

    frame: np.ndarray
    t_us: int
    truth: np.ndarray
    truth_class: np.ndarray
    ignore: np.ndarray
    found: np.ndarray
    found_class: np.ndarray
    score: np.ndarray
    recording: str = ""

    def where(self) -> str:
        """Return recording and time on one line."""
        return f"{self.recording[:NAME_LETTERS]}  {self.t_us / 1e6:.3f} s".strip()


def seen_windows(seen: Mapping[str, np.ndarray], name: str) -> list[SeenWindow]:
    """Return the windows that `pipelines.detect_seen.look_at_windows` kept under a name; none without any.

    Earlier runs kept fewer kinds of windows, and no names of recordings.
    """
    if f"{name}_window" not in seen:
        return []
    recordings = seen.get(f"{name}_recording", [""] * len(seen[f"{name}_window"]))
    of_truth, of_found = seen[f"{name}_truth_of"], seen[f"{name}_found_of"]
    return [
        SeenWindow(
            frame=frame,
            t_us=int(t_us),
            truth=seen[f"{name}_truth_xyxy"][of_truth == k],
            truth_class=seen[f"{name}_truth_class"][of_truth == k],
            ignore=seen[f"{name}_truth_ignore"][of_truth == k],
            found=seen[f"{name}_found_xyxy"][of_found == k],
            found_class=seen[f"{name}_found_class"][of_found == k],
            score=seen[f"{name}_found_score"][of_found == k],
            recording=str(recording),
        )
        for k, (frame, t_us, recording) in enumerate(
            zip(seen[f"{name}_frames"], seen[f"{name}_t_us"], recordings, strict=True)
        )
    ]


def draw_window(
    window: SeenWindow, class_names: Sequence[str], *, side_px: int = TILE_PX, peak: float | None = None
) -> Image.Image:
    """Draw a window: events, true boxes without words, detections with score, and class where there are more.

    Args:
        window: What is drawn.
        class_names: Names of the classes.
        side_px: About how long its longer side becomes.
        peak: Events that get the full colour; None takes the 98th percentile of pixels with any.
    """
    height, width = window.frame.shape[1:]
    scale = fit_scale((height, width), side_px)
    picture = draw_scaled_frame(window.frame, scale=scale, peak=peak)
    outline_boxes(picture, window.truth[window.ignore], scale=scale, rgb=IGNORED_RGB)
    outline_boxes(picture, window.truth[~window.ignore], scale=scale, rgb=BOX_RGB, line_px=2)
    outline_boxes(picture, window.found, scale=scale, rgb=MARKED_RGB)
    surest_first = np.argsort(-window.score, kind="stable")
    words = [
        f"{class_names[int(window.found_class[row])]} {window.score[row]:.2f}"
        if len(class_names) > 1
        else f"{window.score[row]:.2f}"
        for row in surest_first
    ]
    edges = np.round(window.found[surest_first] * scale).astype(int).tolist()
    write_names(picture, edges, words, [MARKED_RGB] * len(words))
    return picture


def draw_windows(
    windows: Sequence[SeenWindow], class_names: Sequence[str], *, title: str = "", columns: int = 4
) -> Image.Image:
    """Return windows side by side on a sheet, each with its time and what is really there below."""
    captions = []
    for window in windows:
        counts = Counter(class_names[int(k)] for k in window.truth_class[~window.ignore])
        there = ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing there"
        captions.append(f"{window.where()}\n{there}")
    tiles = [draw_window(window, class_names, side_px=240) for window in windows]
    return draw_gallery(tiles, captions, title=title, columns=columns)


def write_clip(path: Path, windows: Sequence[SeenWindow], class_names: Sequence[str]) -> None:
    """Write windows as an animated GIF that repeats, each with its time below; single ones of many slowly.

    Args:
        path: The file, `.gif`.
        windows: In order, at least one.
        class_names: Names of the classes.

    Raises:
        ConfigError: It is no `.gif`, or there is no window.
    """
    if path.suffix.lower() != ".gif":
        raise ConfigError(
            f"{path}: found suffix {path.suffix!r}, expected '.gif'; videos need tools not here"
        )
    if not windows:
        raise ConfigError(f"{path}: found no window, expected one or more")
    counts = np.concatenate([window.frame[window.frame > 0].ravel() for window in windows])
    # The same colours throughout, or a quiet window would look like a busy one.
    peak = float(np.percentile(counts, 98)) if len(counts) else 1.0
    pictures = [_with_time(draw_window(window, class_names, peak=peak), window.where()) for window in windows]
    first, *others = (picture.quantize(64, dither=Image.Dither.NONE) for picture in pictures)
    frame_ms = FRAME_MS if len({window.recording for window in windows}) == 1 else ALONE_MS
    first.save(path, save_all=True, append_images=others, duration=frame_ms, loop=0)


def _with_time(picture: Image.Image, where: str) -> Image.Image:
    whole = Image.new("RGB", (picture.width, picture.height + STRIP_PX), PAPER_RGB)
    whole.paste(picture, (0, 0))
    font = ImageFont.load_default(size=FONT_PX)
    pen = ImageDraw.Draw(whole)
    pen.text((4, picture.height + 4), where, fill=INK_RGB, font=font)
    return whole

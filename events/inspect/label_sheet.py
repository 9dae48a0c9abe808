"""A sheet of pictures of doubtful boxes, with the events before each and a caption."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from events.draw import FONT_PX, GAP_PX, INK_RGB, PAPER_RGB, draw_frame
from events.errors import ConfigError
from events.inspect.labels import AuditedFile
from events.labels.audit import FINDINGS

# Bluish green and reddish purple of Okabe and Ito's palette, beside the vermilion and blue of events.
BOX_RGB = (0, 158, 115)
MARKED_RGB = (170, 51, 119)

# Pictures are enlarged by whole factors to about so many pixels a side, and reduced to it where larger.
TILE_PX = 320
# A side of the sensor that is guessed from boxes is at most so long.
MOST_PX = 4096


def outline_boxes(
    picture: Image.Image,
    xyxy: np.ndarray,
    *,
    scale: float,
    rgb: tuple[int, int, int] = BOX_RGB,
    line_px: int = 1,
) -> None:
    """Draw the outlines of boxes on a picture, just inside of their edges.

    Args:
        picture: The picture; changed.
        xyxy: Boxes x0, y0, x1, y1 in pixels of the sensor, far edges exclusive, shape [M, 4]; parts outside
            are not seen.
        scale: Pixels of the picture to a pixel of the sensor.
        rgb: Colour of the lines.
        line_px: Width of the lines.
    """
    pen = ImageDraw.Draw(picture)
    for x0, y0, x1, y1 in np.round(np.asarray(xyxy, np.float64) * scale).astype(int).tolist():
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=rgb, width=line_px)


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
    top = 2 * GAP_PX + FONT_PX if title else GAP_PX
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


def draw_audits(audited: Sequence[AuditedFile], *, tiles: int = 20, window_us: int = 100_000) -> Image.Image:
    """Draw doubtful boxes with the events before them, of every finding some, the largest first.

    The doubtful box is purple, the others of its time are green. Where fewer than `tiles` are doubtful, other
    labels follow.

    Args:
        audited: Label files; those without a recording are drawn on white.
        tiles: How many boxes are drawn at most.
        window_us: How long before the label events are drawn.
    """
    chosen = _choose(audited, tiles)
    pictures, captions = [], []
    for file, row, name in chosen:
        labels = file.audit.labels
        frame = _frame(file, int(labels.t[row]), window_us)
        scale = fit_scale((frame.shape[1], frame.shape[2]))
        same = labels.where(np.flatnonzero((labels.t == labels.t[row]) & (np.arange(len(labels)) != row)))
        picture = draw_scaled_frame(frame, scale=scale)
        outline_boxes(picture, same.xyxy, scale=scale)
        outline_boxes(picture, labels.xyxy[row : row + 1], scale=scale, rgb=MARKED_RGB, line_px=2)
        pictures.append(picture)
        captions.append(_caption(file, row, name))
    title = sum_up(audited)
    if not pictures:
        empty = Image.new("RGB", (200, 20), (255, 255, 255))
        return draw_gallery([empty], ["no boxes"], title=title)
    return draw_gallery(pictures, captions, title=title)


def sum_up(audited: Sequence[AuditedFile]) -> str:
    """Return in one line how many boxes there are, and how many are doubtful."""
    boxes = sum(len(file.audit.labels) for file in audited)
    doubtful = sum(int(file.audit.doubtful().sum()) for file in audited)
    files = f"{len(audited):,} label file{'' if len(audited) == 1 else 's'}"
    return f"{files}: {boxes:,} box{'' if boxes == 1 else 'es'}, {doubtful:,} doubtful"


def _choose(audited: Sequence[AuditedFile], tiles: int) -> list[tuple[AuditedFile, int, str]]:
    """Return files, rows and findings to draw: of every finding in turn the largest box not chosen yet.

    Where fewer are doubtful, boxes without a finding follow.
    """
    waiting: dict[str, list[tuple[float, int, int]]] = {name: [] for name in FINDINGS}
    for number, file in enumerate(audited):
        areas = _areas(file)
        for name, rows in file.audit.found.items():
            waiting[name] += [(-float(areas[row]), number, int(row)) for row in np.flatnonzero(rows)]
    for queue in waiting.values():
        queue.sort(reverse=True)
    chosen: dict[tuple[int, int], str] = {}
    while len(chosen) < tiles and any(waiting.values()):
        for name in FINDINGS:
            while waiting[name]:
                _, number, row = waiting[name].pop()
                if (number, row) not in chosen:
                    chosen[number, row] = name
                    break
            if len(chosen) == tiles:
                break
    doubtful = [(audited[number], row, name) for (number, row), name in chosen.items()]
    return doubtful + _spread(audited, tiles - len(doubtful))


def _spread(audited: Sequence[AuditedFile], count: int) -> list[tuple[AuditedFile, int, str]]:
    """Return files and rows of boxes that are not doubtful, of a time the largest, evenly over all times."""
    usual: list[tuple[AuditedFile, int, str]] = []
    for file in audited:
        rows = np.flatnonzero(~file.audit.doubtful())
        rows = rows[np.argsort(-_areas(file)[rows], kind="stable")]
        _, first = np.unique(file.audit.labels.t[rows], return_index=True)
        usual += [(file, int(row), "") for row in rows[first]]
    places = np.linspace(0, len(usual) - 1, min(count, len(usual))).astype(int)
    return [usual[place] for place in places]


def _areas(file: AuditedFile) -> np.ndarray:
    """Return the area of every box of a file, shape [M]."""
    sides = file.audit.labels.xyxy[:, 2:] - file.audit.labels.xyxy[:, :2]
    return np.asarray(sides.prod(axis=1))


def _frame(file: AuditedFile, stop_us: int, window_us: int) -> np.ndarray:
    """Return the events of the window before a time, int64 [P, H, W]; zeros without a recording."""
    labels = file.audit.labels
    if file.recording is None:
        reach = np.clip(np.ceil(labels.xyxy[:, 2:].max(axis=0)), 1, MOST_PX).astype(int)
        height, width = labels.sensor_hw or (int(reach[1]), int(reach[0]))
        return np.zeros((2, height, width), np.int64)
    height, width = file.recording.sensor_hw
    counts = np.zeros(2 * height * width, np.int64)
    for chunk in file.recording.chunks(start_us=stop_us - window_us, stop_us=stop_us):
        place = (chunk["p"].astype(np.int64) * height + chunk["y"]) * width + chunk["x"]
        counts += np.bincount(place, minlength=len(counts))
    return counts.reshape(2, height, width)


def _caption(file: AuditedFile, row: int, name: str) -> str:
    labels = file.audit.labels
    found = [key for key, rows in file.audit.found.items() if rows[row] and key != name]
    class_id = int(labels.class_id[row])
    shown = labels.class_names[class_id] if labels.class_names else f"class {class_id}"
    events = "" if file.audit.events is None else f", {int(file.audit.events[row]):,} events"
    box = " ".join(f"{value:.0f}" for value in labels.xyxy[row])
    return (
        f"{', '.join([name, *found]).replace('_', ' ') or 'nothing doubtful'}: {shown}{events}\n"
        f"{file.path.name[:40]} row {row}, {int(labels.t[row]) / 1e6:.3f} s, {box}"
    )

"""Seeded augmentation with boxes: mirror, zoom, move, stretch time, swap polarities, drop events.

One draw decides all of it, and is applied to raw events (`augmented_events`), to frames that are already
binned (`augmented_frames`) and to boxes (`augmented_boxes`). Pixels follow one rule for both: a pixel of the
result shows the pixel of the recording under its centre, and nothing where there is none. So an event
appears in no, one or several pixels, as pixels of a picture do, and binning before gives what binning after
does.

`AUGMENTED_LIKE_RVT` has the probabilities and factors that RVT trains with on random samples (Gehrig and
Scaramuzza, "Recurrent vision transformers for object detection with event cameras", CVPR 2023;
config/dataset/base.yaml of uzh-rpg/RVT).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from events.boxes import clip_boxes, flip_boxes
from events.errors import ConfigError

# Last word of the seed: what is drawn.
_CHOICES, _DROPS = range(2)


@dataclass(frozen=True)
class BoxAugmentSettings:
    """How far a training sample may differ from the recorded one. The default changes nothing.

    Attributes:
        flip: Probability of mirroring left and right.
        zoom: Probability of a zoom.
        zoom_in_share: Share of zooms that enlarge; the others reduce.
        zoom_in: Largest factor of enlargement, at least 1. A part of the frame fills it then, wherever.
        zoom_out: Largest factor of reduction, at least 1. The frame lies somewhere within it then.
        translate_px: Largest shift along each axis beside that, in whole pixels; rows and columns are drawn
            independently.
        time_scale: Largest factor by which time is stretched or shrunk, at least 1; events only.
        polarity_flip: Probability of exchanging ON and OFF.
        drop: Largest share of events dropped. A sample draws its share between 0 and this, then each of
            its events is dropped with that probability.
        least_share: A box of which less than this share of the area stays in the frame is to be ignored.
    """

    flip: float = 0.0
    zoom: float = 0.0
    zoom_in_share: float = 0.8
    zoom_in: float = 1.5
    zoom_out: float = 1.2
    translate_px: int = 0
    time_scale: float = 1.0
    polarity_flip: float = 0.0
    drop: float = 0.0
    least_share: float = 0.3

    def __post_init__(self) -> None:
        for name in ("flip", "zoom", "zoom_in_share", "polarity_flip", "least_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        for name in ("zoom_in", "zoom_out", "time_scale"):
            if not 1 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} is a factor of at least 1, got {getattr(self, name)}")
        if self.translate_px < 0:
            raise ConfigError(f"translate_px must be at least 0 pixels, got {self.translate_px}")
        if not 0 <= self.drop < 1:
            raise ConfigError(f"drop is a share from 0 to below 1, got {self.drop}")


AUGMENTED_LIKE_RVT = BoxAugmentSettings(flip=0.5, zoom=0.8, zoom_in_share=0.8, zoom_in=1.5, zoom_out=1.2)


@dataclass(frozen=True)
class BoxAugmentation:
    """What is done to one sample. A place x becomes scale x + dx, after mirroring where `flip`.

    Attributes:
        sensor_hw: Height and width of the frame in pixels, before and after.
        flip: Whether left and right are exchanged.
        scale: Enlargement, above 0.
        dx: Shift to the right in pixels, after that.
        dy: Shift down.
        time_scale: Factor of the time from an event to the end of the window.
        polarity_flip: Whether ON and OFF are exchanged.
        drop: Share of events dropped.
        least_share: As in `BoxAugmentSettings`.
        seed: Words that seed which events are dropped.
    """

    sensor_hw: tuple[int, int]
    flip: bool = False
    scale: float = 1.0
    dx: float = 0.0
    dy: float = 0.0
    time_scale: float = 1.0
    polarity_flip: bool = False
    drop: float = 0.0
    least_share: float = 0.3
    seed: tuple[int, ...] = ()

    def sources(self) -> tuple[np.ndarray, np.ndarray]:
        """Return which row and which column each row and column of the result shows, -1 for none.

        Returns:
            int64 [H] and int64 [W].
        """
        height, width = self.sensor_hw
        rows, columns = _sources(height, self.scale, self.dy), _sources(width, self.scale, self.dx)
        return rows, np.where(columns >= 0, width - 1 - columns, -1) if self.flip else columns


class AugmentedBoxes(NamedTuple):
    """Boxes of which something is left in the frame.

    Attributes:
        xyxy: Cut at the frame's edge, of the type given, shape [n, 4].
        kept: Which of the boxes given each is, int64 [n].
        ignore: Whether less than `least_share` of its area is left, bool [n].
    """

    xyxy: np.ndarray
    kept: np.ndarray
    ignore: np.ndarray


def draw_augmentation(
    settings: BoxAugmentSettings, *, sensor_hw: tuple[int, int], seed: int, epoch: int, sample: int
) -> BoxAugmentation:
    """Draw what is done to a sample; seed, epoch and sample decide it alone.

    Windows that follow each other in a recording are treated alike when they are given the same number.

    Args:
        settings: What may change.
        sensor_hw: Height and width of the frame in pixels.
        seed: Seed of the run, at least 0.
        epoch: Epoch, from 0.
        sample: Number of the sample, from 0.
    """
    random = np.random.default_rng([seed, epoch, sample, _CHOICES])
    # All are drawn, wanted or not, so that one setting does not change what the others draw.
    flip, zoom, inwards, amount, right, down, slower, swapped, dropped = random.random(9)
    scale = 1.0
    if zoom < settings.zoom:
        largest = settings.zoom_in if inwards < settings.zoom_in_share else settings.zoom_out
        factor = 1 + float(amount) * (largest - 1)
        scale = factor if inwards < settings.zoom_in_share else 1 / factor
    shift = random.integers(-settings.translate_px, settings.translate_px + 1, 2)
    height, width = sensor_hw
    return BoxAugmentation(
        sensor_hw=sensor_hw,
        flip=bool(flip < settings.flip),
        scale=scale,
        # Enlarged, it covers the frame; reduced, it lies within.
        dx=float(right) * width * (1 - scale) + int(shift[0]),
        dy=float(down) * height * (1 - scale) + int(shift[1]),
        time_scale=float(settings.time_scale ** (2 * slower - 1)),
        polarity_flip=bool(swapped < settings.polarity_flip),
        drop=float(dropped) * settings.drop,
        least_share=settings.least_share,
        seed=(seed, epoch, sample, _DROPS),
    )


def augmented_events(events: np.ndarray, drawn: BoxAugmentation, *, t_end_us: int) -> np.ndarray:
    """Return the events of a window as the draw changes them.

    Boxes hold at the end of the window, so time is stretched from there: an event at t is sent at
    t_end_us - ceil((t_end_us - t) time_scale). Give events of `time_scale` times the window's length, or
    a window whose time is shrunk begins empty; what is then too early is for the binning to leave out.

    Args:
        events: Before t_end_us, in order of time, shape [N], EVENT_DTYPE. Not changed.
        drawn: What is done.
        t_end_us: End of the window in microseconds.

    Returns:
        EVENT_DTYPE, in order of time; an enlarged pixel's events stand side by side.

    Raises:
        ConfigError: An event lies outside of the frame.
    """
    height, width = drawn.sensor_hw
    if len(events) and (events["x"].max() >= width or events["y"].max() >= height):
        raise ConfigError(
            f"events reach x {events['x'].max()}, y {events['y'].max()}; "
            f"expected a sensor of {drawn.sensor_hw}"
        )
    if drawn.drop > 0:
        events = events[np.random.default_rng(drawn.seed).random(len(events)) >= drawn.drop]
    (first_row, n_rows), (first_column, n_columns) = (
        _targets(source, length) for source, length in zip(drawn.sources(), drawn.sensor_hw, strict=True)
    )
    x, y = events["x"].astype(np.int64), events["y"].astype(np.int64)
    copies = n_rows[y] * n_columns[x]
    moved = np.repeat(events, copies)
    # Number of each copy within its event, which counts through the columns of its rows.
    number = np.arange(len(moved)) - np.repeat(np.cumsum(copies) - copies, copies)
    wide = np.repeat(n_columns[x], copies)
    moved["x"] = np.repeat(first_column[x], copies) + number % wide
    moved["y"] = np.repeat(first_row[y], copies) + number // wide
    if drawn.time_scale != 1:
        before_us = np.ceil((t_end_us - moved["t"]) * drawn.time_scale)
        moved["t"] = t_end_us - before_us.astype(np.int64)
    if drawn.polarity_flip:
        moved["p"] = ~moved["p"]
    return moved


def augmented_frames(frames: np.ndarray, drawn: BoxAugmentation) -> np.ndarray:
    """Return the frames of a window as the draw changes them; time is not stretched.

    Args:
        frames: Counts, of whole numbers of any type, shape [T, C, H, W]; the first half of the channels is
            OFF, the second ON. Not changed.
        drawn: What is done.

    Raises:
        ConfigError: The frames are of another size, or their channels cannot be halved.
    """
    if frames.ndim != 4 or frames.shape[2:] != drawn.sensor_hw or frames.shape[1] % 2:
        raise ConfigError(
            f"frames are of shape {list(frames.shape)}; expected [T, C, {drawn.sensor_hw[0]}, "
            f"{drawn.sensor_hw[1]}] with an even number C of channels, OFF then ON"
        )
    if drawn.drop > 0:
        kept = np.random.default_rng(drawn.seed).binomial(frames.astype(np.int64), 1 - drawn.drop)
        frames = kept.astype(frames.dtype)
    rows, columns = drawn.sources()
    moved = frames[:, :, rows[:, None], columns]
    moved[:, :, rows < 0] = 0
    moved[..., columns < 0] = 0
    if drawn.polarity_flip:
        half = frames.shape[1] // 2
        moved = np.concatenate([moved[:, half:], moved[:, :half]], axis=1)
    return moved


def augmented_boxes(xyxy: np.ndarray, drawn: BoxAugmentation) -> AugmentedBoxes:
    """Return the boxes of a window, moved, cut at the frame's edge, without those of which nothing is left.

    Args:
        xyxy: x0, y0, x1, y1 in pixels, shape [M, 4]. Not changed.
        drawn: What is done.
    """
    placed = xyxy.astype(np.float64).reshape(-1, 4)
    if drawn.flip:
        placed = flip_boxes(placed, width=drawn.sensor_hw[1])
    placed = placed * drawn.scale + [drawn.dx, drawn.dy, drawn.dx, drawn.dy]
    cut = clip_boxes(placed, sensor_hw=drawn.sensor_hw)
    area, left = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (placed, cut))
    kept = np.flatnonzero(left > 0)
    return AugmentedBoxes(cut[kept].astype(xyxy.dtype), kept, left[kept] < drawn.least_share * area[kept])


def _sources(pixels: int, scale: float, shift: float) -> np.ndarray:
    """Return which pixel along one axis lies under the centre of each of the result, -1 for none."""
    source = np.floor((np.arange(pixels) + 0.5 - shift) / scale).astype(np.int64)
    return np.where((source >= 0) & (source < pixels), source, -1)


def _targets(source: np.ndarray, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first pixel of the result that shows each pixel, and how many do; they lie side by side."""
    shown = np.flatnonzero(source >= 0)
    count = np.bincount(source[shown], minlength=pixels)
    first = np.full(pixels, pixels)
    np.minimum.at(first, source[shown], shown)
    return first, count

"""Seeded augmentation of count frames, in the same pass that moves them to time-first order.

What a sample goes through depends on (seed, epoch, sample) alone: not on the batch it is in, the
thread, the process or an interruption. All frames of a sample go through the same draw.
"""

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numba import njit

from events.augment_pictures import PictureAugmentSettings
from events.errors import ConfigError

Fill = Literal["wrap", "zero"]


@dataclass(frozen=True)
class AugmentSettings:
    """How far a training sample may differ from the recorded one. The default changes nothing.

    Attributes:
        flip: Probability of mirroring left and right.
        roll_px: Largest shift along each axis in pixels; rows and columns are drawn independently.
        roll_fill: `wrap`: what leaves on one side enters on the other. `zero`: it is lost.
        drop: Largest share of events dropped. A sample draws its share between 0 and this, then each
            of its events is dropped with that probability.
        rotate_deg: Largest rotation about the centre in degrees, either way; nearest pixel.
        zoom: Largest relative change of size, either way; 0.1 gives 0.9 to 1.1; nearest pixel.
        pictures: What is done to pictures after that.
    """

    flip: float = 0.0
    roll_px: int = 0
    roll_fill: Fill = "zero"
    drop: float = 0.0
    rotate_deg: float = 0.0
    zoom: float = 0.0
    pictures: PictureAugmentSettings = field(default_factory=PictureAugmentSettings)

    def __post_init__(self) -> None:
        if not 0 <= self.flip <= 1:
            raise ConfigError(f"flip is a probability from 0 to 1, got {self.flip}")
        if self.roll_px < 0:
            raise ConfigError(f"roll_px must be at least 0 pixels, got {self.roll_px}")
        if self.roll_fill not in ("wrap", "zero"):
            raise ConfigError(f"roll_fill must be 'wrap' or 'zero', got {self.roll_fill!r}")
        if not 0 <= self.drop < 1:
            raise ConfigError(f"drop is a share from 0 to below 1, got {self.drop}")
        if not 0 <= self.rotate_deg <= 180:
            raise ConfigError(f"rotate_deg must be from 0 to 180 degrees, got {self.rotate_deg}")
        if not 0 <= self.zoom < 1:
            raise ConfigError(f"zoom must be from 0 to below 1, got {self.zoom}")


UNCHANGED = AugmentSettings()


def augment_batch(
    frames: np.ndarray,
    rows: np.ndarray,
    *,
    samples: np.ndarray,
    settings: AugmentSettings,
    seed: int,
    epoch: int,
    out: np.ndarray,
    at: int = 0,
) -> None:
    """Write the samples `frames[rows]`, augmented and time first, into `out[:, at : at + len(rows)]`.

    Args:
        frames: Counts, shape [M, T, P, H, W], uint8 or uint16. Not changed.
        rows: Rows of `frames` to take, shape [B], int64.
        samples: Number of each of these samples in the store, shape [B], int64; with seed and epoch
            it decides the draw.
        settings: What may change.
        seed: Seed of the run, at least 0.
        epoch: Epoch, from 0.
        out: Written, shape [T, at + B or more, P, H, W], C order, any number type that holds the counts.
        at: Place of the first of these samples in the batch.

    Raises:
        ConfigError: The shapes do not fit.
    """
    T, P, H, W = frames.shape[1:]
    fits = (out.shape[0], *out.shape[2:]) == (T, P, H, W) and 0 <= at <= out.shape[1] - len(rows)
    if not fits or not out.flags.c_contiguous or len(samples) != len(rows):
        raise ConfigError(
            f"out must be of shape [{T}, {at + len(rows)} or more, {P}, {H}, {W}] in C order and samples "
            f"of {len(rows)} entries, got {list(out.shape)} and {len(samples)}"
        )
    flat_frames, flat_out = frames.reshape(*frames.shape[:3], H * W), out.reshape(*out.shape[:3], H * W)
    _augment_batch(
        flat_frames, rows, samples, np.uint64(seed), np.uint64(epoch), settings.flip, settings.roll_px,
        settings.roll_fill == "wrap", settings.drop, np.deg2rad(settings.rotate_deg), settings.zoom, flat_out,
        at, H, W,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _mixed(value: np.uint64) -> np.uint64:
    """Spread a 64-bit number over all 64-bit numbers.

    The output step of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
    generators", OOPSLA 2014; constants of Stafford's variant 13).
    """
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@njit(cache=True, nogil=True)
def _draw(key: np.uint64, number: np.uint64) -> np.uint64:
    """Return draw `number` of the stream `key`; 0x9E37... is 2^64 over the golden ratio, as in SplitMix64."""
    return _mixed(key + (number + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))


@njit(cache=True, nogil=True)
def _unit(key: np.uint64, number: int) -> float:
    """Return draw `number` of the stream `key` as a number in [0, 1): its upper 53 bits."""
    return np.float64(_draw(key, np.uint64(number)) >> np.uint64(11)) * 2.0**-53


@njit(cache=True, nogil=True)
def _shift(key: np.uint64, number: int, largest: int) -> int:
    """Return an integer from -largest to largest, each equally likely."""
    return int(_unit(key, number) * (2 * largest + 1)) - largest


class Geometry(NamedTuple):
    """What a sample's pixels go through, in this order.

    Attributes:
        flip: Whether it is mirrored left and right.
        turn: Radians by which it is turned about the centre.
        scale: How much it is enlarged about the centre.
        dy, dx: How far it is moved down and right, in pixels.
    """

    flip: bool
    turn: float
    scale: float
    dy: int
    dx: int


def drawn_geometry(sample: int, *, settings: AugmentSettings, seed: int, epoch: int) -> Geometry:
    """Return what `augment_batch` does to the pixels of a sample, for what has to follow them, such as boxes.

    Args:
        sample: Number of the sample in the store.
        settings: What may change.
        seed: Seed of the run, at least 0.
        epoch: Epoch, from 0.
    """
    numbers = np.array([seed, epoch, sample], np.uint64)
    angle = np.deg2rad(settings.rotate_deg)
    return Geometry(*_drawn(numbers, settings.flip, settings.roll_px, angle, settings.zoom))


@njit(cache=True, nogil=True)
def _drawn(
    numbers: np.ndarray, flip_share: float, roll_px: int, angle: float, zoom: float
) -> tuple[bool, float, float, int, int]:
    """Draw the fields of a `Geometry` for seed, epoch and sample."""
    return _geometry(_key(numbers[0], numbers[1], numbers[2]), flip_share, roll_px, angle, zoom)


@njit(cache=True, nogil=True)
def _key(seed: np.uint64, epoch: np.uint64, sample: np.uint64) -> np.uint64:
    """Return a sample's stream of draws in an epoch.

    Mixed once for each number, so that neighbouring seeds, epochs and samples share no stream.
    """
    return _mixed(_mixed(_mixed(seed) ^ epoch) ^ sample)


@njit(cache=True, nogil=True)
def _geometry(
    key: np.uint64, flip_share: float, roll_px: int, angle: float, zoom: float
) -> tuple[bool, float, float, int, int]:
    """Draw the fields of a `Geometry`."""
    flip = _unit(key, 0) < flip_share
    dy, dx = _shift(key, 1, roll_px), _shift(key, 2, roll_px)
    turn, scale = (2 * _unit(key, 4) - 1) * angle, 1 + (2 * _unit(key, 5) - 1) * zoom
    return flip, turn, scale, dy, dx


@njit(cache=True, nogil=True)
def _copy(pixels: np.ndarray, out: np.ndarray) -> None:
    """Copy neighbouring pixels."""
    # A plain loop from 0, or the compiler will not copy many pixels at a time.
    for k in range(len(pixels)):
        out[k] = pixels[k]


@njit(cache=True, nogil=True)
def _copy_shifted(plane: np.ndarray, out: np.ndarray, H: int, W: int, dy: int, dx: int, wrap: bool) -> None:
    """Copy one plane [H * W] moved by (dy, dx) pixels."""
    if wrap:
        dy, dx = dy % H, dx % W
    start, stop = min(max(dx, 0), W), max(min(W + dx, W), 0)
    for y in range(H):
        target = out[y * W : (y + 1) * W]
        source_y = (y - dy) % H if wrap else y - dy
        if source_y < 0 or source_y >= H:
            target[:] = 0
            continue
        row = plane[source_y * W : (source_y + 1) * W]
        _copy(row[start - dx : stop - dx], target[start:stop])
        if wrap:
            _copy(row[W - start :], target[:start])
        else:
            target[:start] = 0
            target[stop:] = 0


@njit(cache=True, nogil=True)
def _fill_lookup(
    lookup: np.ndarray, H: int, W: int, dy: int, dx: int, wrap: bool, flip: bool, angle: float, scale: float
) -> None:
    """Write, for every output pixel, the flat index of the pixel it shows, or -1 for none.

    The sample is mirrored, turned by `angle` radians, enlarged by `scale`, and moved; so an output
    pixel is moved back, shrunk and turned back about the centre, and rounded to the nearest pixel.
    """
    centre_y, centre_x = (H - 1) / 2, (W - 1) / 2
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    for y in range(H):
        for x in range(W):
            from_y, from_x = y - dy, x - dx
            if wrap:
                from_y %= H
                from_x %= W
            turned_y = cosine * (from_y - centre_y) - sine * (from_x - centre_x) + centre_y
            turned_x = sine * (from_y - centre_y) + cosine * (from_x - centre_x) + centre_x
            source_y, source_x = math.floor(turned_y + 0.5), math.floor(turned_x + 0.5)
            if source_y < 0 or source_y >= H or source_x < 0 or source_x >= W:
                lookup[y * W + x] = -1
            else:
                lookup[y * W + x] = source_y * W + (W - 1 - source_x if flip else source_x)


@njit(cache=True, nogil=True)
def _copy_looked_up(plane: np.ndarray, out: np.ndarray, lookup: np.ndarray) -> None:
    """Copy one plane [H * W] through the lookup table of `_fill_lookup`."""
    for k in range(len(lookup)):
        source = lookup[k]
        out[k] = plane[source] if source >= 0 else 0


@njit(cache=True, nogil=True)
def _thin(plane: np.ndarray, key: np.uint64, number: np.uint64, threshold: np.uint64) -> np.uint64:
    """Drop each event of a plane [H * W] whose 16-bit draw lies below `threshold`.

    A 64-bit draw serves four events. Returns the number of the next unused draw.
    """
    draw, left = np.uint64(0), 0
    for k in range(len(plane)):
        count = int(plane[k])
        if count == 0:
            continue
        kept = 0
        for _ in range(count):
            if left == 0:
                draw, left = _draw(key, number), 4
                number += np.uint64(1)
            if draw & np.uint64(0xFFFF) >= threshold:
                kept += 1
            draw >>= np.uint64(16)
            left -= 1
        plane[k] = kept
    return number


@njit(cache=True, nogil=True)
def _augment_batch(
    frames: np.ndarray,
    rows: np.ndarray,
    samples: np.ndarray,
    seed: np.uint64,
    epoch: np.uint64,
    flip_share: float,
    roll_px: int,
    wrap: bool,
    drop: float,
    angle: float,
    zoom: float,
    out: np.ndarray,
    at: int,
    H: int,
    W: int,
) -> None:
    """Augment a batch; arguments as in `augment_batch`, but planes are flat and `angle` is in radians."""
    T, P = frames.shape[1:3]
    resampled = angle > 0 or zoom > 0
    lookup = np.empty(H * W, np.int32)
    for b in range(len(rows)):
        key = _key(seed, epoch, np.uint64(samples[b]))
        flip, turn, scale, dy, dx = _geometry(key, flip_share, roll_px, angle, zoom)
        threshold = np.uint64(_unit(key, 3) * drop * 2.0**16)
        looked_up = flip or resampled
        if looked_up:
            _fill_lookup(lookup, H, W, dy, dx, wrap, flip, turn, scale)
        number = np.uint64(16)
        for t in range(T):
            for p in range(P):
                plane, target = frames[rows[b], t, p], out[t, at + b, p]
                if looked_up:
                    _copy_looked_up(plane, target, lookup)
                elif dy != 0 or dx != 0:
                    _copy_shifted(plane, target, H, W, dy, dx, wrap)
                else:
                    _copy(plane, target)
                if threshold > np.uint64(0):
                    number = _thin(target, key, number, threshold)

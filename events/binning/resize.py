"""Resizing frames of levels as pictures, as published code does, for comparing numbers with it.

Each lane of each frame is an 8-bit picture, 255 where the lane is taken, resized by Pillow's bilinear filter
(antialiased). The result are fractions: no pixel is in one lane any more, and what it carries is the sum of
2^s times its share in lane s. Binning straight at the wanted size keeps lanes whole, and is the default.

`separate` resizes each polarity by itself. `joint` is the published way (`dvscifar_dataloader` of one-hot
M-LIF, and TET's): the two polarities go as one picture of luminance (OFF) and alpha (ON), which Pillow
multiplies before resizing and divides after it. OFF is lost where ON has nothing near, and is many times too
large where both share pixels.

The published frames are [x, y]; the pictures are turned so here, too, as Pillow rounds between its passes.
"""

import numpy as np
from PIL import Image

from events.binning.levels import FULL_SCALE
from events.binning.settings import BinSettings, Frames
from events.errors import ConfigError


def resize_frames(binned: Frames, settings: BinSettings, out: np.ndarray | None = None) -> Frames:
    """Resize frames of lanes, as stored, to the size and in the way that the settings say.

    Args:
        binned: Frames of `settings.before_resizing`.
        settings: With `resize` `separate` or `joint`.
        out: Where to put the frames, uint16, of the settings' shape; None makes a new array.

    Returns:
        Frames of what each pixel carries, times 255; uint16 [Q, P, H, W].
    """
    if settings.levels is None or settings.size_hw is None:
        raise ConfigError("frames are resized as lanes: set levels and size_hw")
    frames = np.empty((settings.frames, 2, *settings.size_hw), np.uint16) if out is None else out
    for stored, frame in zip(binned.frames, frames, strict=True):
        lanes = stored == np.arange(1, settings.levels + 1, dtype=np.uint8)[:, None, None, None]
        shares = resize_lanes(lanes, settings.size_hw, joint=settings.resize == "joint")
        frame[...] = (
            shares.astype(np.uint16) << np.arange(settings.levels, dtype=np.uint16)[:, None, None, None]
        ).sum(axis=0, dtype=np.uint16)
    return binned._replace(frames=frames)


def resize_lanes(lanes: np.ndarray, size_hw: tuple[int, int], *, joint: bool) -> np.ndarray:
    """Resize lanes as 8-bit pictures.

    Args:
        lanes: Whether a pixel is in the lane, bool [N, P, h, w].
        size_hw: Height and width wanted.
        joint: Both polarities as one picture of luminance and alpha.

    Returns:
        Shares in the lane, 255 for all; uint8 [N, P, H, W].
    """
    pictures = (lanes * np.uint8(FULL_SCALE)).swapaxes(2, 3)  # [N, P, x, y]
    size = size_hw[0], size_hw[1]  # Pillow's width is y here
    resized = [_joint(pair, size) if joint else _separate(pair, size) for pair in pictures]
    return np.stack(resized).swapaxes(2, 3)


def _separate(pair: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return two planes, uint8 [P, x, y], each resized by itself."""
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in pair]
    return np.stack([np.asarray(plane.resize(size, Image.Resampling.BILINEAR)) for plane in planes])


def _joint(pair: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return two planes, uint8 [P, x, y], resized as luminance and alpha of one picture."""
    picture = Image.merge("LA", [Image.fromarray(np.ascontiguousarray(plane)) for plane in pair])
    resized = picture.resize(size, Image.Resampling.BILINEAR)
    return np.stack([np.asarray(band) for band in resized.split()])

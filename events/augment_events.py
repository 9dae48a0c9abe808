"""Seeded augmentation of raw events together with boxes: shift, and mirror left and right.

Frames that are already binned are augmented by `events.augment`. Source: the event readers released with
LT-SNN, which shift by up to 20 pixels (N-Cars 10) and mirror with probability 0.5.
"""

from dataclasses import dataclass

import numpy as np

from events.boxes import flip_boxes
from events.errors import ConfigError


@dataclass(frozen=True)
class EventAugmentSettings:
    """How far the events of a training sample may differ from the recorded ones. The default changes nothing.

    Attributes:
        flip: Probability of mirroring left and right.
        shift_px: Largest shift along each axis in pixels; rows and columns are drawn independently. Events
            that leave the sensor are lost, boxes never leave: the shift is drawn within what they allow.
    """

    flip: float = 0.0
    shift_px: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.flip <= 1:
            raise ConfigError(f"flip is a probability from 0 to 1, got {self.flip}")
        if self.shift_px < 0:
            raise ConfigError(f"shift_px must be at least 0 pixels, got {self.shift_px}")


def shift_events(events: np.ndarray, *, dx: int, dy: int, sensor_hw: tuple[int, int]) -> np.ndarray:
    """Move events, shape [N], EVENT_DTYPE, right by dx and down by dy; what leaves the sensor is lost."""
    x, y = events["x"].astype(np.int64) + dx, events["y"].astype(np.int64) + dy
    inside = (x >= 0) & (x < sensor_hw[1]) & (y >= 0) & (y < sensor_hw[0])
    moved = events[inside]
    moved["x"], moved["y"] = x[inside], y[inside]
    return moved


def flip_events(events: np.ndarray, *, width: int) -> np.ndarray:
    """Mirror events, shape [N], EVENT_DTYPE, left and right on a sensor of that width."""
    flipped = events.copy()
    flipped["x"] = width - 1 - events["x"]
    return flipped


def augment_events(
    events: np.ndarray,
    boxes: np.ndarray,
    *,
    sensor_hw: tuple[int, int],
    settings: EventAugmentSettings,
    seed: int,
    epoch: int,
    sample: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return shifted and perhaps mirrored events and boxes; seed, epoch and sample decide the draw alone.

    Args:
        events: Shape [N], EVENT_DTYPE, all inside the sensor. Not changed.
        boxes: x0, y0, x1, y1 in pixels, inside the sensor, shape [M, 4]. Not changed.
        sensor_hw: Height and width of the sensor in pixels.
        settings: What may change.
        seed: Seed of the run, at least 0.
        epoch: Epoch, from 0.
        sample: Number of the sample, from 0.
    """
    random = np.random.default_rng([seed, epoch, sample])
    height, width = sensor_hw
    dx, dy = (
        _draw_shift(random, settings.shift_px, boxes[:, [axis, axis + 2]], pixels)
        for axis, pixels in ((0, width), (1, height))
    )
    events, boxes = (
        shift_events(events, dx=dx, dy=dy, sensor_hw=sensor_hw),
        boxes + np.array([dx, dy, dx, dy]),
    )
    if random.random() < settings.flip:
        return flip_events(events, width=width), flip_boxes(boxes, width=width)
    return events, boxes


def _draw_shift(random: np.random.Generator, largest: int, sides: np.ndarray, pixels: int) -> int:
    """Return a shift along one axis that keeps all sides, shape [M, 2], from 0 to `pixels`."""
    lowest = max(-largest, -int(np.floor(sides.min(initial=pixels))))
    highest = min(largest, pixels - int(np.ceil(sides.max(initial=0))))
    return int(random.integers(min(lowest, 0), max(highest, 0) + 1))

"""How a picture moves before the sensor: repeated closed loops, as CIFAR10-DVS was recorded.

Li et al., "CIFAR10-DVS: an event-stream dataset for object classification", Frontiers in Neuroscience
11:309, 2017, move each picture over a screen in repeated closed loops of smooth motion, so that every
recording ends where it began and edges of all directions are seen. Sizes and speed here are our own.
"""

from dataclasses import dataclass

import numpy as np

from events.errors import ConfigError


@dataclass(frozen=True)
class MotionSettings:
    """A diamond, run through at constant speed: four moves along the diagonals make one loop.

    Attributes:
        loops: How often the loop is run through in one recording.
        radius_px: Distance of the diamond's corners from its middle, in sensor pixels.
    """

    loops: int = 2
    radius_px: float = 4.0

    def __post_init__(self) -> None:
        if self.loops < 1:
            raise ConfigError(f"loops must be at least 1, got {self.loops}")
        if not self.radius_px > 0:
            raise ConfigError(f"radius_px must be above 0, got {self.radius_px}")


def closed_loops(settings: MotionSettings, *, steps: int) -> np.ndarray:
    """Return where the picture is at the start of each step and after the last.

    Starting at the top corner and going clockwise, corner k of a loop is passed at k / 4 of it.

    Returns:
        Displacement (down, right) in sensor pixels from the middle, float64, shape [steps + 1, 2]; the
        first and the last row are equal.
    """
    corners = settings.radius_px * np.array([[-1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, -1.0], [-1.0, 0.0]])
    # Integers up to the remainder, so that every loop and the two ends agree to the last bit.
    place = np.arange(steps + 1, dtype=np.int64) * 4 * settings.loops % (4 * steps) / steps
    return np.stack([np.interp(place, np.arange(5), corners[:, axis]) for axis in range(2)], axis=1)

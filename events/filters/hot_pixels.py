"""Pixels that send far more events than the others, found in a first pass over a recording."""

from collections.abc import Iterable

import numpy as np

from events.errors import ConfigError

# A pixel is called hot where it sent more than this many times the events of the pixel at the given
# percentile, and at least so many.
HOT_TIMES = 5
HOT_PERCENTILE = 99
HOT_AT_LEAST = 50


class PixelCounts:
    """Events of each pixel of a stream.

    Attributes:
        counts: Events per pixel, shape [H * W], int64, row by row.
        duration_us: From the earliest event to the latest.
    """

    def __init__(self, sensor_hw: tuple[int, int]) -> None:
        self.counts = np.zeros(sensor_hw[0] * sensor_hw[1], np.int64)
        self._width = sensor_hw[1]
        self._span_us: tuple[int, int] | None = None

    def update(self, events: np.ndarray) -> None:
        """Add the next events, shape [n], EVENT_DTYPE."""
        if len(events) == 0:
            return
        first, last = int(events["t"].min()), int(events["t"].max())
        if self._span_us is not None:
            first, last = min(first, self._span_us[0]), max(last, self._span_us[1])
        self._span_us = (first, last)
        pixel = events["y"].astype(np.int64) * self._width + events["x"]
        self.counts += np.bincount(pixel, minlength=len(self.counts))

    @property
    def duration_us(self) -> int:
        """Microseconds from the earliest event to the latest, 0 without events."""
        return 0 if self._span_us is None else self._span_us[1] - self._span_us[0]

    def hot(self, rate_hz: float | None = None) -> tuple[tuple[int, int], ...]:
        """Return the hot pixels (x, y), the busiest first.

        Args:
            rate_hz: Pixels with more events per second than that; None takes the rule of `hot_limit`.
        """
        limit = hot_limit(self.counts) if rate_hz is None else rate_hz * self.duration_us / 1e6
        found = np.flatnonzero(self.counts > limit)
        busiest_first = found[np.argsort(-self.counts[found], kind="stable")]
        return tuple((int(i % self._width), int(i // self._width)) for i in busiest_first)


def hot_limit(counts: np.ndarray) -> float:
    """Return the events above which a pixel is called hot, from those of all pixels, shape [H * W]."""
    return max(HOT_AT_LEAST, HOT_TIMES * float(np.percentile(counts, HOT_PERCENTILE)))


def find_hot_pixels(
    chunks: Iterable[np.ndarray], sensor_hw: tuple[int, int], *, rate_hz: float | None = None
) -> tuple[tuple[int, int], ...]:
    """Return the hot pixels (x, y) of a stream, the busiest first; see `PixelCounts.hot`.

    Raises:
        ConfigError: The rate is not above 0.
    """
    if rate_hz is not None and rate_hz <= 0:
        raise ConfigError(f"rate of hot pixels must be above 0 events/s, got {rate_hz}")
    pixels = PixelCounts(sensor_hw)
    for chunk in chunks:
        pixels.update(chunk)
    return pixels.hot(rate_hz)

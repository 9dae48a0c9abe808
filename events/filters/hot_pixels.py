"""Pixels that send far more events than the others, found in a first pass over a recording."""

from collections.abc import Iterable

import numpy as np

from events.errors import ConfigError

# A pixel is called hot where it sent more than this many times the events of the pixel at the given
# percentile, more than that many times those of the second busiest of its eight neighbours, and more than
# so many. A flame, a lamp or an edge is as busy as a hot pixel, but its pixels are busy together.
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
            rate_hz: Pixels with more events per second than that; None takes the rule of `hot_pixels`.
        """
        counts = self.counts.reshape(-1, self._width)
        if rate_hz is None:
            return hot_pixels(counts)
        return busiest_first(counts, counts > rate_hz * self.duration_us / 1e6)


def hot_pixels(counts: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Return the pixels (x, y) that are hot by the rule above, the busiest first.

    Args:
        counts: Events of each pixel, shape [H, W].
    """
    limit = max(HOT_AT_LEAST, HOT_TIMES * float(np.percentile(counts, HOT_PERCENTILE)))
    hot = counts > limit
    y, x = np.nonzero(hot)
    framed = np.pad(counts, 1)
    # Nine views, shifted by a pixel each way; the fifth is the pixel itself.
    around = np.stack([framed[y + i // 3, x + i % 3] for i in range(9) if i != 4])
    hot[y, x] = counts[y, x] > HOT_TIMES * np.sort(around, axis=0)[-2]
    return busiest_first(counts, hot)


def busiest_first(counts: np.ndarray, chosen: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Return the chosen pixels (x, y) of a mask, shape [H, W], by falling number of events."""
    y, x = np.nonzero(chosen)
    order = np.argsort(-counts[y, x], kind="stable")
    return tuple(zip(x[order].tolist(), y[order].tolist(), strict=True))


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

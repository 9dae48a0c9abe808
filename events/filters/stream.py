"""All filters in one pass over a stream of chunks, in Numba; the rules are those of `reference.py`.

What the steps remember between events is in arrays, so that any cut of the stream gives the same events. An
event is read and written as two 64-bit words: its time, then x, y and p as EVENT_DTYPE lays them out.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numba import njit

from events.filters.settings import FilterReport, FilterSettings
from events.recording import EVENT_DTYPE

# Time of an event that never was: so early that no difference to a time of this age of the world runs over.
NEVER = -(1 << 62)

# Counts, in the order of the fields of FilterReport between events_in and events_out.
OUTSIDE_TIME, OUTSIDE_CROP, OTHER_POLARITY, HOT, DUPLICATES, REFRACTORY, BACKGROUND, COUNTS = range(8)
COUNT_NAMES = (
    "outside_time",
    "outside_crop",
    "other_polarity",
    "hot",
    "duplicates",
    "refractory",
    "background",
)


class Rules(NamedTuple):
    """`FilterSettings` as numbers; 0 turns a step off, `keep_polarity` -1."""

    start_us: int
    stop_us: int
    x0: int
    y0: int
    x1: int
    y1: int
    keep_polarity: int
    flip: int
    hot: int
    dedup: int
    refractory_us: int
    background_us: int
    downsample: int


class Memory(NamedTuple):
    """What the steps remember; a step that is off has arrays of one pixel.

    Attributes:
        hot: Whether a pixel of the recording is hot, shape [H, W], bool.
        same: Time of the last event of a pixel and polarity, shape [H, W, 2], int64.
        kept: Time of the last kept event of a pixel, shape [H, W], int64.
        seen: Time of the last event of a pixel, with a border of one pixel, shape [H + 2, W + 2], int64.
    """

    hot: np.ndarray
    same: np.ndarray
    kept: np.ndarray
    seen: np.ndarray


class EventFilter:
    """Applies the steps of `FilterSettings` to one stream of events.

    Attributes:
        sensor_hw: Height and width of what comes out, in pixels.
        report: Counts so far.
    """

    def __init__(self, settings: FilterSettings, sensor_hw: tuple[int, int]) -> None:
        """Prepare for the events of a sensor, which must all be inside it. Raises as `check_sensor`."""
        settings.check_sensor(sensor_hw)
        self.sensor_hw = settings.sensor_after(sensor_hw)
        self.report = FilterReport()
        self._rules = rules_of(settings, sensor_hw)
        self._memory = new_memory(settings, sensor_hw)
        self._counts = np.zeros(COUNTS, np.int64)
        self._out = np.empty(0, EVENT_DTYPE)

    def __call__(self, events: np.ndarray) -> np.ndarray:
        """Return what is left of the next events, shape [n], EVENT_DTYPE; the next call overwrites it."""
        if len(self._out) < len(events):
            self._out = np.zeros(len(events), EVENT_DTYPE)
        words = np.ascontiguousarray(events).view(np.int64)
        left = apply(words, self._out.view(np.int64), self._rules, self._memory, self._counts)
        self.report.events_in += len(events)
        self.report.events_out += left
        for name, count in zip(COUNT_NAMES, self._counts.tolist(), strict=True):
            setattr(self.report, name, count)
        return self._out[:left]

    def stream(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield what is left of each chunk, none where that is nothing."""
        for chunk in chunks:
            left = self(chunk)
            if len(left):
                yield left


def rules_of(settings: FilterSettings, sensor_hw: tuple[int, int]) -> Rules:
    """Return the settings as numbers."""
    limits = np.iinfo(np.int64)
    x0, y0, x1, y1 = settings.crop or (0, 0, sensor_hw[1], sensor_hw[0])
    return Rules(
        start_us=limits.min if settings.start_us is None else settings.start_us,
        stop_us=limits.max if settings.stop_us is None else settings.stop_us,
        x0=x0,
        y0=y0,
        x1=x1,
        y1=y1,
        keep_polarity={"on": 1, "off": 0}.get(settings.polarity or "", -1),
        flip=int(settings.polarity == "flip"),
        hot=int(bool(settings.hot_pixels)),
        dedup=int(settings.dedup),
        refractory_us=settings.refractory_us or 0,
        background_us=settings.background_us or 0,
        downsample=settings.downsample,
    )


def new_memory(settings: FilterSettings, sensor_hw: tuple[int, int]) -> Memory:
    """Return the memory of steps that have seen nothing."""
    one = (1, 1)
    hot = np.zeros(sensor_hw if settings.hot_pixels else one, np.bool_)
    for x, y in settings.hot_pixels:
        hot[y, x] = True
    height, width = sensor_hw
    return Memory(
        hot,
        np.full((*(sensor_hw if settings.dedup else one), 2), NEVER),
        np.full(sensor_hw if settings.refractory_us else one, NEVER),
        np.full((height + 2, width + 2) if settings.background_us else one, NEVER),
    )


@njit(cache=True, nogil=True)
def apply(words: np.ndarray, out: np.ndarray, rules: Rules, memory: Memory, counts: np.ndarray) -> int:
    """Apply all steps to events of two words each, shape [2 n]; write what is left; return how many."""
    left = 0
    for i in range(len(words) // 2):
        t, packed = words[2 * i], words[2 * i + 1]
        x, y, p = packed & 0xFFFF, (packed >> 16) & 0xFFFF, (packed >> 32) & 1
        if t < rules.start_us or t >= rules.stop_us:
            counts[OUTSIDE_TIME] += 1
        elif x < rules.x0 or x >= rules.x1 or y < rules.y0 or y >= rules.y1:
            counts[OUTSIDE_CROP] += 1
        elif rules.keep_polarity >= 0 and p != rules.keep_polarity:
            counts[OTHER_POLARITY] += 1
        elif rules.hot and memory.hot[y, x]:
            counts[HOT] += 1
        elif rules.dedup and is_duplicate(memory.same, t, x, y, p ^ rules.flip):
            counts[DUPLICATES] += 1
        elif rules.refractory_us and is_refractory(memory.kept, t, x, y, rules.refractory_us):
            counts[REFRACTORY] += 1
        elif rules.background_us and is_background(memory.seen, t, x, y, rules.background_us):
            counts[BACKGROUND] += 1
        else:
            x, y, p = x - rules.x0, y - rules.y0, p ^ rules.flip
            if rules.downsample > 1:
                x, y = x // rules.downsample, y // rules.downsample
            out[2 * left] = t
            out[2 * left + 1] = x | (y << 16) | (p << 32)
            left += 1
    return left


@njit(cache=True, nogil=True)
def is_duplicate(same: np.ndarray, t: int, x: int, y: int, p: int) -> bool:
    """Whether the last event of this pixel and polarity had this time; remembers this one."""
    duplicate = same[y, x, p] == t
    same[y, x, p] = t
    return duplicate


@njit(cache=True, nogil=True)
def is_refractory(kept: np.ndarray, t: int, x: int, y: int, refractory_us: int) -> bool:
    """Whether the pixel's last kept event is less than `refractory_us` before; else remembers this one."""
    last = kept[y, x]
    if last != NEVER and t >= last and t - last < refractory_us:
        return True
    kept[y, x] = t
    return False


@njit(cache=True, nogil=True)
def is_background(seen: np.ndarray, t: int, x: int, y: int, background_us: int) -> bool:
    """Whether no neighbour had an event within `background_us`; remembers this one."""
    # Without branches, which noise would make unpredictable: |t - last| <= background_us as one comparison.
    width = np.uint64(2 * background_us)
    earliest = t - background_us
    above, own, below = seen[y], seen[y + 1], seen[y + 2]
    supported: np.bool_ = np.False_
    for column in range(x, x + 3):
        supported |= np.uint64(above[column] - earliest) <= width
        supported |= np.uint64(below[column] - earliest) <= width
    supported |= np.uint64(own[x] - earliest) <= width
    supported |= np.uint64(own[x + 2] - earliest) <= width
    seen[y + 1, x + 1] = t
    return bool(not supported)

"""Each filter in its plainest form: all events of a recording go in, those that are kept come out.

This file is the definition; `events.filters.stream` does the same, all steps in one pass over chunks.

Sources: the background-activity filter is that of Delbruck, "Frame-free dynamic digital vision", 2008: an
event needs support by a recent event of a neighbouring pixel. The refractory filter is described, beside it,
by Czech and Orchard, "Evaluating noise filtering for event-based asynchronous change detection image
sensors", BioRob 2016.
"""

import numpy as np

from events.filters.settings import FilterReport, FilterSettings, Polarity


def keep_time(events: np.ndarray, *, start_us: int | None, stop_us: int | None) -> np.ndarray:
    """Keep the events, shape [N], EVENT_DTYPE, with start_us <= t < stop_us; None is no limit."""
    t = events["t"]
    late_enough = t >= (t if start_us is None else start_us)
    return events[late_enough & ((t < stop_us) if stop_us is not None else True)]


def crop(events: np.ndarray, *, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """Keep the events with x0 <= x < x1 and y0 <= y < y1, and count pixels from x0, y0."""
    x, y = events["x"], events["y"]
    kept = events[(x >= x0) & (x < x1) & (y >= y0) & (y < y1)].copy()
    kept["x"] -= x0
    kept["y"] -= y0
    return kept


def select_polarity(events: np.ndarray, polarity: Polarity) -> np.ndarray:
    """Keep the events that are `on` or `off`, or `flip` the polarity of all."""
    if polarity == "flip":
        flipped = events.copy()
        flipped["p"] = ~events["p"]
        return flipped
    return events[events["p"] == (polarity == "on")]


def drop_hot_pixels(events: np.ndarray, pixels: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Leave out all events of the pixels (x, y)."""
    hot = np.zeros(len(events), np.bool_)
    for x, y in pixels:
        hot |= (events["x"] == x) & (events["y"] == y)
    return events[~hot]


def drop_duplicates(events: np.ndarray) -> np.ndarray:
    """Leave out each event equal in t, x, y and p to the last one of its pixel and polarity."""
    last: dict[tuple[int, int, bool], int] = {}
    keep = np.ones(len(events), np.bool_)
    for i, (t, x, y, p) in enumerate(events.tolist()):
        keep[i] = last.get((x, y, p)) != t
        last[x, y, p] = t
    return events[keep]


def drop_refractory(events: np.ndarray, refractory_us: int) -> np.ndarray:
    """Leave out each event less than `refractory_us` after the last kept one of its pixel.

    Where the clock steps back behind that last one, the event is kept.
    """
    last: dict[tuple[int, int], int] = {}
    keep = np.ones(len(events), np.bool_)
    for i, (t, x, y, _) in enumerate(events.tolist()):
        keep[i] = (x, y) not in last or not 0 <= t - last[x, y] < refractory_us
        if keep[i]:
            last[x, y] = t
    return events[keep]


def drop_background(events: np.ndarray, background_us: int) -> np.ndarray:
    """Leave out each event whose 8 neighbours all had no event within `background_us`.

    A neighbour counts by its last event so far, kept or not, at most `background_us` before; or after,
    where the clock steps back. The event's own pixel does not count.
    """
    last: dict[tuple[int, int], int] = {}
    keep = np.zeros(len(events), np.bool_)
    for i, (t, x, y, _) in enumerate(events.tolist()):
        neighbours = [(x + dx, y + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1) if dx or dy]
        keep[i] = any(abs(t - last[n]) <= background_us for n in neighbours if n in last)
        last[x, y] = t
    return events[keep]


def downsample(events: np.ndarray, factor: int) -> np.ndarray:
    """Join squares of `factor` x `factor` pixels to one pixel."""
    joined = events.copy()
    joined["x"] //= factor
    joined["y"] //= factor
    return joined


def apply_filters(events: np.ndarray, settings: FilterSettings) -> tuple[np.ndarray, FilterReport]:
    """Apply all steps in the order of `FilterSettings` to all events, shape [N], EVENT_DTYPE.

    Returns:
        The events left, EVENT_DTYPE, and how many each step removed.
    """
    report = FilterReport(events_in=len(events))
    x0, y0 = settings.crop[:2] if settings.crop is not None else (0, 0)

    def step(name: str, left: np.ndarray) -> np.ndarray:
        setattr(report, name, len(events) - len(left))
        return left

    events = step("outside_time", keep_time(events, start_us=settings.start_us, stop_us=settings.stop_us))
    if settings.crop is not None:
        x1, y1 = settings.crop[2:]
        events = step("outside_crop", crop(events, x0=x0, y0=y0, x1=x1, y1=y1))
    if settings.polarity is not None:
        events = step("other_polarity", select_polarity(events, settings.polarity))
    hot = tuple((x - x0, y - y0) for x, y in settings.hot_pixels)
    events = step("hot", drop_hot_pixels(events, hot))
    if settings.dedup:
        events = step("duplicates", drop_duplicates(events))
    if settings.refractory_us is not None:
        events = step("refractory", drop_refractory(events, settings.refractory_us))
    if settings.background_us is not None:
        events = step("background", drop_background(events, settings.background_us))
    if settings.downsample > 1:
        events = downsample(events, settings.downsample)
    report.events_out = len(events)
    return events, report

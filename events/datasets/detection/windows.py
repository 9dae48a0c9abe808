"""Which windows of a labelled recording become samples, and why; every rule can be asked for its reason.

A window ends at a time and holds the `window_us` before it. Windows end

- at label times. One before `first_us` is left out; with `grid_us`, the first one kept begins a grid, and
  a later one is kept where its distance from the one kept before it is within `tolerance_us` of a multiple of
  `grid_us`, at least one. (RVT's preprocessing: first_us 100,000, grid_us 250,000 for Gen1 and 100,000 for
  1Mpx, tolerance_us 2,000; Gehrig and Scaramuzza, CVPR 2023, scripts/genx/preprocess_dataset.py.)
- with `negatives_us`, at multiples of it inside the labels' coverage, where no label time is nearer than
  `window_us`: windows known to be empty, legal samples without boxes.
- with `every_us`, between each two of these, evenly and about that far apart: windows of which nothing is
  known, for networks that go through a recording in order. (RVT's, but for those before the first label.)

Boxes are cut down to the sensor, and left out where nothing of them remains. Those that are too small, or too
wide, stay and are marked `ignore`: a detection of one is neither right nor wrong.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from events.boxes import clip_boxes
from events.errors import ConfigError
from events.labels.table import LabelTable

# Why a window is there.
LABEL, NEGATIVE, REGULAR = range(3)

# What became of a label time.
KEPT, EARLY, OFF_GRID = range(3)


@dataclass(frozen=True)
class WindowRules:
    """Which windows are taken, and which boxes count.

    Attributes:
        window_us: Length of a window.
        first_us: Label times before this are left out.
        grid_us: Distance of label times; None takes all.
        tolerance_us: How far a label time may be off the grid.
        negatives_us: Distance of windows known to be empty; None takes none.
        every_us: Distance of windows of which nothing is known, about; None takes none.
        min_side_px: Boxes with a smaller side are marked, in pixels of the sensor.
        min_diagonal_px: Boxes with a smaller diagonal are marked, in pixels of the sensor.
        max_width: Boxes wider than this share of the sensor are marked.
    """

    window_us: int = 100_000
    first_us: int = 0
    grid_us: int | None = None
    tolerance_us: int = 2_000
    negatives_us: int | None = None
    every_us: int | None = None
    min_side_px: float = 0.0
    min_diagonal_px: float = 0.0
    max_width: float = 1.0

    def __post_init__(self) -> None:
        for name in ("window_us", "grid_us", "negatives_us", "every_us"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1 microsecond, got {value}")
        for name in ("tolerance_us", "min_side_px", "min_diagonal_px"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if not 0 < self.max_width <= 1:
            raise ConfigError(f"max_width must be a share above 0 and at most 1, got {self.max_width}")
        if self.grid_us is not None and 2 * self.tolerance_us >= self.grid_us:
            raise ConfigError(
                f"tolerance_us {self.tolerance_us} must be below half of grid_us {self.grid_us}, "
                "or every time is on the grid"
            )


@dataclass(frozen=True)
class WindowPlan:
    """The windows of one recording.

    Attributes:
        rules: By which they were taken.
        stop_us: Where each window ends, ascending, int64, shape [n].
        why: LABEL, NEGATIVE or REGULAR, uint8, shape [n].
        labels: The boxes that are left, cut down to the sensor, small ones marked.
        box_ptr: The boxes of window i are rows box_ptr[i, 0] to box_ptr[i, 1] of `labels`; int64, [n, 2].
        label_t: All label times, int64, shape [L].
        fate: What became of each: KEPT, EARLY or OFF_GRID, uint8, shape [L].
        outside: Boxes left out because nothing of them is on the sensor.
    """

    rules: WindowRules
    stop_us: np.ndarray
    why: np.ndarray
    labels: LabelTable
    box_ptr: np.ndarray
    label_t: np.ndarray
    fate: np.ndarray
    outside: int

    def __len__(self) -> int:
        return len(self.stop_us)

    def counts(self) -> dict[str, int]:
        """Return how many label times each rule left out, and boxes outside and marked; those above 0."""
        found = {
            f"label times before {self.rules.first_us} us": int((self.fate == EARLY).sum()),
            f"label times off the grid of {self.rules.grid_us} us": int((self.fate == OFF_GRID).sum()),
            "boxes outside the sensor": self.outside,
            "boxes marked as too small or too wide": int(self.labels.ignore.sum()),
        }
        return {name: count for name, count in found.items() if count}

    def explain(self, t_us: int) -> str:
        """Return in one line which rule keeps or leaves out the label time, or the window, at a time."""
        at = np.flatnonzero(self.stop_us == t_us)
        dropped = self._why_dropped(t_us)
        if len(at):
            also = f"; the label there is {dropped}" if dropped else ""
            return f"{t_us} us: kept; {self._why_kept(int(at[0]))}{also}"
        if dropped:
            return f"{t_us} us: {dropped}"
        return f"{t_us} us: no label and no window ends there{self._nearest(t_us)}"

    def _why_kept(self, i: int) -> str:
        """Say what window i is, and by which rule it is there."""
        rules, stop_us = self.rules, int(self.stop_us[i])
        reason = {
            LABEL: f"ends at a label time, {int(self.box_ptr[i, 1] - self.box_ptr[i, 0])} boxes",
            NEGATIVE: f"is known to be empty: a multiple of {rules.negatives_us} us in the coverage, "
            f"no label within {rules.window_us} us",
            REGULAR: f"has no label: about {rules.every_us} us from the windows beside it",
        }
        return f"window [{stop_us - rules.window_us}, {stop_us}) us {reason[int(self.why[i])]}"

    def _why_dropped(self, t_us: int) -> str:
        """Say by which rule the label at a time is left out; empty where it is not, or there is none."""
        label = np.flatnonzero(self.label_t == t_us)
        if len(label) == 0 or self.fate[label[0]] == KEPT:
            return ""
        rules = self.rules
        if self.fate[label[0]] == EARLY:
            return f"left out; a label before first_us, {rules.first_us} us"
        before = int(self.label_t[(self.label_t < t_us) & (self.fate == KEPT)][-1])
        return (
            f"left out; {t_us - before} us after the label kept before it ({before} us), which is not within "
            f"{rules.tolerance_us} us of a multiple of grid_us, {rules.grid_us} us"
        )

    def _nearest(self, t_us: int) -> str:
        if len(self.label_t) == 0:
            return "; the recording has no labels"
        return f"; the nearest label is at {self.label_t[np.argmin(np.abs(self.label_t - t_us))]} us"


def label_times(labels: LabelTable) -> np.ndarray:
    """Return the times that have a label, ascending, int64 [L].

    Those of boxes, and those of spans of the coverage of one microsecond: a label that says there is nothing.
    """
    spans = labels.coverage
    return np.union1d(labels.frame_t, spans[spans[:, 1] - spans[:, 0] == 1, 0])


def plan_windows(
    labels: LabelTable,
    rules: WindowRules,
    *,
    sensor_hw: tuple[int, int],
    label_t: np.ndarray | None = None,
) -> WindowPlan:
    """Work out the windows of one recording.

    Args:
        labels: Its boxes, in pixels of the sensor.
        rules: Which windows are taken.
        sensor_hw: Height and width of the sensor in pixels.
        label_t: Times that have a label, ascending, where `labels` has boxes of some classes alone; None
            takes `label_times`.
    """
    label_t = label_times(labels) if label_t is None else label_t
    fate = _fates(label_t, rules)
    kept_t = label_t[fate == KEPT]
    negative_t = _negatives(labels, label_t, rules)
    regular_t = _regular(np.concatenate([kept_t, negative_t]), rules)
    stop_us = np.concatenate([kept_t, negative_t, regular_t]).astype(np.int64)
    why = np.repeat(
        np.array([LABEL, NEGATIVE, REGULAR], np.uint8), [len(kept_t), len(negative_t), len(regular_t)]
    )
    order = np.argsort(stop_us, kind="stable")
    stop_us, why = stop_us[order], why[order]
    clipped = _clipped(labels, sensor_hw)
    left = _marked(clipped, labels, rules, sensor_hw)
    box_ptr = np.stack(
        [np.searchsorted(left.t, stop_us), np.searchsorted(left.t, stop_us, side="right")], axis=1
    )
    box_ptr[why != LABEL] = 0
    return WindowPlan(rules, stop_us, why, left, box_ptr, label_t, fate, len(labels) - len(left))


def _fates(label_t: np.ndarray, rules: WindowRules) -> np.ndarray:
    """Return what becomes of each label time, uint8 [L]."""
    fate = np.where(label_t < rules.first_us, EARLY, KEPT).astype(np.uint8)
    if rules.grid_us is None:
        return fate
    before = None
    for i in np.flatnonzero(fate == KEPT).tolist():
        t = int(label_t[i])
        if before is not None:
            steps = round((t - before) / rules.grid_us)
            if steps < 1 or abs(t - before - steps * rules.grid_us) > rules.tolerance_us:
                fate[i] = OFF_GRID
                continue
        before = t
    return fate


def _negatives(labels: LabelTable, label_t: np.ndarray, rules: WindowRules) -> np.ndarray:
    """Return the ends of windows known to be empty, int64."""
    every = rules.negatives_us
    if every is None or len(labels.coverage) == 0:
        return np.empty(0, np.int64)
    spans = [
        np.arange(-(-max(start, rules.first_us) // every), -(-stop // every), dtype=np.int64) * every
        for start, stop in labels.coverage.tolist()
    ]
    times = np.concatenate(spans)
    return times[_distance(times, label_t) >= rules.window_us]


def _regular(taken: np.ndarray, rules: WindowRules) -> np.ndarray:
    """Return the ends of windows of which nothing is known, evenly between those taken, int64."""
    if rules.every_us is None:
        return np.empty(0, np.int64)
    ends = np.sort(taken).tolist()
    between = []
    for start, stop in pairwise(ends):
        steps = max(1, round((stop - start) / rules.every_us))
        between.append(start + (stop - start) * np.arange(1, steps, dtype=np.int64) // steps)
    return np.concatenate(between) if between else np.empty(0, np.int64)


def _distance(times: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return how far each time is from the nearest of others, which ascend; very far without any."""
    far = np.iinfo(np.int64).max
    if len(others) == 0:
        return np.full(len(times), far)
    at = np.searchsorted(others, times)
    below = np.where(at > 0, times - others[np.maximum(at - 1, 0)], far)
    above = np.where(at < len(others), others[np.minimum(at, len(others) - 1)] - times, far)
    return np.minimum(below, above)


def _clipped(labels: LabelTable, sensor_hw: tuple[int, int]) -> np.ndarray:
    """Return the boxes cut down to the sensor, float32 [M, 4]."""
    return clip_boxes(labels.xyxy, sensor_hw=sensor_hw).astype(np.float32)


def _marked(
    clipped: np.ndarray, labels: LabelTable, rules: WindowRules, sensor_hw: tuple[int, int]
) -> LabelTable:
    """Return the labels with boxes cut down, those outside left out, those too small or wide marked."""
    width, height = clipped[:, 2] - clipped[:, 0], clipped[:, 3] - clipped[:, 1]
    wrong = np.minimum(width, height) < rules.min_side_px
    wrong |= np.hypot(width, height) < rules.min_diagonal_px
    wrong |= width > rules.max_width * sensor_hw[1]
    marked = replace(labels, xyxy=clipped, ignore=labels.ignore | wrong)
    return marked.where((width > 0) & (height > 0))

"""What a report shows of single windows: the worst misses and false alarms, and a recording in order.

Everything is kept as plain arrays, so that the report needs neither store nor network.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from events.store.detection import DetectionStore
from pipelines.samples import spread_samples
from snn.detection.predictions import Detections
from snn.metrics.detection.columns import overlaps

# Windows shown whatever was found, evenly spaced, of the worst of each kind, and of those animated.
SHOWN_EVENLY = 12
SHOWN_WORST = 8
# Of them, of one recording at most: its windows are alike.
OF_RECORDING = 2
CLIP_WINDOWS = 80
# A box is missed, and a detection is a false alarm, where none of its class overlaps it by so much.
LEAST_OVERLAP = 0.5


def look_at_windows(
    store: DetectionStore,
    indices: np.ndarray,
    found: Mapping[int, Detections],
    *,
    least_score: float,
) -> dict[str, np.ndarray]:
    """Choose windows to show and return them with their boxes.

    Args:
        store: Where the windows are.
        indices: Windows that were looked at.
        found: What was found in them, by number.
        least_score: Detections that are less sure are not shown.

    Returns:
        For each of `windows`, `misses`, `alarms` and `clip`, with k windows: `<name>_window` [k] numbers in
        the store, `<name>_frames` [k, 2, H, W] uint16, counts by polarity, `<name>_t_us` [k],
        `<name>_recording` [k] names; and boxes as columns with
        the position of their window in these, `<name>_truth_of`, `_truth_xyxy`, `_truth_class`,
        `_truth_ignore`, and `<name>_found_of`, `_found_xyxy`, `_found_class`, `_found_score`.
    """
    missed, alarmed = worst_windows(store, indices, found, least_score=least_score)
    seen: dict[str, np.ndarray] = {}
    shown = {
        "windows": spread_samples(indices, SHOWN_EVENLY).tolist(),
        "misses": missed,
        "alarms": alarmed,
        "clip": _clip(store, indices),
    }
    for name, windows in shown.items():
        seen |= {f"{name}_{key}": value for key, value in _kept(store, windows, found, least_score).items()}
    return seen


def worst_windows(
    store: DetectionStore, indices: np.ndarray, found: Mapping[int, Detections], *, least_score: float
) -> tuple[list[int], list[int]]:
    """Return windows with the largest boxes missed, and with the surest false alarms, worst first."""
    missed: list[tuple[float, int]] = []
    alarmed: list[tuple[float, int]] = []
    for index in indices.tolist():
        truth, detections = store.boxes_of(index), found[index]
        scores, labels = detections.scores.numpy(), detections.labels.numpy()
        sure = scores >= least_score
        shared = overlaps(truth.xyxy, detections.xyxy.numpy()[sure]) >= LEAST_OVERLAP
        same = truth.class_id[:, None].astype(np.int64) == labels[sure]
        boxes_missed = ~(shared & same).any(axis=1) & ~truth.ignore
        if boxes_missed.any():
            areas = (truth.xyxy[:, 2:] - truth.xyxy[:, :2]).prod(axis=1)
            missed.append((-float(areas[boxes_missed].max()), index))
        # What lies on an ignored box is neither right nor wrong.
        false = ~(shared & (same | truth.ignore[:, None])).any(axis=0)
        if false.any():
            alarmed.append((-float(scores[sure][false].max()), index))
    return _shown(store, missed), _shown(store, alarmed)


def _shown(store: DetectionStore, worst: list[tuple[float, int]]) -> list[int]:
    """Return the windows to show of those given with their rank, of no recording too many."""
    shown: list[int] = []
    for _, index in sorted(worst):
        of_recording = sum(store.recording[other] == store.recording[index] for other in shown)
        if of_recording < OF_RECORDING and len(shown) < SHOWN_WORST:
            shown.append(index)
    return shown


def _clip(store: DetectionStore, indices: np.ndarray) -> list[int]:
    """Return windows of the recording with most boxes, in order; of all where each is a single window."""
    if len(np.unique(store.recording[indices])) == len(indices):
        return spread_samples(indices, CLIP_WINDOWS).tolist()
    boxes = np.diff(store.boxes.window_ptr)[indices]
    counts = np.bincount(store.recording[indices], weights=boxes)
    return indices[store.recording[indices] == counts.argmax()][:CLIP_WINDOWS].tolist()


def _kept(
    store: DetectionStore, windows: Sequence[int], found: Mapping[int, Detections], least_score: float
) -> dict[str, np.ndarray]:
    truth = [store.boxes_of(index) for index in windows]
    sure = [found[index].scores.numpy() >= least_score for index in windows]

    def of_found(name: str, *shape: int) -> np.ndarray:
        parts = [getattr(found[index], name).numpy()[kept] for index, kept in zip(windows, sure, strict=True)]
        return np.concatenate([np.zeros((0, *shape), np.float32), *parts])

    _, _, _, H, W = store.frames.shape
    return {
        "window": np.array(windows, np.int64),
        "recording": np.array([_name(store, index) for index in windows], str),
        "t_us": store.t_end_us[windows],
        "frames": np.array([by_polarity(store.frames.read(index)) for index in windows], np.uint16).reshape(
            -1, 2, H, W
        ),
        "truth_of": np.repeat(np.arange(len(windows)), [len(boxes.xyxy) for boxes in truth]),
        "truth_xyxy": np.concatenate([np.zeros((0, 4), np.float32), *(boxes.xyxy for boxes in truth)]),
        "truth_class": np.concatenate([np.zeros(0, np.int64), *(boxes.class_id for boxes in truth)]),
        "truth_ignore": np.concatenate([np.zeros(0, bool), *(boxes.ignore for boxes in truth)]),
        "found_of": np.repeat(np.arange(len(windows)), [int(kept.sum()) for kept in sure]),
        "found_xyxy": of_found("xyxy", 4),
        "found_class": of_found("labels").astype(np.int64),
        "found_score": of_found("scores"),
    }


def _name(store: DetectionStore, index: int) -> str:
    """Return the name of a window's recording, without folders."""
    return PurePosixPath(store.recording_names[store.recording[index]]).name


def by_polarity(frames: np.ndarray) -> np.ndarray:
    """Return the sums over steps and micro bins of frames [T, 2 n, H, W], OFF first, shape [2, H, W]."""
    T, C, H, W = frames.shape
    return frames.reshape(T, 2, C // 2, H, W).sum(axis=(0, 2), dtype=np.int64)

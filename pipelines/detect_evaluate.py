"""Look for boxes in the windows of a store with a detector, and score what was found."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from events.batches_detection import DetectionBatch
from events.shuffle import pixel_permutation, shuffle_frames
from events.store.detection import DetectionStore
from pipelines.detect_settings import EvaluationSettings
from snn.detection.detector import Detector
from snn.detection.predictions import Detections
from snn.errors import DetectionError
from snn.metrics.detection.bands import box_speed
from snn.metrics.detection.calibration import calibration
from snn.metrics.detection.columns import BoxColumns
from snn.metrics.detection.evaluate import evaluate_detections
from snn.metrics.detection.lateness import score_by_shift
from snn.metrics.detection.matching import Results
from snn.metrics.detection.scores import DetectionScores


@torch.no_grad()
def detect_windows(
    fabric: Any, network: Detector, batches: Iterable[DetectionBatch], *, score_threshold: float | None = None
) -> dict[int, Detections]:
    """Return what is found in every window, on the CPU, by the window's number in its store.

    Args:
        fabric: Gives device and precision.
        network: The detector, without wrappers.
        batches: The windows, each once; every window begins with neurons at rest.
        score_threshold: In place of that of the detector's settings.
    """
    network.eval()
    found: dict[int, Detections] = {}
    for batch in batches:
        with fabric.autocast():
            predictions = network(batch.frames)
        detections = network.detections(predictions, score_threshold=score_threshold)
        for index, of_window in zip(batch.index.tolist(), detections, strict=True):
            found[index] = Detections(*(tensor.cpu() for tensor in of_window))
    return found


def shuffled_in_space(batches: Iterable[DetectionBatch], *, seed: int) -> Iterator[DetectionBatch]:
    """Yield batches whose pixels have changed places, in each window by a permutation of its own.

    As many events fall in a window, a step and a channel as before; which pixels are neighbours says nothing
    any more. What a detector still finds, it does not find by shape. What is drawn depends on the seed and
    the window's number alone.
    """
    for batch in batches:
        H, W = batch.frames.shape[-2:]
        frames = torch.empty_like(batch.frames)
        for place, index in enumerate(batch.index.tolist()):
            goes_to = pixel_permutation((H, W), seed=seed, sample=index)
            frames[:, place] = torch.from_numpy(shuffle_frames(batch.frames[:, place].cpu().numpy(), goes_to))
        yield replace(batch, frames=frames)


def truth_columns(store: DetectionStore, indices: np.ndarray) -> tuple[BoxColumns, np.ndarray]:
    """Return the true boxes of windows in pixels of the sensor, and the track of each, int64 [M]."""
    found = [store.boxes_of(int(index)) for index in indices]
    counts = [len(boxes.xyxy) for boxes in found]
    columns = BoxColumns(
        recording=np.repeat(store.recording[indices], counts),
        t=np.repeat(store.t_end_us[indices], counts),
        xyxy=np.concatenate([np.zeros((0, 4)), *(boxes.xyxy for boxes in found)]) * _scale(store),
        class_id=np.concatenate([np.zeros(0), *(boxes.class_id for boxes in found)]),
        ignore=np.concatenate([np.zeros(0, bool), *(boxes.ignore for boxes in found)]),
    )
    return columns, np.concatenate([np.zeros(0, np.int64), *(boxes.track_id for boxes in found)])


def found_columns(store: DetectionStore, found: Mapping[int, Detections]) -> BoxColumns:
    """Return detections by window as columns, in pixels of the sensor."""
    indices = np.array(list(found), np.int64)
    counts = [len(of_window.scores) for of_window in found.values()]

    def joined(name: str, *shape: int) -> np.ndarray:
        return np.concatenate([np.zeros((0, *shape)), *(_array(getattr(d, name)) for d in found.values())])

    return BoxColumns(
        recording=np.repeat(store.recording[indices], counts),
        t=np.repeat(store.t_end_us[indices], counts),
        xyxy=joined("xyxy", 4) * _scale(store),
        class_id=joined("labels"),
        score=joined("scores"),
    )


def score_windows(
    store: DetectionStore,
    indices: np.ndarray,
    found: Mapping[int, Detections],
    settings: EvaluationSettings,
) -> DetectionScores:
    """Score what was found in windows of a store under a protocol.

    Args:
        store: Where the windows are; all labelled.
        indices: Which were looked at, int64, shape [M].
        found: What was found in them, by number.
        settings: Protocol and matching.

    Raises:
        DetectionError: The protocol leaves no box to score.
    """
    truth, tracks = truth_columns(store, indices)
    looked = Results(store.recording[indices].astype(np.int64), store.t_end_us[indices])
    return evaluate_detections(
        truth,
        found_columns(store, found),
        settings.protocol,
        class_names=store.class_names,
        sensor_hw=store.sensor_hw,
        match=settings.match,
        results=looked,
        coverage=_covered(store, indices),
        operating_score=settings.operating_score,
        speed_px_s=box_speed(truth, tracks) if (tracks >= 0).any() else None,
    )


def score_certainty(
    store: DetectionStore,
    indices: np.ndarray,
    found: Mapping[int, Detections],
    settings: EvaluationSettings,
) -> dict[str, Any]:
    """Return whether scores mean what they say, and what another time would score, as plain JSON types.

    Arguments as those of `score_windows`.

    Returns:
        `calibration`, see `snn.metrics.detection.calibration`; `by_shift`, mAP by microseconds as text, see
        `snn.metrics.detection.lateness`, empty without tracks.

    Raises:
        DetectionError: As `score_windows`.
    """
    truth, tracks = truth_columns(store, indices)
    columns = found_columns(store, found)
    looked = Results(store.recording[indices].astype(np.int64), store.t_end_us[indices])
    rules: dict[str, Any] = {"sensor_hw": store.sensor_hw, "match": settings.match, "results": looked}
    known = calibration(truth, columns, settings.protocol, **rules)
    try:
        shifted = score_by_shift(
            truth, tracks, columns, settings.protocol, class_names=store.class_names, **rules
        )
    except DetectionError:
        # The protocol counts none of the boxes that have a track over all shifts.
        shifted = {}
    by_shift = {str(shift): None if np.isnan(score) else score for shift, score in shifted.items()}
    return {"calibration": known.as_dict(), "by_shift": by_shift}


def _scale(store: DetectionStore) -> np.ndarray:
    """Return pixels of the sensor to a pixel of the frames, for x0, y0, x1, y1."""
    (sensor_h, sensor_w), (height, width) = store.sensor_hw, store.frame_hw
    return np.tile([sensor_w / width, sensor_h / height], 2)


def _covered(store: DetectionStore, indices: np.ndarray) -> np.ndarray:
    """Return recording, start and stop of the time that windows cover, joined where they overlap."""
    spans: list[list[int]] = []
    order = indices[np.lexsort((store.t_start_us[indices], store.recording[indices]))]
    # A window's boxes are those at its end, which belongs to the span.
    columns = store.recording[order], store.t_start_us[order] + 1, store.t_end_us[order] + 1
    for recording, start, end in zip(*(column.tolist() for column in columns), strict=True):
        if spans and spans[-1][0] == recording and start <= spans[-1][2]:
            spans[-1][2] = max(spans[-1][2], end)
        else:
            spans.append([recording, start, end])
    return np.array(spans, np.int64).reshape(-1, 3)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.float().numpy()

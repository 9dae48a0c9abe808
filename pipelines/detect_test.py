"""The test of a detector: scores under its protocol and all others, the shuffled control, spikes and cost."""

from typing import Any

import numpy as np

from events.batches import FeedSettings
from events.batches_detection import DetectionFeed
from events.store.detection import DetectionStore
from pipelines.detect_evaluate import detect_windows, score_certainty, score_windows, shuffled_in_space
from pipelines.detect_settings import DetectExperiment, EvaluationSettings
from snn.cost.counter import count_operations
from snn.cost.report import cost_of
from snn.detection.detector import Detector
from snn.detection.predictions import Detections
from snn.errors import DetectionError
from snn.metrics.activity import decays, record_rates, thresholds
from snn.metrics.detection.protocols import PROTOCOLS


def evaluate_detector(
    fabric: Any,
    experiment: DetectExperiment,
    network: Detector,
    store: DetectionStore,
    indices: np.ndarray,
) -> tuple[dict[str, Any], dict[int, Detections]]:
    """Look for boxes in windows of a store, on one device, and score what is found.

    Args:
        fabric: Gives device and precision.
        experiment: The detector's.
        network: The detector.
        store: Where the windows are.
        indices: Which they are.

    Returns:
        As plain JSON types: `test` with scores, what `score_certainty` gives, rates and cost; `shuffled` with
        the scores of the control, or None; `protocols`, mAP and AP50 of the same detections by name of the
        protocol, or why there is none.
        And what was found, by number of the window.
    """
    network = fabric.to_device(network)
    settings = FeedSettings(batch_size=experiment.training.batch_size)
    with (
        DetectionFeed(store, indices, settings, device=fabric.device) as feed,
        record_rates(network) as activity,
        count_operations(network) as operations,
    ):
        found = detect_windows(fabric, network, feed)
    scores = score_windows(store, indices, found, experiment.evaluation)
    shuffled = None
    if experiment.evaluation.shuffled:
        with DetectionFeed(store, indices, settings, device=fabric.device) as feed:
            control = detect_windows(fabric, network, shuffled_in_space(feed, seed=experiment.seed))
        shuffled = score_windows(store, indices, control, experiment.evaluation).as_dict()
    cost = cost_of(network, operations, frame_shape=store.frames.shape[2:])
    test = {
        "windows": len(indices),
        "scores": scores.as_dict(),
        "lines": scores.lines(),
        **score_certainty(store, indices, found, experiment.evaluation),
        "firing_rates": activity.rates(),
        "thresholds": thresholds(network),
        "decays": decays(network),
        "cost": cost.as_dict(),
    }
    by_protocol = {name: _under(store, indices, found, name) for name in PROTOCOLS}
    return {"test": test, "shuffled": shuffled, "protocols": by_protocol}, found


def _under(
    store: DetectionStore, indices: np.ndarray, found: dict[int, Detections], protocol: str
) -> dict[str, Any]:
    """Return mAP, AP50 and boxes under a protocol, or the reason why it has none."""
    try:
        scores = score_windows(store, indices, found, EvaluationSettings(protocol=protocol)).as_dict()
    except DetectionError as error:
        return {"problem": str(error)}
    boxes = sum(of_class["boxes"] for of_class in scores["classes"])
    return {"map": scores["mean_ap"], "ap50": scores["ap50"], "boxes": boxes}

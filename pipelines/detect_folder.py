"""What is read of a run of `pipelines run detect`: its settings, store, anchors and detector."""

from pathlib import Path
from typing import Any

from events.store.detection import DetectionStore, open_detection_store
from pipelines.detect_settings import DetectExperiment
from pipelines.errors import RunError
from pipelines.run_folder import RunFolder
from pipelines.settings_tree import build_settings
from snn.detection.anchors import AnchorSet
from snn.detection.ann import put_relu_for_neurons
from snn.detection.detector import Detector, build_detector
from snn.models.weights import load_weights
from snn.training.checkpoint import load_checkpoint
from snn.training.fit import BEST


def read_detection(run: Path) -> DetectExperiment:
    """Return the resolved settings of a run of `pipelines run detect`. Raises RunError where it is none."""
    folder = RunFolder(run)
    if folder.kind != "detect":
        raise RunError(f"{run}: a run of `pipelines run {folder.kind}`; resume it with that")
    return build_settings(DetectExperiment, folder.read_settings(), where=str(folder.settings_json))


def anchors_of_run(folder: RunFolder) -> AnchorSet | None:
    """Return the anchors a run was trained with; None where its head has none of its own."""
    sizes = folder.read_about().get("anchors")
    return None if sizes is None else AnchorSet.from_lists(sizes)


def store_of_run(folder: RunFolder) -> DetectionStore:
    """Return the store a run was trained on.

    Raises:
        RunError: It has been made anew with other content.
    """
    about = folder.read_about()
    store = open_detection_store(about["store"])
    if store.frames.config_hash != about["store_config_hash"]:
        raise RunError(
            f"{store.path}: its content changed since the run began; restore it, or start a new run"
        )
    return store


def new_detector(experiment: DetectExperiment, store: DetectionStore, anchors: AnchorSet | None) -> Detector:
    """Return the experiment's untrained detector for the frames and classes of a store."""
    return _build(
        experiment, store.frames.shape[2], store.frame_hw, classes=len(store.class_names), anchors=anchors
    )


def _build(
    experiment: DetectExperiment,
    channels: int,
    hw: tuple[int, int],
    *,
    classes: int,
    anchors: AnchorSet | None,
) -> Detector:
    detector = build_detector(
        experiment.detector, in_channels=channels, input_hw=hw, classes=classes, anchors=anchors
    )
    return put_relu_for_neurons(detector) if experiment.activation == "relu" else detector


def load_best_detector(folder: RunFolder) -> tuple[Detector, dict[str, Any]]:
    """Return the detector of a run's best epoch, without its store, and what its checkpoint says.

    Raises:
        RunError: There is no run.
        TrainingError: It has no best epoch yet.
        ModelError: The checkpoint is of another network.
    """
    path, about = folder.checkpoints / BEST, folder.read_about()
    saved = load_checkpoint(path)
    frames, classes = about["frames"], len(about["class_names"])
    detector = _build(
        read_detection(folder.path),
        frames["channels"],
        (frames["height"], frames["width"]),
        classes=classes,
        anchors=anchors_of_run(folder),
    )
    load_weights(detector, saved["model"], where=path)
    return detector, saved

"""Train a detector: data, training, validation, one test and its control, report. Resumes bit for bit."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from events.augment_windows import check_window_augment
from events.batches import FeedSettings
from events.batches_detection import DetectionFeed
from events.store.detection import DetectionStore, open_detection_store
from pipelines.detect_data import prepare_detection_store, split_windows
from pipelines.detect_evaluate import score_windows
from pipelines.detect_seen import look_at_windows
from pipelines.detect_settings import OVERFIT_WARNING, DetectExperiment, EvaluationSettings
from pipelines.detect_test import evaluate_detector
from pipelines.display import Display, PlainLines
from pipelines.errors import RunError
from pipelines.interruption import interruptible
from pipelines.neuron_words import already_explained, explain_executor, name_neuron
from pipelines.observe import DetectionObserver
from pipelines.report.detection import build_detection_report
from pipelines.run_folder import RunFolder, describe_run
from pipelines.samples import SampleSplit
from pipelines.settings_tree import build_settings
from pipelines.start import start_checkpoint, start_from
from pipelines.weight_words import name_weights
from snn.detection.anchors import AnchorSet
from snn.detection.detector import Detector, build_detector, fit_detector_anchors
from snn.detection.predictions import Detections
from snn.models.weights import load_weights
from snn.quant.apply import list_weights
from snn.training.checkpoint import load_checkpoint
from snn.training.detection import DetectionTask
from snn.training.devices import make_fabric, set_reproducible
from snn.training.fit import BEST, LAST, FitResult, fit


@dataclass(frozen=True)
class DetectOutcome:
    """How a run ended.

    Attributes:
        folder: The run's folder.
        store: The store it trained on.
        completed: False where it was interrupted; it can be resumed.
        results: Content of results.json; None where it was interrupted.
    """

    folder: RunFolder
    store: Path
    completed: bool
    results: dict[str, Any] | None


@dataclass(frozen=True)
class _Job:
    """What training and test need to know."""

    experiment: DetectExperiment
    store: DetectionStore
    windows: SampleSplit
    anchors: AnchorSet | None
    folder: RunFolder
    resume: bool


def read_detection(run: Path) -> DetectExperiment:
    """Return the resolved settings of a run of `pipelines run detect`. Raises RunError where it is none."""
    folder = RunFolder(run)
    if folder.kind != "detect":
        raise RunError(f"{run}: a run of `pipelines run {folder.kind}`; resume it with that")
    return build_settings(DetectExperiment, folder.read_settings(), where=str(folder.settings_json))


def run_detect(
    experiment: DetectExperiment, run_dir: Path, *, resume: bool = False, display: Display | None = None
) -> DetectOutcome:
    """Prepare the data, train, keep the best epoch by mAP in validation, test it once, write the report.

    Args:
        experiment: What to do; with `resume`, the run's own settings.
        run_dir: Folder of the run.
        resume: Go on where the run in `run_dir` stopped.
        display: Who is told how it goes; None prints plain lines.

    Raises:
        PipelineError, EventsError, SnnError: Something given cannot be used, or training broke down.
    """
    display = display or PlainLines()
    # Before any work: a device, precision or executor that is not there is refused.
    fabric = make_fabric(experiment.training)
    executor = explain_executor(experiment.detector, fabric)
    if experiment.training.start_from is not None and not resume:
        start_checkpoint(experiment.training.start_from)
    with already_explained():
        job = _prepare(experiment, RunFolder(run_dir), resume, executor, display)
        with interruptible() as should_stop:
            fitted = _train(fabric, job, display, should_stop)
        if not fitted.completed:
            return DetectOutcome(job.folder, job.store.path, False, None)
        display.say(f"testing   epoch {fitted.best_epoch}, the best in validation")
        results = _test_once(job, executor)
    build_detection_report(job.folder)
    return DetectOutcome(job.folder, job.store.path, True, results)


def _prepare(
    experiment: DetectExperiment, folder: RunFolder, resume: bool, executor: str, display: Display
) -> _Job:
    """Make the store and the run folder, and say what is to be done."""
    store = _store_of_run(folder) if resume else prepare_detection_store(experiment.data, display)
    windows = split_windows(store, experiment.data, seed=experiment.seed)
    _train_settings(experiment, windows).check_samples(len(windows.train), store.path)
    check_window_augment(experiment.augment, str(store.path))
    if resume:
        anchors = anchors_of_run(folder)
    else:
        anchors, coverage = _fit_anchors(experiment, store, windows)
        about = describe_run(store.path, store.frames.config_hash, store.class_names)
        sizes = None if anchors is None else anchors.as_lists()
        _, _, C, H, W = store.frames.shape
        about |= {"anchors": sizes, "anchor_coverage": coverage}
        about["frames"] = {"channels": C, "height": H, "width": W, "sensor_hw": list(store.sensor_hw)}
        folder.create(experiment, about)
    display.say(
        f"run       {folder.path}  {len(windows.train)} training, {len(windows.validation)} validation, "
        f"{len(windows.test)} test windows"
    )
    if experiment.data.overfit is not None:
        display.say(f"overfit   {OVERFIT_WARNING}")
    display.say(f"neurons   {name_neuron(experiment.detector.neuron)}: {executor}")
    if anchors is not None:
        display.say(f"anchors   {sum(anchors.per_cell)} sizes, fitted to the training boxes")
    return _Job(experiment, store, windows, anchors, folder, resume)


def _fit_anchors(
    experiment: DetectExperiment, store: DetectionStore, windows: SampleSplit
) -> tuple[AnchorSet | None, dict[str, float]]:
    """Return anchors for the training boxes and the share of each class they reach; None of other heads.

    The published SSD-SNN keeps its own.
    """
    settings = experiment.detector
    if settings.head != "ssd" or settings.order == "norm_first":
        return None, {}
    found = [store.boxes_of(int(index)) for index in windows.train]
    boxes = torch.from_numpy(np.concatenate([of_window.xyxy[~of_window.ignore] for of_window in found]))
    labels = np.concatenate([of_window.class_id[~of_window.ignore] for of_window in found])
    anchors, coverage = fit_detector_anchors(
        settings,
        boxes,
        torch.from_numpy(labels.astype(np.int64)),
        input_hw=store.frame_hw,
        classes=len(store.class_names),
        seed=experiment.seed,
    )
    return anchors, dict(zip(store.class_names, coverage.shares, strict=True))


def anchors_of_run(folder: RunFolder) -> AnchorSet | None:
    """Return the anchors a run was trained with; None where its head has none of its own."""
    sizes = folder.read_about().get("anchors")
    return None if sizes is None else AnchorSet.from_lists(sizes)


def _store_of_run(folder: RunFolder) -> DetectionStore:
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
    return build_detector(
        experiment.detector,
        in_channels=store.frames.shape[2],
        input_hw=store.frame_hw,
        classes=len(store.class_names),
        anchors=anchors,
    )


def load_best_detector(folder: RunFolder) -> tuple[Detector, dict[str, Any]]:
    """Return the detector of a run's best epoch, without its store, and what its checkpoint says.

    Raises:
        RunError: There is no run.
        TrainingError: It has no best epoch yet.
        ModelError: The checkpoint is of another network.
    """
    path, about = folder.checkpoints / BEST, folder.read_about()
    saved = load_checkpoint(path)
    detector = build_detector(
        read_detection(folder.path).detector,
        in_channels=about["frames"]["channels"],
        input_hw=(about["frames"]["height"], about["frames"]["width"]),
        classes=len(about["class_names"]),
        anchors=anchors_of_run(folder),
    )
    load_weights(detector, saved["model"], where=path)
    return detector, saved


def _train(fabric: Any, job: _Job, display: Display, should_stop: Callable[[], bool]) -> FitResult:
    experiment, settings = job.experiment, job.experiment.training
    set_reproducible(settings)
    torch.manual_seed(experiment.seed)
    network = new_detector(experiment, job.store, job.anchors)
    if settings.start_from is not None and not job.resume:
        start_from(network, settings.start_from)
    torch.manual_seed(experiment.seed)
    compiles = not explain_executor(experiment.detector, fabric).startswith("reference")
    observer = DetectionObserver(job.folder, settings, display, compiles=compiles)
    if job.resume:
        observer.go_back_to(load_checkpoint(job.folder.checkpoints / LAST)["feed"]["epoch"])
    validation_settings = FeedSettings(batch_size=settings.batch_size, cache=experiment.data.cache)
    with (
        DetectionFeed(
            job.store, job.windows.train, _train_settings(experiment, job.windows), device=fabric.device
        ) as feed,
        DetectionFeed(
            job.store, job.windows.validation, validation_settings, device=fabric.device
        ) as validation,
        observer,
    ):
        return fit(
            fabric,
            network,
            feed,
            lambda: validation,
            settings=settings,
            task=DetectionTask(_Score(job.store, job.windows.validation, experiment.evaluation)),
            folder=job.folder.checkpoints,
            observer=observer,
            resume=job.resume,
            should_stop=should_stop,
        )


@dataclass(frozen=True)
class _Score:
    """Scores what is found in validation windows."""

    store: DetectionStore
    windows: np.ndarray
    settings: EvaluationSettings

    def __call__(self, found: dict[int, Detections]) -> tuple[float, dict[str, float]]:
        """Return mAP, and what is written down beside."""
        scores = score_windows(self.store, self.windows, found, self.settings)
        return scores.mean_ap, {"ap50": scores.ap50, "recall": scores.recall}


def _train_settings(experiment: DetectExperiment, windows: SampleSplit) -> FeedSettings:
    return FeedSettings(
        batch_size=experiment.training.batch_size,
        shuffle=True,
        seed=experiment.seed,
        # A last batch of one or two windows would spoil the statistics of batch norm.
        drop_last=len(windows.train) >= experiment.training.batch_size,
        augment=experiment.augment,
        cache=experiment.data.cache,
    )


def _test_once(job: _Job, executor: str) -> dict[str, Any]:
    """Test the best detector, unless that has been done."""
    folder, experiment = job.folder, job.experiment
    if folder.results.exists():
        return folder.read_results()
    saved = load_checkpoint(folder.checkpoints / BEST)
    network = new_detector(experiment, job.store, job.anchors)
    load_weights(network, saved["model"], where=folder.checkpoints / BEST)
    fabric = make_fabric(replace(experiment.training, devices=1))
    test, found = evaluate_detector(fabric, experiment, network, job.store, job.windows.test)
    metrics = folder.read_metrics()
    results = test | {
        "best_epoch": saved["epoch"],
        "validation_map": saved["validation_map"],
        "parameters": sum(p.numel() for p in network.parameters()),
        "neurons": name_neuron(experiment.detector.neuron),
        "executor": executor,
        "weights": name_weights(list_weights(network)),
        "train_windows": len(job.windows.train),
        "validation_windows": len(job.windows.validation),
        "overfit": OVERFIT_WARNING if experiment.data.overfit is not None else None,
        "train_s": sum(record["train_s"] for record in metrics),
    }
    folder.write_seen(
        look_at_windows(job.store, job.windows.test, found, least_score=experiment.evaluation.operating_score)
    )
    folder.write_results(results)
    return results

"""Train a detector: data, training, validation, one test and its controls, report. Resumes bit for bit."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from events.augment_windows import check_window_augment
from events.batches import FeedSettings
from events.batches_detection import DetectionFeed
from events.recorded_windows import RecordedWindows
from events.store.detection import DetectionStore, open_detection_store
from pipelines.detect_data import prepare_detection_store, recorded_windows, split_windows
from pipelines.detect_evaluate import score_windows
from pipelines.detect_folder import anchors_of_run, new_detector, store_of_run
from pipelines.detect_seen import look_at_windows
from pipelines.detect_settings import OVERFIT_WARNING, DetectExperiment, EvaluationSettings
from pipelines.detect_test import evaluate_detector
from pipelines.detect_twin import TWIN, refuse_torchrun, twin_of, twin_results
from pipelines.display import Display, PlainLines, Silent
from pipelines.interruption import interruptible
from pipelines.neuron_words import already_explained, explain_executor, name_neuron
from pipelines.observe import DetectionObserver
from pipelines.report.detection import build_detection_report
from pipelines.run_folder import RunFolder, describe_run
from pipelines.samples import SampleSplit
from pipelines.start import start_checkpoint, start_from
from pipelines.together import run_together
from pipelines.weight_words import name_weights
from snn.detection.anchors import AnchorSet
from snn.detection.detector import fit_detector_anchors
from snn.detection.predictions import Detections
from snn.models.weights import load_weights
from snn.quant.apply import list_weights
from snn.training.checkpoint import load_checkpoint
from snn.training.detection import DetectionTask
from snn.training.devices import World, make_fabric, set_reproducible
from snn.training.fit import BEST, LAST, FitResult, fit
from snn.training.launch import leave_processes, lost_processes_named


@dataclass(frozen=True)
class DetectOutcome:
    """How a run ended.

    Attributes:
        folder: The run's folder.
        store: The store it trained on.
        completed: False where it was interrupted; it can be resumed.
        results: Content of results.json; None where it was interrupted, and in all processes but the first.
        is_first: Whether this is the first process, or the only one.
    """

    folder: RunFolder
    store: Path
    completed: bool
    results: dict[str, Any] | None
    is_first: bool = True


@dataclass(frozen=True)
class _Job:
    """What training and test need to know."""

    experiment: DetectExperiment
    store: DetectionStore
    windows: SampleSplit
    anchors: AnchorSet | None
    folder: RunFolder
    resume: bool
    # Windows binned anew from augmented events; None where frames are taken.
    recorded: RecordedWindows | None


def run_detect(
    experiment: DetectExperiment, run_dir: Path, *, resume: bool = False, display: Display | None = None
) -> DetectOutcome:
    """Train a detector and, where asked for, its ANN twin; test each once; write the report.

    Args:
        experiment: What to do; with `resume`, the run's own settings.
        run_dir: Folder of the run.
        resume: Go on where the run in `run_dir` stopped.
        display: Who is told how it goes; None prints plain lines.

    Raises:
        PipelineError, EventsError, SnnError: Something given cannot be used, or training broke down.
    """
    display = display or PlainLines()
    refuse_torchrun(experiment)
    outcome = run_together(partial(_run, experiment, run_dir, resume), experiment.training, display)
    if not (experiment.evaluation.twin and outcome.results):
        return outcome
    beside = RunFolder(outcome.folder.path / TWIN)
    begun = beside.settings_json.exists()
    display.say(f"twin      the same detector with ReLU in place of neurons, in {beside.path}")
    twin = run_detect(twin_of(experiment, outcome.store), beside.path, resume=begun, display=display)
    if twin.results is None:
        return replace(outcome, completed=False, results=None)
    results = outcome.results | {"twin": twin_results(twin.results)}
    outcome.folder.write_results(results)
    build_detection_report(outcome.folder)
    return replace(outcome, results=results)


def _run(
    experiment: DetectExperiment, run_dir: Path, resume: bool, world: World | None, display: Display
) -> DetectOutcome:
    """Run in this process: alone, or one of a world, of which the first does all but the training."""
    is_first = world is None or world.rank == 0
    display = display if is_first else Silent()
    # Before any work: a device, precision or executor that is not there is refused.
    fabric = make_fabric(experiment.training, world)
    executor = _executor(experiment, fabric)
    if experiment.training.start_from is not None and not resume:
        start_checkpoint(experiment.training.start_from)
    with already_explained(), lost_processes_named():
        if world is not None:
            fabric.launch()
        job = None
        if is_first:
            job = _prepare(experiment, RunFolder(run_dir), resume, fabric.world_size, executor, display)
        if world is not None:
            job = _same_job(fabric, experiment, job, resume)
        assert job is not None
        with interruptible() as should_stop:
            fitted = _train(fabric, job, display, should_stop)
        leave_processes()
        if not fitted.completed or not is_first:
            return DetectOutcome(job.folder, job.store.path, fitted.completed, None, is_first)
        display.say(f"testing   epoch {fitted.best_epoch}, the best in validation")
        results = _test_once(job, executor)
    build_detection_report(job.folder)
    return DetectOutcome(job.folder, job.store.path, True, results)


def _executor(experiment: DetectExperiment, fabric: Any) -> str:
    """Return what computes the activations."""
    return explain_executor(experiment.detector, fabric) if experiment.activation == "neurons" else "torch"


def _same_job(fabric: Any, experiment: DetectExperiment, job: "_Job | None", resume: bool) -> "_Job":
    """Return the first process's job in every process; all wait for it."""
    mine = None if job is None else (str(job.folder.path), str(job.store.path), job.anchors)
    folder, path, anchors = fabric.broadcast(mine)
    if job is not None:
        return job
    store = open_detection_store(path)
    windows = split_windows(store, experiment.data, seed=experiment.seed)
    recorded = recorded_windows(experiment, store)
    return _Job(experiment, store, windows, anchors, RunFolder(Path(folder)), resume, recorded)


def _prepare(
    experiment: DetectExperiment,
    folder: RunFolder,
    resume: bool,
    processes: int,
    executor: str,
    display: Display,
) -> _Job:
    """Make the store and the run folder, and say what is to be done."""
    store = store_of_run(folder) if resume else prepare_detection_store(experiment.data, display)
    windows = split_windows(store, experiment.data, seed=experiment.seed)
    shares = _train_settings(experiment, windows, rank=0, processes=processes)
    shares.check_samples(len(windows.train), store.path)
    check_window_augment(experiment.augment, str(store.path))
    recorded = recorded_windows(experiment, store)
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
    if experiment.activation == "neurons":
        display.say(f"neurons   {name_neuron(experiment.detector.neuron)}: {executor}")
    if anchors is not None:
        display.say(f"anchors   {sum(anchors.per_cell)} sizes, fitted to the training boxes")
    return _Job(experiment, store, windows, anchors, folder, resume, recorded)


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


def _train(fabric: Any, job: _Job, display: Display, should_stop: Callable[[], bool]) -> FitResult:
    experiment, settings = job.experiment, job.experiment.training
    set_reproducible(settings)
    torch.manual_seed(experiment.seed)
    network = new_detector(experiment, job.store, job.anchors)
    if settings.start_from is not None and not job.resume:
        start_from(network, settings.start_from)
    # The same everywhere: what is drawn, is drawn for the whole batch.
    torch.manual_seed(experiment.seed)
    compiles = not _executor(experiment, fabric).startswith(("reference", "torch"))
    observer = DetectionObserver(job.folder, settings, display, compiles=compiles)
    if job.resume and fabric.global_rank == 0:
        observer.go_back_to(load_checkpoint(job.folder.checkpoints / LAST)["feed"]["epoch"])
    rank, processes = fabric.global_rank, fabric.world_size
    train_settings = _train_settings(experiment, job.windows, rank=rank, processes=processes)
    validation_settings = FeedSettings(
        batch_size=train_settings.batch_size, cache=experiment.data.cache, rank=rank, world_size=processes
    )
    with (
        DetectionFeed(
            job.store,
            job.windows.train,
            train_settings,
            device=fabric.device,
            recorded=job.recorded,
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


def _train_settings(
    experiment: DetectExperiment, windows: SampleSplit, *, rank: int, processes: int
) -> FeedSettings:
    return FeedSettings(
        batch_size=experiment.training.batch_size // processes,
        shuffle=True,
        seed=experiment.seed,
        # A last batch of one or two windows would spoil the statistics of batch norm.
        drop_last=len(windows.train) >= experiment.training.batch_size,
        augment=experiment.augment,
        cache=experiment.data.cache,
        rank=rank,
        world_size=processes,
    )


def _test_once(job: _Job, executor: str) -> dict[str, Any]:
    """Test the best detector, unless that has been done."""
    folder, experiment = job.folder, job.experiment
    if folder.results.exists():
        return folder.read_results()
    saved = load_checkpoint(folder.checkpoints / BEST)
    network = new_detector(experiment, job.store, job.anchors)
    load_weights(network, saved["model"], where=folder.checkpoints / BEST)
    fabric = make_fabric(replace(experiment.training, devices=1, nodes=1))
    test, found = evaluate_detector(fabric, experiment, network, job.store, job.windows.test)
    metrics = folder.read_metrics()
    results = test | {
        "best_epoch": saved["epoch"],
        "validation_map": saved["validation_map"],
        "parameters": sum(p.numel() for p in network.parameters()),
        "neurons": name_neuron(experiment.detector.neuron) if experiment.activation == "neurons" else "ReLU",
        "executor": executor,
        "weights": name_weights(list_weights(network)),
        "train_windows": len(job.windows.train),
        "validation_windows": len(job.windows.validation),
        "overfit": OVERFIT_WARNING if experiment.data.overfit is not None else None,
        "twin": None,
        "train_s": sum(record["train_s"] for record in metrics),
    }
    folder.write_seen(
        look_at_windows(job.store, job.windows.test, found, least_score=experiment.evaluation.operating_score)
    )
    folder.write_results(results)
    return results

"""Train a classifier: data, training, validation, one test, report. Resumes bit for bit."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from events.augment_pictures import check_pictures
from events.batches import Feed, FeedSettings
from events.store.reader import FrameStore, open_store
from pipelines.compare_masks import compare_masks
from pipelines.display import Display, PlainLines, Silent
from pipelines.errors import ExperimentError, RunError
from pipelines.evaluate import evaluate_network, load_best, look_at_samples, new_network
from pipelines.experiment import Experiment
from pipelines.interruption import interruptible
from pipelines.neuron_words import already_explained, explain_executor, name_neuron
from pipelines.observe import RunObserver
from pipelines.prepare import prepare_store
from pipelines.report.build import build_report
from pipelines.run_folder import RunFolder, describe_run
from pipelines.samples import SampleSplit, split_samples, spread_samples
from pipelines.start import start_checkpoint, start_from
from pipelines.together import run_together
from pipelines.weight_words import name_weights
from snn.conversion.calibration import calibrate, level_layers
from snn.quant.apply import list_weights
from snn.sparsity.apply import gate_layers
from snn.training.checkpoint import load_checkpoint
from snn.training.classification import ClassificationTask
from snn.training.devices import World, make_fabric, set_reproducible
from snn.training.fit import LAST, FitResult, fit
from snn.training.launch import leave_processes, lost_processes_named


@dataclass(frozen=True)
class ClassifyOutcome:
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
class _TrainJob:
    """What a training process needs to know."""

    experiment: Experiment
    store: FrameStore
    samples: SampleSplit
    run: Path
    resume: bool


def run_classify(
    experiment: Experiment, run_dir: Path, *, resume: bool = False, display: Display | None = None
) -> ClassifyOutcome:
    """Prepare the data, train, keep the best epoch by validation, test it once, write the report.

    Args:
        experiment: What to do; with `resume`, the run's own settings.
        run_dir: Folder of the run.
        resume: Go on where the run in `run_dir` stopped.
        display: Who is told how it goes; None prints plain lines.

    Raises:
        PipelineError, EventsError, SnnError: Something given cannot be used, or training broke down.
    """
    run = partial(_run, experiment, run_dir, resume)
    return run_together(run, experiment.training, display or PlainLines())


def _run(
    experiment: Experiment, run_dir: Path, resume: bool, world: World | None, display: Display
) -> ClassifyOutcome:
    """Run in this process: alone, or one of a world, of which the first does all but the training."""
    is_first = world is None or world.rank == 0
    display = display if is_first else Silent()
    # Before any work: a device, precision or executor that is not there is refused.
    fabric = make_fabric(experiment.training, world)
    executor = explain_executor(experiment.model, fabric)
    if experiment.training.start_from is not None and not resume:
        start_checkpoint(experiment.training.start_from)
    with already_explained(), lost_processes_named():
        if world is not None:
            fabric.launch()
        job = None
        if is_first:
            job = _prepare(experiment, run_dir, resume, fabric.world_size, executor, display)
        if world is not None:
            job = _same_job(fabric, experiment, job, resume)
        assert job is not None
        folder = RunFolder(job.run)
        fitted = _train(fabric, job, display)
        leave_processes()
        if not fitted.completed or not is_first:
            return ClassifyOutcome(folder, job.store.path, fitted.completed, None, is_first)
        display.say(f"testing   epoch {fitted.best_epoch}, the best in validation")
        results = _test_once(job, folder, executor)
    build_report(folder)
    return ClassifyOutcome(folder, job.store.path, True, results)


def _same_job(fabric: Any, experiment: Experiment, job: "_TrainJob | None", resume: bool) -> "_TrainJob":
    """Return the first process's job in every process; all wait for it."""
    places = fabric.broadcast(None if job is None else (str(job.run), str(job.store.path)))
    if job is not None:
        return job
    store = open_store(places[1])
    samples = split_samples(store, validation_share=experiment.data.validation_share, seed=experiment.seed)
    return _TrainJob(experiment, store, samples, Path(places[0]), resume)


def _prepare(
    experiment: Experiment, run_dir: Path, resume: bool, processes: int, executor: str, display: Display
) -> "_TrainJob":
    """Make the store and the run folder, and say what is to be done."""
    folder = RunFolder(run_dir)
    if resume:
        store = store_of_run(folder)
    else:
        store = prepare_store(experiment.data, display)
    _refuse_what_does_not_fit(experiment, store)
    samples = split_samples(store, validation_share=experiment.data.validation_share, seed=experiment.seed)
    refuse_too_few_samples(experiment, store, samples, processes)
    if not resume:
        folder.create(experiment, describe_run(store.path, store.config_hash, store.class_names))
    display.say(
        f"run       {folder.path}  {len(samples.train)} training, {len(samples.validation)} validation, "
        f"{len(samples.test)} test samples"
    )
    if experiment.model.activation == "neurons":
        display.say(f"neurons   {name_neuron(experiment.model.neuron)}: {executor}")
    if experiment.model.weights.anything:
        display.say(f"weights   {name_weights(list_weights(new_network(experiment, store)))}")
    if experiment.model.sparsity.kind != "none":
        gates = list(gate_layers(new_network(experiment, store)).values())
        display.say(f"gates     {gates[0].extra_repr()} on {len(gates)} blocks")
    if experiment.training.start_from is not None and not resume:
        display.say(f"from      {start_checkpoint(experiment.training.start_from)}")
    return _TrainJob(experiment, store, samples, folder.path, resume)


def _refuse_what_does_not_fit(experiment: Experiment, store: FrameStore) -> None:
    """Raise ExperimentError where the frames do not hold what a setting needs."""
    value, steps, drop = store.attributes["binning"]["value"], experiment.model.steps, experiment.augment.drop
    if steps is not None and store.shape[1] != 1:
        raise ExperimentError(
            f"model.steps is {steps}, which gives one picture at every step, but samples of {store.path} "
            f"have {store.shape[1]} steps; use model.steps=none"
        )
    check_pictures(experiment.augment.pictures, store.shape[1:], store.dtype)
    if drop > 0 and store.planes:
        raise ExperimentError(f"augment.drop leaves out events, but {store.path} holds pictures; set it to 0")
    if drop > 0 and value == "last_time":
        raise ExperimentError(
            f"augment.drop leaves out events, but a pixel of {store.path} holds the time of its last event "
            "(value 'last_time'); use augment.drop=0, or a store of counts"
        )
    if drop > 0 and value == "lane":
        raise ExperimentError(
            f"augment.drop leaves out events, but a pixel of {store.path} holds a lane (binning.levels); "
            "use augment.drop=0, or a store of counts"
        )


def refuse_too_few_samples(
    experiment: Experiment, store: FrameStore, samples: SampleSplit, processes: int
) -> None:
    """Raise ConfigError where so many processes cannot share the training samples."""
    settings = _train_feed_settings(experiment, samples, rank=0, world_size=processes)
    settings.check_samples(len(samples.train), store.path)


def store_of_run(folder: RunFolder) -> FrameStore:
    """Return the store a run was trained on.

    Raises:
        RunError: It has been made anew with other content.
    """
    about = folder.read_about()
    store = open_store(about["store"])
    if store.config_hash != about["store_config_hash"]:
        raise RunError(
            f"{store.path}: its content changed since the run began; restore it, or start a new run"
        )
    return store


def _train(fabric: Any, job: _TrainJob, display: Display) -> FitResult:
    with interruptible() as interruption:
        return _train_process(fabric, job, display, interruption)


def _train_process(
    fabric: Any, job: _TrainJob, display: Display, should_stop: Callable[[], bool]
) -> FitResult:
    """Train in this process, one of `fabric.world_size`."""
    experiment, settings = job.experiment, job.experiment.training
    set_reproducible(settings)
    torch.manual_seed(experiment.seed)
    network = new_network(experiment, job.store)
    if settings.start_from is not None and not job.resume:
        start_from(network, settings.start_from)
    # The same everywhere: what is drawn, is drawn for the whole batch.
    torch.manual_seed(experiment.seed)
    compiles = not explain_executor(experiment.model, fabric).startswith("reference")
    observer = RunObserver(RunFolder(job.run), settings, display, compiles=compiles)
    if job.resume and fabric.global_rank == 0:
        observer.go_back_to(load_checkpoint(RunFolder(job.run).checkpoints / LAST)["feed"]["epoch"])
    with _train_feed(fabric, job) as feed, _validation_feed(fabric, job) as validation, observer:
        return fit(
            fabric,
            network,
            feed,
            lambda: validation,
            settings=settings,
            task=ClassificationTask(settings, classes=len(job.store.class_names)),
            folder=RunFolder(job.run).checkpoints,
            observer=observer,
            resume=job.resume,
            should_stop=should_stop,
            before_epoch=lambda network: _measure_ranges(fabric, job, network),
        )


def _measure_ranges(fabric: Any, job: _TrainJob, network: nn.Module) -> None:
    """Measure the ranges of a quantised ANN's activations on training samples as they are."""
    settings = job.experiment.model.levels
    if not level_layers(network):
        return
    indices = spread_samples(job.samples.train, settings.samples)
    feed_settings = FeedSettings(
        batch_size=max(job.experiment.training.batch_size // fabric.world_size, 1),
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        cache=job.experiment.data.cache,
    )

    def over_processes(operation: str) -> Callable[[Tensor], Tensor]:
        if fabric.world_size == 1:
            return lambda tensor: tensor
        return lambda tensor: fabric.all_reduce(tensor.to(fabric.device), reduce_op=operation).cpu()

    with Feed(job.store, indices, feed_settings, device=fabric.device) as feed:
        calibrate(
            network,
            lambda: (batch.frames for batch in feed),
            reduce=over_processes("sum"),
            reduce_max=over_processes("max"),
            autocast=fabric.autocast,
        )


def _train_feed(fabric: Any, job: _TrainJob) -> Feed:
    settings = _train_feed_settings(
        job.experiment, job.samples, rank=fabric.global_rank, world_size=fabric.world_size
    )
    return Feed(job.store, job.samples.train, settings, device=fabric.device)


def _train_feed_settings(
    experiment: Experiment, samples: SampleSplit, *, rank: int, world_size: int
) -> FeedSettings:
    return FeedSettings(
        batch_size=experiment.training.batch_size // world_size,
        shuffle=True,
        seed=experiment.seed,
        # A last batch of one or two samples would spoil the statistics of batch norm.
        drop_last=len(samples.train) >= experiment.training.batch_size,
        augment=experiment.augment,
        rank=rank,
        world_size=world_size,
        cache=experiment.data.cache,
    )


def _validation_feed(fabric: Any, job: _TrainJob) -> Feed:
    settings = FeedSettings(
        batch_size=max(job.experiment.training.batch_size // fabric.world_size, 1),
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        cache=job.experiment.data.cache,
    )
    return Feed(job.store, job.samples.validation, settings, device=fabric.device)


def _test_once(job: _TrainJob, folder: RunFolder, executor: str) -> dict[str, Any]:
    """Test the best network, unless that has been done."""
    if folder.results.exists():
        return folder.read_results()
    network, saved = load_best(folder, job.experiment, job.store)
    parameters = sum(p.numel() for p in network.parameters())
    test = evaluate_network(job.experiment, network, job.store, job.samples.test)
    neuron = job.experiment.model.neuron
    results = {
        "test": test,
        "best_epoch": saved["epoch"],
        "validation_accuracy": saved["validation_accuracy"],
        "parameters": parameters,
        "neurons": name_neuron(neuron),
        "executor": executor,
        "weights": name_weights(list_weights(network)),
        "weight_layers": [layer.as_dict() for layer in list_weights(network)],
        "gates": compare_masks(job.experiment, network, job.store, job.samples.test, own=test),
        "train_samples": len(job.samples.train),
        "validation_samples": len(job.samples.validation),
        "train_s": sum(record["train_s"] for record in folder.read_metrics()),
    }
    folder.write_seen(look_at_samples(network, job.store, job.samples.test, neuron=neuron))
    folder.write_results(results)
    return results

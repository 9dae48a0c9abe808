"""Convert an ANN: train it, fold it, search thresholds, fine-tune the SNN. Resumes at any stage."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from events.batches import Feed, FeedSettings
from events.store.reader import FrameStore
from pipelines.classify import refuse_too_few_samples, run_classify, store_of_run
from pipelines.convert_settings import TRAINED, ConvertExperiment
from pipelines.convert_stages import BEGINNINGS, OF_LANES, PARENTS, Stage, StageFolder, read_stage
from pipelines.display import Display, PlainLines
from pipelines.errors import ExperimentError, RunError
from pipelines.evaluate import evaluate_network, new_network
from pipelines.neuron_words import already_explained, explain_executor
from pipelines.prepare import prepare_store
from pipelines.report.conversion import write_report
from pipelines.run_folder import RunFolder, describe_run
from pipelines.samples import SampleSplit, split_samples, spread_samples
from pipelines.settings_tree import build_settings
from snn.conversion.fold import folded_weights, take_weights
from snn.conversion.thresholds import find_thresholds
from snn.cost.energy import EnergySettings
from snn.cost.nonzeros import Values
from snn.cost.report import Cost
from snn.errors import ConversionError
from snn.models.weights import load_weights
from snn.quant.settings import FLOAT_BITS
from snn.training.checkpoint import load_checkpoint
from snn.training.devices import make_fabric, started_world
from snn.training.fit import BEST, LAST

# A converted network before fine-tuning: with biases rescaled, and with biases left as they are.
RESCALED, AS_IT_IS = "converted_rescaled", "converted_as_it_is"
# Frames looked at together while constant calibration sets are looked for.
BLOCK = 256


@dataclass(frozen=True)
class ConvertOutcome:
    """How a conversion ended.

    Attributes:
        folder: Its folder.
        completed: False where it was interrupted; it can be resumed.
        results: By stage, accuracy and energy; None where it was interrupted.
    """

    folder: RunFolder
    completed: bool
    results: dict[str, Any] | None


@dataclass(frozen=True)
class _Conversion:
    """What every stage needs to know."""

    experiment: ConvertExperiment
    folder: RunFolder
    stages: StageFolder
    store: FrameStore
    samples: SampleSplit
    calibration: np.ndarray
    network: list[Any]
    display: Display

    def read(self, name: str) -> Stage:
        return self.stages.read(name, network=self.network, lanes=self.experiment.model.neuron.lanes)

    def write(self, name: str, model: dict[str, Tensor], results: dict[str, Any]) -> None:
        """Write a stage; what is known of the stages before it goes with it."""
        parent = PARENTS[name]
        before = {} if parent is None else self.read(parent).results
        lanes = self.experiment.model.neuron.lanes if name in OF_LANES else None
        parent_hash = self.stages.hash_of(parent)
        self.stages.write(Stage(name, model, parent_hash, self.network, lanes, before | results))


def run_convert(
    experiment: ConvertExperiment,
    run_dir: Path,
    *,
    resume: bool = False,
    begin_with: Path | None = None,
    display: Display | None = None,
) -> ConvertOutcome:
    """Run all stages that are not done, each from the checkpoint of the one before.

    Args:
        experiment: What to do; with `resume`, the run's own settings.
        run_dir: Folder of the run.
        resume: Go on where the run in `run_dir` stopped.
        begin_with: Checkpoint of a stage of another conversion, in place of that stage and those before it.
        display: Who is told how it goes; None prints plain lines.

    Raises:
        PipelineError, EventsError, SnnError: Something given cannot be used, or a stage broke down.
    """
    _refuse_other_processes()
    display = display or PlainLines()
    folder, stages = RunFolder(run_dir), StageFolder(run_dir / "stages")
    for name in TRAINED:
        stage = experiment.stage(name)
        explain_executor(stage.model, make_fabric(stage.training))
    if begin_with is not None:
        # Before any data is made; what the network must be is known only then.
        read_stage(begin_with, expected=BEGINNINGS, network=None, lanes=experiment.model.neuron.lanes)
    store = store_of_run(folder) if resume else prepare_store(experiment.data, display)
    samples = split_samples(store, validation_share=experiment.data.validation_share, seed=experiment.seed)
    calibration = spread_samples(samples.train, experiment.search.samples)
    refuse_constant(store, calibration)
    for name in TRAINED:
        stage = experiment.stage(name)
        refuse_too_few_samples(stage, store, samples, stage.training.processes)
    network = [experiment.model.name, experiment.model.width, *store.shape[2:], len(store.class_names)]
    if begin_with is not None:
        read_stage(begin_with, expected=BEGINNINGS, network=network, lanes=experiment.model.neuron.lanes)
    if not resume:
        folder.create(experiment, describe_run(store.path, store.config_hash, store.class_names))
    work = _Conversion(experiment, folder, stages, store, samples, calibration, network, display)
    if begin_with is not None:
        begun = stages.begin_with(begin_with, network=network, lanes=experiment.model.neuron.lanes)
        display.say(f"from      stage {begun!r}, {begin_with}")
    for name in PARENTS:
        if stages.has(name):
            work.read(name)
    display.say(f"run       {folder.path}  calibration on {len(calibration)} of {len(samples.train)} samples")
    with already_explained():
        if not _run_stages(work):
            return ConvertOutcome(folder, False, None)
    results: dict[str, Any] = {}
    for name in PARENTS:
        if stages.has(name):
            results |= work.read(name).results
    folder.write_results(results)
    write_report(folder, results)
    return ConvertOutcome(folder, True, results)


def read_conversion(run: Path) -> ConvertExperiment:
    """Return the settings of a conversion's run. Raises RunError where there is none."""
    folder = RunFolder(run)
    return build_settings(ConvertExperiment, folder.read_settings(), where=str(folder.settings_json))


def refuse_constant(store: FrameStore, indices: np.ndarray) -> None:
    """Raise RunError where every calibration frame is one constant number, or there are none."""
    first = None
    for start in range(0, len(indices), BLOCK):
        block = indices[start : start + BLOCK]
        frames = np.empty((len(block), *store.shape[1:]), store.dtype)
        store.read_into(block, frames)
        first = frames.flat[0] if first is None else first
        if (frames != first).any():
            return
    found = "no samples" if first is None else f"{len(indices)} samples whose every pixel is {first}"
    raise RunError(
        f"{store.path}: calibration set: found {found}, expected samples that differ; "
        "thresholds cannot follow from it; convert the data again, or set search.samples"
    )


def _refuse_other_processes() -> None:
    """Raise ExperimentError where others were started to do the same, in the same folder."""
    world = started_world()
    if world is not None and world.processes > 1:
        raise ExperimentError(
            f"a conversion starts its processes itself, but {world.processes} were started together; leave "
            "out torchrun, and set ann.devices, quantised.training.devices and snn.devices"
        )


def _run_stages(work: _Conversion) -> bool:
    """Run what is not done; return False where it was interrupted."""
    stages = work.stages
    later = any(stages.has(name) for name in ("folded", "thresholds"))
    if not (stages.has("ann") or later) and not _train(work, "ann"):
        return False
    if work.experiment.quantised.train and not stages.has("quantised"):
        if not stages.has("ann"):
            work.display.say("note      no quantised ANN: the conversion began behind the ANN")
        elif not _train(work, "quantised"):
            return False
    if not (stages.has("folded") or stages.has("thresholds")):
        _fold(work)
    if not stages.has("thresholds"):
        _search(work)
    return stages.has("snn") or _train(work, "snn")


def _train(work: _Conversion, name: str) -> bool:
    """Run a stage that trains, as a run of its own; return False where it was interrupted."""
    parent, stages = PARENTS[name], work.stages
    folder = RunFolder(work.folder.path / name)
    if folder.path.exists() and not (folder.checkpoints / LAST).exists():
        # Nothing was trained yet.
        shutil.rmtree(folder.path)
    resume = folder.settings_json.exists()
    if resume:
        stages.check_begun(name)
    else:
        stages.note_begun(name, stages.hash_of(parent))
    start = None if parent is None else stages.file(parent)
    experiment = work.experiment.stage(name, start_from=start)
    experiment = replace(experiment, data=replace(experiment.data, source=str(work.store.path)))
    work.display.say(f"stage     {name}")
    outcome = run_classify(experiment, folder.path, resume=resume, display=work.display)
    if not outcome.completed or outcome.results is None:
        return False
    saved = load_checkpoint(folder.checkpoints / BEST)
    work.write(name, saved["model"], {name: summary(outcome.results["test"])})
    return True


def _fold(work: _Conversion) -> None:
    """Fold the ANN's normalisations into its convolutions."""
    ann = new_network(work.experiment.stage("ann"), work.store)
    load_weights(ann, work.read("ann").model, where=work.stages.file("ann"))
    work.display.say("stage     folded: normalisations are inside the convolutions")
    work.write("folded", folded_weights(ann), {})


def _search(work: _Conversion) -> None:
    """Search thresholds with rescaled biases and without; go on with what the experiment chose."""
    work.display.say("stage     thresholds")
    chosen = work.experiment.search.thresholds.rescale_biases
    results: dict[str, Any] = {}
    kept: dict[str, Tensor] = {}
    for rescale in (not chosen, chosen):
        name = RESCALED if rescale else AS_IT_IS
        try:
            network, raw = _converted(work, rescale=rescale)
        except ConversionError as error:
            if rescale == chosen:
                raise
            results[name] = {"error": str(error)}
            continue
        stage = work.experiment.stage("snn")
        test = evaluate_network(stage, network, work.store, work.samples.test)
        results[name] = summary(test) | {"thresholds": test["thresholds"], "raw": raw}
        work.display.say(f"converted {100 * test['accuracy']:.2f} % before fine-tuning ({name})")
        kept = {key: value.cpu() for key, value in network.state_dict().items()}
    work.write("thresholds", kept, results)


def _converted(work: _Conversion, *, rescale: bool) -> tuple[nn.Module, dict[str, float]]:
    """Return the SNN with the folded weights and thresholds found, and what was found before scaling."""
    search = work.experiment.search.thresholds
    in_force = "scaled" if rescale else search.in_force
    stage = work.experiment.stage("snn")
    network = new_network(stage, work.store)
    take_weights(network, work.read("folded").model, where=work.stages.file("folded"))
    fabric = make_fabric(replace(stage.training, devices=1))
    network = fabric.to_device(network)
    settings = FeedSettings(batch_size=stage.training.batch_size, cache=stage.data.cache)
    with Feed(work.store, work.calibration, settings, device=fabric.device) as feed:
        raw = find_thresholds(
            network,
            lambda: (batch.frames for batch in feed),
            replace(search, rescale_biases=rescale, in_force=in_force),
            autocast=fabric.autocast,
            progress=lambda done, total: work.display.progress("threshold of layer", done, total),
        )
    return network, raw


def summary(test: dict[str, Any]) -> dict[str, Any]:
    """Return accuracy and cost of what `evaluate_network` found.

    `dense_energy_uj` counts every multiply-accumulate, as energy of an ANN is usually given; `energy_uj` what
    was counted, zeros left out, with the neurons' updates.
    """
    totals = Cost.from_dict(test["cost"]).totals()
    dense_pj = totals["dense_macs"] * EnergySettings().operation_pj(Values.ANY, FLOAT_BITS)
    return {
        "accuracy": test["accuracy"],
        "samples": test["samples"],
        "dense_macs": totals["dense_macs"],
        "operations": totals["effective"],
        "dense_energy_uj": 1e-6 * dense_pj,
        "energy_uj": 1e-6 * totals["energy_pj"],
        "synapse_energy_uj": 1e-6 * totals["synapse_energy_pj"],
    }

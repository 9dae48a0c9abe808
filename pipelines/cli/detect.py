"""`pipelines run detect`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.names import EXECUTORS, HEADS, NEURONS, explained
from pipelines.cli.terminal import (
    INTERRUPTED,
    DevicesOption,
    ExecutorOption,
    JsonOption,
    NeuronOption,
    NodesOption,
    OutOption,
    ResumeOption,
    SeedOption,
    SetOption,
    check_name,
    display_here,
    refuse_smoke_on_data,
    reported,
    say_how_to_resume,
    setting_changes,
    with_processes,
)
from pipelines.errors import ExperimentError

if TYPE_CHECKING:
    from pipelines.detect import DetectOutcome
    from pipelines.detect_settings import DetectExperiment

THRESHOLDS = {"learned": "learns with the weights", "fixed": "stays constant"}

# The setting that an option is short for, and the names it takes.
SHORT_FOR = {
    "data": "data.source",
    "dataset": "data.dataset",
    "seed": "seed",
    "head": "detector.head",
    "neuron": "detector.neuron.preset",
    "executor": "detector.executor",
    "start": "training.start_from",
    "devices": "training.devices",
    "nodes": "training.nodes",
}
KNOWN = {"head": HEADS, "neuron": NEURONS, "executor": EXECUTORS}


def detect(
    experiment: Annotated[
        str | None,
        typer.Argument(
            metavar="EXPERIMENT",
            help="TOML file, or a name shown by `pipelines experiments` (default: shapes).",
            show_default=False,
        ),
    ] = None,
    assignments: SetOption = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Store made by `events convert`, or a folder with recordings and boxes.", show_default=False
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="What the folder of recordings is: gen1, 1mpx, etram, pedro, dsec-det, ncaltech101-boxes, "
            "rvt or shapes.",
            show_default=False,
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"Head of the detector. {explained(HEADS)}", show_default=False),
    ] = None,
    neuron: NeuronOption = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help=f"Threshold of the neurons. {explained(THRESHOLDS)}", show_default=False
        ),
    ] = None,
    executor: ExecutorOption = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="RUN", help="Begin with the weights of a run's best epoch.", show_default=False
        ),
    ] = None,
    smoke: Annotated[
        bool,
        typer.Option(
            "--smoke",
            help="Only try it: shapes made here in place of the data, narrow, one epoch; a minute.",
        ),
    ] = False,
    overfit: Annotated[
        int | None,
        typer.Option(
            metavar="WINDOWS",
            help="Only see whether it can learn: train, validate and test on the same so many windows, "
            "without augmentation.",
            show_default=False,
        ),
    ] = None,
    twin: Annotated[
        bool,
        typer.Option(
            "--twin",
            help="Train the same detector with ReLU in place of neurons, too, and compare; twice the time.",
        ),
    ] = False,
    resume: ResumeOption = None,
    out: OutOption = None,
    seed: SeedOption = None,
    devices: DevicesOption = None,
    nodes: NodesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a detector and report which boxes it finds.

    Makes or converts the data if that has not been done, trains, chooses the best epoch by mAP on validation
    windows, tests it once, as it is and with all events at places drawn by chance, and writes a run folder
    with report.html, pictures, checkpoints, metrics and settings. Ctrl-C saves and ends; --resume goes on.

    Examples:

      pipelines run detect                                     moving shapes, made here

      pipelines run detect --neuron lif --set training.epochs=5

      pipelines run detect gen1_vgg11 --smoke                  try a recipe, without its data

      pipelines run detect gen1_vgg11 --data path/to/Gen1      the SSD-SNN on Gen1

      pipelines run detect gen1_ltsnn --data gen1.zarr --threshold fixed

      pipelines run detect pedro --data path/to/PEDRo --set evaluation.protocol=voc50

      pipelines run detect pedro --data path/to/PEDRo --overfit 9

      pipelines run detect --twin                              beside the ANN of the same layers

      pipelines run detect --resume runs/shapes-20260101-120000
    """
    with reported():
        from pipelines.detect_settings import DEFAULT_DETECTION, load_detection
        from pipelines.run_folder import RunFolder, new_run_folder

        given = {
            "data": data,
            "dataset": dataset,
            "seed": seed,
            "head": head,
            "neuron": neuron,
            "executor": executor,
            "start": start,
            # With --resume these are no change of the run's settings.
            "devices": devices if resume is None else None,
            "nodes": nodes if resume is None else None,
        }
        changes = setting_changes(assignments, given, settings=SHORT_FOR, known=KNOWN)
        changes += ["evaluation.twin=true"] * twin
        if threshold is not None:
            check_name("threshold", threshold, THRESHOLDS)
        if resume is not None:
            others = (experiment, out, threshold, overfit)
            if changes or smoke or any(other is not None for other in others):
                raise ExperimentError(
                    "--resume goes on with the run's own settings; leave out the experiment, --set, --data, "
                    "--dataset, --head, --neuron, --threshold, --executor, --from, --seed, --smoke, "
                    "--overfit, --twin and --out, or start a new run"
                )
            from pipelines.detect_folder import read_detection

            folder = RunFolder(resume)
            settings = with_processes(read_detection(resume), devices=devices, nodes=nodes)
        else:
            refuse_smoke_on_data(smoke, data)
            settings = load_detection(experiment or DEFAULT_DETECTION, changes, smoke=smoke, overfit=overfit)
            settings = _with_threshold(settings, threshold)
            folder = new_run_folder(settings, out)
        with display_here() as display:
            display.say(f"{settings.name:9} {settings.description}")
            from pipelines.detect import run_detect

            outcome = run_detect(settings, folder.path, resume=resume is not None, display=display)
        if not outcome.completed:
            if outcome.is_first:
                say_how_to_resume("detect", folder.path)
            raise typer.Exit(INTERRUPTED)
        if not outcome.is_first:
            return
        if as_json:
            print(
                json.dumps({"run": str(folder.path), "store": str(outcome.store)} | (outcome.results or {}))
            )
        else:
            _say_what_came_out(outcome)


def _with_threshold(settings: "DetectExperiment", threshold: str | None) -> "DetectExperiment":
    """Return the settings with neurons whose threshold learns, or does not; None leaves them."""
    from dataclasses import replace

    if threshold is None:
        return settings
    neuron = settings.detector.neuron
    neuron = neuron.fixed() if threshold == "fixed" else replace(neuron, learn_threshold=True)
    return replace(settings, detector=replace(settings.detector, neuron=neuron))


def _say_what_came_out(outcome: "DetectOutcome") -> None:
    """Print scores, and where everything is."""
    from pipelines.report.detection import control_words, twin_words

    results, folder = outcome.results or {}, outcome.folder
    overfit = results.get("overfit")
    following = f"""next, with recordings and boxes of your own, as Gen1 has them:
  pipelines run detect {folder.settings_toml} --dataset gen1 --data MY_RECORDINGS"""
    if overfit is not None:
        following = "next, with training and test kept apart: the same without --overfit"
    print("", *results["test"]["lines"], "", control_words(results), "", twin_words(results), sep="\n")
    if overfit is not None:
        print(f"\noverfit: {overfit}")
    print(f"""
report        {folder.report}
pictures      {folder.pictures}
checkpoint    {folder.checkpoints / "best.pt"}
store         {outcome.store}

{following}""")

"""`pipelines run classify`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.names import EXECUTORS, MEMBRANES, MODELS, NEURONS, explained
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
    display_here,
    refuse_smoke_on_data,
    reported,
    say_how_to_resume,
    setting_changes,
    with_processes,
)
from pipelines.errors import ExperimentError

if TYPE_CHECKING:
    from pipelines.classify import ClassifyOutcome
    from pipelines.experiment import Experiment

# The setting that an option is short for, and the names it takes.
SHORT_FOR = {
    "data": "data.source",
    "dataset": "data.dataset",
    "seed": "seed",
    "model": "model.name",
    "width": "model.width",
    "neuron": "model.neuron.preset",
    "membrane": "model.neuron.membrane.preset",
    "weights": "model.weights.bits",
    "start": "training.start_from",
    "executor": "model.executor",
    "devices": "training.devices",
    "nodes": "training.nodes",
}
KNOWN = {"model": MODELS, "neuron": NEURONS, "membrane": MEMBRANES, "executor": EXECUTORS}


def classify(
    experiment: Annotated[
        str | None,
        typer.Argument(
            metavar="EXPERIMENT",
            help="TOML file, or a name shown by `pipelines experiments` (default: digits).",
            show_default=False,
        ),
    ] = None,
    assignments: SetOption = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Store made by `events convert`, or a folder of recordings.", show_default=False),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="What the folder of recordings is: a name shown by `events datasets`.", show_default=False
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"The network. {explained(MODELS)}", show_default=False),
    ] = None,
    width: Annotated[
        float | None,
        typer.Option(help="Factor on the channels of every layer; 1 is as published.", show_default=False),
    ] = None,
    neuron: NeuronOption = None,
    membrane: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"Levels of the membrane between steps. {explained(MEMBRANES)}",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        int | None,
        typer.Option(
            metavar="BITS",
            help="Bits of the weights: 2, 3, 4, 8, or 32 for float. First and last layer and shortcuts stay "
            "in float; --set model.weights.first_bits=8 and the like change that.",
            show_default=False,
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="Begin with the weights of a run's best epoch; a run in float goes on with few bits.",
            show_default=False,
        ),
    ] = None,
    executor: ExecutorOption = None,
    smoke: Annotated[
        bool,
        typer.Option(
            "--smoke",
            help="Only try it: digits made here in place of the data, a narrow network, one epoch; a minute.",
        ),
    ] = False,
    resume: ResumeOption = None,
    out: OutOption = None,
    seed: SeedOption = None,
    devices: DevicesOption = None,
    nodes: NodesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a classifier and report how good it is.

    Makes or converts the data if that has not been done, trains, chooses the best epoch on validation
    samples, tests it once, and writes a run folder with report.html, checkpoints, metrics and settings.
    Ctrl-C saves and ends; --resume goes on.

    Examples:

      pipelines run classify                                   handwritten digits, made here

      pipelines run classify --set training.epochs=5           a shorter run

      pipelines run classify nmnist --data path/to/N-MNIST     N-MNIST recordings

      pipelines run classify my.toml --data my.zarr --seed 1   own settings, own store

      pipelines run classify --model resnet19 --width 0.25     another network, a quarter as wide

      pipelines run classify --neuron mlif                     other neurons

      pipelines run classify --neuron mlif --set model.neuron.lanes=4

      pipelines run classify --weights 2 --membrane ternary    weights and membranes of three levels

      pipelines run classify nmnist --data N-MNIST --devices 2    two GPUs, or two processes on a CPU

      torchrun --nproc-per-node 2 -m pipelines run classify nmnist --data N-MNIST

      pipelines run classify cifar10_resnet19 --smoke          try a recipe, without its data

      pipelines run classify cifar10_resnet19 --data CIFAR10   the folder with cifar-10-python.tar.gz

      pipelines run classify --resume runs/digits-20260101-120000
    """
    with reported():
        from pipelines.run_folder import RunFolder, new_run_folder

        given = {
            "data": data,
            "dataset": dataset,
            "seed": seed,
            "model": model,
            "width": width,
            "neuron": neuron,
            "membrane": "float" if membrane == "none" else membrane,
            "weights": weights,
            "start": start,
            "executor": executor,
            # With --resume these are no change of the run's settings.
            "devices": devices if resume is None else None,
            "nodes": nodes if resume is None else None,
        }
        changes = setting_changes(assignments, given, settings=SHORT_FOR, known=KNOWN)
        if resume is not None:
            _refuse_with_resume(experiment, [*changes, *["--smoke"] * smoke], out)
            folder = RunFolder(resume)
            settings = with_processes(folder.experiment(), devices=devices, nodes=nodes)
        else:
            refuse_smoke_on_data(smoke, data)
            settings = _load(experiment, changes, smoke=smoke)
            folder = new_run_folder(settings, out)
        with display_here() as display:
            display.say(f"{settings.name:9} {settings.description}")
            from pipelines.classify import run_classify

            outcome = run_classify(settings, folder.path, resume=resume is not None, display=display)
        if not outcome.completed:
            if outcome.is_first:
                say_how_to_resume("classify", folder.path)
            raise typer.Exit(INTERRUPTED)
        if not outcome.is_first:
            return
        folder = outcome.folder
        if as_json:
            print(
                json.dumps({"run": str(folder.path), "store": str(outcome.store)} | (outcome.results or {}))
            )
        else:
            _say_what_came_out(settings, outcome)


def _load(experiment: str | None, changes: list[str], *, smoke: bool) -> "Experiment":
    from pipelines.experiment import DEFAULT_EXPERIMENT, load_experiment

    return load_experiment(experiment or DEFAULT_EXPERIMENT, changes, smoke=smoke)


def _refuse_with_resume(experiment: str | None, changes: list[str], out: Path | None) -> None:
    if experiment is not None or changes or out is not None:
        raise ExperimentError(
            "--resume goes on with the run's own settings; leave out the experiment, --set, --data, "
            "--dataset, --model, --width, --neuron, --executor, --seed, --smoke and --out, "
            "or start a new run"
        )


def _say_what_came_out(settings: "Experiment", outcome: "ClassifyOutcome") -> None:
    """Print where everything is and what to do next."""
    results, folder = outcome.results or {}, outcome.folder
    test = results["test"]
    print(f"""
test accuracy {100 * test["accuracy"]:.1f} % of {test["samples"]} samples, epoch {results["best_epoch"]}

report        {folder.report}
checkpoint    {folder.checkpoints / "best.pt"}
store         {outcome.store}

next, with your own recordings, one folder for each class:
  events convert folder MY_RECORDINGS my.zarr --split random:0:0.9
  pipelines run classify {folder.settings_toml} --data my.zarr""")

"""`pipelines run convert`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.terminal import (
    INTERRUPTED,
    JsonOption,
    OutOption,
    SeedOption,
    SetOption,
    display_here,
    refuse_smoke_on_data,
    reported,
    say_how_to_resume,
    setting_changes,
)
from pipelines.errors import ExperimentError

if TYPE_CHECKING:
    from pipelines.convert import ConvertOutcome


def convert(
    experiment: Annotated[
        str | None,
        typer.Argument(
            metavar="EXPERIMENT",
            help="TOML file, or a name shown by `pipelines experiments` (default: digit_pictures_resnet20).",
            show_default=False,
        ),
    ] = None,
    assignments: SetOption = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Store made by `events convert`, or a folder with the data set.", show_default=False
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="STAGE.pt",
            help="Begin with a stage of another run: ann.pt, folded.pt or thresholds.pt in RUN/stages.",
            show_default=False,
        ),
    ] = None,
    smoke: Annotated[
        bool,
        typer.Option(
            "--smoke", help="Only try it: digits made here, a narrow network, one epoch a stage; a minute."
        ),
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Go on with a conversion that was stopped, at the stage and step it had reached.",
            show_default=False,
        ),
    ] = None,
    out: OutOption = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train an ANN, convert it to a spiking network, and fine-tune that.

    Stages, each with a checkpoint in RUN/stages that names the one it was made from: ann; quantised, a twin
    of the ANN whose activations have few levels, from which nothing follows; folded, normalisations inside
    the convolutions; thresholds, searched over the training samples; snn, fine-tuned. Reported are accuracy
    and energy of each, and of the converted network before fine-tuning, with biases rescaled and
    without.

    Examples:

      pipelines run convert                                    handwritten digits, made here

      pipelines run convert --set model.neuron.lanes=4         five values of a spike in place of four

      pipelines run convert cifar10_resnet20_s3 --smoke        try a recipe, without its data

      pipelines run convert cifar10_resnet20_s3 --data CIFAR10

      pipelines run convert cifar10_resnet20_s3 --data CIFAR10 --from runs/OTHER/stages/ann.pt

      pipelines run convert --resume runs/digit_pictures_resnet20-20260101-120000
    """
    with reported():
        from pipelines.convert_settings import DEFAULT_CONVERSION, load_conversion
        from pipelines.run_folder import RunFolder, new_run_folder

        short_for = {"data": "data.source", "seed": "seed"}
        changes = setting_changes(assignments, {"data": data, "seed": seed}, settings=short_for, known={})
        if resume is not None:
            if experiment is not None or changes or out is not None or start is not None or smoke:
                raise ExperimentError(
                    "--resume goes on with the run's own settings; leave out the experiment, --set, --data, "
                    "--from, --seed, --smoke and --out, or start a new run"
                )
            from pipelines.convert import read_conversion

            settings, folder = read_conversion(resume), RunFolder(resume)
        else:
            refuse_smoke_on_data(smoke, data)
            settings = load_conversion(experiment or DEFAULT_CONVERSION, changes, smoke=smoke)
            folder = new_run_folder(settings, out)
        with display_here() as display:
            display.say(f"{settings.name:9} {settings.description}")
            from pipelines.convert import run_convert

            outcome = run_convert(
                settings, folder.path, resume=resume is not None, begin_with=start, display=display
            )
        if not outcome.completed:
            say_how_to_resume("convert", folder.path)
            raise typer.Exit(INTERRUPTED)
        if as_json:
            print(json.dumps({"run": str(folder.path)} | (outcome.results or {})))
        else:
            _say_what_came_out(outcome)


def _say_what_came_out(outcome: "ConvertOutcome") -> None:
    """Print accuracy and energy by stage, and where everything is."""
    from pipelines.report.conversion import HEAD, energy_note, rows_of
    from snn.cost.text import aligned

    print("", *aligned([HEAD, *rows_of(outcome.results or {})]), sep="\n")
    note = energy_note(outcome.results or {})
    print(f"\n{note}\n" if note else "")
    print(f"report   {outcome.folder.report}\nstages   {outcome.folder.path / 'stages'}")

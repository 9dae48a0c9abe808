"""The program `pipelines`: run, evaluate, export, report, experiments, doctor.

Only typer and the standard library are imported here, everything else inside the commands, so that
help comes at once.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from events.errors import ConfigError, EventsError, did_you_mean
from pipelines.errors import ExperimentError, PipelineError
from snn.errors import SnnError

if TYPE_CHECKING:
    from pipelines.classify import ClassifyOutcome
    from pipelines.display import Display
    from pipelines.experiment import Experiment

PROBLEM, USAGE, INTERRUPTED = 1, 2, 130

# Written out here because the packages that define them take seconds to import; a test compares.
NEURONS = {
    "lif": "leaky integrate-and-fire",
    "plif": "learned leak",
    "lt": "learned threshold",
    "quantlif": "membrane of three levels",
    "mlif": "spikes of value 1, 2 or 4",
}
MODELS = {
    "vgg5": "small, ours",
    "vgg7": "LT-SNN",
    "vgg9": "LT-SNN",
    "vgg11": "LT-SNN",
    "vggsnn": "M-LIF, strides in place of pools",
    "vggsnn_pool": "TET; SpQuant-SNN's VGG-9",
    "mobilenet": "LT-SNN, 5 blocks, without their padding",
    "mobilenet_wide": "LT-SNN, 6 blocks, without their padding",
    "mobilenet_wide_postpool": "LT-SNN, 6 blocks, spikes are pooled, without their padding",
    "mobilenet_depthwise": "5 blocks, true depth-wise convolutions",
    "mobilenet_wide_depthwise": "6 blocks, true depth-wise convolutions",
    "mobilenet_published": "LT-SNN as released",
    "mobilenet_wide_published": "LT-SNN as released",
    "mobilenet_wide_postpool_published": "LT-SNN as released",
    "resnet18": "LT-SNN",
    "resnet19": "LT-SNN",
    "resnet19_spquant": "SpQuant-SNN, a wide stem of stride 2",
    "resnet34": "SpQuant-SNN, for ImageNet",
    "preact_resnet18": "neurons before the convolutions",
    "spikformer_4_256": "transformer, 4x4 pixels a token",
    "spikformer_4_384": "transformer, 4x4 pixels a token",
    "spikformer_16_256": "transformer for recordings, 16x16 pixels a token",
}
MEMBRANES = {
    "float": "or none: as it is",
    "ternary": "-1, 0, 1, as IM-SNN and SpQuant-SNN",
    "five": "-3 to 1, the default of SpQuant-SNN's release",
    "chip": "24 levels, steps of 1/8",
    "chip_published": "the same with the released gradient",
    "floor23": "23 levels, rounded down, as LT-SNN",
    "four": "-2 to 1",
}
EXECUTORS = {
    "auto": "the fastest that can",
    "reference": "plain torch, the definition",
    "numba": "fused on the CPU",
    "cuda": "fused on a GPU, needs CuPy",
}


def _explained(names: dict[str, str]) -> str:
    return "".join(f"\n\n{name}: {words}" for name, words in names.items())


app = typer.Typer(
    name="pipelines",
    help="Train, evaluate and report spiking networks on event-camera recordings.\n\n"
    "Try it: pipelines run classify   (makes its own data; a few minutes on two cores)",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
run_app = typer.Typer(help="Run an experiment from recordings to a report.", no_args_is_help=True)
app.add_typer(run_app, name="run")

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="Run folder, as in runs/digits-20260101-120000.")
]


@run_app.command("classify")
def run_classify_command(
    experiment: Annotated[
        str | None,
        typer.Argument(
            metavar="EXPERIMENT",
            help="TOML file, or a name shown by `pipelines experiments` (default: digits).",
            show_default=False,
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change one setting; may be repeated."),
    ] = None,
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
        typer.Option(metavar="NAME", help=f"The network. {_explained(MODELS)}", show_default=False),
    ] = None,
    width: Annotated[
        float | None,
        typer.Option(help="Factor on the channels of every layer; 1 is as published.", show_default=False),
    ] = None,
    neuron: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help=f"Neurons of every layer. {_explained(NEURONS)}", show_default=False
        ),
    ] = None,
    membrane: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"Levels of the membrane between steps. {_explained(MEMBRANES)}",
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
    executor: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help=f"What computes the neurons. {_explained(EXECUTORS)}", show_default=False
        ),
    ] = None,
    smoke: Annotated[
        bool,
        typer.Option(
            "--smoke",
            help="Only try it: digits made here in place of the data, a narrow network, one epoch; a minute.",
        ),
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Go on with a run that was stopped, bit for bit.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the run (default: runs/NAME-TIME).", show_default=False),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the run.", show_default=False)] = None,
    devices: Annotated[
        int | None,
        typer.Option(help="Processes: one for each GPU, or on the CPU as many as given.", show_default=False),
    ] = None,
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

      pipelines run classify cifar10_resnet19 --smoke          try a recipe, without its data

      pipelines run classify cifar10_resnet19 --data CIFAR10   the folder with cifar-10-python.tar.gz

      pipelines run classify --resume runs/digits-20260101-120000
    """
    with _reported():
        from pipelines.run_folder import RunFolder, new_run_folder

        changes = _changes(
            assignments,
            data=data,
            dataset=dataset,
            seed=seed,
            devices=devices,
            model=model,
            width=width,
            neuron=neuron,
            membrane=membrane,
            weights=weights,
            start=start,
            executor=executor,
        )
        if resume is not None:
            _refuse_with_resume(experiment, [*changes, *["--smoke"] * smoke], out)
            folder = RunFolder(resume)
            settings = folder.experiment()
        else:
            if smoke and data is not None:
                raise ExperimentError(
                    "--smoke makes its own data; leave out --data, or --smoke to train on it"
                )
            settings = _load(experiment, changes, smoke=smoke)
            folder = new_run_folder(settings, out)
        with _display() as display:
            display.say(f"{settings.name:9} {settings.description}")
            from pipelines.classify import run_classify

            outcome = run_classify(settings, folder.path, resume=resume is not None, display=display)
        if not outcome.completed:
            _say_how_to_resume(folder.path)
            raise typer.Exit(INTERRUPTED)
        if as_json:
            print(
                json.dumps({"run": str(folder.path), "store": str(outcome.store)} | (outcome.results or {}))
            )
        else:
            _say_what_came_out(settings, outcome)


def _changes(assignments: list[str] | None, **options: Any) -> list[str]:
    """Return `--set` values and the options that are short for one."""
    names = {
        "data": "data.source",
        "dataset": "data.dataset",
        "seed": "seed",
        "devices": "training.devices",
        "model": "model.name",
        "width": "model.width",
        "neuron": "model.neuron.preset",
        "membrane": "model.neuron.membrane.preset",
        "weights": "model.weights.bits",
        "start": "training.start_from",
        "executor": "model.executor",
    }
    changes = list(assignments or [])
    for option, value in options.items():
        if value is not None:
            value = "float" if (option, value) == ("membrane", "none") else value
            _check_name(option, value)
            changes.append(
                f"{names[option]}={value if isinstance(value, int | float) else json.dumps(str(value))}"
            )
    return changes


def _check_name(option: str, value: Any) -> None:
    """Raise ExperimentError where the name after an option is not known."""
    known = {"model": MODELS, "neuron": NEURONS, "membrane": MEMBRANES, "executor": EXECUTORS}.get(option)
    if known is not None and value not in known:
        raise ExperimentError(
            f"--{option}: found {value!r}, expected one of {', '.join(known)}{did_you_mean(value, known)}"
        )


def _load(experiment: str | None, changes: list[str], *, smoke: bool) -> "Experiment":
    from pipelines.experiment import DEFAULT_EXPERIMENT, load_experiment

    return load_experiment(experiment or DEFAULT_EXPERIMENT, changes, smoke=smoke)


def _refuse_with_resume(experiment: str | None, changes: list[str], out: Path | None) -> None:
    if experiment is not None or changes or out is not None:
        raise ExperimentError(
            "--resume goes on with the run's own settings; leave out the experiment, --set, --data, "
            "--dataset, --model, --width, --neuron, --executor, --seed, --devices, --smoke and --out, "
            "or start a new run"
        )


def _say_how_to_resume(run: Path) -> None:
    print(f"\nsaved; go on with:\n  pipelines run classify --resume {run}", file=sys.stderr)


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


@app.command("evaluate")
def evaluate_command(
    run: RunArgument,
    data: Annotated[
        Path | None, typer.Option(help="Another store with the same classes.", show_default=False)
    ] = None,
    split: Annotated[str, typer.Option(help="Split to classify: train, validation or test.")] = "test",
    cost: Annotated[
        bool, typer.Option("--cost", help="Print what a sample costs: memory, operations, energy, by layer.")
    ] = False,
    energy: Annotated[
        str, typer.Option(metavar="TABLE", help="Energy of an operation, for --cost: 45nm or 7nm.")
    ] = "45nm",
    as_json: JsonOption = False,
) -> None:
    """Classify a split of a store with the best network of a run.

    Examples:

      pipelines evaluate runs/digits-20260101-120000 --split validation

      pipelines evaluate runs/digits-20260101-120000 --cost
    """
    with _reported():
        from pipelines.evaluate import evaluate_run
        from snn.cost.energy import EnergySettings
        from snn.cost.report import Cost
        from snn.cost.text import cost_lines

        result = evaluate_run(run, data=data, split=split, energy=EnergySettings(table=energy))
        if as_json:
            print(json.dumps(result))
            return
        print(f"{100 * result['accuracy']:.2f} % of {result['samples']} {split} samples of {result['store']}")
        for name, accuracy in result["accuracy_by_class"].items():
            print(f"  {100 * accuracy:6.2f} %  {name}")
        if cost:
            print("", *cost_lines(Cost.from_dict(result["cost"])), sep="\n")


@app.command("export")
def export_command(
    run: RunArgument,
    out: Annotated[
        Path | None,
        typer.Argument(
            metavar="OUT",
            help="File to write (default: RUN/network.npz); a name ending in .nir is a NIR graph.",
            show_default=False,
        ),
    ] = None,
    bits: Annotated[int, typer.Option(help="Bits of scales and biases, sign included, 2 to 32.")] = 16,
    fraction_bits: Annotated[
        int | None,
        typer.Option(
            help="Of them after the point (default: as many as fit, layer by layer; 13 as published).",
            show_default=False,
        ),
    ] = None,
    rounding: Annotated[str, typer.Option(help="nearest, or zero: toward zero, as published.")] = "nearest",
    power_of_two: Annotated[
        bool,
        typer.Option(
            "--power-of-two",
            help="Round scales to powers of two: shifts apply them, nothing else is rounded.",
        ),
    ] = False,
    float_bits: Annotated[
        int | None,
        typer.Option(
            metavar="BITS",
            help="Bring layers that were trained in float to 2, 3, 4 or 8 bits.",
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare with the network in torch on the test samples.")
    ] = False,
    samples: Annotated[
        int | None,
        typer.Option(help="Compare at most so many test samples (default: all).", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the best network of a run in whole numbers, for integer hardware.

    Normalisations are folded into a fixed-point scale and bias for each channel; weights, membranes, levels
    and thresholds are whole numbers. snn.export.runner runs the file with NumPy alone. All weights must have
    few bits, the first and the last layer's too; what cannot be exported is named.

    Examples:

      pipelines export runs/digits-20260101-120000 --check --float-bits 8

      pipelines export runs/digits-20260101-120000 chip.npz --bits 16 --fraction-bits 13 --rounding zero

      pipelines export runs/digits-20260101-120000 --power-of-two --check

      pipelines export runs/digits-20260101-120000 network.nir
    """
    with _reported():
        from pipelines.export import ExportChoice, export_run
        from pipelines.export_words import say_export
        from snn.export.fixed_point import FixedPoint

        form = FixedPoint(bits, fraction_bits, rounding)  # type: ignore[arg-type]
        choice = ExportChoice(form, power_of_two, float_bits, check or samples is not None, samples)
        said = export_run(run, out, choice)
        print(json.dumps(said) if as_json else say_export(said))


@app.command("report")
def report_command(run: RunArgument) -> None:
    """Write the report of a finished run anew.

    Example:

      pipelines report runs/digits-20260101-120000
    """
    with _reported():
        from pipelines.report.build import build_report
        from pipelines.run_folder import RunFolder

        print(build_report(RunFolder(run)))


@app.command("experiments")
def experiments_command(as_json: JsonOption = False) -> None:
    """List the experiments that come with spikeline.

    Each is a TOML file to run by name, or to copy and change.

    Example:

      pipelines run classify nmnist --data path/to/N-MNIST
    """
    with _reported():
        import tomllib

        folder = Path(__file__).parent / "experiments"
        found = [
            {
                "name": path.stem,
                "description": tomllib.loads(path.read_text(encoding="utf-8"))["description"],
                "file": str(path),
            }
            for path in sorted(folder.glob("*.toml"))
        ]
        if as_json:
            print(json.dumps(found))
            return
        width = max(len(entry["name"]) for entry in found)
        for entry in found:
            print(f"{entry['name']:{width}}  {entry['description']}")
        print(f"\nfiles: {folder}")


@app.command("doctor")
def doctor_command(as_json: JsonOption = False) -> None:
    """Check that this installation can do its work, and say what to do where it cannot.

    Looks at Python, package versions, torch and CUDA, whether another distribution has taken one of the
    names events, snn, pipelines, disk space, cores, Numba, CuPy, and what would compute each kind of
    neuron here, with the reason where it is not the fastest. Exit code 1 where there is a problem.

    Example:

      pipelines doctor --json
    """
    with _reported():
        from pipelines.doctor import examine

        findings = examine()
        if as_json:
            print(json.dumps([finding.as_dict() for finding in findings]))
        else:
            for finding in findings:
                print(finding.line())
        if any(finding.state == "problem" for finding in findings):
            raise typer.Exit(PROBLEM)


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    """Turn our own errors into one line on stderr and an exit code."""
    try:
        yield
    except (EventsError, PipelineError, SnnError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(USAGE if isinstance(error, ExperimentError | ConfigError) else PROBLEM) from None
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("events", "snn", "pipelines"):
            raise
        print(
            f"error: {error.name} is not installed; pip install 'spikeline[train]'; "
            "`pipelines doctor` says what else is missing",
            file=sys.stderr,
        )
        raise typer.Exit(PROBLEM) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        raise typer.Exit(PROBLEM) from None
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to go on", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


@contextlib.contextmanager
def _display() -> Iterator["Display"]:
    """Show bars on a terminal, else plain lines."""
    from pipelines.display import Bars, PlainLines

    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with Bars() as bars:
            yield bars
    else:
        yield PlainLines()


def main() -> None:
    """Run the program."""
    # Torch's threads then sleep where they wait for each other. On a machine with other work to do a step
    # is three times as fast that way, on an idle one no slower. Must be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()

"""Commands on a run that is finished: `pipelines evaluate`, `export`, `report`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.terminal import JsonOption, RunArgument, reported
from pipelines.errors import ExperimentError

ShiftOption = Annotated[
    float | None,
    typer.Option(
        "--shift-pj",
        metavar="PJ",
        help="Energy of the shift by a spike's level, in place of the table's; 0 leaves it out.",
        show_default=False,
    ),
]


def evaluate(
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
    shift_pj: ShiftOption = None,
    as_json: JsonOption = False,
) -> None:
    """Classify a split of a store with the best network of a run.

    Examples:

      pipelines evaluate runs/digits-20260101-120000 --split validation

      pipelines evaluate runs/digits-20260101-120000 --cost
    """
    with reported():
        from pipelines.evaluate import evaluate_run
        from snn.cost.energy import EnergySettings
        from snn.cost.report import Cost
        from snn.cost.text import cost_lines

        settings = EnergySettings(table=energy, shift_pj=shift_pj)
        result = evaluate_run(run, data=data, split=split, energy=settings)
        if as_json:
            print(json.dumps(result))
            return
        print(f"{100 * result['accuracy']:.2f} % of {result['samples']} {split} samples of {result['store']}")
        for name, accuracy in result["accuracy_by_class"].items():
            print(f"  {100 * accuracy:6.2f} %  {name}")
        if cost:
            print("", *cost_lines(Cost.from_dict(result["cost"])), sep="\n")


def export(
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
    with reported():
        from pipelines.export import ExportChoice, export_run
        from pipelines.export_words import say_export
        from snn.export.fixed_point import FixedPoint

        form = FixedPoint(bits, fraction_bits, rounding)  # type: ignore[arg-type]
        choice = ExportChoice(form, power_of_two, float_bits, check or samples is not None, samples)
        said = export_run(run, out, choice)
        print(json.dumps(said) if as_json else say_export(said))


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders, of classify and of convert.")
    ],
    energy: Annotated[
        bool,
        typer.Option("--energy", help="Print energy beside ANNs of the same layers; write nothing."),
    ] = False,
    shift_pj: ShiftOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the reports of finished runs anew, or print their energy beside that of ANNs.

    With --energy, each run's network as it was measured on its test samples, an ANN of the same layers with
    ReLU and every product counted, and one with activations of few levels. Those of a conversion are the
    networks it trained, as they were measured. Two rules of energy: that of `evaluate --cost`, and the
    published one.

    Examples:

      pipelines report runs/digits-20260101-120000

      pipelines report runs/digits-20260101-120000 runs/digit_pictures_resnet20-20260101-130000 --energy
    """
    with reported():
        if shift_pj is not None and not energy:
            raise ExperimentError("--shift-pj is for --energy; add that, or use `pipelines evaluate --cost`")
        from pipelines.report.again import write_again
        from pipelines.report.energy import energy_lines, energy_table
        from pipelines.run_folder import RunFolder

        folders = [RunFolder(run) for run in runs]
        if energy:
            tables = [energy_table(folder, shift_pj=shift_pj) for folder in folders]
            as_dicts = [table.as_dict() for table in tables]
            print(json.dumps(as_dicts) if as_json else "\n".join(energy_lines(tables)))
            return
        reports = [str(write_again(folder)) for folder in folders]
        print(json.dumps(reports) if as_json else "\n".join(reports))

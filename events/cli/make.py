"""`events mat`, `events datasets`, `events download`, `events synth`: other data in and out."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from events.cli.terminal import EXIT_PARTIAL, EXIT_USAGE, ProgressBar, errors_as_lines, print_json, say, stop

synth_app = typer.Typer(help="Make recordings of a simulated event camera.", no_args_is_help=True)


@errors_as_lines
def mat(
    src: Annotated[Path, typer.Argument(help="An AEDAT recording, or a folder of them.", show_default=False)],
    dst: Annotated[Path, typer.Argument(help="The .mat file, or a folder.", show_default=False)],
    layout: Annotated[
        Literal["conv_snn", "tet"], typer.Option(help="Columns t x y p, or t 0 -1 x y p as TET reads them.")
    ] = "conv_snn",
) -> None:
    """Write the .mat files that test_dvs.m wrote, for those in the middle of a migration.

    [bold]Example[/bold]

    events mat DVS-CIFAR10 DVS-CIFAR10-mat
    """
    from events.writers.mat import write_mat, write_mat_tree

    if not src.is_dir():
        write_mat(src, dst, layout=layout)
        say(f"wrote {dst}")
        return
    with ProgressBar("writing") as bar:
        summary = write_mat_tree(src, dst, layout=layout, progress=bar.show)
    for path, reason in summary.failures:
        say(f"failed: {path}: {reason.removeprefix(f'{path}: ')}")
    say(f"{summary.written} files written, {summary.skipped} were there already -> {dst}")
    if summary.failures:
        raise typer.Exit(EXIT_PARTIAL)


@errors_as_lines
def datasets(
    name: Annotated[str | None, typer.Argument(help="Show one set in full.", show_default=False)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List known data sets: source, licence, size, citation.

    [bold]Examples[/bold]

    events datasets

    events datasets dvs-cifar10 --json
    """
    from events.datasets.catalogue import CATALOGUE, catalogue_rows, format_catalogue, format_known_set

    if name is not None and name not in CATALOGUE:
        raise stop(f"no known data set {name!r}; known: {', '.join(CATALOGUE)}", code=EXIT_USAGE)
    if json:
        rows = catalogue_rows()
        print_json(rows if name is None else next(row for row in rows if row["name"] == name))
    else:
        typer.echo(format_catalogue() if name is None else format_known_set(name))


@errors_as_lines
def download(
    name: Annotated[
        str, typer.Argument(help="A set of `events datasets` with public files.", show_default=False)
    ],
    dst: Annotated[Path, typer.Argument(help="Folder to download to.", show_default=False)],
    extract: Annotated[bool, typer.Option("--extract", help="Also unpack archives.")] = False,
    file: Annotated[
        list[str] | None, typer.Option(help="Only this file of the set; may be repeated.", show_default="all")
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(help="A mirror that has the files under their names.", show_default="the publisher's"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Download a known data set, checking its checksums; run it again to continue.

    [bold]Example[/bold]

    events download dvs-cifar10 DVS-CIFAR10 --extract
    """
    from events.datasets.download import DownloadProgress
    from events.datasets.download import download as fetch

    def show(state: DownloadProgress) -> None:
        rate = state.done_bytes / max(state.seconds, 1e-9) / 1e6
        text = f"{state.file}, file {state.files_done + 1} of {state.files_total}, {rate:.1f} MB/s"
        bar.show(state.done_bytes, state.total_bytes or state.done_bytes, text)

    with ProgressBar("downloading") as bar:
        summary = fetch(name, dst, extract=extract, files=file, base_url=base_url, progress=show)
    if json:
        print_json(summary.as_dict())
    say(f"{len(summary.files)} files of {name} -> {summary.folder}")


@synth_app.command("digits")
@errors_as_lines
def synth_digits(
    dst: Annotated[
        Path, typer.Argument(help="Folder to write, in CIFAR10-DVS's layout.", show_default=False)
    ],
    per_class: Annotated[
        int | None, typer.Option(help="Recordings of each digit.", show_default="100")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="The same seed makes the same bytes.", show_default="0")
    ] = None,
    duration_us: Annotated[
        int | None, typer.Option(help="Length of a recording in microseconds.", show_default="300000")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes; 1 works in this one.")] = 1,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a running Dask cluster, such as tcp://host:8786.")
    ] = None,
) -> None:
    """Make recordings of real handwritten digits moved before a simulated DVS128.

    [bold]Example[/bold]

    events synth digits digits --per-class 20
    """
    from dataclasses import replace

    from events.synth.digits import DigitSettings, write_digits

    given: dict[str, Any] = {"per_class": per_class, "seed": seed, "duration_us": duration_us}
    settings = replace(DigitSettings(), **{key: value for key, value in given.items() if value is not None})
    with ProgressBar("simulating") as bar:
        write_digits(dst, settings, workers=workers, scheduler=scheduler, progress=bar.show)
    say(f"wrote {dst}")


@synth_app.command("shapes")
@errors_as_lines
def synth_shapes(
    dst: Annotated[Path, typer.Argument(help="Folder to write, in Gen1's layout.", show_default=False)],
    recordings: Annotated[int | None, typer.Option(help="How many recordings.", show_default="40")] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Length of a recording in seconds.", show_default="2.5")
    ] = None,
    size: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Height and width of the sensor in pixels.", show_default="96 128"),
    ] = None,
    label_hz: Annotated[
        float | None, typer.Option(help="Labels of each object per second.", show_default="20")
    ] = None,
    objects: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Fewest and most objects of a recording.", show_default="1 4"),
    ] = None,
    noise_hz: Annotated[
        float | None, typer.Option(help="Noise events of a pixel per second.", show_default="0.5")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="The same seed makes the same bytes.", show_default="0")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes; 1 works in this one.")] = 1,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a running Dask cluster, such as tcp://host:8786.")
    ] = None,
) -> None:
    """Make recordings of moving circles, squares and triangles with exact boxes, for `events convert shapes`.

    [bold]Example[/bold]

    events synth shapes shapes --recordings 40 --workers 2
    """
    from dataclasses import replace

    from events.synth.shapes import ShapeSettings, write_shapes

    defaults = ShapeSettings()
    given: dict[str, Any] = {"recordings": recordings, "objects": objects, "seed": seed}
    if seconds is not None:
        given["duration_us"] = round(seconds * 1e6 / defaults.step_us) * defaults.step_us
    if label_hz is not None:
        if not label_hz > 0:
            raise stop(f"--label-hz must be above 0, got {label_hz}", code=EXIT_USAGE)
        given["label_us"] = round(1e6 / label_hz)
    sensor: dict[str, Any] = {"sensor_hw": size, "noise_rate_hz": noise_hz}
    given["sensor"] = replace(defaults.sensor, **{k: v for k, v in sensor.items() if v is not None})
    settings = replace(defaults, **{key: value for key, value in given.items() if value is not None})
    with ProgressBar("simulating") as bar:
        write_shapes(dst, settings, workers=workers, scheduler=scheduler, progress=bar.show)
    say(f"wrote {dst}")


@synth_app.command("digit-pictures")
@errors_as_lines
def synth_digit_pictures(
    dst: Annotated[Path, typer.Argument(help="Folder to write, in MNIST's layout.", show_default=False)],
    per_class: Annotated[
        int | None, typer.Option(help="Pictures of each digit.", show_default="all, 174 to 183")
    ] = None,
) -> None:
    """Write scikit-learn's handwritten digits as pictures, 8 x 8 pixels, for `events convert mnist`.

    [bold]Example[/bold]

    events synth digit-pictures digit-pictures
    """
    from events.datasets.images.digits import write_digit_pictures

    write_digit_pictures(dst, per_class=per_class)
    say(f"wrote {dst}")

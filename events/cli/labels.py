"""`events labels`: a look at label files, what is doubtful about them, and other formats of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from events.cli.reading import Columns, ReadFormat, Stream, Topic, read_options
from events.cli.terminal import EXIT_PARTIAL, EXIT_PROBLEM, ProgressBar, errors_as_lines, print_json, say

if TYPE_CHECKING:
    from events.inspect.labels import AuditedFile, LabelOptions
    from events.labels.audit import AuditSettings
    from events.labels.table import LabelTable
    from events.recording import ReadOptions

labels_app = typer.Typer(help="Boxes of recordings: look, audit, convert.", no_args_is_help=True)

File = Annotated[
    Path, typer.Argument(help="A label file; of RVT, the folder of a sequence.", show_default=False)
]
Format = Annotated[
    Literal["bbox", "rvt", "ncaltech101", "voc", "yolo"] | None,
    typer.Option(help="Format of the label file.", show_default="told by its content"),
]
Like = Annotated[
    Literal["gen1", "1mpx", "dsec-det", "etram", "pedro", "shapes"] | None,
    typer.Option(help="Published set whose classes and sensor they are.", show_default=False),
]
LabelSensor = Annotated[
    str | None,
    typer.Option(
        "--sensor", help="Sensor's height x width, such as 240x304.", metavar="HxW", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@labels_app.command("info")
@errors_as_lines
def labels_info(
    path: File, format: Format = None, like: Like = None, sensor: LabelSensor = None, json: Json = False
) -> None:
    """Say what a label file holds.

    [bold]Example[/bold]

    events labels info drive_bbox.npy --like gen1
    """
    from events.inspect.labels import AuditedFile
    from events.labels.audit import audit_labels

    table = _read(path, _options(format, like, sensor))
    facts = AuditedFile(path, None, audit_labels(table)).as_dict()
    for other in ("recording", "misfit", "doubtful", "doubtful_share", "findings", "rows"):
        del facts[other]
    if json:
        print_json(facts)
        return
    shown = {name: value for name, value in facts.items() if value is not None and name != "path"}
    width = max(len(name) for name in shown)
    from events.inspect.text import one_line

    typer.echo(
        "\n".join([str(path), *(f"  {name:<{width}}  {one_line(value)}" for name, value in shown.items())])
    )


@labels_app.command("audit")
@errors_as_lines
def labels_audit(
    path: Annotated[
        Path,
        typer.Argument(
            help="A label file, or a folder of recordings with their _bbox.npy beside them, or as the set of "
            "--like has them.",
            show_default=False,
        ),
    ],
    recording: Annotated[
        Path | None,
        typer.Argument(help="Its recording.", show_default="the one beside it, of a _bbox.npy"),
    ] = None,
    format: Format = None,
    like: Like = None,
    sensor: LabelSensor = None,
    png: Annotated[
        Path | None, typer.Option(help="Draw doubtful boxes into one picture.", show_default=False)
    ] = None,
    tiles: Annotated[int, typer.Option(help="Boxes in the picture.", min=1)] = 20,
    dedup: Annotated[
        bool, typer.Option("--dedup", help="Leave duplicates of events, as Gen1 has, out of the counts.")
    ] = False,
    window: Annotated[
        str | None, typer.Option(help="Events count for so long before a label.", show_default="100ms")
    ] = None,
    few_events: Annotated[
        int | None, typer.Option(help="Boxes with fewer are faint.", show_default="10")
    ] = None,
    overlap: Annotated[
        float | None, typer.Option(help="Of duplicates, intersection over union.", show_default="0.9")
    ] = None,
    max_speed: Annotated[
        float | None, typer.Option(help="Of tracks, diagonals of a box per second.", show_default="10")
    ] = None,
    read_format: ReadFormat = None,
    columns: Columns = None,
    stream: Stream = None,
    topic: Topic = None,
    json: Json = False,
) -> None:
    """Look for boxes that are doubtful: without events, twice there, jumping, off screen, frame-wide.

    One line a file. The exit code is 1 where labels do not belong to their recording, 3 where a file
    cannot be read or half of a pair is missing.

    [bold]Examples[/bold]

    events labels audit drive_bbox.npy drive_td.dat --like gen1 --png sheet.png

    events labels audit Gen1/train --like gen1 --dedup --json

    events labels audit PEDRo --like pedro --png sheet.png
    """
    from events.inspect.label_sheet import draw_audits, sum_up

    options = _options(format, like, sensor)
    settings = _audit_settings(window, few_events=few_events, overlap=overlap, max_speed=max_speed)
    if columns is None:
        columns, sensor = _said_by_set(like, sensor)
    reading = read_options(sensor=sensor, format=read_format, columns=columns, stream=stream, topic=topic)
    pairs, problems = _pairs(path, recording, like)
    audited: list[AuditedFile] = []
    with ProgressBar("auditing", quiet=json) as bar:
        for done, (labels, events) in enumerate(pairs):
            bar.show(done, len(pairs), labels.name)
            found, problem = _audit(
                labels, events, options, reading, settings, dedup=dedup, alone=len(pairs) + len(problems) == 1
            )
            audited += [found] if found else []
            problems += [problem] if problem else []
    misfits = [file.misfit for file in audited if file.misfit]
    if png is not None:
        draw_audits(audited, tiles=tiles, window_us=settings.window_us).save(png, format="PNG")
    if json:
        print_json({"files": [file.as_dict() for file in audited], "problems": problems, "misfits": misfits})
    else:
        for file in audited:
            typer.echo(file.line())
        if len(audited) > 1:
            typer.echo(sum_up(audited))
        for problem in [*misfits, *problems]:
            typer.echo(f"problem: {problem}")
    if png is not None:
        say(f"wrote {png}")
    if misfits:
        raise typer.Exit(EXIT_PROBLEM)
    if problems:
        raise typer.Exit(EXIT_PARTIAL)


@labels_app.command("convert")
@errors_as_lines
def labels_convert(
    src: File,
    dst: Annotated[
        Path, typer.Argument(help="File to write; of rvt, the folder of the sequence.", show_default=False)
    ],
    to: Annotated[
        Literal["gen1", "1mpx", "rvt", "coco"],
        typer.Option(help="Format to write: box records of 33 or 40 bytes, RVT's layout, COCO json."),
    ],
    format: Format = None,
    like: Like = None,
    sensor: LabelSensor = None,
    interpolate: Annotated[
        str | None,
        typer.Option(
            help="Put labels at the multiples of this time between the boxes of an object; for training "
            "alone.",
            show_default=False,
        ),
    ] = None,
    max_gap: Annotated[
        str | None, typer.Option(help="Boxes further apart are not joined.", show_default="1s")
    ] = None,
    frames_of: Annotated[
        Path | None,
        typer.Option(
            help="With --to rvt: the recording; its stacked histograms are written, too.", show_default=False
        ),
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(help="With --frames-of: take labels so far apart alone.", show_default="250ms"),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(
            help="With --frames-of: distance of windows. RVT's script has 125ms for Gen1.",
            show_default="50ms",
        ),
    ] = None,
    halve: Annotated[
        bool, typer.Option("--halve", help="With --frames-of: every second pixel, as RVT does with 1Mpx.")
    ] = False,
) -> None:
    """Write labels in another format; with --frames-of also RVT's frames of their recording.

    [bold]Examples[/bold]

    events labels convert drive_bbox.npy drive.json --to coco --like gen1

    events labels convert tracks.npy dense_bbox.npy --to 1mpx --like dsec-det --interpolate 10ms

    events labels convert drive_bbox.npy gen1/train/drive --to rvt --like gen1 --frames-of drive_td.dat
    """
    from events.cli.copy import parse_time
    from events.errors import ConfigError
    from events.labels.formats import write_labels
    from events.labels.table import INTERPOLATED
    from events.labels.tracks import InterpolateSettings, interpolate_labels

    table = _read(src, _options(format, like, sensor))
    if interpolate is not None:
        times: dict[str, Any] = {
            "every_us": parse_time(interpolate, option="--interpolate"),
            "max_gap_us": parse_time(max_gap, option="--max-gap"),
        }
        chosen = {name: value for name, value in times.items() if value is not None}
        table = interpolate_labels(table, InterpolateSettings(**chosen))
    elif max_gap is not None:
        raise ConfigError("--max-gap belongs to --interpolate")
    if frames_of is not None and to != "rvt":
        raise ConfigError(f"--frames-of belongs to --to rvt, got --to {to}")
    if frames_of is None and (grid is not None or every is not None or halve):
        raise ConfigError("--grid, --every and --halve belong to --frames-of")
    if frames_of is not None:
        _export_rvt(dst, frames_of, table, grid=grid, every=every, halve=halve)
        return
    write_labels(dst, table, to)
    added = int((table.kind == INTERPOLATED).sum())
    say(f"wrote {dst}: {len(table):,} boxes" + (f", {added:,} of them interpolated" if added else ""))


def _export_rvt(
    dst: Path, recording: Path, table: "LabelTable", *, grid: str | None, every: str | None, halve: bool
) -> None:
    from events.cli.copy import parse_time
    from events.export_rvt import RvtSettings, export_rvt
    from events.store.named import open_named

    usual = RvtSettings()
    times = parse_time(grid, option="--grid"), parse_time(every, option="--every")
    settings = RvtSettings(
        grid_us=times[0] or usual.grid_us, every_us=times[1] or usual.every_us, halved=halve
    )
    windows, frames = export_rvt(dst, open_named(recording), table, settings)
    say(f"wrote {dst}: {windows:,} windows, {frames:,} of them labelled")


def _options(format: str | None, like: str | None, sensor: str | None) -> "LabelOptions":
    from events.cli.convert import parse_size
    from events.inspect.labels import LabelOptions

    return LabelOptions(format, like, parse_size(sensor, option="--sensor"))


def _read(path: Path, options: "LabelOptions") -> "LabelTable":
    from events.labels.formats import read_labels

    return read_labels(path, options.format, like=options.like, sensor_hw=options.sensor_hw)


def _audit_settings(window: str | None, **given: float | None) -> "AuditSettings":
    from events.cli.copy import parse_time
    from events.labels.audit import AuditSettings

    chosen: dict[str, Any] = given | {"window_us": parse_time(window, option="--window")}
    return AuditSettings(**{name: value for name, value in chosen.items() if value is not None})


def _said_by_set(like: str | None, sensor: str | None) -> tuple[str | None, str | None]:
    """Return columns and sensor of a set's recordings where these say neither; else none and `sensor`."""
    from events.labels.classes import label_set

    known = None if like is None else label_set(like)
    if known is None or known.columns is None or known.sensor_hw is None:
        return None, sensor
    return known.columns, sensor or "{}x{}".format(*known.sensor_hw)


def _pairs(
    path: Path, recording: Path | None, like: str | None
) -> tuple[list[tuple[Path, Path | None]], list[str]]:
    """Return label files with their recordings, and what is missing."""
    from events.errors import ConfigError, LabelError
    from events.labels.fit import LABEL_END, find_pairs
    from events.labels.rvt import rvt_folder

    if path.is_dir() and rvt_folder(path) is None:
        if recording is not None:
            raise ConfigError(f"{path}: is a folder, whose recordings lie beside their labels; name no other")
        found = find_pairs(path)
        if not found.pairs and not found.problems:
            if like is not None:
                return _pairs_of_set(path, like)
            raise LabelError(
                f"{path}: holds no *{LABEL_END}; name a label file and its recording, or the set with --like"
            )
        return [(labels, events) for events, labels in found.pairs], list(found.problems)
    if recording is None and path.name.endswith(LABEL_END):
        beside = [events for events, labels in find_pairs(path.parent).pairs if labels == path]
        return [(path, beside[0] if beside else None)], []
    return [(path, recording)], []


def _pairs_of_set(folder: Path, like: str) -> tuple[list[tuple[Path, Path | None]], list[str]]:
    """Return label files with their recordings where a published set has them, and what is missing."""
    from events.datasets.detection.registry import detection_entry
    from events.datasets.problems import present

    entry = detection_entry(like)
    found = entry.find(folder, next(iter(entry.selections), ""))
    pairs: list[tuple[Path, Path | None]] = [
        (folder / pair.labels, folder / pair.path) for pair in found.pairs if pair.labels is not None
    ]
    alone = [f"{pair.path}: has no label file" for pair in found.pairs if pair.labels is None]
    return pairs, [*present(found.problems), *alone]


def _audit(
    path: Path,
    recording: Path | None,
    options: "LabelOptions",
    reading: "ReadOptions",
    settings: "AuditSettings",
    *,
    dedup: bool,
    alone: bool,
) -> "tuple[AuditedFile | None, str | None]":
    """Return what was found in a file, or why it cannot be read; the only file's error is raised."""
    from events.errors import ConfigError, EventsError
    from events.inspect.labels import audit_file

    try:
        return (
            audit_file(path, recording, labels=options, reading=reading, settings=settings, dedup=dedup),
            None,
        )
    except ConfigError:
        raise
    except EventsError as error:
        if alone:
            raise
        return None, str(error)

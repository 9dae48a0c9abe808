"""`events info`, `events check`, `events view`: a look at recordings and stores."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from events.cli.reading import (
    Columns,
    Damage,
    Orientation,
    Polarity,
    ReadFormat,
    Sensor,
    Stream,
    Timestamps,
    Topic,
    read_options,
    refuse_for_store,
)
from events.cli.terminal import EXIT_PARTIAL, EXIT_PROBLEM, ProgressBar, errors_as_lines, print_json, say

if TYPE_CHECKING:
    import numpy as np

    from events.draw_boxes import DrawnBoxes
    from events.recording import ReadOptions
    from events.store.reader import FrameStore

# At most this many problems are listed; --json has all.
PROBLEMS_SHOWN = 50


@errors_as_lines
def info(
    path: Annotated[
        Path,
        typer.Argument(
            help="A recording (- is standard input), a store, or a recording in a store of events, such as "
            "events.zarr:3.",
            show_default=False,
        ),
    ],
    digest: Annotated[
        bool, typer.Option("--digest", help="Also the digests of a recording's t, x, y and p.")
    ] = False,
    orientation: Orientation = None,
    timestamps: Timestamps = None,
    polarity: Polarity = None,
    damage: Damage = None,
    sensor: Sensor = None,
    read_format: ReadFormat = None,
    columns: Columns = None,
    stream: Stream = None,
    topic: Topic = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a recording or a store holds, and what is wrong with it.

    Of a recording: format, sensor, events, times, rates, hot pixels, triggers, what is damaged and what else
    is in the file (other streams, frames, samples of an IMU). The exit code is 3 where it is damaged.

    [bold]Examples[/bold]

    events info cifar10_airplane_0.aedat --digest

    events info slider.txt --columns t:s,x,y,p

    events info cifar10.zarr --json

    events info gesture-events.zarr:3
    """
    from events.inspect.event_store import event_store_info
    from events.inspect.recording import recording_info
    from events.inspect.show import format_info
    from events.inspect.store import store_info
    from events.store.attributes import store_kind

    options = read_options(
        sensor=sensor,
        orientation=orientation,
        timestamps=timestamps,
        polarity=polarity,
        damage=damage,
        format=read_format,
        columns=columns,
        stream=stream,
        topic=topic,
    )
    if path.is_dir():
        refuse_for_store(path, options)
        facts = event_store_info(path) if store_kind(path) == "events" else store_info(path)
    else:
        facts = recording_info(path, options, digest=digest)
    if json:
        print_json(facts)
    else:
        typer.echo(format_info(facts))
    if facts.get("damaged"):
        raise typer.Exit(EXIT_PARTIAL)


@errors_as_lines
def check(
    store: Annotated[Path, typer.Argument(help="The store.", show_default=False)],
    level: Annotated[
        Literal["fast", "index", "full"],
        typer.Option(help="fast: files and sizes. index: and shard indexes. full: and every sample."),
    ] = "full",
    against: Annotated[
        Path | None,
        typer.Option(help="Folder of the recordings: decode each again and compare.", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check that a store is whole and undamaged; exit code 1 where it is not.

    [bold]Examples[/bold]

    events check cifar10.zarr --level fast

    events check cifar10.zarr --against DVS-CIFAR10
    """
    from events.store.attributes import store_kind
    from events.store.check import check_store
    from events.store.event_check import check_event_store

    check_it = check_event_store if store_kind(store) == "events" else check_store
    with ProgressBar("checking", quiet=json) as bar:
        report = check_it(store, level=level, against=against, progress=bar.show)
    if json:
        print_json(report.as_dict())
    else:
        for problem in report.problems[:PROBLEMS_SHOWN]:
            typer.echo(f"problem: {problem}")
        more = len(report.problems) - PROBLEMS_SHOWN
        if more > 0:
            typer.echo(f"problem: {more} more; --json lists all")
        compared = f", {report.recordings_compared} recordings compared" if against else ""
        verdict = f"{len(report.problems)} problems" if report.problems else "sound"
        typer.echo(
            f"{store}: {verdict} (level {level}): {report.samples} samples in {report.shards} shards, "
            f"{report.samples_read} read{compared}, {report.failed_files} failed recordings"
        )
    if report.problems:
        if not json:
            say("the conversion, run again, makes damaged shards anew")
        raise typer.Exit(EXIT_PROBLEM)


@errors_as_lines
def view(
    path: Annotated[
        Path,
        typer.Argument(
            help="A recording, or a store; store.zarr:3 is the same as --sample 3.", show_default=False
        ),
    ],
    sample: Annotated[
        int | None, typer.Option(help="Position in the store.", show_default="the first")
    ] = None,
    frames: Annotated[int, typer.Option(help="Frames a recording is shown in.")] = 10,
    frame: Annotated[
        int | None, typer.Option(help="The frame shown in the terminal.", show_default="the middle one")
    ] = None,
    width: Annotated[int, typer.Option(help="Width in the terminal, in characters.")] = 64,
    png: Annotated[
        Path | None, typer.Option(help="Write all frames as one picture.", show_default=False)
    ] = None,
    gif: Annotated[Path | None, typer.Option(help="Write the frames as a film.", show_default=False)] = None,
    orientation: Orientation = None,
    timestamps: Timestamps = None,
    polarity: Polarity = None,
    damage: Damage = None,
    sensor: Sensor = None,
    read_format: ReadFormat = None,
    columns: Columns = None,
    stream: Stream = None,
    topic: Topic = None,
) -> None:
    """Look at a recording or a stored sample: in the terminal, as PNG or as GIF.

    [bold]Examples[/bold]

    events view cifar10_airplane_0.aedat

    events view cifar10.zarr --sample 17 --png sheet.png --gif film.gif
    """
    from events import draw

    options = read_options(
        sensor=sensor,
        orientation=orientation,
        timestamps=timestamps,
        polarity=polarity,
        damage=damage,
        format=read_format,
        columns=columns,
        stream=stream,
        topic=topic,
    )
    title, shown, t_edges_us, boxes = _frames_of(path, sample, frames, options)
    say(title)
    if png is not None:
        draw.draw_sheet(shown, title=title, t_edges_us=t_edges_us, boxes=boxes).save(png, format="PNG")
        say(f"wrote {png}")
    if gif is not None:
        draw.write_gif(gif, shown, t_edges_us=t_edges_us, boxes=boxes)
        say(f"wrote {gif}")
    if png is None and gif is None:
        chosen = len(shown) // 2 if frame is None else frame
        if not 0 <= chosen < len(shown):
            raise typer.BadParameter(f"--frame {chosen}: there are frames 0 to {len(shown) - 1}")
        # Without a terminal there are no colours; with one, NO_COLOR decides.
        typer.echo(draw.half_blocks(shown[chosen], width, colour=None if sys.stdout.isatty() else False))


def _frames_of(
    path: Path, sample: int | None, frames: int, options: "ReadOptions"
) -> "tuple[str, np.ndarray, np.ndarray, DrawnBoxes | None]":
    """Return title, frames, their edges, and boxes if any, of a recording or of a sample in a store."""
    from events.store.attributes import store_kind
    from events.store.named import split_name

    store, name = split_name(path) or (path, None)
    kind = store_kind(store)
    if name is not None and sample is not None:
        raise typer.BadParameter(f"--sample {sample}: {path} names a sample already")
    if sample is not None and kind is None:
        raise typer.BadParameter(f"--sample {sample}: {path} is no store")
    if kind == "frames" or (kind is None and store.is_dir()):
        refuse_for_store(store, options)
        return _stored_frames(store, str(sample or 0) if name is None else name)
    if kind == "events" and name is None:
        path = Path(f"{store}:{sample or 0}")
    return *_recording_frames(path, frames, options), None


def _stored_frames(path: Path, name: str) -> "tuple[str, np.ndarray, np.ndarray, DrawnBoxes | None]":
    from events.binning.window import split_micro_bins
    from events.store.detection import has_boxes
    from events.store.reader import open_store

    store = open_store(path)
    sample = int(name) if name.isdecimal() else -1
    if not 0 <= sample < len(store):
        raise typer.BadParameter(f"--sample {name}: the store has samples 0 to {len(store) - 1}")
    frames, edges = store.whole_values(store.read(sample)), store.t_edges_us[sample]
    if not store.planes and frames.shape[1] > 2:
        frames, edges = split_micro_bins(frames, edges)
    events = "" if store.planes else f", {store.n_events[sample]} events"
    if has_boxes(store):
        said, boxes = _window_boxes(store, sample)
        return f"{path.name} window {sample}: {said}{events}", frames, edges, boxes
    label = store.class_names[store.label[sample]]
    return f"{path.name} sample {sample}: {label}{events}", frames, edges, None


def _window_boxes(store: "FrameStore", sample: int) -> "tuple[str, DrawnBoxes]":
    """Return what is to be said of a window, and its boxes to be drawn."""
    from collections import Counter

    from events.draw_boxes import DrawnBoxes
    from events.store.detection import DetectionStore

    found = DetectionStore(store)
    boxes = found.boxes_of(sample)
    names = [found.class_names[number] for number in boxes.class_id.tolist()]
    counts = ", ".join(f"{count} {name}" for name, count in Counter(names).items())
    known = counts or ("no object" if found.labelled[sample] else "no label")
    recording = found.recording_names[int(found.recording[sample])]
    said = f"{known}, up to {int(found.t_end_us[sample]):,} us of {recording}"
    return said, DrawnBoxes(boxes.xyxy, names, boxes.class_id, boxes.ignore)


def _recording_frames(
    path: Path, frames: int, options: "ReadOptions"
) -> "tuple[str, np.ndarray, np.ndarray]":
    from events.binning.settings import BinSettings
    from events.store.named import open_named
    from events.store.task import bin_recording

    recording = open_named(path, options)
    shown = bin_recording(recording, BinSettings(frames=frames, split="time"))
    damaged = "; damaged, `events info` says how" if recording.report.damaged else ""
    title = (
        f"{path.name}: {recording.facts.get('source', recording.format)}, {shown.n_events} events{damaged}"
    )
    return title, shown.frames, shown.t_edges_us

"""`events convert`: recordings of a data set to a store."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from events.cli.convert_run import print_estimate, print_events_estimate, store_events, store_frames
from events.cli.terminal import (
    errors_as_lines,
    say,
    this_command,
)

if TYPE_CHECKING:
    from events.binning.settings import BinSettings

BINNING, READING, STORE, RUNNING = "Binning", "Reading", "Store", "Running"
WINDOWS = "Windows of recordings with boxes"


def _option(panel: str, help: str, *flags: str, default: str | bool = False) -> Any:
    """Return an option in a panel of the help; `default` says what holds where it is not given."""
    return typer.Option(*flags, help=help, rich_help_panel=panel, show_default=default)


def _binning(help: str, *, default: str | bool = False) -> Any:
    return _option(BINNING, help, default=default)


@errors_as_lines
def convert(
    dataset: Annotated[
        str,
        typer.Argument(
            help="asl-dvs, dvs-cifar10, dvs-gesture, dvs-lip, mnist-dvs, n-caltech101, ncars, nmnist, folder "
            "for any recordings in class folders, tonic:NAME, or event-store; of pictures: mnist, cifar10, "
            "cifar100, caltech101, imagenet, image-folder; with boxes: gen1, 1mpx, etram, dsec-det, pedro, "
            "ncaltech101-boxes, rvt, shapes; docs/datasets.md and docs/detection-data.md tell more.",
            show_default=False,
        ),
    ],
    src: Annotated[
        Path, typer.Argument(help="Folder of the recordings, or a store of events.", show_default=False)
    ],
    dst: Annotated[
        Path | None, typer.Argument(help="The store.", show_default="SRC's name and the binning, here")
    ] = None,
    preset: Annotated[
        Literal["tet10", "mlif80", "mlif", "ltsnn30", "cube", "stack", "rvt", "counts"] | None,
        _binning("A published preparation; other options change single settings of it."),
    ] = None,
    frames: Annotated[
        int | None, _binning("Frames per recording; Q with --levels.", default="10, or from T' and S")
    ] = None,
    levels: Annotated[
        int | None,
        _binning(
            "One-hot frames of S lanes: F = 2^(S-1) binary sub-frames make a frame, Q = ceil(T'/F). A pixel "
            "with events in v of them is in lane s = round(log2 v), stored as s + 1, and carries 2^s."
        ),
    ] = None,
    sub_frames: Annotated[
        int | None, _binning("T', the binary sub-frames with --levels.", default="Q * F")
    ] = None,
    binary_frames: Annotated[
        int | None,
        _binning(
            "Cut into so many binary frames first (published: 80) and join (OR) neighbours to T'.",
            default="T'",
        ),
    ] = None,
    binning: Annotated[
        Literal["count", "time", "duration", "window"] | None,
        _binning(
            "Each frame holds as many events, as much time, or --window-us; window: all frames together "
            "hold the --window-us before a label, or from the first event.",
            default="count",
        ),
    ] = None,
    tail: Annotated[
        Literal["last", "drop", "own"] | None,
        _binning("Left-over events join the last frame, are dropped, or get a frame.", default="last"),
    ] = None,
    window_us: Annotated[
        int | None,
        _binning("Microseconds of a frame with --binning duration, of all frames with --binning window."),
    ] = None,
    window_events: Annotated[
        int | None,
        _binning("With --binning window: only so many events, the last within --window-us.", default="all"),
    ] = None,
    micro_bins: Annotated[
        int | None,
        _binning("With --binning window: parts of a frame, each a channel a polarity.", default="1"),
    ] = None,
    cutoff: Annotated[
        int | None,
        _binning("With --binning window: where counts stop.", default="the type's largest value"),
    ] = None,
    rvt_compat: Annotated[
        bool | None,
        _binning("With --binning window: bins between the first and last event, as RVT's.", default="off"),
    ] = None,
    dedup: Annotated[
        bool | None,
        _binning("With --binning window: leave out repeated events, as Gen1 has.", default="off"),
    ] = None,
    value: Annotated[
        Literal["count", "binary", "last_time", "last_polarity", "lane"] | None,
        _binning("What a pixel holds.", default="count"),
    ] = None,
    size: Annotated[
        str | None, _binning("Height x width in pixels, such as 48 or 48x64.", default="the sensor's")
    ] = None,
    resize: Annotated[
        Literal["direct", "area", "separate", "joint"] | None,
        _binning(
            "Count into the small grid, or average over area. With --levels: lanes as pictures, each "
            "polarity by itself, or both as luminance and alpha, as published.",
            default="direct",
        ),
    ] = None,
    dtype: Annotated[
        Literal["uint8", "uint16"] | None,
        _binning("Type of a pixel; larger counts stay at its largest and are reported.", default="uint8"),
    ] = None,
    split: Annotated[
        str | None,
        _option(READING, "tet, conv_snn, tebn, official or random:SEED:TRAIN.", default="the data set's own"),
    ] = None,
    allow_missing: Annotated[
        bool, _option(READING, "Go on where a whole class or split has no recordings.", "--allow-missing")
    ] = False,
    trust: Annotated[
        Literal["folder", "name"] | None,
        _option(READING, "Which is right where folder and file name say different classes."),
    ] = None,
    select: Annotated[
        str | None,
        _option(
            READING,
            "Which recordings. mnist-dvs: all, scale4, scale8, scale16. dvs-gesture: every-row (1,464), "
            "first-row or joined-rows (at most 1,342). Which classes of boxes. 1mpx: first-three, all. "
            "dsec-det: all, car-pedestrian.",
            default="the first named",
        ),
    ] = None,
    orientation: Annotated[
        Literal["jaer", "dat2mat", "spikingjelly", "raw"] | None,
        _option(READING, "Which pixel an address means.", default="jaer"),
    ] = None,
    timestamps: Annotated[
        Literal["unwrap", "dat2mat"] | None,
        _option(READING, "Continue wrapped clocks, or repair as dat2mat.m did.", default="unwrap"),
    ] = None,
    polarity: Annotated[
        Literal["on1", "raw"] | None, _option(READING, "1 means brighter, or the stored bit.", default="on1")
    ] = None,
    damage: Annotated[
        Literal["strict", "skip", "salvage"] | None,
        _option(
            READING, "Fail at damaged bytes, leave them out, or look for events behind them.", default="skip"
        ),
    ] = None,
    sensor: Annotated[
        str | None,
        _option(
            READING, "Sensor's height x width in pixels, such as 180x240.", default="the data set's or file's"
        ),
    ] = None,
    format: Annotated[
        str | None, _option(READING, "Name of the recordings' format.", default="told by their content")
    ] = None,
    columns: Annotated[
        str | None, _option(READING, "Order of columns a file does not name, such as t:us,x,y,p.")
    ] = None,
    stream: Annotated[
        int | None, _option(READING, "Number of the event stream, in files that hold several.")
    ] = None,
    topic: Annotated[str | None, _option(READING, "Topic of events, in ROS bags that hold several.")] = None,
    labels_from_us: Annotated[
        int | None, _option(WINDOWS, "Leave out labels before this time in microseconds.", default="0")
    ] = None,
    labels_grid_us: Annotated[
        int | None,
        _option(WINDOWS, "Take labels this far apart alone, within 2 ms (RVT: 250000).", default="all"),
    ] = None,
    negatives_us: Annotated[
        int | None,
        _option(WINDOWS, "Distance of windows known to be empty, where labels say so.", default="none"),
    ] = None,
    every_us: Annotated[
        int | None,
        _option(WINDOWS, "About the distance of windows without labels between the others.", default="none"),
    ] = None,
    min_side: Annotated[
        float | None, _option(WINDOWS, "Mark boxes with a smaller side, in pixels, to be ignored.")
    ] = None,
    min_diagonal: Annotated[
        float | None, _option(WINDOWS, "Mark boxes with a smaller diagonal, in pixels, to be ignored.")
    ] = None,
    max_width: Annotated[
        float | None, _option(WINDOWS, "Mark boxes wider than this share of the sensor to be ignored.")
    ] = None,
    codec: Annotated[
        Literal["fast", "small"],
        _option(
            STORE, "fast: lz4hc, quickest to train from. small: zstd, a third fewer bytes.", default=True
        ),
    ] = "fast",
    shard_samples: Annotated[
        int | None, _option(STORE, "Samples in a shard file.", default="64, from 4000 samples on 256")
    ] = None,
    events: Annotated[
        bool,
        _option(
            STORE, "Store raw events instead of frames; bin later with `convert event-store`.", "--events"
        ),
    ] = False,
    seed: Annotated[
        int | None, _option(STORE, "Of the order in which samples are stored.", default="0")
    ] = None,
    overwrite: Annotated[
        bool, _option(STORE, "Replace a store that was made with other settings.", "--overwrite")
    ] = False,
    retry_failed: Annotated[
        bool, _option(STORE, "Try recordings again that failed before.", "--retry-failed")
    ] = False,
    workers: Annotated[
        int | None, _option(RUNNING, "Processes; 1 works in this one.", default="number of cores")
    ] = None,
    scheduler: Annotated[
        str | None, _option(RUNNING, "Address of a running Dask cluster, such as tcp://host:8786.")
    ] = None,
    dry_run: Annotated[
        bool, _option(RUNNING, "Only say files, shards, bytes and time to expect.", "--dry-run")
    ] = False,
    json: Annotated[bool, _option(RUNNING, "Print the summary as JSON.", "--json")] = False,
) -> None:
    """Convert recordings to a store of frames, or of events; run it again to continue after a break.

    [bold]Examples[/bold]

    events convert dvs-cifar10 DVS-CIFAR10 cifar10.zarr --frames 10 --split tet

    events convert nmnist N-MNIST --binning time --workers 4

    events convert dvs-cifar10 DVS-CIFAR10 --frames 5 --levels 3 --size 48

    events convert folder recordings --size 48 --dry-run

    events convert dvs-gesture DvsGesture gesture.zarr --events --workers 2

    events convert event-store gesture.zarr gesture-16.zarr --frames 16

    events convert image-folder Flowers --size 64

    events convert gen1 Gen1 gen1.zarr --preset cube --labels-from-us 100000 --labels-grid-us 250000
    """
    from events.cli.windows import DEFAULT_PRESET, default_window_us, is_labelled, list_labelled
    from events.convert import ConvertSettings
    from events.datasets.images.picture import is_pictures
    from events.store.plan import plan_conversion

    binning_given: dict[str, Any] = {
        "frames": frames,
        "levels": levels,
        "sub_frames": sub_frames,
        "binary_frames": binary_frames,
        "split": binning,
        "tail": tail,
        "window_us": window_us,
        "window_events": window_events,
        "micro_bins": micro_bins,
        "cutoff": cutoff,
        "rvt_compat": rvt_compat,
        "dedup": dedup,
        "value": value,
        "size_hw": parse_size(size),
        "resize": resize,
        "dtype": dtype,
    }
    chosen = preset is not None or any(given is not None for given in binning_given.values())
    labelled = is_labelled(dataset)
    prepared: str | None = preset
    if labelled and preset is None and binning is None:
        prepared = DEFAULT_PRESET
        binning_given["window_us"] = window_us or default_window_us(dataset)
    bin_settings = _bin_settings(prepared, **binning_given)
    if events:
        _refuse(
            "--events stores events as they are, to be binned later by `events convert event-store`",
            preset=preset,
            frames=frames,
            levels=levels,
            sub_frames=sub_frames,
            binary_frames=binary_frames,
            binning=binning,
            tail=tail,
            window_us=window_us,
            window_events=window_events,
            micro_bins=micro_bins,
            cutoff=cutoff,
            rvt_compat=rvt_compat,
            dedup=dedup,
            value=value,
            size=size,
            resize=resize,
            dtype=dtype,
            shard_samples=shard_samples,
            seed=seed,
        )
    if is_pictures(dataset):
        reason = f"{dataset}: pictures have no events"
        _refuse(reason, preset=preset, binning=binning, tail=tail, window_us=window_us, value=value)
        _refuse(reason, micro_bins=micro_bins, cutoff=cutoff, rvt_compat=rvt_compat, dedup=dedup)
        _refuse(reason, window_events=window_events)
        _refuse(reason, levels=levels, sub_frames=sub_frames, binary_frames=binary_frames)
        _refuse(reason, resize=resize, dtype=dtype, sensor=sensor, format=format, columns=columns)
        _refuse(reason, stream=stream, topic=topic, orientation=orientation, timestamps=timestamps)
        _refuse(reason, polarity=polarity, damage=damage, events=events)
        bin_settings = _changed(bin_settings, frames=frames or 1)
    rules: dict[str, Any] = {
        "first_us": labels_from_us,
        "grid_us": labels_grid_us,
        "negatives_us": negatives_us,
        "every_us": every_us,
        "min_side_px": min_side,
        "min_diagonal_px": min_diagonal,
        "max_width": max_width,
    }
    if labelled:
        reason = f"{dataset}: its samples are windows of recordings with boxes"
        _refuse(reason, events=events, trust=trust, allow_missing=allow_missing, sensor=sensor, seed=seed)
        listing, bin_settings = list_labelled(
            dataset, src, bin_settings, chosen=chosen, split=split, select=select, **rules
        )
    else:
        windows: dict[str, Any] = {
            "labels_from_us": labels_from_us,
            "labels_grid_us": labels_grid_us,
            "every_us": every_us,
        }
        windows |= {"negatives_us": negatives_us, "min_side": min_side, "min_diagonal": min_diagonal}
        _refuse(f"{dataset}: its recordings have no boxes", **windows, max_width=max_width)
        listing = _listing(dataset, src, split=split, allow_missing=allow_missing, trust=trust, select=select)
    for problem in listing.problems:
        say(f"note: {problem}")
    reading: dict[str, Any] = {"sensor": sensor, "format": format, "columns": columns, "stream": stream}
    reading |= {"topic": topic, "orientation": orientation, "timestamps": timestamps}
    reading |= {"polarity": polarity, "damage": damage}
    if dataset == "event-store":
        _refuse(f"{src}: its events are decoded already", **reading)
    del reading["sensor"]
    read = _changed(listing.read_options, sensor_hw=parse_size(sensor, option="--sensor"), **reading)
    workers = default_workers() if workers is None else workers
    running = {
        "workers": workers,
        "scheduler": scheduler,
        "retry_failed": retry_failed,
        "overwrite": overwrite,
        "command": this_command(),
    }
    if events:
        dst = Path(f"{src.absolute().name}-events.zarr") if dst is None else dst
        if dry_run:
            print_events_estimate(listing, read, codec, dst, workers=workers, json=json)
        else:
            store_events(listing, dst, read, codec, running, json=json)
        return
    settings = ConvertSettings(
        binning=bin_settings, read=read, codec=codec, shard_samples=shard_samples, seed=seed or 0
    )
    dst = default_destination(src, bin_settings) if dst is None else dst
    if dry_run:
        print_estimate(plan_conversion(listing, settings), dst, workers=workers, json=json)
        return
    store_frames(listing, dst, settings, running, json=json)


def _listing(dataset: str, src: Path, **choices: Any) -> Any:
    """Return the recordings to convert: those of a data set's folder, or of an event store."""
    from events.datasets.registry import list_samples
    from events.store.event_reader import EVENT_STORE_DATASET, EventStore

    if dataset != EVENT_STORE_DATASET:
        return list_samples(dataset, src, **choices)
    _refuse(f"{src}: which recordings, and their split, is chosen when an event store is made", **choices)
    return EventStore(src).listing()


def _refuse(reason: str, **given: Any) -> None:
    """Refuse options that would change nothing, rather than ignore them."""
    from events.errors import ConfigError

    named = [
        f"--{name.replace('_', '-')}"
        for name, value in given.items()
        if value is not None and value is not False
    ]
    if named:
        raise ConfigError(f"{reason}; leave out {' and '.join(named)}")


def _bin_settings(preset: str | None, **changes: Any) -> "BinSettings":
    from events.binning.settings import PRESETS, BinSettings, changed_binning
    from events.errors import ConfigError

    given = PRESETS[preset] if preset else BinSettings()
    if (changes["levels"] or given.levels) and (changes["value"] or changes["dtype"]):
        said = "--levels" if changes["levels"] else f"--preset {preset}"
        raise ConfigError(f"{said} decides what a pixel holds; leave out --value and --dtype")
    return changed_binning(given, **changes)


def _changed(settings: Any, **changes: Any) -> Any:
    """Return settings with those fields changed that were given."""
    from dataclasses import replace

    return replace(settings, **{name: value for name, value in changes.items() if value is not None})


def parse_size(text: str | None, *, option: str = "--size") -> tuple[int, int] | None:
    """Return height and width of a size such as 48 or 48x64."""
    from events.errors import ConfigError

    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"{option} {text}: expected pixels such as 48, or height x width such as 48x64")
    return int(parts[0]), int(parts[-1])


def default_workers() -> int:
    """Return the number of cores this process may use."""
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_destination(src: Path, binning: "BinSettings") -> Path:
    """Return the store's default place: SRC's name and what tells its binning from others, here."""
    from events.binning.settings import BinSettings

    usual = BinSettings()
    size_hw = binning.size_hw
    parts = [
        src.absolute().name,
        # One frame is what a picture has.
        f"{binning.frames}{binning.split}" if binning.frames > 1 else "",
        f"{binning.window_us}us" if binning.window_us else "",
        f"{binning.window_events}events" if binning.window_events else "",
        f"{binning.micro_bins}bins" if binning.micro_bins else "",
        f"cutoff{binning.cutoff}" if binning.cutoff else "",
        "rvt" if binning.rvt_compat else "",
        "dedup" if binning.dedup else "",
        f"{binning.levels}levels" if binning.levels else "",
        f"{binning.sub_frames}sub" if binning.sub_frames else "",
        f"of{binning.binary_frames}" if binning.binary_frames else "",
        f"{size_hw[0]}x{size_hw[1]}" if size_hw else "",
        *[
            getattr(binning, name)
            for name in ("tail", "value", "resize", "dtype")
            # Levels say the value, and with the way of resizing the type.
            if getattr(binning, name) != getattr(usual, name)
            and (binning.levels is None or name not in ("value", "dtype"))
        ],
    ]
    return Path("-".join(part for part in parts if part) + ".zarr")

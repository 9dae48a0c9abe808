"""`events cat` and `events diff`: a recording in another format, cropped or cleaned, and two compared."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from events.cli.reading import (
    PANEL,
    Columns,
    Damage,
    Orientation,
    ReadFormat,
    Sensor,
    Stream,
    Timestamps,
    Topic,
    read_options,
)
from events.cli.terminal import (
    EXIT_PARTIAL,
    EXIT_PROBLEM,
    EXIT_USAGE,
    ProgressBar,
    errors_as_lines,
    print_json,
    say,
    stop,
)

if TYPE_CHECKING:
    from events.cat import CatSettings, CatSummary
    from events.readers.live import Feed
    from events.recording import FileReport, ReadOptions, Recording

CUT, CLEAN, WRITING = "Cut", "Clean up", "Writing"

# Microseconds in each unit of time that an option takes.
UNITS_US = {"us": 1, "ms": 1_000, "s": 1_000_000}
# Hot pixels that are named; --json has all.
HOT_PIXELS_SHOWN = 5


def _option(panel: str, help: str, *flags: str, metavar: str | None = None) -> Any:
    return typer.Option(*flags, help=help, rich_help_panel=panel, show_default=False, metavar=metavar)


@errors_as_lines
def cat(
    src: Annotated[
        Path,
        typer.Argument(
            help="A recording, such as walking.aedat, - for standard input, which may be a pipe, or "
            "events.zarr:3 for one in a store of events.",
            show_default=False,
        ),
    ],
    dst: Annotated[Path, typer.Argument(help="The file to write.", show_default=False)],
    format: Annotated[
        str | None, _option(WRITING, "Format of the new file; where not given, its suffix says it.")
    ] = None,
    zero_time: Annotated[
        bool, _option(WRITING, "Count time from the first event written.", "--zero-time")
    ] = False,
    start: Annotated[
        str | None,
        _option(CUT, "Leave out what is earlier: 1500000, 1500ms, +1.5s.", "--from", metavar="TIME"),
    ] = None,
    until: Annotated[
        str | None, _option(CUT, "Leave out what is at this time or later.", "--to", metavar="TIME")
    ] = None,
    crop: Annotated[
        str | None,
        _option(CUT, "Keep x0 <= x < x1 and y0 <= y < y1, counted from x0, y0.", metavar="X0,Y0,X1,Y1"),
    ] = None,
    polarity: Annotated[
        Literal["on", "off", "flip"] | None, _option(CUT, "Keep only ON or OFF events, or flip all.")
    ] = None,
    downsample: Annotated[int, _option(CUT, "Join squares of N x N pixels; the last step.", metavar="N")] = 1,
    hot_pixels: Annotated[
        str | None,
        _option(
            CLEAN,
            "Leave out hot pixels: auto, a rate such as 500hz, or places such as 3,30;7,2.",
            metavar="WHICH",
        ),
    ] = None,
    dedup: Annotated[
        bool, _option(CLEAN, "Leave out an event that repeats its pixel's last one exactly.", "--dedup")
    ] = False,
    refractory: Annotated[
        str | None,
        _option(CLEAN, "Leave out events this soon after the last one of their pixel.", metavar="TIME"),
    ] = None,
    denoise: Annotated[
        str | None,
        _option(CLEAN, "Leave out events without a neighbour's event within this time.", metavar="TIME"),
    ] = None,
    damage: Damage = None,
    sensor: Sensor = None,
    orientation: Orientation = None,
    timestamps: Timestamps = None,
    columns: Columns = None,
    read_format: ReadFormat = None,
    stream: Stream = None,
    topic: Topic = None,
    follow: Annotated[
        bool, _option(PANEL, "Wait for more where the file still grows, until Ctrl-C.", "--follow")
    ] = False,
    timeout: Annotated[
        float | None, _option(PANEL, "End after that many seconds without a new byte.", metavar="SECONDS")
    ] = None,
    json: Annotated[bool, _option(WRITING, "Print what was done as JSON.", "--json")] = False,
) -> None:
    """Copy a recording into another format, cut and cleaned on the way, in little memory.

    Times are microseconds, or carry a unit (us, ms, s); with a + they count from the first event. Steps are
    applied in this order: time, crop, polarity, hot pixels, duplicates, refractory, noise, downsampling. What
    each removed is said at the end. The new file appears once it is complete.

    [bold]Examples[/bold]

    events cat walking.aedat walking.npz

    events cat walking.aedat second.csv --from +1s --to +2s --zero-time

    events cat walking.aedat clean.aedat --hot-pixels auto --refractory 1ms --denoise 5ms

    events cat driving.raw small.npz --crop 320,180,960,540 --downsample 2

    zcat walking.aedat.gz | events cat - walking.npz

    events cat gesture-events.zarr:3 third.aedat
    """
    from events.cat import copy_recording

    settings = cat_settings(
        start=start,
        until=until,
        crop=crop,
        polarity=polarity,
        downsample=downsample,
        hot_pixels=hot_pixels,
        dedup=dedup,
        refractory=refractory,
        denoise=denoise,
        zero_time=zero_time,
    )
    options = read_options(
        damage=damage,
        sensor=sensor,
        orientation=orientation,
        timestamps=timestamps,
        columns=columns,
        format=read_format,
        stream=stream,
        topic=topic,
    )
    recording = _open(src, options, follow=follow, timeout=timeout)

    def show(report: "FileReport") -> None:
        rate = f"{report.events / 1e6:.1f} M events"
        bar.show(report.bytes_read, max(report.bytes_total, report.bytes_read), rate)

    with ProgressBar("copying", quiet=json) as bar:
        summary = copy_recording(recording, dst, settings, format=format, progress=show)
    if json:
        print_json(summary.as_dict())
    else:
        _say_summary(summary)
    if summary.report.damaged:
        raise typer.Exit(EXIT_PARTIAL)


def _open(src: Path, options: "ReadOptions", *, follow: bool, timeout: float | None) -> "Recording":
    from events.errors import ConfigError
    from events.readers.live import is_live, open_live
    from events.store.named import open_named

    if follow or is_live(src):
        # Ctrl-C ends the recording, not the copy, so that what has come is kept.
        stop_at_interrupt = follow and not is_live(src)
        on_feed = _end_at_interrupt if stop_at_interrupt else None
        return open_live(src, options, follow=follow, timeout_s=timeout, on_feed=on_feed)
    if timeout is not None:
        raise ConfigError("--timeout belongs to --follow and to pipes")
    return open_named(src, options)


def _end_at_interrupt(feed: "Feed") -> None:
    import signal

    signal.signal(signal.SIGINT, lambda *_: feed.stop())


def cat_settings(
    *,
    start: str | None,
    until: str | None,
    crop: str | None,
    polarity: Literal["on", "off", "flip"] | None,
    downsample: int,
    hot_pixels: str | None,
    dedup: bool,
    refractory: str | None,
    denoise: str | None,
    zero_time: bool,
) -> "CatSettings":
    """Return the settings that the options of `events cat` say.

    Raises:
        ConfigError: An option cannot be understood.
    """
    from events.cat import CatSettings
    from events.errors import ConfigError
    from events.filters.settings import FilterSettings

    times = {option: text for option, text in (("--from", start), ("--to", until)) if text is not None}
    relative = {option for option, text in times.items() if text.startswith("+")}
    if relative and len(relative) < len(times):
        raise ConfigError("--from and --to must both count from the first event (+) or neither")
    listed, find, rate_hz = parse_hot_pixels(hot_pixels)
    filters = FilterSettings(
        start_us=parse_time(start, option="--from"),
        stop_us=parse_time(until, option="--to"),
        crop=parse_crop(crop),
        polarity=polarity,
        hot_pixels=listed,
        dedup=dedup,
        refractory_us=parse_time(refractory, option="--refractory"),
        background_us=parse_time(denoise, option="--denoise"),
        downsample=downsample,
    )
    return CatSettings(
        filters, from_first=bool(relative), find_hot=find, hot_rate_hz=rate_hz, zero_time=zero_time
    )


def parse_time(text: str | None, *, option: str) -> int | None:
    """Return the microseconds of a time such as 1500000, 1500ms, 1.5s or +1.5s."""
    import re
    from decimal import Decimal

    from events.errors import ConfigError

    if text is None:
        return None
    match = re.fullmatch(r"[+]?(-?\d+(?:\.\d+)?)(us|ms|s)?", text.strip())
    microseconds = Decimal(match[1]) * UNITS_US[match[2] or "us"] if match else None
    if microseconds is None or microseconds != int(microseconds):
        raise ConfigError(
            f"{option} {text}: expected whole microseconds, or a time such as 1500ms, 1.5s or +1.5s"
        )
    return int(microseconds)


def parse_crop(text: str | None) -> tuple[int, int, int, int] | None:
    """Return x0, y0, x1 and y1 of a crop."""
    from events.errors import ConfigError

    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--crop {text}: expected x0,y0,x1,y1 in pixels, such as 0,0,64,48")
    x0, y0, x1, y1 = map(int, parts)
    return x0, y0, x1, y1


def parse_hot_pixels(text: str | None) -> tuple[tuple[tuple[int, int], ...], bool, float | None]:
    """Return the pixels that --hot-pixels names, whether to look for more, and above which rate."""
    import re

    from events.errors import ConfigError

    if text is None:
        return (), False, None
    if text == "auto":
        return (), True, None
    if rate := re.fullmatch(r"(\d+(?:\.\d+)?)hz", text.lower()):
        return (), True, float(rate[1])
    places = [re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*", place) for place in text.split(";")]
    if not all(places):
        raise ConfigError(f"--hot-pixels {text}: expected auto, a rate such as 500hz, or x,y;x,y")
    return tuple((int(place[1]), int(place[2])) for place in places if place), False, None


def _say_summary(summary: "CatSummary") -> None:
    names = {
        "outside_time": "outside the time range",
        "outside_crop": "outside the crop",
        "other_polarity": "of the other polarity",
        "hot": "of hot pixels",
        "duplicates": "duplicates",
        "refractory": "in the refractory time",
        "background": "of background activity",
    }
    for name, count in summary.removed.items():
        say(f"left out: {count:,} {names[name]} ({100 * count / summary.events_in:.1f} %)")
    if summary.hot_pixels:
        shown = ", ".join(f"x={x} y={y}" for x, y in summary.hot_pixels[:HOT_PIXELS_SHOWN])
        more = len(summary.hot_pixels) - HOT_PIXELS_SHOWN
        say(f"hot pixels: {shown}{f' and {more} more' if more > 0 else ''}")
    if summary.leftovers_removed:
        say(f"removed: {summary.leftovers_removed} unfinished beside {summary.path}, left by killed copies")
    report = summary.report
    if report.triggers:
        say(f"left out: {report.triggers:,} triggers; only events are copied")
    for note in report.notes:
        say(f"note: {note}")
    if report.damaged:
        say(f"damaged from byte {report.first_damage_byte:,} on; `events info` says how")
    height, width = summary.sensor_hw
    rate = summary.events_in / max(summary.seconds, 1e-9) / 1e6
    say(
        f"{summary.events_out:,} of {summary.events_in:,} events, {height}x{width}, {summary.format} "
        f"in {summary.seconds:.1f} s ({rate:.1f} Mev/s) -> {summary.path}"
    )


@errors_as_lines
def diff(
    a: Annotated[
        Path,
        typer.Argument(help="A recording; events.zarr:3 is one in a store of events.", show_default=False),
    ],
    b: Annotated[Path, typer.Argument(help="Another, of any format.", show_default=False)],
    ignore_shift: Annotated[
        bool, typer.Option("--ignore-shift", help="Count time from the first event of each.")
    ] = False,
    tolerance: Annotated[
        str, typer.Option(help="Times this close are equal, such as 1us.", metavar="TIME")
    ] = "0us",
    sensor: Sensor = None,
    orientation: Orientation = None,
    columns: Columns = None,
    stream: Stream = None,
    topic: Topic = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two recordings event by event: 0 the same, 1 different, 2 one cannot be read.

    Says how many events differ in each field, which is the first, and what would explain it: a shift in time,
    a mirrored axis, exchanged axes, inverted polarity. Options of reading are for both.

    [bold]Examples[/bold]

    events diff walking.aedat walking.npz

    events diff walking.aedat walking.csv --ignore-shift --tolerance 1us

    events diff gesture-events.zarr:3 third.aedat
    """
    from events.compare import compare_recordings, format_comparison
    from events.errors import EventsError
    from events.store.named import open_named

    tolerance_us = parse_time(tolerance, option="--tolerance") or 0
    options = read_options(
        sensor=sensor, orientation=orientation, columns=columns, stream=stream, topic=topic
    )
    try:
        found = compare_recordings(
            open_named(a, options),
            open_named(b, options),
            tolerance_us=tolerance_us,
            ignore_shift=ignore_shift,
        )
    except (EventsError, OSError) as error:
        raise stop(str(error), code=EXIT_USAGE) from None
    if json:
        print_json(found.as_dict())
    else:
        typer.echo(format_comparison(found))
    if not found.same:
        raise typer.Exit(EXIT_PROBLEM)

"""`pipelines detect stream`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from events.cli.reading import (
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
from pipelines.cli.terminal import INTERRUPTED, PROBLEM, JsonOption, display_here, reported
from pipelines.errors import ExperimentError

if TYPE_CHECKING:
    from events.recording import ReadOptions, Recording

# The recording was damaged, as `events cat` says it.
PARTIAL = 3


def stream(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Recording of any format; - is standard input.")
    ],
    weights: Annotated[
        Path,
        typer.Option(metavar="RUN", help="Run folder of `pipelines run detect`; its best epoch is taken."),
    ],
    out: Annotated[
        list[Path] | None,
        typer.Option(
            help="File of boxes, by suffix: .csv, .npy (Prophesee's records), .jsonl (a line a window), "
            ".txt (MOT tracks), .parquet; may be repeated (default: NAME.boxes.csv).",
            show_default=False,
        ),
    ] = None,
    video: Annotated[
        Path | None, typer.Option(help="Film with boxes and tracks, .gif or .mp4.", show_default=False)
    ] = None,
    rate_hz: Annotated[
        float | None,
        typer.Option(help="Windows a second (default: one follows on another).", show_default=False),
    ] = None,
    window_us: Annotated[
        int | None, typer.Option(help="Length of a window (default: as trained).", show_default=False)
    ] = None,
    by_events: Annotated[
        int | None,
        typer.Option("--events", metavar="N", help="Windows of N events each.", show_default=False),
    ] = None,
    stateless: Annotated[
        bool, typer.Option("--stateless", help="Begin every window with neurons at rest.")
    ] = False,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Let events come as fast as the recording's clock says.")
    ] = False,
    speed: Annotated[
        float | None, typer.Option(help="With --realtime, so many times as fast.", show_default=False)
    ] = None,
    policy: Annotated[
        Literal["wait", "drop-oldest", "widen"],
        typer.Option(help="With --realtime, what is done with windows that wait."),
    ] = "wait",
    deadline_ms: Annotated[
        float | None,
        typer.Option(help="Latency allowed (default: until the next window).", show_default=False),
    ] = None,
    score: Annotated[float, typer.Option(help="Boxes above this score are written.")] = 0.1,
    track_score: Annotated[float, typer.Option(help="Least score of a box that begins a track.")] = 0.5,
    rescale: Annotated[
        bool,
        typer.Option(
            "--rescale", help="Bring a sensor of another size than in training to the network's frames."
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:NUMBER.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="Threads of torch (default: its own).", show_default=False)
    ] = None,
    damage: Damage = None,
    sensor: Sensor = None,
    orientation: Orientation = None,
    timestamps: Timestamps = None,
    columns: Columns = None,
    read_format: ReadFormat = None,
    event_stream: Stream = None,
    topic: Topic = None,
    as_json: JsonOption = False,
) -> None:
    """Look for boxes in a recording window by window, as it arrives, in memory that does not grow.

    Neurons go on from window to window unless --stateless is given. Beside the boxes are written
    NAME.summary.json and NAME.latency.png: how long decoding, encoding, the network and NMS took, from the
    median to the longest, how old results are, and how much faster than real time it was. Ctrl-C leaves whole
    files. Exit codes: 0 done, 1 a problem, 2 wrong usage, 3 done but the recording was damaged,
    130 interrupted.

    Examples:

      pipelines detect stream drive.raw --weights runs/detection-20260101-120000 --out boxes.csv

      pipelines detect stream drive.raw --weights RUN --out boxes.npy --out tracks.txt --video film.mp4

      pipelines detect stream drive.raw --weights RUN --rate-hz 50 --window-us 20000 --realtime --policy widen

      pipelines detect stream drive.raw --weights RUN --events 50000
    """
    with reported():
        options = read_options(
            damage=damage,
            sensor=sensor,
            orientation=orientation,
            timestamps=timestamps,
            columns=columns,
            format=read_format,
            stream=event_stream,
            topic=topic,
        )
        if speed is not None and not realtime:
            raise ExperimentError("--speed is for --realtime; add that, or leave it out")
        if threads is not None and threads < 1:
            raise ExperimentError(f"--threads: found {threads}, expected at least 1")
        # A wrong recording is told before torch is there.
        recording = _open(file, options)

        import torch

        from pipelines.detect_stream import detect_stream
        from pipelines.stream.load import load_network
        from pipelines.stream.pace import PaceSettings
        from pipelines.stream.settings import StreamFiles, StreamSettings, choose_cut
        from snn.metrics.detection.tracks import TrackSettings

        if threads is not None:
            torch.set_num_threads(threads)
        name = "stdin" if str(file) == "-" else file.stem
        boxes = out or [Path(f"{name}.boxes.csv")]
        beside = boxes[0].with_name(boxes[0].name.partition(".")[0] or name)
        files = StreamFiles(
            boxes=tuple(boxes),
            summary=beside.with_name(f"{beside.name}.summary.json"),
            latency=beside.with_name(f"{beside.name}.latency.png"),
            film=video,
        )
        # Before the network is loaded.
        files.check(file)
        network = load_network(weights)
        settings = StreamSettings(
            cut=choose_cut(network, rate_hz=rate_hz, window_us=window_us, events=by_events),
            pace=PaceSettings((speed or 1.0) if realtime else None, policy),
            stateless=stateless,
            least_score=score,
            tracks=TrackSettings(start_score=track_score, least_score=min(0.1, track_score)),
            deadline_ms=deadline_ms,
            rescale=rescale,
            device=device,
        )
        with display_here() as display:
            summary = detect_stream(network, recording, settings, files, display=display)
        print(json.dumps(summary) if as_json else "\n".join(_lines(summary)))
        for note in summary["notes"]:
            print(f"note: {note}", file=sys.stderr)
        _leave(summary)


def _open(file: Path, options: "ReadOptions") -> "Recording":
    from events.readers.live import is_live, open_live
    from events.store.named import open_named

    return open_live(file, options) if is_live(file) else open_named(file, options)


def _leave(summary: dict[str, Any]) -> None:
    """Say what was not as it should be, by the exit code, too."""
    if summary["ended"] == "interrupted":
        print("interrupted; the files hold what was found until then", file=sys.stderr)
        raise typer.Exit(INTERRUPTED)
    if summary["ended"] != "complete":
        print(f"error: {summary['ended']}; the files hold what was found before", file=sys.stderr)
        raise typer.Exit(PROBLEM)
    if not summary["windows"]:
        print(f"note: {summary['recording']}: has no events, so nothing was looked at", file=sys.stderr)
    if summary["report"]["first_damage_byte"] is not None:
        byte = summary["report"]["first_damage_byte"]
        print(f"note: {summary['recording']}: damaged from byte {byte} on; see the summary", file=sys.stderr)
        raise typer.Exit(PARTIAL)


def _lines(summary: dict[str, Any]) -> list[str]:
    """Return the summary for people."""
    lines = [
        f"{summary['boxes']} boxes and {summary['tracks']} tracks in {summary['windows']} windows, "
        f"{summary['events']:,} events, {summary['recorded_s']:.1f} s of recording"
    ]
    if summary["windows"]:
        lines += [
            f"{summary['real_time_factor']:.2f} times real time, {summary['events_per_s']:,.0f} events/s",
            "",
            f"{'ms':11} {'p50':>9} {'p90':>9} {'p99':>9} {'p99.9':>9} {'max':>9}",
        ]
        rows = summary["parts_ms"] | {"latency": summary["latency_ms"], "age": summary["age_ms"]}
        for name, found in rows.items():
            cells = " ".join(f"{found[key]:9.2f}" for key in ("p50", "p90", "p99", "p99.9", "max"))
            lines.append(f"{name:11} {cells}")
        lines.append(f"\n{summary['deadline_misses']} windows came later than allowed")
        for key, words in (("dropped_windows", "windows dropped"), ("joined_windows", "windows joined")):
            lines += [f"{summary[key]} {words}"] if summary[key] else []
    return [*lines, "", *summary["files"]]

"""Running what `events convert` was asked for, and saying what became of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from events.cli.terminal import EXIT_INTERRUPTED, EXIT_PARTIAL, ProgressBar, print_json, say, this_command

if TYPE_CHECKING:
    from events.convert import ConvertProgress
    from events.store.plan import Plan

# At most this many failed files are shown; all are in the manifest.
FAILURES_SHOWN = 10


def store_frames(listing: Any, dst: Path, settings: Any, running: dict[str, Any], *, json: bool) -> None:
    """Convert a listing to frames and print the summary."""
    from events.convert import convert as convert_frames

    summary = _run("converting", convert_frames, listing, dst, settings, **running)
    _print_summary(summary, json=json)
    kept = f", {summary.shards_kept} shards were there already" if summary.shards_kept else ""
    _print_end(summary, summary.frame_bytes, kept)


def store_events(
    listing: Any, dst: Path, read: Any, codec: Any, running: dict[str, Any], *, json: bool
) -> None:
    """Store the events of a listing and print the summary."""
    from events.store.event_writer import convert_events

    summary = _run("storing events", convert_events, listing, dst, read=read, codec=codec, **running)
    _print_summary(summary, json=json)
    kept = f", {summary.kept} recordings were there already" if summary.kept else ""
    _print_end(summary, summary.stored_bytes, kept)


def _run(title: str, function: Any, listing: Any, dst: Path, *arguments: Any, **options: Any) -> Any:
    """Run a conversion with a bar of progress; say how to go on where it is interrupted."""
    what = "recordings" if listing.windows is None else "windows"
    say(f"{len(listing.samples)} {what} of {listing.dataset} ({listing.split_rule}) -> {dst}")
    with ProgressBar(title) as bar:
        try:
            return function(
                listing, dst, *arguments, progress=lambda state: bar.show(*_progress_line(state)), **options
            )
        except KeyboardInterrupt:
            interrupted = True
    # Outside of the bar, which would draw over it.
    if interrupted:
        say(f"interrupted; what is finished is kept. Continue with:\n  {this_command()}")
    raise typer.Exit(EXIT_INTERRUPTED)


def _progress_line(state: "ConvertProgress") -> tuple[int, int, str]:
    done = state.files_ok + state.files_failed
    seconds = max(state.seconds, 1e-9)
    text = (
        f"{state.files_ok} ok, {state.files_failed} failed, {done / seconds:.0f} files/s, "
        f"{state.events / seconds / 1e6:.1f} Mev/s, {state.bytes_written / 1e6:.0f} MB"
    )
    return state.files_before + done, state.files_total, text


def print_estimate(plan: "Plan", dst: Path, *, workers: int, json: bool) -> None:
    """Print what a conversion to frames would take."""
    from dataclasses import asdict

    from events.estimate import estimate

    result = estimate(plan, workers=workers)
    if json:
        print_json({"path": dst} | asdict(result))
        return
    frame_shape = "x".join(str(length) for length in plan.config.frame_shape)
    typer.echo(
        f"{result.files} files, {result.source_bytes / 1e6:.1f} MB -> {dst}\n"
        f"frames {frame_shape} {plan.config.binning.dtype}, {result.shards} shards, "
        f"about {result.store_bytes / 1e6:.1f} MB, about {result.seconds:.0f} s with {workers} workers "
        f"(measured on {result.tried} files)"
    )


def print_events_estimate(
    listing: Any, read: Any, codec: Any, dst: Path, *, workers: int, json: bool
) -> None:
    """Print what storing the events would take."""
    from dataclasses import asdict

    from events.estimate import estimate_events

    result = estimate_events(listing, read, codec, workers=workers)
    if json:
        print_json({"path": dst} | asdict(result))
        return
    typer.echo(
        f"{result.files} files, {result.source_bytes / 1e6:.1f} MB -> {dst}\n"
        f"raw events, about {result.store_bytes / 1e6:.1f} MB, about {result.seconds:.0f} s "
        f"with {workers} workers (measured on {result.tried} files)"
    )


def _print_summary(summary: Any, *, json: bool) -> None:
    if json:
        print_json(summary.as_dict())
    for warning in summary.warnings:
        say(f"warning: {warning}")
    for failure in summary.failures[:FAILURES_SHOWN]:
        at = "" if failure.byte is None else f" (byte {failure.byte})"
        say(f"failed: {failure.path}: {failure.error}{at}")
    if len(summary.failures) > FAILURES_SHOWN:
        say(f"failed: {len(summary.failures) - FAILURES_SHOWN} more, all in {summary.path}/manifest.jsonl")


def _print_end(summary: Any, stored_bytes: int, kept: str) -> None:
    """Say what there is now; end with the code that tells of failed recordings."""
    what = "windows" if getattr(summary, "windows", False) else "recordings"
    say(
        f"{summary.ok} of {summary.files} {what}, {summary.events / 1e6:.1f} M events, "
        f"{stored_bytes / 1e6:.1f} MB in {summary.seconds:.1f} s -> {summary.path}{kept}"
    )
    if summary.failures:
        raise typer.Exit(EXIT_PARTIAL)

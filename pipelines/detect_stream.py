"""Look for boxes in a recording as it arrives: windows in order, state carried, latency measured."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from events.errors import EventsError
from events.recording import Recording
from pipelines.display import Display, Silent
from pipelines.interruption import interruptible
from pipelines.stream.detector import StreamNetwork, WindowDetector, device_named
from pipelines.stream.files import FILES, WindowResult, Write
from pipelines.stream.film import AddPicture, film_file
from pipelines.stream.latency import Latencies
from pipelines.stream.pace import Arrival, Clock, Pace, WallClock
from pipelines.stream.settings import StreamFiles, StreamSettings
from pipelines.stream.summary import Totals, summarise, write_summary
from pipelines.stream.windows import CutCounts, cut_windows
from snn.metrics.detection.tracks import Tracker


def detect_stream(
    network: StreamNetwork,
    recording: Recording,
    settings: StreamSettings,
    files: StreamFiles,
    *,
    display: Display | None = None,
    clock: Clock | None = None,
) -> dict[str, Any]:
    """Go through a recording once, write what is found, and return the summary that is written, too.

    Ctrl-C ends after the window in work, with every file whole. So does damage that nothing can be read
    behind; the summary's `ended` says which.

    Raises:
        ExperimentError, RunError: Settings cannot be used, or the recording does not fit the network.
        EventsError: Nothing of the recording can be read, or a file cannot be written.
    """
    display, clock = display or Silent(), clock or WallClock()
    files.check(recording.path)
    look = WindowDetector(
        network,
        sensor_hw=recording.sensor_hw,
        rescale=settings.rescale,
        stateless=settings.stateless,
        least_score=settings.least_score,
        device=device_named(settings.device),
        clock=clock,
        where=str(recording.path),
    )
    counts, totals, latencies = CutCounts(), Totals(), Latencies()
    with interruptible() as asked:
        pace = Pace(
            cut_windows(recording, settings.cut, counts),
            settings.pace,
            least_step_us=settings.cut.least_step_us,
            clock=clock,
            stop=asked,
        )
        began = clock.now()
        with ExitStack() as stack:
            writes, show = _open_files(files, network, recording, stack)
            tracker = Tracker(settings.tracks)
            arrivals = _Kept(iter(pace))
            for arrival in arrivals:
                found = look(arrival.window)
                latency_s = clock.now() - arrival.arrived_s + arrival.ahead_s
                window = arrival.window
                tracks = tracker.update(window.stop_us, found.xyxy, found.class_id, found.score)
                result = WindowResult(
                    number=window.number,
                    start_us=window.start_us,
                    stop_us=window.stop_us,
                    events=len(window.events),
                    joined=window.joined,
                    xyxy=found.xyxy,
                    class_id=found.class_id,
                    score=found.score,
                    track_id=tracks,
                    latency_s=latency_s,
                    parts_s={"decode": arrival.decode_s} | found.parts_s,
                )
                _count(latencies, result, settings)
                totals.windows += 1
                totals.boxes += len(tracks)
                totals.tracks = max(totals.tracks, int(tracks.max(initial=-1)) + 1)
                for write in writes:
                    write(result)
                if show is not None:
                    show(found.frames, result)
                _say_progress(display, recording, result, totals)
            if arrivals.error is not None and not totals.windows:
                raise arrivals.error
        wall_s = clock.now() - began
        ended = "interrupted" if asked() else "complete" if arrivals.error is None else str(arrivals.error)
    summary = summarise(network, recording, settings, files, counts, totals, latencies, pace, wall_s) | {
        "ended": ended
    }
    write_summary(files, summary, latencies, settings)
    return summary


class _Kept:
    """Iterates over windows to their end, or the reader's error, which is kept."""

    def __init__(self, arrivals: Iterator[Arrival]) -> None:
        self._arrivals = arrivals
        self.error: EventsError | None = None

    def __iter__(self) -> Iterator[Arrival]:
        while True:
            try:
                arrival = next(self._arrivals)
            except StopIteration:
                return
            except EventsError as error:
                self.error = error
                return
            yield arrival


def _open_files(
    files: StreamFiles, network: StreamNetwork, recording: Recording, stack: ExitStack
) -> tuple[list[Write], AddPicture | None]:
    names = network.class_names
    writes = [stack.enter_context(FILES[path.suffix.lower()](path, names)) for path in files.boxes]
    if files.film is None:
        return writes, None
    film = film_file(
        files.film,
        class_names=names,
        sensor_hw=recording.sensor_hw,
        least_score=network.operating_score,
    )
    return writes, stack.enter_context(film)


def _count(latencies: Latencies, result: WindowResult, settings: StreamSettings) -> None:
    """Count what a window took, on the machine's clock."""
    speed = settings.pace.speed or 1.0
    span_us = result.stop_us - result.start_us
    deadline_s = (settings.cut.step_us or span_us) / 1e6 / speed
    if settings.deadline_ms is not None:
        deadline_s = settings.deadline_ms / 1e3
    latencies.add(
        result.parts_s,
        latency_s=result.latency_s,
        span_s=span_us / 1e6 / speed,
        deadline_s=deadline_s,
    )


def _say_progress(display: Display, recording: Recording, result: WindowResult, totals: Totals) -> None:
    report, note = recording.report, f"{result.stop_us / 1e6:.1f} s, {totals.boxes} boxes"
    if report.bytes_total:
        done = min(100 * report.bytes_read // report.bytes_total, 100)
        display.progress("looking, %", done, 100, f"{totals.windows} windows, {note}")
    else:
        display.progress("looking, windows", totals.windows, totals.windows, note)

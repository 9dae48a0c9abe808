"""How a recording is looked at, and where results go."""

from dataclasses import dataclass, field
from pathlib import Path

from pipelines.errors import ExperimentError
from pipelines.stream.detector import StreamNetwork
from pipelines.stream.files import check_apart, check_names
from pipelines.stream.film import check_film
from pipelines.stream.pace import PaceSettings
from pipelines.stream.windows import WindowCut
from snn.metrics.detection.tracks import TrackSettings


@dataclass(frozen=True)
class StreamSettings:
    """How a recording is looked at.

    Attributes:
        cut: Where windows begin and end.
        pace: When they arrive, and what is done with those that wait.
        stateless: Whether neurons begin every window at rest; else they go on from the one before.
        least_score: Scores of boxes are above.
        tracks: How boxes become tracks.
        deadline_ms: Latency allowed; None is the time until the next window.
        rescale: Whether a sensor of another size than in training is brought to the network's frames.
        device: `auto`, `cpu`, `cuda` or `cuda:NUMBER`.
    """

    cut: WindowCut
    pace: PaceSettings = field(default_factory=PaceSettings)
    stateless: bool = False
    least_score: float = 0.1
    tracks: TrackSettings = field(default_factory=TrackSettings)
    deadline_ms: float | None = None
    rescale: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        if not 0 <= self.least_score < 1:
            raise ExperimentError(f"--score: found {self.least_score}, expected a number from 0 to below 1")
        if self.deadline_ms is not None and not self.deadline_ms > 0:
            raise ExperimentError(f"--deadline-ms: found {self.deadline_ms}, expected a number above 0")
        if self.cut.overlapping and not self.stateless:
            raise ExperimentError(
                f"windows of {self.cut.window_us} us every {self.cut.step_us} us overlap, and neurons that "
                "go on from window to window would see events twice; add --stateless, or make windows as "
                "long as the time between them with --window-us"
            )


@dataclass(frozen=True)
class StreamFiles:
    """Where results go.

    Attributes:
        boxes: Files of boxes; the suffix says which, see `pipelines.stream.files`.
        summary: JSON.
        latency: PNG; None draws none.
        film: GIF or MP4; None draws none.
    """

    boxes: tuple[Path, ...]
    summary: Path
    latency: Path | None = None
    film: Path | None = None

    def check(self, source: Path) -> None:
        """Refuse, before any work, what cannot be written.

        Raises:
            ExperimentError: A suffix is unknown, or two files are one, or one is the recording.
        """
        check_names(list(self.boxes))
        if self.film is not None:
            check_film(self.film)
        check_apart(self.all(), source=str(source))

    def all(self) -> list[Path]:
        """Return every file."""
        return [*self.boxes, *(path for path in (self.film, self.latency) if path), self.summary]


def choose_cut(
    network: StreamNetwork, *, rate_hz: float | None, window_us: int | None, events: int | None
) -> WindowCut:
    """Return where windows begin and end: as trained, side by side, where nothing else is said.

    Args:
        network: The detector.
        rate_hz: Windows a second; None makes them follow on one another.
        window_us: Length of a window; None is that of training.
        events: Events of a window, in place of both.

    Raises:
        ExperimentError: These exclude each other, or one is not above 0.
    """
    if events is not None:
        if rate_hz is not None or window_us is not None:
            raise ExperimentError("--events cuts by number; leave out --rate-hz and --window-us")
        return WindowCut(events=events)
    if rate_hz is None and window_us is None and network.binning.window_events is not None:
        return WindowCut(events=network.binning.window_events)
    if rate_hz is not None and not 0 < rate_hz <= 1e6:
        raise ExperimentError(f"--rate-hz: found {rate_hz}, expected above 0 and at most 1,000,000")
    length_us = window_us if window_us is not None else (network.binning.window_us or 0)
    return WindowCut(length_us if rate_hz is None else round(1e6 / rate_hz), length_us)

"""`events labels audit`: a label file beside its recording, as facts and as one line."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from events.errors import LabelError
from events.filters.settings import FilterSettings
from events.filters.stream import EventFilter
from events.labels.audit import AuditSettings, LabelAudit, audit_labels
from events.labels.density import count_box_events
from events.labels.fit import check_fit
from events.labels.formats import identify_labels, read_labels
from events.labels.table import LabelTable
from events.recording import ReadOptions, Recording
from events.store.named import open_named

# Events that are counted at a time.
CHUNK_EVENTS = 1 << 20

# Ends of the three saccades of N-Caltech101, to which its boxes are moved: before the beginning, which the
# annotation is for, there are no events.
SACCADE_ENDS_US = (100_000, 200_000, 300_000)


@dataclass(frozen=True)
class LabelOptions:
    """How label files are read; see `events.labels.formats.read_labels`."""

    format: str | None = None
    like: str | None = None
    sensor_hw: tuple[int, int] | None = None


@dataclass(frozen=True)
class AuditedFile:
    """A label file and what is doubtful about it.

    Attributes:
        path: The label file.
        recording: Its recording; None where there is none.
        audit: What was found.
        misfit: Why the two do not belong together; None where they may.
        events: Events of the recording; None without one.
        duplicate_events: Those equal in t, x, y and p to the last of their pixel and polarity.
    """

    path: Path
    recording: Recording | None
    audit: LabelAudit
    misfit: str | None = None
    events: int | None = None
    duplicate_events: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON types."""
        recording = None
        if self.recording is not None and self.events is not None:
            report = self.recording.report
            recording = {
                "path": str(self.recording.path),
                "events": self.events,
                "t_first_us": report.t_first_us,
                "t_last_us": report.t_last_us,
                "duplicate_events": self.duplicate_events,
                "duplicate_share": self.duplicate_events / max(self.events, 1),
            }
        facts = {"path": str(self.path), "recording": recording, "misfit": self.misfit}
        return facts | self.audit.as_dict()

    def line(self) -> str:
        """Return the most important of it on one line."""
        facts = self.audit.as_dict()
        rate = "" if facts["label_rate_hz"] is None else f" ({facts['label_rate_hz']:.1f} Hz)"
        classes = ", ".join(f"{name} {count:,}" for name, count in facts["classes"].items())
        found = ", ".join(
            f"{int(rows.sum()):,} {name}" for name, rows in self.audit.found.items() if rows.any()
        )
        boxes = f"{facts['boxes']:,} box{'' if facts['boxes'] == 1 else 'es'}"
        parts = [
            f"{self.path.name}: {boxes}, labelled times {facts['labelled_times']:,}{rate}"
            + (f": {classes}" if classes else ""),
            f"doubtful {facts['doubtful']:,} ({100 * facts['doubtful_share']:.1f} %)"
            + (f": {found}" if found else ""),
        ]
        if facts["off_screen_share"]:
            parts.append(f"{100 * facts['off_screen_share']:.1f} % of their area off screen")
        share = 100 * self.duplicate_events / max(self.events or 0, 1)
        if share >= 0.1:
            parts.append(f"{share:.1f} % of events are duplicates")
        return "; ".join(parts)


def audit_file(
    path: Path,
    recording_path: Path | None = None,
    *,
    labels: LabelOptions | None = None,
    reading: ReadOptions | None = None,
    settings: AuditSettings | None = None,
    dedup: bool = False,
) -> AuditedFile:
    """Read a label file and look for what is doubtful, with the events of its recording where there is one.

    Labels that say no time are taken for the end of the recording; those of N-Caltech101 for the end of each
    saccade.

    Args:
        path: The label file.
        recording_path: Its recording.
        labels: How the label file is read.
        reading: How the recording is read.
        settings: From where on a box is called doubtful.
        dedup: Whether duplicates of events are not counted in boxes.

    Raises:
        EventsError: A file cannot be read.
    """
    options, settings = labels or LabelOptions(), settings or AuditSettings()
    if recording_path is None:
        return AuditedFile(path, None, audit_labels(_read(path, options, None, None), settings=settings))
    recording = open_named(recording_path, reading or ReadOptions())
    span_us: tuple[int, int] | None = None
    if (options.format or identify_labels(path)) in ("voc", "yolo", "ncaltech101"):
        span_us = _span(recording)
    sensor_hw = recording.sensor_hw
    table = _read(path, options, sensor_hw, span_us)
    dedup_filter = EventFilter(FilterSettings(dedup=True), sensor_hw)

    def chunks() -> Iterator[np.ndarray]:
        for chunk in recording.chunks(count=CHUNK_EVENTS):
            left = dedup_filter(chunk)
            yield left if dedup else chunk

    events = count_box_events(chunks(), table, sensor_hw=sensor_hw, window_us=settings.window_us)
    report = recording.report
    ends = report.t_first_us, report.t_last_us
    misfit = None
    try:
        check_fit(
            table,
            where=str(path),
            span_us=None if ends[0] is None or ends[1] is None else (ends[0], ends[1]),
            sensor_hw=sensor_hw,
        )
    except LabelError as error:
        misfit = str(error)
    return AuditedFile(
        path,
        recording,
        audit_labels(replace(table, sensor_hw=sensor_hw), events=events, settings=settings),
        misfit,
        dedup_filter.report.events_in,
        dedup_filter.report.duplicates,
    )


def _read(
    path: Path, options: LabelOptions, sensor_hw: tuple[int, int] | None, span_us: tuple[int, int] | None
) -> LabelTable:
    """Read labels; the size of a recording stands where a format needs one that nobody has said."""
    format = options.format or identify_labels(path)
    given: dict[str, Any] = {}
    if format in ("voc", "yolo") and span_us is not None:
        given["t_us"] = span_us[1] + 1
    if format == "ncaltech101" and span_us is not None:
        given["times_us"] = SACCADE_ENDS_US
    wanted = options.sensor_hw
    if wanted is None and options.like is None and format in ("yolo", "ncaltech101"):
        wanted = sensor_hw
    return read_labels(path, format, like=options.like, sensor_hw=wanted, **given)


def _span(recording: Recording) -> tuple[int, int]:
    """Read a recording through and return the times of its first and last event."""
    for _ in recording.chunks():
        pass
    first, last = recording.report.t_first_us, recording.report.t_last_us
    if first is None or last is None:
        raise LabelError(f"{recording.path}: has no events, so that its labels have no time; copy it again")
    return first, last

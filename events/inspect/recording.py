"""What is in a recording: its events counted, and what its reader found."""

from pathlib import Path
from typing import Any

import numpy as np

from events.filters.hot_pixels import hot_pixels
from events.inspect.text import one_line, said_bytes, said_seconds
from events.readers.live import is_live
from events.readers.registry import READERS
from events.recording import EventDigest, ReadOptions, Recording
from events.store.named import open_named

DEFAULT_OPTIONS = ReadOptions()

# Hot pixels that are named; all are counted.
NAMED_AT_MOST = 10
# Pixels of the largest sensor whose pixels are counted: 512 MiB. A damaged header may claim more.
MOST_PIXELS = 1 << 26
# Milliseconds by which the clock may step back and still have its events counted in one millisecond.
RATE_MEMORY_MS = 1000


def recording_info(
    path: Path | str, options: ReadOptions = DEFAULT_OPTIONS, *, digest: bool = False
) -> dict[str, Any]:
    """Read a recording to its end and return what is in it; memory does not grow with its length.

    Args:
        path: The recording; `-` is standard input, `events.zarr:3` a recording in a store of events.
        options: How to read it.
        digest: Also compute the digest of each field (`events.recording.EventDigest`).

    Returns:
        Plain JSON types: `format`, `sensor`, `events`, `on_share`, times in microseconds, rates, hot
        pixels, `triggers` by channel (none of a pipe), `report` (a `FileReport`), `header`, and `digest`
        where asked for.

    Raises:
        EventsError: The file cannot be read; see `events.store.named.open_named`.
    """
    recording = open_named(path, options)
    survey = _Survey(recording.sensor_hw)
    field_digest = EventDigest()
    for chunk in recording.chunks():
        survey.update(chunk)
        if digest:
            field_digest.update(chunk)
    # Triggers take a reading of their own, and a pipe can be read only once.
    triggers = [] if is_live(path) else _triggers(recording)
    info = _recording_facts(recording) | survey.as_dict() | {"path": str(path), "triggers": triggers}
    return info | ({"digest": field_digest.as_dict()} if digest else {})


def _recording_facts(recording: Recording) -> dict[str, Any]:
    return {
        "kind": "recording",
        "format": recording.format,
        "sensor": {"height": recording.sensor_hw[0], "width": recording.sensor_hw[1]},
        "header": {name: _plain(value) for name, value in recording.facts.items()},
        "damaged": recording.report.damaged,
        "report": recording.report.as_dict(),
    }


def _triggers(recording: Recording) -> list[dict[str, int]]:
    """Return the edges of external signals by channel: how many rise and fall, the first and last time."""
    edges = recording.triggers()
    rows = []
    for channel in np.unique(edges["channel"]).tolist():
        of_channel = edges[edges["channel"] == channel]
        rising = int(np.count_nonzero(of_channel["rising"]))
        t = of_channel["t"]
        rows.append(
            {
                "channel": channel,
                "rising": rising,
                "falling": len(of_channel) - rising,
                "t_first_us": int(t.min()),
                "t_last_us": int(t.max()),
            }
        )
    return rows


class _Survey:
    """Counts over a stream of events: how many, when, where, of which polarity."""

    def __init__(self, sensor_hw: tuple[int, int]) -> None:
        self.events = self.on = 0
        self.t_first_us: int | None = None
        self.earliest_us = self.latest_us = 0
        self._width = sensor_hw[1]
        self._pixels = sensor_hw[0] * sensor_hw[1]
        self._per_pixel = np.zeros(self._pixels if self._pixels <= MOST_PIXELS else 0, np.int64)
        self._recent: dict[int, int] = {}
        self._peak = (0, 0)

    def update(self, events: np.ndarray) -> None:
        """Add the next events, shape [n], EVENT_DTYPE."""
        if len(events) == 0:
            return
        t = events["t"]
        earliest_us, latest_us = int(t.min()), int(t.max())
        if self.t_first_us is None:
            self.t_first_us = int(t[0])
            self.earliest_us, self.latest_us = earliest_us, latest_us
        self.earliest_us = min(self.earliest_us, earliest_us)
        self.latest_us = max(self.latest_us, latest_us)
        self.events += len(events)
        self.on += int(np.count_nonzero(events["p"]))
        if len(self._per_pixel):
            pixel = events["y"].astype(np.int64) * self._width + events["x"]
            self._per_pixel += np.bincount(pixel, minlength=len(self._per_pixel))
        self._count_milliseconds(t - self.t_first_us)

    def _count_milliseconds(self, elapsed_us: np.ndarray) -> None:
        """Find the busiest millisecond, carrying over the last ones of the chunk before."""
        millisecond, counts = np.unique(elapsed_us // 1000, return_counts=True)
        together = dict(self._recent)
        for ms, count in zip(millisecond.tolist(), counts.tolist(), strict=True):
            together[ms] = together.get(ms, 0) + count
        busiest = max(together, key=lambda ms: (together[ms], -ms))
        self._peak = max(self._peak, (together[busiest], -busiest))
        newest = max(together)
        self._recent = {ms: count for ms, count in together.items() if ms > newest - RATE_MEMORY_MS}

    def as_dict(self) -> dict[str, Any]:
        """Return what was counted as plain JSON types; None where there are no events to say."""
        duration_us = self.latest_us - self.earliest_us
        return {
            "events": self.events,
            "on": self.on,
            "off": self.events - self.on,
            "on_share": self.on / self.events if self.events else None,
            "t_first_us": self.t_first_us,
            "earliest_us": self.earliest_us if self.events else None,
            "latest_us": self.latest_us if self.events else None,
            "duration_us": duration_us if self.events else None,
            "mean_rate_hz": self.events / duration_us * 1e6 if duration_us else None,
            "peak_events_per_ms": self._peak[0] if self.events else None,
            "peak_at_ms": -self._peak[1] if self.events else None,
            "pixels": self._pixels,
            **self._of_pixels(),
        }

    def _of_pixels(self) -> dict[str, Any]:
        if not len(self._per_pixel):
            return {"active_pixels": None, "hot_pixels": None, "hot_events": None, "hottest_pixels": []}
        counts = self._per_pixel.reshape(-1, self._width)
        hot = [{"x": x, "y": y, "events": int(counts[y, x])} for x, y in hot_pixels(counts)]
        return {
            "active_pixels": int(np.count_nonzero(counts)),
            "hot_pixels": len(hot),
            "hot_events": sum(pixel["events"] for pixel in hot),
            "hottest_pixels": hot[:NAMED_AT_MOST],
        }


def recording_rows(info: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what `recording_info` found as pairs of a name and its text."""
    sensor, report = info["sensor"], info["report"]
    rows = [
        ("format", f"{_title(info)}, {said_bytes(report['bytes_total'])}"),
        ("sensor", f"{sensor['height']} x {sensor['width']} (height x width)"),
        ("events", f"{info['events']:,}"),
    ]
    if info["events"]:
        rows += [
            ("polarity", f"{info['on']:,} ON ({100 * info['on_share']:.1f} %), {info['off']:,} OFF"),
            ("time", _time_text(info)),
            ("rate", _rate_text(info)),
            ("clock", _clock_text(report)),
            ("pixels", _pixel_text(info)),
            ("hot pixels", _hot_text(info)),
        ]
    rows += [("trigger", _trigger_text(trigger)) for trigger in info["triggers"]]
    if report["triggers"] and not info["triggers"]:
        rows.append(("trigger", f"{report['triggers']:,} edges"))
    rows.append(("damage", _damage_text(report)))
    if left_out := _left_out_text(report):
        rows.append(("left out", left_out))
    rows += [("note", note) for note in report["notes"]]
    rows += [(name.replace("_", " "), one_line(value)) for name, value in info["header"].items()]
    rows += [(f"digest {name}", str(value)) for name, value in info.get("digest", {}).items()]
    return rows


def _title(info: dict[str, Any]) -> str:
    """Return the format's name for people; of a recording in a store, that of the file it came from."""
    if info["format"] in READERS:
        return READERS[info["format"]].title
    source = READERS.get(info["header"].get("source_format", ""))
    return f"store of events, decoded from {source.title if source else 'a file'}"


def _time_text(info: dict[str, Any]) -> str:
    return f"{info['earliest_us']:,} to {info['latest_us']:,} us, {said_seconds(info['duration_us'])}"


def _rate_text(info: dict[str, Any]) -> str:
    peak = f"at most {info['peak_events_per_ms']:,} in a millisecond (at {info['peak_at_ms']:,} ms)"
    return peak if info["mean_rate_hz"] is None else f"{info['mean_rate_hz']:,.0f} events/s, {peak}"


def _clock_text(report: dict[str, Any]) -> str:
    said = []
    if report["backward_steps"]:
        steps, largest = report["backward_steps"], report["largest_backward_us"]
        said.append(f"{steps:,} backward steps, the largest {largest:,} us")
    if report["wraps"]:
        wraps = report["wraps"]
        said.append(f"{wraps:,} wrap{'s' if wraps > 1 else ''} continued")
    return "; ".join(said) or "never steps back"


def _pixel_text(info: dict[str, Any]) -> str:
    if info["active_pixels"] is None:
        return f"{info['pixels']:,}, too many to count"
    return f"{info['active_pixels']:,} of {info['pixels']:,} sent events"


def _hot_text(info: dict[str, Any]) -> str:
    if info["hot_pixels"] is None:
        return "not looked for"
    if not info["hot_pixels"]:
        return "none"
    places = ", ".join(f"x={p['x']} y={p['y']} ({p['events']:,})" for p in info["hottest_pixels"][:3])
    share = 100 * info["hot_events"] / info["events"]
    return f"{info['hot_pixels']:,} with {share:.1f} % of all events: {places}"


def _damage_text(report: dict[str, Any]) -> str:
    counted = {
        "partial record at the end": report["partial_records"],
        "events outside the sensor": report["out_of_sensor"],
        "damaged packets": report["damaged_packets"],
        "words of an unknown type": report["unknown_words"],
        "bytes skipped": report["bytes_skipped"],
    }
    said = ", ".join(f"{count:,} {what}" for what, count in counted.items() if count)
    if report["first_damage_byte"] is not None:
        said = f"{said or 'damaged'}, first at byte {report['first_damage_byte']:,}"
    return said or "none"


def _left_out_text(report: dict[str, Any]) -> str:
    """Say what is in the file that is no damage and yet no event of the recording."""
    counted = {
        "special events": report["special_events"],
        "events marked invalid": report["invalid_events"],
        "events before the first time or row": report["unplaced_events"],
        "packets of other kinds or streams": report["other_packets"],
    }
    return ", ".join(f"{count:,} {what}" for what, count in counted.items() if count)


def _trigger_text(trigger: dict[str, int]) -> str:
    return (
        f"channel {trigger['channel']}: {trigger['rising']:,} rising, {trigger['falling']:,} falling, "
        f"{trigger['t_first_us']:,} to {trigger['t_last_us']:,} us"
    )


def _plain(value: object) -> object:
    """Return a header fact as a plain JSON type."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else str(value)

"""What a recording is: events, where they come from, and what was wrong with the file.

Readers (`events.readers`) produce a `Recording`; everything after them sees only this file's types.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from copy import copy
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from events.errors import ConfigError, DamagedRecording
from events.memory import allocate
from events.seek import BLOCK_EVENTS, Range, SeekIndex, read_range
from events.stream import MOST_EMPTY_WINDOWS, by_count, by_duration

# One event: t in microseconds, x and y in pixels from the top left, p True where it got brighter (ON).
# Aligned to 16 bytes, so that a decoder writes an event as two 64-bit words.
EVENT_DTYPE = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "?")], align=True)

# One edge of an external signal: t in microseconds, channel as the camera numbers it, rising or falling.
TRIGGER_DTYPE = np.dtype([("t", "<i8"), ("channel", "u1"), ("rising", "?")], align=True)

Orientation = Literal["jaer", "dat2mat", "spikingjelly", "raw"]
Timestamps = Literal["unwrap", "dat2mat"]
Polarity = Literal["on1", "raw"]
Damage = Literal["strict", "skip", "salvage"]

DEFAULT_CHUNK_EVENTS = 1 << 20


@dataclass(frozen=True)
class ReadOptions:
    """How the bytes of a recording become events. Recorded in every store made with them.

    Attributes:
        orientation: Which pixel an address means; the table is in `events.readers.aedat`.
        timestamps: `unwrap` continues the clock over 32-bit wraps and keeps small backward steps;
            `dat2mat` repairs and re-zeroes time exactly as the MATLAB script dat2mat.m does.
        polarity: `on1` gives True for brighter; `raw` gives the stored bit.
        damage: `strict` raises at the first damage; `skip` leaves out what cannot be an event and
            reports it; `salvage` also looks for the next plausible record after garbage.
        sensor_hw: Height and width in pixels; None takes them from the file or its events.
        format: Name of the format (a key of `events.readers.READERS`); None identifies it by content.
        columns: Order of columns that a file does not name, such as `t,x,y,p`; `t:s`, `t:ms` or `t:us`
            says the unit of time. For `.npy`, `.npz` and CSV.
        stream: Number of the event stream to read, of a file that holds several (AEDAT 4); None takes the
            first. Streams are never mixed.
        topic: Topic of events to read, of a bag that holds several (ROS, MCAP); None takes the only one.
    """

    orientation: Orientation = "jaer"
    timestamps: Timestamps = "unwrap"
    polarity: Polarity = "on1"
    damage: Damage = "skip"
    sensor_hw: tuple[int, int] | None = None
    format: str | None = None
    columns: str | None = None
    stream: int | None = None
    topic: str | None = None


@dataclass
class FileReport:
    """What was read from one file and what was wrong with it.

    Complete once the recording has been read to its end.

    Attributes:
        bytes_total: Size of the file.
        bytes_read: Header and records that were decoded.
        events: Events delivered.
        partial_records: 1 where the file ends inside a record, else 0.
        special_events: Records that are no pixel (external or sync events), left out.
        invalid_events: Events that the recording software marked invalid, left out.
        other_packets: Packets of something else than the events read: frames, IMU samples, another stream.
        damaged_packets: Packets of events that could not be read, left out.
        out_of_sensor: Events outside the sensor, left out.
        unplaced_events: Events before the file first said the time or the row, left out.
        unknown_words: Words of a type that the format does not have, left out.
        triggers: Edges of external signals; `Recording.triggers` returns them.
        backward_steps: Times at which the clock fell by less than a wrap; the events are kept.
        largest_backward_us: The largest of these steps in microseconds.
        late_events: Events given to a later window than their time says (`Recording.chunks`).
        clock_leaps: Leaps of the clock over so many windows that these were left out (`Recording.chunks`).
        wraps: Times at which the clock wrapped and was continued.
        bytes_skipped: Bytes passed over in search of the next plausible record (`salvage`).
        first_damage_byte: Offset of the first damaged byte; None where nothing was damaged.
        t_first_us, t_last_us: Time of the first and last event delivered; None where there is none.
        notes: Anything else a person should know, one line each.
    """

    path: str
    format: str
    bytes_total: int = 0
    bytes_read: int = 0
    events: int = 0
    partial_records: int = 0
    special_events: int = 0
    invalid_events: int = 0
    other_packets: int = 0
    damaged_packets: int = 0
    out_of_sensor: int = 0
    unplaced_events: int = 0
    unknown_words: int = 0
    triggers: int = 0
    backward_steps: int = 0
    largest_backward_us: int = 0
    late_events: int = 0
    clock_leaps: int = 0
    wraps: int = 0
    bytes_skipped: int = 0
    first_damage_byte: int | None = None
    t_first_us: int | None = None
    t_last_us: int | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def damaged(self) -> bool:
        """Whether anything in the file could not be an event of it."""
        return self.first_damage_byte is not None

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON types."""
        return asdict(self)

    def copy(self) -> "FileReport":
        """Return a report that says the same and can be gone on with."""
        report = copy(self)
        report.notes = list(self.notes)
        return report

    def forget_windows(self) -> None:
        """Set back what cutting the events into windows has counted."""
        self.late_events = self.clock_leaps = 0


class EventBuffer:
    """Memory for the events of one recording after another.

    The first touch of new memory takes longer than decoding into it, so who reads many recordings keeps
    one buffer for all of them. Where nobody does, `events.memory` finds memory that was read into before.
    """

    def __init__(self) -> None:
        self._events = new_events(0)

    def room(self, events: int) -> np.ndarray:
        """Return memory for that many events, shape [events], EVENT_DTYPE; voids what was there."""
        if len(self._events) < events:
            most = max(events, 2 * len(self._events))
            self._events = new_events(0)  # so that its memory can be part of the new
            self._events = new_events(most)
        return self._events[:events]

    def grow(self, events: int, *, kept: int) -> np.ndarray:
        """Return memory for at least that many events, in which the first `kept` are as they were."""
        if len(self._events) < events:
            grown = new_events(max(events, 2 * len(self._events)))
            # Whole words: NumPy copies records with gaps field by field.
            grown[:kept].view(np.int64)[:] = self._events[:kept].view(np.int64)
            self._events = grown
        return self._events


def new_events(events: int) -> np.ndarray:
    """Return memory for so many events, shape [events], EVENT_DTYPE."""
    return allocate(events * EVENT_DTYPE.itemsize).view(EVENT_DTYPE)


class Bookmark(NamedTuple):
    """A place between two events of a recording, from which decoding can go on.

    Attributes:
        at: The reader's own: where its pass stood, with all state that later events depend on.
        report: What had been read and found up to there.
    """

    at: Any
    report: FileReport


class Recording(ABC):
    """One recording, read in chunks of bounded memory.

    Attributes:
        path: The file.
        format: Name of its format, a key of `events.readers.READERS`.
        sensor_hw: Height and width in pixels.
        facts: What the header says, for people: creation time, chip, comments.
        report: What was read and what was wrong; complete after the last chunk.
        damage: The policy it is read under; set by who opens it.
    """

    path: Path
    format: str
    sensor_hw: tuple[int, int]
    facts: dict[str, Any]
    report: FileReport
    damage: Damage = "skip"
    _index: SeekIndex | None = None

    @abstractmethod
    def decode_chunks(self, *, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[np.ndarray]:
        """Yield the events in file order, at least one and at most `max_events` at a time.

        This is what a reader implements, and `chunks` what everybody calls. Each call starts at the first
        event and a new report. A chunk is a view of a buffer that the next chunk overwrites.

        Yields:
            Events, shape [n], EVENT_DTYPE.

        Raises:
            DamagedRecording: The file breaks its format and the damage policy is `strict`, or no part
                of it can be read.
        """

    def bookmark(self) -> Bookmark | None:
        """Return the place behind the chunk that `decode_chunks` or `decode_from` yielded last.

        To be called while that iterator waits. None, which is the default, where the reader cannot go on
        from anywhere but the start.
        """
        return None

    def decode_from(self, place: Bookmark, *, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[np.ndarray]:
        """Yield the events behind a bookmark, as `decode_chunks` does.

        The report goes on from the bookmark's, so that events and report are those of a reading from the
        first byte. Only of a reader whose `bookmark` returns one.
        """
        raise NotImplementedError(f"{self.format} is read from its start")

    def stored_index(self) -> SeekIndex | None:
        """Return an index of all events that the file itself holds, so that the first range needs no reading.

        Only one that can be trusted to leave out no event of a range of time; ranges by number do not use it,
        as damage before them would shift the numbers. Its report is that of the whole recording, as far as it
        is known without reading: a note says so. None, the default, where there is no such index.
        """
        return None

    def index(self) -> SeekIndex:
        """Read the recording once, as far as it has not been, so that every range is reached at once.

        `chunks` does so by itself with the first range that needs it. Where the reader can only read from
        the start, or the recording still arrives, the index stays empty.

        Raises:
            DamagedRecording: As `decode_chunks`.
        """
        if self._index is None:
            self._index = self.stored_index() or SeekIndex()
        if self._index.report is None:
            for _ in read_range(self, self._index, Range(start_event=sys.maxsize)):
                pass
        return self._index

    def chunks(
        self,
        *,
        count: int | None = None,
        duration_us: int | None = None,
        start_us: int | None = None,
        stop_us: int | None = None,
        start_event: int = 0,
        stop_event: int | None = None,
    ) -> Iterator[np.ndarray]:
        """Yield the events in file order, in chunks of one length or in windows of time.

        Each call starts at the first event and a new report. A chunk is a view of a buffer that the next
        chunk overwrites: copy what must last. Memory is that of a chunk, whatever the file's size.

        Windows are [k * duration_us, (k + 1) * duration_us) from `start_us`, or from the first event; a
        window without events is yielded as an empty chunk, and the last is that of the last event. An event
        belongs to the window that is open when it arrives: where the clock has stepped back over the border
        of a window, the event comes late, and the report counts it (`late_events`). Where the clock leaps
        over more than `events.stream.MOST_EMPTY_WINDOWS` windows, forward or back, these are left out, with
        a note, and windows go on with that of the event after the leap (`clock_leaps`); `strict` raises.

        The first range is reached by reading through, which notes places of the file on the way (`index`);
        the next ones read only blocks of some 65,536 events that they touch. Events are the same either way,
        also where the clock steps back, and so is the report: that of the whole file, but that of the
        file up to where reading stopped where `stop_event` lies before its end.

        Args:
            count: Events in each chunk but the last. Where neither this nor `duration_us` is given, chunks
                are of any length that suits the reader, at most DEFAULT_CHUNK_EVENTS.
            duration_us: Length of the windows in microseconds.
            start_us: Leave out events before this time.
            stop_us: Leave out events at this time and later.
            start_event: Leave out that many events at the start of the file.
            stop_event: Leave out the event at this position and all behind it.

        Yields:
            Events, shape [n], EVENT_DTYPE.

        Raises:
            ConfigError: A count, a duration or a range that cannot be.
            DamagedRecording: As `decode_chunks`.
        """
        check_cuts(count, duration_us, (start_us, stop_us), (start_event, stop_event))
        wanted = Range(start_us, stop_us, start_event, stop_event)
        if wanted != Range():
            by_number = start_event > 0 or stop_event is not None
            if self._index is None:
                self._index = (None if by_number else self.stored_index()) or SeekIndex()
            elif by_number and self._index.told:
                self._index = SeekIndex()
            stream = read_range(self, self._index, wanted)
        else:
            most = DEFAULT_CHUNK_EVENTS if duration_us is None else BLOCK_EVENTS
            stream = self.decode_chunks(max_events=most if count is None else min(count, most))
        if count is not None:
            return by_count(stream, count, EVENT_DTYPE)
        if duration_us is not None:
            return self._windows(stream, duration_us, start_us)
        return stream

    def _windows(
        self, stream: Iterator[np.ndarray], duration_us: int, start_us: int | None
    ) -> Iterator[np.ndarray]:
        """Cut a stream into windows; late events and leaps are counted in whatever is the report then."""
        late, leaps = 0, []

        def count_late(events: int) -> None:
            nonlocal late
            late += events

        def on_leap(windows: int, t_us: int) -> None:
            if self.damage == "strict":
                raise DamagedRecording(
                    f"{self.path}: before t = {t_us} us the clock leaps over {windows} windows of "
                    f"{duration_us} us, expected at most {MOST_EMPTY_WINDOWS}; take longer windows, or read "
                    "with damage 'skip' to go on with that event's window"
                )
            leaps.append(t_us)

        for window in by_duration(
            stream, duration_us, EVENT_DTYPE, start_us=start_us, count_late=count_late, on_leap=on_leap
        ):
            self.report.late_events, self.report.clock_leaps = late, len(leaps)
            yield window
        self.report.late_events, self.report.clock_leaps = late, len(leaps)
        if leaps:
            self.report.notes.append(
                f"left out the windows of {duration_us} us over which the clock leaps to t = {leaps[0]} us"
                + (f" and {len(leaps) - 1} times more" if len(leaps) > 1 else "")
            )

    def read(self) -> np.ndarray:
        """Return all events, shape [N], EVENT_DTYPE. Raises as `chunks` does."""
        return self.read_into(EventBuffer())

    def read_into(self, buffer: EventBuffer) -> np.ndarray:
        """Return all events, shape [N], EVENT_DTYPE, in memory that the next call with `buffer` overwrites.

        Raises as `chunks` does.
        """
        events = 0
        for chunk in self.chunks():
            room = buffer.grow(events + len(chunk), kept=events)
            room[events : events + len(chunk)].view(np.int64)[:] = chunk.view(np.int64)
            events += len(chunk)
        return buffer.room(events)

    def triggers(self) -> np.ndarray:
        """Return the edges of external signals in file order, shape [n], TRIGGER_DTYPE.

        Empty where the format has none. Readers of formats that have them override this.
        """
        return np.empty(0, TRIGGER_DTYPE)


def check_cuts(
    count: int | None,
    duration_us: int | None,
    times_us: tuple[int | None, int | None],
    positions: tuple[int, int | None],
) -> None:
    """Refuse chunks and ranges that cannot be; see `Recording.chunks`.

    Raises:
        ConfigError: Both count and duration are given, one is below 1, or a range is the wrong way round.
    """
    if count is not None and duration_us is not None:
        raise ConfigError(f"count ({count}) and duration_us ({duration_us}) exclude each other; give one")
    for name, value in (("count", count), ("duration_us", duration_us)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")
    for unit, (start, stop) in (("us", times_us), ("event", positions)):
        if start is not None and stop is not None and stop < start:
            raise ConfigError(f"stop_{unit} ({stop}) must not be below start_{unit} ({start})")
    if positions[0] < 0:
        raise ConfigError(f"start_event must be at least 0, got {positions[0]}")


class EventDigest:
    """Digest of each field of a stream of events, which tells whether two decoders agree.

    First 16 hex digits of SHA-256 over the little-endian bytes of each field of all events in file
    order: t int64 microseconds minus the first time, x uint16, y uint16, p uint8.
    """

    def __init__(self) -> None:
        self.events = 0
        self.on = 0
        self._t_first: int | None = None
        self._t_last: int | None = None
        self._hashes = {name: sha256() for name in ("t", "x", "y", "p")}

    def update(self, events: np.ndarray) -> None:
        """Add the next events, shape [n], EVENT_DTYPE."""
        if len(events) == 0:
            return
        if self._t_first is None:
            self._t_first = int(events["t"][0])
        self._t_last = int(events["t"][-1])
        self.events += len(events)
        self.on += int(np.count_nonzero(events["p"]))
        self._hashes["t"].update((events["t"] - self._t_first).astype("<i8").tobytes())
        self._hashes["x"].update(events["x"].astype("<u2").tobytes())
        self._hashes["y"].update(events["y"].astype("<u2").tobytes())
        self._hashes["p"].update(events["p"].astype("u1").tobytes())

    def as_dict(self) -> dict[str, Any]:
        """Return counts, first and last time, and the four digests."""
        counts = {
            "events": self.events,
            "t_first_us": self._t_first,
            "t_last_us": self._t_last,
            "on": self.on,
        }
        return counts | {name: digest.hexdigest()[:16] for name, digest in self._hashes.items()}

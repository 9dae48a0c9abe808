"""Reach a part of a recording without reading what lies before it.

While a range is read through, blocks of events are noted on the way: between which times they lie, and the
place from which they can be decoded. The next range decodes only the blocks that it touches.
"""

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any, NamedTuple, Protocol

import numpy as np
from numba import njit

# Events in a block: few enough that decoding one is felt as no delay, and that its times stay in the cache.
BLOCK_EVENTS = 1 << 16

# Blocks that an index holds; beyond, each two become one, so that its memory stays below some megabytes.
MOST_BLOCKS = 1 << 12


class Range(NamedTuple):
    """Events with start_us <= t < stop_us and start_event <= number < stop_event; None is no limit."""

    start_us: int | None = None
    stop_us: int | None = None
    start_event: int = 0
    stop_event: int | None = None

    def reached_by(self, events: int) -> bool:
        """Whether no event behind the first `events` lies in the range."""
        return self.stop_event is not None and events >= self.stop_event

    def touches(self, times_us: tuple[int, int]) -> bool:
        """Whether events between two times, both included, may lie in the range."""
        return (self.start_us is None or times_us[1] >= self.start_us) and (
            self.stop_us is None or times_us[0] < self.stop_us
        )

    def holds(self, times_us: tuple[int, int]) -> bool:
        """Whether all events between two times, both included, lie in the range."""
        return (self.start_us is None or times_us[0] >= self.start_us) and (
            self.stop_us is None or times_us[1] < self.stop_us
        )

    def part_of(self, events: np.ndarray, first_event: int, times_us: tuple[int, int]) -> np.ndarray:
        """Return those events that lie in the range, shape [n], EVENT_DTYPE.

        Args:
            events: Shape [N], EVENT_DTYPE, at least one.
            first_event: Number of the first.
            times_us: Their smallest and largest time.
        """
        stop = len(events) if self.stop_event is None else max(self.stop_event - first_event, 0)
        part = events[max(self.start_event - first_event, 0) : stop]
        if self.holds(times_us):
            return part
        if not self.touches(times_us):
            return part[:0]
        kept = np.ones(len(part), np.bool_)
        if self.start_us is not None:
            kept &= part["t"] >= self.start_us
        if self.stop_us is not None:
            kept &= part["t"] < self.stop_us
        return part[kept]


class Block(NamedTuple):
    """Some events that follow each other in a recording.

    Attributes:
        first_event: Number of the first, counted from 0.
        stop_event: Number of the first behind them.
        times_us: Their smallest and largest time; may be wider, but never narrower.
        place: `events.recording.Bookmark` before the first; None at the start of the recording.
    """

    first_event: int
    stop_event: int
    times_us: tuple[int, int]
    place: Any


class IndexContradicted(Exception):
    """An index that the file itself holds is not true; none of the events it is not true of was yielded."""


class Seekable(Protocol):
    """What is needed of an `events.recording.Recording`, whose methods these are."""

    report: Any

    def decode_chunks(self, *, max_events: int) -> Iterator[np.ndarray]:
        """Yield the events from the first on."""

    def decode_from(self, place: Any, *, max_events: int) -> Iterator[np.ndarray]:
        """Yield the events behind a bookmark."""

    def bookmark(self) -> Any:
        """Return the place behind the chunk yielded last, or None."""


class SeekIndex:
    """The blocks of a recording, as far as it has been read.

    Attributes:
        blocks: In order of the file, without gaps.
        behind: Bookmark behind the last block; None where there is no block.
        report: That of the whole recording; None where it has not been read to its end.
        told: Whether the file itself tells of the blocks, and the recording was not read through. Events
            are counted as told then, though damage may have left out some that nobody has looked at.
    """

    def __init__(self, *, told: bool = False) -> None:
        self.blocks: list[Block] = []
        self.behind: Any = None
        self.report: Any = None
        self.told = told
        self._block_events = BLOCK_EVENTS

    @property
    def events(self) -> int:
        """How many events its blocks hold."""
        return self.blocks[-1].stop_event if self.blocks else 0

    def full(self, events: int) -> bool:
        """Whether the events behind the last block make a block, where `events` have been read."""
        return events - self.events >= self._block_events

    def add(self, stop_event: int, times_us: tuple[int, int], behind: Any) -> None:
        """Add the block of the events from the last block up to `stop_event`.

        Args:
            stop_event: Number of the first event behind it.
            times_us: Smallest and largest time in it.
            behind: Bookmark behind it; None at the end of the recording.
        """
        self.blocks.append(Block(self.events, stop_event, times_us, self.behind))
        self.behind = behind
        if len(self.blocks) > MOST_BLOCKS:
            self._thin_out()

    def _thin_out(self) -> None:
        """Make one block of each two, and of what follows too."""
        pairs = zip(self.blocks[::2], [*self.blocks[1::2], None], strict=False)
        self.blocks = [first if second is None else joined(first, second) for first, second in pairs]
        self._block_events *= 2

    def runs(self, wanted: Range) -> Iterator[list[Block]]:
        """Yield the blocks that a range touches, those together that follow each other.

        The block in which a range of events ends is always among them, so that reading it leaves the report
        of what has been read up to there.
        """
        run: list[Block] = []
        for block in self.blocks:
            ends_here = wanted.reached_by(block.stop_event)
            if ends_here or (block.stop_event > wanted.start_event and wanted.touches(block.times_us)):
                run.append(block)
            elif run:
                yield run
                run = []
            if ends_here:
                break
        if run:
            yield run


def joined(first: Block, second: Block) -> Block:
    """Return two blocks that follow each other as one."""
    times_us = wider(first.times_us, second.times_us)
    return Block(first.first_event, second.stop_event, times_us, first.place)


def wider(times_us: tuple[int, int], others_us: tuple[int, int]) -> tuple[int, int]:
    """Return the smallest and the largest of two pairs of times."""
    return min(times_us[0], others_us[0]), max(times_us[1], others_us[1])


@njit(cache=True, nogil=True)
def smallest_and_largest(words: np.ndarray) -> tuple[int, int]:
    """Return the smallest and the largest time of events given as words, shape [2 n], n at least 1."""
    smallest = largest = words[0]
    for i in range(1, len(words) // 2):
        smallest = min(smallest, words[2 * i])
        largest = max(largest, words[2 * i])
    return smallest, largest


def times_of(events: np.ndarray) -> tuple[int, int]:
    """Return the smallest and the largest time of events, shape [n], EVENT_DTYPE, n at least 1."""
    smallest, largest = smallest_and_largest(np.ascontiguousarray(events).view(np.int64))
    return int(smallest), int(largest)


def read_range(recording: Seekable, index: SeekIndex, wanted: Range) -> Iterator[np.ndarray]:
    """Yield the events of a range in file order, and note in the index what had to be read for it.

    Afterwards the recording's report is the same whether or not the index knew the way: that of the whole
    file; that up to where reading stopped, where a range of events ends before it.

    Yields:
        Events, shape [n], EVENT_DTYPE, at least one.
    """
    given = 0
    try:
        for run in index.runs(wanted):
            for part in read_run(recording, run, wanted):
                given += len(part)
                yield part
    except IndexContradicted as error:
        yield from read_instead(recording, index, wanted, given)
        for report in filter(None, (recording.report, index.report)):
            report.notes.append(str(error))
        return
    if index.blocks and wanted.reached_by(index.events):
        return
    if index.report is None:
        yield from read_on(recording, index, wanted)
    else:
        recording.report = index.report.copy()


def read_instead(recording: Seekable, index: SeekIndex, wanted: Range, given: int) -> Iterator[np.ndarray]:
    """Yield the events of a range without the first `given`, reading through, and make the index anew."""
    index.blocks, index.behind, index.report, index.told = [], None, None, False
    for part in read_on(recording, index, wanted):
        if given < len(part):
            yield part[given:]
        given = max(given - len(part), 0)


def read_run(recording: Seekable, run: list[Block], wanted: Range) -> Iterator[np.ndarray]:
    """Yield the events of a range that lie in blocks which follow each other."""
    at, stop = run[0].first_event, run[-1].stop_event
    with closing(start_at(recording, run[0].place)) as chunks:
        for chunk in chunks:
            inside = chunk[: stop - at]
            part = wanted.part_of(inside, at, times_of(inside))
            if len(part):
                yield part
            at += len(chunk)
            if at >= stop or wanted.reached_by(at):
                return


def read_on(recording: Seekable, index: SeekIndex, wanted: Range) -> Iterator[np.ndarray]:
    """Yield the events of a range that lie behind the last block of an index, and add blocks to it."""
    at, times_us = index.events, None
    seekable = index.behind is not None
    with closing(start_at(recording, index.behind)) as chunks:
        for chunk in chunks:
            chunk_us = times_of(chunk)
            part = wanted.part_of(chunk, at, chunk_us)
            at += len(chunk)
            times_us = chunk_us if times_us is None else wider(times_us, chunk_us)
            if not seekable or index.full(at):
                place = recording.bookmark()
                seekable = place is not None
                # Who reads one recording twice at the same time is given the other reading's bookmark.
                if seekable and index.full(at) and place.report.events == at:
                    place.report.forget_windows()
                    index.add(at, times_us, place)
                    times_us = None
            if len(part):
                yield part
            if wanted.reached_by(at):
                return
    if seekable and recording.report.events == at:
        if times_us is not None:
            index.add(at, times_us, None)
        index.report = recording.report.copy()
        index.report.forget_windows()


def start_at(recording: Seekable, place: Any) -> Generator[np.ndarray, None, None]:
    """Yield the events behind a bookmark; from the first on where it is None."""
    if place is None:
        yield from recording.decode_chunks(max_events=BLOCK_EVENTS)
    else:
        yield from recording.decode_from(place, max_events=BLOCK_EVENTS)

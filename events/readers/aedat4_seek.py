"""To a time or an event of an AEDAT 4 file by its table of packets, without reading what lies before.

Every block is compared with what the table says of it before any of its events is delivered. Where they
differ, the recording is read through instead, and the report says so.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from events.readers.aedat4_pass import Aedat4Pass, PassPlace
from events.readers.aedat4_payload import PREVIOUS_US, STARTED, new_state
from events.readers.aedat4_table import TableRows
from events.readers.aedat4_walk import WalkPlace
from events.recording import EVENT_DTYPE, Bookmark, FileReport
from events.seek import BLOCK_EVENTS, Block, IndexContradicted, SeekIndex, times_of

# Before and, negative, after any time.
LONG_AGO_US = -(1 << 63)

TOLD_NOTE = "told by the table of packets; the recording was not read through"


class TableBlock(NamedTuple):
    """Packets that follow each other, and what the table says of their events.

    Attributes:
        place: Where a pass before the first stands.
        events: How many there are.
        times_us: The smallest and the largest time.
        stop: Byte behind them at which the next block may start.
    """

    place: PassPlace
    events: int
    times_us: tuple[int, int]
    stop: int


class TablePlace(NamedTuple):
    """A place of a bookmark that a table has told.

    Attributes:
        blocks: Of the whole recording.
        number: Of the block that comes next.
    """

    blocks: list[TableBlock]
    number: int


def index_of(
    table: TableRows, stream: int, streams: np.ndarray, *, new_report: FileReport
) -> SeekIndex | None:
    """Return an index of the events of a stream, by the table; None where it has none, or not in order.

    Args:
        table: In order of the file.
        stream: Number of the stream.
        streams: Numbers of the streams that the header tells of, in order.
        new_report: Report of a reading that has not begun.
    """
    own = np.flatnonzero((table.stream == stream) & (table.events > 0))
    if len(own) == 0 or np.any(table.first_us[own[1:]] < table.last_us[own[:-1]]):
        return None
    new_report.notes.append(TOLD_NOTE)
    ends = np.cumsum(table.events[own])
    starts = np.flatnonzero(np.diff(ends // BLOCK_EVENTS, prepend=-1))
    stops = np.append(starts[1:], len(own))
    before = {int(number): np.cumsum(table.stream == number) for number in streams if number != stream}
    blocks = []
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        first, rows = int(own[start]), own[start:stop]
        state = new_state()
        if start:
            state[PREVIOUS_US], state[STARTED] = table.last_us[own[start - 1]], 1
        passed = [int(before[number][first]) if number in before else 0 for number in streams.tolist()]
        position = int(table.position[first])
        walk = WalkPlace(position, 0, np.array(passed, np.int64), {}, len(new_report.notes), False, None)
        times_us = int(table.first_us[rows].min()), int(table.last_us[rows].max())
        behind = int(table.position[own[stop]]) if stop < len(own) else new_report.bytes_total
        blocks.append(TableBlock(PassPlace(walk, 0, state), int(table.events[rows].sum()), times_us, behind))
    index = SeekIndex(told=True)
    # To the times of the neighbours, so that a block whose own are told too narrow is read all the same.
    firsts_us = [LONG_AGO_US, *(block.times_us[1] for block in blocks[:-1])]
    lasts_us = [*(block.times_us[0] for block in blocks[1:]), -LONG_AGO_US]
    at = 0
    for number, block in enumerate(blocks):
        report = replace(new_report.copy(), events=at, t_first_us=int(table.first_us[own[0]]) if at else None)
        place = Bookmark(TablePlace(blocks, number), report)
        index.blocks.append(Block(at, at + block.events, (firsts_us[number], lasts_us[number]), place))
        at += block.events
    index.report = replace(
        new_report.copy(),
        events=at,
        bytes_read=new_report.bytes_total,
        other_packets=int(np.count_nonzero(table.stream != stream)),
        t_first_us=int(table.first_us[own[0]]),
        t_last_us=int(table.last_us[own[-1]]),
    )
    return index


def decode_blocks(reading: Aedat4Pass, place: TablePlace, *, max_events: int) -> Iterator[np.ndarray]:
    """Yield the events of blocks, at most `max_events` at a time, each block once it is known to be as told.

    Raises:
        IndexContradicted: A block is not what the table says; none of its events was yielded.
    """
    blocks = place.blocks[place.number :]
    out = np.empty(max(block.events for block in blocks), EVENT_DTYPE)
    reading.go_to(blocks[0].place)
    for block in blocks:
        events = out[: block.events]
        found = fill_up(reading, events)
        if found < block.events or times_of(events) != block.times_us or not reading.stands_by(block.stop):
            byte, (first_us, last_us) = block.place.batch.position, block.times_us
            raise IndexContradicted(
                f"byte {byte}: not the {block.events} events from {first_us} to {last_us} us that the table "
                "of packets tells; the recording was read through"
            )
        for start in range(0, block.events, max_events):
            yield events[start : start + max_events]


def fill_up(reading: Aedat4Pass, out: np.ndarray) -> int:
    """Decode into `out` until it is full or the recording ends; return how many events there are."""
    n = 0
    while n < len(out) and (written := reading.fill(out[n:])):
        n += written
    return n

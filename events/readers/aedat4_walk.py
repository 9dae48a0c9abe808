"""From packet to packet of an AEDAT 4 file, under a damage policy.

Packets follow each other up to the table of packets or the end of the file; the table is never needed.
"""

import struct
from typing import NamedTuple

import numpy as np

from events.readers.aedat4_compression import LARGEST_PAYLOAD, MAGICS
from events.readers.aedat4_header import Aedat4Header
from events.readers.aedat4_packets import (
    HEADER_BYTES,
    TELLING_BYTES,
    find_packet,
    packet_fits,
    ready_packets,
)
from events.readers.byte_window import LONGEST_READ_BYTES, ByteWindow
from events.readers.source import Source
from events.recording import Damage, FileReport

PACKET_HEADER = struct.Struct("<iI")


class WalkPlace(NamedTuple):
    """Where a walk through the packets stood.

    Attributes:
        position: Byte of the next packet.
        skipped: Bytes that were passed over.
        passed, foreign: Packets of other streams, in the compiled loop and one by one.
        notes: Lines that the report had.
        ended, error: As the walk has them.
    """

    position: int
    skipped: int
    passed: np.ndarray
    foreign: dict[int, int]
    notes: int
    ended: bool
    error: str | None


class PacketWalk:
    """Goes from packet to packet of a file, and tells what is damaged.

    Attributes:
        window: Stands before the next packet.
        report: Filled on the way, but for what was skipped and passed over.
        skipped: Bytes passed over in search of a packet, or of packets that were lost.
        error: Message of the damage that ended the walk under `strict`.
        ended: Whether there is no more packet.
    """

    def __init__(self, source: Source, header: Aedat4Header, damage: Damage, report: FileReport) -> None:
        """Stand before the first packet."""
        self._source = source
        self._table = header.table_position
        self._end_byte = self._table if header.end <= self._table <= source.size else source.size
        self.window = ByteWindow(source, header.end, self._end_byte, read_bytes=LONGEST_READ_BYTES)
        self.report = report
        self.error: str | None = None
        self.ended = False
        self.skipped = 0
        self._path = source.path
        self._damage = damage
        self._magic = MAGICS[header.compression]
        self._streams = np.array(sorted(header.streams), np.int64)
        self._known = frozenset(header.streams)
        self._passed = np.zeros(len(self._streams), np.int64)
        self._foreign: dict[int, int] = {}

    @property
    def other_packets(self) -> int:
        """Packets of other streams that were passed over."""
        return sum(self._passed.tolist()) + sum(self._foreign.values())

    @property
    def others(self) -> dict[int, int]:
        """Packets of other streams that were passed over, by number of the stream."""
        counts = dict(zip(self._streams.tolist(), self._passed.tolist(), strict=True))
        for number, count in self._foreign.items():
            counts[number] = counts.get(number, 0) + count
        return {number: count for number, count in sorted(counts.items()) if count}

    @property
    def place(self) -> WalkPlace:
        """Where the next packet is, and what was found up to there."""
        return WalkPlace(
            self.window.position,
            self.skipped,
            self._passed.copy(),
            self._foreign.copy(),
            len(self.report.notes),
            self.ended,
            self.error,
        )

    def go_to(self, place: WalkPlace) -> None:
        """Stand where another walk through the file stood."""
        self.window.close()
        self.window = ByteWindow(self._source, place.position, self._end_byte, read_bytes=LONGEST_READ_BYTES)
        self.skipped = place.skipped
        self._passed[:] = place.passed
        self._foreign = place.foreign.copy()
        self.ended, self.error = place.ended, place.error
        del self.report.notes[place.notes :]

    def ready_packets(self, stream: int, most_bytes: int, spans: np.ndarray) -> tuple[int, bool]:
        """Find packets of a stream in the window, as the function does, and go behind the last.

        The bytes found stay where they are until the walk goes on. Returns how many, and whether aligned.
        """
        if self.ended:
            return 0, True
        window = self.window
        raw, at, stop = window.raw, window.at, window.stop
        offset = window.position - at
        found, window.at, aligned = ready_packets(
            raw, at, stop, offset, stream, most_bytes, self._streams, self._passed, spans
        )
        return found, aligned

    def next_packet(self, wanted: int | None) -> tuple[int, int, int] | None:
        """Go to the next packet of a stream, of any if None; return stream, size, bytes there, or None.

        The window then stands before its payload. Fewer bytes are there than it says only where the file
        ends inside the packet, and never under `strict`.
        """
        window = self.window
        while not self.ended:
            if not window.have(TELLING_BYTES) and window.left < HEADER_BYTES:
                self._end()
                break
            stream, size = PACKET_HEADER.unpack_from(window.raw.data, window.at)
            if self._source.open_ended and (stream in self._known or self._foreign_fits(stream, size)):
                window.have(HEADER_BYTES + min(size, LARGEST_PAYLOAD))  # only then it is known what is left
            left = window.left
            if stream not in self._known and not self._foreign_fits(stream, size):
                self._bad_header()
                continue
            if size > left - HEADER_BYTES:
                if window.end == self._table or size > 1 << 31:
                    self._bad_header()
                    continue
                self._cut(left, size)
                if self._damage == "strict" or wanted not in (None, stream):
                    break
                window.at += HEADER_BYTES
                return stream, size, left - HEADER_BYTES
            if wanted is None or stream == wanted:
                window.at += HEADER_BYTES
                return stream, size, size
            self._foreign[stream] = self._foreign.get(stream, 0) + 1
            window.skip(HEADER_BYTES + size)
        return None

    def damaged(self, position: int, message: str) -> None:
        """Note damage at a byte; under `strict` the walk ends."""
        if self.report.first_damage_byte is None:
            self.report.first_damage_byte = position
        if self._damage == "strict" and self.error is None:
            self.error = f"{self._path}: byte {position}: {message}"
            self.ended = True

    def read_out(self) -> None:
        """Read what follows the packets where it arrives live, so that its writer is not cut off."""
        if self._source.open_ended and self.window.end == self._table:
            self.window.end = self._source.size
            self.window.skip(self.window.left)

    def _foreign_fits(self, stream: int, size: int) -> bool:
        """Whether a packet of a stream that the header does not tell of is one."""
        window = self.window
        if window.stop - window.at < TELLING_BYTES or stream < 0:
            return stream >= 0 and not self._known
        if size > window.left - HEADER_BYTES:  # cut, so the rest has to do
            return not self._known and packet_fits(window.raw, window.at, size + HEADER_BYTES, self._magic)
        return packet_fits(window.raw, window.at, window.left, self._magic)

    def _end(self) -> None:
        """End where no packet is left."""
        self.ended = True
        left = self.window.left
        if left > 0:
            self.damaged(
                self.window.position,
                f"the file ends inside a packet's header, {left} of {HEADER_BYTES} bytes; "
                "read with damage 'skip' to leave it out",
            )
            self.report.partial_records = 1
        elif self._table > self.window.end:
            self.report.notes.append("the file ends before its table of packets")
            position = self.window.position
            self.damaged(position, "the file ends before its table of packets; read with damage 'skip'")

    def _cut(self, left: int, size: int) -> None:
        """End inside a packet."""
        self.ended = True
        message = f"the file ends inside a packet, {left - HEADER_BYTES} of {size} bytes"
        self.damaged(self.window.position, f"{message}; read with damage 'skip' to keep what is whole")
        self.report.partial_records = 1
        self.report.notes.append(message)

    def _bad_header(self) -> None:
        """Stop at bytes that are no packet, or go to the next that is one."""
        window = self.window
        position = window.position
        found = window.raw[window.at : window.at + HEADER_BYTES].tobytes().hex(" ", 4)
        self.damaged(
            position,
            f"{found} starts no packet of AEDAT 4; read with damage 'salvage' to look for the next one",
        )
        if self._damage == "skip":
            self.skipped += window.skip(window.left)
            self.report.notes.append(
                f"byte {position} starts no packet; nothing after it was read, "
                "read with damage 'salvage' to look for the next one"
            )
            self.ended = True
        elif self._damage == "salvage":
            self._look_for_packet()

    def _look_for_packet(self) -> None:
        """Pass over bytes to the next packet, or to the end."""
        window = self.window
        skipped = window.skip(1)
        while window.have(2 * TELLING_BYTES) or window.left >= TELLING_BYTES:
            found = find_packet(window.raw, window.at, window.stop, window.left, self._magic, self._streams)
            if found >= 0:
                skipped += window.skip(found - window.at)
                break
            skipped += window.skip(max(1, window.stop - window.at - TELLING_BYTES + 1))
        else:
            skipped += window.skip(window.left)
            self.ended = True
        self.skipped += skipped

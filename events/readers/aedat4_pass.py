"""One pass over the packets of an AEDAT 4 file, in bounded memory, under a damage policy.

A packet is int32 stream, int32 size, both little-endian, and `size` bytes: `events.readers.aedat4_payload`.
Packets follow each other up to the table of packets or the end of the file; the table is never needed.
"""

import struct
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numba import njit

from events.errors import DamagedRecording
from events.readers.aedat4_compression import LARGEST_PAYLOAD, MAGICS, UnpackError, unpacker
from events.readers.aedat4_header import Aedat4Header
from events.readers.aedat4_payload import (
    BACKWARD,
    DAMAGE_AT,
    DAMAGE_PACKET,
    DAMAGED_BYTES,
    DAMAGED_PACKETS,
    EVENT,
    EVENTS_MARK,
    LARGEST_BACKWARD_US,
    OUT_OF_SENSOR,
    PACKET,
    SPAN_POSITION,
    SPAN_START,
    SPAN_STOP,
    SPAN_STORED,
    TRIGGERS_MARK,
    decode_payloads,
    load_uint32,
    new_state,
)
from events.readers.byte_window import READ_BYTES, ByteWindow
from events.readers.packet_recording import report_times
from events.readers.source import Source
from events.recording import EVENT_DTYPE, Damage, FileReport

PACKET_HEADER = struct.Struct("<iI")
HEADER_BYTES = PACKET_HEADER.size
# Bytes from which a packet is recognised: its header, and of its payload the size and the letters.
TELLING_BYTES = 20
# Payloads are decoded together until they have that many bytes: few enough for the second-level cache, enough
# that small packets share the cost of a call.
BATCH_BYTES = 1 << 17
MOST_PACKETS = 256
FRAME_MARK, IMU_MARK = int.from_bytes(b"FRME", "little"), int.from_bytes(b"IMUS", "little")


@njit(cache=True, nogil=True)
def packet_fits(raw: np.ndarray, at: int, bytes_left: int, magic: int) -> bool:
    """Whether a packet starts at a byte, told by its payload; TELLING_BYTES are there.

    Args:
        raw: Bytes of the file, uint8.
        at: Where.
        bytes_left: From there to the end of the packets.
        magic: With what a packed payload starts; 0 where payloads are not packed.
    """
    size = load_uint32(raw, at + 4)
    if size < TELLING_BYTES - HEADER_BYTES or size > bytes_left - HEADER_BYTES:
        return False
    if magic != 0:
        return load_uint32(raw, at + 8) == magic
    mark = load_uint32(raw, at + 16)
    known = mark in (EVENTS_MARK, TRIGGERS_MARK, FRAME_MARK, IMU_MARK)
    return known and load_uint32(raw, at + 8) + 4 <= size


@njit(cache=True, nogil=True)
def ready_packets(
    raw: np.ndarray,
    at: int,
    stop: int,
    offset: int,
    stream: int,
    most_bytes: int,
    known: np.ndarray,
    passed: np.ndarray,
    spans: np.ndarray,
) -> tuple[int, int, bool]:
    """Find the next packets of a stream that are all there, and pass over those of other known streams.

    Args:
        raw: Bytes of the file, uint8.
        at: First byte of the first packet.
        stop: First byte that is not there.
        offset: Byte of the file at raw[0].
        stream: Number of the stream.
        most_bytes: The last packet is the one with which their payloads have as many bytes as that.
        known: Numbers of the streams that the header tells of, int64, shape [s].
        passed: Packets passed over, of each of these, int64, shape [s]; goes on.
        spans: Filled with where the packets are, shape [k, 4], int64; columns as the decoder names them.

    Returns:
        How many packets were found, the first byte of the packet that is neither found nor passed over, and
        whether all payloads start at a multiple of eight.
    """
    found = 0
    aligned = True
    while found < len(spans) and most_bytes > 0 and at + HEADER_BYTES <= stop:
        number = load_uint32(raw, at)
        size = load_uint32(raw, at + 4)
        if size > stop - at - HEADER_BYTES:
            break
        if number == stream:
            spans[found, SPAN_START] = at + HEADER_BYTES
            spans[found, SPAN_STOP] = at + HEADER_BYTES + size
            spans[found, SPAN_POSITION] = offset + at
            spans[found, SPAN_STORED] = HEADER_BYTES + size
            aligned = aligned and at % 8 == 0
            most_bytes -= size
            found += 1
        else:
            other = 0
            while other < len(known) and known[other] != number:
                other += 1
            if other == len(known):
                break
            passed[other] += 1
        at += HEADER_BYTES + size
    return found, at, aligned


@njit(cache=True, nogil=True)
def find_packet(raw: np.ndarray, at: int, stop: int, bytes_left: int, magic: int, streams: np.ndarray) -> int:
    """Return the first byte at which a packet of one of these streams (of any, if none) starts, or -1."""
    first = at
    while at + TELLING_BYTES <= stop:
        if packet_fits(raw, at, bytes_left - (at - first), magic):
            stream = load_uint32(raw, at)
            if len(streams) == 0:
                if stream < 1 << 16:
                    return at
            elif np.any(streams == stream):
                return at
        at += 1
    return -1


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


class PassPlace(NamedTuple):
    """Where a pass over the events stood.

    Attributes:
        batch: Where its last batch of packets began.
        lost_packets: Packets that could not be unpacked before.
        state: That of the decoder; counts packets from the start of the batch.
    """

    batch: WalkPlace
    lost_packets: int
    state: np.ndarray


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
        self.window = ByteWindow(source, header.end, self._end_byte)
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
        self.window = ByteWindow(self._source, place.position, self._end_byte)
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


class Aedat4Pass:
    """Decodes the packets of one stream of events from the first to the last."""

    def __init__(
        self,
        source: Source,
        header: Aedat4Header,
        stream: int,
        sensor_hw: tuple[int, int],
        damage: Damage,
        report: FileReport,
    ) -> None:
        """Stand before the first packet.

        Args:
            source: The file.
            header: What its header says.
            stream: Number of the stream.
            sensor_hw: Height and width in pixels.
            damage: What to do about damage.
            report: Filled on the way.
        """
        self._walk = PacketWalk(source, header, damage, report)
        self._header = header
        self._stream = stream
        self._sensor_hw = sensor_hw
        self._strict = damage == "strict"
        self._report = report
        self._source = source
        self._unpack = unpacker(header.compression, source.path)
        self._packed = header.compression != 0
        self._state = new_state()
        self._found = np.empty((MOST_PACKETS, 4), np.int64)
        self._unpacked = np.empty(0, np.uint8)
        self._payloads = self._unpacked
        self._spans = np.empty((0, 4), np.int64)
        self._last_cut = False
        self._lost_packets = 0
        self._batch_start = self._walk.place, self._lost_packets

    def __enter__(self) -> Self:
        """Return the pass itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._walk.window.close()

    def fill(self, out: np.ndarray) -> int:
        """Decode the next events into `out`, EVENT_DTYPE; return how many, 0 only at the end.

        Raises:
            DamagedRecording: There is damage right here and the policy is `strict`.
        """
        words = out.view(np.int64)
        height, width = self._sensor_hw
        n = 0
        stopped = False
        while n < len(out) and not stopped:
            # What arrives live is delivered as it comes, and waited for only where there is nothing yet.
            wait = n == 0 or not self._source.open_ended
            if self._state[PACKET] == len(self._spans) and not self._load_batch(wait=wait):
                break
            written, stopped = decode_payloads(
                self._payloads,
                self._spans,
                self._last_cut,
                words[2 * n :],
                height,
                width,
                self._strict,
                self._state,
            )
            n += written
            if self._state[DAMAGE_AT] >= 0:
                self._note_damage(stopped)
        self._update_report(out[:n])
        if n == 0 and self._walk.error is not None:
            raise DamagedRecording(self._walk.error)
        return n

    def finish(self) -> None:
        """Bring the report up to the end of the file, and note the packets of other streams."""
        self._walk.read_out()
        self._update_report(np.empty(0, EVENT_DTYPE))
        for number, count in self._walk.others.items():
            kind = self._header.streams[number].kind if number in self._header.streams else "unknown"
            self._report.notes.append(f"stream {number} ({kind}): {count} packets left out")

    @property
    def place(self) -> PassPlace:
        """Where the batch began, what was found up to there, and how far the decoder is in it."""
        return PassPlace(*self._batch_start, self._state.copy())

    def go_to(self, place: PassPlace) -> None:
        """Stand where another pass over the file stood; the report is that of its bookmark.

        The batch is made again, and the packets that are done are left out.
        """
        self._walk.go_to(place.batch)
        self._lost_packets = place.lost_packets
        done = int(place.state[PACKET])
        while self._load_batch(wait=True) and done >= len(self._spans) and not self._last_cut:
            done -= len(self._spans)
        self._state[:] = place.state
        self._state[PACKET] = done

    def stands_by(self, position: int) -> bool:
        """Whether all events of the stream before a byte are delivered, and none behind it."""
        packet = int(self._state[PACKET])
        if self._state[EVENT]:
            return False
        if packet < len(self._spans):
            return int(self._spans[packet, SPAN_POSITION]) >= position
        return self._walk.window.position <= position

    def _load_batch(self, *, wait: bool) -> bool:
        """Make the next packets of the stream the batch; False where there is none."""
        if self._last_cut:
            return False
        self._batch_start = self._walk.place, self._lost_packets
        self._set_batch(self._payloads, self._spans[:0])
        found, aligned = self._next_packets(BATCH_BYTES if self._packed else READ_BYTES, wait=wait)
        if not found:
            return False
        if self._packed or not aligned:
            return self._unpack_batch(found)
        # They stay where they are: the window does not move before the batch is done.
        self._set_batch(self._walk.window.raw, self._found[:found])
        return True

    def _set_batch(self, payloads: np.ndarray, spans: np.ndarray) -> None:
        """Begin a batch; `spans` have the columns that the decoder names, shape [k, 4], int64."""
        self._payloads = payloads
        self._spans = spans
        self._state[PACKET] = self._state[EVENT] = 0

    def _unpack_batch(self, found: int) -> bool:
        """Make a batch of the packets found, and of some more."""
        spans: list[int] = []
        total = 0
        while found:
            total = self._unpack_found(found, spans, total)
            if total >= BATCH_BYTES or self._last_cut:
                break
            wait = not (self._source.open_ended and spans)
            found, _ = self._next_packets(BATCH_BYTES - total, wait=wait)
        self._set_batch(self._unpacked, np.array(spans, np.int64).reshape(-1, 4))
        return bool(spans)

    def _unpack_found(self, found: int, spans: list[int], total: int) -> int:
        """Unpack the packets found behind `total` bytes that are; return how many bytes there are then.

        All go into one buffer at once, so that the library gets the same memory for the next packet again:
        new memory takes longer to touch than to unpack into.
        """
        unpack, cut = self._unpack, self._last_cut
        raw, room = self._walk.window.raw.data, self._unpacked.data
        for start, stop, position, stored in self._found[:found].tolist():
            try:
                payload = unpack(raw[start:stop], cut)
            except UnpackError as error:
                self._lose_packet(position, stored - HEADER_BYTES, str(error))
                if self._strict:
                    break
                continue
            end = total + len(payload)
            if end > len(room):
                room = self._larger_room(total, end)
            room[total:end] = payload
            spans += (total, end, position, stored)
            total = end + -end % 8
        return total

    def _larger_room(self, used: int, needed: int) -> memoryview:
        """Make room for unpacked packets, with the first `used` bytes of what is there."""
        larger = np.empty(needed + BATCH_BYTES, np.uint8)
        larger[:used] = self._unpacked[:used]
        self._unpacked = larger
        return larger.data

    def _next_packets(self, most_bytes: int, *, wait: bool) -> tuple[int, bool]:
        """Find the next packets of the stream in the window; return how many, and whether aligned.

        None is left where there is none, or none without waiting. A cut one is alone.
        """
        walk, window = self._walk, self._walk.window
        if self._strict:
            most_bytes = 1  # a packet at a time, so that what is counted does not depend on the window
        found, aligned = walk.ready_packets(self._stream, most_bytes, self._found)
        if found or not wait:
            return found, aligned
        packet = walk.next_packet(self._stream)
        if packet is None:
            return 0, True
        _, size, there = packet
        position = window.position - HEADER_BYTES
        window.have(there)
        start = window.at
        window.at += there
        self._found[0] = start, window.at, position, there + HEADER_BYTES
        self._last_cut = there < size
        return 1, start % 8 == 0

    def _lose_packet(self, position: int, size: int, reason: str) -> None:
        """Leave out a packet that cannot be unpacked."""
        if self._last_cut:  # reported already, and gone
            self._last_cut = False
            return
        reason = " ".join(reason.split())
        self._walk.damaged(
            position,
            f"a packet of {size} bytes cannot be unpacked: {reason}; read with damage 'skip' to leave it out",
        )
        if not self._strict:
            self._lost_packets += 1
            self._walk.skipped += size + HEADER_BYTES

    def _note_damage(self, stopped: bool) -> None:
        """Turn the loop's place in the payloads into one in the file."""
        state = self._state
        start, _, position, _ = self._spans[state[DAMAGE_PACKET]]
        if not self._packed:
            position += HEADER_BYTES + state[DAMAGE_AT] - start
        if stopped:
            self._walk.error = None  # damage further on in the file, met while the batch was made
            height, width = self._sensor_hw
            whole = state[DAMAGE_AT] == start
            what = "this packet holds no events" if whole else f"no event of a sensor of {height}x{width}"
            self._walk.damaged(int(position), f"{what}; read with damage 'skip' to leave it out")
        first = self._report.first_damage_byte
        self._report.first_damage_byte = int(position) if first is None else min(first, int(position))
        state[DAMAGE_AT] = -1

    def _update_report(self, events: np.ndarray) -> None:
        """Bring the report up to the events just delivered."""
        report, state, walk = self._report, self._state, self._walk
        report_times(report, events)
        if self._source.open_ended:
            report.bytes_total = walk.window.arrived
        report.bytes_skipped = walk.skipped + int(state[DAMAGED_BYTES])
        at_end = walk.ended and walk.window.left == 0
        report.bytes_read = (report.bytes_total if at_end else walk.window.position) - report.bytes_skipped
        report.other_packets = walk.other_packets
        report.damaged_packets = int(state[DAMAGED_PACKETS]) + self._lost_packets
        report.out_of_sensor = int(state[OUT_OF_SENSOR])
        report.backward_steps = int(state[BACKWARD])
        report.largest_backward_us = int(state[LARGEST_BACKWARD_US])

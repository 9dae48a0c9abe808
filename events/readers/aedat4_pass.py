"""One pass over the packets of an AEDAT 4 file, in bounded memory, under a damage policy.

A packet is int32 stream, int32 size, both little-endian, and `size` bytes: `events.readers.aedat4_payload`.
Packets follow each other up to the table of packets or the end of the file; the table is never needed.
"""

import struct
from collections import Counter
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import numpy as np
from numba import njit

from events.errors import DamagedRecording
from events.readers.aedat4_compression import MAGICS, UnpackError, unpacker
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
    TRIGGERS_MARK,
    decode_payloads,
    load_uint32,
    new_state,
)
from events.readers.byte_window import ByteWindow
from events.readers.packet_recording import report_times
from events.readers.source import Source
from events.recording import Damage, FileReport

PACKET_HEADER = struct.Struct("<iI")
HEADER_BYTES = PACKET_HEADER.size
# Bytes from which a packet is recognised: its header, and of its payload the size and the letters.
TELLING_BYTES = 20
# Payloads are decoded together until they have that many bytes: few enough for the second-level cache, enough
# that small packets share the cost of a call.
BATCH_BYTES = 1 << 17
MOST_PACKETS = 256
PADDING = [bytes(count) for count in range(8)]
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
    raw: np.ndarray, at: int, stop: int, stream: int, most_bytes: int, places: np.ndarray
) -> int:
    """Find the next packets of a stream that follow each other and are all there; return how many.

    Args:
        raw: Bytes of the file, uint8.
        at: First byte of the first packet.
        stop: First byte that is not there.
        stream: Number of the stream.
        most_bytes: The last packet is the one with which their payloads have as many bytes as that.
        places: Filled: first and last byte + 1 of each payload, shape [k, 2], int64.
    """
    found = 0
    while found < len(places) and at + HEADER_BYTES <= stop and load_uint32(raw, at) == stream:
        size = load_uint32(raw, at + 4)
        at += HEADER_BYTES
        if size > stop - at or most_bytes <= 0:
            break
        places[found, 0] = at
        at += size
        places[found, 1] = at
        most_bytes -= size
        found += 1
    return found


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


class PacketWalk:
    """Goes from packet to packet of a file, and tells what is damaged.

    Attributes:
        window: Stands before the next packet.
        report: Filled on the way.
        error: Message of the damage that ended the walk under `strict`.
        ended: Whether there is no more packet.
    """

    def __init__(self, source: Source, header: Aedat4Header, damage: Damage, report: FileReport) -> None:
        """Stand before the first packet."""
        table = header.table_position
        self._table_there = header.end <= table <= source.size
        end = table if self._table_there else source.size
        self.window = ByteWindow(source, header.end, end)
        self.report = report
        self.error: str | None = None
        self.ended = False
        self.others: Counter[int] = Counter()
        self._path = source.path
        self._size = source.size
        self._damage = damage
        self._magic = MAGICS[header.compression]
        self._streams = np.array(sorted(header.streams), np.int64)
        self._known = frozenset(header.streams)
        self._cut_end = table > source.size

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
            left = window.left
            if stream not in self._known and not self._foreign_fits(stream, size):
                self._bad_header()
                continue
            if size > left - HEADER_BYTES:
                if self._table_there or size > 1 << 31:
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
            self.others[stream] += 1
            window.skip(HEADER_BYTES + size)
        return None

    def damaged(self, position: int, message: str) -> None:
        """Note damage at a byte; under `strict` the walk ends."""
        if self.report.first_damage_byte is None:
            self.report.first_damage_byte = position
        if self._damage == "strict" and self.error is None:
            self.error = f"{self._path}: byte {position}: {message}"
            self.ended = True

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
        elif self._cut_end:
            self.report.notes.append("the file ends before its table of packets")
            self.damaged(self._size, "the file ends before its table of packets; read with damage 'skip'")

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
            self.report.bytes_skipped += window.skip(window.left)
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
        self.report.bytes_skipped += skipped


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
        self._size = source.size
        self._unpack = unpacker(header.compression, source.path)
        self._packed = header.compression != 0
        self._state = new_state()
        self._places = np.empty((MOST_PACKETS, 2), np.int64)
        self._payloads = np.empty(0, np.uint8)
        self._spans = np.empty((0, 4), np.int64)
        self._last_cut = False
        self._lost_packets = 0

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
            if self._state[PACKET] == len(self._spans) and not self._load_batch():
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
        """Note the packets of other streams."""
        for number, count in sorted(self._walk.others.items()):
            kind = self._header.streams[number].kind if number in self._header.streams else "unknown"
            self._report.notes.append(f"stream {number} ({kind}): {count} packets left out")

    def _load_batch(self) -> bool:
        """Make the next packets of the stream the batch; False where there is none."""
        if self._last_cut:
            return False
        places, self._last_cut, size = self._next_places(BATCH_BYTES)
        if not places:
            return False
        window = self._walk.window
        if not self._packed and all(start % 8 == 0 for start, _ in places):
            # They stay where they are: the window does not move before the batch is done.
            offset = window.position - window.at
            spans = [(a, b, offset + a - HEADER_BYTES, b - a + HEADER_BYTES) for a, b in places]
            window.at = places[-1][1]
            self._set_batch(window.raw, spans)
            return True
        return self._unpack_batch(places, size)

    def _set_batch(self, payloads: np.ndarray, spans: list[tuple[int, int, int, int]]) -> None:
        """Begin a batch."""
        self._payloads = payloads
        self._spans = np.array(spans, np.int64).reshape(-1, 4)
        self._state[PACKET] = self._state[EVENT] = 0

    def _unpack_batch(self, places: list[list[int]], size: int) -> bool:
        """Make a batch of packets in these places, of `size` bytes if cut, and of some more."""
        parts: list[bytes] = []
        spans: list[tuple[int, int, int, int]] = []
        total = 0
        while places:
            for payload, position, stored_bytes in self._unpack_places(places, size):
                length = len(payload)
                spans.append((total, total + length, position, stored_bytes))
                parts.append(payload)
                total += length
                if length % 8:
                    parts.append(PADDING[-length % 8])
                    total += -length % 8
            if total >= BATCH_BYTES or self._last_cut:
                break
            places, self._last_cut, size = self._next_places(BATCH_BYTES - total)
        if not spans:
            return False
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        self._set_batch(np.frombuffer(whole, np.uint8), spans)
        return True

    def _unpack_places(self, places: list[list[int]], size: int) -> Iterator[tuple[bytes, int, int]]:
        """Yield payload, byte in the file and stored length of the packets that can be unpacked."""
        window, unpack = self._walk.window, self._unpack
        raw = window.raw.data
        offset = window.position - window.at
        for start, stop in places:
            window.at = stop
            position = offset + start - HEADER_BYTES
            try:
                payload = unpack(raw[start:stop], self._last_cut)
            except UnpackError as error:
                self._lose_packet(position, size or stop - start, str(error))
                if self._strict:
                    break
                continue
            yield payload, position, stop - start + HEADER_BYTES

    def _next_places(self, most_bytes: int) -> tuple[list[list[int]], bool, int]:
        """Return where the next payloads of the stream are in the window, and whether the only one is cut.

        Of a cut one, its whole size too. No payload is left where the list is empty.
        """
        walk, window = self._walk, self._walk.window
        if not walk.ended:
            found = ready_packets(window.raw, window.at, window.stop, self._stream, most_bytes, self._places)
            if found:
                return self._places[:found].tolist(), False, 0
        packet = walk.next_packet(self._stream)
        if packet is None:
            return [], False, 0
        _, size, there = packet
        window.have(there)
        return [[window.at, window.at + there]], there < size, size

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
            self._report.bytes_skipped += size + HEADER_BYTES

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
        report.bytes_skipped += int(state[DAMAGED_BYTES])
        state[DAMAGED_BYTES] = 0
        position = self._size if walk.ended and walk.window.left == 0 else walk.window.position
        report.bytes_read = position - report.bytes_skipped
        report.other_packets = sum(walk.others.values())
        report.damaged_packets = int(state[DAMAGED_PACKETS]) + self._lost_packets
        report.out_of_sensor = int(state[OUT_OF_SENSOR])
        report.backward_steps = int(state[BACKWARD])
        report.largest_backward_us = int(state[LARGEST_BACKWARD_US])

"""The packets of one stream of an AEDAT 4 file, unpacked and side by side, a batch at a time."""

import numpy as np

from events.readers.aedat4_compression import UnpackError, unpacker
from events.readers.aedat4_header import Aedat4Header
from events.readers.aedat4_packets import HEADER_BYTES
from events.readers.aedat4_walk import PacketWalk, WalkPlace
from events.readers.byte_window import LONGEST_READ_BYTES
from events.readers.source import Source
from events.recording import Damage

# Payloads are decoded together until they have that many bytes: few enough for the second-level cache, enough
# that small packets share the cost of a call.
BATCH_BYTES = 1 << 17
MOST_PACKETS = 256


class PacketBatches:
    """Makes batches of the packets of one stream, in order.

    Attributes:
        payloads: Unpacked, shape [n], uint8; starts at a multiple of eight in memory.
        spans: Where the packets are, int64, shape [k, 4]; columns as `events.readers.aedat4_payload` names.
        last_cut: Whether the end of the last packet is missing.
        lost_packets: Packets that could not be unpacked.
        start: Where the walk stood before the batch, and how many packets were lost then.
    """

    def __init__(
        self, source: Source, header: Aedat4Header, stream: int, walk: PacketWalk, damage: Damage
    ) -> None:
        """Stand before the first packet, with a batch of none.

        Args:
            source: The file.
            header: What its header says.
            stream: Number of the stream.
            walk: Goes through the packets; nobody else may move it.
            damage: What to do about damage.
        """
        self._walk = walk
        self._stream = stream
        self._strict = damage == "strict"
        self._open_ended = source.open_ended
        self._unpack = unpacker(header.compression, source.path)
        self._packed = header.compression != 0
        self._found = np.empty((MOST_PACKETS, 4), np.int64)
        self._unpacked = np.empty(0, np.uint8)
        self.payloads = self._unpacked
        self.spans = self._found[:0]
        self.last_cut = False
        self.lost_packets = 0
        self.start: tuple[WalkPlace, int] = walk.place, 0

    def go_to(self, start: WalkPlace, lost_packets: int) -> None:
        """Stand before a batch of another pass over the file."""
        self._walk.go_to(start)
        self.lost_packets = lost_packets

    def load(self, *, wait: bool) -> bool:
        """Make the next packets the batch; False where there is none, or none without waiting."""
        self.start = self._walk.place, self.lost_packets
        self.spans = self.spans[:0]
        found, aligned = self._next_packets(BATCH_BYTES if self._packed else LONGEST_READ_BYTES, wait=wait)
        if not found:
            return False
        if self._packed or not aligned:
            return self._unpack_batch(found)
        # They stay where they are: the window does not move before the batch is done.
        self.payloads, self.spans = self._walk.window.raw, self._found[:found]
        return True

    def _unpack_batch(self, found: int) -> bool:
        """Make a batch of the packets found, and of some more."""
        spans: list[int] = []
        total = 0
        while found:
            total = self._unpack_found(found, spans, total)
            if total >= BATCH_BYTES or self.last_cut:
                break
            wait = not (self._open_ended and spans)
            found, _ = self._next_packets(BATCH_BYTES - total, wait=wait)
        self.payloads, self.spans = self._unpacked, np.array(spans, np.int64).reshape(-1, 4)
        return bool(spans)

    def _unpack_found(self, found: int, spans: list[int], total: int) -> int:
        """Unpack the packets found behind `total` bytes that are; return how many bytes there are then.

        All go into one buffer at once, so that the library gets the same memory for the next packet again:
        new memory takes longer to touch than to unpack into.
        """
        unpack, cut = self._unpack, self.last_cut
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
        while packet := walk.next_packet(self._stream):
            _, size, there = packet
            if there == size:
                window.at -= HEADER_BYTES
                if window.have(HEADER_BYTES + size):
                    return walk.ready_packets(self._stream, most_bytes, self._found)
                continue  # somebody cuts the file meanwhile, as the walk now finds
            position = window.position - HEADER_BYTES
            window.have(there)
            start = window.at
            window.at += there
            self._found[0] = start, window.at, position, there + HEADER_BYTES
            self.last_cut = True
            return 1, start % 8 == 0
        return 0, True

    def _lose_packet(self, position: int, size: int, reason: str) -> None:
        """Leave out a packet that cannot be unpacked."""
        if self.last_cut:  # reported already, and gone
            self.last_cut = False
            return
        reason = " ".join(reason.split())
        self._walk.damaged(
            position,
            f"a packet of {size} bytes cannot be unpacked: {reason}; read with damage 'skip' to leave it out",
        )
        if not self._strict:
            self.lost_packets += 1
            self._walk.skipped += size + HEADER_BYTES

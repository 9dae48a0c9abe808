"""One pass over the events of an AEDAT 4 file, in bounded memory, under a damage policy."""

from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from events.errors import DamagedRecording
from events.readers.aedat4_batches import PacketBatches
from events.readers.aedat4_header import Aedat4Header
from events.readers.aedat4_packets import HEADER_BYTES
from events.readers.aedat4_payload import (
    BACKWARD,
    DAMAGE_AT,
    DAMAGE_PACKET,
    DAMAGED_BYTES,
    DAMAGED_PACKETS,
    EVENT,
    LARGEST_BACKWARD_US,
    OUT_OF_SENSOR,
    PACKET,
    SPAN_POSITION,
    decode_payloads,
    new_state,
)
from events.readers.aedat4_walk import PacketWalk, WalkPlace
from events.readers.packet_recording import report_times
from events.readers.source import Source
from events.recording import EVENT_DTYPE, Damage, FileReport


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
        self._batches = PacketBatches(source, header, stream, self._walk, damage)
        self._header = header
        self._sensor_hw = sensor_hw
        self._strict = damage == "strict"
        self._packed = header.compression != 0
        self._report = report
        self._source = source
        self._state = new_state()

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
            if self._state[PACKET] == len(self._batches.spans) and not self._load_batch(wait=wait):
                break
            written, stopped = decode_payloads(
                self._batches.payloads,
                self._batches.spans,
                self._batches.last_cut,
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
        return PassPlace(*self._batches.start, self._state.copy())

    def go_to(self, place: PassPlace) -> None:
        """Stand where another pass over the file stood; the report is that of its bookmark.

        The batch is made again, and the packets that are done are left out.
        """
        self._batches.go_to(place.batch, place.lost_packets)
        done = int(place.state[PACKET])
        while self._load_batch(wait=True) and done >= len(self._batches.spans) and not self._batches.last_cut:
            done -= len(self._batches.spans)
        self._state[:] = place.state
        self._state[PACKET] = done

    def _load_batch(self, *, wait: bool) -> bool:
        """Go to the next batch; False where there is none."""
        if self._batches.last_cut:
            return False
        loaded = self._batches.load(wait=wait)
        self._state[PACKET] = self._state[EVENT] = 0
        return loaded

    def stands_by(self, position: int) -> bool:
        """Whether all events of the stream before a byte are delivered, and none behind it."""
        packet = int(self._state[PACKET])
        if self._state[EVENT]:
            return False
        if packet < len(self._batches.spans):
            return int(self._batches.spans[packet, SPAN_POSITION]) >= position
        return self._walk.window.position <= position

    def _note_damage(self, stopped: bool) -> None:
        """Turn the loop's place in the payloads into one in the file."""
        state = self._state
        start, _, position, _ = self._batches.spans[state[DAMAGE_PACKET]]
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
        report.damaged_packets = int(state[DAMAGED_PACKETS]) + self._batches.lost_packets
        report.out_of_sensor = int(state[OUT_OF_SENSOR])
        report.backward_steps = int(state[BACKWARD])
        report.largest_backward_us = int(state[LARGEST_BACKWARD_US])

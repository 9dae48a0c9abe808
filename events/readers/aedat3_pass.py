"""One pass over an AEDAT 3 file, in bounded memory, under a damage policy."""

from types import TracebackType
from typing import Self

import numpy as np

from events.errors import DamagedRecording
from events.readers.aedat3_packets import (
    BACKWARD,
    BAD_EVENT,
    BAD_HEADER,
    EVENT_BYTES,
    FIRST_DAMAGE,
    HEADER_BYTES,
    INVALID,
    LARGEST_BACKWARD_US,
    LEFT,
    NEED_BYTES,
    OTHER_PACKETS,
    OUT_OF_SENSOR,
    PASS,
    SPECIAL,
    WRAPS,
    Aedat3Layout,
    decode_packets,
    find_header,
    new_state,
)
from events.readers.byte_window import LONG_READ_BYTES, ByteWindow
from events.readers.packet_recording import report_times
from events.readers.source import Source
from events.recording import Damage, FileReport


class Aedat3Pass:
    """Decodes the packets of a file from the first to the last.

    A packet that the file's end cuts off gives the whole events before the cut. A header that cannot be one
    ends the pass, except under `salvage`, which goes on at the next header beyond doubt.
    """

    def __init__(
        self, source: Source, layout: Aedat3Layout, data_offset: int, damage: Damage, report: FileReport
    ) -> None:
        """Stand before the first packet.

        Args:
            source: The file.
            layout: What is known about its events.
            data_offset: Byte of the first packet.
            damage: What to do about damage.
            report: Filled on the way.
        """
        self._source = source
        self._path = source.path
        self._layout = layout
        self._damage = damage
        self._report = report
        self._window = ByteWindow(source, data_offset, read_bytes=LONG_READ_BYTES)
        self._state = new_state()
        self._error: str | None = None
        self._ended = False

    def __enter__(self) -> Self:
        """Return the pass itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._window.close()

    def fill(self, out: np.ndarray) -> int:
        """Decode the next events into `out`, EVENT_DTYPE; return how many, 0 only at the end.

        Raises:
            DamagedRecording: There is damage right here and the policy is `strict`.
        """
        words = out.view(np.int64)
        window, state = self._window, self._state
        n = 0
        while n < len(out) and not self._ended:
            at, written, reason = decode_packets(
                window.raw, window.at, window.stop, words[2 * n :], self._layout, state
            )
            window.at = at
            n += written
            self._note_first_damage()
            if reason == NEED_BYTES:
                if n and self._source.open_ended:
                    break  # what arrives live is delivered as it comes
                self._read_on()
            elif reason == BAD_HEADER:
                self._pass_bad_header()
            elif reason == BAD_EVENT:
                self._stop(self._no_event())
        self._update_report(out[:n])
        if n == 0 and self._error is not None:
            raise DamagedRecording(self._error)
        return n

    def finish(self) -> None:
        """Bring the report up to the end of the file, where the last `fill` has left it."""

    @property
    def place(self) -> tuple[int, np.ndarray, bool, str | None]:
        """Byte of the file that comes next, all that the decoder remembers, and how the pass ended, if so."""
        return self._window.position, self._state.copy(), self._ended, self._error

    def go_to(self, place: tuple[int, np.ndarray, bool, str | None]) -> None:
        """Stand where another pass over the file stood."""
        position, state, self._ended, self._error = place
        self._window.close()
        self._window = ByteWindow(self._source, position, read_bytes=LONG_READ_BYTES)
        self._state[:] = state

    def _read_on(self) -> None:
        """Get what the loop needs next, or find that the file ends."""
        window, state = self._window, self._state
        if state[PASS] > 0:
            state[PASS] -= window.skip(int(state[PASS]))
            if state[PASS] > 0:
                self._end_inside(0, "a packet")
        elif not window.have(EVENT_BYTES if state[LEFT] > 0 else HEADER_BYTES):
            left = window.stop - window.at
            if state[LEFT] > 0:
                self._end_inside(left, "a packet of events")
            elif left > 0:
                self._end_inside(left, "the header of a packet")
            self._ended = True

    def _end_inside(self, left: int, what: str) -> None:
        """Report that the file ends inside a packet, `left` bytes after the last whole event or header."""
        self._damage_at(self._window.position)
        self._report.partial_records = int(left > 0 or self._state[PASS] > 0)
        missing = f", {self._state[LEFT]} events missing" if self._state[LEFT] else ""
        self._report.notes.append(f"the file ends inside {what}{missing}")
        if self._damage == "strict":
            self._error = (
                f"{self._path}: byte {self._window.position}: the file ends inside {what}{missing}; "
                "read with damage 'skip' to keep what is before it"
            )
        self._ended = True

    def _pass_bad_header(self) -> None:
        """Stop at a header that cannot be one, or go to the next that convinces."""
        window = self._window
        position = window.position
        self._damage_at(position)
        found = window.raw[window.at : window.at + HEADER_BYTES].tobytes().hex(" ", 4)
        message = f"{self._path}: byte {position}: {found} is no packet header of AEDAT 3"
        if self._damage == "strict":
            self._stop(f"{message}; read with damage 'salvage' to look for the next one")
        elif self._damage == "skip":
            self._report.bytes_skipped += window.skip(window.left)
            self._report.notes.append(
                f"byte {position} is no packet header; nothing after it was read, "
                "read with damage 'salvage' to look for the next one"
            )
        else:
            self._look_for_header()

    def _look_for_header(self) -> None:
        """Pass over bytes to the next header that convinces, or to the end of the file."""
        window = self._window
        skipped = window.skip(1)
        while window.have(2 * HEADER_BYTES) or window.left >= HEADER_BYTES:
            found = find_header(window.raw, window.at, window.stop, window.left)
            if found >= 0:
                skipped += window.skip(found - window.at)
                break
            skipped += window.skip(max(1, window.stop - window.at - HEADER_BYTES + 1))
        else:
            skipped += window.skip(window.left)
        self._report.bytes_skipped += skipped

    def _no_event(self) -> str:
        """Return the message for the event that comes next and is none."""
        record = self._window.raw[self._window.at : self._window.at + EVENT_BYTES].tobytes().hex(" ")
        return (
            f"{self._path}: byte {self._window.position}: event {record} is no event of a sensor of "
            f"{self._layout.height}x{self._layout.width}; read with damage 'skip' to leave it out"
        )

    def _stop(self, error: str) -> None:
        """End the pass; the good events before are delivered first."""
        self._damage_at(self._window.position)
        self._error = error
        self._ended = True

    def _note_first_damage(self) -> None:
        """Turn the loop's offset in the buffer into one in the file."""
        offset = int(self._state[FIRST_DAMAGE])
        if offset >= 0:
            self._damage_at(self._window.position - (self._window.at - offset))
        self._state[FIRST_DAMAGE] = -1

    def _damage_at(self, position: int) -> None:
        """Remember where the first damage is."""
        if self._report.first_damage_byte is None:
            self._report.first_damage_byte = position

    def _update_report(self, events: np.ndarray) -> None:
        """Bring the report up to the events just delivered."""
        report, state = self._report, self._state
        report_times(report, events)
        if self._source.open_ended:
            report.bytes_total = self._window.arrived
        report.bytes_read = self._window.position - report.bytes_skipped
        report.special_events = int(state[SPECIAL])
        report.invalid_events = int(state[INVALID])
        report.other_packets = int(state[OTHER_PACKETS])
        report.out_of_sensor = int(state[OUT_OF_SENSOR])
        report.backward_steps = int(state[BACKWARD])
        report.largest_backward_us = int(state[LARGEST_BACKWARD_US])
        report.wraps = int(state[WRAPS])

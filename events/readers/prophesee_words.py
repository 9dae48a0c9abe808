"""A recording made of words of one length, most of which need those before: Prophesee's RAW encodings."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import numpy as np

from events.errors import DamagedRecording
from events.readers.byte_window import LONG_READ_BYTES, ByteWindow
from events.readers.conventions import only_plain_conventions
from events.readers.once import Once
from events.readers.pass_recording import SCRATCH_EVENTS, PassRecording, last_row_and_column, lenient
from events.readers.prophesee_clock import (
    BACKWARD,
    DAMAGED,
    FIRST_DAMAGE,
    LARGEST_BACKWARD_US,
    OUT_OF_SENSOR,
    PENDING,
    STOP_AT_DAMAGE,
    TRIGGERS,
    UNKNOWN,
    UNPLACED,
    WRAPS,
    new_state,
)
from events.readers.prophesee_header import PropheseeHeader, read_header
from events.readers.prophesee_step import SEARCH_BYTES, find_words
from events.readers.source import Source
from events.recording import (
    EVENT_DTYPE,
    TRIGGER_DTYPE,
    EventBuffer,
    FileReport,
    ReadOptions,
)

# Rows and columns have 11 bits in all encodings.
LARGEST_HW = (1 << 11, 1 << 11)

# Words looked at to tell whether bytes are data.
LOOKED_AT_WORDS = 64

# Triggers kept at a time while they are collected.
TRIGGER_ROOM = 4096


@dataclass(frozen=True)
class Encoding:
    """How words become events.

    Attributes:
        name: Name of the format.
        word_type: NumPy type of a word.
        decode: `decode(words, out, triggers, state)` decodes words until they or the room for events run out,
            or a damaged word is met: words, shape [n]; out, events as two words each, int64, shape [2 m];
            triggers, as `put_trigger` takes them; state, of `prophesee_clock`, which goes on. Returns the
            words used, the events written, and FINE, DAMAGED or TRIGGERS_FULL.
        high_bits, low_bits: Of the time, in a TIME_HIGH and below.
        events_per_word: Events that a word gives at most.
        kinds: A bit for each type that words have.
        halves_turned: Whether the upper half of a word comes before the lower one.
    """

    name: str
    word_type: str
    decode: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], tuple[int, int, int]]
    high_bits: int
    low_bits: int
    events_per_word: int
    kinds: int
    halves_turned: bool = False

    @property
    def word_bytes(self) -> int:
        """Length of a word."""
        return np.dtype(self.word_type).itemsize

    def fits(self, data: bytes) -> bool:
        """Whether bytes start with words of types that the encoding has."""
        count = min(len(data) // self.word_bytes, LOOKED_AT_WORDS)
        words = np.frombuffer(data, self.word_type, count)
        top = (4 if self.halves_turned else 8) * self.word_bytes
        kinds = ((words >> (top - 4)) & 0xF).astype(np.int64)
        return count > 0 and bool(np.all((self.kinds >> kinds) & 1))


class WordPass:
    """Decodes a file from its first word to its last.

    Nothing that is delivered or counted depends on how much is asked for at a time.
    """

    def __init__(
        self,
        source: Source,
        encoding: Encoding,
        data_offset: int,
        sensor_hw: tuple[int, int],
        options: ReadOptions,
        report: FileReport,
        *,
        trigger_room: int = 0,
    ) -> None:
        """Stand before the first word; `trigger_room` is 0 where triggers are only counted."""
        self._triggers = np.zeros(1 + 3 * trigger_room if trigger_room else 0, np.int64)
        self._source = source
        self.encoding = encoding
        self._sensor_hw = sensor_hw
        self._report = report
        self._damage = options.damage
        self._in_step_until = 0  # byte of the file up to which `salvage` treats damage as `skip` does
        self._window = ByteWindow(source, data_offset, read_bytes=LONG_READ_BYTES)
        self._state = new_state(
            sensor_hw,
            high_bits=encoding.high_bits,
            low_bits=encoding.low_bits,
            stop_at_damage=options.damage != "skip",
        )

    def __enter__(self) -> Self:
        """Return the pass itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._window.close()

    def fill(self, out: np.ndarray) -> int:
        """Decode the next events into `out`, EVENT_DTYPE; return how many.

        Fewer than fit only at the end, before damage that the next call raises, or where the room for
        triggers is used up.

        Raises:
            DamagedRecording: There is damage and the policy is strict.
        """
        window, size = self._window, self.encoding.word_bytes
        room = out.view(np.int64)
        n = 0
        # What arrives live is delivered as it comes, and waited for only where there is nothing yet.
        live = self._source.open_ended
        while n < len(out) and (not (live and n) or window.stop - window.at >= size) and self.more:
            words = self._words()
            used, written, code = self.encoding.decode(words, room[2 * n :], self._triggers, self._state)
            self._note_first_damage()
            window.at += used * size
            n += written
            if code == DAMAGED and self._damage == "salvage":
                self._get_in_step()
            elif code == DAMAGED and n == 0:
                raise DamagedRecording(self._damage_of(words[used]))
            elif code:
                break
        self._update_report(out[:n])
        return n

    def finish(self) -> None:
        """Look at what is left after the last event.

        Raises:
            DamagedRecording: Something is left and the policy is strict.
        """
        left = self._window.stop - self._window.at
        if left == 0:
            return
        position, size = self._window.position, self.encoding.word_bytes
        if self._report.first_damage_byte is None:
            self._report.first_damage_byte = position
        if self._damage == "strict":
            raise DamagedRecording(
                f"{self._source.path}: byte {position}: the file ends inside a word, {left} of {size} bytes; "
                "read with damage 'skip' to leave it out"
            )
        self._report.partial_records = 1

    @property
    def place(self) -> tuple[int, int, np.ndarray]:
        """Byte of the file that comes next, how far it is in step, and all that the decoder remembers."""
        return self._window.position, self._in_step_until, self._state.copy()

    def go_to(self, place: tuple[int, int, np.ndarray]) -> None:
        """Stand where another pass over the file stood."""
        self._window.close()
        position, self._in_step_until, self._state[:] = place
        self._window = ByteWindow(self._source, position, read_bytes=LONG_READ_BYTES)

    @property
    def more(self) -> bool:
        """Whether there is a word, or an event of the last one, that is not yet decoded."""
        return self._window.have(self.encoding.word_bytes) or bool(self._state[PENDING])

    def take_triggers(self) -> np.ndarray:
        """Return the triggers collected since the last call, shape [n], TRIGGER_DTYPE, and make room."""
        rows = self._triggers[1 : 1 + 3 * int(self._triggers[0])].reshape(-1, 3)
        taken = np.empty(len(rows), TRIGGER_DTYPE)
        taken["t"], taken["channel"], taken["rising"] = rows.T
        self._triggers[0] = 0
        return taken

    def _words(self) -> np.ndarray:
        """Return the words that are there, as far as they are treated alike, shape [n], unsigned."""
        window = self._window
        count = window.stop - window.at
        if self._damage == "salvage":
            in_step = self._in_step_until - window.position
            self._state[STOP_AT_DAMAGE] = in_step <= 0
            count = min(count, in_step) if in_step > 0 else count
        stop = window.at + count - count % self.encoding.word_bytes
        return window.raw[window.at : stop].view(self.encoding.word_type)

    def _get_in_step(self) -> None:
        """Decide what the damaged word that comes next is, by the first plausible words after it.

        Where these are out of step with the words so far, bytes are missing or too many: go there. Otherwise
        it, and what follows up to there, is left out or not as under `skip`.
        """
        window, encoding = self._window, self.encoding
        window.have(SEARCH_BYTES)
        at_end = window.left <= SEARCH_BYTES
        raw = window.raw[window.at : min(window.stop, window.at + SEARCH_BYTES)]
        found = find_words(
            raw, at_end, encoding.word_bytes, encoding.halves_turned, encoding.kinds, self._sensor_hw
        )
        if found >= 0 and found % encoding.word_bytes:
            self._report.bytes_skipped += found
            window.at += found
            window.realign()
        else:
            in_step = found if found >= 0 else len(raw)
            self._in_step_until = window.position + max(in_step, encoding.word_bytes)

    def _damage_of(self, word: np.integer) -> str:
        """Return the message for the damaged word that comes next."""
        height, width = self._sensor_hw
        return (
            f"{self._source.path}: byte {self._window.position}: word 0x{int(word):0{2 * word.itemsize}x} "
            f"is no event of a sensor of {height}x{width}; read with damage 'skip' to leave it out"
        )

    def _note_first_damage(self) -> None:
        """Turn the decoder's index of a word into a byte of the file."""
        index = int(self._state[FIRST_DAMAGE])
        if index >= 0 and self._report.first_damage_byte is None:
            self._report.first_damage_byte = self._window.position + index * self.encoding.word_bytes
        self._state[FIRST_DAMAGE] = -1

    def _update_report(self, events: np.ndarray) -> None:
        """Bring the report up to the events just delivered."""
        report, state = self._report, self._state
        report.events += len(events)
        report.bytes_read = self._window.position - report.bytes_skipped
        if self._source.open_ended:
            report.bytes_total = self._window.arrived
        report.out_of_sensor = int(state[OUT_OF_SENSOR])
        report.unplaced_events = int(state[UNPLACED])
        report.unknown_words = int(state[UNKNOWN])
        report.triggers = int(state[TRIGGERS])
        report.backward_steps = int(state[BACKWARD])
        report.largest_backward_us = int(state[LARGEST_BACKWARD_US])
        report.wraps = int(state[WRAPS])
        if len(events):
            if report.t_first_us is None:
                report.t_first_us = int(events["t"][0])
            report.t_last_us = int(events["t"][-1])


class WordRecording(PassRecording):
    """A recording made of words of one length.

    Attributes:
        encoding: How its words become events.
    """

    def __init__(
        self,
        source: Source,
        options: ReadOptions,
        *,
        encoding: Encoding,
        encoding_of: Callable[[PropheseeHeader], Encoding] | None = None,
    ) -> None:
        """Read the header; no word is decoded yet.

        Args:
            source: The file.
            options: How to read it.
            encoding: How words become events.
            encoding_of: Gives the encoding by what the header says, where that decides it.
        """
        only_plain_conventions(options, format_name="Prophesee RAW")
        header = read_header(source, data_fits=encoding.fits)
        self.path = source.path
        self.format = encoding.name
        self.facts = header.facts()
        self.report = FileReport(str(source.path), self.format, bytes_total=source.size)
        self._source = source
        self._options = options
        self._header = header
        self.encoding = encoding if encoding_of is None else encoding_of(header)
        self._sensor_hw = options.sensor_hw or header.sensor_hw

    @Once
    def sensor_hw(self) -> tuple[int, int]:
        """Height and width in pixels; where nothing says them, just large enough for every event."""
        if self._sensor_hw is not None:
            return self._sensor_hw
        if self._source.open_ended:  # nothing can be read ahead
            return LARGEST_HW
        reading = self._pass(LARGEST_HW, lenient(self._options), FileReport("", self.format))
        last_y, last_x = last_row_and_column(reading)
        return last_y + 1, last_x + 1

    def read_into(self, buffer: EventBuffer) -> np.ndarray:
        """Decode all events straight into a buffer; see `Recording.read_into`."""
        if self._source.open_ended:
            return super().read_into(buffer)
        with self._new_pass() as reading:
            out = buffer.room(self._expected_events())
            n = reading.fill(out)
            while n == len(out) and reading.more:
                kept = out.copy()
                out = buffer.room(2 * n)
                out[:n] = kept
                n += reading.fill(out[n:])
            reading.fill(out[n:])  # raises where damage comes next
            reading.finish()
            return out[:n]

    @property
    def _most_events(self) -> int:
        """Events that the file can hold."""
        words = max(self._source.size - self._header.end, 0) // self.encoding.word_bytes
        return words * self.encoding.events_per_word

    def _expected_events(self) -> int:
        """Events that the file holds if all of it is as dense as its first bytes, and some more."""
        encoding, source = self.encoding, self._source
        if encoding.events_per_word == 1 or source.whole:
            return self._most_events
        data = source.head[self._header.end :]
        out = np.empty(len(data) // encoding.word_bytes * encoding.events_per_word, EVENT_DTYPE)
        head = Source(source.path, len(source.head), source.head)
        lenient = replace(self._options, damage="skip")
        with self._pass(self.sensor_hw, lenient, FileReport("", self.format), source=head) as reading:
            n = reading.fill(out)
        return min(self._most_events, n * (source.size // max(len(data), 1) + 1) * 5 // 4 + len(out))

    def _new_pass(self) -> WordPass:
        """Return a pass over the file that fills a new report of this recording."""
        sensor_hw = self.sensor_hw
        self.report = FileReport(str(self.path), self.format, bytes_total=self._source.size)
        if self._most_events == 0:
            self.report.notes.append("no events: no whole word in the file")
        return self._pass(sensor_hw, self._options, self.report)

    def _pass_behind(self, place: tuple[int, int, np.ndarray]) -> WordPass:
        """Return a pass from where another stood; see `PassRecording`."""
        reading = self._pass(self.sensor_hw, self._options, self.report)
        reading.go_to(place)
        return reading

    def _pass(
        self,
        sensor_hw: tuple[int, int],
        options: ReadOptions,
        report: FileReport,
        *,
        source: Source | None = None,
        trigger_room: int = 0,
    ) -> WordPass:
        """Return a pass over the file, or over `source`, its first bytes."""
        if self._header.unfinished:
            damage = f"byte {self._source.size}: the file ends inside its header"
            if options.damage == "strict":
                raise DamagedRecording(f"{self.path}: {damage}")
            report.first_damage_byte = self._source.size
            report.notes.append(damage)
        return WordPass(
            source or self._source,
            self.encoding,
            self._header.end,
            sensor_hw,
            options,
            report,
            trigger_room=trigger_room,
        )

    def triggers(self) -> np.ndarray:
        """Return the edges of external signals in file order, shape [n], TRIGGER_DTYPE."""
        parts = [np.empty(0, TRIGGER_DTYPE)]
        out = np.empty(SCRATCH_EVENTS, EVENT_DTYPE)
        report = FileReport(str(self.path), self.format)
        with self._pass(self.sensor_hw, self._options, report, trigger_room=TRIGGER_ROOM) as reading:
            while True:
                n = reading.fill(out)
                taken = reading.take_triggers()
                parts.append(taken)
                if n == 0 and len(taken) == 0:
                    return np.concatenate(parts)

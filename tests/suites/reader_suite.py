"""What every reader must do, whatever its format: subclass it, and encode events by hand."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events import seek
from events.errors import ConfigError, EventsError
from events.readers.registry import identify, open_recording
from events.recording import EVENT_DTYPE, EventBuffer, FileReport, ReadOptions
from events.writers.registry import write_recording

# Subclasses share these tests, and each example overwrites the file of the one before.
SUBCLASSED = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]


def random_events(seed: int, n: int, *, sensor_hw: tuple[int, int], span_us: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    events = np.zeros(n, EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(0, span_us, n))
    events["x"] = rng.integers(0, sensor_hw[1], n)
    events["y"] = rng.integers(0, sensor_hw[0], n)
    events["p"] = rng.integers(0, 2, n)
    return events


def read_chunks(path: Path, options: ReadOptions, max_events: int) -> tuple[np.ndarray, dict]:
    recording = open_recording(path, options)
    parts = [chunk.copy() for chunk in recording.decode_chunks(max_events=max_events)]
    assert all(0 < len(part) <= max_events for part in parts)
    return np.concatenate([np.empty(0, EVENT_DTYPE), *parts]), recording.report.as_dict()


def copies(chunks: Iterable[np.ndarray]) -> np.ndarray:
    """Return the events of chunks that overwrite each other, shape [N], EVENT_DTYPE."""
    return np.concatenate([np.empty(0, EVENT_DTYPE), *[chunk.copy() for chunk in chunks]])


def selected(events: np.ndarray, wanted: dict) -> np.ndarray:
    """Return the events of a range as plain NumPy chooses them."""
    events = events[wanted.get("start_event", 0) : wanted.get("stop_event")]
    kept = np.ones(len(events), np.bool_)
    if "start_us" in wanted:
        kept &= events["t"] >= wanted["start_us"]
    if "stop_us" in wanted:
        kept &= events["t"] < wanted["stop_us"]
    return events[kept]


class ReaderSuite:
    """Conformance of one format.

    A subclass names the format, its sensor and the longest time it holds, and encodes events by a rule of
    its own, independent of the writer.
    """

    format: str
    sensor_hw: tuple[int, int] = (128, 128)
    span_us: int = 4_000_000
    # Bytes of one event in the file; None where events have no place of their own.
    record_bytes: int | None = None
    # Bytes between two cuts of a small file; more than 1 only where every byte would take too long.
    cut_step: int = 1
    # How an error says where in the file an event lies.
    byte_named: str = r"byte \d+:"

    def encode(self, events: np.ndarray) -> bytes:
        """Return a whole file with these events."""
        raise NotImplementedError

    @property
    def options(self) -> ReadOptions:
        return ReadOptions(format=self.format, sensor_hw=self.sensor_hw)

    def some_events(self, n: int, seed: int = 0) -> np.ndarray:
        return random_events(seed, n, sensor_hw=self.sensor_hw, span_us=self.span_us)

    @pytest.fixture(scope="class")
    @classmethod
    def file(cls, tmp_path_factory):
        path = tmp_path_factory.mktemp("readers") / "recording.anything"
        path.write_bytes(cls().encode(cls().some_events(5000)))
        return path

    def test_reads_events_encoded_by_hand(self, file):
        recording = open_recording(file)
        np.testing.assert_array_equal(recording.read(), self.some_events(5000))
        assert recording.format == identify(file) == self.format
        report = recording.report
        assert (report.events, report.damaged, report.bytes_total) == (5000, False, file.stat().st_size)
        assert report.bytes_read == report.bytes_total
        assert (report.t_first_us, report.t_last_us) == tuple(self.some_events(5000)["t"][[0, -1]])

    @pytest.mark.parametrize("max_events", [1, 7, 1000, 4999, 5000, 5001])
    def test_chunks_concatenate_to_the_whole(self, file, tmp_path, max_events):
        if max_events == 1:
            file = tmp_path / "short"
            file.write_bytes(self.encode(self.some_events(60)))
        recording = open_recording(file, self.options)
        whole = recording.read().copy()
        events, report = read_chunks(file, self.options, max_events)
        np.testing.assert_array_equal(events, whole)
        assert report == recording.report.as_dict()

    def test_two_reads_give_the_same_events_and_report(self, file):
        recording = open_recording(file, self.options)
        first = recording.read().copy()
        report = recording.report.as_dict()
        np.testing.assert_array_equal(recording.read_into(EventBuffer()), first)
        assert recording.report.as_dict() == report

    def test_reading_into_a_buffer_uses_it_again(self, file):
        buffer = EventBuffer()
        first = open_recording(file, self.options).read_into(buffer)
        second = open_recording(file, self.options).read_into(buffer)
        assert np.shares_memory(first, second)

    def ways_to_go_on(self, path: Path, options: ReadOptions, cuts: tuple[int, ...]) -> None:
        """From behind every chunk, the events that remain and the report of a reading from the start."""
        whole = open_recording(path, options)
        expected = copies(whole.chunks())
        places, at = [], 0
        recording = open_recording(path, options)
        for chunk in recording.decode_chunks(max_events=cuts[0]):
            at += len(chunk)
            places.append((at, recording.bookmark()))
        assert recording.report.as_dict() == whole.report.as_dict()
        assert len(places) > 1
        for at, place in [*places[:3], *places[3 :: max(len(places) // 6, 1)], places[-1]]:
            assert place.report.events == at
            for max_events in cuts:
                again = open_recording(path, options) if max_events == cuts[-1] else recording
                np.testing.assert_array_equal(
                    copies(again.decode_from(place, max_events=max_events)), expected[at:]
                )
                assert again.report.as_dict() == whole.report.as_dict()
            assert place.report.events == at

    def rough_file(self, path: Path) -> Path:
        """Write a file whose clock steps back and forth, and in which some bytes are wrong."""
        events = self.some_events(3000, seed=3)
        events["t"][700:] -= min(2000, int(events["t"][700]))
        events["t"][1500:1600] = np.maximum(events["t"][1500:1600] - 1_000, 0)
        data = bytearray(self.encode(events))
        for at in (len(data) // 2, len(data) * 4 // 5):
            data[at : at + 9] = bytes(range(160, 169))
        path.write_bytes(data)
        return path

    def test_a_bookmark_goes_on_as_if_from_the_start(self, file):
        for damage in ("strict", "skip", "salvage"):
            self.ways_to_go_on(file, replace(self.options, damage=damage), (333, 1000, 4999))

    @pytest.mark.parametrize("damage", ["skip", "salvage"])
    def test_a_bookmark_goes_on_in_a_damaged_file(self, tmp_path, damage):
        path, options = self.rough_file(tmp_path / "rough"), replace(self.options, damage=damage)
        found, message, _ = self.try_to_read(path, options)
        if message is None and len(found) > 1:
            self.ways_to_go_on(path, options, (max(len(found) // 20, 1), 1000))

    @pytest.mark.parametrize("rough", [False, True])
    def test_ranges_with_and_without_index_are_those_numpy_chooses(self, file, tmp_path, monkeypatch, rough):
        monkeypatch.setattr(seek, "BLOCK_EVENTS", 256)
        path = self.rough_file(tmp_path / "rough") if rough else file
        options = replace(self.options, damage="salvage" if rough else "strict")
        whole, message, _ = self.try_to_read(path, options)
        if message is not None or len(whole) < 100:
            return
        known = open_recording(path, options)
        assert known.index().blocks
        rng = np.random.default_rng(4)
        growing = open_recording(path, options)
        for _ in range(4):
            event = np.sort(rng.integers(0, len(whole) + 300, 2)).tolist()
            t = (np.sort(rng.choice(whole["t"], 2)) + np.array([0, 1])).tolist()
            for wanted in (
                {"start_event": event[0], "stop_event": event[1]},
                {"start_us": t[0], "stop_us": t[1]},
                {"start_us": t[1]} | {"stop_event": event[1]},
            ):
                fresh = open_recording(path, options)
                np.testing.assert_array_equal(copies(fresh.chunks(**wanted)), selected(whole, wanted))
                for indexed in (growing, known):
                    np.testing.assert_array_equal(copies(indexed.chunks(**wanted)), selected(whole, wanted))
                    assert indexed.report.as_dict() == fresh.report.as_dict()

    def test_chunk_of_no_events_is_refused(self, file):
        with pytest.raises(ConfigError, match="count must be at least 1, got 0"):
            open_recording(file, self.options).chunks(count=0)

    @pytest.mark.parametrize("damage", ["strict", "skip", "salvage"])
    def test_truncation_at_every_byte(self, tmp_path, damage):
        """The events before the cut and a report that tells of it, or an error that names the byte."""
        events = self.some_events(12, seed=5)
        data = self.encode(events)
        path = tmp_path / "cut"
        options = ReadOptions(format=self.format, sensor_hw=self.sensor_hw, damage=damage)
        for size in range(0, len(data), self.cut_step):
            path.write_bytes(data[:size])
            found, message, report = self.try_to_read(path, options)
            if message is not None:
                assert message.startswith(f"{path}: ")
                assert "byte" in message
                assert "\n" not in message
                continue
            np.testing.assert_array_equal(found, events[: len(found)])
            assert report.events == len(found)
            missing = len(data) - size
            if self.record_bytes and missing < len(events) * self.record_bytes:
                assert len(found) == len(events) - -(-missing // self.record_bytes)
                assert report.partial_records == (missing % self.record_bytes != 0)
                assert not report.partial_records or report.damaged

    def try_to_read(
        self, path: Path, options: ReadOptions
    ) -> tuple[np.ndarray | None, str | None, FileReport]:
        """Return the events and the report, or the message of the error."""
        try:
            recording = open_recording(path, options)
            return recording.read(), None, recording.report
        except EventsError as error:
            return None, str(error), FileReport(str(path), self.format)

    @settings(max_examples=25, deadline=None, suppress_health_check=SUBCLASSED)
    @given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 300), max_events=st.integers(1, 400))
    def test_what_is_written_is_read_back(self, tmp_path, seed, n, max_events):
        events = random_events(seed, n, sensor_hw=self.sensor_hw, span_us=self.span_us)
        before = events.copy()
        path = tmp_path / "written"
        write_recording(path, events, format=self.format, sensor_hw=self.sensor_hw)
        found, report = read_chunks(path, self.options, max_events)
        np.testing.assert_array_equal(found, events)
        np.testing.assert_array_equal(events, before)
        assert report["first_damage_byte"] is None

    def test_writer_takes_chunks_and_gives_the_same_bytes_every_time(self, tmp_path):
        events = self.some_events(500)
        for name, given_events in (("a", events), ("b", events), ("c", iter([events[:123], events[123:]]))):
            write_recording(tmp_path / name, given_events, format=self.format, sensor_hw=self.sensor_hw)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()

    def test_events_outside_the_sensor_are_left_out_and_counted(self, file):
        events = self.some_events(5000)
        height, width = self.sensor_hw[0] // 2, self.sensor_hw[1] // 2
        inside = (events["x"] < width) & (events["y"] < height)
        options = ReadOptions(format=self.format, sensor_hw=(height, width))
        found, report = read_chunks(file, options, 1000)
        np.testing.assert_array_equal(found, events[inside])
        assert report["out_of_sensor"] == np.count_nonzero(~inside)
        assert report["first_damage_byte"] is not None
        with pytest.raises(
            EventsError,
            match=rf"{self.byte_named} .* sensor of {height}x{width}; read with damage 'skip'",
        ):
            open_recording(
                file, ReadOptions(format=self.format, sensor_hw=(height, width), damage="strict")
            ).read()

    def test_backward_steps_are_kept_and_counted(self, tmp_path):
        events = self.some_events(3000)
        events["t"] = 100 + 3 * np.arange(3000)
        events["t"][1000] -= 50  # 3 us later expected, 47 us earlier found
        events["t"][2000] -= 100
        path = tmp_path / "steps"
        path.write_bytes(self.encode(events))
        found, report = read_chunks(path, self.options, 700)
        np.testing.assert_array_equal(found, events)
        assert (report["backward_steps"], report["largest_backward_us"], report["wraps"]) == (2, 97, 0)
        assert report["first_damage_byte"] is None

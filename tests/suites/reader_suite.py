"""What every reader must do, whatever its format: subclass it, and encode events by hand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
        for size in range(len(data)):
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
            EventsError, match=rf"byte \d+: .* sensor of {height}x{width}; read with damage 'skip'"
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

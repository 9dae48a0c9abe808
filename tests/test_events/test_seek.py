"""The index of places: what it holds, what is read with it, and what it must not do."""

import numpy as np
import pytest
from suites.reader_suite import copies, random_events, selected
from test_stream import CutRecording

from events import seek
from events.errors import DamagedRecording
from events.readers.live import open_live
from events.readers.registry import open_recording
from events.recording import Bookmark, FileReport, ReadOptions
from events.seek import SeekIndex
from events.writers.registry import write_recording

HW = (128, 128)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(seek, "BLOCK_EVENTS", 100)


def write(path, events, format="aedat2"):
    write_recording(path, events, format=format, sensor_hw=HW)
    return path


class CountedReading:
    """Counts the events that a recording decodes."""

    def __init__(self, recording, monkeypatch):
        self.events = 0
        for name in ("decode_chunks", "decode_from"):
            monkeypatch.setattr(recording, name, self._counted(getattr(recording, name)))

    def _counted(self, decode):
        def counted(*given, **named):
            for chunk in decode(*given, **named):
                self.events += len(chunk)
                yield chunk

        return counted

    def taken(self):
        events, self.events = self.events, 0
        return events


def test_the_second_range_decodes_only_what_it_touches(tmp_path, monkeypatch, small_blocks):
    events = random_events(1, 1000, sensor_hw=HW, span_us=50_000)
    recording = open_recording(write(tmp_path / "a", events))
    reading = CountedReading(recording, monkeypatch)
    copies(recording.chunks(start_us=0, stop_us=10))
    assert reading.taken() == 1000
    wanted = {"start_us": int(events["t"][420]), "stop_us": int(events["t"][430])}
    np.testing.assert_array_equal(copies(recording.chunks(**wanted)), selected(events, wanted))
    assert reading.taken() == 100
    np.testing.assert_array_equal(copies(recording.chunks(start_event=950)), events[950:])
    assert reading.taken() == 100
    np.testing.assert_array_equal(copies(recording.chunks(start_event=150, stop_event=310)), events[150:310])
    assert reading.taken() == 300
    assert len(copies(recording.chunks(start_us=60_000))) == 0
    assert reading.taken() == 0
    assert recording.report.events == 1000


def test_blocks_apart_are_read_without_those_between(tmp_path, monkeypatch, small_blocks):
    events = random_events(1, 1000, sensor_hw=HW, span_us=50_000)
    events["t"][850] = 7
    recording = open_recording(write(tmp_path / "a", events))
    recording.index()
    reading = CountedReading(recording, monkeypatch)
    wanted = {"start_us": 5, "stop_us": int(events["t"][20])}
    found = copies(recording.chunks(**wanted))
    np.testing.assert_array_equal(found, selected(events, wanted))
    assert found[-1]["t"] == 7
    assert reading.taken() == 200


def test_a_range_of_events_reads_no_further_and_is_gone_on_from(tmp_path, monkeypatch, small_blocks):
    events = random_events(1, 1000, sensor_hw=HW, span_us=50_000)
    recording = open_recording(write(tmp_path / "a", events))
    reading = CountedReading(recording, monkeypatch)
    copies(recording.chunks(start_event=10, stop_event=250))
    assert reading.taken() == 300
    assert recording.report.events == 300
    np.testing.assert_array_equal(copies(recording.chunks(start_event=600)), events[600:])
    assert reading.taken() == 700
    assert [block.stop_event for block in recording.index().blocks] == list(range(100, 1001, 100))
    assert reading.taken() == 0


def test_reading_all_notes_nothing(tmp_path, small_blocks):
    recording = open_recording(write(tmp_path / "a", random_events(1, 1000, sensor_hw=HW, span_us=50_000)))
    recording.read()
    copies(recording.chunks(count=50))
    copies(recording.chunks(duration_us=5000))
    assert recording._index is None


def test_what_a_strict_reading_refuses_is_refused_with_an_index_too(tmp_path, small_blocks):
    events = random_events(1, 1000, sensor_hw=HW, span_us=50_000)
    path = write(tmp_path / "a", events)
    path.write_bytes(path.read_bytes()[:-3])
    recording = open_recording(path, ReadOptions(damage="strict"))
    wanted = {"start_us": int(events["t"][420]), "stop_us": int(events["t"][430])}
    for _ in range(2):
        chunks = recording.chunks(**wanted)
        np.testing.assert_array_equal(next(chunks), selected(events, wanted))
        with pytest.raises(DamagedRecording, match="the file ends inside a record"):
            next(chunks)
    np.testing.assert_array_equal(copies(recording.chunks(stop_event=999)), events[:999])


def test_an_index_stays_small(tmp_path, monkeypatch):
    monkeypatch.setattr(seek, "BLOCK_EVENTS", 10)
    monkeypatch.setattr(seek, "MOST_BLOCKS", 8)
    events = random_events(1, 1003, sensor_hw=HW, span_us=50_000)
    recording = open_recording(write(tmp_path / "a", events))
    blocks = recording.index().blocks
    assert len(blocks) <= 8
    assert [block.first_event for block in blocks[1:]] == [block.stop_event for block in blocks[:-1]]
    for wanted in ({"start_event": 333, "stop_event": 777}, {"start_us": 20_000, "stop_us": 30_000}):
        np.testing.assert_array_equal(copies(recording.chunks(**wanted)), selected(events, wanted))


def test_two_ranges_at_once_do_not_confuse_the_index(tmp_path, small_blocks):
    events = random_events(1, 1000, sensor_hw=HW, span_us=50_000)
    recording = open_recording(write(tmp_path / "a", events))
    first, second = recording.chunks(start_event=5), recording.chunks(start_us=0)
    next(first), next(first), next(second), next(first), next(second), next(second)
    parts = [chunk.copy() for pair in zip(first, second, strict=False) for chunk in pair]
    assert parts
    for start in range(0, 1000, 130):
        wanted = {"start_event": start, "stop_event": start + 77}
        np.testing.assert_array_equal(copies(recording.chunks(**wanted)), selected(events, wanted))


def test_late_events_are_counted_once_with_and_without_index(tmp_path, small_blocks):
    events = random_events(1, 1000, sensor_hw=HW, span_us=50_000)
    events["t"][500:700] = np.maximum(events["t"][500:700] - 3_000, 0)
    path = write(tmp_path / "a", events)
    cut = {"duration_us": 500, "start_us": 10_000, "stop_us": 40_000}
    recording = open_recording(path)
    found = []
    for _ in range(2):
        windows = [window["x"].tolist() for window in recording.chunks(**cut)]
        found.append((windows, recording.report.as_dict()))
    assert found[0] == found[1]
    assert recording.report.late_events > 0
    copies(recording.chunks(start_us=10_000))
    assert recording.report.late_events == 0


def test_what_arrives_live_is_read_through_and_not_noted(tmp_path, small_blocks):
    events = random_events(1, 1000, sensor_hw=HW, span_us=50_000)
    path = write(tmp_path / "a", events)
    recording = open_live(path, follow=True, timeout_s=0.05)
    np.testing.assert_array_equal(copies(recording.chunks(start_event=500)), events[500:])
    assert recording._index.blocks == []
    assert recording._index.report is None


class KnownToTheFile(CutRecording):
    """A recording that brings an index, and goes on from a number of events."""

    def __init__(self, events):
        super().__init__(events, [])
        self.decoded, self._all = 0, events

    def stored_index(self):
        index, report = SeekIndex(), FileReport("memory", "memory", notes=["by the file's own index"])
        for start in range(0, len(self._all), 100):
            block = self._all[start : start + 100]
            behind = Bookmark(start + len(block), FileReport("memory", "memory", events=start + len(block)))
            index.add(start + len(block), (int(block["t"].min()), int(block["t"].max())), behind)
        index.report = report
        return index

    def decode_from(self, place, *, max_events):
        self.report = place.report.copy()
        for chunk in np.split(self._all[place.at :], range(50, len(self._all) - place.at, 50)):
            self.decoded += len(chunk)
            yield chunk


def test_an_index_of_the_file_makes_the_first_range_fast_already():
    events = random_events(1, 1000, sensor_hw=HW, span_us=50_000)
    recording = KnownToTheFile(events)
    wanted = {"start_us": int(events["t"][420]), "stop_us": int(events["t"][430])}
    np.testing.assert_array_equal(copies(recording.chunks(**wanted)), selected(events, wanted))
    assert recording.decoded == 100
    assert recording.report.notes == ["by the file's own index"]
    assert recording.index().events == 1000
    assert recording.decoded == 100


def test_repaired_time_is_the_same_from_the_middle(tmp_path, small_blocks):
    events = random_events(1, 1000, sensor_hw=HW, span_us=50_000)
    events["t"][300:] -= np.minimum(events["t"][300:], 9_000)
    path = write(tmp_path / "a", events)
    options = ReadOptions(timestamps="dat2mat", orientation="dat2mat")
    whole = open_recording(path, options).read()
    assert (np.diff(whole["t"]) >= 0).all()
    recording = open_recording(path, options)
    recording.index()
    np.testing.assert_array_equal(copies(recording.chunks(start_event=640)), whole[640:])

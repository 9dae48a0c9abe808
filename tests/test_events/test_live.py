"""Recordings from pipes and from files that still grow."""

import os
import threading
import time
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from suites.reader_suite import random_events

from events.errors import ConfigError, EventsError, UnknownFormat
from events.readers.live import LIVE_FORMATS, is_live, open_live
from events.readers.registry import open_recording
from events.recording import ReadOptions
from events.writers.registry import write_recording

HW = (128, 128)


def recorded(tmp_path, n, format):
    events = random_events(7, n, sensor_hw=HW, span_us=4_000_000)
    write_recording(tmp_path / "recorded", events, format=format, sensor_hw=HW)
    return events, (tmp_path / "recorded").read_bytes()


@contextmanager
def in_background(work):
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join(timeout=20)
        assert not thread.is_alive()


@contextmanager
def pipe_of(tmp_path, data, piece=10_007):
    """A FIFO into which another thread writes, in pieces that are no multiple of a record."""
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def write():
        with suppress(BrokenPipeError), path.open("wb", buffering=0) as stream:
            for start in range(0, len(data), piece):
                stream.write(data[start : start + piece])

    with in_background(write):
        yield path


@pytest.mark.parametrize("format", [*LIVE_FORMATS, "npz", "csv"])
@pytest.mark.parametrize("n", [300, 40_000])
def test_a_pipe_gives_what_the_file_gives(tmp_path, format, n):
    events, data = recorded(tmp_path, n, format)
    with pipe_of(tmp_path, data) as path:
        assert is_live(path)
        recording = open_live(path)
        assert recording.format == format
        found = recording.read()
    np.testing.assert_array_equal(found, events)
    assert recording.report.bytes_total == recording.report.bytes_read == len(data)
    assert not recording.report.damaged


@pytest.mark.parametrize("cut", [{"count": 1000}, {"duration_us": 100_000}])
def test_a_pipe_is_cut_as_a_file_is(tmp_path, cut):
    _, data = recorded(tmp_path, 30_000, "aedat2")
    expected = [chunk.copy() for chunk in open_recording(tmp_path / "recorded").chunks(**cut)]
    with pipe_of(tmp_path, data) as path:
        found = [chunk.copy() for chunk in open_live(path).chunks(**cut)]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_pipe_cut_inside_a_record_is_reported(tmp_path):
    events, data = recorded(tmp_path, 20_000, "aedat2")
    with pipe_of(tmp_path, data[:-3]) as path:
        recording = open_live(path)
        np.testing.assert_array_equal(recording.read(), events[:-1])
    assert recording.report.partial_records == 1
    assert recording.report.first_damage_byte == len(data) - 8


def test_a_pipe_is_read_only_once(tmp_path):
    _, data = recorded(tmp_path, 20_000, "aedat2")
    with pipe_of(tmp_path, data) as path:
        recording = open_live(path)
        recording.read()
        with pytest.raises(EventsError, match="is a pipe, which can be read only once"):
            recording.read()


def test_an_empty_pipe_is_no_recording(tmp_path):
    with (
        pipe_of(tmp_path, b"") as path,
        pytest.raises(UnknownFormat, match="ended before its first byte"),
    ):
        open_live(path)


@pytest.mark.parametrize("format", ["aedat2", "dat", "evt2", "evt21", "evt3"])
def test_a_file_is_followed_as_it_grows(tmp_path, format):
    events, data = recorded(tmp_path, 30_000, format)
    path = tmp_path / "growing"
    path.write_bytes(data[:5001])

    def grow():
        with path.open("ab", buffering=0) as stream:
            for start in range(5001, len(data), 30_011):
                time.sleep(0.01)
                stream.write(data[start : start + 30_011])

    with in_background(grow):
        chunks = []
        recording = open_live(path, follow=True, timeout_s=5)
        reading = recording.chunks()
        while sum(map(len, chunks)) < 30_000:
            chunks.append(next(reading).copy())
    assert len(chunks) > 1  # delivered as they came
    np.testing.assert_array_equal(np.concatenate(chunks), events)


def test_following_ends_with_the_timeout_or_when_stopped(tmp_path):
    events, data = recorded(tmp_path, 100, "aedat2")
    recording = open_live(tmp_path / "recorded", follow=True, timeout_s=0.05)
    np.testing.assert_array_equal(recording.read(), events)
    assert recording.report.bytes_total == len(data)
    feeds = []
    recording = open_live(tmp_path / "recorded", follow=True, on_feed=feeds.append)
    threading.Timer(0.1, feeds[0].stop).start()
    np.testing.assert_array_equal(recording.read(), events)


def test_interrupting_a_wait_ends_the_recording(tmp_path, monkeypatch):
    events, _ = recorded(tmp_path, 100, "aedat2")

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("events.readers.live.time.sleep", interrupt)
    recording = open_live(tmp_path / "recorded", follow=True)
    np.testing.assert_array_equal(recording.read(), events)


def test_a_format_that_seeks_cannot_be_followed(tmp_path):
    recorded(tmp_path, 100, "npz")
    with pytest.raises(ConfigError, match="npz cannot be read while it grows, only aedat1, aedat2, bin40"):
        open_live(tmp_path / "recorded", follow=True)


def test_a_spooled_pipe_is_bounded_and_leaves_no_file(tmp_path, monkeypatch):
    _, data = recorded(tmp_path, 60_000, "npz")
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spool))
    with pipe_of(tmp_path, data) as path:
        recording = open_live(path)
        assert len(list(spool.iterdir())) == 1
        assert len(recording.read()) == 60_000
        del recording
    assert list(spool.iterdir()) == []
    monkeypatch.setattr("events.readers.live.SPOOL_BYTES", 100)
    (tmp_path / "pipe").unlink()
    with (
        pipe_of(tmp_path, data) as path,
        pytest.raises(EventsError, match="more than 100 bytes of a format that needs to seek"),
    ):
        open_live(path)
    assert list(spool.iterdir()) == []


def test_bin40_without_a_known_end_takes_the_largest_sensor(tmp_path):
    _, data = recorded(tmp_path, 30_000, "bin40")
    with pipe_of(tmp_path, data) as path:
        recording = open_live(path)
        assert recording.sensor_hw == (240, 256)
        recording.read()
    recording = open_live(tmp_path / "recorded", ReadOptions(sensor_hw=HW), follow=True, timeout_s=0)
    assert recording.sensor_hw == HW
    assert len(recording.read()) == 30_000

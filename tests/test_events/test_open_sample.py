"""Several samples of one file: it is opened once, and each is as if it were the only one."""

import os
import threading

import numpy as np
from suites.reader_suite import copies, random_events

from events.readers.registry import DEFAULT_OPTIONS, open_recording
from events.recording import ReadOptions
from events.store.samples import open_sample, sample_crc32c
from events.store.shard import file_crc32c
from events.writers.registry import write_recording

HW = (128, 128)


def write(path, seed):
    events = random_events(seed, 2000, sensor_hw=HW, span_us=50_000)
    write_recording(path, events, format="aedat2", sensor_hw=HW)
    path.write_bytes(path.read_bytes()[:-1])
    return events


def opened(path, read=DEFAULT_OPTIONS):
    return open_sample("folder", path.parent, path.name, read)


def test_parts_of_a_file_come_from_one_opened_recording_with_the_report_of_a_new_one(tmp_path):
    path = tmp_path / "a"
    write(path, 1)
    first = opened(path)
    for start, stop in ((0, 10_000), (30_000, 50_000), (20_000, 21_000)):
        recording = opened(path)
        assert recording is first
        fresh = open_recording(path)
        assert recording.report.as_dict() == fresh.report.as_dict()
        part = {"start_us": start, "stop_us": stop}
        np.testing.assert_array_equal(copies(recording.chunks(**part)), copies(fresh.chunks(**part)))
        assert recording.report.as_dict() == fresh.report.as_dict()
        assert recording.report.partial_records == 1


def test_another_file_other_options_a_changed_file_or_another_thread_open_anew(tmp_path):
    path = tmp_path / "a"
    write(path, 1)
    first = opened(path)
    assert opened(path, ReadOptions(damage="salvage")) is not first
    write(tmp_path / "b", 2)
    assert sample_crc32c(opened(tmp_path / "b")) != sample_crc32c(opened(path))
    assert opened(tmp_path / "b") is not opened(path)
    before = opened(path)
    events = write(path, 3)
    os.utime(path, ns=(1, 1))
    assert opened(path) is not before
    np.testing.assert_array_equal(opened(path).read(), events[:-1])
    assert sample_crc32c(opened(path)) == sample_crc32c(opened(path)) == file_crc32c(path)
    found = []
    thread = threading.Thread(target=lambda: found.append(opened(path)))
    thread.start()
    thread.join()
    assert found[0] is not opened(path)

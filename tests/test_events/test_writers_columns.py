"""NumPy files that are written as events come: what NumPy itself would write, in memory of a chunk."""

import io
import tracemalloc

import numpy as np
from suites.reader_suite import random_events

from events.writers.registry import write_recording

SENSOR_HW = (48, 64)


def test_same_bytes_as_of_numpy(tmp_path):
    events = random_events(1, 3000, sensor_hw=SENSOR_HW, span_us=9000)
    for file_format in ("npy", "npz"):
        chunks = iter([events[:1], events[1:1000], events[1000:]])
        write_recording(tmp_path / file_format, chunks, format=file_format, sensor_hw=SENSOR_HW)
    whole, columns = io.BytesIO(), io.BytesIO()
    np.save(whole, np.load(tmp_path / "npy"))
    np.testing.assert_array_equal(np.load(tmp_path / "npy"), events)
    assert (tmp_path / "npy").read_bytes() == whole.getvalue()
    arrays = {name: np.ascontiguousarray(events[name]) for name in "txyp"}
    np.savez_compressed(columns, **arrays, sensor_hw=np.array(SENSOR_HW))
    assert (tmp_path / "npz").read_bytes() == columns.getvalue()


def test_memory_does_not_grow_with_the_events(tmp_path):
    chunk = random_events(2, 50_000, sensor_hw=SENSOR_HW, span_us=9000)
    peaks = []
    for file_format in ("npy", "npz"):
        for times in (2, 12):
            tracemalloc.start()
            chunks = (chunk for _ in range(times))
            write_recording(tmp_path / file_format, chunks, format=file_format, sensor_hw=SENSOR_HW)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert max(peaks) < 4 * chunk.nbytes
    assert len(np.load(tmp_path / "npy")) == 12 * 50_000

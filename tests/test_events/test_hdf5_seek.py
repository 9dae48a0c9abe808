"""HDF5: times and events found by the file's own index of time, and indexes that are not true."""

import h5py
import numpy as np
import pytest
from suites.reader_suite import random_events
from test_hdf5 import columns, ecf_file, prophesee

import events.readers.hdf5_blocks as hdf5_blocks
from events.readers.registry import open_recording
from events.recording import ReadOptions

EVENTS = 3000
ROWS = 250
SPAN_US = 900_000
OFFSET_US = 51_648_434_999
HW = (128, 128)
INDEXES = {
    "dsec": "ms_to_idx",
    "m3ed": "prophesee/left/ms_map_idx",
    "prophesee": "CD/indexes",
    "ecf": "CD/indexes",
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(hdf5_blocks, "ROWS_AT_A_TIME", ROWS)


def some_events():
    return random_events(1, EVENTS, sensor_hw=HW, span_us=SPAN_US)


def entries(events) -> np.ndarray:
    """Prophesee's index, an entry each 2000 us."""
    times = np.arange(0, SPAN_US + 2000, 2000)
    found = np.zeros(len(times), [("id", "<u8"), ("ts", "<i8")])
    found["id"], found["ts"] = np.searchsorted(events["t"], times), times
    return found


def write(path, layout, events, index=None):
    """Write a file of a layout with chunks of 250 rows; `index` None is the true one."""
    true = entries(events)
    if layout in ("dsec", "m3ed"):
        true = np.searchsorted(events["t"], np.arange(0, SPAN_US + 1000, 1000)).astype("<u8")
    if layout == "ecf":
        path.write_bytes(ecf_file(events, chunk_rows=ROWS))
    with h5py.File(path, "a") as file:
        if layout in ("dsec", "m3ed"):
            group = "events" if layout == "dsec" else "prophesee/left"
            for name, values in columns(events).items():
                file.create_dataset(f"{group}/{name}", data=values, chunks=(ROWS,), compression="gzip")
        elif layout == "prophesee":
            file.create_dataset("CD/events", data=prophesee(events), chunks=(ROWS,))
        if layout == "dsec":
            file["t_offset"] = np.int64(OFFSET_US)
        file[INDEXES[layout]] = true if index is None else index
    if layout == "dsec":
        events = events.copy()
        events["t"] += OFFSET_US
    return events


def read_range(recording, wanted):
    return np.concatenate([recording.read()[:0], *(chunk.copy() for chunk in recording.chunks(**wanted))])


def ranges(events):
    rng = np.random.default_rng(2)
    first_us = int(events["t"][0])
    for _ in range(10):
        start, stop = (int(t) + first_us for t in np.sort(rng.integers(-1000, SPAN_US + 1000, 2)))
        kept = (events["t"] >= start) & (events["t"] < stop)
        yield {"start_us": start, "stop_us": stop}, events[kept]
        start, stop = (int(at) for at in np.sort(rng.integers(0, len(events), 2)))
        yield {"start_event": start, "stop_event": stop}, events[start:stop]


@pytest.mark.parametrize("layout", INDEXES)
def test_ranges_are_found_by_the_index(tmp_path, layout):
    path = tmp_path / "a.h5"
    events = write(path, layout, some_events())
    index = open_recording(path).stored_index()
    assert len(index.blocks) == EVENTS // ROWS
    assert (index.report.t_first_us, index.report.t_last_us) == (int(events["t"][0]), int(events["t"][-1]))
    for wanted, expected in ranges(events):
        recording = open_recording(path)
        np.testing.assert_array_equal(read_range(recording, wanted), expected)
        told = [f"told by /{INDEXES[layout]}; the recording was not read through"]
        assert recording.report.notes == (told if "start_us" in wanted else [])  # numbers are counted
    np.testing.assert_array_equal(open_recording(path).read(), events)


@pytest.mark.parametrize("layout", ["dsec", "prophesee"])
def test_only_the_blocks_of_a_range_and_their_neighbours_are_read(tmp_path, layout, monkeypatch):
    path = tmp_path / "a.h5"
    events = write(path, layout, some_events())
    seen = set()
    read = hdf5_blocks.RowReader.read
    monkeypatch.setattr(
        hdf5_blocks.RowReader, "read", lambda self, first, stop: seen.add(first) or read(self, first, stop)
    )
    recording = open_recording(path)
    wanted = {"start_us": int(events["t"][1600]), "stop_us": int(events["t"][1650]) + 1}
    found = [chunk.copy() for chunk in recording.chunks(**wanted)]
    np.testing.assert_array_equal(np.concatenate(found)["t"], events["t"][1600:1651])
    assert seen == {0, EVENTS - 1, 1250, 1500, 1750}  # the first and the last event for the report


@pytest.mark.parametrize("layout", ["dsec", "m3ed", "prophesee"])
@pytest.mark.parametrize("moved", [400, -400])
def test_an_index_that_is_not_true_is_left_and_named(tmp_path, layout, moved):
    path = tmp_path / "a.h5"
    events = write(path, layout, some_events())
    with h5py.File(path, "a") as file:
        index = file[INDEXES[layout]]
        rows = index[()]
        numbers = rows if rows.dtype.names is None else rows["id"]
        numbers[:] = np.clip(numbers.astype(np.int64) + moved, 0, EVENTS)
        index[...] = rows
    wanted = {"start_us": int(events["t"][1600]), "stop_us": int(events["t"][1650]) + 1}
    recording = open_recording(path)
    for _ in range(2):
        np.testing.assert_array_equal(read_range(recording, wanted)["t"], events["t"][1600:1651])
        assert f"as /{INDEXES[layout]} tells; the recording was read through" in recording.report.notes[-1]
        assert recording.report.events == EVENTS


@pytest.mark.parametrize(("row", "lost"), [(1250, slice(1250, 1500)), (2800, slice(2750, 3000))])
def test_rows_that_are_not_there_are_found_out(tmp_path, row, lost):
    """A chunk that cannot be unpacked, also of the last block: numbers of events are not those of rows."""
    path = tmp_path / "a.h5"
    events = write(path, "dsec", some_events())
    with h5py.File(path, "a") as file:
        x = file["events/x"][()]
        del file["events/x"]
        file.create_dataset("events/x", data=x, chunks=(50,), compression="gzip")
        place = file["events/x"].id.get_chunk_info_by_coord((row,))
    data = bytearray(path.read_bytes())
    data[place.byte_offset : place.byte_offset + place.size] = bytes(place.size)
    path.write_bytes(data)
    kept = np.delete(events, lost)
    start_us = int(events["t"][lost.start - 10])
    recording = open_recording(path)
    np.testing.assert_array_equal(read_range(recording, {"start_us": start_us}), kept[kept["t"] >= start_us])
    assert recording.report.notes[-1].endswith("the recording was read through")
    assert recording.report.bytes_skipped > 0


@pytest.mark.parametrize(
    "index",
    [
        np.arange(900)[::-1],
        np.full(900, EVENTS + 1),
        np.arange(900.0),
        np.zeros((2, 3), np.int64),
        np.zeros(0, np.int64),
    ],
)
def test_an_index_that_does_not_fit_is_not_used(tmp_path, index):
    path = tmp_path / "a.h5"
    events = write(path, "dsec", some_events(), index=index)
    recording = open_recording(path)
    assert recording.stored_index() is None
    wanted = {"start_event": 1234, "stop_event": 2000}
    np.testing.assert_array_equal(read_range(recording, wanted), events[1234:2000])


def test_when_an_index_is_not_trusted(tmp_path):
    path = tmp_path / "a.h5"
    events = write(path, "dsec", some_events())
    for options in (ReadOptions(damage="strict"), ReadOptions(sensor_hw=HW)):
        assert open_recording(path, options).stored_index() is None
    assert open_recording(path).start_at(int(events["t"][100])).stored_index() is None

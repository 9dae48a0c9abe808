"""Events in packed columns: whatever a clock or a sensor gives comes back, by our reader and by Zarr's."""

import shutil

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from events.datasets.registry import list_samples
from events.errors import StoreError
from events.recording import EVENT_DTYPE, ReadOptions
from events.store.attributes import read_attributes, write_attributes
from events.store.event_columns import EventPacker
from events.store.event_layout import CHUNK, column_types
from events.store.event_packing import pack_events, pack_high, unpack_events
from events.store.event_reader import EventStore
from events.store.event_writer import convert_events

NARROW, WIDE = column_types((128, 128)), column_types(None)
TIMES = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 10_000),
    st.sampled_from([2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**32, 2**63 - 1, -(2**63)]),
)
EVENTS = st.tuples(TIMES, st.integers(0, 65_535), st.integers(0, 65_535), st.booleans())


def as_events(rows):
    return np.array(rows, EVENT_DTYPE)


@given(
    rows=st.lists(EVENTS, min_size=1, max_size=40),
    types=st.sampled_from([NARROW, WIDE]),
    cut=st.integers(0, 40),
)
def test_every_event_comes_back(rows, types, cut):
    events = as_events(rows)
    words, n = events.view(np.uint64), len(events)
    dt, xp, y, high = (np.zeros(n, types[name]) for name in ("dt", "xp", "y", "high"))
    fits = pack_events(words, dt, xp, y)
    pack_high(words, 8 * xp.itemsize - 1, 8 * y.itemsize, high)
    assert fits == (not high.any())
    if fits:
        high = high[:0]
    # Read in two pieces, as a range of events is.
    cut, found = min(cut, n), np.zeros(n, EVENT_DTYPE)
    t = unpack_events(dt[:cut], xp[:cut], y[:cut], high[:cut], events["t"][0], found[:cut].view(np.uint64))
    unpack_events(dt[cut:], xp[cut:], y[cut:], high[cut:], t, found[cut:].view(np.uint64))
    assert found.tolist() == events.tolist()


def test_steps_that_fit_need_no_more():
    """The clock falls, stands, and leaps by as much as 31 bits hold."""
    events = as_events([(5, 0, 255, 1), (2, 127, 0, 0), (2, 1, 1, 1), (2 + 2**31 - 1, 2, 2, 0)])
    encoded = EventPacker(NARROW, "fast").encode(events)
    assert encoded["high"] is None
    events["t"][3] += 1
    assert EventPacker(NARROW, "fast").encode(events)["high"] is not None


@pytest.mark.parametrize(
    ("sensor_hw", "xp", "y"),
    [((256, 128), "uint8", "uint8"), ((257, 129), "uint16", "uint16"), (None, "uint16", "uint16")],
)
def test_columns_are_the_narrowest_for_the_sensor(sensor_hw, xp, y):
    types = column_types(sensor_hw)
    assert (types["xp"], types["y"]) == (xp, y)


def odd_events(n=2 * CHUNK + 500):
    """Return events of a clock that falls and leaps, on a sensor whose x takes 16 bits."""
    rng = np.random.default_rng(3)
    events = np.zeros(n, EVENT_DTYPE)
    events["t"] = np.cumsum(rng.integers(-3, 9, n))
    events["t"][CHUNK + 100 :] += 2**40
    events["t"][CHUNK + 200 :] -= 2**39
    events["x"] = rng.integers(0, 128, n)
    events["x"][CHUNK + 50 : CHUNK + 60] = 65_535
    events["y"] = rng.integers(0, 200, n)
    events["p"] = rng.integers(0, 2, n)
    return events


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Two recordings; the first is of a small sensor, for which the columns are made."""
    root = tmp_path_factory.mktemp("odd") / "odd"
    for name, events in (("0", odd_events(100)), ("1", odd_events())):
        (root / "all").mkdir(parents=True, exist_ok=True)
        np.savez(root / "all" / f"{name}.npz", **{field: events[field] for field in ("t", "x", "y", "p")})
    return root


@pytest.fixture(scope="module")
def store(tree, tmp_path_factory):
    path = tmp_path_factory.mktemp("events") / "odd.zarr"
    assert convert_events(list_samples("folder", tree), path, read=ReadOptions(columns="t:us,x,y,p")).ok == 2
    return path


def test_what_does_not_fit_is_stored_beside(store):
    found = EventStore(store).recording(1)
    np.testing.assert_array_equal(found.read(), odd_events())
    assert read_attributes(store)["column_types"] == NARROW
    # Of the three chunks of the second recording, only the one in the middle needs it.
    assert [file.name for file in (store / "high").glob("c.*")] == ["c.1"]


def test_zarr_alone_reads_all_of_it(store):
    """By the formula of docs/store.md."""
    group = zarr.open_group(store, mode="r")
    start, n = group["first_event"][1], group["n_events"][1]
    dt, xp, y, high = (group[name][start : start + n] for name in ("dt", "xp", "y", "high"))
    x_bits, y_bits = 8 * xp.itemsize - 1, 8 * y.itemsize
    step = dt + (high >> 32 << 32).astype(np.int64)
    chunks = range(0, n, CHUNK)
    t0 = group["chunk_t0"][start // CHUNK :]
    t = np.concatenate([t0[at // CHUNK] + np.cumsum(step[at : at + CHUNK]) for at in chunks])
    x = (xp >> 1) + ((high & 0xFFFF) << x_bits)
    row = y + ((high >> 16 & 0xFFFF) << y_bits)
    for name, values in (("t", t), ("x", x), ("y", row), ("p", xp & 1)):
        np.testing.assert_array_equal(values, odd_events()[name])


@pytest.mark.parametrize("start", [0, 1, CHUNK - 1, CHUNK, CHUNK + 150, CHUNK + 250, 2 * CHUNK + 1])
def test_events_from_any_position(store, start):
    recording, whole = EventStore(store).recording(1), odd_events()
    stop = start + CHUNK // 2
    chunks = [chunk.copy() for chunk in recording.chunks(count=1000, start_event=start, stop_event=stop)]
    np.testing.assert_array_equal(np.concatenate(chunks), whole[start:stop])


@pytest.mark.parametrize(
    "times", [(None, 3), (5, 100), (2**40 - 2**39, None), (2**40, 2**41), (-50, 2**39 + 10)]
)
def test_a_range_of_an_odd_clock(store, times):
    recording, whole = EventStore(store).recording(1), odd_events()
    start, stop = times
    inside = (whole["t"] >= (-(2**62) if start is None else start)) & (
        whole["t"] < (2**62 if stop is None else stop)
    )
    parts = [chunk.copy() for chunk in recording.chunks(start_us=start, stop_us=stop)]
    np.testing.assert_array_equal(np.concatenate([whole[:0], *parts]), whole[inside])


def test_a_recording_that_needs_less_leaves_nothing_behind(tree, store, tmp_path):
    mended, path = tmp_path / "odd", tmp_path / "odd.zarr"
    shutil.copytree(tree, mended)
    shutil.copytree(store, path)
    events = odd_events()
    events["x"] %= 128
    events["t"] = np.arange(len(events))
    columns = {field: events[field] for field in ("t", "x", "y", "p")}
    np.savez(mended / "all" / "1.npz", **columns)
    (path / "xp" / "c.1").unlink()
    options = ReadOptions(columns="t:us,x,y,p")
    assert convert_events(list_samples("folder", mended), path, read=options).kept == 1
    assert list((path / "high").glob("c.*")) == []
    np.testing.assert_array_equal(EventStore(path).recording(1).read(), events)


def test_the_layout_before_is_refused(store, tmp_path):
    path = tmp_path / "old.zarr"
    shutil.copytree(store, path)
    write_attributes(path, read_attributes(path) | {"schema": 1})
    with pytest.raises(StoreError, match=r"schema 1, kind 'events', expected schema 2.*; convert again"):
        EventStore(path)

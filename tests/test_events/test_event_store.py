"""The event store: the same events back, ranges by its index, and frames as from the recordings."""

import json
import shutil

import numpy as np
import pytest
import zarr
from suites.store_tree import SENSOR_HW, list_tree, moving_dot, write_tree

from events.binning.settings import BinSettings
from events.cli.program import app
from events.convert import ConvertSettings, convert
from events.errors import StoreError
from events.store import event_task
from events.store.attributes import read_attributes, write_attributes
from events.store.event_layout import SHARD
from events.store.event_reader import EventStore
from events.store.event_writer import convert_events
from events.store.millisecond_index import MillisecondIndex
from events.writers.registry import write_recording


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Nine recordings; one of them a file that is none, one with a clock that falls."""
    root = write_tree(tmp_path_factory.mktemp("tree") / "dots", per_class=3)
    (root / "cat" / "1.aedat").write_bytes(b"no recording at all\x00\xff" * 40)
    events = moving_dot(7)
    events["t"][200:] -= 5_000
    write_recording(root / "dog" / "2.aedat", events, format="aedat2", sensor_hw=SENSOR_HW)
    return root


@pytest.fixture(scope="module")
def store(tree, tmp_path_factory):
    path = tmp_path_factory.mktemp("events") / "dots.zarr"
    summary = convert_events(list_tree(tree), path)
    assert (summary.files, summary.ok, summary.failed, summary.kept) == (9, 8, 1, 0)
    return path


def everything(path):
    """Return all files but the attributes, which name the time and the command."""
    files = [file for file in path.rglob("*") if file.is_file() and file != path / "zarr.json"]
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def shards(path):
    return {file.name: file.read_bytes() for file in sorted((path / "frames").glob("c.*"))}


@pytest.mark.parametrize(
    "binning",
    [
        BinSettings(frames=3),
        BinSettings(frames=4, split="time", tail="drop", value="binary"),
        BinSettings(frames=5, split="duration", window_us=3000, size_hw=(32, 32)),
    ],
)
def test_frames_from_the_store_are_those_of_the_recordings(tree, store, tmp_path, binning):
    settings = ConvertSettings(binning=binning, shard_samples=4)
    convert(list_tree(tree), tmp_path / "direct.zarr", settings)
    convert(EventStore(store).listing(), tmp_path / "again.zarr", settings)
    assert shards(tmp_path / "again.zarr") == shards(tmp_path / "direct.zarr")
    for name in ("label", "split", "n_events", "t_edges_us", "status", "source_index"):
        found = (tmp_path / "again.zarr" / name).rglob("c*")
        for file in (file for file in found if file.is_file()):
            other = tmp_path / "direct.zarr" / file.relative_to(tmp_path / "again.zarr")
            assert file.read_bytes() == other.read_bytes(), name


def test_events_come_back_and_zarr_reads_them(store):
    opened = EventStore(store)
    first = opened.recording(0)
    np.testing.assert_array_equal(first.read(), moving_dot(0))
    assert first.report.events == 400
    group = zarr.open_group(store, mode="r")
    start, n = group["first_event"][2], group["n_events"][2]
    assert start % SHARD == 0
    for name in ("t", "x", "y", "p"):
        np.testing.assert_array_equal(group[name][start : start + n], opened.recording(2).read()[name])
    assert group["status"][:].tolist().count(2) == 1


@pytest.mark.parametrize("index", [0, 5])
def test_a_range_of_time_is_that_of_all_events(store, index):
    recording = EventStore(store).recording(index)
    whole = recording.read()
    for start, stop in [(0, 5000), (3210, 9876), (9000, 9000), (15_000, 10**9), (None, 4000), (12_345, None)]:
        inside = np.ones(len(whole), bool)
        if start is not None:
            inside &= whole["t"] >= start
        if stop is not None:
            inside &= whole["t"] < stop
        parts = [chunk.copy() for chunk in recording.chunks(start_us=start, stop_us=stop)]
        found = np.concatenate(parts) if parts else whole[:0]
        np.testing.assert_array_equal(found, whole[inside])


def test_the_index_narrows_what_is_read(store):
    assert EventStore(store).recording(0).positions(5000, 6000) == (80, 100)


def test_the_index_of_the_millisecond():
    index = MillisecondIndex()
    index.add(np.array([1500, 1600, 4000, 3000]), 0)
    index.add(np.array([3500, 5999, 6000]), 4)
    assert index.origin == 1
    assert index.positions().tolist() == [0, 2, 2, 2, 5, 6]
    assert not index.rising


def test_a_leap_of_the_clock_leaves_no_index():
    index = MillisecondIndex()
    index.add(np.array([0, 1 << 60]), 0)
    assert index.length == 0
    assert len(index.positions()) == 0


def test_an_unfinished_store_is_refused_and_continued(tree, store, tmp_path, monkeypatch):
    path = tmp_path / "broken.zarr"
    calls = []
    real = event_task.open_sample

    def stop_at_fourth(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(event_task, "open_sample", stop_at_fourth)
    with pytest.raises(KeyboardInterrupt):
        convert_events(list_tree(tree), path)
    with pytest.raises(StoreError, match="not finished"):
        EventStore(path)
    monkeypatch.undo()
    assert convert_events(list_tree(tree), path).kept == 3
    assert everything(path) == everything(store)


def test_two_processes_write_the_same_bytes(tree, store, tmp_path):
    seen = []
    path = tmp_path / "two.zarr"
    assert convert_events(list_tree(tree), path, workers=2, progress=seen.append).ok == 8
    assert everything(path) == everything(store)
    assert (seen[-1].files_ok, seen[-1].files_failed, seen[-1].events) == (8, 1, 8 * 400)


def test_other_settings_are_refused(tree, store):
    with pytest.raises(StoreError, match="other settings"):
        convert_events(list_tree(tree), store, codec="small")


def test_a_damaged_chunk_is_named(store, tmp_path):
    path = tmp_path / "damaged.zarr"
    shutil.copytree(store, path)
    shard = path / "t" / "c.0"
    content = bytearray(shard.read_bytes())
    content[50] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StoreError, match=r"chunk 0 .* checksum is wrong"):
        EventStore(path).recording(0).read()


def test_another_schema_is_refused(store, tmp_path):
    path = tmp_path / "newer.zarr"
    shutil.copytree(store, path)
    write_attributes(path, read_attributes(path) | {"schema": 99})
    with pytest.raises(StoreError, match="schema 99"):
        EventStore(path)


def test_the_command_line_stores_events_and_bins_them(tree, tmp_path):
    from typer.testing import CliRunner

    run = CliRunner().invoke
    made = run(app, ["convert", "folder", str(tree), str(tmp_path / "e.zarr"), "--events", "--json"])
    assert made.exit_code == 3  # one recording cannot be read
    assert json.loads(made.stdout)["ok"] == 8
    binned = run(
        app, ["convert", "event-store", str(tmp_path / "e.zarr"), str(tmp_path / "f.zarr"), "--workers", "1"]
    )
    assert binned.exit_code == 3
    assert read_attributes(tmp_path / "f.zarr")["counts"]["ok"] == 8

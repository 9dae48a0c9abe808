"""Conversion where one file holds several samples: each gets its own events, however it is made."""

import json
from itertools import islice

import numpy as np
import pytest
from suites.store_tree import SENSOR_HW, file_bytes, frames_by_hand, moving_dot

from events.binning.settings import BinSettings
from events.convert import ConvertSettings, convert
from events.datasets.registry import list_samples
from events.errors import StoreError
from events.estimate import estimate
from events.store.check import check_store
from events.store.manifest import read_sources
from events.store.plan import plan_conversion
from events.store.reader import open_store
from events.writers.registry import write_recording

SETTINGS = ConvertSettings(binning=BinSettings(frames=4), shard_samples=3)
# moving_dot has an event every 50 us from 1000 on; the second and the third gesture overlap.
ROWS = [(1, 1000, 6000), (2, 6000, 12_000), (3, 11_025, 21_000)]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("gestures")
    for user in (1, 2, 24):
        write_recording(
            root / f"user{user:02d}_led.aedat", moving_dot(user), format="aedat2", sensor_hw=SENSOR_HW
        )
        rows = "".join(f"{gesture},{start},{end}\n" for gesture, start, end in ROWS)
        (root / f"user{user:02d}_led_labels.csv").write_text("class,startTime_usec,endTime_usec\n" + rows)
    return root


@pytest.fixture(scope="module")
def listing(tree):
    return list_samples("dvs-gesture", tree, allow_missing=True)


@pytest.fixture(scope="module")
def whole(listing, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "store.zarr"
    convert(listing, path, SETTINGS)
    return path


def test_each_part_has_its_own_events(listing, whole):
    store = open_store(whole)
    assert len(store) == 9
    for position, source in enumerate(store.source_index.tolist()):
        sample = listing.samples[source]
        start, stop = ROWS[sample.label][1:]
        assert sample.t_range_us == (start, stop)
        events = moving_dot(sample.number)
        events = events[(events["t"] >= start) & (events["t"] < stop)]
        np.testing.assert_array_equal(store.read(position), frames_by_hand(events, frames=4))
        assert store.n_events[position] == len(events)
    assert store.attributes["selection"] == "every-row"


def test_parts_are_recorded_and_checked_against_their_files(listing, whole, tree):
    rows = read_sources(whole)
    assert [tuple(row["t_range_us"]) for row in rows] == [s.t_range_us for s in listing.samples]
    report = check_store(whole, against=tree)
    assert (report.problems, report.recordings_compared) == ([], 9)


def test_two_processes_write_the_same_bytes(listing, whole, tmp_path):
    convert(listing, tmp_path / "store.zarr", SETTINGS, workers=2)
    assert file_bytes(tmp_path / "store.zarr") == file_bytes(whole)


def test_an_interrupted_conversion_continues_to_the_same_bytes(listing, whole, tmp_path):
    done = iter(range(10))

    def stop_after_one(progress):
        if progress.files_ok and next(islice(done, 1)) == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(listing, tmp_path / "store.zarr", SETTINGS, progress=stop_after_one)
    summary = convert(listing, tmp_path / "store.zarr", SETTINGS)
    assert (summary.shards_kept, summary.shards_written, summary.failed) == (1, 2, 0)
    assert file_bytes(tmp_path / "store.zarr") == file_bytes(whole)


def test_changed_parts_are_other_settings(tree, whole, tmp_path):
    for path in tree.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    labels = tmp_path / "user02_led_labels.csv"
    labels.write_text(labels.read_text().replace("12000", "11999"))
    changed = list_samples("dvs-gesture", tmp_path, allow_missing=True)
    with pytest.raises(
        StoreError, match=r"user02_led\.aedat \[6000, 11999\) us absent, expected 9 with it present"
    ):
        convert(changed, whole, SETTINGS)


def test_a_part_without_events_fails_alone(tree, tmp_path):
    write_recording(tmp_path / "user01_led.aedat", moving_dot(1), format="aedat2", sensor_hw=SENSOR_HW)
    (tmp_path / "user01_led_labels.csv").write_text("1,1000,6000\n2,500000,600000\n")
    listing = list_samples("dvs-gesture", tmp_path, allow_missing=True)
    summary = convert(listing, tmp_path / "store.zarr", SETTINGS)
    assert (summary.ok, summary.failed) == (1, 1)
    assert summary.failures[0].error == (
        "holds no events from 500000 to 600000 us; it has times from 1000 to 20950"
    )
    rows = [
        json.loads(line) for line in (tmp_path / "store.zarr" / "manifest.jsonl").read_text().splitlines()
    ]
    failed = [file for row in rows for file in row["files"] if not file["ok"]]
    assert [file["t_range_us"] for file in failed] == [[500000, 600000]]


def test_estimate_of_parts(listing):
    result = estimate(plan_conversion(listing, SETTINGS))
    assert (result.files, result.tried) == (9, 3)

"""Converting a tree: the same store whatever the workers, bad files set aside, everything counted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from suites.store_tree import SENSOR_HW, SETTINGS, file_bytes, list_tree

from events.binning.settings import BinSettings
from events.convert import convert
from events.datasets.listing import Listing
from events.errors import ConfigError, DatasetError
from events.estimate import estimate
from events.recording import EVENT_DTYPE
from events.store.attributes import read_attributes
from events.store.check import check_store
from events.store.layout import STATUS_FAILED, STATUS_OK
from events.store.manifest import read_sources
from events.store.plan import plan_conversion
from events.store.reader import open_store
from events.writers.registry import write_recording


def test_summary_counts_what_was_done(listing, tmp_path):
    seen = []
    summary = convert(listing, tmp_path / "dots.zarr", SETTINGS, progress=seen.append)
    assert (summary.files, summary.ok, summary.failed) == (9, 9, 0)
    assert (summary.shards_written, summary.shards_kept) == (3, 0)
    assert summary.events == 9 * 400
    assert summary.warnings == ()
    assert [state.files_ok for state in seen] == [0, 4, 8, 9]
    assert seen[-1].events == 3600
    assert seen[-1].bytes_written == summary.bytes_written == summary.frame_bytes
    on_disk = sum(path.stat().st_size for path in (tmp_path / "dots.zarr" / "frames").glob("c.*"))
    assert on_disk == summary.frame_bytes


def test_provenance_is_recorded(listing, whole):
    attributes = read_attributes(whole)
    assert attributes["schema"] == 1
    assert attributes["kind"] == "frames"
    assert attributes["complete"] is True
    assert attributes["sensor"] == {"height": 128, "width": 128, "polarities": ["off", "on"]}
    assert attributes["binning"]["frames"] == 3
    assert attributes["read"]["orientation"] == "jaer"
    assert attributes["split_rule"] == "random:0:0.5"
    assert attributes["permutation"]["seed"] == 0
    assert attributes["source"]["root_name"] == "dots"
    assert attributes["source"]["files"] == 9
    assert attributes["counts"]["ok"] == 9
    rows = read_sources(whole)
    assert [row["path"] for row in rows] == [sample.path for sample in listing.samples]
    assert all(len(row["crc32c"]) == 8 for row in rows)
    assert "9 samples of 3 frames" in (whole / "README.md").read_text()


def test_status_is_ok_for_all(whole):
    assert (open_store(whole).status == STATUS_OK).all()


def test_two_processes_write_the_same_bytes(listing, whole, tmp_path):
    summary = convert(listing, tmp_path / "dots.zarr", SETTINGS, workers=2)
    assert summary.ok == 9
    assert file_bytes(tmp_path / "dots.zarr") == file_bytes(whole)


def test_running_cluster_writes_the_same_bytes(listing, whole, tmp_path):
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        convert(listing, tmp_path / "dots.zarr", SETTINGS, scheduler=cluster.scheduler_address)
    assert file_bytes(tmp_path / "dots.zarr") == file_bytes(whole)


def test_absent_cluster_is_one_line(listing, tmp_path, monkeypatch):
    monkeypatch.setattr("events.parallel.CONNECT_SECONDS", 0.2)
    with pytest.raises(ConfigError, match=r"--scheduler tcp://127\.0\.0\.1:9: no Dask scheduler answers"):
        convert(listing, tmp_path / "dots.zarr", SETTINGS, scheduler="tcp://127.0.0.1:9")


def bad_tree(tree: Path, folder: Path) -> tuple[Path, Listing]:
    """Copy the tree with three bad recordings: empty, noise, header only."""
    bad = folder / "dots"
    for path in tree.rglob("*.aedat"):
        (bad / path.parent.name).mkdir(parents=True, exist_ok=True)
        (bad / path.parent.name / path.name).write_bytes(path.read_bytes())
    (bad / "cat" / "0.aedat").write_bytes(b"")
    (bad / "dog" / "1.aedat").write_bytes(np.random.default_rng(0).bytes(4001))
    (bad / "frog" / "2.aedat").write_bytes(b"#!AER-DAT2.0\r\n# nothing follows\r\n")
    return bad, list_tree(bad)


def test_bad_files_are_set_aside_and_tried_again_on_demand(tree, whole, tmp_path):
    bad, listing = bad_tree(tree, tmp_path)
    store = tmp_path / "dots.zarr"
    summary = convert(listing, store, SETTINGS)
    assert (summary.ok, summary.failed) == (6, 3)
    assert {failure.path for failure in summary.failures} == {"cat/0.aedat", "dog/1.aedat", "frog/2.aedat"}
    reasons = {failure.path: failure.error for failure in summary.failures}
    assert "holds no events" in reasons["frog/2.aedat"]
    assert all("\n" not in reason for reason in reasons.values())
    attributes = read_attributes(store)
    assert attributes["complete"] is True
    assert attributes["counts"]["failed"] == 3
    assert {file["path"] for file in attributes["failed_files"]} == set(reasons)

    opened = open_store(store)
    failed = np.flatnonzero(opened.status == STATUS_FAILED)
    assert {opened.source_paths()[opened.source_index[place]] for place in failed} == set(reasons)
    assert opened.read(int(failed[0])).sum() == 0
    assert len(opened.indices("train")) + len(opened.indices("test")) == 6
    assert check_store(store).problems == []

    # Nothing is tried again unless asked for.
    assert convert(listing, store, SETTINGS).failed == 3
    noise = (tree / "dog" / "1.aedat").read_bytes()
    (bad / "dog" / "1.aedat").write_bytes(noise + bytes(4001 - len(noise)))
    again = convert(list_tree(bad), store, SETTINGS, retry_failed=True)
    assert again.failed == 2
    assert open_store(store).counts() == {"ok": 7, "failed": 2, "missing": 0}


def test_recording_of_another_sensor_is_a_bad_file(tree, tmp_path):
    bad = tmp_path / "dots"
    for name in ("cat", "dog"):
        (bad / name).mkdir(parents=True)
        (bad / name / "0.aedat").write_bytes((tree / name / "0.aedat").read_bytes())
    # No header says the sensor's size, so it is that of the events.
    np.savez(bad / "dog" / "1.npz", **{name: np.arange(140) for name in "txy"}, p=np.ones(140, bool))
    summary = convert(list_tree(bad), tmp_path / "dots.zarr", SETTINGS)
    assert summary.ok == 2
    assert summary.failures[0].path == "dog/1.npz"
    assert "140 x 140 pixels, the store is for 128 x 128; set one size for all" in summary.failures[0].error


def test_saturated_pixels_are_counted_and_told(tmp_path):
    tree = tmp_path / "hot" / "only"
    tree.mkdir(parents=True)
    hot = np.zeros(900, EVENT_DTYPE)
    hot["t"], hot["p"] = np.arange(900), True
    write_recording(tree / "0.aedat", hot, format="aedat2", sensor_hw=SENSOR_HW)
    listing = list_tree(tree.parent)
    summary = convert(listing, tmp_path / "a.zarr", SETTINGS)
    # 300 events in one pixel of each of three frames.
    assert (summary.saturated_pixels, summary.saturated_samples) == (3, 1)
    assert summary.warnings == (
        "3 pixels in 1 samples have more than 255 events; convert with --dtype uint16 to keep them",
    )
    opened = open_store(tmp_path / "a.zarr")
    assert opened.n_saturated.tolist() == [3]
    assert opened.read(0).max() == 255
    assert check_store(opened.path).problems == []
    wide = replace(SETTINGS, binning=BinSettings(frames=3, dtype="uint16"))
    assert convert(listing, tmp_path / "b.zarr", wide).warnings == ()
    opened = open_store(tmp_path / "b.zarr")
    assert opened.direct
    assert opened.dtype == np.uint16
    assert opened.read(0)[:, 1, 0, 0].tolist() == [300, 300, 300]


def test_nothing_to_convert_is_an_error(listing, tmp_path):
    with pytest.raises(DatasetError, match="no recordings of folder found"):
        convert(replace(listing, samples=()), tmp_path / "dots.zarr", SETTINGS)


def test_estimate_is_measured(listing, whole):
    result = estimate(plan_conversion(listing, SETTINGS), workers=2)
    assert (result.files, result.shards, result.tried) == (9, 3, 3)
    assert result.source_bytes == sum(sample.size_bytes for sample in listing.samples)
    real = read_attributes(whole)["counts"]["frame_bytes"]
    assert 0.7 * real < result.store_bytes < 1.3 * real
    assert result.seconds > 0

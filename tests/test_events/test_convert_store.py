"""Converting a tree: the same store whatever the workers, resumable after any break, bad files set aside."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from suites.store_tree import SENSOR_HW, file_bytes, list_tree, write_tree

from events.binning.settings import BinSettings
from events.convert import ConvertSettings, convert
from events.datasets.listing import Listing
from events.errors import ConfigError, DatasetError, StoreError
from events.estimate import estimate
from events.recording import EVENT_DTYPE, ReadOptions
from events.store import shard as shard_module
from events.store.attributes import read_attributes, write_attributes
from events.store.check import check_store
from events.store.layout import STATUS_FAILED, STATUS_OK, StoreConfig
from events.store.manifest import read_manifest, read_sources
from events.store.plan import plan_conversion
from events.store.reader import open_store
from events.writers.registry import write_recording

SETTINGS = ConvertSettings(binning=BinSettings(frames=3), shard_samples=4)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """Nine recordings in three classes."""
    return write_tree(tmp_path_factory.mktemp("tree") / "dots", per_class=3)


@pytest.fixture(scope="module")
def listing(tree) -> Listing:
    return list_tree(tree)


@pytest.fixture(scope="module")
def whole(listing, tmp_path_factory) -> Path:
    """A store made without a break, in three shards."""
    store = tmp_path_factory.mktemp("whole") / "dots.zarr"
    convert(listing, store, SETTINGS, workers=0)
    return store


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


def test_running_again_changes_nothing(listing, tmp_path):
    store = tmp_path / "dots.zarr"
    convert(listing, store, SETTINGS)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in store.rglob("*.json*")}
    summary = convert(listing, store, SETTINGS)
    assert (summary.shards_written, summary.shards_kept) == (0, 3)
    assert summary.ok == 9
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in store.rglob("*.json*")} == before


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


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            replace(SETTINGS, binning=BinSettings(frames=5)),
            r"frame_shape: found \[3, .* binning\.frames: found 3, exp",
        ),
        (replace(SETTINGS, codec="small"), r'\(codec: found "fast", expected "small"\)'),
        (replace(SETTINGS, seed=1), r"\(permutation\.seed: found 0, expected 1\)"),
        (
            replace(SETTINGS, read=ReadOptions(orientation="raw", sensor_hw=SENSOR_HW)),
            r'found "jaer", expected "raw"',
        ),
        (replace(SETTINGS, shard_samples=8), r"\(shard_samples: found 4, expected 8\)"),
    ],
)
def test_other_settings_are_refused_by_name(listing, whole, changed, message):
    with pytest.raises(StoreError, match=message):
        convert(listing, whole, changed)


def test_other_recordings_are_refused_by_name(listing, whole):
    fewer = replace(listing, samples=listing.samples[:-1])
    with pytest.raises(StoreError, match=r"found 9 with frog/2\.aedat present, expected 8 with it absent"):
        convert(fewer, whole, SETTINGS)
    grown = replace(listing.samples[0], size_bytes=7)
    with pytest.raises(StoreError, match=r"cat/0\.aedat size_bytes: found \d+, expected 7"):
        convert(replace(listing, samples=(grown, *listing.samples[1:])), whole, SETTINGS)


def test_overwrite_replaces_a_store_and_nothing_else(listing, tmp_path):
    store = tmp_path / "dots.zarr"
    convert(listing, store, SETTINGS)
    convert(listing, store, replace(SETTINGS, seed=1), overwrite=True)
    assert read_attributes(store)["permutation"]["seed"] == 1
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(StoreError, match=r"photos: is there already and is no store of ours"):
        convert(listing, tmp_path / "photos", SETTINGS, overwrite=True)
    assert (tmp_path / "photos" / "a.jpg").read_bytes() == b"x"


def test_interrupted_conversion_continues(listing, whole, tmp_path):
    store = tmp_path / "dots.zarr"

    def interrupt(state):
        if state.files_ok == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(listing, store, SETTINGS, progress=interrupt)
    with pytest.raises(StoreError, match="unfinished store, 4 of 9"):
        open_store(store)
    summary = convert(listing, store, SETTINGS)
    assert (summary.shards_written, summary.shards_kept) == (2, 1)
    assert file_bytes(store) == file_bytes(whole)


KILLED = """
import os, signal, sys
from suites.store_tree import list_tree
from events.binning.settings import BinSettings
from events.convert import ConvertSettings, convert
from events.store import shard

syncs, fsync = [], os.fsync

def dying_fsync(descriptor):
    # The second shard: its temporary file is written but not yet in place.
    name = os.readlink(f"/proc/self/fd/{descriptor}")
    syncs.append("/frames/c." in name)
    if sum(syncs) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)

shard.os.fsync = dying_fsync
settings = ConvertSettings(binning=BinSettings(frames=3), shard_samples=4)
convert(list_tree(__import__("pathlib").Path(sys.argv[1])), sys.argv[2], settings, workers=0)
"""


def test_killed_conversion_continues(tree, listing, whole, tmp_path):
    store = tmp_path / "dots.zarr"
    paths = os.pathsep.join(path for path in sys.path if path)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tree), str(store)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(store.rglob("*.tmp"))) == 1
    assert len(list((store / "frames").glob("c.?.0.0.0.0"))) == 1
    with pytest.raises(StoreError, match="unfinished store, 4 of 9"):
        open_store(store)
    summary = convert(listing, store, SETTINGS)
    assert (summary.shards_written, summary.shards_kept) == (2, 1)
    assert list(store.rglob("*.tmp")) == []
    assert file_bytes(store) == file_bytes(whole)


def test_torn_last_line_of_the_manifest_is_made_again(listing, whole, tmp_path):
    store = tmp_path / "dots.zarr"
    convert(listing, store, SETTINGS)
    manifest = store / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-30])
    assert sorted(read_manifest(store)) == [0, 1]
    summary = convert(listing, store, SETTINGS)
    assert (summary.shards_written, summary.shards_kept) == (1, 2)
    assert sorted(read_manifest(store)) == [0, 1, 2]
    assert len(manifest.read_text().splitlines()) == 3
    assert file_bytes(store) == file_bytes(whole)


def test_line_that_is_no_json_is_refused(listing, tmp_path):
    store = tmp_path / "dots.zarr"
    convert(listing, store, SETTINGS)
    manifest = store / "manifest.jsonl"
    manifest.write_bytes(b"{oops\n" + manifest.read_bytes())
    with pytest.raises(StoreError, match=r"manifest\.jsonl: line 1 is no JSON .* delete that line"):
        convert(listing, store, SETTINGS)


@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_damaged_shard_is_found_and_made_again(listing, whole, tmp_path, damage):
    store = tmp_path / "dots.zarr"
    convert(listing, store, SETTINGS)
    shard = store / "frames" / "c.1.0.0.0.0"
    stored = shard.read_bytes()
    if damage == "delete":
        shard.unlink()
    else:
        shard.write_bytes(
            stored[:-1] if damage == "cut" else stored[:50] + bytes([stored[50] ^ 4]) + stored[51:]
        )
    expected = {
        "flip": "CRC-32C of the file differs",
        "cut": f"{len(stored) - 1} bytes, exp",
        "delete": "missing",
    }
    assert any(expected[damage] in problem for problem in check_store(store).problems)
    assert convert(listing, store, SETTINGS).shards_written == 1
    assert check_store(store).problems == []
    assert file_bytes(store) == file_bytes(whole)


def test_full_disk_is_one_line_and_resumable(listing, whole, tmp_path, monkeypatch):
    store = tmp_path / "dots.zarr"
    write = os.write
    written = []

    def full_disk(descriptor, data):
        if "/frames/c.1" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            written.append(len(data))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    monkeypatch.setattr(shard_module.os, "write", full_disk)
    message = (
        r"c\.1\.0\.0\.0\.0: cannot write: No space left on device; free some space and run the same command"
    )
    with pytest.raises(StoreError, match=message):
        convert(listing, store, SETTINGS)
    assert written
    assert list(store.rglob("*.tmp")) == []
    assert not (store / "frames" / "c.1.0.0.0.0").exists()
    monkeypatch.undo()
    convert(listing, store, SETTINGS)
    assert file_bytes(store) == file_bytes(whole)


@pytest.fixture
def small_disk(tmp_path):
    """A tmpfs of 300 kB, and a function that makes it larger."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting a small tmpfs is not permitted here: {mounted.stderr.strip()}")
    yield disk, lambda: subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
    subprocess.run(["umount", disk], check=True)


def test_small_disk_fills_up_and_is_continued(small_disk, tmp_path):
    disk, enlarge = small_disk
    tree = tmp_path / "noise" / "only"
    tree.mkdir(parents=True)
    rng = np.random.default_rng(3)
    for number in range(24):
        noise = np.zeros(20_000, EVENT_DTYPE)
        noise["t"], noise["x"], noise["y"] = np.arange(20_000), *rng.integers(0, 128, (2, 20_000))
        write_recording(tree / f"{number}.aedat", noise, format="aedat2", sensor_hw=SENSOR_HW)
    listing = list_tree(tree.parent)
    with pytest.raises(
        StoreError, match=r"No space left on device; free some space and run the same command"
    ):
        convert(listing, disk / "noise.zarr", SETTINGS)
    with pytest.raises(StoreError, match=r"unfinished store|found nothing"):
        open_store(disk / "noise.zarr")
    assert not list(disk.rglob("*.tmp"))
    enlarge()
    assert convert(listing, disk / "noise.zarr", SETTINGS).ok == 24
    convert(listing, tmp_path / "whole.zarr", SETTINGS)
    assert file_bytes(disk / "noise.zarr") == file_bytes(tmp_path / "whole.zarr")


def test_destination_below_a_file_is_one_line(listing, tmp_path):
    # Root may write anywhere, so a missing permission is no test of this; a file instead of a folder is.
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        StoreError, match=r"file: cannot write: File exists; a file is in the way; choose another"
    ):
        convert(listing, tmp_path / "file" / "dots.zarr", SETTINGS)


def test_two_conversions_into_one_store_are_refused(listing, tmp_path):
    store = tmp_path / "dots.zarr"
    convert(listing, store, SETTINGS)
    with (store / ".writer.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="another conversion is writing this store"):
            convert(listing, store, SETTINGS)


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


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="codec must be one of fast, small, got 'zip'"):
        ConvertSettings(codec="zip")
    with pytest.raises(ConfigError, match="shard_samples must be at least 1, got 0"):
        ConvertSettings(shard_samples=0)
    with pytest.raises(ConfigError, match="seed must be 0 or more, got -1"):
        ConvertSettings(seed=-1)


def test_hash_follows_every_setting(listing):
    def config_hash(**changes):
        return plan_conversion(listing, replace(SETTINGS, **changes)).config.hash()

    same, other = config_hash(), set()
    other.add(config_hash(seed=1))
    other.add(config_hash(codec="small"))
    other.add(config_hash(shard_samples=5))
    other.add(config_hash(binning=BinSettings(frames=3, tail="drop")))
    other.add(config_hash(read=ReadOptions(polarity="raw")))
    relabelled = replace(listing, samples=(replace(listing.samples[0], label=2), *listing.samples[1:]))
    other.add(plan_conversion(relabelled, SETTINGS).config.hash())
    assert len(other) == 6
    assert same not in other
    assert same == config_hash()


def test_hash_of_stores_made_before_there_were_streams_and_topics():
    """Computed by the version before `ReadOptions` had `stream` and `topic`, over the same settings."""
    config = StoreConfig(
        dataset="folder",
        binning=BinSettings(frames=10),
        read=ReadOptions(damage="strict", sensor_hw=(128, 128)),
        codec="fast",
        shard_samples=64,
        seed=0,
        frame_shape=(10, 2, 128, 128),
        sensor_hw=(128, 128),
        class_names=("cat", "dog"),
        split_rule="official",
        source={"files": 2, "bytes": 100, "sha256": "0" * 64},
    )
    assert config.hash() == "2858a81ae10d0a3a"
    assert replace(config, read=replace(config.read, stream=1)).hash() != config.hash()


def test_older_store_is_continued_and_a_stream_given_since_is_named(listing, tmp_path):
    path = tmp_path / "older.zarr"
    convert(listing, path, SETTINGS)
    # As some versions wrote it: every option, given or not.
    attributes = read_attributes(path)
    attributes["read"] |= {"stream": None, "topic": None}
    write_attributes(path, attributes | {"config_hash": "0123456789abcdef"})
    assert convert(listing, path, SETTINGS).shards_written == 0
    with pytest.raises(StoreError, match=r"read\.stream: found null, expected 1"):
        convert(listing, path, replace(SETTINGS, read=ReadOptions(stream=1)))
    attributes["read"]["stream"] = 2
    write_attributes(path, attributes)
    with pytest.raises(StoreError, match=r"read\.stream: found 2, expected null"):
        convert(listing, path, SETTINGS)


def test_check_against_finds_a_changed_recording(tree, tmp_path):
    copy = write_tree(tmp_path / "dots", per_class=3)
    store = tmp_path / "dots.zarr"
    convert(list_tree(copy), store, SETTINGS)
    report = check_store(store, against=copy)
    assert (report.problems, report.recordings_compared) == ([], 9)
    changed = bytearray((copy / "cat" / "1.aedat").read_bytes())
    changed[-1] ^= 1
    (copy / "cat" / "1.aedat").write_bytes(changed)
    (copy / "dog" / "2.aedat").unlink()
    problems = check_store(store, level="fast", against=copy).problems
    assert sorted(problems) == [
        "cat/1.aedat: its content changed since the conversion",
        f"dog/2.aedat: missing in {copy}",
    ]


def test_check_against_decodes_again(tree, listing, tmp_path):
    """Frames that are intact but not those of the recordings: made with another orientation."""
    store = tmp_path / "dots.zarr"
    convert(listing, store, SETTINGS)
    metadata = json.loads((store / "zarr.json").read_text())
    metadata["attributes"]["event_store"]["read"]["orientation"] = "raw"
    (store / "zarr.json").write_text(json.dumps(metadata))
    report = check_store(store, against=tree)
    assert len(report.problems) == 9
    assert all("decoding it again gives other frames than sample" in problem for problem in report.problems)


@pytest.mark.parametrize("level", ["fast", "index", "full"])
def test_check_levels_see_what_they_say(listing, tmp_path, level):
    store = tmp_path / "dots.zarr"
    convert(listing, store, SETTINGS)
    shard = store / "frames" / "c.0.0.0.0.0"
    stored = bytearray(shard.read_bytes())
    stored[10] ^= 1
    stored[-1] ^= 1
    shard.write_bytes(stored)
    problems = " | ".join(check_store(store, level=level).problems)
    assert ("shard index is wrong" in problems) == (level != "fast")
    assert ("CRC-32C of the file" in problems) == (level == "full")


def test_check_finds_a_changed_column(listing, tmp_path):
    import zarr

    store = tmp_path / "dots.zarr"
    convert(listing, store, SETTINGS)
    group = zarr.open_group(store, mode="r+")
    group["n_events"][2] = 401
    group["label"][3] = 9
    problems = check_store(store).problems
    assert "label: 1 samples have a label outside 0 to 2" in problems
    assert "n_events: differs from the manifest" in problems
    assert "sample 2: 400 counts in its frames, n_events is 401" in problems


def test_estimate_is_measured(listing, whole):
    result = estimate(plan_conversion(listing, SETTINGS), workers=2)
    assert (result.files, result.shards, result.tried) == (9, 3, 3)
    assert result.source_bytes == sum(sample.size_bytes for sample in listing.samples)
    real = read_attributes(whole)["counts"]["frame_bytes"]
    assert 0.7 * real < result.store_bytes < 1.3 * real
    assert result.seconds > 0


def test_status_is_ok_for_all(whole):
    assert (open_store(whole).status == STATUS_OK).all()

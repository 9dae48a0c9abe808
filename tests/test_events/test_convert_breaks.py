"""Conversions that are interrupted, killed or run out of room: continued to the same bytes."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from suites.store_tree import SENSOR_HW, SETTINGS, file_bytes, list_tree

from events.convert import convert
from events.errors import StoreError
from events.recording import EVENT_DTYPE
from events.store import shard as shard_module
from events.store.manifest import read_manifest
from events.store.reader import open_store
from events.writers.registry import write_recording


def test_running_again_changes_nothing(listing, tmp_path):
    store = tmp_path / "dots.zarr"
    convert(listing, store, SETTINGS)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in store.rglob("*.json*")}
    summary = convert(listing, store, SETTINGS)
    assert (summary.shards_written, summary.shards_kept) == (0, 3)
    assert summary.ok == 9
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in store.rglob("*.json*")} == before


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

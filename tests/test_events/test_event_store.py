"""The event store: the same events back, ranges by its index, and frames as from the recordings."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from suites.store_tree import DAMAGES, SENSOR_HW, damage_file, list_tree, moving_dot, write_tree
from typer.testing import CliRunner

from events.binning.settings import BinSettings
from events.cli.program import app
from events.convert import ConvertSettings, convert
from events.errors import ConfigError, StoreError
from events.inspect.event_store import event_store_info
from events.recording import ReadOptions
from events.store import event_task
from events.store import shard as shard_module
from events.store.attributes import read_attributes, write_attributes
from events.store.event_check import check_event_store
from events.store.event_layout import CHUNK, SHARD
from events.store.event_reader import EventStore
from events.store.event_writer import convert_events
from events.store.millisecond_index import MillisecondIndex
from events.store.reader import open_store
from events.store.shard import file_crc32c
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
    events, xp = opened.recording(2).read(), group["xp"][start : start + n]
    t = group["chunk_t0"][start // CHUNK] + np.cumsum(group["dt"][start : start + n])
    for name, values in (("t", t), ("x", xp >> 1), ("y", group["y"][start : start + n]), ("p", xp & 1)):
        np.testing.assert_array_equal(values, events[name])
    assert (xp.dtype, group["y"].dtype, group["dt"].dtype) == (np.uint8, np.uint8, np.int32)
    assert list((store / "high").glob("c.*")) == []
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


def test_other_settings_are_named(tree, store):
    with pytest.raises(StoreError, match=r'read\.damage: found "skip", expected "strict"'):
        convert_events(list_tree(tree), store, read=ReadOptions(damage="strict"))


def test_an_event_store_is_not_stored_again(store, tmp_path):
    with pytest.raises(ConfigError, match="holds raw events already"):
        convert_events(EventStore(store).listing(), tmp_path / "again.zarr")


KILLED = """
import os, signal, sys
from pathlib import Path
from suites.store_tree import list_tree
from events.store import shard
from events.store.event_writer import convert_events

write = os.write

def dying_write(descriptor, data):
    # A column of the third recording: its temporary file is there but not yet in place.
    if "/parts/2.xp.0" in os.readlink(f"/proc/self/fd/{descriptor}"):
        os.kill(os.getpid(), signal.SIGKILL)
    return write(descriptor, data)

shard.os.write = dying_write
convert_events(list_tree(Path(sys.argv[1])), sys.argv[2])
"""


def test_a_killed_conversion_continues_to_the_same_bytes(tree, store, tmp_path):
    path = tmp_path / "killed.zarr"
    paths = os.pathsep.join(path for path in sys.path if path)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tree), str(path)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(path.rglob("*.tmp"))) == 1
    assert event_store_info(path)["recordings"] == {"ok": 1, "failed": 1, "missing": 7}
    assert convert_events(list_tree(tree), path).kept == 2
    assert everything(path) == everything(store)


def test_a_break_while_parts_are_put_in_place(tree, store, tmp_path, monkeypatch):
    path = tmp_path / "broken.zarr"
    replace, moved = Path.replace, []

    def stop_at_seventh(file, target):
        moved.append(file.parent.name == "parts" != target.parent.name)
        if sum(moved) == 17:
            raise KeyboardInterrupt
        return replace(file, target)

    monkeypatch.setattr(Path, "replace", stop_at_seventh)
    with pytest.raises(KeyboardInterrupt):
        convert_events(list_tree(tree), path)
    monkeypatch.undo()
    assert convert_events(list_tree(tree), path).kept == 9
    assert everything(path) == everything(store)


def test_a_failed_recording_that_can_be_read_now_moves_all_behind_it(tree, store, tmp_path):
    mended = tmp_path / "dots"
    shutil.copytree(tree, mended)
    good = moving_dot(1, events=300)
    write_recording(mended / "cat" / "1.aedat", good, format="aedat2", sensor_hw=SENSOR_HW)
    with (mended / "cat" / "1.aedat").open("r+b") as file:
        file.truncate((tree / "cat" / "1.aedat").stat().st_size)  # as long as before, so taken for the same
    path = tmp_path / "mended.zarr"
    shutil.copytree(store, path)
    assert convert_events(list_tree(mended), path, retry_failed=False).failed == 1
    summary = convert_events(list_tree(mended), path, retry_failed=True)
    assert (summary.ok, summary.kept) == (9, 8)
    fresh = tmp_path / "fresh.zarr"
    convert_events(list_tree(mended), fresh)
    assert everything(path) == everything(fresh)
    opened = EventStore(path).recording(1).read()
    np.testing.assert_array_equal(opened, good[: len(opened)])


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_found_and_made_again(tree, store, tmp_path, damage):
    path = tmp_path / "damaged.zarr"
    shutil.copytree(store, path)
    shard = path / "xp" / "c.3"
    stored_bytes = damage_file(shard, damage)
    expected = {
        "flip": "xp/c.3: CRC-32C of the file differs",
        "cut": f"xp/c.3: {stored_bytes - 1} bytes, expected {stored_bytes}",
        "delete": r"xp/c.3: missing, of recording 4 (dog/1.aedat)",
    }
    problems = check_event_store(path).problems
    assert len(problems) == 1
    assert expected[damage] in problems[0]
    assert bool(check_event_store(path, level="fast").problems) == (damage != "flip")
    assert convert_events(list_tree(tree), path).kept == 8
    assert check_event_store(path, against=tree).problems == []
    assert everything(path) == everything(store)


def test_a_wrong_index_is_found(store, tmp_path):
    path = tmp_path / "wrong.zarr"
    shutil.copytree(store, path)
    shard = path / "ms_index" / "c.3"
    positions = zarr.open_array(path / "ms_index")
    positions[3 * SHARD + 2] += 1
    rows = [json.loads(line) for line in (path / "manifest.jsonl").read_text().splitlines()]
    rows[4]["files"]["ms_index"] = [[shard.stat().st_size, f"{file_crc32c(shard):08x}"]]
    (path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert check_event_store(path, level="index").problems == []
    problems = check_event_store(path).problems
    assert len(problems) == 1
    assert ":4: its ms_index does not fit its times" in problems[0]


def test_check_against_finds_a_changed_recording(tree, store, tmp_path):
    changed = tmp_path / "dots"
    shutil.copytree(tree, changed)
    (changed / "cat" / "0.aedat").unlink()
    file = changed / "dog" / "0.aedat"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    report = check_event_store(store, against=changed)
    assert [problem.split(":")[0] for problem in report.problems] == ["cat/0.aedat", "dog/0.aedat"]
    assert "missing" in report.problems[0]
    assert "its content changed" in report.problems[1]
    assert check_event_store(store, against=tree).recordings_compared == 8


def test_full_disk_is_one_line_no_failed_recording_and_resumable(tree, store, tmp_path, monkeypatch):
    path = tmp_path / "full.zarr"
    write = os.write

    def full_disk(descriptor, data):
        if "/parts/4." in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    monkeypatch.setattr(shard_module.os, "write", full_disk)
    with pytest.raises(StoreError, match=r"parts/4\.dt\.0: cannot write: No space left .* same command"):
        convert_events(list_tree(tree), path)
    assert list(path.rglob("*.tmp")) == []
    monkeypatch.undo()
    assert convert_events(list_tree(tree), path).kept == 4
    assert everything(path) == everything(store)


def test_a_damaged_chunk_is_named(store, tmp_path):
    path = tmp_path / "damaged.zarr"
    shutil.copytree(store, path)
    shard = path / "dt" / "c.0"
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


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_recordings_of_a_store_have_names(tree, store, tmp_path):
    """By position or by the path of the file, wherever a recording is asked for."""
    copied = tmp_path / "third.npz"
    assert run("cat", f"{store}:dog/0.aedat", copied).exit_code == 0
    assert run("diff", f"{store}:3", copied).exit_code == 0
    assert run("diff", f"{store}:3", tree / "dog" / "0.aedat").exit_code == 0
    shown = run("info", f"{store}:3")
    assert "decoded from AEDAT 2.0" in shown.stdout
    assert "dog/0.aedat" in shown.stdout
    assert run("view", store, "--sample", "3").stdout == run("view", f"{store}:3").stdout != ""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (":dog/9.aedat", "no recording 'dog/9.aedat'; it has 0 to 8, such as cat/0.aedat; did you mean"),
        (":9", "no recording 9; it has 0 to 8"),
        (":1", "(cat/1.aedat): could not be read when the store was made: its 840 bytes"),
        ("", "holds 9 recordings; name one, such as "),
    ],
)
def test_a_name_that_is_none_says_what_there_is(store, name, message):
    found = run("info" if name else "cat", f"{store}{name}", *([] if name else ["out.npz"]))
    assert found.exit_code == 1
    assert message in found.stderr


def test_what_a_store_holds_is_said(store, tree, tmp_path):
    shown = run("info", store).stdout
    for text in ("complete", "8 ok, 1 failed", "3,200", "0 is cat/0.aedat", "cat/1.aedat: its 840 bytes"):
        assert text in shown
    checked = run("check", store, "--against", tree)
    assert checked.exit_code == 0
    assert "8 recordings compared, 1 failed recordings" in checked.stdout
    frames = tmp_path / "f.zarr"
    run("convert", "event-store", store, frames, "--frames", "3", "--workers", "1")
    assert "holds frames, not events" in run("info", f"{frames}:1").stderr
    with pytest.raises(StoreError, match=r"holds raw events, expected frames; make some with"):
        open_store(store)


def test_options_that_would_do_nothing_are_refused(tree, store, tmp_path):
    new = tmp_path / "new.zarr"
    for options, message in [
        (("folder", tree, new, "--events", "--frames", "4"), "leave out --frames"),
        (("event-store", store, new, "--polarity", "raw"), "are decoded already; leave out --polarity"),
        (("event-store", store, new, "--split", "tet"), "leave out --split"),
    ]:
        refused = run("convert", *options)
        assert refused.exit_code == 2
        assert message in refused.stderr
    assert not new.exists()
    assert "raw events, about" in run("convert", "folder", tree, new, "--events", "--dry-run").stdout
    assert not new.exists()


def test_the_command_line_stores_events_and_bins_them(tree, tmp_path):
    made = run("convert", "folder", tree, tmp_path / "e.zarr", "--events", "--json", "--workers", "1")
    assert made.exit_code == 3  # one recording cannot be read
    assert json.loads(made.stdout)["ok"] == 8
    binned = run("convert", "event-store", tmp_path / "e.zarr", tmp_path / "f.zarr", "--workers", "1")
    assert binned.exit_code == 3
    assert read_attributes(tmp_path / "f.zarr")["counts"]["ok"] == 8


class TakenMeanwhile(list):
    """Columns that another thread takes after somebody has seen that there are some."""

    def __bool__(self):
        return True


def test_columns_that_another_thread_takes_meanwhile_are_opened_anew(store):
    opened = EventStore(store)
    opened._spare = TakenMeanwhile()
    np.testing.assert_array_equal(opened.recording(0).read(), EventStore(store).recording(0).read())

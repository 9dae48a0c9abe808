"""The store of windows with boxes: its columns, a conversion that is killed, checks, and pictures of it."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image
from suites.boxed_files import LABEL_TIMES, box_of, write_bbox_tree
from suites.store_tree import file_bytes
from typer.testing import CliRunner

from events.binning.settings import PRESETS
from events.cli.program import app
from events.convert import ConvertSettings, convert
from events.datasets.detection.registry import list_detection
from events.draw_boxes import CLASS_RGB
from events.errors import StoreError
from events.inspect.store import store_info
from events.readers.registry import open_recording
from events.store.check import check_store
from events.store.detection import open_detection_store
from events.store.reader import open_store

SETTINGS = ConvertSettings(binning=replace(PRESETS["cube"], size_hw=(60, 76)), shard_samples=4)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """Four recordings of Gen1."""
    return write_bbox_tree(tmp_path_factory.mktemp("gen1") / "src")


@pytest.fixture(scope="module")
def whole(tree, tmp_path_factory) -> Path:
    """A store of them, twelve windows in three shards."""
    path = tmp_path_factory.mktemp("whole") / "gen1.zarr"
    convert(list_detection("gen1", tree), path, SETTINGS, workers=0)
    return path


def run(*arguments, cwd=None):
    """Run `events` in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_columns_are_plain_arrays_that_zarr_reads(whole):
    group = zarr.open_group(whole / "boxes", mode="r")
    assert group["window_ptr"][...].tolist() == list(range(13))
    assert group["t_end_us"][...].tolist() == list(LABEL_TIMES) * 4
    assert group["recording"][...].tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    x0, y0, x1, y1 = box_of(1, (240, 304))
    np.testing.assert_allclose(group["xyxy"][3], [x0 / 4, y0 / 4, x1 / 4, y1 / 4])
    types = {name: array.dtype.str for name, array in group.arrays()}
    assert types == {
        "window_ptr": "<i8", "recording": "<u4", "t_end_us": "<i8", "why": "|u1", "xyxy": "<f4",
        "class_id": "<u2", "track_id": "<i8", "score": "<f4", "kind": "|u1", "ignore": "|u1",
    }  # fmt: skip


def test_windows_lie_in_order_of_recording_and_time(whole):
    store = open_store(whole)
    assert store.source_index.tolist() == list(range(12))
    assert store.t_edges_us[4].tolist() == list(range(400_000, 500_001, 20_000))
    assert store.attributes["permutation"] == {"rule": "recording after recording, windows in order of time"}


def test_boxes_of_windows_that_are_not_there_are_refused(whole):
    store = open_detection_store(whole)
    for window in (-1, 12):
        with pytest.raises(StoreError, match=f"no window {window}; expected 0 to 11"):
            store.boxes_of(window)


def test_a_store_without_boxes_is_refused(tmp_path):
    from suites.store_tree import SETTINGS as PLAIN
    from suites.store_tree import list_tree, write_tree

    convert(list_tree(write_tree(tmp_path / "dots", per_class=1)), tmp_path / "dots.zarr", PLAIN)
    with pytest.raises(StoreError, match="holds frames without boxes; convert a data set with boxes"):
        open_detection_store(tmp_path / "dots.zarr")


def test_no_box_at_all_is_a_store_too(tmp_path):
    """All labels are of other classes: every window is empty."""
    from suites.boxed_files import ONE_MPX_BBOX, bbox_rows

    write_bbox_tree(tmp_path / "src")
    for path in (tmp_path / "src").rglob("*_bbox.npy"):
        np.save(path, bbox_rows(ONE_MPX_BBOX, (1, 1, 9, 9), 6))
    convert(list_detection("1mpx", tmp_path / "src"), tmp_path / "out.zarr", SETTINGS)
    store = open_detection_store(tmp_path / "out.zarr")
    assert (len(store), len(store.boxes.xyxy)) == (12, 0)
    assert store.boxes_of(5).xyxy.shape == (0, 4)
    assert not check_store(store.path).problems
    assert store_info(store.path)["boxes"]["side_px"] is None


def test_workers_write_the_same_bytes(tree, whole, tmp_path):
    convert(list_detection("gen1", tree), tmp_path / "out.zarr", SETTINGS, workers=2)
    assert file_bytes(tmp_path / "out.zarr") == file_bytes(whole)


KILLED = """
import os, signal, sys
from pathlib import Path
from dataclasses import replace
from events.binning.settings import PRESETS
from events.convert import ConvertSettings, convert
from events.datasets.detection.registry import list_detection

def die(state):
    if state.files_ok == 8:
        os.kill(os.getpid(), signal.SIGKILL)

settings = ConvertSettings(binning=replace(PRESETS["cube"], size_hw=(60, 76)), shard_samples=4)
convert(list_detection("gen1", Path(sys.argv[1])), sys.argv[2], settings, progress=die)
"""


def test_a_killed_conversion_loses_at_most_its_shard(tree, whole, tmp_path):
    store = tmp_path / "out.zarr"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tree), str(store)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(StoreError, match="unfinished store, 8 of 12"):
        open_detection_store(store)
    assert len(open_detection_store(store, allow_partial=True).indices("train")) == 6
    summary = convert(list_detection("gen1", tree), store, SETTINGS)
    assert (summary.shards_written, summary.shards_kept) == (1, 2)
    assert file_bytes(store) == file_bytes(whole)


def test_changed_labels_are_no_continuation(whole, tmp_path):
    """The windows are the same, and one box is a pixel further right."""
    write_bbox_tree(tmp_path / "src")
    convert(list_detection("gen1", tmp_path / "src"), tmp_path / "out.zarr", SETTINGS)
    path = tmp_path / "src" / "test" / "clip3_bbox.npy"
    rows = np.load(path)
    rows["x"][0] += 1
    np.save(path, rows)
    with pytest.raises(StoreError, match=r"made with other settings \(boxes.sha256: found"):
        convert(list_detection("gen1", tmp_path / "src"), tmp_path / "out.zarr", SETTINGS)


def test_check_finds_changed_boxes(tree, tmp_path):
    convert(list_detection("gen1", tree), tmp_path / "out.zarr", SETTINGS)
    zarr.open_group(tmp_path / "out.zarr" / "boxes", mode="r+")["xyxy"][2] = [5, 5, 3, 99]
    problems = check_store(tmp_path / "out.zarr").problems
    assert problems == [
        "boxes: its columns differ from those that were written",
        "boxes: 1 boxes are empty or reach beyond 60 x 76 pixels",
    ]
    (tmp_path / "out.zarr" / "boxes" / "class_id" / "zarr.json").unlink()
    assert "class_id" in check_store(tmp_path / "out.zarr").problems[0]


def test_info_counts_windows_and_boxes(whole):
    info = store_info(whole)
    assert info["boxes"]["windows"] == {
        "before a label": 12, "known to be empty": 0, "of which nothing is known": 0
    }  # fmt: skip
    assert info["classes"] == {
        "car": {"train": 3, "validation": 3, "test": 0},
        "pedestrian": {"train": 3, "validation": 0, "test": 3},
    }
    text = run("info", whole).stdout
    assert "12 before a label; of 4 recordings" in text
    assert "class    car: 3 train, 3 validation" in text
    card = (whole / "README.md").read_text()
    assert "12 windows of 5 frames, 4 channels, 60 x 76 pixels" in card
    assert "task_categories: [object-detection]" in card


def test_view_draws_the_boxes_where_they_are(whole, tmp_path):
    """Frames of 76 pixels are drawn three times as large, 10 pixels from the left and 33 from above."""
    done = run("view", whole, "--sample", 4, "--png", tmp_path / "view.png", "--gif", tmp_path / "view.gif")
    assert done.exit_code == 0, done.output
    assert "window 4: 1 pedestrian, up to 500,000 us of train/clip1_td.dat" in done.stderr
    picture = np.asarray(Image.open(tmp_path / "view.png"))
    drawn = (picture == CLASS_RGB[1]).all(axis=2)
    x0, y0, x1, y1 = (round(3 * edge / 4) for edge in box_of(1, (240, 304)))
    tile = drawn[33 : 33 + 180, 10 : 10 + 228]
    rows, columns = np.nonzero(tile)
    assert (columns.min(), columns.max()) == (x0, x1 - 1)
    assert rows.max() == y1 - 1
    assert tile[y0, x0:x1].all()
    assert tile[y0:y1, x0].all()
    with Image.open(tmp_path / "view.gif") as film:
        assert film.n_frames == 10


def test_convert_command(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = [
        "--preset",
        "stack",
        "--labels-from-us",
        "300000",
        "--min-side",
        "70",
        "--workers",
        "1",
        "--json",
    ]
    done = run("convert", "gen1", tree, "out.zarr", *options)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["ok"] == 8
    assert "note: label times before 300000 us: 4" in done.stderr
    assert "8 of 8 windows" in done.stderr
    store = open_detection_store("out.zarr")
    assert store.frames.shape == (8, 1, 20, 240, 304)
    assert store.boxes_of(0).ignore.tolist() == [False]  # 76 x 80 pixels
    assert store.boxes.rules.first_us == 300_000


@pytest.mark.parametrize("wanted", [1, 7, 100, 10_000])
def test_windows_of_so_many_events_end_at_their_labels(tree, tmp_path, wanted):
    """Of some 600 a second, a hundred reach further back than is looked first, 10,000 to the beginning."""
    out = tmp_path / "out.zarr"
    done = run("convert", "gen1", tree, out, "--frames", 1, "--micro-bins", 1, "--value", "count",
        "--window-us", 2_000_000, "--window-events", wanted, "--workers", 1)  # fmt: skip
    assert done.exit_code == 0, done.output
    store = open_detection_store(out)
    for window in range(len(store)):
        path = tree / store.recording_names[store.recording[window]]
        before = [
            event for event in open_recording(path).read().tolist() if event[0] < store.t_end_us[window]
        ]
        last = before[-wanted:]
        expected = np.zeros((1, 2, 240, 304), np.uint8)
        for _, x, y, p in last:
            expected[0, int(p), y, x] += 1
        np.testing.assert_array_equal(store.frames.read(window), expected)
        assert store.frames.n_events[window] == len(last) == min(wanted, len(before))
        assert store.t_start_us[window] == last[0][0]
    assert check_store(out, against=tree).problems == []


def test_convert_command_leaves_a_broken_pair_out(tmp_path):
    write_bbox_tree(tmp_path / "src")
    (tmp_path / "src" / "train" / "clip0_bbox.npy").write_bytes(b"torn")
    done = run("convert", "gen1", tmp_path / "src", tmp_path / "out.zarr", "--size", "60x76", "--workers", 1)
    assert done.exit_code == 3
    assert len([line for line in done.stderr.splitlines() if line.startswith("failed: ")]) == 1
    assert "failed: train/clip0_td.dat: " in done.stderr
    assert "9 of 9 windows" in done.stderr
    assert store_info(tmp_path / "out.zarr")["samples"]["ok"] == 9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gen1", "--binning", "time"], "its samples are windows before labels, got binning 'time'"),
        (["gen1", "--events"], "windows of recordings with boxes; leave out --events"),
        (["gen1", "--seed", "3"], "leave out --seed"),
        (["folder", "--negatives-us", "5"], "its recordings have no boxes; leave out --negatives-us"),
        (["rvt", "--preset", "stack"], "holds frames of windows already; leave out binning and windows"),
    ],
)
def test_options_that_do_not_fit_are_refused(tree, tmp_path, arguments, said):
    dataset, *options = arguments
    done = run("convert", dataset, tree, tmp_path / "out.zarr", *options)
    assert done.exit_code != 0
    assert said in " ".join(done.output.split())

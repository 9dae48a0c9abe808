"""Sequences in RVT's layout, with frames: where windows end, what they hold, and that they are read again."""

import h5py
import hdf5plugin  # noqa: F401  registers Blosc
import numpy as np
import pytest
from typer.testing import CliRunner

from events.binning.settings import PRESETS
from events.binning.window import bin_window
from events.cli.program import app
from events.convert import ConvertSettings, convert
from events.datasets.detection.registry import list_detection
from events.errors import LabelError
from events.export_rvt import RvtSettings, export_rvt, window_ends
from events.labels.formats import read_labels, write_labels
from events.labels.table import make_table
from events.readers.registry import open_recording
from events.recording import EVENT_DTYPE
from events.store.detection import open_detection_store
from events.writers.registry import write_recording

HW = (240, 304)
FRAMES = "event_representations_v2/stacked_histogram_dt=50_nbins=10"


def some_events():
    rng = np.random.default_rng(3)
    events = np.zeros(30_000, EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(0, 900_000, len(events)))
    events["x"], events["y"] = rng.integers(0, 304, len(events)), rng.integers(0, 240, len(events))
    events["p"] = rng.random(len(events)) < 0.5
    return events


def some_labels(**given):
    """Before RVT's first time, on its grid, off it, with nothing on the sensor, on it again within 2 ms."""
    t = [50_000, 150_000, 300_000, 400_000, 651_500, 651_500]
    boxes = [
        [1, 1, 9, 9],
        [10, 10, 40, 50],
        [1, 1, 9, 9],
        [400, 10, 410, 20],
        [-5, 10, 30, 40],
        [9, 9, 30, 30],
    ]
    return make_table(t, boxes, [0, 1, 0, 0, 0, 1], sensor_hw=HW, **given)


def test_windows_end_at_labels_and_evenly_between():
    ends = window_ends(np.array([260_000, 510_000, 610_001]), 50_000)
    # As range(260000, 0, -50000) from behind, without the first: 10 ms would begin before 0.
    before = [60_000, 110_000, 160_000, 210_000]
    assert ends.tolist() == [*before, 260_000, 310_000, 360_000, 410_000, 460_000, 510_000, 560_000, 610_001]
    assert window_ends(np.array([250_000]), 50_000).tolist() == [100_000, 150_000, 200_000, 250_000]
    assert window_ends(np.array([30_000, 31_000]), 50_000).tolist() == [30_000, 31_000]


def test_a_sequence_holds_the_frames_of_its_windows(tmp_path):
    write_recording(tmp_path / "a_td.dat", some_events(), format="dat", sensor_hw=HW)
    recording = open_recording(tmp_path / "a_td.dat")
    windows, labelled = export_rvt(tmp_path / "a", recording, some_labels())
    ends = np.load(tmp_path / "a" / FRAMES / "timestamps_us.npy")
    # 150 ms, and 651.5: 400 has no box on the sensor, 300 is off the grid.
    assert np.load(tmp_path / "a" / "labels_v2" / "timestamps_us.npy").tolist() == [150_000, 651_500]
    assert ends.tolist()[:3] == [100_000, 150_000, 200_150]
    assert (windows, labelled, len(ends)) == (12, 2, 12)
    assert ends[np.load(tmp_path / "a" / FRAMES / "objframe_idx_2_repr_idx.npy")].tolist() == [
        150_000,
        651_500,
    ]
    with h5py.File(tmp_path / "a" / FRAMES / "event_representations.h5") as file:
        data = file["data"]
        assert (data.shape, data.dtype, data.chunks) == ((12, 20, *HW), np.uint8, (1, 20, *HW))
        for i, stop_us in enumerate(ends.tolist()):
            expected = bin_window(some_events(), settings=PRESETS["rvt"], sensor_hw=HW, stop_us=stop_us)
            np.testing.assert_array_equal(data[i], expected.frames[0])
        assert data[0].sum() == np.sum((some_events()["t"] >= 50_000) & (some_events()["t"] < 100_000))
    labels = read_labels(tmp_path / "a")
    assert labels.t.tolist() == [150_000, 651_500, 651_500]
    assert labels.xyxy[1].tolist() == [0, 10, 30, 40]


def test_halved_frames_keep_the_second_of_every_two_pixels(tmp_path):
    write_recording(tmp_path / "a_td.dat", some_events(), format="dat", sensor_hw=HW)
    for halved in (False, True):
        settings = RvtSettings(halved=halved)
        export_rvt(tmp_path / "a", open_recording(tmp_path / "a_td.dat"), some_labels(), settings)
    place = tmp_path / "a" / FRAMES / "event_representations"
    with h5py.File(f"{place}.h5") as whole, h5py.File(f"{place}_ds2_nearest.h5") as half:
        np.testing.assert_array_equal(half["data"][3], whole["data"][3][:, 1::2, 1::2])
    assert read_labels(tmp_path / "a").xyxy[0].tolist() == [10, 10, 40, 50]


def test_what_was_written_is_a_data_set(tmp_path, monkeypatch):
    write_recording(tmp_path / "a_td.dat", some_events(), format="dat", sensor_hw=HW)
    write_labels(tmp_path / "a_bbox.npy", some_labels(), "gen1")
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        command = ["labels", "convert", "a_bbox.npy", f"gen1/{split}/a", "--to", "rvt", "--like", "gen1"]
        result = CliRunner().invoke(app, [*command, "--frames-of", "a_td.dat"])
        assert (result.exit_code, result.output) == (
            0,
            f"wrote gen1/{split}/a: 12 windows, 2 of them labelled\n",
        )
    listing = list_detection("rvt", tmp_path / "gen1")
    assert listing.binning is not None
    convert(listing, tmp_path / "gen1.zarr", ConvertSettings(binning=listing.binning), workers=0)
    store = open_detection_store(tmp_path / "gen1.zarr")
    assert store.t_end_us.tolist() == [150_000, 651_500] * 2
    assert store.boxes_of(1).xyxy.tolist() == [[0, 10, 30, 40], [9, 9, 30, 30]]
    expected = bin_window(some_events(), settings=PRESETS["rvt"], sensor_hw=HW, stop_us=651_500)
    np.testing.assert_array_equal(store.frames.read(1), expected.frames)


def test_labels_that_cannot_be_a_sequence(tmp_path, monkeypatch):
    write_recording(tmp_path / "a_td.dat", some_events(), format="dat", sensor_hw=HW)
    recording = open_recording(tmp_path / "a_td.dat")
    with pytest.raises(LabelError, match="of 6 boxes none is left from 100000 us on; leave the sequence out"):
        export_rvt(tmp_path / "a", recording, some_labels(ignore=[True] * 6))
    assert not (tmp_path / "a").exists()
    write_labels(tmp_path / "a_bbox.npy", some_labels(), "gen1")
    monkeypatch.chdir(tmp_path)
    for extra, said in (
        (["--to", "coco", "--frames-of", "a_td.dat"], "--frames-of belongs to --to rvt, got --to coco"),
        (["--to", "rvt", "--halve"], "--grid, --every and --halve belong to --frames-of"),
    ):
        result = CliRunner().invoke(app, ["labels", "convert", "a_bbox.npy", "b", *extra])
        assert (result.exit_code, result.output) == (2, f"error: {said}\n")

"""Published data sets as they lie on disk, from their own formats to a store."""

import shutil

import numpy as np
import pytest
from suites.reader_suite import random_events

from events.binning.settings import BinSettings
from events.convert import ConvertSettings, convert
from events.datasets.registry import list_samples
from events.store.reader import open_store
from events.writers.registry import write_recording

SETTINGS = ConvertSettings(binning=BinSettings(frames=3))


def converted(dataset, root, dst, **options):
    """Return the store of a data set, and its samples' paths with their numbers of events."""
    summary = convert(list_samples(dataset, root, allow_missing=True, **options), dst, SETTINGS)
    assert summary.failures == ()
    store = open_store(dst)
    paths = store.source_paths()
    return store, {paths[s]: int(n) for s, n in zip(store.source_index, store.n_events, strict=True)}


def write(path, seed, *, format, sensor_hw, n=120):
    path.parent.mkdir(parents=True, exist_ok=True)
    events = random_events(seed, n, sensor_hw=sensor_hw, span_us=90_000)
    write_recording(path, events, format=format, sensor_hw=sensor_hw)
    return events


def test_mnist_dvs(tmp_path):
    for scale in (4, 8, 16):
        path = tmp_path / f"grabbed_data3/scale{scale}/mnist_3_scale{scale:02d}_0001.aedat"
        write(path, scale, format="aedat2", sensor_hw=(128, 128), n=10 * scale)
    store, counts = converted("mnist-dvs", tmp_path, tmp_path / "s.zarr", select="scale8")
    assert (store.shape[1:], list(counts.values())) == ((3, 2, 128, 128), [80])
    assert store.attributes["selection"] == "scale8"


def test_ncars_of_a_real_recording(tmp_path, samples):
    for split in ("train", "test"):
        path = tmp_path / f"n-cars_{split}/cars/obj_000001_td.dat"
        path.parent.mkdir(parents=True)
        shutil.copy(samples("dat/tonic_sample_ncars.dat"), path)
    store, counts = converted("ncars", tmp_path, tmp_path / "s.zarr")
    assert store.shape == (2, 3, 2, 100, 120)
    assert set(counts.values()) == {2009}
    assert store.label.tolist() == [1, 1]


def test_n_caltech101_of_a_real_recording(tmp_path, samples):
    path = tmp_path / "Caltech101/Faces_easy/image_0001.bin"
    path.parent.mkdir(parents=True)
    shutil.copy(samples("ncaltech101/faces_easy_0001.bin"), path)
    store, counts = converted("n-caltech101", tmp_path, tmp_path / "s.zarr")
    assert (store.shape[3:], list(counts.values())) == ((180, 240), [67_445])


@pytest.mark.parametrize("names", [("t", "x", "y", "p"), ("x", "y", "t", "p")])
def test_dvs_lip(tmp_path, names):
    for split in ("train", "test"):
        events = random_events(1, 90, sensor_hw=(128, 128), span_us=50_000)
        array = np.zeros(90, [(name, "u1" if name != "t" else "<i8") for name in names])
        for name in names:
            array[name] = events[name]
        (tmp_path / split / "about").mkdir(parents=True)
        np.save(tmp_path / split / "about" / "0.npy", array)
    store, counts = converted("dvs-lip", tmp_path, tmp_path / "s.zarr")
    assert (store.shape[3:], set(counts.values())) == ((128, 128), {90})


def test_asl_dvs_has_its_pictures_upright(tmp_path):
    from scipy.io import savemat

    events = random_events(2, 90, sensor_hw=(180, 240), span_us=50_000)
    for number in range(5):
        path = tmp_path / f"b/b_{number:04d}.mat"
        path.parent.mkdir(exist_ok=True)
        columns = {"ts": events["t"], "x": events["x"], "y": 179 - events["y"], "pol": events["p"]}
        savemat(path, {name: np.asarray(values)[:, None] for name, values in columns.items()})
    store, counts = converted("asl-dvs", tmp_path, tmp_path / "s.zarr")
    assert set(counts.values()) == {90}
    frames = store.read(0).sum(axis=0)
    expected = np.zeros_like(frames)
    np.add.at(expected, (events["p"].astype(int), events["y"], events["x"]), 1)
    np.testing.assert_array_equal(frames, expected)
    assert set(store.label.tolist()) == {1}


def test_dvs_gesture(tmp_path):
    events = write(tmp_path / "user24_led.aedat", 3, format="aedat3", sensor_hw=(128, 128), n=3000)
    labels = "class,startTime_usec,endTime_usec\n8,1000,30000\n8,30000,60000\n11,70000,89000\n"
    (tmp_path / "user24_led_labels.csv").write_text(labels)
    listing = list_samples("dvs-gesture", tmp_path, allow_missing=True, select="joined-rows")
    convert(listing, tmp_path / "s.zarr", SETTINGS)
    store = open_store(tmp_path / "s.zarr")
    found = dict(zip(store.label.tolist(), store.n_events.tolist(), strict=True))
    inside = {7: (1000, 60_000), 10: (70_000, 89_000)}
    assert found == {
        label: np.count_nonzero((events["t"] >= start) & (events["t"] < stop))
        for label, (start, stop) in inside.items()
    }

"""Every data set with boxes, listed and converted from files in its layout."""

from dataclasses import replace

import numpy as np
import pytest
from suites.boxed_files import LABEL_TIMES, SECOND, TREES, box_of, write_bbox_tree, write_rvt

from events.binning.settings import PRESETS
from events.convert import ConvertSettings, convert
from events.datasets.detection.registry import DETECTION_SETS, list_detection
from events.datasets.detection.windows import WindowRules
from events.errors import ConfigError, DatasetError
from events.labels.classes import label_set
from events.store.check import check_store
from events.store.detection import open_detection_store
from events.synth.outlines import CLASS_NAMES


def settings_for(listing) -> ConvertSettings:
    """Return small settings that fit a listing's windows."""
    binning = listing.binning or replace(PRESETS["cube"], window_us=listing.windows.rules.window_us)
    return ConvertSettings(binning=binning, shard_samples=4)


def made(name, tmp_path, **choices):
    """Return the store of a set's made-up tree, and its listing."""
    listing = list_detection(name, TREES[name](tmp_path / "src"), **choices)
    convert(listing, tmp_path / "out.zarr", settings_for(listing))
    return open_detection_store(tmp_path / "out.zarr"), listing


def test_every_set_has_a_tree():
    assert set(TREES) == set(DETECTION_SETS)


@pytest.mark.parametrize("name", sorted(DETECTION_SETS))
def test_every_event_of_a_window_lies_in_its_box(name, tmp_path):
    """Times, corners, offsets and splits have to be right for that, as boxes hold all events there are."""
    store, listing = made(name, tmp_path)
    assert listing.left_out == ()
    assert not check_store(store.path, against=tmp_path / "src").problems
    seen = 0
    for window in range(len(store)):
        boxes, frames = store.boxes_of(window), store.frames.read(window)
        if len(boxes.xyxy) == 0:
            continue
        assert len(boxes.xyxy) == 1
        x0, y0, x1, y1 = boxes.xyxy[0].astype(int)
        # N-Caltech101's events stay where they are; its boxes move by at most 3.5 and 7 pixels.
        margin = 8 if name == "ncaltech101-boxes" else 0
        x0, y0, x1, y1 = max(0, x0 - margin), max(0, y0 - margin), x1 + margin, y1 + margin
        assert frames.sum() > 0
        assert frames[:, :, y0:y1, x0:x1].sum() == frames.sum()
        seen += 1
    assert seen >= 2 * len(store) // 3
    assert {name: len(store.indices(name)) > 0 for name in ("train", "test")} == {"train": True, "test": True}


def test_gen1_has_its_times_classes_tracks_and_splits(tmp_path):
    store, _ = made("gen1", tmp_path)
    assert store.class_names == ("car", "pedestrian")
    assert store.sensor_hw == (240, 304)
    assert store.t_end_us.tolist() == list(LABEL_TIMES) * 4
    assert store.recording.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert store.recording_names[2:] == ("val/clip2_td.dat", "test/clip3_td.dat")
    assert [store.indices(split).tolist() for split in ("train", "validation", "test")] == [
        [0, 1, 2, 3, 4, 5],
        [6, 7, 8],
        [9, 10, 11],
    ]
    boxes = store.boxes_of(4)
    assert boxes.xyxy.tolist() == [list(box_of(1, (240, 304)))]
    assert (boxes.class_id.tolist(), boxes.track_id.tolist()) == ([1], [7])


def test_1mpx_takes_three_classes_and_keeps_windows_of_others_empty(tmp_path):
    store, listing = made("1mpx", tmp_path)
    assert store.class_names == ("pedestrian", "two-wheeler", "car")
    assert [len(store.boxes_of(window).xyxy) for window in range(len(store))] == [1] * 9 + [0] * 3
    assert "boxes of other classes left out: 3" in listing.problems
    every = list_detection("1mpx", tmp_path / "src", select="all")
    assert (len(every.class_names), len(every.windows.xyxy)) == (7, 12)


def test_dsec_has_absolute_times_and_two_classes_where_asked_for(tmp_path):
    store, _ = made("dsec-det", tmp_path, select="car-pedestrian")
    assert store.class_names == ("car", "pedestrian")
    assert store.t_end_us[0] == 50 * SECOND + LABEL_TIMES[0]
    assert store.boxes_of(0).class_id.tolist() == [0]


def test_pedro_reads_xml_or_yolo_and_keeps_the_window_without_a_person(tmp_path):
    store, listing = made("pedro", tmp_path)
    assert listing.windows.rules.window_us == 40_000
    found = {name: store.boxes_of(window).xyxy.tolist() for window, name in enumerate(store.recording_names)}
    assert found["numpy/train/frame0.npy"] == [list(box_of(0, (260, 346)))]
    np.testing.assert_allclose(found["numpy/val/frame1.npy"], [box_of(1, (260, 346))], atol=1e-3)
    assert found["numpy/test/frame2.npy"] == []
    assert store.labelled.all()


def test_ncaltech101_moves_its_boxes_and_splits_by_class(tmp_path):
    store, listing = made("ncaltech101-boxes", tmp_path, split="random:0:0.4:0.3")
    assert store.class_names == ("ant", "bass")
    assert "1 recording of classes without annotations left out: background_google" in listing.problems
    assert store.t_end_us[:3].tolist() == [100_000, 200_000, 300_000]
    corners = [store.boxes_of(window).xyxy[0, :2].tolist() for window in range(3)]
    x0, y0 = box_of(0, (180, 240))[:2]
    assert corners == [[x0 + 3.5, y0 + 7], [x0 + 7, y0], [x0, y0]]
    by_class = {name: [] for name in store.class_names}
    for window in range(0, len(store), 3):
        label = store.class_names[int(store.boxes_of(window).class_id[0])]
        by_class[label].append(int(store.frames.split[window]))
    assert sorted(by_class["ant"]) == sorted(by_class["bass"])
    assert len(set(by_class["ant"])) >= 2


def test_rvt_takes_the_frames_of_labelled_windows(tmp_path):
    store, _ = made("rvt", tmp_path)
    assert store.frames.shape == (8, 1, 20, 240, 304)
    assert store.t_end_us[:4].tolist() == [150_000, 250_000, 350_000, 450_000]
    x0, y0 = box_of(0, (240, 304))[:2]
    assert [int(store.frames.read(window)[0, 2 * window + 1, y0, x0]) for window in range(4)] == [2, 4, 6, 8]


def test_rvt_halves_the_boxes_of_halved_frames(tmp_path):
    listing = list_detection("rvt", write_rvt(tmp_path / "src", halved=True))
    assert listing.sensor_hw == (360, 640)
    assert listing.windows.xyxy[0].tolist() == list(box_of(0, (360, 640)))
    assert listing.class_names == ("pedestrian", "two-wheeler", "car")


def test_rvt_is_made_already(tmp_path):
    write_rvt(tmp_path / "src")
    with pytest.raises(ConfigError, match="its windows are made already; leave out the rules"):
        list_detection("rvt", tmp_path / "src", rules=WindowRules(window_us=7))
    listing = list_detection("rvt", tmp_path / "src")
    with pytest.raises(ConfigError, match="frames already; leave out the settings of binning"):
        convert(listing, tmp_path / "out.zarr", ConvertSettings(binning=PRESETS["stack"]))


def test_shapes_are_named_as_they_are_made():
    assert label_set("shapes").class_names == CLASS_NAMES


def test_shapes_have_the_sensor_their_headers_say(tmp_path):
    """Gen1 reads them too, with the sensor of the files and not that of Gen1."""
    write_bbox_tree(tmp_path / "src", sensor_hw=(48, 64))
    assert list_detection("shapes", tmp_path / "src").sensor_hw == (48, 64)
    assert list_detection("gen1", tmp_path / "src").sensor_hw == (48, 64)


def break_labels(folder):
    (folder / "clip1_bbox.npy").write_bytes(b"no records")


def break_recording(folder):
    (folder / "clip1_td.dat").write_bytes(b"")


def remove_labels(folder):
    (folder / "clip1_bbox.npy").unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (break_labels, "clip1_bbox.npy"),
        (break_recording, "is empty"),
        (remove_labels, "has no label file beside it"),
    ],
)
def test_a_broken_pair_is_left_out_and_named(damage, said, tmp_path):
    write_bbox_tree(tmp_path / "src")
    damage(tmp_path / "src" / "train")
    listing = list_detection("gen1", tmp_path / "src")
    assert [pair.path for pair in listing.left_out] == ["train/clip1_td.dat"]
    assert said in listing.left_out[0].reason
    summary = convert(listing, tmp_path / "out.zarr", settings_for(listing))
    assert (summary.ok, summary.failed) == (9, 0)
    assert [failure.path for failure in summary.failures] == ["train/clip1_td.dat"]
    assert len(open_detection_store(tmp_path / "out.zarr").recording_names) == 3


def test_a_recording_that_breaks_inside_fails_as_one_line(tmp_path):
    write_bbox_tree(tmp_path / "src")
    path = tmp_path / "src" / "train" / "clip0_td.dat"
    path.write_bytes(path.read_bytes()[:1003])
    listing = list_detection("gen1", tmp_path / "src")
    listing = listing.with_options(replace(listing.read_options, damage="strict"))
    summary = convert(listing, tmp_path / "out.zarr", settings_for(listing))
    assert (summary.ok, summary.failed, len(summary.failures)) == (9, 3, 1)
    assert summary.failures[0].error.endswith("(3 samples)")


def test_what_cannot_be_listed_is_said(tmp_path):
    with pytest.raises(DatasetError, match=r"no data set with boxes 'gen2'; known: .*did you mean 'gen1'"):
        list_detection("gen2", tmp_path)
    for name in DETECTION_SETS:
        with pytest.raises(DatasetError, match=r"expected .*folder is empty"):
            list_detection(name, tmp_path)
    write_bbox_tree(tmp_path / "src")
    for labels in (tmp_path / "src").rglob("*_bbox.npy"):
        labels.unlink()
    with pytest.raises(
        DatasetError, match="none of 4 pairs of recording and labels can be read; first: train"
    ):
        list_detection("gen1", tmp_path / "src")
    with pytest.raises(
        ConfigError, match="select 'few' is not defined for data set '1mpx'; known: first-three"
    ):
        list_detection("1mpx", tmp_path / "src", select="few")


def test_windows_without_labels_can_be_taken_too(tmp_path):
    write_bbox_tree(tmp_path / "src")
    rules = WindowRules(window_us=100_000, every_us=50_000)
    listing = list_detection("gen1", tmp_path / "src", rules=rules)
    convert(listing, tmp_path / "out.zarr", settings_for(listing))
    store = open_detection_store(tmp_path / "out.zarr")
    assert store.t_end_us[:11].tolist() == list(range(250_000, 750_001, 50_000))
    assert store.labelled[:11].tolist() == [t in LABEL_TIMES for t in store.t_end_us[:11]]
    assert len(store.indices("test")) == 3
    assert len(store.indices("test", labelled=False)) == 11


def test_frames_of_another_size_scale_their_boxes(tmp_path):
    write_bbox_tree(tmp_path / "src")
    listing = list_detection("gen1", tmp_path / "src")
    small = ConvertSettings(binning=replace(PRESETS["counts"], size_hw=(120, 76)))
    convert(listing, tmp_path / "out.zarr", small)
    store = open_detection_store(tmp_path / "out.zarr")
    x0, y0, x1, y1 = box_of(0, (240, 304))
    assert store.boxes_of(0).xyxy.tolist() == [[x0 / 4, y0 / 2, x1 / 4, y1 / 2]]
    assert (store.frame_hw, store.sensor_hw) == ((120, 76), (240, 304))


def test_binning_that_is_of_no_window_is_refused(tmp_path):
    listing = list_detection("gen1", write_bbox_tree(tmp_path / "src"))
    with pytest.raises(ConfigError, match="windows before labels, got split 'count'"):
        convert(listing, tmp_path / "out.zarr")
    with pytest.raises(ConfigError, match="of 100000 us, got window_us 50000; give both the same"):
        convert(listing, tmp_path / "out.zarr", ConvertSettings(binning=PRESETS["stack"]))


def test_pedro_as_published(samples, tmp_path):
    listing = list_detection("pedro", samples("pedro"))
    convert(listing, tmp_path / "out.zarr", settings_for(listing))
    store = open_detection_store(tmp_path / "out.zarr")
    assert [len(store.indices(split)) for split in ("train", "validation", "test")] == [2, 3, 4]
    assert (len(store), len(store.boxes.xyxy), store.class_names) == (9, 13, ("person",))
    # The files have 2,498 to 82,224 events; windows of 40,000 us leave out the first few.
    assert sorted(store.frames.n_events.tolist())[::8] == [2498, 82220]
    assert not check_store(store.path, against=samples("pedro")).problems
    window = store.recording_names.index("examples/numpy/train/frame0013230.npy")
    assert store.boxes_of(window).xyxy.tolist() == [[76, 36, 120, 162], [212, 24, 268, 180]]


def test_ncaltech101_as_published(samples, tmp_path):
    """A real recording with an annotation made here, as none is beside it."""
    from suites.boxed_files import annotation_bytes

    folder = tmp_path / "src" / "Faces_easy"
    folder.mkdir(parents=True)
    (folder / "image_0001.bin").symlink_to(samples("ncaltech101/faces_easy_0001.bin"))
    (folder / "annotation_0001.bin").write_bytes(annotation_bytes((50, 30, 180, 150)))
    listing = list_detection("ncaltech101-boxes", tmp_path / "src")
    convert(listing, tmp_path / "out.zarr", settings_for(listing))
    store = open_detection_store(tmp_path / "out.zarr")
    assert store.class_names == ("faces_easy",)
    # All 67,445 events lie between 6 and 299,364 us, in three windows up to 300,000.
    assert store.frames.n_events.sum() == 67_445
    assert store.boxes_of(2).xyxy.tolist() == [[50, 30, 181, 151]]

"""Sets in class folders: N-Caltech101, N-Cars, DVS-Lip, ASL-DVS."""

import pytest
from suites.dataset_files import write_files
from suites.dataset_suite import DatasetSuite

from events.datasets.registry import list_samples
from events.errors import DatasetError


class TestNCaltech101(DatasetSuite):
    dataset = "n-caltech101"

    def write_good_tree(self, root):
        classes = ("BACKGROUND_Google", "Faces", "accordion")
        write_files(root, *[f"{name}/image_{n:04d}.bin" for name in classes for n in range(1, 11)])

    def drop_one_class(self, root):
        for path in (root / "Faces").iterdir():
            path.unlink()


class TestNCars(DatasetSuite):
    dataset = "ncars"

    def write_good_tree(self, root):
        for split in ("n-cars_train", "n-cars_test"):
            classes = ("cars", "background")
            write_files(root, *[f"{split}/{name}/obj_{n:06d}_td.dat" for name in classes for n in range(10)])

    def drop_one_class(self, root):
        for path in root.glob("*/cars/*.dat"):
            path.unlink()


class TestDvsLip(DatasetSuite):
    dataset = "dvs-lip"

    def write_good_tree(self, root):
        for split in ("train", "test"):
            write_files(root, *[f"{split}/{word}/{n}.npy" for word in ("about", "worst") for n in range(10)])

    def drop_one_class(self, root):
        for path in root.glob("*/about/*.npy"):
            path.unlink()


class TestAslDvs(DatasetSuite):
    dataset = "asl-dvs"

    def write_good_tree(self, root):
        letters = "abcdefghiklmnopqrstuvwxy"
        write_files(root, *[f"{letter}/{letter}_{n:04d}.mat" for letter in letters for n in range(10)])

    def drop_one_class(self, root):
        for path in (root / "c").iterdir():
            path.unlink()


def test_classes_of_known_sets_keep_their_labels_in_a_part_of_the_set(tmp_path):
    write_files(tmp_path, *[f"{letter}/{letter}_{n:04d}.mat" for letter in "dy" for n in range(5)])
    with pytest.raises(DatasetError, match=r"no recordings in class folder a, b, c, e, f and 17 more; add"):
        list_samples("asl-dvs", tmp_path)
    listing = list_samples("asl-dvs", tmp_path, allow_missing=True)
    assert {(s.path[0], s.label) for s in listing.samples} == {("d", 3), ("y", 23)}
    assert listing.split_rule == "random:0:0.8"
    assert "10 recordings, the whole set has 100800" in listing.problems


def test_a_class_that_a_known_set_does_not_have(tmp_path):
    write_files(tmp_path, "n-cars_train/trucks/obj_000001_td.dat", "n-cars_test/cars/obj_000001_td.dat")
    with pytest.raises(DatasetError, match=r": class folder trucks, expected background, cars; move it away"):
        list_samples("ncars", tmp_path)


def test_a_letter_in_the_folder_of_another(tmp_path):
    write_files(tmp_path, "a/a_0001.mat", "b/B_0001.mat", "b/a_0002.mat")
    message = r": 1 recording in the folder of another class: b/a_0002\.mat; move or rename it"
    with pytest.raises(DatasetError, match=message):
        list_samples("asl-dvs", tmp_path, allow_missing=True)


def test_ncars_has_its_official_split_and_numbers(tmp_path):
    for name in ("cars", "background"):
        write_files(
            tmp_path, f"n-cars_train/{name}/obj_000007_td.dat", f"n-cars_test/{name}/obj_000008_td.dat"
        )
    listing = list_samples("ncars", tmp_path)
    assert [(s.label, s.number, s.split) for s in listing.samples] == [
        (0, 7, "train"),
        (0, 8, "test"),
        (1, 7, "train"),
        (1, 8, "test"),
    ]
    assert (listing.split_rule, listing.class_names, listing.sensor_hw) == (
        "official",
        ("background", "cars"),
        (100, 120),
    )


def test_outlines_of_n_caltech101_are_no_recordings(tmp_path):
    write_files(
        tmp_path, *[f"Caltech101/{name}/image_{n:04d}.bin" for name in ("ant", "bass") for n in range(5)]
    )
    write_files(tmp_path, "Caltech101_annotations/ant/annotation_0001.bin")
    listing = list_samples("n-caltech101", tmp_path)
    assert len(listing.samples) == 10
    assert (
        "1 other file left out (1 .bin), first: Caltech101_annotations/ant/annotation_0001.bin"
        in listing.problems
    )

"""Folders of any recordings: classes, splits, what is left out."""

import os
from collections import Counter

import pytest
from suites.dataset_files import write_files
from suites.dataset_suite import DatasetSuite

from events.datasets.registry import list_samples
from events.errors import DatasetError


class TestFolder(DatasetSuite):
    dataset = "folder"

    def write_good_tree(self, root):
        write_files(root, *[f"{name}/rec_{n}.npz" for name in ("cat", "dog", "eel") for n in range(10)])

    def drop_one_class(self, root):
        for path in (root / "cat").iterdir():
            path.unlink()


class TestFolderWithSplits(TestFolder):
    def write_good_tree(self, root):
        for split, count in (("Train", 20), ("val", 10), ("TEST", 10)):
            write_files(root, *[f"{split}/{name}/{n}.npy" for name in ("cat", "dog") for n in range(count)])

    def drop_one_class(self, root):
        for split in ("Train", "val", "TEST"):
            for path in (root / split / "cat").iterdir():
                path.unlink()


def test_folder_takes_official_splits_from_the_top_folders(tmp_path):
    write_files(
        tmp_path,
        "train/cat/a.npz",
        "Validation/cat/b.npz",
        "test/cat/c/d.npz",
        "train/dog/a.csv",
        "test/dog/a.bin",
    )
    listing = list_samples("folder", tmp_path)
    assert [(s.path, s.label, s.split) for s in listing.samples] == [
        ("Validation/cat/b.npz", 0, "validation"),
        ("test/cat/c/d.npz", 0, "test"),
        ("train/cat/a.npz", 0, "train"),
        ("test/dog/a.bin", 1, "test"),
        ("train/dog/a.csv", 1, "train"),
    ]
    assert listing.split_rule == "official"
    assert listing.problems == ("validation: no recordings of class dog",)
    assert listing.sensor_hw is None


def test_folder_without_split_folders_says_it_splits_at_random(tmp_path):
    write_files(tmp_path, *[f"{name}/{n}.npz" for name in ("a", "b") for n in range(10)])
    listing = list_samples("folder", tmp_path)
    assert listing.split_rule == "random:0:0.9"
    assert listing.problems == ("no train and test folders, so split random:0:0.9 is used",)
    assert Counter(s.split for s in listing.samples) == {"train": 18, "test": 2}


def test_folder_names_what_it_leaves_out(tmp_path):
    write_files(tmp_path, "cat/a.npz", "cat/a.aedat", "dog/b.npz", "stray.npz", "dog/c.avi", "cat/notes")
    (tmp_path / "dog" / "gone.npz").symlink_to(tmp_path / "nowhere")
    (tmp_path / "dog" / "again").symlink_to(tmp_path)
    listing = list_samples("folder", tmp_path, split="random:0:0.5")
    assert [s.path for s in listing.samples] == ["cat/a.aedat", "cat/a.npz", "dog/b.npz"]
    assert listing.problems == (
        "the same name with several suffixes, perhaps twice the same: cat/a.aedat, cat/a.npz",
        "1 recording in no class folder left out: stray.npz",
        "2 other files left out (1 .avi, 1 no suffix), first: cat/notes",
        "2 broken links left out: dog/again, dog/gone.npz",
    )


def test_folder_names_what_is_no_file(tmp_path):
    """A pipe is not opened, which would wait for ever, and not passed over in silence."""
    write_files(tmp_path, "cat/a.npz", "dog/b.npz")
    os.mkfifo(tmp_path / "cat" / "pipe.npz")
    (tmp_path / "dog" / "to_pipe.npz").symlink_to(tmp_path / "cat" / "pipe.npz")
    listing = list_samples("folder", tmp_path, split="random:0:0.5")
    assert [s.path for s in listing.samples] == ["cat/a.npz", "dog/b.npz"]
    found = "2 special files left out (pipe, socket or device): cat/pipe.npz, dog/to_pipe.npz"
    assert found in listing.problems


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (
            ["a.npz", "b.npz"],
            r": 2 recordings but no class folders, first: a\.npz; name the folder above .* or sort them ",
        ),
        (
            ["train/a/1.npz", "dog/1.npz"],
            r": split folder train beside dog; have train and test folders or class",
        ),
        (["Cat/1.npz", "cat/1.npz"], r": class folders Cat, cat differ only in case; rename one$"),
        (
            ["train/a/1.npz"],
            r": no test folder with recordings; add it, or choose --split random:0:0\.9 or --allow",
        ),
        (
            ["a/1.avi"],
            r": no recordings, expected .*; found: 1 other file left out \(1 \.avi\), first: a/1\.avi; check",
        ),
    ],
)
def test_folder_layouts_that_cannot_be_right(tmp_path, paths, message):
    write_files(tmp_path, *paths)
    with pytest.raises(DatasetError, match=message):
        list_samples("folder", tmp_path)

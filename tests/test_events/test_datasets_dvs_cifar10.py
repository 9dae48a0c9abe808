"""CIFAR10-DVS: layouts, published splits, what is missing or extra."""

import os
from collections import Counter

import pytest
from suites.dataset_files import cifar10_paths, splits_by_number, write_files
from suites.dataset_suite import DatasetSuite

from events.datasets.class_order import CIFAR10_CLASSES, DIGIT_WORDS, order_classes
from events.datasets.registry import list_samples
from events.errors import DatasetError


class TestDvsCifar10(DatasetSuite):
    dataset = "dvs-cifar10"

    def write_good_tree(self, root):
        write_files(root, *[f"{word}/digits_{word}_{n}.aedat" for word in DIGIT_WORDS for n in range(10)])

    def drop_one_class(self, root):
        for path in (root / "seven").iterdir():
            path.unlink()


@pytest.fixture(scope="module")
def full_cifar10(tmp_path_factory):
    """10 x 1000 empty recordings, as in the full set."""
    root = tmp_path_factory.mktemp("CIFAR10DVS")
    for name in CIFAR10_CLASSES:
        (root / name).mkdir()
        for number in range(1000):
            os.close(os.open(root / name / f"cifar10_{name}_{number}.aedat", os.O_CREAT))
    return root


@pytest.mark.parametrize(
    ("split", "train_numbers", "test_numbers"),
    [
        ("tet", range(900), range(900, 1000)),
        ("conv_snn", range(700), range(700, 1000)),
        ("tebn", range(100, 1000), range(100)),
    ],
)
def test_published_splits_of_the_full_set_go_by_number(full_cifar10, split, train_numbers, test_numbers):
    listing = list_samples("dvs-cifar10", full_cifar10, split=split)
    assert listing.class_names == CIFAR10_CLASSES
    assert listing.sensor_hw == (128, 128)
    assert len(listing.samples) == 10_000
    for label in range(10):
        by_number = splits_by_number(listing, label)
        assert {n for n, name in by_number.items() if name == "train"} == set(train_numbers)
        assert {n for n, name in by_number.items() if name == "test"} == set(test_numbers)
    assert not any("split" in problem for problem in listing.problems)


def test_default_split_of_cifar10_dvs_is_tet(full_cifar10):
    assert list_samples("dvs-cifar10", full_cifar10).split_rule == "tet"


def test_missing_numbers_are_named_in_ranges_and_the_split_stays_by_number(full_cifar10, tmp_path):
    for name in CIFAR10_CLASSES:
        (tmp_path / name).symlink_to(full_cifar10 / name)
    (tmp_path / "airplane").unlink()
    for number in set(range(1000)) - {17, 40, 41}:
        write_files(tmp_path, f"airplane/cifar10_airplane_{number}.aedat")
    listing = list_samples("dvs-cifar10", tmp_path)
    problems = [problem for problem in listing.problems if "empty file" not in problem]
    assert problems == ["airplane: 3 of 1000 missing: 17, 40-41"]
    by_number = splits_by_number(listing)
    assert (by_number[899], by_number[900]) == ("train", "test")
    assert len(listing.samples) == 9997


def test_a_part_of_the_set_is_split_by_share_and_says_so(tmp_path):
    write_files(tmp_path, *cifar10_paths(20))
    listing = list_samples("dvs-cifar10", tmp_path, split="tet")
    assert splits_by_number(listing) == {n: "train" if n < 18 else "test" for n in range(20)}
    assert listing.problems == (
        "a part of CIFAR10-DVS: 20 of 1000 recordings per class",
        "split tet: not the full set, so the first 90 % of each class's numbers are for training",
    )
    tebn = list_samples("dvs-cifar10", tmp_path, split="tebn")
    assert splits_by_number(tebn) == {n: "test" if n < 2 else "train" for n in range(20)}
    assert (
        "split tebn: not the full set, so the last 90 % of each class's numbers are for training"
        in tebn.problems
    )


def test_random_split_needs_no_notice(tmp_path):
    write_files(tmp_path, *cifar10_paths(10))
    listing = list_samples("dvs-cifar10", tmp_path, split="random:0:0.9")
    assert listing.problems == ("a part of CIFAR10-DVS: 10 of 1000 recordings per class",)


@pytest.mark.parametrize(
    "place",
    [
        "{name}/cifar10_{name}_{n}.aedat",
        "{name}/{name}/cifar10_{name}_{n}.aedat",
        "{name} (1)/cifar10_{name}_{n}.aedat",
        "{name} - Copy/cifar10_{name}_{n}.aedat",
        "CIFAR10DVS/{name}/cifar10_{name}_{n}.aedat",
        "{Name}/CIFAR10_{Name}_{n}.AEDAT",
        "cifar10_{name}_{n}.aedat",
        "all/cifar10_{name}_{n}.aedat",
        "{name}/{n}.aedat",
        "{name}/unpacked/cifar10_{name}_{n}.aedat",
    ],
)
def test_layouts_people_have_give_the_same_labels_and_splits(tmp_path, place):
    for name in CIFAR10_CLASSES:
        write_files(tmp_path, *[place.format(name=name, Name=name.title(), n=n) for n in range(10)])
    listing = list_samples("dvs-cifar10", tmp_path, split="random:7:0.5")
    assert listing.class_names == CIFAR10_CLASSES
    assert Counter(s.label for s in listing.samples) == dict.fromkeys(range(10), 10)
    for sample in listing.samples:
        assert CIFAR10_CLASSES[sample.label] in sample.path.lower()
    # Worked out apart from this code: the five numbers with the smallest SHA-256 of "7:airplane:<number>".
    assert {n for n, split in splits_by_number(listing).items() if split == "train"} == {0, 1, 4, 5, 8}


def test_digit_words_are_labelled_by_value_other_names_sorted(tmp_path):
    write_files(tmp_path / "digits", *[f"{word}/digits_{word}_0.aedat" for word in ("nine", "three", "one")])
    write_files(tmp_path / "pets", *[f"{name}/pets_{name}_0.aedat" for name in ("eel", "ant")])
    assert list_samples("dvs-cifar10", tmp_path / "digits").class_names == ("one", "three", "nine")
    assert list_samples("dvs-cifar10", tmp_path / "pets").class_names == ("ant", "eel")
    assert order_classes(["10", "9", "0"]) == ("0", "9", "10")


def test_folders_name_the_classes_where_file_names_do_not(tmp_path):
    write_files(tmp_path, "ant/rec_0.aedat", "ant/rec_1.aedat", "eel/rec_0.aedat")
    listing = list_samples("dvs-cifar10", tmp_path)
    assert [(s.path, s.label, s.number) for s in listing.samples] == [
        ("ant/rec_0.aedat", 0, 0),
        ("ant/rec_1.aedat", 0, 1),
        ("eel/rec_0.aedat", 1, 0),
    ]


def test_a_recording_in_the_folder_of_another_class(tmp_path):
    write_files(tmp_path, *cifar10_paths(3))
    (tmp_path / "cat" / "cifar10_cat_1.aedat").rename(tmp_path / "dog" / "cifar10_cat_1.aedat")
    with pytest.raises(
        DatasetError,
        match=r"dog/cifar10_cat_1\.aedat: its name says class 'cat', its folder says 'dog'; "
        r"move or rename it, or choose --trust folder or --trust name$",
    ):
        list_samples("dvs-cifar10", tmp_path)
    by_name = list_samples("dvs-cifar10", tmp_path, trust="name")
    assert {s.path: s.label for s in by_name.samples}["dog/cifar10_cat_1.aedat"] == CIFAR10_CLASSES.index(
        "cat"
    )
    line = "1 recording in the folder of another class, labelled by name: dog/cifar10_cat_1.aedat"
    assert line in by_name.problems
    (tmp_path / "dog" / "cifar10_dog_1.aedat").unlink()
    by_folder = list_samples("dvs-cifar10", tmp_path, trust="folder")
    assert {s.path: s.label for s in by_folder.samples}["dog/cifar10_cat_1.aedat"] == CIFAR10_CLASSES.index(
        "dog"
    )


@pytest.mark.parametrize(
    "second",
    [
        "airplane (1)/cifar10_airplane_2.aedat",
        "airplane/cifar10_airplane_2 (1).aedat",
        "more/cifar10_airplane_002.aedat",
    ],
)
def test_the_same_class_and_number_twice_names_both(tmp_path, second):
    write_files(tmp_path, *cifar10_paths(3), second)
    with pytest.raises(DatasetError) as caught:
        list_samples("dvs-cifar10", tmp_path)
    first, second = sorted([second, "airplane/cifar10_airplane_2.aedat"])
    assert str(caught.value) == (
        f"{tmp_path}: class 'airplane' has number 2 more than once: {first}, {second}; keep one of each"
    )


def test_missing_classes_are_named_with_the_archive_that_holds_them(tmp_path):
    write_files(tmp_path, *cifar10_paths(2, classes=CIFAR10_CLASSES[:8]))
    with pytest.raises(
        DatasetError, match=r": no recordings of class ship, truck; add them, or choose --allow-missing$"
    ):
        list_samples("dvs-cifar10", tmp_path)
    write_files(tmp_path, "truck.zip", "airplane.zip")
    with pytest.raises(
        DatasetError, match=r"of class ship, truck; 1 archive not unpacked: truck\.zip; unzip and list again$"
    ):
        list_samples("dvs-cifar10", tmp_path)
    listing = list_samples("dvs-cifar10", tmp_path, allow_missing=True)
    assert listing.class_names == CIFAR10_CLASSES
    assert "classes without a recording: ship, truck" in listing.problems
    assert "1 other file left out (1 .zip), first: airplane.zip" in listing.problems


def test_gaps_in_other_sets_are_named(tmp_path):
    write_files(
        tmp_path, *[f"one/d_one_{n}.aedat" for n in (0, 1, 4)], *[f"two/d_two_{n}.aedat" for n in range(5)]
    )
    listing = list_samples("dvs-cifar10", tmp_path)
    assert listing.problems == (
        "one: 2 of 5 missing: 2-3",
        "split tet: not CIFAR10-DVS, so the first 90 % of each class's numbers are for training",
    )
    assert splits_by_number(listing) == {0: "train", 1: "train", 4: "test"}


def test_recordings_of_no_class_are_left_out_and_named(tmp_path):
    write_files(tmp_path, *cifar10_paths(2), "cifar10_plane_7.aedat", "notes/12.aedat")
    listing = list_samples("dvs-cifar10", tmp_path)
    assert len(listing.samples) == 20
    line = "2 recordings left out, no class in name or folder: cifar10_plane_7.aedat, notes/12.aedat"
    assert line in listing.problems


def test_other_formats_of_cifar10_dvs_are_named(tmp_path):
    write_files(tmp_path / "a", "airplane/0.aedat4")
    with pytest.raises(
        DatasetError, match=r"no \.aedat recordings but \.aedat4 ones.*get the original files"
    ):
        list_samples("dvs-cifar10", tmp_path / "a")
    write_files(tmp_path / "b", "airplane/cifar10_airplane_0.npz")
    with pytest.raises(
        DatasetError, match=r"no \.aedat recordings but \.npz files.*list them as data set 'folder'$"
    ):
        list_samples("dvs-cifar10", tmp_path / "b")

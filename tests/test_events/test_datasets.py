"""Data sets: where recordings are, what their labels are, and what is missing or extra."""

import errno
import os
from collections import Counter

import pytest
from suites.dataset_suite import DatasetSuite

from events.datasets import nmnist
from events.datasets.class_order import CIFAR10_CLASSES, DIGIT_WORDS, order_classes
from events.datasets.registry import DATASETS, list_samples
from events.errors import ConfigError, DatasetError


def write(root, *paths, content=b"x"):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


def cifar10_paths(per_class, *, classes=CIFAR10_CLASSES):
    return [f"{name}/cifar10_{name}_{number}.aedat" for name in classes for number in range(per_class)]


def splits_by_number(listing, label=0):
    return {s.number: s.split for s in listing.samples if s.label == label}


class TestDvsCifar10(DatasetSuite):
    dataset = "dvs-cifar10"

    def write_good_tree(self, root):
        write(root, *[f"{word}/digits_{word}_{n}.aedat" for word in DIGIT_WORDS for n in range(10)])

    def drop_one_class(self, root):
        for path in (root / "seven").iterdir():
            path.unlink()


class TestNmnist(DatasetSuite):
    dataset = "nmnist"

    def write_good_tree(self, root):
        for digit in range(10):
            write(root, *[f"Train/{digit}/{digit * 20 + n + 1:05d}.bin" for n in range(20)])
            write(root, *[f"Test/{digit}/{digit * 10 + n + 1:05d}.bin" for n in range(10)])

    def drop_one_class(self, root):
        for path in [*(root / "Train" / "7").iterdir(), *(root / "Test" / "7").iterdir()]:
            path.unlink()


class TestFolder(DatasetSuite):
    dataset = "folder"

    def write_good_tree(self, root):
        write(root, *[f"{name}/rec_{n}.npz" for name in ("cat", "dog", "eel") for n in range(10)])

    def drop_one_class(self, root):
        for path in (root / "cat").iterdir():
            path.unlink()


class TestMnistDvs(DatasetSuite):
    dataset = "mnist-dvs"

    def write_good_tree(self, root):
        for scale in (4, 8, 16):
            write(
                root,
                *[
                    f"grabbed_data{digit}/scale{scale}/mnist_{digit}_scale{scale:02d}_{n:04d}.aedat"
                    for digit in range(10)
                    for n in range(1, 11)
                ],
            )

    def drop_one_class(self, root):
        for path in (root / "grabbed_data7").rglob("*.aedat"):
            path.unlink()


def write_gestures(root, name, rows, *, content=b"x"):
    lines = ["class,startTime_usec,endTime_usec", *[",".join(map(str, row)) for row in rows]]
    write(root, f"{name}.aedat", content=content)
    write(root, f"{name}_labels.csv", content="\r\n".join(lines).encode() + b"\r\n")


ELEVEN = [(gesture, 1000 * gesture, 1000 * gesture + 900) for gesture in range(1, 12)]


class TestDvsGesture(DatasetSuite):
    dataset = "dvs-gesture"

    def write_good_tree(self, root):
        for split, users in (("train", range(1, 12)), ("test", range(24, 30))):
            names = [f"user{user:02d}_led" for user in users]
            write(root, f"trials_to_{split}.txt", content="\n".join(f"{n}.aedat" for n in names).encode())
            for name in names:
                write_gestures(root, name, ELEVEN)

    def drop_one_class(self, root):
        for path in root.glob("*_labels.csv"):
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join(line for line in lines if not line.startswith("7,")))


class TestNCaltech101(DatasetSuite):
    dataset = "n-caltech101"

    def write_good_tree(self, root):
        classes = ("BACKGROUND_Google", "Faces", "accordion")
        write(root, *[f"{name}/image_{n:04d}.bin" for name in classes for n in range(1, 11)])

    def drop_one_class(self, root):
        for path in (root / "Faces").iterdir():
            path.unlink()


class TestNCars(DatasetSuite):
    dataset = "ncars"

    def write_good_tree(self, root):
        for split in ("n-cars_train", "n-cars_test"):
            classes = ("cars", "background")
            write(root, *[f"{split}/{name}/obj_{n:06d}_td.dat" for name in classes for n in range(10)])

    def drop_one_class(self, root):
        for path in root.glob("*/cars/*.dat"):
            path.unlink()


class TestDvsLip(DatasetSuite):
    dataset = "dvs-lip"

    def write_good_tree(self, root):
        for split in ("train", "test"):
            write(root, *[f"{split}/{word}/{n}.npy" for word in ("about", "worst") for n in range(10)])

    def drop_one_class(self, root):
        for path in root.glob("*/about/*.npy"):
            path.unlink()


class TestAslDvs(DatasetSuite):
    dataset = "asl-dvs"

    def write_good_tree(self, root):
        letters = "abcdefghiklmnopqrstuvwxy"
        write(root, *[f"{letter}/{letter}_{n:04d}.mat" for letter in letters for n in range(10)])

    def drop_one_class(self, root):
        for path in (root / "c").iterdir():
            path.unlink()


class TestFolderWithSplits(TestFolder):
    def write_good_tree(self, root):
        for split, count in (("Train", 20), ("val", 10), ("TEST", 10)):
            write(root, *[f"{split}/{name}/{n}.npy" for name in ("cat", "dog") for n in range(count)])

    def drop_one_class(self, root):
        for split in ("Train", "val", "TEST"):
            for path in (root / split / "cat").iterdir():
                path.unlink()


# --- CIFAR10-DVS ---------------------------------------------------------------------------------


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
        write(tmp_path, f"airplane/cifar10_airplane_{number}.aedat")
    listing = list_samples("dvs-cifar10", tmp_path)
    problems = [problem for problem in listing.problems if "empty file" not in problem]
    assert problems == ["airplane: 3 of 1000 missing: 17, 40-41"]
    by_number = splits_by_number(listing)
    assert (by_number[899], by_number[900]) == ("train", "test")
    assert len(listing.samples) == 9997


def test_a_part_of_the_set_is_split_by_share_and_says_so(tmp_path):
    write(tmp_path, *cifar10_paths(20))
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
    write(tmp_path, *cifar10_paths(10))
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
        write(tmp_path, *[place.format(name=name, Name=name.title(), n=n) for n in range(10)])
    listing = list_samples("dvs-cifar10", tmp_path, split="random:7:0.5")
    assert listing.class_names == CIFAR10_CLASSES
    assert Counter(s.label for s in listing.samples) == dict.fromkeys(range(10), 10)
    for sample in listing.samples:
        assert CIFAR10_CLASSES[sample.label] in sample.path.lower()
    # Worked out apart from this code: the five numbers with the smallest SHA-256 of "7:airplane:<number>".
    assert {n for n, split in splits_by_number(listing).items() if split == "train"} == {0, 1, 4, 5, 8}


def test_digit_words_are_labelled_by_value_other_names_sorted(tmp_path):
    write(tmp_path / "digits", *[f"{word}/digits_{word}_0.aedat" for word in ("nine", "three", "one")])
    write(tmp_path / "pets", *[f"{name}/pets_{name}_0.aedat" for name in ("eel", "ant")])
    assert list_samples("dvs-cifar10", tmp_path / "digits").class_names == ("one", "three", "nine")
    assert list_samples("dvs-cifar10", tmp_path / "pets").class_names == ("ant", "eel")
    assert order_classes(["10", "9", "0"]) == ("0", "9", "10")


def test_folders_name_the_classes_where_file_names_do_not(tmp_path):
    write(tmp_path, "ant/rec_0.aedat", "ant/rec_1.aedat", "eel/rec_0.aedat")
    listing = list_samples("dvs-cifar10", tmp_path)
    assert [(s.path, s.label, s.number) for s in listing.samples] == [
        ("ant/rec_0.aedat", 0, 0),
        ("ant/rec_1.aedat", 0, 1),
        ("eel/rec_0.aedat", 1, 0),
    ]


def test_a_recording_in_the_folder_of_another_class(tmp_path):
    write(tmp_path, *cifar10_paths(3))
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
    write(tmp_path, *cifar10_paths(3), second)
    with pytest.raises(DatasetError) as caught:
        list_samples("dvs-cifar10", tmp_path)
    first, second = sorted([second, "airplane/cifar10_airplane_2.aedat"])
    assert str(caught.value) == (
        f"{tmp_path}: class 'airplane' has number 2 more than once: {first}, {second}; keep one of each"
    )


def test_missing_classes_are_named_with_the_archive_that_holds_them(tmp_path):
    write(tmp_path, *cifar10_paths(2, classes=CIFAR10_CLASSES[:8]))
    with pytest.raises(
        DatasetError, match=r": no recordings of class ship, truck; add them, or choose --allow-missing$"
    ):
        list_samples("dvs-cifar10", tmp_path)
    write(tmp_path, "truck.zip", "airplane.zip")
    with pytest.raises(
        DatasetError, match=r"of class ship, truck; 1 archive not unpacked: truck\.zip; unzip and list again$"
    ):
        list_samples("dvs-cifar10", tmp_path)
    listing = list_samples("dvs-cifar10", tmp_path, allow_missing=True)
    assert listing.class_names == CIFAR10_CLASSES
    assert "classes without a recording: ship, truck" in listing.problems
    assert "1 other file left out (1 .zip), first: airplane.zip" in listing.problems


def test_gaps_in_other_sets_are_named(tmp_path):
    write(tmp_path, *[f"one/d_one_{n}.aedat" for n in (0, 1, 4)], *[f"two/d_two_{n}.aedat" for n in range(5)])
    listing = list_samples("dvs-cifar10", tmp_path)
    assert listing.problems == (
        "one: 2 of 5 missing: 2-3",
        "split tet: not CIFAR10-DVS, so the first 90 % of each class's numbers are for training",
    )
    assert splits_by_number(listing) == {0: "train", 1: "train", 4: "test"}


def test_recordings_of_no_class_are_left_out_and_named(tmp_path):
    write(tmp_path, *cifar10_paths(2), "cifar10_plane_7.aedat", "notes/12.aedat")
    listing = list_samples("dvs-cifar10", tmp_path)
    assert len(listing.samples) == 20
    line = "2 recordings left out, no class in name or folder: cifar10_plane_7.aedat, notes/12.aedat"
    assert line in listing.problems


def test_other_formats_of_cifar10_dvs_are_named(tmp_path):
    write(tmp_path / "a", "airplane/0.aedat4")
    with pytest.raises(
        DatasetError, match=r"no \.aedat recordings but \.aedat4 ones.*get the original files"
    ):
        list_samples("dvs-cifar10", tmp_path / "a")
    write(tmp_path / "b", "airplane/cifar10_airplane_0.npz")
    with pytest.raises(
        DatasetError, match=r"no \.aedat recordings but \.npz files.*list them as data set 'folder'$"
    ):
        list_samples("dvs-cifar10", tmp_path / "b")


# --- N-MNIST -------------------------------------------------------------------------------------


def test_real_small_nmnist(samples):
    listing = list_samples("nmnist", samples("nmnist"))
    by_split = {
        split: Counter(s.label for s in listing.samples if s.split == split) for split in ("train", "test")
    }
    # Counted from the lists with awk.
    assert [by_split["train"][digit] for digit in range(10)] == [97, 116, 99, 93, 105, 92, 94, 117, 87, 100]
    assert [by_split["test"][digit] for digit in range(10)] == [8, 14, 8, 11, 14, 7, 10, 15, 2, 11]
    assert (listing.sensor_hw, listing.read_options.format) == ((34, 34), "bin40")
    assert listing.problems == ()
    by_number = {s.number: s for s in listing.samples}
    assert (by_number[1].label, by_number[1].path, by_number[1].size_bytes) == (5, "1.bs2", 23405)
    assert (by_number[60001].label, by_number[60001].split) == (7, "test")


@pytest.mark.parametrize(
    ("train", "test"), [("Train", "Test"), ("train", "test"), ("TRAIN/Train", "Testing")]
)
def test_nmnist_folder_case_variants(tmp_path, train, test):
    for digit in range(10):
        write(
            tmp_path,
            f"N-MNIST/{train}/{digit}/{digit + 1:05d}.bin",
            f"N-MNIST/{test}/{digit}/{digit + 1:05d}.bin",
        )
    listing = list_samples("nmnist", tmp_path)
    assert sorted((s.label, s.split) for s in listing.samples) == [
        (digit, split) for digit in range(10) for split in ("test", "train")
    ]
    assert listing.problems == (
        "a part of N-MNIST: 10 of 60000 recordings for train",
        "a part of N-MNIST: 10 of 10000 recordings for test",
    )


def test_nmnist_that_is_nearly_whole_names_the_missing_numbers(tmp_path, monkeypatch):
    monkeypatch.setitem(nmnist.FULL_NUMBERS, "train", range(1, 21))
    monkeypatch.setitem(nmnist.FULL_NUMBERS, "test", range(1, 11))
    write(tmp_path, *[f"Train/{n % 10}/{n:05d}.bin" for n in range(1, 20)])
    write(tmp_path, *[f"Test/{n % 10}/{n:05d}.bin" for n in range(1, 11)])
    assert list_samples("nmnist", tmp_path).problems == ("train: 1 of 20 missing: 20",)


def test_nmnist_number_twice_in_a_split(tmp_path):
    write(tmp_path, "Train/3/00008.bin", "Train/5/00008.bin", "Test/3/00008.bin")
    with pytest.raises(
        DatasetError,
        match=r"number 8 comes more than once in train: Train/3/00008\.bin, Train/5/00008\.bin; keep one$",
    ):
        list_samples("nmnist", tmp_path)


def test_nmnist_without_test_folder(tmp_path):
    write(tmp_path, *[f"Train/{digit}/{digit}.bin" for digit in range(10)])
    with pytest.raises(
        DatasetError, match=r": no recordings for test; add the folder or list, or choose --split random"
    ):
        list_samples("nmnist", tmp_path)
    assert (
        "split official leaves no recording for test"
        in list_samples("nmnist", tmp_path, allow_missing=True).problems
    )
    assert len(list_samples("nmnist", tmp_path, split="random:0:0.9").samples) == 10


def test_nmnist_given_the_inside_of_a_split(tmp_path):
    write(tmp_path, *[f"{digit}/{digit}.bin" for digit in range(10)])
    with pytest.raises(
        DatasetError, match=r"0/0\.bin lies in no Train or Test folder; name the folder that holds both"
    ):
        list_samples("nmnist", tmp_path)
    assert len(list_samples("nmnist", tmp_path, split="random:0").samples) == 10


def test_bin_files_that_are_not_nmnist(tmp_path):
    write(tmp_path, "cars/obj_1.bin")
    with pytest.raises(
        DatasetError, match=r"1 \.bin file, none as Train/<digit>/<number>\.bin, first: cars/obj_1\.bin"
    ):
        list_samples("nmnist", tmp_path)


def write_slayer(root, train, test="11 0\n"):
    write(root, *[f"{n}.bs2" for n in range(12)])
    write(root, "train1K.txt", content=("#sample\t#class\r\n" + train).encode())
    write(root, "test100.txt", content=("#sample\t#class\r\n" + test).encode())


TEN = "".join(f"{n}\t{n}\r\n" for n in range(10))


def test_slayer_lists_say_what_is_missing_and_extra(tmp_path):
    write_slayer(tmp_path, TEN + "20 1\n21 1\n23 1\n")
    listing = list_samples("nmnist", tmp_path)
    assert listing.problems == (
        "train1K.txt: 3 recordings missing: 20-21, 23",
        "1 other file left out (1 .bs2), first: 10.bs2",
    )


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            TEN + "12 x\n",
            r"train1K\.txt:12: found '12 x', expected a number and a class from 0 to 9; correct it$",
        ),
        (TEN + "12 10\n", r"train1K\.txt:12: found '12 10', expected a number and a class from 0 to 9"),
        (TEN + "3 3\n", r"train1K\.txt:12: number 3 is listed twice; keep one line$"),
        (TEN + "11 0\n", r"train1K\.txt: number 11 is also in test100\.txt; a recording belongs to one list"),
        (TEN.replace("7\t7", "7\t6"), r": no recordings of digit 7; add them, or choose --allow-missing$"),
    ],
)
def test_slayer_lists_that_cannot_be_right(tmp_path, train, message):
    write_slayer(tmp_path, train)
    with pytest.raises(DatasetError, match=message):
        list_samples("nmnist", tmp_path)


def test_slayer_without_lists_or_recordings(tmp_path):
    write(tmp_path / "a", "1.bs2")
    with pytest.raises(
        DatasetError, match=r"1 \.bs2 file but no train\*\.txt or test\*\.txt beside them; add the lists"
    ):
        list_samples("nmnist", tmp_path / "a")
    write(tmp_path / "b", "99.bs2")
    write(tmp_path / "b", "train.txt", content=b"1 1\n")
    with pytest.raises(
        DatasetError, match=r"none of the numbers in train\.txt has its \.bs2 file; check the folder$"
    ):
        list_samples("nmnist", tmp_path / "b")


# --- folders -------------------------------------------------------------------------------------


def test_folder_takes_official_splits_from_the_top_folders(tmp_path):
    write(
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
    write(tmp_path, *[f"{name}/{n}.npz" for name in ("a", "b") for n in range(10)])
    listing = list_samples("folder", tmp_path)
    assert listing.split_rule == "random:0:0.9"
    assert listing.problems == ("no train and test folders, so split random:0:0.9 is used",)
    assert Counter(s.split for s in listing.samples) == {"train": 18, "test": 2}


def test_folder_names_what_it_leaves_out(tmp_path):
    write(tmp_path, "cat/a.npz", "cat/a.aedat", "dog/b.npz", "stray.npz", "dog/c.avi", "cat/notes")
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


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (
            ["a.npz", "b.npz"],
            r": 2 recordings but no class folders, first: a\.npz; sort them into one folder per class$",
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
    write(tmp_path, *paths)
    with pytest.raises(DatasetError, match=message):
        list_samples("folder", tmp_path)


# --- sets in class folders -----------------------------------------------------------------------


def test_classes_of_known_sets_keep_their_labels_in_a_part_of_the_set(tmp_path):
    write(tmp_path, *[f"{letter}/{letter}_{n:04d}.mat" for letter in "dy" for n in range(5)])
    with pytest.raises(DatasetError, match=r"no recordings in class folder a, b, c, e, f and 17 more; add"):
        list_samples("asl-dvs", tmp_path)
    listing = list_samples("asl-dvs", tmp_path, allow_missing=True)
    assert {(s.path[0], s.label) for s in listing.samples} == {("d", 3), ("y", 23)}
    assert listing.split_rule == "random:0:0.8"
    assert "10 recordings, the whole set has 100800" in listing.problems


def test_a_class_that_a_known_set_does_not_have(tmp_path):
    write(tmp_path, "n-cars_train/trucks/obj_000001_td.dat", "n-cars_test/cars/obj_000001_td.dat")
    with pytest.raises(DatasetError, match=r": class folder trucks, expected background, cars; move it away"):
        list_samples("ncars", tmp_path)


def test_ncars_has_its_official_split_and_numbers(tmp_path):
    for name in ("cars", "background"):
        write(tmp_path, f"n-cars_train/{name}/obj_000007_td.dat", f"n-cars_test/{name}/obj_000008_td.dat")
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
    write(tmp_path, *[f"Caltech101/{name}/image_{n:04d}.bin" for name in ("ant", "bass") for n in range(5)])
    write(tmp_path, "Caltech101_annotations/ant/annotation_0001.bin")
    listing = list_samples("n-caltech101", tmp_path)
    assert len(listing.samples) == 10
    assert (
        "1 other file left out (1 .bin), first: Caltech101_annotations/ant/annotation_0001.bin"
        in listing.problems
    )


# --- MNIST-DVS -----------------------------------------------------------------------------------


def write_mnist_dvs(root, *, scales=(4, 8, 16), numbers=range(1, 8)):
    for digit in range(10):
        write(
            root,
            *[
                f"scale{scale}/mnist_{digit}_scale{scale:02d}_{n:04d}.aedat"
                for scale in scales
                for n in numbers
            ],
        )


def test_mnist_dvs_has_a_digit_of_all_scales_on_one_side(tmp_path):
    write_mnist_dvs(tmp_path)
    sides = {}
    for sample in list_samples("mnist-dvs", tmp_path, split="random:3:0.5").samples:
        sides.setdefault((sample.label, sample.number), set()).add(sample.split)
    assert {len(side) for side in sides.values()} == {1}
    assert Counter(side for found in sides.values() for side in found) == {"train": 30, "test": 40}


def test_mnist_dvs_scales_can_be_selected_and_split_alike(tmp_path):
    write_mnist_dvs(tmp_path)
    whole = {s.path: s.split for s in list_samples("mnist-dvs", tmp_path).samples}
    one = list_samples("mnist-dvs", tmp_path, select="scale8")
    assert one.selection == "scale8"
    assert {s.path: s.split for s in one.samples} == {p: v for p, v in whole.items() if "scale08" in p}
    assert one.problems == ("scale 8: 70 of 10000 recordings",)


def test_mnist_dvs_selections_that_cannot_be(tmp_path):
    write_mnist_dvs(tmp_path, scales=(4,))
    with pytest.raises(
        DatasetError, match=r"70 recordings, none of scale16; add them, or choose --select all"
    ):
        list_samples("mnist-dvs", tmp_path, select="scale16")
    with pytest.raises(ConfigError, match=r"^select 'scale32' .* known: all, scale4, .*; did you mean"):
        list_samples("mnist-dvs", tmp_path, select="scale32")
    with pytest.raises(ConfigError, match=r"^select has no meaning for data set 'nmnist'"):
        list_samples("nmnist", tmp_path, select="all")
    write(tmp_path, "copy/mnist_3_scale04_0002.aedat")
    with pytest.raises(
        DatasetError, match=r"digit 3 has number 2 more than once at scale 4: copy/.*; keep one of each$"
    ):
        list_samples("mnist-dvs", tmp_path)


# --- DVS128 Gesture ------------------------------------------------------------------------------


def list_gestures(root, **options):
    return list_samples("dvs-gesture", root, allow_missing=True, **options)


@pytest.mark.parametrize(
    ("select", "ranges"),
    [
        (None, [(100, 200), (200, 300), (700, 800)]),
        ("every-row", [(100, 200), (200, 300), (700, 800)]),
        ("first-row", [(100, 200)]),
        ("joined-rows", [(100, 300), (700, 800)]),
    ],
)
def test_gesture_rows_of_one_class_are_taken_as_selected(tmp_path, select, ranges):
    write_gestures(tmp_path, "user01_lab", [(8, 100, 200), (8, 200, 300), (2, 400, 500), (8, 700, 800)])
    listing = list_gestures(tmp_path, select=select)
    assert [s.t_range_us for s in listing.samples if s.label == 7] == ranges
    assert [s.t_range_us for s in listing.samples if s.label == 1] == [(400, 500)]
    assert listing.selection == (select or "every-row")
    assert {(s.path, s.number, s.split) for s in listing.samples} == {("user01_lab.aedat", 1, "train")}


def test_gesture_split_without_lists_is_by_user(tmp_path):
    for user in (1, 23, 24, 29):
        write_gestures(tmp_path, f"user{user:02d}_natural", ELEVEN)
    listing = list_samples("dvs-gesture", tmp_path)
    assert splits_by_number(listing) == {1: "train", 23: "train", 24: "test", 29: "test"}
    assert any("so users 1 to 23 are for training" in problem for problem in listing.problems)


def test_gesture_lists_and_folders_that_do_not_agree_are_told(tmp_path):
    for user in (1, 2, 3):
        write_gestures(tmp_path, f"user{user:02d}_led", ELEVEN)
    write(tmp_path, "trials_to_train.txt", content=b"user01_led.aedat\nuser09_led.aedat\n")
    write(tmp_path, "trials_to_test.txt", content=b"user02_led.aedat\n\n")
    write(tmp_path, "user04_led.aedat", "user05_led_labels.csv", content=b"")
    listing = list_samples("dvs-gesture", tmp_path)
    assert splits_by_number(listing) == {1: "train", 2: "test"}
    assert {
        "trials_to_train.txt: 1 recording missing: user09_led.aedat",
        "1 recording in neither list left out: user03_led.aedat",
        "2 recordings without labels, or labels without recording, left out: "
        "user04_led.aedat, user05_led_labels.csv",
    } <= set(listing.problems)
    write(tmp_path, "trials_to_test.txt", content=b"user01_led.aedat\n")
    with pytest.raises(
        DatasetError, match=r"test\.txt: user01_led\.aedat is in both lists; a recording belongs"
    ):
        list_samples("dvs-gesture", tmp_path)


def test_gesture_rows_that_overlap_keep_their_times_and_are_told(tmp_path):
    write_gestures(tmp_path, "user22_led", [(1, 100, 250), (2, 200, 300)])
    listing = list_gestures(tmp_path)
    assert [s.t_range_us for s in listing.samples] == [(100, 250), (200, 300)]
    assert any("the events between are in both samples: user22_led_labels.csv" in p for p in listing.problems)


@pytest.mark.parametrize("row", ["12,1,2", "0,1,2", "3,5,5", "3,6,5", "3,1", "a,1,2", "3,1,2,4"])
def test_gesture_labels_that_cannot_be_right(tmp_path, row):
    write_gestures(tmp_path, "user01_led", [(1, 1, 2)])
    with (tmp_path / "user01_led_labels.csv").open("a") as labels:
        labels.write(row + "\n")
    with pytest.raises(DatasetError, match=rf"user01_led_labels\.csv:3: found '{row}', expected class,start"):
        list_gestures(tmp_path)


def test_gesture_recordings_without_labels_or_twice(tmp_path):
    write(tmp_path, "user01_led.aedat")
    with pytest.raises(DatasetError, match=r": 1 recording but no labels, expected user<NN>_<light>\.aedat"):
        list_gestures(tmp_path)
    write_gestures(tmp_path, "user01_led", ELEVEN)
    write(tmp_path, "copy/user01_led.aedat")
    with pytest.raises(
        DatasetError, match=r"user01_led\.aedat comes more than once: copy/user01_led\.aedat, us"
    ):
        list_gestures(tmp_path)


# --- all -----------------------------------------------------------------------------------------


def test_a_file_is_no_folder(tmp_path):
    write(tmp_path, "airplane.zip", "one.aedat")
    with pytest.raises(
        DatasetError, match=r"airplane\.zip: is a file, expected a folder of recordings; unzip it and name"
    ):
        list_samples("dvs-cifar10", tmp_path / "airplane.zip")
    with pytest.raises(
        DatasetError, match=r"one\.aedat: is a file, expected a folder of recordings; please name"
    ):
        list_samples("folder", tmp_path / "one.aedat")


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    write(tmp_path, "cat/a.npz", "dog/a.npz")
    scandir = os.scandir

    def refuse_dog(folder):
        # Permissions do not bind the user root, under which these tests may run.
        if str(folder).endswith("dog"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse_dog)
    with pytest.raises(
        DatasetError, match=r"dog: cannot be listed \(Permission denied\); check its permissions$"
    ):
        list_samples("folder", tmp_path)


def test_unknown_data_sets_and_options(tmp_path):
    with pytest.raises(
        DatasetError,
        match=r"^no data set 'cifar10-dvs'; known: .*dvs-cifar10, .*folder, .*; did you mean 'dvs-cifar10'\?",
    ):
        list_samples("cifar10-dvs", tmp_path)
    with pytest.raises(
        ConfigError, match=r"^trust has no meaning for data set 'nmnist': its labels come from folders"
    ):
        list_samples("nmnist", tmp_path, trust="name")
    with pytest.raises(ConfigError, match=r"^trust 'both': expected 'folder' or 'name'$"):
        list_samples("dvs-cifar10", tmp_path, trust="both")


def test_every_data_set_is_in_this_suite():
    assert {suite.dataset for suite in DatasetSuite.__subclasses__()} == set(DATASETS)

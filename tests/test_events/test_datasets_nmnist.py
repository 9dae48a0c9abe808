"""N-MNIST, as published and in SLAYER's layout."""

from collections import Counter

import pytest
from suites.dataset_files import write_files
from suites.dataset_suite import DatasetSuite

from events.datasets import nmnist
from events.datasets.registry import list_samples
from events.errors import DatasetError


class TestNmnist(DatasetSuite):
    dataset = "nmnist"

    def write_good_tree(self, root):
        for digit in range(10):
            write_files(root, *[f"Train/{digit}/{digit * 20 + n + 1:05d}.bin" for n in range(20)])
            write_files(root, *[f"Test/{digit}/{digit * 10 + n + 1:05d}.bin" for n in range(10)])

    def drop_one_class(self, root):
        for path in [*(root / "Train" / "7").iterdir(), *(root / "Test" / "7").iterdir()]:
            path.unlink()


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
        write_files(
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
    write_files(tmp_path, *[f"Train/{n % 10}/{n:05d}.bin" for n in range(1, 20)])
    write_files(tmp_path, *[f"Test/{n % 10}/{n:05d}.bin" for n in range(1, 11)])
    assert list_samples("nmnist", tmp_path).problems == ("train: 1 of 20 missing: 20",)


def test_nmnist_number_twice_in_a_split(tmp_path):
    write_files(tmp_path, "Train/3/00008.bin", "Train/5/00008.bin", "Test/3/00008.bin")
    with pytest.raises(
        DatasetError,
        match=r"number 8 comes more than once in train: Train/3/00008\.bin, Train/5/00008\.bin; keep one$",
    ):
        list_samples("nmnist", tmp_path)


def test_nmnist_without_test_folder(tmp_path):
    write_files(tmp_path, *[f"Train/{digit}/{digit}.bin" for digit in range(10)])
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
    write_files(tmp_path, *[f"{digit}/{digit}.bin" for digit in range(10)])
    with pytest.raises(
        DatasetError, match=r"0/0\.bin lies in no Train or Test folder; name the folder that holds both"
    ):
        list_samples("nmnist", tmp_path)
    assert len(list_samples("nmnist", tmp_path, split="random:0").samples) == 10


def test_bin_files_that_are_not_nmnist(tmp_path):
    write_files(tmp_path, "cars/obj_1.bin")
    with pytest.raises(
        DatasetError, match=r"1 \.bin file, none as Train/<digit>/<number>\.bin, first: cars/obj_1\.bin"
    ):
        list_samples("nmnist", tmp_path)


def write_slayer(root, train, test="11 0\n"):
    write_files(root, *[f"{n}.bs2" for n in range(12)])
    write_files(root, "train1K.txt", content=("#sample\t#class\r\n" + train).encode())
    write_files(root, "test100.txt", content=("#sample\t#class\r\n" + test).encode())


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
    write_files(tmp_path / "a", "1.bs2")
    with pytest.raises(
        DatasetError, match=r"1 \.bs2 file but no train\*\.txt or test\*\.txt beside them; add the lists"
    ):
        list_samples("nmnist", tmp_path / "a")
    write_files(tmp_path / "b", "99.bs2")
    write_files(tmp_path / "b", "train.txt", content=b"1 1\n")
    with pytest.raises(
        DatasetError, match=r"none of the numbers in train\.txt has its \.bs2 file; check the folder$"
    ):
        list_samples("nmnist", tmp_path / "b")

"""DVS128 Gesture: label files, trial lists, and how many samples that makes."""

import pytest
from suites.dataset_files import splits_by_number, write_files
from suites.dataset_suite import DatasetSuite

from events.datasets.registry import list_samples
from events.errors import DatasetError


def write_gestures(root, name, rows, *, content=b"x"):
    lines = ["class,startTime_usec,endTime_usec", *[",".join(map(str, row)) for row in rows]]
    write_files(root, f"{name}.aedat", content=content)
    write_files(root, f"{name}_labels.csv", content="\r\n".join(lines).encode() + b"\r\n")


ELEVEN = [(gesture, 1000 * gesture, 1000 * gesture + 900) for gesture in range(1, 12)]


class TestDvsGesture(DatasetSuite):
    dataset = "dvs-gesture"

    def write_good_tree(self, root):
        for split, users in (("train", range(1, 12)), ("test", range(24, 30))):
            names = [f"user{user:02d}_led" for user in users]
            write_files(
                root, f"trials_to_{split}.txt", content="\n".join(f"{n}.aedat" for n in names).encode()
            )
            for name in names:
                write_gestures(root, name, ELEVEN)

    def drop_one_class(self, root):
        for path in root.glob("*_labels.csv"):
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join(line for line in lines if not line.startswith("7,")))


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
    write_files(tmp_path, "trials_to_train.txt", content=b"user01_led.aedat\nuser09_led.aedat\n")
    write_files(tmp_path, "trials_to_test.txt", content=b"user02_led.aedat\n\n")
    write_files(tmp_path, "user04_led.aedat", "user05_led_labels.csv", content=b"")
    listing = list_samples("dvs-gesture", tmp_path)
    assert splits_by_number(listing) == {1: "train", 2: "test"}
    assert {
        "trials_to_train.txt: 1 recording missing: user09_led.aedat",
        "1 recording in neither list left out: user03_led.aedat",
        "2 recordings without labels, or labels without recording, left out: "
        "user04_led.aedat, user05_led_labels.csv",
    } <= set(listing.problems)
    write_files(tmp_path, "trials_to_test.txt", content=b"user01_led.aedat\n")
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
    write_files(tmp_path, "user01_led.aedat")
    with pytest.raises(DatasetError, match=r": 1 recording but no labels, expected user<NN>_<light>\.aedat"):
        list_gestures(tmp_path)
    write_gestures(tmp_path, "user01_led", ELEVEN)
    write_files(tmp_path, "copy/user01_led.aedat")
    with pytest.raises(
        DatasetError, match=r"user01_led\.aedat comes more than once: copy/user01_led\.aedat, us"
    ):
        list_gestures(tmp_path)

"""MNIST-DVS: digits at three scales."""

from collections import Counter

import pytest
from suites.dataset_files import write_files
from suites.dataset_suite import DatasetSuite

from events.datasets.registry import list_samples
from events.errors import ConfigError, DatasetError


class TestMnistDvs(DatasetSuite):
    dataset = "mnist-dvs"

    def write_good_tree(self, root):
        for scale in (4, 8, 16):
            write_files(
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


def write_mnist_dvs(root, *, scales=(4, 8, 16), numbers=range(1, 8)):
    for digit in range(10):
        write_files(
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
    write_files(tmp_path, "copy/mnist_3_scale04_0002.aedat")
    with pytest.raises(
        DatasetError, match=r"digit 3 has number 2 more than once at scale 4: copy/.*; keep one of each$"
    ):
        list_samples("mnist-dvs", tmp_path)

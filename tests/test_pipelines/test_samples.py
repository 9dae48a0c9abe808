"""Which samples a run trains on, validates on, tests on."""

from pathlib import Path

import numpy as np
import pytest

from events.datasets.listing import SPLIT_NAMES
from events.store.reader import open_store
from pipelines.errors import RunError
from pipelines.samples import split_samples


class Columns:
    """The columns of a store, in memory."""

    def __init__(self, labels, splits, classes=("a", "b")):
        self.path = Path("some.zarr")
        self.class_names = classes
        self.label = np.array(labels, np.int32)
        self.split = np.array([SPLIT_NAMES.index(name) for name in splits], np.uint8)
        self.shape = (len(labels), 2, 2, 4, 4)
        self.source_index = np.arange(len(labels), dtype=np.uint32)

    def indices(self, split_name):
        return np.flatnonzero(self.split == SPLIT_NAMES.index(split_name))


def test_validation_is_taken_from_training_alone_class_by_class(store_path):
    store = open_store(store_path)
    split = split_samples(store, validation_share=0.25, seed=3)
    np.testing.assert_array_equal(split.test, store.indices("test"))
    np.testing.assert_array_equal(np.sort(np.r_[split.train, split.validation]), store.indices("train"))
    assert not set(split.train) & set(split.validation)
    assert np.bincount(store.label[split.validation]).tolist() == [3, 3, 3]
    again = split_samples(store, validation_share=0.25, seed=3)
    np.testing.assert_array_equal(split.validation, again.validation)
    other = split_samples(store, validation_share=0.25, seed=4)
    assert not np.array_equal(split.validation, other.validation)


def test_the_stores_own_validation_split_is_kept():
    store = Columns([0, 1, 0, 1, 0, 1], ["train", "train", "validation", "validation", "test", "test"])
    split = split_samples(store, validation_share=0.5, seed=0)
    assert (split.train.tolist(), split.validation.tolist(), split.test.tolist()) == ([0, 1], [2, 3], [4, 5])


def test_a_class_keeps_at_least_one_of_each():
    store = Columns([0, 0, 1, 1, 0], ["train"] * 4 + ["test"])
    for share in (0.01, 0.99):
        split = split_samples(store, validation_share=share, seed=0)
        assert np.bincount(store.label[split.validation]).tolist() == [1, 1]
        assert np.bincount(store.label[split.train]).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("labels", "splits", "message"),
    [
        ([0, 1], ["train"] * 2, "some.zarr: no test samples; convert with a split that has some"),
        ([0, 0, 1], ["train", "train", "test"], "some.zarr: no training samples of class b; "),
        (
            [0, 0, 1, 1],
            ["train", "train", "train", "test"],
            "some.zarr: class b has 1 training sample; at least 2",
        ),
    ],
)
def test_what_cannot_be_learned_is_named(labels, splits, message):
    with pytest.raises(RunError, match=message):
        split_samples(Columns(labels, splits), validation_share=0.5, seed=0)

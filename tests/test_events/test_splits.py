"""Splits: published rules, and what must hold for any split of any classes."""

from collections import defaultdict
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.datasets.listing import Sample
from events.datasets.splits import (
    NAMED_SPLITS,
    RandomSplit,
    Unsplit,
    canonical_split,
    empty_splits,
    parse_random,
    split_samples,
)
from events.errors import ConfigError

# The same examples in every run.
repeatable = settings(derandomize=True, deadline=None)

ALL = ("tet", "conv_snn", "tebn", "official", "random")

classes_of_numbers = st.lists(st.sets(st.integers(0, 3000), min_size=1, max_size=60), min_size=1, max_size=4)
shares = st.integers(1, 99).map(lambda percent: f"0.{percent:02d}")
rules = st.one_of(
    st.sampled_from(sorted(NAMED_SPLITS)),
    st.builds(lambda seed, share: f"random:{seed}:{share}", st.integers(0, 2**32), shares),
)


def unsplit(classes):
    return [
        Unsplit(f"{label}/{number}.aedat", label, number, 1, str(number))
        for label, numbers in enumerate(classes)
        for number in numbers
    ]


def split(found, rule, *, absolute=False):
    names = [f"class{label}" for label in range(1 + max(recording.label for recording in found))]
    return split_samples(found, class_names=names, rule=rule, absolute=absolute)


def counts(samples):
    table = defaultdict(lambda: {"train": 0, "validation": 0, "test": 0})
    for sample in samples:
        table[sample.label][sample.split] += 1
    return table


@repeatable
@given(classes=classes_of_numbers, rule=rules)
def test_every_recording_gets_exactly_one_split(classes, rule):
    found = unsplit(classes)
    samples = split(found, rule)
    assert sorted(sample.path for sample in samples) == sorted(recording.path for recording in found)
    assert {sample.split for sample in samples} <= {"train", "test"}


@repeatable
@given(classes=classes_of_numbers, rule=rules, data=st.data())
def test_split_does_not_depend_on_the_order_of_the_files(classes, rule, data):
    found = unsplit(classes)
    shuffled = data.draw(st.permutations(found))
    assert split(found, rule) == split(shuffled, rule)


@repeatable
@given(classes=classes_of_numbers, seed=st.integers(0, 99), percent=st.integers(1, 99))
def test_random_split_takes_the_same_share_of_each_class(classes, seed, percent):
    table = counts(split(unsplit(classes), f"random:{seed}:0.{percent:02d}"))
    for label, numbers in enumerate(classes):
        assert table[label]["train"] == max(1, len(numbers) * percent // 100)


@repeatable
@given(classes=classes_of_numbers, rule=st.sampled_from([("tet", 90), ("conv_snn", 70), ("tebn", 90)]))
def test_named_splits_by_share_take_one_end_of_the_sorted_numbers(classes, rule):
    name, percent = rule
    samples = split(unsplit(classes), name)
    for label, numbers in enumerate(classes):
        n_train = max(1, len(numbers) * percent // 100)
        ordered = sorted(numbers)
        expected = ordered[-n_train:] if name == "tebn" else ordered[:n_train]
        assert {s.number for s in samples if s.label == label and s.split == "train"} == set(expected)


@repeatable
@given(numbers=st.sets(st.integers(0, 999), min_size=1, max_size=80))
def test_named_splits_of_the_full_set_are_the_published_ranges(numbers):
    first_test = {"tet": range(900, 1000), "conv_snn": range(700, 1000), "tebn": range(100)}
    for name, test_numbers in first_test.items():
        for sample in split(unsplit([numbers]), name, absolute=True):
            assert (sample.split == "test") == (sample.number in test_numbers)


@repeatable
@given(classes=classes_of_numbers, seed=st.integers(0, 99))
def test_random_split_of_a_class_does_not_depend_on_the_other_classes(classes, seed):
    together = split(unsplit(classes), f"random:{seed}:0.5")
    alone = split(unsplit(classes[:1]), f"random:{seed}:0.5")
    assert [sample for sample in together if sample.label == 0] == list(alone)


def test_seeds_differ_and_stay():
    keys = [str(number) for number in range(1000)]
    first, again, other = (RandomSplit(seed, Fraction(1, 2)).split("cat", keys) for seed in (0, 0, 1))
    assert first == again
    # 500 of 1000 in each: two independent halves agree in about 500 places.
    agreeing = sum(a == b for a, b in zip(first, other, strict=True))
    assert 430 < agreeing < 570


def test_three_way_random_split():
    table = counts(split(unsplit([range(20), range(50)]), "random:0:0.8:0.1"))
    assert dict(table) == {
        0: {"train": 16, "validation": 2, "test": 2},
        1: {"train": 40, "validation": 5, "test": 5},
    }


def test_shares_are_decimal_numbers_not_binary_ones():
    # 0.29 * 100 is 28.999... in binary; 29 are meant.
    assert counts(split(unsplit([range(100)]), "random:0:0.29"))[0]["train"] == 29


def test_samples_are_sorted_by_label_number_and_path():
    found = [
        Unsplit("b", 1, 0, 5, "0"),
        Unsplit("z", 0, 2, 6, "2"),
        Unsplit("a", 0, 10, 7, "10"),
        Unsplit("y", 0, 2, 8, "y"),
    ]
    assert split(found, "tet") == (
        Sample("y", 0, "train", 2, 8),
        Sample("z", 0, "train", 2, 6),
        Sample("a", 0, "test", 10, 7),
        Sample("b", 1, "train", 0, 5),
    )


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("tet", "tet"),
        (" TET ", "tet"),
        ("official", "official"),
        ("random:3", "random:3:0.9"),
        ("random:03:.90", "random:3:0.9"),
        ("random:0:0.8:0.10", "random:0:0.8:0.1"),
        ("random:-1:1e-1", "random:-1:0.1"),
    ],
)
def test_one_spelling_per_split(text, canonical):
    assert canonical_split(text, allowed=ALL) == canonical
    assert canonical_split(canonical, allowed=ALL) == canonical


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("random", r"^split 'random': expected random:SEED:TRAIN or random:SEED:TRAIN:VALIDATION, such as "),
        ("random:x:0.9", r"^split 'random:x:0\.9': expected .* with a whole SEED and shares such as 0\.9$"),
        ("random:0:nan", r"shares"),
        ("random:0:1", r"with shares above 0, TRAIN below 1 and a sum of at most 1$"),
        ("random:0:0", r"with shares above 0"),
        ("random:0:0.8:0.3", r"a sum of at most 1$"),
        ("random:0:0.8:0.1:0.1", r"expected random:SEED:TRAIN or"),
        ("conv-snn", r"^split 'conv-snn' is not defined for this data set; known: tet, conv_snn, tebn, "
         r"official, random:SEED:0\.9; did you mean 'conv_snn'\?$"),
        ("", r"^split '' is not defined"),
    ],
)  # fmt: skip
def test_splits_that_cannot_be_read(text, message):
    with pytest.raises(ConfigError, match=message):
        canonical_split(text, allowed=ALL)


def test_a_split_the_data_set_does_not_have():
    with pytest.raises(ConfigError, match=r"split 'tet' is not defined for this data set; known: official$"):
        canonical_split("tet", allowed=("official",))


def test_official_needs_every_recording_to_have_one():
    found = [Unsplit("a", 0, 0, 1, "0", "train"), Unsplit("b", 0, 1, 1, "1")]
    with pytest.raises(
        ConfigError, match=r"split 'official': recordings of class 'class0' have none; use random"
    ):
        split(found, "official")


def test_an_empty_side_is_said():
    only_train = split(unsplit([[1]]), "tet")
    assert empty_splits(only_train, rule="tet") == "split tet leaves no recording for test"
    assert empty_splits(split(unsplit([[1, 2]]), "tet"), rule="tet") is None


@repeatable
@given(seed=st.integers(-5, 5), train=st.integers(1, 98))
def test_parse_random_is_exact(seed, train):
    assert parse_random(f"random:{seed}:0.{train:02d}:0.01") == RandomSplit(
        seed, Fraction(train, 100), Fraction(1, 100)
    )

"""Which recording is for training and which for testing: named, random and official splits."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from typing import NamedTuple

from events.datasets.listing import SPLIT_NAMES, Sample
from events.errors import ConfigError, did_you_mean

TRAIN, VALIDATION, TEST = SPLIT_NAMES
OFFICIAL = "official"
RANDOM = "random"
DEFAULT_TRAIN_FRACTION = "0.9"


class Unsplit(NamedTuple):
    """One labelled recording before it is given a split.

    Attributes:
        path: Relative to the root, with forward slashes.
        label: Index in the class names.
        number: The recording's number in its class, else -1.
        size_bytes: Size of the file.
        key: What identifies the recording within its class whatever the folders around it are called.
        official: The split its publisher gave it, else None.
        t_range_us: The part of the file that it is, else None.
    """

    path: str
    label: int
    number: int
    size_bytes: int
    key: str
    official: str | None = None
    t_range_us: tuple[int, int] | None = None


@dataclass(frozen=True)
class NumberSplit:
    """A split by the recording's number in its class, as published code does it for CIFAR10-DVS.

    Attributes:
        train: The numbers for training, out of 0..999; all others are for testing.
        source: Who uses it.
    """

    train: range
    source: str

    def split_of_number(self, number: int) -> str:
        """Return the split of one of the 1000 numbers of a class."""
        return TRAIN if number in self.train else TEST

    def split_ranked(self, numbers: Sequence[int]) -> list[str]:
        """Split any numbers of one class by the same share of them, in the order of their value.

        The share for training, len(train) / 1000 rounded down but at least one recording, is taken
        from the same end as in the full set.

        Returns:
            One split name per number, in the order given.
        """
        n_train = max(1, len(numbers) * len(self.train) // 1000)
        ranked = sorted(range(len(numbers)), key=numbers.__getitem__)
        first = 0 if self.train.start == 0 else len(numbers) - n_train
        chosen = set(ranked[first : first + n_train])
        return [TRAIN if index in chosen else TEST for index in range(len(numbers))]


# Splits of CIFAR10-DVS in use, by the number in the file name.
NAMED_SPLITS: dict[str, NumberSplit] = {
    "tet": NumberSplit(range(900), "Deng et al., TET, ICLR 2022 (train_test_portion = 0.9) and followers"),
    "conv_snn": NumberSplit(
        range(700), "aa-samad/conv_snn, dvscifar_dataloader.py (train_test_portion = 0.7)"
    ),
    "tebn": NumberSplit(
        range(100, 1000), "Duan et al., TEBN, NeurIPS 2022; SpikingJelly CIFAR10DVSTEBNSplit"
    ),
}


@dataclass(frozen=True)
class RandomSplit:
    """A seeded, stratified split: the same share of every class.

    Attributes:
        seed: Any whole number; the same seed gives the same split.
        train: Share for training, above 0 and below 1.
        validation: Share for validation; the rest is for testing.
    """

    seed: int
    train: Fraction
    validation: Fraction = Fraction(0)

    def split(self, class_name: str, keys: Sequence[str]) -> list[str]:
        """Split the recordings of one class.

        They are ordered by SHA-256 of `seed:class:key`, and the first floor(n * train), at least one,
        are for training, the next floor(n * validation) for validation. So the split depends on
        neither the order of the files nor the version of a random number generator.

        Returns:
            One split name per key, in the order given.
        """
        n_train = max(1, int(len(keys) * self.train))
        n_validation = int(len(keys) * self.validation)
        digests = [sha256(f"{self.seed}:{class_name}:{key}".encode()).digest() for key in keys]
        splits = [TEST] * len(keys)
        for rank, index in enumerate(sorted(range(len(keys)), key=lambda i: (digests[i], keys[i]))):
            if rank < n_train:
                splits[index] = TRAIN
            elif rank < n_train + n_validation:
                splits[index] = VALIDATION
        return splits


def parse_random(text: str) -> RandomSplit:
    """Read `random:SEED`, `random:SEED:TRAIN` or `random:SEED:TRAIN:VALIDATION`.

    Raises:
        ConfigError: The seed is no whole number, or the shares are not above 0 and together at most 1.
    """
    parts = text.split(":")
    expected = f"split {text!r}: expected random:SEED:TRAIN or random:SEED:TRAIN:VALIDATION"
    if len(parts) not in (2, 3, 4):
        raise ConfigError(f"{expected}, such as random:0:{DEFAULT_TRAIN_FRACTION}")
    try:
        seed = int(parts[1])
        # By way of text: 0.9 as a binary fraction is a little more than 9/10.
        shares = [Fraction(Decimal(part)) for part in (parts[2:] or [DEFAULT_TRAIN_FRACTION])]
    except (ValueError, ArithmeticError):
        raise ConfigError(f"{expected} with a whole SEED and shares such as 0.9") from None
    if min(shares) <= 0 or shares[0] >= 1 or sum(shares) > 1:
        raise ConfigError(f"{expected} with shares above 0, TRAIN below 1 and a sum of at most 1")
    return RandomSplit(seed, *shares)


def canonical_split(text: str, *, allowed: Sequence[str]) -> str:
    """Return the one spelling of a split, which is what a store records.

    Args:
        text: As a person wrote it.
        allowed: Names of the splits the data set has; `random` stands for its family.

    Raises:
        ConfigError: The data set has no such split.
    """
    name = text.strip().lower()
    family = name.partition(":")[0]
    if family == RANDOM and RANDOM in allowed:
        rule = parse_random(name)
        shares = name.split(":")[2:] or [DEFAULT_TRAIN_FRACTION]
        return ":".join([RANDOM, str(rule.seed), *(f"{Decimal(share).normalize():f}" for share in shares)])
    if name in allowed and name != RANDOM:
        return name
    known = ", ".join("random:SEED:0.9" if entry == RANDOM else entry for entry in allowed)
    hint = did_you_mean(family, [entry for entry in allowed if entry != RANDOM])
    raise ConfigError(f"split {text!r} is not defined for this data set; known: {known}{hint}")


def split_samples(
    found: Sequence[Unsplit], *, class_names: Sequence[str], rule: str, absolute: bool = True
) -> tuple[Sample, ...]:
    """Give every recording its split.

    Args:
        found: In any order.
        class_names: In label order.
        rule: A split in the spelling of `canonical_split`.
        absolute: A named split goes by the number itself (the full set); else by the same share of
            each class's sorted numbers.

    Returns:
        Sorted by label, then number, then path.

    Raises:
        ConfigError: The split is official and a recording has none.
    """
    by_label: dict[int, list[Unsplit]] = defaultdict(list)
    for recording in found:
        by_label[recording.label].append(recording)
    samples: list[Sample] = []
    for label, members in sorted(by_label.items()):
        members.sort(key=lambda member: (member.number, member.path, member.t_range_us or ()))
        splits = _split_class(members, class_name=class_names[label], rule=rule, absolute=absolute)
        samples.extend(
            Sample(m.path, label, split, m.number, m.size_bytes, m.t_range_us)
            for m, split in zip(members, splits, strict=True)
        )
    return tuple(samples)


def _split_class(members: Sequence[Unsplit], *, class_name: str, rule: str, absolute: bool) -> list[str]:
    """Return the split of each recording of one class, in the order given."""
    if rule == OFFICIAL:
        splits = [member.official for member in members if member.official is not None]
        if len(splits) < len(members):
            raise ConfigError(
                f"split 'official': recordings of class {class_name!r} have none; use random:0:0.9"
            )
        return splits
    if rule in NAMED_SPLITS:
        numbers = [member.number for member in members]
        if absolute:
            return [NAMED_SPLITS[rule].split_of_number(number) for number in numbers]
        return NAMED_SPLITS[rule].split_ranked(numbers)
    return parse_random(rule).split(class_name, [member.key for member in members])


def empty_splits(samples: Sequence[Sample], *, rule: str) -> str | None:
    """Say whether nothing is left for training or for testing."""
    used = {sample.split for sample in samples}
    missing = [split for split in (TRAIN, TEST) if split not in used]
    return f"split {rule} leaves no recording for {' and '.join(missing)}" if missing else None

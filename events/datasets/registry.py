"""The data sets that can be listed, and so converted: one row per set."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from events.datasets.dvs_cifar10 import list_dvs_cifar10
from events.datasets.folder import list_folder
from events.datasets.listing import Listing
from events.datasets.nmnist import list_nmnist
from events.datasets.options import ListOptions, Trust
from events.datasets.splits import NAMED_SPLITS, OFFICIAL, RANDOM, canonical_split
from events.errors import ConfigError, DatasetError, did_you_mean


@dataclass(frozen=True)
class DatasetEntry:
    """One data set that can be listed.

    Attributes:
        title: Its name, for people.
        layout: Where its recordings are, for people.
        list_recordings: Lists the recordings below a folder.
        splits: The splits it has; `random` stands for `random:SEED:TRAIN[:VALIDATION]`.
        default_split: The one used where none is asked for.
        labels_in_names: Whether a recording's name also says its class, so that `trust` can matter.
    """

    title: str
    layout: str
    list_recordings: Callable[[Path, ListOptions], Listing]
    splits: tuple[str, ...]
    default_split: str
    labels_in_names: bool = False


DATASETS: dict[str, DatasetEntry] = {
    "dvs-cifar10": DatasetEntry(
        title="CIFAR10-DVS, and sets named like it",
        layout="<class>/<prefix>_<class>_<number>.aedat, or all in one folder",
        list_recordings=list_dvs_cifar10,
        splits=(*NAMED_SPLITS, RANDOM),
        default_split="tet",
        labels_in_names=True,
    ),
    "nmnist": DatasetEntry(
        title="N-MNIST",
        layout="Train|Test/<digit>/<number>.bin, or <number>.bs2 with train*.txt and test*.txt",
        list_recordings=list_nmnist,
        splits=(OFFICIAL, RANDOM),
        default_split=OFFICIAL,
    ),
    "folder": DatasetEntry(
        title="any recordings in class folders",
        layout="<class>/<recording>, or train|validation|test/<class>/<recording>",
        list_recordings=list_folder,
        splits=(OFFICIAL, RANDOM),
        default_split=OFFICIAL,
    ),
}


def list_samples(
    dataset: str,
    root: Path,
    *,
    split: str | None = None,
    allow_missing: bool = False,
    trust: Trust | None = None,
) -> Listing:
    """List the recordings of a data set below a folder, with labels and splits.

    No recording is opened. What is missing or extra is said in the listing's `problems`.

    Args:
        dataset: A key of `DATASETS`.
        root: The folder that holds the recordings.
        split: One of the data set's splits; None takes its default.
        allow_missing: Go on where a whole class or split has no recordings.
        trust: Which is right where a recording's name and its folder say different classes.

    Raises:
        DatasetError: There is no such data set, or the folder does not have its layout.
        ConfigError: The data set has no such split, or `trust` has no meaning for it.
    """
    entry = DATASETS.get(dataset)
    if entry is None:
        hint = did_you_mean(dataset, DATASETS)
        raise DatasetError(f"no data set {dataset!r}; known: {', '.join(sorted(DATASETS))}{hint}")
    if trust is not None and trust not in ("folder", "name"):
        raise ConfigError(f"trust {trust!r}: expected 'folder' or 'name'")
    if trust is not None and not entry.labels_in_names:
        raise ConfigError(
            f"trust has no meaning for data set {dataset!r}: its labels come from folders or lists only"
        )
    rule = canonical_split(split or entry.default_split, allowed=entry.splits)
    return entry.list_recordings(
        Path(root), ListOptions(split=rule, allow_missing=allow_missing, trust=trust)
    )

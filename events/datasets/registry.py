"""The data sets that can be listed, and so converted: one row per set."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from events.datasets import dvs_gesture, gesture_labels, mnist_dvs
from events.datasets.class_folders import list_asl_dvs, list_dvs_lip, list_n_caltech101, list_n_cars
from events.datasets.dvs_cifar10 import list_dvs_cifar10
from events.datasets.folder import list_folder
from events.datasets.images.archive import list_archive
from events.datasets.images.folders import list_caltech101, list_imagenet, list_pictures
from events.datasets.listing import Listing
from events.datasets.nmnist import list_nmnist
from events.datasets.options import ListOptions, Trust
from events.datasets.splits import NAMED_SPLITS, OFFICIAL, RANDOM, canonical_split
from events.datasets.tonic import is_tonic, list_tonic
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
        selections: Which recordings may be asked for: name and meaning, the default first.
    """

    title: str
    layout: str
    list_recordings: Callable[[Path, ListOptions], Listing]
    splits: tuple[str, ...]
    default_split: str
    labels_in_names: bool = False
    selections: Mapping[str, str] = field(default_factory=dict)


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
    "mnist-dvs": DatasetEntry(
        title="MNIST-DVS",
        layout="mnist_<digit>_scale<04|08|16>_<number>.aedat in any folders",
        list_recordings=mnist_dvs.list_mnist_dvs,
        splits=(RANDOM,),
        default_split="random:0:0.9",
        selections=mnist_dvs.SELECTIONS,
    ),
    "dvs-gesture": DatasetEntry(
        title="DVS128 Gesture",
        layout="user<NN>_<light>.aedat with user<NN>_<light>_labels.csv, trials_to_train|test.txt",
        list_recordings=dvs_gesture.list_dvs_gesture,
        splits=(OFFICIAL, RANDOM),
        default_split=OFFICIAL,
        selections=gesture_labels.SELECTIONS,
    ),
    "n-caltech101": DatasetEntry(
        title="N-Caltech101",
        layout="<class>/image_<number>.bin",
        list_recordings=list_n_caltech101,
        splits=(RANDOM,),
        default_split="random:0:0.9",
    ),
    "ncars": DatasetEntry(
        title="N-Cars",
        layout="n-cars_train|n-cars_test/cars|background/obj_<number>_td.dat",
        list_recordings=list_n_cars,
        splits=(OFFICIAL, RANDOM),
        default_split=OFFICIAL,
    ),
    "dvs-lip": DatasetEntry(
        title="DVS-Lip",
        layout="train|test/<word>/<number>.npy",
        list_recordings=list_dvs_lip,
        splits=(OFFICIAL, RANDOM),
        default_split=OFFICIAL,
    ),
    "asl-dvs": DatasetEntry(
        title="ASL-DVS",
        layout="<letter>/<letter>_<number>.mat",
        list_recordings=list_asl_dvs,
        splits=(RANDOM,),
        default_split="random:0:0.8",
    ),
    "mnist": DatasetEntry(
        title="MNIST, and sets in its format",
        layout="train-images-idx3-ubyte[.gz] and the three files beside it",
        list_recordings=partial(list_archive, "mnist"),
        splits=(OFFICIAL, RANDOM),
        default_split=OFFICIAL,
    ),
    "cifar10": DatasetEntry(
        title="CIFAR-10",
        layout="cifar-10-python.tar.gz or cifar-10-binary.tar.gz, or what is in it",
        list_recordings=partial(list_archive, "cifar10"),
        splits=(OFFICIAL, RANDOM),
        default_split=OFFICIAL,
    ),
    "cifar100": DatasetEntry(
        title="CIFAR-100",
        layout="cifar-100-python.tar.gz or cifar-100-binary.tar.gz, or what is in it",
        list_recordings=partial(list_archive, "cifar100"),
        splits=(OFFICIAL, RANDOM),
        default_split=OFFICIAL,
    ),
    "caltech101": DatasetEntry(
        title="Caltech-101",
        layout="<class>/image_<number>.jpg",
        list_recordings=list_caltech101,
        splits=(RANDOM,),
        default_split="random:0:0.9",
    ),
    "imagenet": DatasetEntry(
        title="ImageNet, or some of its classes",
        layout="train|val/<class>/<picture>.JPEG; val is tested on",
        list_recordings=list_imagenet,
        splits=(OFFICIAL, RANDOM),
        default_split=OFFICIAL,
    ),
    "image-folder": DatasetEntry(
        title="any pictures in class folders",
        layout="<class>/<picture>, or train|validation|test/<class>/<picture>",
        list_recordings=list_pictures,
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
    select: str | None = None,
) -> Listing:
    """List the recordings of a data set below a folder, with labels and splits.

    No recording is opened. What is missing or extra is said in the listing's `problems`.

    Args:
        dataset: A key of `DATASETS`, or `tonic:NAME`.
        root: The folder that holds the recordings.
        split: One of the data set's splits; None takes its default.
        allow_missing: Go on where a whole class or split has no recordings.
        trust: Which is right where a recording's name and its folder say different classes.
        select: Which recordings of the set, one of its selections; None takes the first of them.

    Raises:
        DatasetError: There is no such data set, or the folder does not have its layout.
        ConfigError: The data set has no such split, or `trust` has no meaning for it.
    """
    if is_tonic(dataset):
        if trust is not None or select is not None:
            raise ConfigError(f"trust and select have no meaning for {dataset}: tonic lists its samples")
        return list_tonic(dataset, Path(root), split=split)
    entry = DATASETS.get(dataset)
    if entry is None:
        known = f"{', '.join(sorted(DATASETS))}, tonic:NAME"
        hint = did_you_mean(dataset, DATASETS)
        if Path(dataset).exists():
            hint += "; this is a path: the data set's name comes first, `folder` for any in class folders"
        raise DatasetError(f"no data set {dataset!r}; known: {known}{hint}")
    if trust is not None and trust not in ("folder", "name"):
        raise ConfigError(f"trust {trust!r}: expected 'folder' or 'name'")
    if trust is not None and not entry.labels_in_names:
        raise ConfigError(
            f"trust has no meaning for data set {dataset!r}: its labels come from folders or lists only"
        )
    rule = canonical_split(split or entry.default_split, allowed=entry.splits)
    selection = _canonical_selection(dataset, entry, select)
    return entry.list_recordings(
        Path(root), ListOptions(split=rule, allow_missing=allow_missing, trust=trust, select=selection)
    )


def _canonical_selection(dataset: str, entry: DatasetEntry, select: str | None) -> str:
    """Return the selection to apply; empty for a data set without a choice."""
    if select is None:
        return next(iter(entry.selections), "")
    name = select.strip().lower()
    if not entry.selections:
        raise ConfigError(f"select has no meaning for data set {dataset!r}: all of its recordings are taken")
    if name not in entry.selections:
        hint = did_you_mean(name, entry.selections)
        raise ConfigError(
            f"select {select!r} is not defined for data set {dataset!r}; "
            f"known: {', '.join(entry.selections)}{hint}"
        )
    return name

"""Published sets of pictures in a few large files, in memory: MNIST, CIFAR-10 and CIFAR-100."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from events.datasets.images.cifar import read_cifar10, read_cifar100
from events.datasets.images.mnist import read_mnist
from events.datasets.images.part import Part, Pictures
from events.datasets.listing import Listing
from events.datasets.options import ListOptions
from events.datasets.problems import present
from events.datasets.scan import Tree, scan_tree
from events.datasets.splits import TEST, TRAIN, Unsplit, empty_splits, split_samples
from events.errors import DatasetError


@dataclass(frozen=True)
class ArchiveSet:
    """One set.

    Attributes:
        title: Its name, for people.
        read: Reads all of it from the files below a folder.
        full: Pictures of each part as published.
    """

    title: str
    read: Callable[[Tree], Pictures]
    full: Mapping[str, int]


ARCHIVES: dict[str, ArchiveSet] = {
    "mnist": ArchiveSet("MNIST", read_mnist, {TRAIN: 60_000, TEST: 10_000}),
    "cifar10": ArchiveSet("CIFAR-10", read_cifar10, {TRAIN: 50_000, TEST: 10_000}),
    "cifar100": ArchiveSet("CIFAR-100", read_cifar100, {TRAIN: 50_000, TEST: 10_000}),
}


def list_archive(dataset: str, root: Path, options: ListOptions) -> Listing:
    """List the pictures of a set; its files are read whole to do so.

    Samples are named `train/17` and `test/3` by their place in the files.

    Raises:
        DatasetError: The set's files are not there, or training or testing has none.
        DamagedRecording: One of its files is damaged, or something else.
    """
    if root.is_file():
        raise DatasetError(f"{root}: is a file, expected the folder it lies in; name {root.parent}")
    pictures = load_archive(dataset, root)
    missing = [part for part in (TRAIN, TEST) if part not in pictures.parts]
    if missing and not options.allow_missing:
        raise DatasetError(
            f"{root}: no files of {ARCHIVES[dataset].title} for {' and '.join(missing)}; add them, "
            "or choose --allow-missing"
        )
    first = next(iter(pictures.parts.values())).images
    samples = split_samples(_unsplit(pictures.parts), class_names=pictures.class_names, rule=options.split)
    return Listing(
        dataset=dataset,
        root=root,
        class_names=pictures.class_names,
        samples=samples,
        split_rule=options.split,
        sensor_hw=(first.shape[2], first.shape[3]),
        planes=plane_names(first.shape[1]),
        problems=present(
            [
                *pictures.problems,
                *_part_lines(ARCHIVES[dataset], pictures.parts),
                empty_splits(samples, rule=options.split),
            ]
        ),
    )


@lru_cache(maxsize=1)
def load_archive(dataset: str, root: Path) -> Pictures:
    """Return all pictures of a set; those of the set asked for last are kept in memory."""
    return ARCHIVES[dataset].read(scan_tree(root))


def archived_planes(dataset: str, root: Path, sample: str) -> np.ndarray:
    """Return a picture by its name in the listing, uint8 [P, H, W].

    Raises:
        DatasetError: There is none of that name.
    """
    part, _, number = sample.partition("/")
    found = load_archive(dataset, root).parts.get(part)
    if found is None or not number.isdecimal() or int(number) >= len(found.labels):
        raise DatasetError(f"{root}: no picture {sample!r} of {ARCHIVES[dataset].title}; check the folder")
    return found.images[int(number)]


def plane_names(planes: int) -> tuple[str, ...]:
    """Return what the planes of a picture hold."""
    return ("grey",) if planes == 1 else ("red", "green", "blue")


def _unsplit(parts: Mapping[str, Part]) -> list[Unsplit]:
    return [
        Unsplit(f"{name}/{number}", label, number, part.images[0].nbytes, f"{name}/{number}", name)
        for name, part in parts.items()
        for number, label in enumerate(part.labels.tolist())
    ]


def _part_lines(entry: ArchiveSet, parts: Mapping[str, Part]) -> list[str]:
    return [
        f"a part of {entry.title}: {len(part.labels):,} of {entry.full[name]:,} pictures for {name}"
        for name, part in parts.items()
        if len(part.labels) != entry.full[name]
    ]

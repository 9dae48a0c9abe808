"""Any folder of recordings whose folders are the classes.

`<class>/<recording>`, or `train|validation|test/<class>/<recording>`; deeper folders are allowed and do not
matter, and so is one folder around everything. Recordings are files with a suffix of
`RECORDING_SUFFIXES`; what they really hold is found when they are read.

Labels: folder names, digit words and numbers by value, others sorted. Split `official` is that of the
top folders; without them it is `random:0:0.9`.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from events.datasets.class_order import order_classes
from events.datasets.listing import Listing
from events.datasets.options import ListOptions
from events.datasets.problems import (
    broken_links,
    count_of,
    empty_files,
    extra_files,
    join_some,
    present,
    special_files,
    unextracted,
)
from events.datasets.scan import FoundFile, Tree, scan_tree
from events.datasets.splits import (
    DEFAULT_TRAIN_FRACTION,
    OFFICIAL,
    TEST,
    TRAIN,
    VALIDATION,
    Unsplit,
    empty_splits,
    split_samples,
)
from events.errors import DatasetError
from events.recording import ReadOptions

DATASET = "folder"
# Suffixes in use for the formats that are read; of text .csv alone, because folders have lists in .txt.
RECORDING_SUFFIXES = frozenset(
    {
        *(".aedat", ".aedat4", ".bin", ".bs2", ".raw", ".dat", ".es", ".h5", ".hdf5"),
        *(".mat", ".npz", ".npy", ".csv", ".bag", ".db3", ".mcap"),
    }
)
WITHOUT_OFFICIAL = f"random:0:{DEFAULT_TRAIN_FRACTION}"

_SPLIT_FOLDERS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "test": TEST,
    "testing": TEST,
}


@dataclass(frozen=True)
class FolderLayout:
    """What one data set in class folders has beyond the rule above.

    Attributes:
        dataset: Its name.
        expected: Where a recording lies, for error lines.
        suffixes: Of its recordings.
        file_name: What a whole file name matches; its group `number` is the recording's number, a group
            `class_name` the class it names. None takes every file with one of the suffixes, unnumbered.
        split_folders: Split of a top folder's name in lower case.
        class_names: Names in label order, lower case, where they are known; None takes the folders'.
        full: Recordings of the whole set; None where there is no such number.
        sensor_hw: Height and width in pixels; None where recordings differ.
        read_options: How its recordings are meant to be read.
    """

    dataset: str = DATASET
    expected: str = f"<class>/<recording> with a suffix of {', '.join(sorted(RECORDING_SUFFIXES))}"
    suffixes: frozenset[str] = RECORDING_SUFFIXES
    file_name: re.Pattern[str] | None = None
    split_folders: Mapping[str, str] = field(default_factory=lambda: _SPLIT_FOLDERS)
    class_names: tuple[str, ...] | None = None
    full: int | None = None
    sensor_hw: tuple[int, int] | None = None
    read_options: ReadOptions = field(default_factory=ReadOptions)

    def is_recording(self, file: FoundFile) -> bool:
        """Whether a file is a recording of the set, by its name."""
        if file.suffix not in self.suffixes:
            return False
        return self.file_name is None or self.file_name.fullmatch(file.name) is not None

    def number(self, file: FoundFile) -> int:
        """Return the number in a recording's name; -1 where the set does not number them."""
        match = None if self.file_name is None else self.file_name.fullmatch(file.name)
        return -1 if match is None else int(match["number"])

    def named_class(self, file: FoundFile) -> str | None:
        """Return the class that a recording's name says; None where names of the set say none."""
        match = None if self.file_name is None else self.file_name.fullmatch(file.name)
        name = None if match is None else match.groupdict().get("class_name")
        return None if name is None else name.lower()


ANY_FOLDER = FolderLayout()


class _Labelled(NamedTuple):
    """A recording with its class folder; `below` is its path inside that folder."""

    file: FoundFile
    official: str | None
    class_folder: str
    class_name: str
    below: str


def list_folder(root: Path, options: ListOptions, layout: FolderLayout = ANY_FOLDER) -> Listing:
    """List the recordings below a folder by class folder.

    Raises:
        DatasetError: There are no recordings or no class folders, split folders stand beside class
            folders, a class or split is missing, a recording lies in the folder of another class than its
            name says, or two class names differ only in case.
    """
    tree = scan_tree(root)
    recordings = [file for file in tree.files if layout.is_recording(file)]
    if not recordings:
        raise DatasetError(_nothing_found(tree, layout))
    labelled, unlabelled = _label(tree, recordings, layout)
    _check_names(tree, labelled, layout)
    names, missing = _class_names(tree, labelled, layout)
    if missing and not options.allow_missing:
        raise DatasetError(
            f"{root}: no recordings in class folder {join_some(missing)}; add them, remove the folder, "
            "or choose --allow-missing"
        )
    rule = _rule(tree, labelled, options)
    labels = {name: label for label, name in enumerate(names)}
    found = [
        Unsplit(
            item.file.path,
            labels[item.class_name],
            layout.number(item.file),
            item.file.size_bytes,
            f"{item.official}/{item.below}",
            item.official,
        )
        for item in labelled
    ]
    samples = split_samples(found, class_names=names, rule=rule)
    waiting = tree.packed_archives()
    known = {*recordings, *waiting}
    return Listing(
        dataset=layout.dataset,
        root=root,
        class_names=names,
        samples=samples,
        split_rule=rule,
        sensor_hw=layout.sensor_hw,
        read_options=layout.read_options,
        problems=present(
            [
                _part_line(labelled, layout),
                f"classes without a recording: {', '.join(missing)}" if missing else None,
                f"no train and test folders, so split {rule} is used" if rule != options.split else None,
                *_one_sided_lines(labelled),
                empty_splits(samples, rule=rule),
                _same_stem_line(labelled),
                empty_files([item.file for item in labelled]),
                _unlabelled_line(unlabelled),
                extra_files([file for file in tree.files if file not in known]),
                unextracted(waiting),
                broken_links(tree.broken_links),
                special_files(tree.special_files),
            ]
        ),
    )


def _label(
    tree: Tree, recordings: Sequence[FoundFile], layout: FolderLayout
) -> tuple[list[_Labelled], list[FoundFile]]:
    """Find each recording's class folder; return those that lie in none apart."""
    split_folders = layout.split_folders
    depth = _depth_of_classes(recordings, split_folders)
    tops = {file.folders[depth] for file in recordings if len(file.folders) > depth}
    splits = {top for top in tops if top.lower() in split_folders}
    if splits and splits != tops:
        raise DatasetError(
            f"{tree.root}: split folder {join_some(sorted(splits))} beside "
            f"{join_some(sorted(tops - splits))}; have train and test folders or class folders at the top"
        )
    labelled: list[_Labelled] = []
    unlabelled: list[FoundFile] = []
    at = depth + 1 if splits else depth
    for file in recordings:
        folders = file.folders
        if len(folders) <= at:
            unlabelled.append(file)
            continue
        official = split_folders[folders[depth].lower()] if splits else None
        below = "/".join([*folders[at + 1 :], file.name])
        name = folders[at] if layout.class_names is None else folders[at].lower()
        labelled.append(_Labelled(file, official, "/".join(folders[: at + 1]), name, below))
    if not labelled:
        raise DatasetError(
            f"{tree.root}: {count_of(len(recordings), 'recording')} but no class folders, first: "
            f"{recordings[0].path}; name the folder above where this is that of one class, "
            "or sort them into one folder per class"
        )
    return labelled, unlabelled


def _check_names(tree: Tree, labelled: Sequence[_Labelled], layout: FolderLayout) -> None:
    """Refuse recordings whose name says another class than their folder."""
    misplaced = [
        item.file.path for item in labelled if layout.named_class(item.file) not in (None, item.class_name)
    ]
    if misplaced:
        raise DatasetError(
            f"{tree.root}: {count_of(len(misplaced), 'recording')} in the folder of another class: "
            f"{join_some(misplaced)}; move or rename it"
        )


def _depth_of_classes(recordings: Sequence[FoundFile], split_folders: Mapping[str, str]) -> int:
    """Return how many folders lie around everything: those that alone hold all, with folders in them."""
    depth = 0
    while True:
        level = {file.folders[depth : depth + 1] for file in recordings}
        alone = len(level) == 1 and () not in level
        if not alone or next(iter(level))[0].lower() in split_folders:
            return depth
        if any(len(file.folders) <= depth + 1 for file in recordings):
            return depth
        depth += 1


def _class_names(
    tree: Tree, labelled: Sequence[_Labelled], layout: FolderLayout
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the class names in label order, and those whose folders hold no recording."""
    found = {item.class_name for item in labelled}
    if layout.class_names is not None:
        unknown = sorted(found - set(layout.class_names))
        if unknown:
            raise DatasetError(
                f"{tree.root}: class folder {join_some(unknown)}, expected {join_some(layout.class_names)}; "
                "move it away, or list the set as 'folder'"
            )
        return layout.class_names, tuple(name for name in layout.class_names if name not in found)
    folders = {item.class_folder for item in labelled}
    empty = tree.empty_siblings(folders, [item.file for item in labelled])
    names = order_classes(found | {folder.rpartition("/")[2] for folder in empty})
    by_case: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_case[name.casefold()].append(name)
    for same in by_case.values():
        if len(same) > 1:
            raise DatasetError(
                f"{tree.root}: class folders {join_some(same)} differ only in case; rename one"
            )
    return names, tuple(name for name in names if name not in found)


def _rule(tree: Tree, labelled: Sequence[_Labelled], options: ListOptions) -> str:
    """Return the split to apply; `official` needs folders for training and testing."""
    if options.split != OFFICIAL:
        return options.split
    there = {item.official for item in labelled}
    if there == {None}:
        return WITHOUT_OFFICIAL
    missing = [split for split in (TRAIN, TEST) if split not in there]
    if missing and not options.allow_missing:
        raise DatasetError(
            f"{tree.root}: no {' and no '.join(missing)} folder with recordings; add it, "
            f"or choose --split {WITHOUT_OFFICIAL} or --allow-missing"
        )
    return OFFICIAL


def _part_line(labelled: Sequence[_Labelled], layout: FolderLayout) -> str | None:
    if layout.full is None or len(labelled) == layout.full:
        return None
    return f"{len(labelled)} recordings, the whole set has {layout.full}"


def _one_sided_lines(labelled: Sequence[_Labelled]) -> list[str]:
    """Say which classes are absent from a split folder that is there."""
    by_split: dict[str, set[str]] = defaultdict(set)
    for item in labelled:
        if item.official is not None:
            by_split[item.official].add(item.class_name)
    every = set().union(*by_split.values())
    return [
        f"{split}: no recordings of class {', '.join(order_classes(every - names))}"
        for split, names in sorted(by_split.items())
        if every - names
    ]


def _same_stem_line(labelled: Sequence[_Labelled]) -> str | None:
    """Say which recordings of a class share a name but for the suffix: one may be a conversion."""
    by_stem: dict[str, list[str]] = defaultdict(list)
    for item in labelled:
        by_stem[item.file.path.removesuffix(Path(item.file.name).suffix)].append(item.file.path)
    twice = sorted(path for paths in by_stem.values() if len(paths) > 1 for path in paths)
    return (
        f"the same name with several suffixes, perhaps twice the same: {join_some(twice)}" if twice else None
    )


def _unlabelled_line(unlabelled: Sequence[FoundFile]) -> str | None:
    if not unlabelled:
        return None
    paths = join_some([file.path for file in unlabelled])
    return f"{count_of(len(unlabelled), 'recording')} in no class folder left out: {paths}"


def _nothing_found(tree: Tree, layout: FolderLayout) -> str:
    expected = f"expected {layout.expected}"
    if tree.archives():
        return f"{tree.root}: no recordings, {expected}; {unextracted(tree.archives())}"
    found = extra_files(tree.files) or special_files(tree.special_files) or "the folder is empty"
    return f"{tree.root}: no recordings, {expected}; found: {found}; check the folder"

"""CIFAR10-DVS (Li et al. 2017), and any other set whose recordings are named in the same way.

Recordings are `<prefix>_<class>_<number>.aedat`, as `cifar10_airplane_0.aedat` to
`cifar10_truck_999.aedat`. They may lie in class folders (`airplane/`, or as archives unpack:
`airplane/airplane/`, `airplane (1)/`), below any further folder (`CIFAR10DVS/`), or all in one folder.
A recording named by its number alone takes its class from its folder.

Labels: the classes of CIFAR-10 in their order, airplane 0 to truck 9; in other sets the digit words zero
to nine by value, other names sorted. No split is official. `tet`, `conv_snn` and `tebn` go by the number
where the folder holds the full set (ten classes of CIFAR-10, at least 900 of the numbers 0 to 999 in each
class there is); elsewhere the same shares of each class's sorted numbers are taken, and a line says so.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from events.datasets.class_order import CIFAR10_CLASSES, order_classes
from events.datasets.listing import Listing
from events.datasets.options import ListOptions
from events.datasets.problems import (
    broken_links,
    count_of,
    empty_files,
    extra_files,
    join_some,
    missing_numbers,
    present,
    special_files,
    unextracted,
)
from events.datasets.scan import FoundFile, Tree, scan_tree
from events.datasets.splits import NAMED_SPLITS, Unsplit, empty_splits, split_samples
from events.errors import DatasetError

DATASET = "dvs-cifar10"
# DVS128 (specification of the sensor: 128 x 128 pixels).
SENSOR_HW = (128, 128)
FULL_NUMBERS = range(1000)
# With fewer of the 1000 numbers than this a class is taken for a part of the set.
FULL_AT_LEAST = 900

# A browser or a file manager adds " (1)" or " - Copy" to a second copy.
_COPY = r"(?:\s?\(\d+\)|\s-\scopy.*|\scopy.*)?"
_FILE = re.compile(rf"(?:(?:(?P<prefix>.+)_)?(?P<name>[^_]+)_)?(?P<number>\d+){_COPY}\.aedat", re.IGNORECASE)
_FOLDER = re.compile(rf"(?P<name>.+?){_COPY}", re.IGNORECASE)


class _Named(NamedTuple):
    """A recording and what its name says; `name` is empty where it says only a number."""

    file: FoundFile
    prefix: str
    name: str
    number: int


class _Placed(NamedTuple):
    """A recording with its class; `misplaced` where name and folder disagree."""

    file: FoundFile
    class_name: str
    number: int
    misplaced: bool


def list_dvs_cifar10(root: Path, options: ListOptions) -> Listing:
    """List the recordings of CIFAR10-DVS, or of a set shaped like it, below a folder.

    Raises:
        DatasetError: There are no recordings, a class is missing, a recording lies in the folder of
            another class, or two recordings have the same class and number.
    """
    tree = scan_tree(root)
    named, extra = _parse_names(tree.files)
    if not named:
        raise DatasetError(_nothing_found(tree))
    is_cifar10 = _is_cifar10(named)
    placed, unplaced = _place(tree, named, _known_classes(named, is_cifar10=is_cifar10), options)
    class_names, missing = _class_names(tree, placed, is_cifar10=is_cifar10)
    if missing and not options.allow_missing:
        raise DatasetError(_missing_classes(tree, missing))
    numbers = _numbers_by_class(tree, placed)
    full = is_cifar10 and all(_is_full_class(found) for found in numbers.values())
    labels = {name: label for label, name in enumerate(class_names)}
    found = [
        Unsplit(p.file.path, labels[p.class_name], p.number, p.file.size_bytes, key=str(p.number))
        for p in placed
    ]
    samples = split_samples(found, class_names=class_names, rule=options.split, absolute=full)
    waiting = [archive for archive in tree.archives() if _class_of_folder(archive.stem) not in numbers]
    other = [file for file in extra if file not in waiting]
    return Listing(
        dataset=DATASET,
        root=root,
        class_names=class_names,
        samples=samples,
        split_rule=options.split,
        sensor_hw=SENSOR_HW,
        problems=present(
            [
                f"classes without a recording: {', '.join(missing)}" if missing else None,
                _misplaced_line(placed, options),
                *_number_lines(numbers, is_cifar10=is_cifar10, full=full),
                _share_line(options.split, is_cifar10=is_cifar10, full=full),
                empty_splits(samples, rule=options.split),
                empty_files([p.file for p in placed]),
                _unplaced_line(unplaced),
                extra_files(other),
                unextracted(waiting),
                broken_links(tree.broken_links),
                special_files(tree.special_files),
            ]
        ),
    )


def _parse_names(files: Iterable[FoundFile]) -> tuple[list[_Named], list[FoundFile]]:
    """Tell recordings, by their names, from all other files."""
    named: list[_Named] = []
    extra: list[FoundFile] = []
    for file in files:
        match = _FILE.fullmatch(file.name)
        if match is None:
            extra.append(file)
        else:
            prefix, name = (match["prefix"] or "").lower(), (match["name"] or "").lower()
            named.append(_Named(file, prefix, name, int(match["number"])))
    return named, extra


def _class_of_folder(folder: str) -> str:
    """Return the class a folder's own name stands for: `Airplane (1)` is airplane."""
    match = _FOLDER.fullmatch(folder)
    return (match["name"] if match else folder).lower()


def _parent_class(file: FoundFile) -> str:
    return _class_of_folder(file.folders[-1]) if file.folders else ""


def _is_cifar10(named: Sequence[_Named]) -> bool:
    """Whether the recordings are of CIFAR-10's classes, by their prefix, names or folders."""
    if any(recording.prefix == "cifar10" for recording in named):
        return True
    names = {recording.name for recording in named if recording.name}
    folders = {_parent_class(recording.file) for recording in named}
    return (bool(names) and names <= set(CIFAR10_CLASSES)) or folders <= set(CIFAR10_CLASSES)


def _known_classes(named: Sequence[_Named], *, is_cifar10: bool) -> set[str]:
    """Return the names that mean a class, in file names and in folder names."""
    if is_cifar10:
        return set(CIFAR10_CLASSES)
    names = {recording.name for recording in named if recording.name}
    folders = {_parent_class(recording.file) for recording in named} - {""}
    if names & folders:
        return names | folders
    # One name everywhere, as in a/rec_1.aedat and b/rec_1.aedat, tells no classes apart.
    return names if len(names) > 1 or not folders else folders


def _place(
    tree: Tree, named: Sequence[_Named], known: set[str], options: ListOptions
) -> tuple[list[_Placed], list[FoundFile]]:
    """Give each recording its class by name and folder; return those that have neither apart."""
    placed: list[_Placed] = []
    unplaced: list[FoundFile] = []
    folder_class: dict[str, str] = {}
    for file, _, name, number in named:
        if file.folder not in folder_class:
            classes = [_class_of_folder(folder) for folder in reversed(file.folders)]
            folder_class[file.folder] = next((c for c in classes if c in known), "")
        by_folder, by_name = folder_class[file.folder], name if name in known else ""
        misplaced = bool(by_folder and by_name and by_folder != by_name)
        chosen = by_folder if options.trust == "folder" else by_name
        class_name = chosen or by_name or by_folder
        if not class_name:
            unplaced.append(file)
        elif misplaced and options.trust is None:
            raise DatasetError(
                f"{tree.root / file.path}: its name says class {by_name!r}, its folder says {by_folder!r}; "
                "move or rename it, or choose --trust folder or --trust name"
            )
        else:
            placed.append(_Placed(file, class_name, number, misplaced))
    return placed, unplaced


def _class_names(
    tree: Tree, placed: Sequence[_Placed], *, is_cifar10: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the class names in label order, and those of them that have no recording."""
    found = {recording.class_name for recording in placed}
    if is_cifar10:
        return CIFAR10_CLASSES, tuple(name for name in CIFAR10_CLASSES if name not in found)
    files = [recording.file for recording in placed]
    class_folders = {file.folder for file in files if _parent_class(file) in found}
    empty = {_class_of_folder(Path(folder).name) for folder in tree.empty_siblings(class_folders, files)}
    names = order_classes(found | empty)
    return names, tuple(name for name in names if name not in found)


def _numbers_by_class(tree: Tree, placed: Sequence[_Placed]) -> dict[str, list[int]]:
    """Return the numbers of each class that has any; raise where one comes twice."""
    by_number: dict[tuple[str, int], list[str]] = defaultdict(list)
    for recording in placed:
        by_number[recording.class_name, recording.number].append(recording.file.path)
    twice = [(key, paths) for key, paths in by_number.items() if len(paths) > 1]
    if twice:
        (class_name, number), paths = min(twice)
        more = f" ({len(twice)} numbers come twice)" if len(twice) > 1 else ""
        raise DatasetError(
            f"{tree.root}: class {class_name!r} has number {number} more than once: "
            f"{join_some(paths)}{more}; keep one of each"
        )
    numbers: dict[str, list[int]] = defaultdict(list)
    for class_name, number in by_number:
        numbers[class_name].append(number)
    return dict(numbers)


def _is_full_class(numbers: Sequence[int]) -> bool:
    return len(numbers) >= FULL_AT_LEAST and max(numbers) in FULL_NUMBERS


def _nothing_found(tree: Tree) -> str:
    """Say why there is no recording, and what to do."""
    expected = "expected <class>/cifar10_<class>_<number>.aedat"
    suffixes = {file.suffix for file in tree.files}
    if tree.archives():
        return f"{tree.root}: no recordings, {expected}; {unextracted(tree.archives())}"
    if ".aedat4" in suffixes:
        return (
            f"{tree.root}: no .aedat recordings but .aedat4 ones, {expected}; they are another publisher's "
            "conversion: get the original files (figshare 4724671)"
        )
    if ".npz" in suffixes:
        return f"{tree.root}: no .aedat recordings but .npz files, {expected}; list them as data set 'folder'"
    return (
        f"{tree.root}: no recordings among {count_of(len(tree.files), 'file')}, {expected}; check the folder"
    )


def _missing_classes(tree: Tree, missing: Sequence[str]) -> str:
    """Say which classes have no recordings, and what to do."""
    waiting = [a for a in tree.archives() if _class_of_folder(a.stem) in missing]
    hint = f"; {unextracted(waiting)}" if waiting else "; add them, or choose --allow-missing"
    return f"{tree.root}: no recordings of class {', '.join(missing)}{hint}"


def _misplaced_line(placed: Sequence[_Placed], options: ListOptions) -> str | None:
    misplaced = [recording.file.path for recording in placed if recording.misplaced]
    if not misplaced:
        return None
    count = count_of(len(misplaced), "recording")
    return f"{count} in the folder of another class, labelled by {options.trust}: {join_some(misplaced)}"


def _number_lines(numbers: dict[str, list[int]], *, is_cifar10: bool, full: bool) -> list[str | None]:
    """Say for each class which numbers are missing below the highest that can be expected."""
    lines = []
    for name in order_classes(numbers):
        top = FULL_NUMBERS.stop if full else max(numbers[name]) + 1
        lines.append(missing_numbers(name, numbers[name], range(top)))
    if is_cifar10 and not full:
        counts = [len(found) for found in numbers.values()]
        span = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
        lines.append(f"a part of CIFAR10-DVS: {span} of 1000 recordings per class")
    return lines


def _share_line(rule: str, *, is_cifar10: bool, full: bool) -> str | None:
    """Say where a named split is not the published one."""
    if full or rule not in NAMED_SPLITS:
        return None
    train = NAMED_SPLITS[rule].train
    share, end = len(train) // 10, "first" if train.start == 0 else "last"
    what = "not the full set" if is_cifar10 else "not CIFAR10-DVS"
    return f"split {rule}: {what}, so the {end} {share} % of each class's numbers are for training"


def _unplaced_line(unplaced: Sequence[FoundFile]) -> str | None:
    if not unplaced:
        return None
    count = count_of(len(unplaced), "recording")
    return f"{count} left out, no class in name or folder: {join_some([file.path for file in unplaced])}"

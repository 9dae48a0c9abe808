"""N-MNIST (Orchard et al. 2015): handwritten digits seen by a moving ATIS, 34 x 34 pixels.

Two layouts are known:

- as published: `Train/<digit>/<number>.bin` with numbers 1 to 60000 and `Test/<digit>/<number>.bin` with 1
  to 10000, in any case and below any further folder;
- the layout of SLAYER and its followers: `<number>.bs2` beside lists `train*.txt` and `test*.txt` of a
  number and a class per line.

Label = digit. Split `official` is Train and Test, or the lists; `random` divides both together.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from events.datasets.listing import Listing
from events.datasets.options import ListOptions
from events.datasets.problems import (
    broken_links,
    count_of,
    empty_files,
    extra_files,
    join_ranges,
    join_some,
    missing_numbers,
    present,
    special_files,
    unextracted,
)
from events.datasets.scan import FoundFile, Tree, scan_tree
from events.datasets.splits import OFFICIAL, TEST, TRAIN, VALIDATION, Unsplit, empty_splits, split_samples
from events.errors import DatasetError
from events.recording import ReadOptions

DATASET = "nmnist"
# Orchard et al. 2015, section 2: the recordings are cropped to 34 x 34 pixels.
SENSOR_HW = (34, 34)
# The 5-byte records have no header that would identify them.
READ_OPTIONS = ReadOptions(format="bin40", sensor_hw=SENSOR_HW)
CLASS_NAMES = tuple("0123456789")
FULL_NUMBERS = {TRAIN: range(1, 60_001), TEST: range(1, 10_001)}
# Below this share of the full set the missing numbers are not worth a list.
FULL_SHARE = 0.9

_SPLIT_FOLDERS = {"train": TRAIN, "training": TRAIN, "test": TEST, "testing": TEST}
_LIST_PREFIXES = {"train": TRAIN, "val": VALIDATION, "test": TEST}


def list_nmnist(root: Path, options: ListOptions) -> Listing:
    """List the recordings of N-MNIST below a folder, in either layout.

    Raises:
        DatasetError: There are no recordings, a digit or a whole split is missing, a number comes
            twice, or a label list cannot be read.
    """
    tree = scan_tree(root)
    published = [file for file in tree.files if file.suffix == ".bin"]
    listed = [file for file in tree.files if file.suffix == ".bs2"]
    if published:
        found, used, lines = _list_published(tree, published)
    elif listed:
        found, used, lines = _list_slayer(tree, listed)
    else:
        raise DatasetError(_nothing_found(tree))
    _check_splits(tree, found, options)
    missing = _check_classes(tree, found, options)
    samples = split_samples(found, class_names=CLASS_NAMES, rule=options.split)
    waiting = tree.packed_archives()
    extra = [file for file in tree.files if file not in used and file not in waiting]
    return Listing(
        dataset=DATASET,
        root=root,
        class_names=CLASS_NAMES,
        samples=samples,
        split_rule=options.split,
        sensor_hw=SENSOR_HW,
        read_options=READ_OPTIONS,
        problems=present(
            [
                f"digits without a recording: {', '.join(missing)}" if missing else None,
                *lines,
                empty_splits(samples, rule=options.split),
                empty_files([file for file in tree.files if file in used and file.suffix != ".txt"]),
                extra_files(extra),
                unextracted(waiting),
                broken_links(tree.broken_links),
                special_files(tree.special_files),
            ]
        ),
    )


_Found = tuple[list[Unsplit], set[FoundFile], list[str | None]]


def _list_published(tree: Tree, files: Sequence[FoundFile]) -> _Found:
    """Take label and split from the folders; return recordings, files used and lines."""
    found: list[Unsplit] = []
    used: set[FoundFile] = set()
    for file in files:
        stem, folders = file.name[: -len(".bin")], file.folders
        if not stem.isdecimal() or not folders or folders[-1] not in CLASS_NAMES:
            continue
        official = next(
            (_SPLIT_FOLDERS[f.lower()] for f in reversed(folders) if f.lower() in _SPLIT_FOLDERS), None
        )
        number = int(stem)
        key = f"{official}/{number}"
        found.append(Unsplit(file.path, int(folders[-1]), number, file.size_bytes, key, official))
        used.add(file)
    if not found:
        raise DatasetError(
            f"{tree.root}: {count_of(len(files), '.bin file')}, none as Train/<digit>/<number>.bin, first: "
            f"{files[0].path}; name the folder that holds Train and Test, or list it as data set 'folder'"
        )
    _check_twice(tree, found)
    lines = [_count_line(split, [f.number for f in found if f.official == split]) for split in FULL_NUMBERS]
    return found, used, lines


def _count_line(split: str, numbers: Sequence[int]) -> str | None:
    """Say how much of the published split is missing."""
    full = FULL_NUMBERS[split]
    if not numbers:
        return None
    if len(numbers) >= FULL_SHARE * len(full):
        return missing_numbers(split, numbers, full)
    return f"a part of N-MNIST: {len(numbers)} of {len(full)} recordings for {split}"


def _check_twice(tree: Tree, found: Iterable[Unsplit]) -> None:
    """Raise where two recordings of a split have the same number, whatever their digits."""
    by_number: dict[tuple[str | None, int], list[str]] = defaultdict(list)
    for recording in found:
        by_number[recording.official, recording.number].append(recording.path)
    for (split, number), paths in by_number.items():
        if len(paths) > 1:
            raise DatasetError(
                f"{tree.root}: number {number} comes more than once in {split or 'the folder'}: "
                f"{join_some(sorted(paths))}; keep one"
            )


def _list_slayer(tree: Tree, files: Sequence[FoundFile]) -> _Found:
    """Take label and split from the lists; return recordings, files used and lines."""
    lists = [
        (f, _LIST_PREFIXES[p])
        for f in tree.files
        if f.suffix == ".txt"
        for p in _LIST_PREFIXES
        if f.name.lower().startswith(p)
    ]
    if not lists:
        raise DatasetError(
            f"{tree.root}: {count_of(len(files), '.bs2 file')} but no train*.txt or test*.txt beside them; "
            "add the lists of number and class"
        )
    by_path = {file.path: file for file in files}
    found: list[Unsplit] = []
    used: set[FoundFile] = {file for file, _ in lists}
    lines: list[str | None] = []
    origin: dict[str, str] = {}
    for file, split in lists:
        absent = []
        for number, label in _read_list(tree.root / file.path).items():
            path = f"{file.folder}/{number}.bs2" if file.folder else f"{number}.bs2"
            if path in origin:
                raise DatasetError(
                    f"{tree.root / file.path}: number {number} is also in {origin[path]}; "
                    "a recording belongs to one list, remove it from the other"
                )
            origin[path] = file.path
            if path in by_path:
                found.append(Unsplit(path, label, number, by_path[path].size_bytes, str(number), split))
                used.add(by_path[path])
            else:
                absent.append(number)
        if absent:
            lines.append(f"{file.path}: {count_of(len(absent), 'recording')} missing: {join_ranges(absent)}")
    if not found:
        raise DatasetError(
            f"{tree.root}: none of the numbers in {lists[0][0].path} has its .bs2 file; check the folder"
        )
    return found, used, lines


def _read_list(path: Path) -> dict[int, int]:
    """Return label by number from a list; lines are `number class`, comments start with `#`.

    Raises:
        DatasetError: A line is no such pair, the class is no digit, or a number comes twice.
    """
    labels: dict[int, int] = {}
    for line_number, line in enumerate(
        path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1
    ):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        if len(fields) != 2 or not all(field.isdecimal() for field in fields) or int(fields[1]) > 9:
            raise DatasetError(
                f"{path}:{line_number}: found {line.strip()!r}, "
                "expected a number and a class from 0 to 9; correct it"
            )
        number, label = int(fields[0]), int(fields[1])
        if number in labels:
            raise DatasetError(f"{path}:{line_number}: number {number} is listed twice; keep one line")
        labels[number] = label
    return labels


def _check_splits(tree: Tree, found: Sequence[Unsplit], options: ListOptions) -> None:
    """Raise where the official split is asked for and its folders or lists are not there."""
    if options.split != OFFICIAL:
        return
    there = {recording.official for recording in found}
    if None in there:
        path = next(recording.path for recording in found if recording.official is None)
        raise DatasetError(
            f"{tree.root}: {path} lies in no Train or Test folder; name the folder that holds both, "
            "or choose --split random:0:0.9"
        )
    missing = [split for split in (TRAIN, TEST) if split not in there]
    if missing and not options.allow_missing:
        raise DatasetError(
            f"{tree.root}: no recordings for {' and '.join(missing)}; add the folder or list, "
            "or choose --split random:0:0.9 or --allow-missing"
        )


def _check_classes(tree: Tree, found: Sequence[Unsplit], options: ListOptions) -> list[str]:
    """Return the digits without a recording; raise where that is not allowed."""
    there = {recording.label for recording in found}
    missing = [name for label, name in enumerate(CLASS_NAMES) if label not in there]
    if missing and not options.allow_missing:
        raise DatasetError(
            f"{tree.root}: no recordings of digit {', '.join(missing)}; add them, or choose --allow-missing"
        )
    return missing


def _nothing_found(tree: Tree) -> str:
    expected = "expected Train/<digit>/<number>.bin, or <number>.bs2 with train*.txt and test*.txt"
    if tree.archives():
        return f"{tree.root}: no recordings, {expected}; {unextracted(tree.archives())}"
    return (
        f"{tree.root}: no recordings among {count_of(len(tree.files), 'file')}, {expected}; check the folder"
    )

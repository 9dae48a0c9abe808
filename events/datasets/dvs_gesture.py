"""DVS128 Gesture (Amir et al., CVPR 2017): eleven gestures of 29 people under five lights.

One recording holds many gestures: `user<NN>_<light>.aedat` (AEDAT 3.1), and beside it
`user<NN>_<light>_labels.csv` with a header and rows `class,startTime_usec,endTime_usec`. A sample is the
events of a recording with start <= t < end. Label = class - 1.

Split `official`: `trials_to_train.txt` and `trials_to_test.txt`, a file name on each line; without them users
1 to 23 are for training and 24 to 29 for testing, which is what the lists say.

How many samples there are is a choice, because publications differ: 122 recordings of 12 rows are 1,464, of
11 classes 1,342. Classes with two rows in a recording make the difference; see
`events.datasets.gesture_labels.SELECTIONS`.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from events.datasets.gesture_labels import (
    CLASS_NAMES,
    Row,
    overlap_line,
    read_labels,
    read_lines,
    select_rows,
)
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
from events.datasets.splits import OFFICIAL, TEST, TRAIN, Unsplit, empty_splits, split_samples
from events.errors import DatasetError
from events.recording import ReadOptions

DATASET = "dvs-gesture"
SENSOR_HW = (128, 128)
RECORDINGS = 122
LISTS = {TRAIN: "trials_to_train.txt", TEST: "trials_to_test.txt"}
LAST_TRAINING_USER = 23

_RECORDING = re.compile(r"user(?P<user>\d+)_(?P<light>\w+)\.aedat", re.IGNORECASE)
_LABELS = "_labels.csv"
# What else the publisher's archive holds.
_COMPANIONS = ("gesture_mapping.csv", "readme.txt", "license.txt", "errata.txt")


class _Trial(NamedTuple):
    """A recording with its labels, `rows` as selected."""

    file: FoundFile
    user: int
    rows: tuple[Row, ...]


def list_dvs_gesture(root: Path, options: ListOptions) -> Listing:
    """List the gestures below a folder.

    Raises:
        DatasetError: There are no recordings with labels, a label file or list cannot be read, a
            recording comes twice, or a gesture or a split is missing.
    """
    tree = scan_tree(root)
    recordings = _recordings(tree)
    labels = {file.path[: -len(_LABELS)].lower(): file for file in tree.files if _is_labels(file)}
    if not recordings or not labels:
        raise DatasetError(_nothing_found(tree, recordings))
    rows = {stem: read_labels(root, file) for stem, file in labels.items()}
    trials = [
        _Trial(file, _user(file), select_rows(rows[_stem(file)], options.select))
        for file in recordings
        if _stem(file) in rows
    ]
    if not trials:
        raise DatasetError(_nothing_found(tree, recordings))
    lists = {split: file for split in LISTS if (file := _find_list(tree, split)) is not None}
    official, list_lines = _official(root, lists, recordings)
    found, unlisted = _samples(trials, official, options)
    missing = _check(root, found, options)
    samples = split_samples(found, class_names=CLASS_NAMES, rule=options.split)
    companions = [file for file in tree.files if file.name.lower() in _COMPANIONS]
    used = {*recordings, *labels.values(), *lists.values(), *companions}
    waiting = tree.packed_archives()
    return Listing(
        dataset=DATASET,
        root=root,
        class_names=CLASS_NAMES,
        samples=samples,
        split_rule=options.split,
        sensor_hw=SENSOR_HW,
        read_options=ReadOptions(sensor_hw=SENSOR_HW),
        selection=options.select,
        problems=present(
            [
                f"gestures without a recording: {', '.join(missing)}" if missing else None,
                _count_line(recordings),
                *list_lines,
                _pairs_line(recordings, labels),
                _named_line(unlisted, "in neither list left out"),
                overlap_line(rows),
                empty_splits(samples, rule=options.split),
                empty_files([trial.file for trial in trials]),
                extra_files([file for file in tree.files if file not in used and file not in waiting]),
                unextracted(waiting),
                broken_links(tree.broken_links),
                special_files(tree.special_files),
            ]
        ),
    )


def _recordings(tree: Tree) -> list[FoundFile]:
    """Return the files named as recordings; raise where one comes twice."""
    recordings = [file for file in tree.files if _RECORDING.fullmatch(file.name)]
    by_name: dict[str, list[str]] = defaultdict(list)
    for file in recordings:
        by_name[file.name.lower()].append(file.path)
    for name, paths in by_name.items():
        if len(paths) > 1:
            raise DatasetError(f"{tree.root}: {name} comes more than once: {join_some(paths)}; keep one")
    return recordings


def _is_labels(file: FoundFile) -> bool:
    return file.name.lower().endswith(_LABELS)


def _stem(file: FoundFile) -> str:
    return file.path[: -len(".aedat")].lower()


def _user(file: FoundFile) -> int:
    match = _RECORDING.fullmatch(file.name)
    assert match is not None
    return int(match["user"])


def _find_list(tree: Tree, split: str) -> FoundFile | None:
    return next((file for file in tree.files if file.name.lower() == LISTS[split]), None)


def _official(
    root: Path, lists: Mapping[str, FoundFile], recordings: Sequence[FoundFile]
) -> tuple[dict[str, str], list[str | None]]:
    """Return the official split of each recording's name in lower case, and lines about the lists.

    Raises:
        DatasetError: A recording is in both lists.
    """
    if len(lists) < len(LISTS):
        absent = " and ".join(LISTS[split] for split in LISTS if split not in lists)
        line = f"no {absent}, so users 1 to {LAST_TRAINING_USER} are for training, the others for testing"
        return {f.name.lower(): TRAIN if _user(f) <= LAST_TRAINING_USER else TEST for f in recordings}, [line]
    there = {file.name.lower() for file in recordings}
    official: dict[str, str] = {}
    lines: list[str | None] = []
    for split, file in lists.items():
        names = [line.lower() for line in read_lines(root / file.path) if line]
        both = [name for name in names if official.get(name, split) != split]
        if both:
            raise DatasetError(
                f"{root / file.path}: {both[0]} is in both lists; a recording belongs to one list"
            )
        official |= dict.fromkeys(names, split)
        gone = sorted(set(names) - there)
        lines.append(
            f"{file.name}: {count_of(len(gone), 'recording')} missing: {join_some(gone)}" if gone else None
        )
    return official, lines


def _samples(
    trials: Sequence[_Trial], official: Mapping[str, str], options: ListOptions
) -> tuple[list[Unsplit], list[str]]:
    """Return a sample for each selected row, and the recordings that the split does not know."""
    found: list[Unsplit] = []
    unlisted: list[str] = []
    for file, user, rows in trials:
        split = official.get(file.name.lower())
        if split is None and options.split == OFFICIAL:
            unlisted.append(file.path)
            continue
        for row in rows:
            key = f"{file.name.lower()}/{row.start_us}"
            span = (row.start_us, row.end_us)
            found.append(Unsplit(file.path, row.gesture - 1, user, file.size_bytes, key, split, span))
    return found, unlisted


def _check(root: Path, found: Sequence[Unsplit], options: ListOptions) -> list[str]:
    """Return the gestures without a sample; raise where a gesture or a split is missing and must not be."""
    labels = {sample.label for sample in found}
    missing = [name for label, name in enumerate(CLASS_NAMES) if label not in labels]
    if missing and not options.allow_missing:
        raise DatasetError(
            f"{root}: no recordings of gesture {join_some(missing)}; add them, or choose --allow-missing"
        )
    splits = {sample.official for sample in found}
    absent = [split for split in (TRAIN, TEST) if split not in splits]
    if absent and options.split == OFFICIAL and not options.allow_missing:
        raise DatasetError(
            f"{root}: no recordings for {' and '.join(absent)}; add them, or choose --split random:0:0.8 "
            "or --allow-missing"
        )
    return missing


def _count_line(recordings: Sequence[FoundFile]) -> str | None:
    if len(recordings) == RECORDINGS:
        return None
    return f"a part of DVS128 Gesture: {len(recordings)} of {RECORDINGS} recordings"


def _pairs_line(recordings: Sequence[FoundFile], labels: Mapping[str, FoundFile]) -> str | None:
    """Say which recordings have no labels, and which labels no recording."""
    stems = {_stem(file) for file in recordings}
    alone = [file.path for file in recordings if _stem(file) not in labels]
    alone += [file.path for stem, file in labels.items() if stem not in stems]
    return _named_line(sorted(alone), "without labels, or labels without recording, left out")


def _named_line(paths: Sequence[str], what: str) -> str | None:
    return f"{count_of(len(paths), 'recording')} {what}: {join_some(paths)}" if paths else None


def _nothing_found(tree: Tree, recordings: Sequence[FoundFile]) -> str:
    expected = "expected user<NN>_<light>.aedat with user<NN>_<light>_labels.csv beside it"
    if recordings:
        return f"{tree.root}: {count_of(len(recordings), 'recording')} but no labels, {expected}; add them"
    if tree.archives():
        return f"{tree.root}: no recordings, {expected}; {unextracted(tree.archives())}"
    found = extra_files(tree.files) or "the folder is empty"
    return f"{tree.root}: no recordings, {expected}; found: {found}; check the folder"

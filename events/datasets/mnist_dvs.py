"""MNIST-DVS (Serrano-Gotarredona and Linares-Barranco 2015): digits moving on a screen, at three scales.

Recordings are AEDAT 2.0 of a 128 x 128 DVS, named `mnist_<digit>_scale<04|08|16>_<number>.aedat` and found
below any folders; the released ones are `grabbed_data<digit>/scale<4|8|16>` (names as published code
has them; check with your copy). Each of 10,000 digits was recorded once at each scale.

Label = digit. No split is official: `random` divides the digits, so that one digit's recordings at several
scales are never on two sides.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from events.datasets.listing import Listing, Sample
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
from events.datasets.splits import Unsplit, empty_splits, split_samples
from events.errors import DatasetError
from events.recording import ReadOptions

DATASET = "mnist-dvs"
SENSOR_HW = (128, 128)
CLASS_NAMES = tuple("0123456789")
# Recordings of the whole set at each scale.
PER_SCALE = 10_000
ALL_SCALES = "all"
SELECTIONS = {
    ALL_SCALES: "the three scales together, 30,000 recordings",
    "scale4": "the smallest digits, 10,000 recordings",
    "scale8": "the middle digits, 10,000 recordings",
    "scale16": "the largest digits, 10,000 recordings",
}

_FILE = re.compile(
    r"(?:.*_)?(?P<digit>\d)_scale0?(?P<scale>4|8|16)_(?P<number>\d+)(?:\s?\(\d+\))?\.aedat", re.IGNORECASE
)


class _Named(NamedTuple):
    """A recording and what its name says."""

    file: FoundFile
    digit: int
    scale: int
    number: int


def list_mnist_dvs(root: Path, options: ListOptions) -> Listing:
    """List the recordings of MNIST-DVS below a folder, of the scale that is selected.

    Raises:
        DatasetError: There are no recordings of the scale, a digit has none, or a number comes twice.
    """
    tree = scan_tree(root)
    named = _parse_names(tree)
    chosen = [r for r in named if options.select in (ALL_SCALES, f"scale{r.scale}")]
    if not chosen:
        raise DatasetError(_nothing_found(tree, named, options))
    _refuse_twice(tree, chosen)
    missing = [name for name in CLASS_NAMES if int(name) not in {r.digit for r in chosen}]
    if missing and not options.allow_missing:
        raise DatasetError(
            f"{root}: no recordings of digit {', '.join(missing)}; add them, or choose --allow-missing"
        )
    samples = _split(chosen, options)
    used = {recording.file for recording in named}
    waiting = tree.packed_archives()
    return Listing(
        dataset=DATASET,
        root=root,
        class_names=CLASS_NAMES,
        samples=samples,
        split_rule=options.split,
        sensor_hw=SENSOR_HW,
        read_options=ReadOptions(format="aedat2", sensor_hw=SENSOR_HW),
        selection=options.select,
        problems=present(
            [
                f"digits without a recording: {', '.join(missing)}" if missing else None,
                *_scale_lines(chosen),
                empty_splits(samples, rule=options.split),
                empty_files([recording.file for recording in chosen]),
                extra_files([file for file in tree.files if file not in used and file not in waiting]),
                unextracted(waiting),
                broken_links(tree.broken_links),
                special_files(tree.special_files),
            ]
        ),
    )


def _parse_names(tree: Tree) -> list[_Named]:
    named = []
    for file in tree.files:
        match = _FILE.fullmatch(file.name)
        if match is not None:
            named.append(_Named(file, int(match["digit"]), int(match["scale"]), int(match["number"])))
    return named


def _split(chosen: Sequence[_Named], options: ListOptions) -> tuple[Sample, ...]:
    """Split by digit and number, whatever scales of it there are."""
    digits = sorted({(recording.digit, recording.number) for recording in chosen})
    found = [Unsplit(f"{digit}/{number}", digit, number, 0, key=str(number)) for digit, number in digits]
    split_digits = split_samples(found, class_names=CLASS_NAMES, rule=options.split)
    split_of = {(sample.label, sample.number): sample.split for sample in split_digits}
    samples = [
        Sample(r.file.path, r.digit, split_of[r.digit, r.number], r.number, r.file.size_bytes) for r in chosen
    ]
    return tuple(sorted(samples, key=lambda sample: (sample.label, sample.number, sample.path)))


def _refuse_twice(tree: Tree, chosen: Sequence[_Named]) -> None:
    """Raise where a digit's number comes twice at one scale, as in two copies of the set."""
    by_number: dict[tuple[int, int, int], list[str]] = defaultdict(list)
    for recording in chosen:
        by_number[recording[1:]].append(recording.file.path)
    twice = [(key, paths) for key, paths in by_number.items() if len(paths) > 1]
    if twice:
        (digit, scale, number), paths = min(twice)
        raise DatasetError(
            f"{tree.root}: digit {digit} has number {number} more than once at scale {scale}: "
            f"{join_some(paths)}; keep one of each"
        )


def _scale_lines(chosen: Sequence[_Named]) -> list[str]:
    counts = Counter(recording.scale for recording in chosen)
    return [
        f"scale {scale}: {count} of {PER_SCALE} recordings"
        for scale, count in sorted(counts.items())
        if count != PER_SCALE
    ]


def _nothing_found(tree: Tree, named: Sequence[_Named], options: ListOptions) -> str:
    expected = "expected mnist_<digit>_scale<04|08|16>_<number>.aedat"
    if named:
        return (
            f"{tree.root}: {count_of(len(named), 'recording')}, none of {options.select}; "
            f"add them, or choose --select {ALL_SCALES}"
        )
    if tree.archives():
        return f"{tree.root}: no recordings, {expected}; {unextracted(tree.archives())}"
    found = extra_files(tree.files) or "the folder is empty"
    return f"{tree.root}: no recordings, {expected}; found: {found}; check the folder"

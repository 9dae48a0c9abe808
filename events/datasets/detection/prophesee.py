"""Gen1, 1Mpx, eTraM and made-up shapes: `<name>_td.*` with `<name>_bbox.npy` beside it.

    <any folders>/train|val|test/<name>_td.dat  <name>_bbox.npy     Gen1, 1Mpx (Prophesee), shapes
    <any folders>/train|val|test/<name>_td.h5   <name>_bbox.npy     eTraM; _td.dat.h5 of Gen1 as RVT has it

A folder's split is told by its name, which may go on (`test_h5_2`). Labels are on the recordings' clock.
Sources: README of prophesee-automotive-dataset-toolbox; eTraM, README; uzh-rpg/RVT, README.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from events.datasets.detection.pairs import Pair, PairedSet, in_stored_order
from events.datasets.problems import broken_links, count_of, extra_files, join_some, unextracted
from events.datasets.scan import FoundFile, Tree, scan_tree
from events.datasets.splits import TEST, TRAIN, VALIDATION
from events.errors import DatasetError, EventsError
from events.labels.classes import label_set
from events.labels.formats import read_labels
from events.labels.table import LabelTable
from events.readers.dat import dat_header
from events.readers.source import open_source
from events.recording import ReadOptions

_RECORDING = re.compile(r"(?P<stem>.+)_td(?P<suffix>\.dat|\.raw|\.dat\.h5|\.h5|\.hdf5)", re.IGNORECASE)
_LABELS = "_bbox.npy"
_SPLIT = re.compile(r"(?P<split>train|val|test)(ing|id|idation)?([_\W].*)?", re.IGNORECASE)
SPLITS = {"train": TRAIN, "val": VALIDATION, "test": TEST}


@dataclass(frozen=True)
class BboxLayout:
    """One of the sets with `_bbox.npy` beside each recording.

    Attributes:
        dataset: Its name, also in `LABEL_SETS`, which says its classes.
        selections: Name of a choice and the classes that are taken then; empty takes all.
    """

    dataset: str
    selections: dict[str, tuple[str, ...]]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the labels."""
        return label_set(self.dataset).class_names


# Published work evaluates the first three of 1Mpx's seven classes.
GEN1 = BboxLayout("gen1", {})
ONE_MPX = BboxLayout("1mpx", {"first-three": ("pedestrian", "two-wheeler", "car"), "all": ()})
ETRAM = BboxLayout("etram", {})
SHAPES = BboxLayout("shapes", {})


def find_bbox_pairs(root: Path, selection: str, *, layout: BboxLayout) -> PairedSet:
    """Find recordings and labels below a folder.

    Raises:
        DatasetError: There is no recording.
    """
    tree = scan_tree(root)
    recordings = [file for file in tree.files if _RECORDING.fullmatch(file.name)]
    if not recordings:
        raise DatasetError(_nothing_found(tree, layout))
    labels = {file.path.lower(): file for file in tree.files if file.name.lower().endswith(_LABELS)}
    by_stem: dict[str, list[FoundFile]] = defaultdict(list)
    for file in recordings:
        by_stem[_stem(file)].append(file)
    pairs = [_pair(stem, files[0], labels) for stem, files in sorted(by_stem.items())]
    twice = [file.path for files in by_stem.values() for file in files[1:]]
    alone = [file.path for path, file in labels.items() if path.removesuffix(_LABELS) not in by_stem]
    unsplit = [pair.path for pair in pairs if pair.official is None]
    used = {*recordings, *labels.values(), *tree.archives()}
    known = label_set(layout.dataset).sensor_hw
    sensor_hw = said_sensor([root / pair.path for pair in pairs]) or known
    return PairedSet(
        dataset=layout.dataset,
        root=root,
        pairs=in_stored_order(pairs),
        read_labels=partial(_read, layout=layout, sensor_hw=sensor_hw),
        class_names=layout.class_names,
        kept_classes=layout.selections.get(selection, ()),
        read_options=ReadOptions(sensor_hw=sensor_hw),
        sensor_hw=sensor_hw,
        selection=selection,
        problems=[
            _named(unsplit, "in no train, val or test folder, taken for training"),
            _named(twice, "left out: the same name with another suffix"),
            f"{count_of(len(alone), 'label file')} without a recording left out: {join_some(alone)}"
            if alone
            else None,
            extra_files([file for file in tree.files if file not in used]),
            unextracted(tree.packed_archives()),
            broken_links(tree.broken_links),
        ],
    )


def _read(
    recording: Path, labels: Path, *, layout: BboxLayout, sensor_hw: tuple[int, int] | None
) -> LabelTable:
    """Return the labels of a recording, which are on its clock."""
    names = layout.class_names
    return read_labels(labels, "bbox", like=layout.dataset, class_names=names, sensor_hw=sensor_hw)


def _pair(stem: str, file: FoundFile, labels: dict[str, FoundFile]) -> Pair:
    found = labels.get(stem + _LABELS)
    return Pair(file.path, file.size_bytes, None if found is None else found.path, folder_split(file))


def folder_split(file: FoundFile) -> str | None:
    """Return the split that the folders above a file say, the innermost first; None where none does."""
    for name in reversed(file.folders):
        match = _SPLIT.fullmatch(name)
        if match is not None:
            return SPLITS[match["split"].lower()]
    return None


def said_sensor(paths: Sequence[Path]) -> tuple[int, int] | None:
    """Return the height and width that the first DAT file with a size in its header says; None of none."""
    for path in paths:
        if path.suffix.lower() != ".dat":
            continue
        try:
            found = dat_header(open_source(path)).sensor_hw
        except EventsError:
            continue
        if found is not None:
            return found
    return None


def _stem(file: FoundFile) -> str:
    """Return a recording's path without `_td` and what follows, in lower case."""
    match = _RECORDING.fullmatch(file.path)
    assert match is not None
    return match["stem"].lower()


def _named(paths: Sequence[str], what: str) -> str | None:
    return f"{count_of(len(paths), 'recording')} {what}: {join_some(paths)}" if paths else None


def _nothing_found(tree: Tree, layout: BboxLayout) -> str:
    expected = "expected <name>_td.dat (or .h5) with <name>_bbox.npy beside it, in train, val and test"
    if tree.archives():
        return f"{tree.root}: no recordings of {layout.dataset}, {expected}; {unextracted(tree.archives())}"
    found = extra_files(tree.files) or "the folder is empty"
    return f"{tree.root}: no recordings of {layout.dataset}, {expected}; found: {found}; check the folder"

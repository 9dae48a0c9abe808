"""PEDRo and N-Caltech101 with boxes: short recordings, each with a label file of its own.

    numpy/train|val|test/<name>.npy   xml/<split>/<name>.xml or yolo/<split>/<name>.txt     PEDRo
    <class>/image_<number>.bin        <class>/annotation_<number>.bin                      N-Caltech101

PEDRo (Boretti et al., CVPRW 2023): a file is the 40 ms before its label, 346 x 260 pixels, columns t in
microseconds, x, y, p. The label's time is behind the last event. XML is read where it is there, else YOLO.

N-Caltech101 (Orchard et al., 2015): the annotation is for the beginning; the box moves with the three
saccades of 100 ms, and windows end where each of them does, with the box where it is then. There is no
official split: `random:0:0.7:0.1` takes the same share of every class, by SHA-256 of the recordings' names.
"""

import re
from functools import partial
from pathlib import Path

import numpy as np

from events.boxes import SACCADE_US
from events.datasets.class_order import order_classes
from events.datasets.detection.pairs import Pair, PairedSet, in_stored_order
from events.datasets.detection.prophesee import folder_split
from events.datasets.problems import count_of, extra_files, join_some, unextracted
from events.datasets.scan import FoundFile, Tree, scan_tree
from events.errors import DamagedRecording, DatasetError
from events.labels.classes import label_set
from events.labels.formats import read_labels
from events.labels.table import LabelTable
from events.recording import ReadOptions

PEDRO = label_set("pedro")
# Label files of PEDRo, the first that is there is read: folder and suffix.
PEDRO_LABELS = (("xml", ".xml"), ("yolo", ".txt"))

N_CALTECH101_HW = (180, 240)
_IMAGE = re.compile(r"image_(?P<number>\d+)\.bin", re.IGNORECASE)
_ANNOTATION = re.compile(r"annotation_(?P<number>\d+)\.bin", re.IGNORECASE)


def find_pedro(root: Path, selection: str) -> PairedSet:
    """Find PEDRo's windows and their labels below a folder.

    Raises:
        DatasetError: There is no recording in a folder `numpy`.
    """
    tree = scan_tree(root)
    files = {file.path: file for file in tree.files}
    recordings = [file for file in tree.files if file.suffix == ".npy" and "numpy" in file.folders]
    if not recordings:
        raise DatasetError(_nothing_found(tree, "numpy/train|val|test/<name>.npy with xml/ or yolo/ beside"))
    pairs, used = [], set()
    for file in recordings:
        places = [_beside(file, folder, suffix) for folder, suffix in PEDRO_LABELS]
        there = [place for place in places if place in files]
        used.update(there)
        labels = there[0] if there else None
        pairs.append(Pair(file.path, file.size_bytes, labels, folder_split(file)))
    alone = [file.path for file in tree.files if _is_pedro_label(file) and file.path not in used]
    return PairedSet(
        dataset="pedro",
        root=root,
        pairs=in_stored_order(pairs),
        read_labels=_read_pedro,
        class_names=PEDRO.class_names,
        read_options=ReadOptions(columns=PEDRO.columns, sensor_hw=PEDRO.sensor_hw),
        sensor_hw=PEDRO.sensor_hw,
        selection=selection,
        problems=[
            f"{count_of(len(alone), 'label file')} without a recording left out: {join_some(alone)}"
            if alone
            else None,
        ],
    )


def _beside(file: FoundFile, folder: str, suffix: str) -> str:
    """Return where a recording's label file of a kind is: its last folder `numpy` under another name."""
    folders = list(file.folders)
    folders[len(folders) - 1 - folders[::-1].index("numpy")] = folder
    return "/".join([*folders, file.name.rpartition(".")[0] + suffix])


def _is_pedro_label(file: FoundFile) -> bool:
    return any(folder in file.folders and file.suffix == suffix for folder, suffix in PEDRO_LABELS)


def _read_pedro(recording: Path, labels: Path) -> LabelTable:
    """Return the labels of a recording, at the time behind its last event."""
    return read_labels(labels, like="pedro", t_us=_last_time(recording) + 1)


def _last_time(recording: Path) -> int:
    """Return the time of the last of the rows t, x, y, p, without reading those before."""
    try:
        rows = np.load(recording, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        said = " ".join(str(error).split())
        raise DamagedRecording(f"{recording}: no array of events ({said}); copy it again") from None
    if rows.ndim != 2 or rows.shape[1] != 4 or len(rows) == 0:
        raise DamagedRecording(
            f"{recording}: found an array of shape {list(rows.shape)}, expected at least one row t, x, y, p; "
            "copy it again"
        )
    return int(rows[-1, 0])


def find_ncaltech101(root: Path, selection: str) -> PairedSet:
    """Find N-Caltech101's recordings and annotations below a folder, in whatever folders they lie.

    Raises:
        DatasetError: There is no recording, or no annotation.
    """
    tree = scan_tree(root)
    recordings = [file for file in tree.files if _IMAGE.fullmatch(file.name)]
    annotations = {_key(file, _ANNOTATION): file for file in tree.files if _ANNOTATION.fullmatch(file.name)}
    if not recordings or not annotations:
        raise DatasetError(
            _nothing_found(tree, "<class>/image_<number>.bin with <class>/annotation_<number>.bin")
        )
    annotated = {name for name, _ in annotations}
    bare = [file for file in recordings if _class_of(file) not in annotated]
    recordings = [file for file in recordings if _class_of(file) in annotated]
    class_names = tuple(order_classes({_class_of(file) for file in recordings}))
    pairs = []
    for file in recordings:
        found = annotations.get(_key(file, _IMAGE))
        labels = None if found is None else found.path
        pairs.append(Pair(file.path, file.size_bytes, labels, group=_class_of(file)))
    names = sorted({_class_of(file) for file in bare})
    return PairedSet(
        dataset="ncaltech101-boxes",
        root=root,
        pairs=pairs,
        read_labels=partial(_read_ncaltech101, class_names=class_names),
        class_names=class_names,
        read_options=ReadOptions(format="bin40", sensor_hw=N_CALTECH101_HW),
        sensor_hw=N_CALTECH101_HW,
        selection=selection,
        problems=[
            f"{count_of(len(bare), 'recording')} of classes without annotations left out: {join_some(names)}"
            if bare
            else None,
        ],
    )


def _class_of(file: FoundFile) -> str:
    return file.folders[-1].lower() if file.folders else ""


def _key(file: FoundFile, name: re.Pattern[str]) -> tuple[str, int]:
    """Return what a recording and its annotation share: the class and the number."""
    match = name.fullmatch(file.name)
    assert match is not None
    return _class_of(file), int(match["number"])


def _read_ncaltech101(recording: Path, labels: Path, *, class_names: tuple[str, ...]) -> LabelTable:
    """Return the box of a recording at the end of each saccade."""
    times_us = tuple(SACCADE_US * saccade for saccade in (1, 2, 3))
    return read_labels(
        labels,
        "ncaltech101",
        times_us=times_us,
        class_id=class_names.index(recording.parent.name.lower()),
        class_names=class_names,
        sensor_hw=N_CALTECH101_HW,
    )


def _nothing_found(tree: Tree, expected: str) -> str:
    if tree.archives():
        return f"{tree.root}: no recordings, expected {expected}; {unextracted(tree.archives())}"
    found = extra_files(tree.files) or "the folder is empty"
    return f"{tree.root}: no recordings, expected {expected}; found: {found}; check the folder"

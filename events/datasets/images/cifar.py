"""CIFAR-10 and CIFAR-100 as published: the Python or the binary version, packed or unpacked.

Python version: pickled dictionaries with `data`, uint8 [N, 3072], and `labels` or `fine_labels`. Binary
version: records of the label (in CIFAR-100 the coarse one, then the fine one) and 3072 bytes. Either way a
picture is 1024 red, 1024 green and 1024 blue values, row by row (Krizhevsky, "Learning multiple layers of
features from tiny images", 2009, and the set's page).
"""

import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from events.datasets.class_order import CIFAR10_CLASSES
from events.datasets.images.part import Part, Pictures, check_labels
from events.datasets.images.plain_pickle import read_plain_pickle
from events.datasets.problems import join_some
from events.datasets.scan import Tree
from events.datasets.splits import TEST, TRAIN
from events.errors import DamagedRecording, DatasetError

PIXELS = 32 * 32
PICTURE_BYTES = 3 * PIXELS


@dataclass(frozen=True)
class CifarLayout:
    """What tells the two sets apart.

    Attributes:
        title: Name of the set.
        parts: Names of the files of each part, in order; the binary version adds `.bin`.
        label_key: Key of the labels in the Python version.
        label_bytes: Bytes before each picture of the binary version; the last is the label.
        archives: Names of the packed versions.
        meta: Files with the class names: the Python version's, the binary one's.
        names_key: Key of the class names in the former.
        classes: Number of classes.
        class_names: In label order; None where they are in the files alone.
    """

    title: str
    parts: dict[str, tuple[str, ...]]
    label_key: bytes
    label_bytes: int
    archives: tuple[str, ...]
    meta: tuple[str, str]
    names_key: bytes
    classes: int
    class_names: tuple[str, ...] | None = None

    @property
    def stems(self) -> tuple[str, ...]:
        """Names of all files with pictures, as the Python version has them."""
        return tuple(stem for stems in self.parts.values() for stem in stems)


CIFAR10 = CifarLayout(
    title="CIFAR-10",
    parts={TRAIN: tuple(f"data_batch_{i}" for i in range(1, 6)), TEST: ("test_batch",)},
    label_key=b"labels",
    label_bytes=1,
    archives=("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"),
    meta=("batches.meta", "batches.meta.txt"),
    names_key=b"label_names",
    classes=10,
    class_names=CIFAR10_CLASSES,
)
CIFAR100 = CifarLayout(
    title="CIFAR-100",
    parts={TRAIN: ("train",), TEST: ("test",)},
    label_key=b"fine_labels",
    label_bytes=2,
    archives=("cifar-100-python.tar.gz", "cifar-100-binary.tar.gz"),
    meta=("meta", "fine_label_names.txt"),
    names_key=b"fine_label_names",
    classes=100,
)


class _File(NamedTuple):
    """One file of a set: where it is, for messages, and what it holds."""

    path: Path
    content: bytes


def _read(tree: Tree, layout: CifarLayout) -> Pictures:
    files = _unpacked(tree, layout) or _packed(tree, layout)
    if not files:
        raise DatasetError(
            f"{tree.root}: no files of {layout.title}, expected {join_some(layout.stems)} (or with .bin), or "
            f"{' or '.join(layout.archives)}; check the folder"
        )
    parts, absent = {}, []
    for part, stems in layout.parts.items():
        there = [stem for stem in stems if stem in files or f"{stem}.bin" in files]
        absent += [stem for stem in stems if stem not in there]
        if there:
            read = [_read_batch(files, stem, layout) for stem in there]
            parts[part] = Part(
                np.concatenate([batch.images for batch in read]),
                np.concatenate([batch.labels for batch in read]),
            )
    names, problems = _class_names(files, layout)
    if absent:
        problems.append(f"files of {layout.title} missing: {', '.join(absent)}")
    return Pictures(parts, names, tuple(problems))


read_cifar10 = partial(_read, layout=CIFAR10)
read_cifar100 = partial(_read, layout=CIFAR100)


def _wanted(layout: CifarLayout) -> set[str]:
    return {*layout.stems, *(f"{stem}.bin" for stem in layout.stems), *layout.meta}


def _unpacked(tree: Tree, layout: CifarLayout) -> dict[str, _File]:
    """Return the set's files below a folder by name; none where only class names are there."""
    wanted = _wanted(layout)
    found = {file.name: tree.root / file.path for file in tree.files if file.name in wanted}
    if not set(found) - set(layout.meta):
        return {}
    try:
        return {name: _File(path, path.read_bytes()) for name, path in found.items()}
    except OSError as error:
        raise DamagedRecording(f"{error.filename}: cannot be read ({error.strerror})") from error


def _packed(tree: Tree, layout: CifarLayout) -> dict[str, _File]:
    """Return the set's files in the first of its archives that is below a folder."""
    by_name = {file.name.lower(): tree.root / file.path for file in tree.files}
    path = next((by_name[name] for name in layout.archives if name in by_name), None)
    if path is None:
        return {}
    wanted = _wanted(layout)
    files: dict[str, _File] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                content = archive.extractfile(member) if name in wanted and member.isfile() else None
                if content is not None:
                    files[name] = _File(path / name, content.read())
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        said = " ".join(str(error).split())
        raise DamagedRecording(f"{path}: damaged archive ({said}); get the file again") from error
    return files


def _read_batch(files: dict[str, _File], stem: str, layout: CifarLayout) -> Part:
    if stem in files:
        images, labels = _from_pickle(files[stem], layout)
    else:
        images, labels = _from_records(files[f"{stem}.bin"], layout)
    check_labels(files[stem if stem in files else f"{stem}.bin"].path, labels, layout.classes)
    return Part(images.reshape(-1, 3, 32, 32), labels)


def _from_pickle(file: _File, layout: CifarLayout) -> tuple[np.ndarray, np.ndarray]:
    batch = read_plain_pickle(file.content, where=file.path)
    images, labels = batch.get(b"data"), batch.get(layout.label_key)
    if (
        isinstance(images, np.ndarray)
        and isinstance(labels, list)
        and all(type(label) is int for label in labels)
        and images.dtype == np.uint8
        and images.shape == (len(labels), PICTURE_BYTES)
    ):
        return images, np.array(labels, np.int64)
    key = layout.label_key.decode()
    shape, count = getattr(images, "shape", None), len(labels) if isinstance(labels, list) else "no"
    raise DamagedRecording(
        f"{file.path}: found data of shape {shape} and {count} {key}, expected uint8 [N, {PICTURE_BYTES}] "
        f"and N {key}; it is no file of {layout.title}, get the right one"
    )


def _from_records(file: _File, layout: CifarLayout) -> tuple[np.ndarray, np.ndarray]:
    length = layout.label_bytes + PICTURE_BYTES
    if not file.content or len(file.content) % length:
        raise DamagedRecording(
            f"{file.path}: {len(file.content)} bytes, expected a multiple of {length}; get the file again"
        )
    records = np.frombuffer(file.content, np.uint8).reshape(-1, length)
    return records[:, layout.label_bytes :], records[:, layout.label_bytes - 1].astype(np.int64)


def _class_names(files: dict[str, _File], layout: CifarLayout) -> tuple[tuple[str, ...], list[str]]:
    """Return the class names in label order, and a line where numbers stand for them."""
    if layout.class_names is not None:
        return layout.class_names, []
    pickled, text = layout.meta
    names: Sequence[str] = ()
    if pickled in files:
        found = read_plain_pickle(files[pickled].content, where=files[pickled].path).get(layout.names_key, ())
        names = [name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in found]
    elif text in files:
        names = files[text].content.decode(errors="replace").split()
    if len(names) == layout.classes:
        return tuple(names), []
    return tuple(map(str, range(layout.classes))), [
        f"no {pickled} with {layout.classes} class names; numbers stand for them"
    ]

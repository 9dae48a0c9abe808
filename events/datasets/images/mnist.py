"""MNIST and sets in its format (Fashion-MNIST, KMNIST): four IDX files, packed with gzip or not.

An IDX file is two zero bytes, the type of a value (0x08: unsigned byte), the number of axes, the length of
each axis as a big-endian 32-bit number, and the values, last axis fastest (LeCun, Cortes and Burges, "The
MNIST database of handwritten digits", section on file formats).
"""

import gzip
import zlib
from pathlib import Path

import numpy as np

from events.datasets.images.part import Part, Pictures, check_labels
from events.datasets.scan import Tree
from events.datasets.splits import TEST, TRAIN
from events.errors import DamagedRecording, DatasetError

CLASS_NAMES = tuple("0123456789")
UNSIGNED_BYTE = 0x08
_STEMS = {TRAIN: "train", TEST: "t10k"}


def read_mnist(tree: Tree) -> Pictures:
    """Read the pictures of whichever of the four files are below a folder.

    Raises:
        DatasetError: There are none, or labels without pictures or the other way round.
        DamagedRecording: One of them is damaged, or no IDX file.
    """
    files = {_plain_name(file.name): tree.root / file.path for file in reversed(tree.files)}
    parts = {}
    for part, stem in _STEMS.items():
        names = (f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte")
        there = [name for name in names if name in files]
        if len(there) == 1:
            missing = names[1 - names.index(there[0])]
            raise DatasetError(f"{files[there[0]]}: without {missing}; put it beside")
        if there:
            parts[part] = _read_part(files[names[0]], files[names[1]])
    if not parts:
        raise DatasetError(
            f"{tree.root}: no files of MNIST, expected train-images-idx3-ubyte, train-labels-idx1-ubyte, "
            "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, with .gz or without; check the folder"
        )
    return Pictures(parts, CLASS_NAMES)


def _plain_name(name: str) -> str:
    """Return a file's name as the first publication has it: some copies are `train-images.idx3-ubyte`."""
    return name.lower().removesuffix(".gz").replace(".", "-")


def _read_part(images_path: Path, labels_path: Path) -> Part:
    images, labels = read_idx(images_path, axes=3), read_idx(labels_path, axes=1).astype(np.int64)
    if len(images) != len(labels):
        raise DamagedRecording(
            f"{images_path}: {len(images)} pictures, but {len(labels)} labels in {labels_path.name}; "
            "get both again"
        )
    if not images.size:
        raise DamagedRecording(f"{images_path}: holds no pictures; get the file again")
    check_labels(labels_path, labels, len(CLASS_NAMES))
    return Part(images[:, None], labels)


def read_idx(path: Path, *, axes: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes, packed with gzip where its name ends in .gz.

    Args:
        path: The file.
        axes: How many axes it must have.

    Raises:
        DamagedRecording: It is no such file, cut off, or longer than it says.
    """
    content = _content(path)
    expected = bytes([0, 0, UNSIGNED_BYTE, axes])
    if content[:4] != expected:
        raise DamagedRecording(
            f"{path}: begins with {content[:4].hex(' ') or 'nothing'}, expected {expected.hex(' ')} of an "
            f"IDX file of bytes with {axes} axes; it is another file, get the right one"
        )
    header = 4 + 4 * axes
    shape = tuple(np.frombuffer(content[4:header].ljust(4 * axes, b"\0"), ">u4").astype(int).tolist())
    size = header + int(np.prod(shape, dtype=object))
    if len(content) != size:
        raise DamagedRecording(
            f"{path}: {len(content)} bytes, expected {size} for shape {list(shape)}; get the file again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _content(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix.lower() == ".gz" else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DamagedRecording(f"{path}: damaged gzip file ({error}); get the file again") from error
    except OSError as error:
        raise DamagedRecording(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write unsigned bytes of any number of axes as an IDX file; the same values give the same bytes."""
    header = bytes([0, 0, UNSIGNED_BYTE, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    content = header + np.ascontiguousarray(values, np.uint8).tobytes()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)

"""A network in whole numbers, and the one file it is kept in. Needs NumPy alone.

The file is a zip archive that `numpy.load` opens: one `.npy` for each array, `LAYER/ARRAY.npy`, and
`description.json` with everything else, readable by any zip program.
"""

import io
import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from snn.errors import ExportError
from snn.whole_file import whole_file

FORMAT = "spikeline integer network"
VERSION = 2
DESCRIPTION = "description.json"
# Time of every member, so that the same network gives the same bytes: the earliest a zip archive can say.
ZIP_TIME = (1980, 1, 1, 0, 0, 0)

KINDS = ("conv", "linear", "sum_pool", "max_pool", "sum_places", "flatten", "add", "attention", "neuron")


@dataclass(frozen=True)
class Layer:
    """One step in whole numbers; `docs/export.md` says what each kind computes.

    Attributes:
        name: Of the layer in the network it was made from; what it hands on goes by that name too.
        kind: One of `KINDS`.
        inputs: Names of what it is given; `frames` are the frames.
        shape: Of what it hands on, without steps and samples.
        fraction_bits: What it hands on is worth 2^-fraction_bits.
        numbers: Whole numbers, words and lists of them, by name.
        arrays: Whole numbers, by name.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    fraction_bits: int
    numbers: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class IntegerNetwork:
    """A network in whole numbers.

    Attributes:
        frames: Shape of a frame, [P, H, W].
        largest_count: Largest number of events a place of a frame may have: sums are then below 2^63.
        most_steps: Steps T for which that holds.
        repeats: Steps at which a frame of one step is seen; None for frames of every step.
        layers: In the order they are computed; the last one hands on the logits.
        about: What is said beside: form of the numbers, names of classes, where it comes from.
    """

    frames: tuple[int, ...]
    largest_count: int
    most_steps: int
    repeats: int | None
    layers: tuple[Layer, ...]
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def logit_fraction_bits(self) -> int:
        """A logit is worth 2^-this."""
        return self.layers[-1].fraction_bits

    def description(self) -> dict[str, Any]:
        """Return everything but the arrays, as plain JSON types."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "frames": list(self.frames),
            "largest_count": self.largest_count,
            "most_steps": self.most_steps,
            "repeats": self.repeats,
            "about": self.about,
            "layers": [_described(layer) for layer in self.layers],
        }


def _described(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "inputs": list(layer.inputs),
        "shape": list(layer.shape),
        "fraction_bits": layer.fraction_bits,
        "numbers": layer.numbers,
        "arrays": {name: [str(a.dtype), list(a.shape)] for name, a in layer.arrays.items()},
    }


def write_network(network: IntegerNetwork, path: Path) -> None:
    """Write a network to a file, all of it or nothing; a file that was there is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        text = json.dumps(network.description(), indent=1, ensure_ascii=False) + "\n"
        _write_member(archive, DESCRIPTION, text.encode())
        for layer in network.layers:
            for name, array in layer.arrays.items():
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
                _write_member(archive, f"{layer.name}/{name}.npy", buffer.getvalue())


def _write_member(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    member = zipfile.ZipInfo(name, ZIP_TIME)
    member.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(member, content)


def read_network(path: Path) -> IntegerNetwork:
    """Read a network from a file.

    Raises:
        ExportError: There is none, it is damaged, or of a version that is not known here.
    """
    try:
        # Through memory: NumPy leaves a damaged file open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            description = json.loads(file[DESCRIPTION])
            _check_version(path, description)
            layers = tuple(_read_layer(entry, file) for entry in description["layers"])
            network = _network(description, layers)
    except FileNotFoundError as error:
        raise ExportError(f"{path}: not found; `pipelines export RUN` writes one") from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        found = " ".join(f"{type(error).__name__}: {error}".split())
        raise ExportError(f"{path}: no exported network, or damaged ({found}); export it again") from error
    _check_order(path, layers)
    return network


def _network(description: dict[str, Any], layers: tuple[Layer, ...]) -> IntegerNetwork:
    return IntegerNetwork(
        frames=tuple(description["frames"]),
        largest_count=description["largest_count"],
        most_steps=description["most_steps"],
        repeats=description["repeats"],
        layers=layers,
        about=description["about"],
    )


def _check_version(path: Path, description: dict[str, Any]) -> None:
    found = (description["format"], description["version"])
    if found != (FORMAT, VERSION):
        raise ExportError(
            f"{path}: found {found[0]!r} of version {found[1]}, expected {FORMAT!r} of version {VERSION}; "
            "export it again with this release"
        )


def _read_layer(entry: dict[str, Any], file: Any) -> Layer:
    arrays = {}
    for name, (dtype, shape) in entry["arrays"].items():
        array = file[f"{entry['name']}/{name}"]
        if str(array.dtype) != dtype or list(array.shape) != shape:
            raise ValueError(
                f"{entry['name']}/{name} is {array.dtype} {list(array.shape)}, described as {dtype} {shape}"
            )
        arrays[name] = array
    return Layer(
        name=entry["name"],
        kind=entry["kind"],
        inputs=tuple(entry["inputs"]),
        shape=tuple(entry["shape"]),
        fraction_bits=entry["fraction_bits"],
        numbers=entry["numbers"],
        arrays=arrays,
    )


def _check_order(path: Path, layers: Iterable[Layer]) -> None:
    known = {"frames"}
    for layer in layers:
        missing = [name for name in layer.inputs if name not in known]
        if layer.kind not in KINDS or missing:
            what = f"the input {missing[0]!r} before it is there" if missing else f"the kind {layer.kind!r}"
            raise ExportError(f"{path}: layer {layer.name!r} has {what}; export it again")
        known.add(layer.name)

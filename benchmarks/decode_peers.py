"""Other packages' readers, each called as its own documentation calls it: what `decode_formats.py` times.

A peer gives what it likes; `columns` turns that into t, x, y, p, which is not timed. Packages are imported
when they are first used. SpikingJelly and tonic are taken apart as in `decode.py`.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from decode import Nothing, import_part

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Peer:
    """A package that reads.

    Attributes:
        decode: Decodes a file; takes its path and format.
        columns: t, x, y, p of what `decode` gives.
        formats: Formats that it says it reads.
    """

    decode: Callable[[Path, str], Any]
    columns: Callable[[Any], Columns]
    formats: tuple[str, ...]


def expelliarmus(path: Path, format_name: str) -> np.ndarray:
    """Decode with expelliarmus."""
    from expelliarmus import Wizard

    return Wizard(encoding=format_name).read(str(path))


def faery(path: Path, format_name: str) -> list[np.ndarray]:
    """Decode with faery, whose text reader wants to be told the columns."""
    import faery

    if format_name == "csv":
        stream = faery.events_stream_from_file(
            path,
            dimensions_fallback=(1280, 720),
            csv_properties=faery.CsvProperties.default(),
        )
    else:
        stream = faery.events_stream_from_file(path)
    return [packet.copy() for packet in stream]


def aedat(path: Path, format_name: str) -> list[np.ndarray]:
    """Decode with the package aedat."""
    from aedat import Decoder

    return [packet["events"] for packet in Decoder(path) if "events" in packet]


def dv_processing(path: Path, format_name: str) -> list[np.ndarray]:
    """Decode with dv_processing."""
    import dv_processing

    camera = dv_processing.io.MonoCameraRecording(str(path))
    packets = []
    while camera.isRunning():
        batch = camera.getNextEventBatch()
        if batch is not None:
            packets.append(batch.numpy())
    return packets


def event_stream(path: Path, format_name: str) -> list[np.ndarray]:
    """Decode with event_stream."""
    from event_stream import Decoder

    return [packet.copy() for packet in Decoder(str(path))]


def evt3(path: Path, format_name: str) -> Any:
    """Decode with the package evt3."""
    import evt3

    return evt3.decode_file(str(path))


def evlib(path: Path, format_name: str) -> Any:
    """Decode with evlib, without sorting."""
    import evlib

    return evlib.load_events(str(path), sort=False).collect()


def evutils(path: Path, format_name: str) -> Any:
    """Decode with evutils."""
    from evutils.io import EventReader

    with EventReader(str(path)) as reader:
        events = reader.read_all()
    return events[0] if isinstance(events, tuple) else events


def tonic(path: Path, format_name: str) -> np.ndarray:
    """Decode with tonic's readers; of AEDAT 2 and 3.1 with their parts, for the readers raise an error."""
    reader = import_part("tonic", "io")
    if format_name == "bin40":
        dtype = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])  # as tonic's NMNIST has it
        return reader.read_mnist_file(str(path), dtype=dtype)
    if format_name == "aedat4":
        return reader.read_aedat4(str(path))
    version, start, _ = reader.read_aedat_header_from_file(str(path))
    records = reader.get_aer_events_from_file(str(path), version, start)
    address, time = records["address"], records["timeStamp"]
    if format_name == "aedat3":
        return reader.make_structured_array(
            (address >> 17) & 0x1FFF, (address >> 2) & 0x1FFF, time, (address >> 1) & 1
        )
    return reader.make_structured_array((address >> 8) & 0x7F, (address >> 1) & 0x7F, time, address & 1)


def spikingjelly(path: Path, format_name: str) -> Any:
    """Decode with SpikingJelly."""
    for name in ("", ".datasets", ".datasets.utils", ".transforms"):
        sys.modules.setdefault(f"torchvision{name}", Nothing(f"torchvision{name}"))
    if format_name == "aedat2":
        return import_part("spikingjelly.datasets", "cifar10_dvs")._load_origin_data(path)
    utilities = import_part("spikingjelly.datasets", "utils")
    load = {"aedat3": utilities.load_aedat_v3, "bin40": utilities.load_ATIS_bin, "npz": load_npz}[format_name]
    return load(path)


def load_npz(path: Path) -> dict[str, np.ndarray]:
    """Read .npz as SpikingJelly does in its data sets, with NumPy."""
    with np.load(path) as file:
        return {name: file[name] for name in "txyp"}


def h5py(path: Path, format_name: str) -> Any:
    """Read columns or records with h5py alone: no reader, but what one would write at first."""
    import h5py
    import hdf5plugin  # noqa: F401 - its filters

    with h5py.File(path) as file:
        if "CD" in file:
            return file["CD/events"][:]
        columns = {name: file[f"events/{name}"][:] for name in "txyp"}
        columns["t"] = columns["t"] + file["t_offset"][()]
    return columns


def packets(found: Iterable[np.ndarray]) -> Columns:
    """Return the columns of packets of records."""
    return records(np.concatenate(list(found)))


def records(found: Any) -> Columns:
    """Return the columns of records, or of arrays by name, however they are called."""
    names = found.dtype.names if isinstance(found, np.ndarray) else list(found)

    def column(*wanted: str) -> np.ndarray:
        return np.asarray(found[next(name for name in wanted if name in names)])

    return column("t", "timestamp"), column("x"), column("y"), column("p", "on", "polarity")


def attributes(found: Any) -> Columns:
    """Return the columns of an object that has them as attributes."""
    return np.asarray(found.t), np.asarray(found.x), np.asarray(found.y), np.asarray(found.p)


def table(found: Any) -> Columns:
    """Return the columns of evlib's table, in which OFF is -1 or 0."""
    t, x, y, p = (found[name].to_physical().to_numpy() for name in ("t", "x", "y", "polarity"))
    return t, x, y, p > 0


PEERS: dict[str, Peer] = {
    "aedat": Peer(aedat, packets, ("aedat4",)),
    "dv_processing": Peer(dv_processing, packets, ("aedat4",)),
    "event_stream": Peer(event_stream, packets, ("es",)),
    "evlib": Peer(
        evlib, table, ("evt2", "evt21", "evt3", "aedat1", "aedat2", "aedat3", "aedat4", "hdf5", "csv")
    ),
    "evt3": Peer(evt3, attributes, ("evt3",)),
    "evutils": Peer(
        evutils,
        attributes,
        ("aedat1", "aedat2", "aedat3", "aedat4", "csv", "dat", "evt2", "evt21", "evt3", "hdf5", "npz"),
    ),
    "expelliarmus": Peer(expelliarmus, records, ("dat", "evt2", "evt3")),
    "faery": Peer(faery, packets, ("aedat4", "csv", "dat", "es", "evt2", "evt3")),
    "h5py": Peer(h5py, records, ("hdf5",)),
    "SpikingJelly": Peer(spikingjelly, records, ("aedat2", "aedat3", "bin40", "npz")),
    "tonic": Peer(tonic, records, ("aedat2", "aedat3", "aedat4", "bin40")),
}

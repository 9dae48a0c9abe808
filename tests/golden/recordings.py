"""Golden vectors of readers: what dat2mat.m returned, and single formats from bytes to events."""

import tempfile
from pathlib import Path

import numpy as np
from golden.vector import Mismatch, Vector

from events.errors import EventsError
from events.readers.registry import open_recording
from events.recording import ReadOptions

DAT2MAT = ReadOptions(orientation="dat2mat", timestamps="dat2mat", polarity="on1")


def check_dat2mat(vector: Vector) -> None:
    """Every event as the MATLAB script returned it; where it stopped with an error, an error of ours."""
    recording = vector.path.with_suffix(".aedat")
    if "error" in vector:
        stopped = str(vector["error"])
        try:
            events = open_recording(recording, DAT2MAT).read()
        except EventsError:
            return
        raise Mismatch(
            f"found {len(events)} events, expected an error, as dat2mat.m stopped with {stopped!r}"
        )
    events = open_recording(recording, DAT2MAT).read()
    vector.equal("out", np.stack([events[name].astype(np.int64) for name in ("t", "x", "y", "p")], axis=1))


def check_decode_5byte(vector: Vector) -> None:
    """5-byte records as stored."""
    _check_raw(vector, "bin40")


def check_decode_aedat2(vector: Vector) -> None:
    """AEDAT 2.0 as stored, then by dat2mat's address map, which mirrors x and turns the polarity bit."""
    _check_raw(vector, "aedat2")
    mapped = _read(vector, ReadOptions(orientation="dat2mat", polarity="on1", format="aedat2"))
    vector.equal("x_cifar", mapped["x"])
    vector.equal("p_cifar", mapped["p"])


def check_decode_aedat31(vector: Vector) -> None:
    """AEDAT 3.1 as stored."""
    _check_raw(vector, "aedat3")


def check_decode_dat(vector: Vector) -> None:
    """Prophesee DAT as stored."""
    _check_raw(vector, "dat")


def _check_raw(vector: Vector, format_name: str) -> None:
    events = _read(vector, ReadOptions(orientation="raw", polarity="raw", format=format_name))
    for name in ("t", "x", "y", "p"):
        vector.equal(name, events[name])


def _read(vector: Vector, options: ReadOptions) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{vector.name}.bin"
        path.write_bytes(vector["raw"].tobytes())
        return open_recording(path, options).read()

"""NumPy files: `.npz` with the arrays t, x, y, p and sensor_hw, `.npy` with one structured array.

Both are written in memory of a chunk. The header of a `.npy` leaves room for any number of rows, so that it
is written once more at the end. The arrays of an `.npz` lie one behind the other, so that they wait in
temporary files.
"""

import shutil
import zipfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np

from events.recording import EVENT_DTYPE
from events.writers.atomic import atomic_file
from events.writers.event_stream import pieces


def write_npz(path: Path, events: np.ndarray | Iterable[np.ndarray], *, sensor_hw: tuple[int, int]) -> None:
    """Write a compressed `.npz`. Raises as `write_recording`."""
    with atomic_file(path) as stream, ExitStack() as stack:
        columns = {name: stack.enter_context(TemporaryFile(dir=path.parent)) for name in "txyp"}
        count = 0
        for piece, _ in pieces(events, sensor_hw=sensor_hw):
            for name, column in columns.items():
                column.write(np.ascontiguousarray(piece[name]).data)
            count += len(piece)
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, column in columns.items():
                column.seek(0)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    write_header(member, EVENT_DTYPE[name], count)
                    shutil.copyfileobj(column, member)
            with archive.open("sensor_hw.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.array(sensor_hw, np.int64))


def write_npy(path: Path, events: np.ndarray | Iterable[np.ndarray], *, sensor_hw: tuple[int, int]) -> None:
    """Write a structured `.npy`. Raises as `write_recording`."""
    with atomic_file(path) as stream:
        write_header(stream, EVENT_DTYPE, 0)
        count = 0
        for piece, _ in pieces(events, sensor_hw=sensor_hw):
            clean = np.zeros(len(piece), EVENT_DTYPE)  # no stray bytes between the fields
            for name in "txyp":
                clean[name] = piece[name]
            stream.write(clean.view(np.uint8).data)
            count += len(piece)
        stream.seek(0)
        write_header(stream, EVENT_DTYPE, count)


def write_header(stream: IO[bytes], dtype: np.dtype, rows: int) -> None:
    """Write the header of an array of that many rows, as long for any number of them."""
    descr = np.lib.format.dtype_to_descr(dtype)
    header = {"descr": descr, "fortran_order": False, "shape": (rows,)}
    np.lib.format.write_array_header_1_0(stream, header)

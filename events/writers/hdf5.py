"""HDF5 files in the layout of DSEC or of Prophesee, not compressed, as `events.readers.hdf5` reads them.

`dsec`: `/events/{p,t,x,y}`, `/t_offset` and `/ms_to_idx`, the number of the first event at each millisecond
of t or later; `/events/height` and `/events/width` say the sensor, as RVT and eTraM do. `prophesee`: records
in `/CD/events`, `/CD/indexes` with an entry each 2000 us, and `geometry`. Where time falls, the indexes name
the first event that is at least so late.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from events.errors import ConfigError, EventsError
from events.writers.atomic import atomic_file
from events.writers.event_stream import check_times, pieces
from events.writers.patient_file import PatientFile

if TYPE_CHECKING:
    import h5py

CHUNK_ROWS = 16_384
# The record of Prophesee's files: 16 bytes, as its compiler lays them out.
PROPHESEE_DTYPE = np.dtype(
    {
        "names": ["x", "y", "p", "t"],
        "formats": ["<u2", "<u2", "<i2", "<i8"],
        "offsets": [0, 2, 4, 8],
        "itemsize": 16,
    }
)
INDEX_DTYPE = np.dtype([("id", "<u8"), ("ts", "<i8")])
PROPHESEE_STEP_US, DSEC_STEP_US = 2000, 1000
# Entries of an index: 49 days of milliseconds, which is also where DSEC's times end.
MOST_ENTRIES = (1 << 32) // 1000 + 1


def write_hdf5(
    path: Path,
    events: np.ndarray | Iterable[np.ndarray],
    *,
    sensor_hw: tuple[int, int],
    layout: str = "dsec",
) -> None:
    """Write an HDF5 file in the layout `dsec` or `prophesee`. Raises as `write_recording`."""
    if layout not in ("dsec", "prophesee"):
        raise ConfigError(f"layout {layout!r} has no writer; known are dsec, prophesee")
    try:
        import h5py
    except ImportError:
        raise EventsError(f"{path}: HDF5 files need h5py; install it with: pip install h5py") from None
    write = write_dsec if layout == "dsec" else write_prophesee
    with atomic_file(path) as stream, PatientFile(stream.name, "r+") as patient:
        with h5py.File(patient, "w") as file:
            write(file, patient.until_failure(pieces(events, sensor_hw=sensor_hw)), sensor_hw)
        patient.check()


class TimeIndex:
    """The number of the first event at each step of time or later, made while events come by."""

    def __init__(self, step_us: int) -> None:
        """Stand at time 0."""
        self.step_us = step_us
        self.parts: list[np.ndarray] = []
        self.entries = 0
        self.events = 0

    def add(self, t: np.ndarray) -> None:
        """Add the next events' times, microseconds from 0 on, int64."""
        latest = np.maximum.accumulate(t)
        stop = int(latest[-1]) // self.step_us + 1
        if stop > MOST_ENTRIES:
            raise ConfigError(f"time {int(latest[-1])} us is too late for an index; subtract the first time")
        if stop > self.entries:
            steps = np.arange(self.entries, stop, dtype=np.int64) * self.step_us
            self.parts.append(np.searchsorted(latest, steps) + self.events)
            self.entries = stop
        self.events += len(t)

    def numbers(self) -> np.ndarray:
        """Return the index, uint64, one entry for each step up to the last event."""
        return np.concatenate([np.empty(0, np.int64), *self.parts]).astype("<u8")


def append(data_set: "h5py.Dataset", values: np.ndarray) -> None:
    """Add values at the end of a data set."""
    rows = data_set.shape[0]
    data_set.resize(rows + len(values), axis=0)
    data_set[rows:] = values


def growing(file: "h5py.File", name: str, dtype: Any) -> "h5py.Dataset":
    """Make an empty data set that grows."""
    return file.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(CHUNK_ROWS,))


def write_dsec(
    file: "h5py.File", parts: Iterable[tuple[np.ndarray, int | None]], sensor_hw: tuple[int, int]
) -> None:
    """Write the columns of DSEC; times that do not fit 32 bits get an offset, a second before the first."""
    types = {"p": "u1", "t": "<u4", "x": "<u2", "y": "<u2"}
    columns = {name: growing(file, f"events/{name}", dtype) for name, dtype in types.items()}
    index = TimeIndex(DSEC_STEP_US)
    offset = 0
    for piece, previous in parts:
        first = int(piece["t"][0])
        if previous is None and not 0 <= first < 1 << 31:
            offset = first - 1_000_000
        check_times(piece["t"], first=offset, stop=offset + (1 << 32), format_name="DSEC's layout of HDF5")
        values = {"t": piece["t"] - offset, "x": piece["x"], "y": piece["y"], "p": piece["p"]}
        index.add(values["t"])
        for name, column in columns.items():
            append(column, values[name].astype(types[name]))
    file.create_dataset("ms_to_idx", data=index.numbers())
    file.create_dataset("t_offset", data=np.int64(offset))
    file.create_dataset("events/height", data=np.uint32(sensor_hw[0]))
    file.create_dataset("events/width", data=np.uint32(sensor_hw[1]))


def write_prophesee(
    file: "h5py.File", parts: Iterable[tuple[np.ndarray, int | None]], sensor_hw: tuple[int, int]
) -> None:
    """Write the records of Prophesee."""
    rows = growing(file, "CD/events", PROPHESEE_DTYPE)
    index = TimeIndex(PROPHESEE_STEP_US)
    for piece, _ in parts:
        stop = MOST_ENTRIES * PROPHESEE_STEP_US
        check_times(piece["t"], first=0, stop=stop, format_name="Prophesee's layout of HDF5")
        index.add(piece["t"])
        records = np.zeros(len(piece), PROPHESEE_DTYPE)
        for name in "xypt":
            records[name] = piece[name]
        append(rows, records)
    numbers = index.numbers()
    entries = np.zeros(len(numbers), INDEX_DTYPE)
    entries["id"], entries["ts"] = numbers, np.arange(len(numbers)) * PROPHESEE_STEP_US
    file.create_dataset("CD/indexes", data=entries).attrs["offset"] = np.int64(0)
    file.attrs["version"], file.attrs["format"] = "1.0", "HDF5"
    file.attrs["geometry"] = f"{sensor_hw[1]}x{sensor_hw[0]}"

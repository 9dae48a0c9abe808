"""The readers by name, and which of them a file needs, told by its content and never by its suffix."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from events.errors import ConfigError, UnknownFormat, did_you_mean
from events.readers.aedat import aedat_header, open_aedat1, open_aedat2, plausible_layout
from events.readers.aedat3 import open_aedat3
from events.readers.aedat4 import open_aedat4
from events.readers.aedat_header import VERSION_MARK
from events.readers.bin40 import KNOWN_SENSORS, bin40_layout, open_bin40
from events.readers.columns import NPY_MARK, ZIP_MARKS, holds_arrays, open_npy, open_npz
from events.readers.dat import open_dat
from events.readers.event_stream import ES_MARK, open_event_stream
from events.readers.evt2 import open_evt2
from events.readers.evt3 import open_evt3
from events.readers.evt21 import open_evt21
from events.readers.hdf5 import HDF5_MARK, open_hdf5
from events.readers.mat import MAT_MARK, open_mat
from events.readers.plausible import looks_like_records, records_fit
from events.readers.prophesee import looks_like_headerless_dat, prophesee_format
from events.readers.rosbag import bag_format, open_mcap, open_rosbag1, open_rosbag2
from events.readers.signatures import name_foreign
from events.readers.source import Source, open_source
from events.readers.text import is_text, open_csv
from events.recording import ReadOptions, Recording


@dataclass(frozen=True)
class Reader:
    """One format.

    Attributes:
        title: Its name for people.
        open: Opens a recording of it.
    """

    title: str
    open: Callable[[Source, ReadOptions], Recording]


READERS: dict[str, Reader] = {
    "aedat1": Reader("AEDAT 1.0 (jAER)", open_aedat1),
    "aedat2": Reader("AEDAT 2.0 (jAER)", open_aedat2),
    "aedat3": Reader("AEDAT 3.1 (cAER)", open_aedat3),
    "aedat4": Reader("AEDAT 4 (DV)", open_aedat4),
    "bin40": Reader("5-byte records (N-MNIST, N-Caltech101, SLAYER)", open_bin40),
    "es": Reader("Event Stream 2 of a DVS or an ATIS (.es)", open_event_stream),
    "dat": Reader("Prophesee DAT", open_dat),
    "evt2": Reader("Prophesee RAW EVT 2.0", open_evt2),
    "evt21": Reader("Prophesee RAW EVT 2.1", open_evt21),
    "evt3": Reader("Prophesee RAW EVT 3.0", open_evt3),
    "hdf5": Reader("HDF5 (Prophesee, DSEC, M3ED, eTraM and columns by name)", open_hdf5),
    "mat": Reader("MATLAB columns ts, x, y, pol (ASL-DVS)", open_mat),
    "rosbag1": Reader("ROS 1 bag", open_rosbag1),
    "rosbag2": Reader("ROS 2 bag in SQLite", open_rosbag2),
    "mcap": Reader("ROS 2 bag in MCAP", open_mcap),
    "npz": Reader("NumPy arrays by field name (.npz)", open_npz),
    "npy": Reader("NumPy structured array (.npy)", open_npy),
    "csv": Reader("text columns", open_csv),
}

DEFAULT_OPTIONS = ReadOptions()

READABLE = (
    "AEDAT 1 to 4, Prophesee RAW and DAT, Event Stream, HDF5, ROS bags, MCAP, MATLAB columns, "
    "5-byte records, .npz, .npy and CSV"
)


def open_recording(path: Path | str, options: ReadOptions = DEFAULT_OPTIONS) -> Recording:
    """Open a recording of any format that has a reader.

    Raises:
        EventsError: There is no such file, or it may not be read.
        UnknownFormat: Its content is no format that has a reader.
        ConfigError: The options do not fit the format.
        DamagedRecording: No part of it can be read.
    """
    if options.format is not None and options.format not in READERS:
        hint = did_you_mean(options.format, READERS)
        raise ConfigError(f"format {options.format!r} has no reader; known are {', '.join(READERS)}{hint}")
    source = open_source(path)
    return open_as(options.format or identify_source(source), source, options)


def open_as(name: str, source: Source, options: ReadOptions) -> Recording:
    """Open a recording of a format, a key of `READERS`; raises as `open_recording` does."""
    recording = READERS[name].open(source, options)
    recording.damage = options.damage
    return recording


def identify(path: Path | str) -> str:
    """Return the name of a file's format, a key of `READERS`.

    Raises:
        EventsError: There is no such file, or it may not be read.
        UnknownFormat: Its content is no format that has a reader; the message names it where it is known.
    """
    return identify_source(open_source(path))


def identify_source(source: Source) -> str:
    """Return the name of the format; raises as `identify` does."""
    head = source.head
    if head.startswith(NPY_MARK):
        return "npy"
    if head.startswith(ZIP_MARKS):
        if holds_arrays(source):
            return "npz"
        raise UnknownFormat(f"{source.path}: a zip archive without NumPy arrays; unpack it first")
    if head.startswith(MAT_MARK):
        return "mat"
    if head.startswith(HDF5_MARK):
        return "hdf5"
    if head.startswith(ES_MARK):
        return "es"
    prophesee = prophesee_format(source)
    if prophesee in READERS:
        return prophesee
    bag = bag_format(head)
    if bag is not None:
        return bag
    foreign = name_foreign(head)
    if foreign is not None:
        raise UnknownFormat(f"{source.path}: {foreign}: this version reads {READABLE}")
    if head.startswith(VERSION_MARK):
        return identify_aedat(source)
    if is_text(head):
        return "csv"
    if head.startswith(b"#") and headed_aedat1(source):
        return "aedat1"
    if looks_like_headerless_dat(head):
        return "dat"
    if looks_like_records(head, bin40_layout(KNOWN_SENSORS[-1])):
        return "bin40"
    if looks_like_records(head, plausible_layout(6)):
        return "aedat1"
    raise UnknownFormat(
        f"{source.path}: its {source.size} bytes are no recording known here, nor records in order of time; "
        f"this version reads {READABLE}; if it is one of these, name the format"
    )


def identify_aedat(source: Source) -> str:
    """Return the format that the version line names."""
    version = source.head[len(VERSION_MARK) :][:1]
    if version in (b"1", b"2", b"3", b"4"):
        return f"aedat{version.decode()}"
    line = source.head[:32].split(b"\n")[0].strip().decode("utf-8", errors="replace")
    raise UnknownFormat(
        f"{source.path}: first line {line!r} names no AEDAT version; expected 1.0, 2.0, 3.1 or 4.0"
    )


def headed_aedat1(source: Source) -> bool:
    """Whether there are plausible records of AEDAT 1.0 after `#` lines that name no version."""
    header = aedat_header(source, 6)
    return 0 < header.end < source.size and records_fit(
        source.read(0, header.end + 4096), header.end, plausible_layout(6)
    )

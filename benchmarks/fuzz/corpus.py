"""Small sound recordings of every format, from which damaged ones are made."""

import io
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from events.readers.ecf import ECF_FILTER
from events.readers.registry import READERS
from events.recording import EVENT_DTYPE
from events.writers.hdf5 import PROPHESEE_DTYPE
from events.writers.registry import WRITERS, write_recording

sys.path.append(str(Path(__file__).parents[2] / "tests"))
from suites.bag_files import event_array, event_packet, type_store, write_bag
from suites.ecf_encoder import FORMS, encode_ecf

SENSOR_HW = (128, 128)
EVENTS = (0, 1, 60, 400)
# What writers can do beside what they do unasked.
VARIANTS = {
    "aedat4": tuple({"compression": name} for name in ("none", "LZ4_HIGH", "ZSTD", "ZSTD_HIGH")),
    "evt21": ({"endianness": "legacy"},),
}
CHUNK_ROWS = 100
# Files taken from a folder of real recordings are cut to that many bytes.
LARGEST_SEED = 20_000


def made_seeds() -> list[tuple[str, bytes]]:
    """Return format and content of recordings of every format that is read; the same every time."""
    seeds = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed"
        for format in sorted(set(WRITERS) - {"hdf5"}):
            for count in EVENTS:
                for details in ({}, *VARIANTS.get(format, ())):
                    write_recording(path, some_events(count), format=format, sensor_hw=SENSOR_HW, **details)
                    seeds.append((format, path.read_bytes()))
        seeds += made_bags(Path(folder))
    for count in EVENTS:
        seeds += [("hdf5", data) for data in hdf5_files(some_events(count))]
    seeds += [("es", atis_stream(some_events(count))) for count in EVENTS]
    missing = set(READERS) - {format for format, _ in seeds}
    if missing:
        raise RuntimeError(f"no recording is made of {', '.join(sorted(missing))}")
    return seeds


def made_bags(folder: Path) -> list[tuple[str, bytes]]:
    """Return bags of every container with events as arrays and in each encoding of packets."""
    seeds = []
    events = some_events(60)
    write_recording(folder / "evt3", events, format="evt3", sensor_hw=SENSOR_HW)
    words = (folder / "evt3").read_bytes().split(b"% end\n")[-1]
    mono = events["p"].astype("<u8") << 63 | events["y"].astype("<u8") << 48 | events["x"].astype("<u8") << 32
    for kind in ("rosbag1", "rosbag2", "mcap"):
        ros1 = kind == "rosbag1"
        store = type_store(ros1=ros1)
        topics = {
            "array": [
                event_array(store, events[i : i + 20], ros1=ros1, sensor_hw=SENSOR_HW) for i in (0, 20, 40)
            ],
            "evt3": [
                event_packet(store, part, "evt3", ros1=ros1, sensor_hw=SENSOR_HW)
                for part in (words[:100], words[100:])
            ],
            "mono": [
                event_packet(
                    store,
                    (mono | events["t"].astype("<u8") * 1000).tobytes(),
                    "mono",
                    ros1=ros1,
                    sensor_hw=SENSOR_HW,
                )
            ],
        }
        for name, messages in topics.items():
            file = write_bag(folder / f"{kind}-{name}", kind, {"/events": messages})
            seeds.append((kind, file.read_bytes()))
    return seeds


def hdf5_files(events: np.ndarray) -> list[bytes]:
    """Return the layouts of HDF5 in chunks smaller than our writer's, with and without compression."""
    records = events.astype(PROPHESEE_DTYPE)
    size = {"height": SENSOR_HW[0], "width": SENSOR_HW[1]}
    files = [in_memory(lambda file: add_ecf(file, events))] if len(events) else []
    for packed in ({}, {"chunks": (CHUNK_ROWS,), "compression": "gzip", "maxshape": (None,)}):

        def prophesee(file: h5py.File, packed: dict = packed) -> None:
            file.create_dataset("CD/events", data=records, **packed)
            file.attrs["geometry"] = f"{SENSOR_HW[1]}x{SENSOR_HW[0]}"

        def dsec(file: h5py.File, packed: dict = packed) -> None:
            add_columns(file, "events", {name: events[name] for name in "xypt"} | size, packed)
            file["ms_to_idx"] = np.arange(5, dtype=np.uint64)
            file["t_offset"] = np.int64(7)

        def m3ed(file: h5py.File, packed: dict = packed) -> None:
            add_columns(file, "prophesee/left", {name: events[name] for name in "xypt"}, packed)
            file["prophesee/left/calib/resolution"] = np.array(SENSOR_HW[::-1])

        def dump(file: h5py.File, packed: dict = packed) -> None:
            add_columns(file, "raw_events", {"t": events["t"] / 1e6}, packed)
            add_columns(file, "raw_events", {name: events[name] for name in "xyp"}, packed)

        def cache(file: h5py.File, packed: dict = packed) -> None:
            file.create_dataset("data/0", data=events, **packed)

        files += [in_memory(fill) for fill in (prophesee, dsec, m3ed, dump, cache)]
    return files


def in_memory(fill: Callable[[h5py.File], None]) -> bytes:
    """Return the bytes of an HDF5 file with what `fill` puts into it."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        fill(file)
    return stream.getvalue()


def add_columns(file: h5py.File, group: str, columns: dict, packed: dict) -> None:
    """Put columns into a group; single numbers are not packed."""
    for name, values in columns.items():
        file.create_dataset(f"{group}/{name}", data=values, **(packed if np.ndim(values) else {}))


def add_ecf(file: h5py.File, events: np.ndarray) -> None:
    """Put in Prophesee's records, a chunk of each form of its compression."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((CHUNK_ROWS,))
    properties.set_filter(ECF_FILTER, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple((len(events),), (h5py.h5s.UNLIMITED,))
    kind = h5py.h5t.py_create(PROPHESEE_DTYPE, logical=True)
    rows = h5py.h5d.create(file.create_group("CD").id, b"events", kind, space, properties)
    for number, start in enumerate(range(0, len(events), CHUNK_ROWS)):
        part = np.zeros(CHUNK_ROWS, events.dtype)
        part[: len(events) - start] = events[start : start + CHUNK_ROWS]
        part["t"] = np.maximum.accumulate(part["t"])
        rows.write_direct_chunk((start,), encode_ecf(part, FORMS[number % len(FORMS)]))
    file.attrs["geometry"] = f"{SENSOR_HW[1]}x{SENSOR_HW[0]}"


def atis_stream(events: np.ndarray) -> bytes:
    """Return an Event Stream of an ATIS, with overflows and changes of exposure."""
    parts, now = [b"Event Stream\x02\x00\x00" + struct.pack("<BHH", 2, SENSOR_HW[1], SENSOR_HW[0])], 0
    for number, event in enumerate(events):
        step = int(event["t"]) - now
        now += step
        kind = 2 * int(event["p"]) if number % 5 else 2 * int(event["p"]) + 1
        parts.append(b"\xff" * (step // 189) + (b"", b"\xfd", b"\xfe")[step % 189 // 63])
        parts.append(struct.pack("<BHH", step % 63 << 2 | kind, event["x"], event["y"]))
    return b"".join(parts)


def some_events(count: int) -> np.ndarray:
    """Return events with pauses, repeats and rows, such as cameras send, shape [count], EVENT_DTYPE."""
    rng = np.random.default_rng(count)
    events = np.zeros(count, EVENT_DTYPE)
    events["t"] = np.cumsum(rng.choice([0, 0, 1, 3, 200, 5000], count))
    events["x"] = (np.cumsum(rng.choice([1, 1, 2, 40], count))) % SENSOR_HW[1]
    events["y"] = np.repeat(rng.integers(0, SENSOR_HW[0], count // 7 + 1), 7)[:count]
    events["p"] = rng.integers(0, 2, count)
    return events


def folder_seeds(folder: Path) -> list[tuple[str, bytes]]:
    """Return the first part of each file of a folder, whatever it is; its format is left to be told."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [("", path.open("rb").read(LARGEST_SEED)) for path in files]

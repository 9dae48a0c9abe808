"""Small data sets with boxes in the layouts of the published ones: every event lies in the recording's box.

The boxes are known here, not read back, so that what a store has can be compared with them.
"""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from events.recording import EVENT_DTYPE
from events.writers.registry import write_recording

SECOND = 1_000_000
GEN1_BBOX = np.dtype(
    [
        ("ts", "<u8"),
        ("x", "<f4"),
        ("y", "<f4"),
        ("w", "<f4"),
        ("h", "<f4"),
        ("class_id", "u1"),
        ("confidence", "<f4"),
        ("track_id", "<u4"),
    ]
)
ONE_MPX_BBOX = np.dtype(
    {
        "names": ["t", "x", "y", "w", "h", "class_id", "track_id", "class_confidence"],
        "formats": ["<i8", "<f4", "<f4", "<f4", "<f4", "<u4", "<u4", "<f4"],
        "offsets": [0, 8, 12, 16, 20, 24, 28, 32],
        "itemsize": 40,
    }
)
LABEL_TIMES = (250_000, 500_000, 750_000)


def box_of(number: int, sensor_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the box x0, y0, x1, y1 of a recording, all of it on the sensor."""
    height, width = sensor_hw
    x0, y0 = 3 + 7 * number % (width // 2), 5 + 11 * number % (height // 2)
    return x0, y0, x0 + width // 4, y0 + height // 3


def events_in(
    box: tuple[int, int, int, int], *, seed: int, start_us: int = 0, stop_us: int = SECOND, count: int = 600
) -> np.ndarray:
    """Return events at rising times, all of them in the box, shape [count], EVENT_DTYPE."""
    rng = np.random.default_rng(seed)
    events = np.zeros(count, EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(start_us, stop_us, count))
    events["x"], events["y"] = rng.integers(box[0], box[2], count), rng.integers(box[1], box[3], count)
    events["p"] = rng.random(count) < 0.5
    return events


def bbox_rows(
    dtype: np.dtype, box: tuple[int, int, int, int], class_id: int, times: tuple[int, ...] = LABEL_TIMES
) -> np.ndarray:
    """Return box records of one object at each time."""
    rows = np.zeros(len(times), dtype)
    rows["ts" if "ts" in dtype.names else "t"] = times
    rows["x"], rows["y"] = box[:2]
    rows["w"], rows["h"] = box[2] - box[0], box[3] - box[1]
    rows["class_id"] = class_id
    rows["track_id"] = 7
    return rows


def write_bbox_tree(
    root: Path, *, sensor_hw: tuple[int, int] = (240, 304), dtype: np.dtype = GEN1_BBOX, classes: int = 2
) -> Path:
    """Write four DAT recordings with `_bbox.npy`: two for training, one each to validate and test."""
    for number, split in enumerate(("train", "train", "val", "test")):
        folder = root / split
        folder.mkdir(parents=True, exist_ok=True)
        box = box_of(number, sensor_hw)
        write_recording(
            folder / f"clip{number}_td.dat", events_in(box, seed=number), format="dat", sensor_hw=sensor_hw
        )
        np.save(folder / f"clip{number}_bbox.npy", bbox_rows(dtype, box, number % classes))
    return root


def write_etram(root: Path) -> Path:
    """Write two HDF5 recordings as eTraM has them, in folders whose names go on."""
    for number, split in enumerate(("train_h5_1", "test_h5_2")):
        folder = root / split
        folder.mkdir(parents=True)
        box = box_of(number, (720, 1280))
        with h5py.File(folder / f"day_{number}_td.h5", "w") as file:
            _write_columns(file, events_in(box, seed=number))
            file["events/height"], file["events/width"] = 720, 1280
        np.save(folder / f"day_{number}_bbox.npy", bbox_rows(ONE_MPX_BBOX, box, number))
    return root


def write_dsec(root: Path) -> Path:
    """Write two sequences whose events begin at an offset that the labels' times include."""
    for number, split in enumerate(("train", "test")):
        box = box_of(number, (480, 640))
        events, tracks = (
            root / split / f"city_{number}" / name / "left" for name in ("events", "object_detections")
        )
        events.mkdir(parents=True)
        tracks.mkdir(parents=True)
        found = events_in(box, seed=number)
        with h5py.File(events / "events.h5", "w") as file:
            _write_columns(file, found)
            file["t_offset"] = 50 * SECOND
            starts = np.searchsorted(found["t"], np.arange(0, found["t"][-1] + 1, 1000))
            file["ms_to_idx"] = starts.astype(np.uint64)
        times = tuple(50 * SECOND + t for t in LABEL_TIMES)
        np.save(tracks / "tracks.npy", bbox_rows(ONE_MPX_BBOX, box, 2, times))
    return root


def _write_columns(file: h5py.File, events: np.ndarray) -> None:
    types = {"t": np.uint32, "x": np.uint16, "y": np.uint16, "p": np.uint8}
    for name, dtype in types.items():
        file[f"events/{name}"] = events[name].astype(dtype)


def write_pedro(root: Path) -> Path:
    """Write three windows: one with XML, one with YOLO alone, one with XML that has no object."""
    height, width = 260, 346
    for number, (split, kind) in enumerate((("train", "xml"), ("val", "yolo"), ("test", "xml"))):
        box = box_of(number, (height, width))
        found = events_in(box, seed=number, start_us=10**15, stop_us=10**15 + 40_000)
        rows = np.stack([found[name].astype(np.int64) for name in ("t", "x", "y", "p")], axis=1)
        for folder in ("numpy", kind):
            (root / folder / split).mkdir(parents=True, exist_ok=True)
        np.save(root / "numpy" / split / f"frame{number}.npy", rows)
        if kind == "xml":
            text = _voc(None if number == 2 else box, height, width)
            (root / "xml" / split / f"frame{number}.xml").write_text(text)
            continue
        centre = ((box[0] + box[2]) / 2 / width, (box[1] + box[3]) / 2 / height)
        size = ((box[2] - box[0]) / width, (box[3] - box[1]) / height)
        line = " ".join(str(value) for value in (0, *centre, *size))
        (root / "yolo" / split / f"frame{number}.txt").write_text(line + "\n")
    return root


def _voc(box: tuple[int, int, int, int] | None, height: int, width: int) -> str:
    corners = zip(("xmin", "ymin", "xmax", "ymax"), box or (), strict=False)
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in corners)
    thing = f"<object><name>person</name><bndbox>{inside}</bndbox></object>" if box else ""
    return f"<annotation><size><width>{width}</width><height>{height}</height></size>{thing}</annotation>"


def annotation_bytes(box: tuple[int, int, int, int]) -> bytes:
    """Return an annotation of N-Caltech101 whose box, on pixels, has these corners at the beginning."""
    x0, y0, x1, y1 = box
    corners = [x0, y0, x1, y0, x1, y1, x0, y1, x0, y0]
    words = [2, 5, *corners, 2, 1, x0, y0]
    return np.array(words, "<i2").tobytes()


def write_ncaltech101(root: Path) -> Path:
    """Write six recordings of two classes with annotations, and one of a class without."""
    for name in ("ant", "bass", "background_google"):
        (root / "Caltech101" / name).mkdir(parents=True)
        (root / "Annotations" / name).mkdir(parents=True)
        for number in range(3 if name != "background_google" else 1):
            box = box_of(number, (180, 240))
            write_recording(
                root / "Caltech101" / name / f"image_{number:04d}.bin",
                events_in(box, seed=number, stop_us=300_000),
                format="bin40",
                sensor_hw=(180, 240),
            )
            if name != "background_google":
                path = root / "Annotations" / name / f"annotation_{number:04d}.bin"
                path.write_bytes(annotation_bytes((box[0], box[1], box[2] - 1, box[3] - 1)))
    return root


def write_rvt(root: Path, *, halved: bool = False) -> Path:
    """Write two sequences of eight windows of 50 ms, every second of them labelled 1 ms before its end."""
    frame_hw = (360, 640) if halved else (240, 304)
    name = "event_representations_ds2_nearest.h5" if halved else "event_representations.h5"
    for number, split in enumerate(("train", "test")):
        sequence = root / split / f"seq{number}"
        folder = sequence / "event_representations_v2" / "stacked_histogram_dt=50_nbins=10"
        folder.mkdir(parents=True)
        (sequence / "labels_v2").mkdir()
        box = box_of(number, frame_hw)
        frames = np.zeros((8, 20, *frame_hw), np.uint8)
        for window in range(8):
            frames[window, window, box[1] : box[3], box[0] : box[2]] = 1 + window
        with h5py.File(folder / name, "w") as file:
            file.create_dataset("data", data=frames, chunks=(1, *frames.shape[1:]), compression="gzip")
        ends = 100_000 + 50_000 * np.arange(8)
        np.save(folder / "timestamps_us.npy", ends)
        labelled = np.arange(1, 8, 2)
        np.save(folder / "objframe_idx_2_repr_idx.npy", labelled)
        np.save(sequence / "labels_v2" / "timestamps_us.npy", ends[labelled] - 1000)
        full = tuple(2 * edge if halved else edge for edge in box)
        rows = bbox_rows(GEN1_BBOX, full, number, tuple((ends[labelled] - 1000).tolist()))
        np.savez(
            sequence / "labels_v2" / "labels.npz",
            labels=rows,
            objframe_idx_2_label_idx=np.arange(len(labelled)),
        )
    return root


def write_gen1(root: Path) -> Path:
    """Write a tree of Gen1."""
    return write_bbox_tree(root)


def write_1mpx(root: Path) -> Path:
    """Write a tree of 1Mpx with one recording of each of four classes, of which three are taken."""
    return write_bbox_tree(root, sensor_hw=(720, 1280), dtype=ONE_MPX_BBOX, classes=4)


def write_shapes(root: Path) -> Path:
    """Write a tree of made-up shapes on a small sensor."""
    return write_bbox_tree(root, sensor_hw=(48, 64), classes=3)


TREES: dict[str, Callable[[Path], Path]] = {
    "gen1": write_gen1,
    "1mpx": write_1mpx,
    "etram": write_etram,
    "shapes": write_shapes,
    "pedro": write_pedro,
    "ncaltech101-boxes": write_ncaltech101,
    "dsec-det": write_dsec,
    "rvt": write_rvt,
}

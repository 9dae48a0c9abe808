"""RVT's preprocessed layout, which SAST, S5-ViT, SMamba, LEOD and EvRT-DETR read too: frames, not events.

    <split>/<sequence>/labels_v2/{labels.npz, timestamps_us.npy}
    <split>/<sequence>/event_representations_v2/stacked_histogram_dt=50_nbins=10/
        event_representations.h5       /data [F, 2n, H, W]; of halved frames event_repr..._ds2_nearest.h5
        timestamps_us.npy              where each of the F windows ends
        objframe_idx_2_repr_idx.npy    the window of each labelled frame

A sample is the window of a labelled frame; its time is where the window ends. Classes are those of Gen1 where
the sensor has 240 rows, else the first three of 1Mpx.
Source: uzh-rpg/RVT, scripts/genx/preprocess_dataset.py and data/genx_utils/sequence_base.py.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from events.binning.settings import BinSettings, Frames
from events.binning.window import window_edges
from events.datasets.detection.pairs import Pair, PairedSet, in_stored_order
from events.datasets.detection.prophesee import folder_split
from events.datasets.problems import count_of, extra_files, join_some, unextracted
from events.datasets.scan import FoundFile, scan_tree
from events.errors import ConfigError, DamagedRecording, DatasetError
from events.labels.classes import label_set
from events.labels.formats import read_labels
from events.labels.table import LabelTable, make_table
from events.readers.hdf5_blocks import check_filters
from events.recording import DEFAULT_CHUNK_EVENTS, FileReport, ReadOptions, Recording

if TYPE_CHECKING:
    import h5py

DATASET = "rvt"
REPRESENTATIONS = "event_representations_v2"
TIMES, FRAME_TO_WINDOW = "timestamps_us.npy", "objframe_idx_2_repr_idx.npy"
LABELS = "labels_v2/labels.npz"
_FOLDER = re.compile(r"stacked_histogram_dt=(?P<dt_ms>\d+)_nbins=(?P<bins>\d+)")
_FILE = re.compile(r"event_representations(_ds2_nearest)?\.h5")
# Counts stop here in all published files.
CUTOFF = 10
ONE_MPX_CLASSES = label_set("1mpx").class_names[:3]


def find_rvt(root: Path, selection: str) -> PairedSet:
    """Find sequences below a folder.

    Raises:
        DatasetError: There is none, or they were made in several ways.
    """
    tree = scan_tree(root)
    found = [file for file in tree.files if _FILE.fullmatch(file.name) and REPRESENTATIONS in file.folders]
    if not found:
        expected = f"<split>/<sequence>/{REPRESENTATIONS}/stacked_histogram_dt=50_nbins=10/event_repr*.h5"
        said = unextracted(tree.archives()) or extra_files(tree.files) or "the folder is empty"
        raise DatasetError(f"{root}: no sequences, expected {expected}; found: {said}; check the folder")
    made = sorted({(file.folders[-1], file.name) for file in found})
    match = _FOLDER.fullmatch(made[0][0])
    if len(made) > 1 or match is None:
        names = join_some(["/".join(way) for way in made])
        raise DatasetError(
            f"{root}: found {names}; expected one kind of stacked histograms, such as "
            "stacked_histogram_dt=50_nbins=10; keep one and move the others away"
        )
    paths = {file.path for file in tree.files}
    pairs = in_stored_order([_pair(file, paths) for file in found])
    frame_hw = _frame_hw(root, pairs)
    halved = "_ds2" in made[0][1]
    sensor_hw = (2 * frame_hw[0], 2 * frame_hw[1]) if halved else frame_hw
    gen1 = sensor_hw[0] == 240
    unsplit = [pair.path for pair in pairs if pair.official is None]
    return PairedSet(
        dataset=DATASET,
        root=root,
        pairs=pairs,
        read_labels=partial(_read, halved=halved),
        class_names=label_set("gen1").class_names if gen1 else ONE_MPX_CLASSES,
        read_options=ReadOptions(),
        sensor_hw=frame_hw,
        selection=selection,
        binning=BinSettings(
            frames=1,
            split="window",
            window_us=1000 * int(match["dt_ms"]),
            micro_bins=int(match["bins"]),
            cutoff=CUTOFF,
            rvt_compat=True,
        ),
        opens=False,
        problems=[
            f"{count_of(len(unsplit), 'sequence')} in no train, val or test folder, taken for training: "
            f"{join_some(unsplit)}"
            if unsplit
            else None
        ],
    )


def _pair(file: FoundFile, paths: set[str]) -> Pair:
    sequence = file.path.split(f"/{REPRESENTATIONS}/")[0]
    there = f"{sequence}/{LABELS}" in paths
    return Pair(file.path, file.size_bytes, sequence if there else None, folder_split(file))


def _frame_hw(root: Path, pairs: list[Pair]) -> tuple[int, int]:
    """Return height and width of the first frames that can be opened."""
    reasons = []
    for pair in pairs:
        try:
            return RvtFrames(root / pair.path).sensor_hw
        except DamagedRecording as error:
            reasons.append(str(error))
    raise DatasetError(f"{root}: none of {len(pairs)} sequences can be opened; first: {reasons[0]}")


def _read(frames: Path, sequence: Path, *, halved: bool) -> LabelTable:
    """Return the labels of a sequence at the ends of its windows, in pixels of its frames."""
    labels = read_labels(sequence, "rvt")
    window_of = _numbers(frames.parent / FRAME_TO_WINDOW)
    ends_us = _numbers(frames.parent / TIMES)
    frames_us = _numbers(sequence / "labels_v2" / TIMES)
    if len(window_of) != len(frames_us) or (
        len(window_of) and not 0 <= window_of.min() <= window_of.max() < len(ends_us)
    ):
        raise DamagedRecording(
            f"{frames.parent}: {len(window_of)} windows of labelled frames among {len(ends_us)} do not fit "
            f"{len(frames_us)} labelled frames; copy the sequence again"
        )
    RvtFrames(frames).check_windows(len(ends_us))
    at = ends_us[window_of][np.searchsorted(frames_us, labels.t)]
    moved = make_table(
        at,
        labels.xyxy / 2 if halved else labels.xyxy,
        labels.class_id,
        track_id=labels.track_id,
        score=labels.score,
        kind=labels.kind,
        ignore=labels.ignore,
        where=str(sequence),
    )
    return replace(moved, class_names=())


def _numbers(path: Path) -> np.ndarray:
    """Return the whole numbers of a `.npy` file, int64 [n]."""
    try:
        return np.asarray(np.load(path, allow_pickle=False)).astype(np.int64).reshape(-1)
    except (OSError, ValueError, EOFError) as error:
        said = " ".join(str(error).split())
        raise DamagedRecording(f"{path}: no array of numbers ({said}); copy the sequence again") from None


class RvtFrames(Recording):
    """A sequence's frames where a recording is expected: it has a size and a report, but no events."""

    def __init__(self, path: Path) -> None:
        """Read how many frames there are, and of what size.

        Raises:
            DamagedRecording: The file is no HDF5 with frames.
        """
        self.path, self.format, self.facts = path, DATASET, {}
        with self._opened() as data:
            self._shape, self._dtype = data.shape, data.dtype
        if len(self._shape) != 4 or self._dtype != np.uint8:
            raise DamagedRecording(
                f"{path}: /data is {self._dtype} {list(self._shape)}, expected uint8 [F, 2n, H, W]; "
                "copy it again"
            )
        self.sensor_hw = (int(self._shape[2]), int(self._shape[3]))
        self.report = FileReport(str(path), DATASET, bytes_total=path.stat().st_size)
        self._ends_us: np.ndarray | None = None

    @contextmanager
    def _opened(self) -> Iterator["h5py.Dataset"]:
        import h5py

        try:
            with h5py.File(self.path, "r") as file:
                data = file["data"]
                if not isinstance(data, h5py.Dataset):
                    raise DamagedRecording(f"{self.path}: /data is no array; copy the sequence again")
                check_filters(data, self.path)
                yield data
        except (OSError, KeyError, RuntimeError) as error:
            said = " ".join(str(error).split())
            raise DamagedRecording(f"{self.path}: no HDF5 with /data ({said}); copy it again") from None

    def check_windows(self, times: int) -> None:
        """Raise DamagedRecording unless there are as many frames as times of windows."""
        if self._shape[0] != times:
            raise DamagedRecording(
                f"{self.path}: {self._shape[0]} frames, {times} times in {TIMES}; copy the sequence again"
            )

    def decode_chunks(self, *, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[np.ndarray]:
        """Raise ConfigError: there are no events to give."""
        raise ConfigError(f"{self.path}: frames, not a recording of events; convert them as data set rvt")

    def frames(self, binning: BinSettings, t_range_us: tuple[int, int] | None) -> Frames:
        """Return the frames of the window that ends with a range, uint8 [1, 2n, H, W].

        `n_events` is the sum of the counts, which were cut off when the file was made.

        Raises:
            ConfigError: The settings are not those of the file.
            DamagedRecording: There is no such window, or it cannot be read.
        """
        expected = binning.frame_shape(self.sensor_hw)
        if expected != (1, *self._shape[1:]):
            raise ConfigError(
                f"{self.path}: holds frames of {list(self._shape[1:])}, the store is for {list(expected[1:])}"
            )
        if self._ends_us is None:
            self._ends_us = _numbers(self.path.parent / TIMES)
        stop_us = int(self._ends_us[0]) if t_range_us is None else t_range_us[1]
        at = int(np.searchsorted(self._ends_us, stop_us))
        if at == len(self._ends_us) or self._ends_us[at] != stop_us:
            raise DamagedRecording(f"{self.path}: no window ends at {stop_us} us; copy the sequence again")
        with self._opened() as data:
            frames = np.ascontiguousarray(data[at][None])
        return Frames(frames, window_edges(stop_us, binning), int(frames.sum(dtype=np.int64)), 0)

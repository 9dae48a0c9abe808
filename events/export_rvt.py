"""A recording and its labels as a sequence in the layout of RVT's preprocessing, with the frames.

    <sequence>/labels_v2/                                  as events.labels.rvt writes it
    <sequence>/event_representations_v2/stacked_histogram_dt=50_nbins=10/
        event_representations[_ds2_nearest].h5             /data, uint8 [F, 20, H, W], a chunk a window
        timestamps_us.npy                                  where each window ends, int64 [F]
        objframe_idx_2_repr_idx.npy                        the window of each labelled frame

RVT, SAST, S5-ViT, SMamba, LEOD and EvRT-DETR train on such folders. Source of the layout, of the grid of
labels and of the windows: uzh-rpg/RVT, scripts/genx/preprocess_dataset.py. There, a window also holds the
events at the very microsecond where it ends; ours ends before it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from events.binning.settings import PRESETS, BinSettings
from events.binning.window import window_before
from events.binning.window_numba import bin_window
from events.datasets.detection.windows import WindowRules, plan_windows
from events.errors import ConfigError, LabelError
from events.labels.fit import check_fit
from events.labels.rvt import write_rvt
from events.labels.table import LabelTable
from events.recording import EVENT_DTYPE, Recording
from events.writers.atomic import atomic_file
from events.writers.patient_file import PatientFile


@dataclass(frozen=True)
class RvtSettings:
    """Which labels and windows a sequence has.

    Attributes:
        first_us: Labels before this time are left out. 100 ms in RVT's.
        grid_us: Labels this far apart are taken alone, within 2 ms; None takes all. RVT's: 250,000 for Gen1;
            for 1Mpx the multiple of the labels' distance that is nearest to 100,000.
        every_us: Distance of windows, about: whole numbers of them fill the time between two labels. The
            published script has two in each step of its grid: 50,000 with 1Mpx, 125,000 with Gen1.
        halved: Whether every second row and column of the frames is left out, as RVT's are of 1Mpx; labels
            stay in pixels of the sensor.
    """

    first_us: int = 100_000
    grid_us: int | None = 250_000
    every_us: int = 50_000
    halved: bool = False

    def __post_init__(self) -> None:
        if self.every_us < 1:
            raise ConfigError(f"every_us must be at least 1 microsecond, got {self.every_us}")


def export_rvt(
    folder: Path, recording: Recording, labels: LabelTable, settings: RvtSettings | None = None
) -> tuple[int, int]:
    """Write a sequence and return how many windows and labelled frames it has.

    Boxes are cut down to the sensor; those with nothing on it, and those to be ignored, are left out, and
    with them times of which no box is left: RVT knows neither.

    Args:
        folder: The sequence's folder, such as `gen1/train/<name>`.
        recording: The events.
        labels: Their boxes, in pixels of the sensor.
        settings: Which labels and windows.

    Raises:
        LabelError: The labels do not fit the recording, or none is left.
        EventsError: The recording cannot be read, or the folder cannot be written to.
    """
    settings = settings or RvtSettings()
    binning = PRESETS["rvt"]
    check_fit(labels, where=f"{folder}: its labels", sensor_hw=recording.sensor_hw)
    kept = _labelled(labels, recording, settings)
    ends_us = window_ends(kept.frame_t, settings.every_us)
    write_rvt(folder, kept)
    name = f"stacked_histogram_dt={(binning.window_us or 0) // 1000}_nbins={binning.micro_bins}"
    place = folder / "event_representations_v2" / name
    with atomic_file(place / "timestamps_us.npy") as stream:
        np.save(stream, ends_us)
    with atomic_file(place / "objframe_idx_2_repr_idx.npy") as stream:
        np.save(stream, np.searchsorted(ends_us, kept.frame_t))
    suffix = "_ds2_nearest" if settings.halved else ""
    frames = _frames(recording, ends_us, binning, halved=settings.halved)
    _write_frames(place / f"event_representations{suffix}.h5", frames, len(ends_us))
    return len(ends_us), len(kept.frame_t)


def window_ends(frame_t: np.ndarray, every_us: int) -> np.ndarray:
    """Return where windows end: at every label, evenly between two, and before the first.

    Between two labels lie round(distance / every_us) windows, at least one, whose ends are rounded down.
    Before the first label, windows end every_us apart as long as they begin after 0.

    Args:
        frame_t: Label times, ascending, int64 [L], at least one.
        every_us: About the distance of windows.

    Returns:
        int64, shape [F], ascending.
    """
    first = int(frame_t[0])
    parts = [np.arange(first, 0, -every_us)[::-1][1:] if first > every_us else frame_t[:1]]
    for start, stop in zip(frame_t[:-1].tolist(), frame_t[1:].tolist(), strict=True):
        count = max(1, round((stop - start) / every_us))
        parts.append(start + np.arange(1, count + 1) * (stop - start) // count)
    return np.concatenate(parts).astype(np.int64)


def _labelled(labels: LabelTable, recording: Recording, settings: RvtSettings) -> LabelTable:
    """Return the boxes on the sensor at the label times that are taken."""
    rules = WindowRules(first_us=settings.first_us, grid_us=settings.grid_us)
    usable = labels.where(~labels.ignore)
    plan = plan_windows(usable, rules, sensor_hw=recording.sensor_hw)
    plan = plan_windows(plan.labels, rules, sensor_hw=recording.sensor_hw)
    kept = plan.labels.where(np.isin(plan.labels.t, plan.stop_us))
    if len(kept) == 0:
        raise LabelError(
            f"{recording.path}: of {len(labels)} boxes none is left from {settings.first_us} us on; "
            "leave the sequence out, as RVT does"
        )
    return replace(kept, sensor_hw=recording.sensor_hw)


def _frames(
    recording: Recording, ends_us: np.ndarray, binning: BinSettings, *, halved: bool
) -> Iterator[np.ndarray]:
    """Yield the frames of the windows, uint8 [2n, H, W]."""
    for stop_us in ends_us.tolist():
        window = window_before(stop_us, binning)
        parts = [chunk.copy() for chunk in recording.chunks(start_us=window.start_us, stop_us=window.stop_us)]
        events = np.concatenate(parts) if parts else np.empty(0, EVENT_DTYPE)
        frames = bin_window(events, settings=binning, sensor_hw=recording.sensor_hw, stop_us=stop_us).frames[
            0
        ]
        # torch's nearest-exact takes pixel floor((i + 0.5) * 2) = 2 i + 1.
        height, width = frames.shape[1] // 2 * 2, frames.shape[2] // 2 * 2
        yield frames[:, 1:height:2, 1:width:2] if halved else frames


def _write_frames(path: Path, frames: Iterator[np.ndarray], count: int) -> None:
    """Write frames as /data of an HDF5 file, whole or not at all; Blosc with Zstandard 1, as RVT's."""
    import h5py
    import hdf5plugin

    first = next(frames)
    with atomic_file(path) as stream, PatientFile(stream.name, "r+") as patient:
        with h5py.File(patient, "w") as file:
            data = file.create_dataset(
                "data",
                (count, *first.shape),
                np.uint8,
                chunks=(1, *first.shape),
                **hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=hdf5plugin.Blosc.SHUFFLE),
            )
            data[0] = first
            for i, frame in enumerate(frames, 1):
                data[i] = frame
        patient.check()

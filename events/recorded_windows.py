"""Windows of a store binned anew from the events of their recordings, each epoch augmented otherwise.

A store keeps frames: they can be mirrored, enlarged and moved, but time can no longer be stretched, and an
event that shares its pixel with another can not be dropped by itself. Here each window's events are read
again from the recording, changed by one draw (`events.augment_boxes`), and binned as the store was; its boxes
follow.
"""

from pathlib import Path

import numpy as np

from events.augment_boxes import (
    BoxAugmentation,
    BoxAugmentSettings,
    augmented_boxes,
    augmented_events,
    draw_augmentation,
)
from events.binning.window import window_before
from events.binning.window_numba import bin_window
from events.datasets.detection.rvt import DATASET as RVT
from events.errors import ConfigError, StoreError
from events.recording import EVENT_DTYPE
from events.store.detection import BoxesOfWindow, DetectionStore
from events.store.layout import stored_binning, stored_read_options
from events.store.manifest import read_sources
from events.store.samples import open_sample

# Events of windows are kept in memory up to so many bytes of them, and read again beyond.
KEPT_BYTES = 1 << 30


class RecordedWindows:
    """The windows of a store, from their recordings.

    What is done to a window follows from seed, epoch and its number alone. Unchanged, its frames are those of
    the store, to the bit.
    """

    def __init__(self, store: DetectionStore, root: Path, settings: BoxAugmentSettings, *, seed: int) -> None:
        """Look whether the recordings are there; none is read.

        Args:
            store: The windows.
            root: Folder of the recordings the store was converted from.
            settings: How far a window may differ from the recorded one.
            seed: Seed of the run, at least 0.

        Raises:
            ConfigError: The store is of frames without events, or of windows of so many events.
            StoreError: A recording is absent, or has another size than when it was converted.
        """
        attributes = store.frames.attributes
        self.store, self.root, self.settings, self.seed = store, root, settings, seed
        self._dataset: str = attributes["dataset"]
        self._binning = stored_binning(attributes["binning"])
        self._read = stored_read_options(attributes["read"])
        self._rows = read_sources(store.path)
        self._kept: dict[int, np.ndarray] = {}
        self._kept_bytes = 0
        if self._dataset == RVT:
            raise ConfigError(
                f"{store.path}: RVT's files hold frames, no events to augment; augment frames instead"
            )
        if self._binning.window_events is not None:
            raise ConfigError(
                f"{store.path}: windows of {self._binning.window_events} events end where these do, whatever "
                "is dropped or stretched; augment frames instead"
            )
        self._check_recordings()

    def _check_recordings(self) -> None:
        sizes = {row["path"]: row["size_bytes"] for row in self._rows}
        for name, size in sizes.items():
            path = self.root / name
            found = path.stat().st_size if path.is_file() else None
            if found != size:
                what = "is not there" if found is None else f"has {found} bytes, expected {size}"
                raise StoreError(
                    f"{path}: {what}; events are augmented from the recordings that {self.store.path.name} "
                    "was converted from, name their folder"
                )

    def drawn(self, window: int, epoch: int) -> BoxAugmentation:
        """Return what is done to a window in an epoch; in pixels of the sensor."""
        return draw_augmentation(
            self.settings, sensor_hw=self.store.sensor_hw, seed=self.seed, epoch=epoch, sample=window
        )

    def write_frames(self, window: int, epoch: int, out: np.ndarray) -> None:
        """Write the frames of a window as they are in an epoch.

        Args:
            window: Its number in the store.
            epoch: From 0.
            out: Shape [T, C, H, W], of the store's dtype, C-contiguous.

        Raises:
            EventsError: The recording cannot be read.
        """
        stop_us = int(self.store.t_end_us[window])
        events = augmented_events(self._events(window), self.drawn(window, epoch), t_end_us=stop_us)
        bin_window(events, settings=self._binning, sensor_hw=self.store.sensor_hw, stop_us=stop_us, out=out)

    def boxes_of(self, window: int, epoch: int) -> BoxesOfWindow:
        """Return the boxes of a window as they are in an epoch, in pixels of the frames."""
        found = self.store.boxes_of(window)
        (sensor_h, sensor_w), (height, width) = self.store.sensor_hw, self.store.frame_hw
        to_sensor = np.tile([sensor_w / width, sensor_h / height], 2)
        moved = augmented_boxes(found.xyxy.astype(np.float64) * to_sensor, self.drawn(window, epoch))
        return BoxesOfWindow(
            (moved.xyxy / to_sensor).astype(np.float32),
            found.class_id[moved.kept],
            found.track_id[moved.kept],
            found.ignore[moved.kept] | moved.ignore,
        )

    def _events(self, window: int) -> np.ndarray:
        """Return the events of a window, and of as long before it as shrinking time may bring into it."""
        kept = self._kept.get(window)
        if kept is not None:
            return kept
        stop_us = int(self.store.t_end_us[window])
        start_us, behind_us = window_before(stop_us, self._binning)
        start_us = stop_us - int(np.ceil((stop_us - start_us) * self.settings.time_scale))
        row = self._rows[int(self.store.frames.source_index[window])]
        recording = open_sample(self._dataset, self.root, row["path"], self._read)
        parts = [chunk.copy() for chunk in recording.chunks(start_us=start_us, stop_us=behind_us)]
        events = np.concatenate(parts) if parts else np.empty(0, EVENT_DTYPE)
        if self._kept_bytes + events.nbytes <= KEPT_BYTES:
            self._kept[window] = events
            self._kept_bytes += events.nbytes
        return events

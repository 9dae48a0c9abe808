"""Stored windows with boxes as batches of torch tensors.

A `DetectionFeed` is an `events.batches.Feed` of the frames, with the boxes of each window beside them: the
same order, the same thread that reads ahead, and the same two integers that say where it stands.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from events.augment import UNCHANGED
from events.augment_windows import check_window_augment, moved_boxes
from events.batches import Feed, FeedSettings
from events.errors import ConfigError
from events.recorded_windows import RecordedWindows
from events.store.detection import BoxesOfWindow, DetectionStore


@dataclass(frozen=True, slots=True)
class DetectionBatch:
    """What a detector gets.

    Attributes:
        frames: Shape [T, B, C, H, W], float32, or as stored where the feed was asked for stored counts.
        boxes: For each window its boxes x0, y0, x1, y1 in pixels of the frames, float32, shape [n, 4].
        labels: For each window the classes of its boxes, int64, shape [n].
        ignore: For each window which boxes are neither right nor wrong to detect, bool, shape [n].
        index: Number of each window in the store, shape [B], int64.
    """

    frames: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]
    ignore: list[Tensor]
    index: Tensor


class DetectionFeed:
    """Batches of stored windows with boxes, epoch after epoch.

    Iterating yields the rest of the current epoch from where the feed stands, then moves it to the next one.
    """

    def __init__(
        self,
        store: DetectionStore,
        indices: np.ndarray | Sequence[int],
        settings: FeedSettings,
        *,
        device: torch.device | str = "cpu",
        recorded: RecordedWindows | None = None,
    ) -> None:
        """Open a feed.

        Args:
            store: Where the windows are.
            indices: Numbers of the windows in the store, shape [M]. Windows of which nothing is known
                come without boxes, as empty ones do; `DetectionStore.indices` leaves them out.
            settings: How they become batches. Boxes follow their frames through flip, roll_px and zoom of
                `augment`, by the same draw; those that are moved out are left out, and those of which
                little is left are marked to be ignored.
            device: Where batches are delivered.
            recorded: Bins windows anew from their recordings' events, augmented, boxes and all; `augment` is
                then left as it is. None takes the stored frames.

        Raises:
            ConfigError: As `Feed`, or the boxes could not follow what is done to the frames, or both frames
                and events would be augmented.
        """
        check_window_augment(settings.augment, str(store.path))
        if recorded is not None and settings.augment != UNCHANGED:
            raise ConfigError(
                f"{store.path}: events and frames would both be augmented, and boxes follow one; choose one"
            )
        self.store = store
        self.settings = settings
        self.device = torch.device(device)
        self._recorded = recorded
        write = None if recorded is None else recorded.write_frames
        self._feed = Feed(store.frames, indices, settings, device=device, write=write)

    def __len__(self) -> int:
        """Batches an epoch, in this process."""
        return len(self._feed)

    @property
    def epoch(self) -> int:
        """The epoch it is in."""
        return self._feed.epoch

    @property
    def batch(self) -> int:
        """Batches of the epoch that were delivered."""
        return self._feed.batch

    @property
    def wait_s(self) -> float:
        """Seconds the caller had to wait for frames."""
        return self._feed.wait_s

    def state_dict(self) -> dict[str, int]:
        """Return where the feed stands: the epoch, and the batches of it already delivered."""
        return self._feed.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from where a feed of the same settings stood, with the batches it would have delivered.

        Raises:
            ConfigError: That feed had another seed.
        """
        self._feed.load_state_dict(state)

    def __iter__(self) -> Iterator[DetectionBatch]:
        """Yield the rest of this epoch.

        Raises:
            StoreError: A window could not be read; names the batch.
        """
        for batch in self._feed:
            yield self._with_boxes(batch.frames, batch.index, self._feed.epoch)

    def _with_boxes(self, frames: Tensor, index: Tensor, epoch: int) -> DetectionBatch:
        found = [self._boxes_of(number, epoch) for number in index.tolist()]
        return DetectionBatch(
            frames=frames,
            boxes=[self._tensor(boxes.xyxy, torch.float32) for boxes in found],
            labels=[self._tensor(boxes.class_id.astype(np.int64), torch.int64) for boxes in found],
            ignore=[self._tensor(boxes.ignore, torch.bool) for boxes in found],
            index=index,
        )

    def _boxes_of(self, window: int, epoch: int) -> BoxesOfWindow:
        """Return the boxes of a window where they are in its augmented frames."""
        if self._recorded is not None:
            return self._recorded.boxes_of(window, epoch)
        found = self.store.boxes_of(window)
        if self.settings.augment == UNCHANGED:
            return found
        xyxy, seen, ignore = moved_boxes(
            found.xyxy,
            window=window,
            settings=self.settings.augment,
            seed=self.settings.seed,
            epoch=epoch,
            frame_hw=self.store.frame_hw,
        )
        return BoxesOfWindow(
            xyxy[seen], found.class_id[seen], found.track_id[seen], (found.ignore | ignore)[seen]
        )

    def _tensor(self, values: np.ndarray, dtype: torch.dtype) -> Tensor:
        """Return a copy of values on the device, so that nobody changes the store's columns."""
        return torch.tensor(values, dtype=dtype, device=self.device)

    def close(self) -> None:
        """Stop the threads. A batch in work is finished, nothing more is read."""
        self._feed.close()

    def __enter__(self) -> "DetectionFeed":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

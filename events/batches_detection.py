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
from events.batches import Feed, FeedSettings
from events.errors import ConfigError
from events.store.detection import DetectionStore


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
    ) -> None:
        """Open a feed.

        Args:
            store: Where the windows are.
            indices: Numbers of the windows in the store, shape [M]. Windows of which nothing is known
                come without boxes, as empty ones do; `DetectionStore.indices` leaves them out.
            settings: How they become batches.
            device: Where batches are delivered.

        Raises:
            ConfigError: As `Feed`, or the frames would be moved without their boxes.
        """
        if settings.augment != UNCHANGED:
            raise ConfigError(
                f"{store.path}: augment of FeedSettings moves frames but not their boxes; leave it out"
            )
        self.store = store
        self.settings = settings
        self.device = torch.device(device)
        self._feed = Feed(store.frames, indices, settings, device=device)

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
            yield self._with_boxes(batch.frames, batch.index)

    def _with_boxes(self, frames: Tensor, index: Tensor) -> DetectionBatch:
        found = [self.store.boxes_of(number) for number in index.tolist()]
        return DetectionBatch(
            frames=frames,
            boxes=[self._tensor(boxes.xyxy, torch.float32) for boxes in found],
            labels=[self._tensor(boxes.class_id.astype(np.int64), torch.int64) for boxes in found],
            ignore=[self._tensor(boxes.ignore, torch.bool) for boxes in found],
            index=index,
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

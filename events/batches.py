"""Stored frames as batches of torch tensors: `Feed` for training here, `FrameDataset` for a plain DataLoader.

A `Feed` decodes the next batches in a thread of its own while the network works on this one. Its
order and its augmentation follow from (seed, epoch), so two integers say where it stands.
"""

import math
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock, local
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from events.augment import UNCHANGED, AugmentSettings, augment_batch
from events.augment_pictures import check_pictures, mix, operate, partners
from events.errors import ConfigError, EventsError, StoreError

Cache = Literal["none", "decoded", "auto"]
Order = Literal["full", "shard"]

# `cache="auto"` keeps decoded samples in memory up to this size.
AUTO_CACHE_BYTES = 1 << 30
# Neighbouring samples read together in shard order, and how many such blocks are mixed:
# over a store written in a seeded order this mixes classes as well as a full shuffle does
# (measured on ten classes, batches of 64: 9.98 classes a batch against 9.99).
SHARD_ORDER_BLOCK = 64
SHARD_ORDER_WINDOW = 4


class Store(Protocol):
    """What a feed needs of a store; `events.store.reader.FrameStore` has it."""

    path: Path
    label: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, T, P, H, W)."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the counts."""

    @property
    def values(self) -> np.ndarray | None:
        """What each stored number stands for, float32 [n]; None for itself."""

    def read_into(self, indices: Sequence[int] | np.ndarray, out: np.ndarray) -> None:
        """Decode the samples `indices` into out[B, T, P, H, W]."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What the network gets.

    Attributes:
        frames: Counts, or what lanes stand for, shape [T, B, P, H, W], float32 unless the feed was asked for
            stored counts. Stored counts may be a view of memory that is sample first.
        labels: Class of each sample, shape [B], int64.
        index: Number of each sample in the store, shape [B], int64.
        other_labels: Class of what each picture is mixed with, shape [B], int64; None where none is mixed.
        own_share: Share of each picture that is of its own class, shape [B], float32; None likewise.
    """

    frames: Tensor
    labels: Tensor
    index: Tensor
    other_labels: Tensor | None = None
    own_share: Tensor | None = None

    def tensors(self) -> list[Tensor]:
        """Return all that there are."""
        found = (self.frames, self.labels, self.index, self.other_labels, self.own_share)
        return [tensor for tensor in found if tensor is not None]


@dataclass(frozen=True)
class FeedSettings:
    """How samples become batches.

    Attributes:
        batch_size: Samples a batch and process.
        shuffle: Whether every epoch has its own order; without, the given order is kept.
        seed: Decides order and augmentation.
        drop_last: Leave out the last batch of an epoch where it is not full.
        augment: What a sample goes through.
        rank, world_size: Which of how many processes this is. Together they go through the same
            batches of `batch_size * world_size` as one process would, and every sample comes exactly
            once. The samples of a batch are dealt out in turn, so that of one that is not full the first
            processes may have one more; without shuffle, the last of them may have a batch less.
        cache: `decoded` keeps decoded samples in memory; `auto` does where they need at most 1 GiB.
        order: `full`: any sample may follow any. `shard`: blocks of neighbours, several blocks mixed,
            for stores on slow or remote disks.
        counts: Deliver what is stored, in the store's own type, instead of float32.
        buffers: Batches decoded ahead, at least 1, those in work counted.
        threads: Threads that decode; more than one pays only where the network leaves cores idle.
    """

    batch_size: int
    shuffle: bool = False
    seed: int = 0
    drop_last: bool = False
    augment: AugmentSettings = UNCHANGED
    rank: int = 0
    world_size: int = 1
    cache: Cache = "none"
    order: Order = "full"
    counts: bool = False
    buffers: int = 3
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("batch_size", "buffers", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.rank < self.world_size:
            raise ConfigError(f"rank must be from 0 to {self.world_size - 1}, got {self.rank}")
        if not 0 <= self.seed < 2**64:
            raise ConfigError(f"seed must be from 0 to 2**64 - 1, got {self.seed}")

    def check_samples(self, count: int, path: Path) -> None:
        """Raise ConfigError where so many samples of a store make no batch, or too small a last one."""
        whole, rest = divmod(count, self.batch_size * self.world_size)
        if whole == 0 and (rest == 0 or self.drop_last):
            raise ConfigError(
                f"{path}: {count} samples make no batch of {self.batch_size} in each "
                f"of {self.world_size} processes; use a smaller batch_size or drop_last=False"
            )
        if self.shuffle and not self.drop_last and 0 < rest < self.world_size:
            raise ConfigError(
                f"{path}: the last batch of {count} samples has {rest}, too few for "
                f"{self.world_size} processes; use fewer processes, another batch_size or drop_last=True"
            )


def epoch_order(count: int, *, seed: int, epoch: int, block: int = 1, window: int = 1) -> np.ndarray:
    """Return a permutation of range(count) that depends on (seed, epoch) alone.

    With a block above 1, blocks of neighbours are shuffled, then the samples of every `window` blocks
    among themselves.

    Returns:
        Shape [count], int64.
    """
    # Raw Philox output is the same in every NumPy version; Generator.permutation need not be.
    draws = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(2 * count)
    if block == 1:
        return np.argsort(draws[:count], kind="stable")
    blocks = -(-count // block)
    position = np.empty(blocks, np.int64)
    position[np.argsort(draws[count : count + blocks], kind="stable")] = np.arange(blocks)
    window_of = position[np.arange(count) // block] // window
    return np.lexsort((draws[:count], window_of))


class _Buffers:
    """Batch-sized arrays that are used again once nobody looks at them.

    Fresh memory for every batch costs more than the copy into it. An array goes back when the last
    tensor over it is gone, so a batch that somebody keeps is never overwritten.
    """

    def __init__(self, size: int, dtype: np.dtype, *, pinned: bool) -> None:
        self._size, self._dtype, self._pinned = size, dtype, pinned
        self._free: list[np.ndarray] = []
        self._lock = Lock()
        self.made = 0

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return an array; its memory comes back when it and every tensor made from it are gone."""
        with self._lock:
            whole = self._free.pop() if self._free else None
        if whole is None:
            self.made += 1
            kind = torch.from_numpy(np.empty(0, self._dtype)).dtype
            whole = torch.empty(self._size, dtype=kind, pin_memory=self._pinned).numpy()
        lent = whole[: math.prod(shape)].reshape(shape)
        # A view of this view would not keep it alive, NumPy remembers only the owner of the memory;
        # torch.from_numpy does.
        weakref.finalize(lent, self._give_back, whole).atexit = False
        return lent

    def _give_back(self, whole: np.ndarray) -> None:
        with self._lock:
            self._free.append(whole)


class Feed:
    """Batches of stored samples, epoch after epoch.

    Iterating yields the rest of the current epoch from where the feed stands, then moves it to the
    next one. `wait_s` adds up the seconds the caller had to wait for data.
    """

    def __init__(
        self,
        store: Store,
        indices: np.ndarray | Sequence[int],
        settings: FeedSettings,
        *,
        device: torch.device | str = "cpu",
        write: Callable[[int, int, np.ndarray], None] | None = None,
    ) -> None:
        """Open a feed.

        Args:
            store: Where the samples are.
            indices: Numbers of the samples in the store, shape [M].
            settings: How they become batches.
            device: Where batches are delivered.
            write: Writes a sample in place of the store: called in the feed's threads with its number, the
                epoch, and where to, shape [T, P, H, W] as the store has it. Settings of frames are then not
                looked at. None takes the stored frames.

        Raises:
            ConfigError: There are no samples, or fewer than one batch with `drop_last`; or a process would
                have no part of a shuffled epoch's last batch; or recordings would be augmented as pictures.
        """
        self.store = store
        self.indices = np.asarray(indices, np.int64)
        self.settings = settings
        self.device = torch.device(device)
        self.epoch = 0
        self.batch = 0
        self.wait_s = 0.0
        settings.check_samples(len(self.indices), store.path)
        check_pictures(settings.augment.pictures, store.shape[1:], np.dtype(store.dtype))
        T, P, H, W = store.shape[1:]
        self._on_gpu = self.device.type == "cuda"
        self._values = None if settings.counts or store.values is None else torch.from_numpy(store.values)
        self._dtype = self._delivered_dtype()
        self._buffers = _Buffers(T * settings.batch_size * P * H * W, self._dtype, pinned=self._on_gpu)
        self._of_thread, self._write = local(), write
        self._cached, self._is_cached = self._make_cache()
        # Stored counts that go through nothing are decoded right into the batch, and seen time first.
        self._straight = settings.counts and settings.augment == UNCHANGED and not self._on_gpu and not write
        if self._values is not None and self._on_gpu:
            self._values = self._values.to(self.device)
        self._copy_stream = torch.cuda.Stream(self.device) if self._on_gpu else None
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="feed")

    def _delivered_dtype(self) -> np.dtype:
        if self.settings.counts:
            return np.dtype(self.store.dtype)
        # A GPU turns counts into floats itself, which moves a quarter of the bytes to it.
        return np.dtype(self.store.dtype) if self._on_gpu else np.dtype(np.float32)

    def _make_cache(self) -> tuple[np.ndarray | None, np.ndarray]:
        size = len(self.indices) * int(np.prod(self.store.shape[1:])) * np.dtype(self.store.dtype).itemsize
        wanted = self.settings.cache == "decoded" or (
            self.settings.cache == "auto" and size <= AUTO_CACHE_BYTES
        )
        if not wanted or self._write is not None:
            return None, np.zeros(0, bool)
        return np.empty((len(self.indices), *self.store.shape[1:]), self.store.dtype), np.zeros(
            len(self.indices), bool
        )

    def __len__(self) -> int:
        """Batches an epoch, in this process."""
        s = self.settings
        whole, rest = divmod(len(self.indices), s.batch_size * s.world_size)
        return whole + int(rest > s.rank and not s.drop_last)

    def _rank_positions(self, order: np.ndarray) -> np.ndarray:
        """Return this process's share of an epoch's order."""
        return order[self.settings.rank :: self.settings.world_size]

    def positions(self, epoch: int) -> np.ndarray:
        """Return this process's samples of an epoch, in order, as positions in `indices`."""
        s = self.settings
        if not s.shuffle:
            return self._rank_positions(np.arange(len(self.indices)))
        block, window = (SHARD_ORDER_BLOCK, SHARD_ORDER_WINDOW) if s.order == "shard" else (1, 1)
        order = epoch_order(len(self.indices), seed=s.seed, epoch=epoch, block=block, window=window)
        return self._rank_positions(order)

    def state_dict(self) -> dict[str, int]:
        """Return where the feed stands: the epoch, and the batches of it already delivered."""
        return {"epoch": self.epoch, "batch": self.batch, "seed": self.settings.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to where another feed with the same settings stood.

        Raises:
            ConfigError: The other feed had another seed.
        """
        if state["seed"] != self.settings.seed:
            raise ConfigError(
                f"{self.store.path}: the feed was saved with seed {state['seed']}, this one has "
                f"{self.settings.seed}; resume with the same seed"
            )
        self.epoch, self.batch = state["epoch"], state["batch"]

    def __iter__(self) -> Iterator[Batch]:
        """Yield the rest of this epoch.

        Raises:
            StoreError: A sample could not be read; names the batch.
        """
        size = self.settings.batch_size
        positions = self.positions(self.epoch)
        starts = iter(range(self.batch * size, len(self) * size, size))
        ahead: deque[Future[Batch]] = deque()
        try:
            while True:
                while len(ahead) < self.settings.buffers and (start := next(starts, None)) is not None:
                    ahead.append(
                        self._threads.submit(self._load, positions[start : start + size], self.epoch)
                    )
                if not ahead:
                    break
                batch = self._wait_for(ahead.popleft())
                self.batch += 1
                yield batch
        finally:
            for future in ahead:
                future.cancel()
        self.epoch, self.batch = self.epoch + 1, 0

    def _wait_for(self, future: "Future[Batch]") -> Batch:
        began = time.perf_counter()
        try:
            batch = future.result()
        except EventsError as error:
            where = f"epoch {self.epoch}, batch {self.batch}"
            raise StoreError(f"{error} (while reading {where} of {self.store.path})") from error
        if self._copy_stream is not None:
            torch.cuda.current_stream(self.device).wait_stream(self._copy_stream)
            for tensor in batch.tensors():
                tensor.record_stream(torch.cuda.current_stream(self.device))
        self.wait_s += time.perf_counter() - began
        return batch

    def _load(self, positions: np.ndarray, epoch: int) -> Batch:
        """Decode, augment and deliver one batch. Runs in the feed's thread."""
        samples = self.indices[positions]
        T, P, H, W = self.store.shape[1:]
        mixed: tuple[Tensor, ...] = ()
        if self._straight and self._cached is None:
            sample_first = self._buffers.take((len(samples), T, P, H, W))
            self.store.read_into(samples, sample_first)
            frames = torch.from_numpy(sample_first).transpose(0, 1)
        else:
            filled = self._buffers.take((T, len(samples), P, H, W))
            self._fill(filled, positions, samples, epoch)
            if self.settings.augment.pictures.mixes(epoch):
                mixed = self._mix(filled, positions, samples, epoch)
            if self._values is not None and not self._on_gpu:
                _look_up(self._values.numpy(), filled.reshape(-1))
            frames = torch.from_numpy(filled)
        labels = torch.from_numpy(self.store.label[samples].astype(np.int64))
        batch = Batch(frames, labels, torch.from_numpy(samples), *mixed)
        return self._to_gpu(batch) if self._on_gpu else batch

    def _mix(
        self, filled: np.ndarray, positions: np.ndarray, samples: np.ndarray, epoch: int
    ) -> tuple[Tensor, Tensor]:
        """Mix pictures [1, B, P, H, W] with others of the epoch; return their labels and the own shares."""
        settings = self.settings
        taken = partners(len(self.indices), seed=settings.seed, epoch=epoch)[positions]
        others, of_samples = np.empty_like(filled), self.indices[taken]
        self._fill(others, taken, of_samples, epoch)
        shares = mix(
            filled[0], others[0], samples, settings=settings.augment.pictures, seed=settings.seed, epoch=epoch
        )
        return torch.from_numpy(self.store.label[of_samples].astype(np.int64)), torch.from_numpy(shares)

    def _fill(self, frames: np.ndarray, positions: np.ndarray, samples: np.ndarray, epoch: int) -> None:
        """Write a batch, decoded, augmented and time first, into frames[T, B, P, H, W]."""
        self._augment(frames, positions, samples, epoch)
        pictures, seed = self.settings.augment.pictures, self.settings.seed
        if pictures.operations:
            operate(frames[0], samples, settings=pictures, seed=seed, epoch=epoch)

    def _augment(self, frames: np.ndarray, positions: np.ndarray, samples: np.ndarray, epoch: int) -> None:
        """Write a batch, decoded, moved and time first, into frames[T, B, P, H, W]."""
        chosen = partial(
            augment_batch, settings=self.settings.augment, seed=self.settings.seed, epoch=epoch, out=frames
        )
        if self._cached is not None:
            self._fill_cache(positions, samples)
            chosen(self._cached, positions, samples=samples)
            return
        staged, first = self._staged(), np.zeros(1, np.int64)
        for place in range(len(samples)):
            sample = samples[place : place + 1]
            if self._write is not None:
                self._write(int(sample[0]), epoch, staged[0])
                frames[:, place] = staged[0]
                continue
            self.store.read_into(sample, staged)
            chosen(staged, first, samples=sample, at=place)

    def _staged(self) -> np.ndarray:
        """Return this thread's room for one decoded sample, which fits the processor's cache."""
        if not hasattr(self._of_thread, "staged"):
            self._of_thread.staged = np.empty((1, *self.store.shape[1:]), self.store.dtype)
        return self._of_thread.staged

    def _fill_cache(self, positions: np.ndarray, samples: np.ndarray) -> None:
        """Decode the samples that are not in memory yet."""
        assert self._cached is not None
        for position, sample in zip(positions, samples, strict=True):
            if not self._is_cached[position]:
                self.store.read_into([sample], self._cached[position : position + 1])
                self._is_cached[position] = True

    def _to_gpu(self, batch: Batch) -> Batch:
        with torch.cuda.stream(self._copy_stream):
            frames = batch.frames.to(self.device, non_blocking=True)
            moved = Batch(
                frames if self.settings.counts else carried(frames, self._values),
                *(tensor.to(self.device) for tensor in batch.tensors()[1:]),
            )
            copied = torch.cuda.Event()
            copied.record()
        # The pinned buffer goes back when this function ends, so the copy must be over by then.
        copied.synchronize()
        return moved

    def close(self) -> None:
        """Stop the threads. A batch in work is finished, nothing more is read."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FrameDataset(Dataset):
    """Stored samples by position, for a plain `torch.utils.data.DataLoader`.

    A sample is (frames [T, P, H, W] float32, label). Use `num_workers=0` and, to save a copy and get
    time first, `collate_fn=time_first`: workers cost more to talk to than a sample costs to decode.
    """

    def __init__(self, store: Store, indices: np.ndarray | Sequence[int] | None = None) -> None:
        """Serve the samples `indices` of the store, by default all."""
        self.store = store
        self.indices = np.arange(store.shape[0]) if indices is None else np.asarray(indices, np.int64)
        self._warned = False

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Read a whole batch at once, into one array."""
        self._warn_in_worker()
        samples = self.indices[np.asarray(positions, np.int64)]
        out = np.empty((len(samples), *self.store.shape[1:]), self.store.dtype)
        self.store.read_into(samples, out)
        frames = carried(torch.from_numpy(out), self.store.values)
        return list(zip(frames.unbind(0), self.store.label[samples].tolist(), strict=True))

    def _warn_in_worker(self) -> None:
        if not self._warned and get_worker_info() is not None:
            self._warned = True
            warnings.warn(
                "FrameDataset in DataLoader workers: moving decoded frames between processes takes longer "
                "than decoding them; use num_workers=0 or events.batches.Feed",
                stacklevel=3,
            )

    def __getstate__(self) -> dict[str, Any]:
        return {"store": self.store, "indices": self.indices, "_warned": False}


def carried(frames: Tensor, values: np.ndarray | Tensor | None) -> Tensor:
    """Return what stored numbers stand for, float32, on their device.

    Args:
        frames: As stored, any shape.
        values: `Store.values`.
    """
    if values is None:
        return frames.float()
    if frames.device.type == "cpu":
        out = np.empty(frames.shape, np.float32)
        _look_up_into(np.asarray(values), frames.contiguous().numpy().reshape(-1), out.reshape(-1))
        return torch.from_numpy(out)
    # As an index, bytes would be a mask.
    return torch.as_tensor(values, device=frames.device)[frames.long()]


@njit(cache=True, nogil=True)
def _look_up(values, frames):  # type: ignore[no-untyped-def]
    """Replace each stored number, flat float32, by what it stands for."""
    for i in range(len(frames)):
        frames[i] = values[int(frames[i])]


@njit(cache=True, nogil=True)
def _look_up_into(values, stored, out):  # type: ignore[no-untyped-def]
    """Write what each stored number, flat, stands for."""
    for i in range(len(stored)):
        out[i] = values[stored[i]]


def time_first(samples: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    """Collate samples of a FrameDataset to frames [T, B, P, H, W] and labels [B] int64."""
    frames = torch.stack([frames for frames, _ in samples], dim=1)
    return frames, torch.tensor([label for _, label in samples], dtype=torch.int64)

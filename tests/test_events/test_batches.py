"""Batches from stored frames: order, resume, processes, memory, errors."""

import pickle
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from events.augment import AugmentSettings
from events.batches import Feed, FeedSettings, FrameDataset, epoch_order, time_first
from events.errors import ConfigError, StoreError


class MemoryStore:
    """What a feed needs of a store, in memory."""

    def __init__(self, samples=23, *, dtype=np.uint8, path="memory.zarr"):
        self.path = Path(path)
        self.frames = np.random.default_rng(5).integers(0, 9, (samples, 3, 2, 4, 5)).astype(dtype)
        self.shape = self.frames.shape
        self.dtype = self.frames.dtype
        self.label = (np.arange(samples) * 7 % 10).astype(np.int32)
        self.reads = []
        self.values = None

    def read_into(self, indices, out):
        self.reads.append(np.asarray(indices).tolist())
        out[...] = self.frames[np.asarray(indices)]


def feed_of(store, indices=None, **settings):
    indices = np.arange(store.shape[0]) if indices is None else indices
    return Feed(store, indices, FeedSettings(**{"batch_size": 4} | settings))


def epoch_indices(feed):
    return [batch.index.tolist() for batch in feed]


def joined(batches):
    return [index for batch in batches for index in batch]


def test_batches_are_time_first_floats_of_the_right_samples():
    store = MemoryStore()
    indices = np.array([3, 9, 1, 20, 7, 8])
    with feed_of(store, indices) as feed:
        batches = list(feed)
    assert [len(batch.labels) for batch in batches] == [4, 2]
    for batch, chosen in zip(batches, (indices[:4], indices[4:]), strict=True):
        assert batch.frames.dtype == torch.float32
        assert batch.frames.is_contiguous()
        np.testing.assert_array_equal(batch.frames.numpy(), store.frames[chosen].swapaxes(0, 1))
        assert batch.labels.dtype == torch.int64
        assert batch.labels.tolist() == store.label[chosen].tolist()
        assert batch.index.tolist() == chosen.tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_counts_keep_the_type_of_the_store(dtype):
    store = MemoryStore(4, dtype=dtype)
    with feed_of(store, counts=True) as feed:
        (batch,) = feed
    assert batch.frames.numpy().dtype == dtype
    np.testing.assert_array_equal(batch.frames.numpy(), store.frames.swapaxes(0, 1))


def test_shuffled_epoch_has_every_sample_once_in_its_own_order():
    with feed_of(MemoryStore(), shuffle=True, seed=3) as feed:
        first, second = (joined(epoch_indices(feed)) for _ in range(2))
    with feed_of(MemoryStore(), shuffle=True, seed=4) as feed:
        other = joined(epoch_indices(feed))
    assert sorted(first) == sorted(second) == sorted(other) == list(range(23))
    assert len({tuple(first), tuple(second), tuple(other), tuple(range(23))}) == 4


def test_drop_last_leaves_out_what_fills_no_batch():
    with feed_of(MemoryStore(), shuffle=True, drop_last=True) as feed:
        assert len(feed) == 5
        assert [len(batch.labels) for batch in feed] == [4] * 5


@pytest.mark.parametrize("stop_after", [0, 1, 5, 6])
def test_resumes_at_any_batch_without_reading_what_came_before(stop_after):
    augment = AugmentSettings(flip=0.5, roll_px=1, drop=0.3)
    with feed_of(MemoryStore(), shuffle=True, seed=1, augment=augment) as feed:
        list(feed)
        whole = [batch.frames.clone() for batch in feed] + [batch.frames.clone() for batch in feed]
    with feed_of(MemoryStore(), shuffle=True, seed=1, augment=augment) as feed:
        list(feed)
        walk = iter(feed)
        for _ in range(stop_after):
            next(walk)
        state = feed.state_dict()
        walk.close()
    assert state == {"epoch": 1, "batch": stop_after, "seed": 1}
    store = MemoryStore()
    with feed_of(store, shuffle=True, seed=1, augment=augment) as feed:
        feed.load_state_dict(pickle.loads(pickle.dumps(state)))
        rest = [batch.frames.clone() for batch in feed]
        assert feed.state_dict() == {"epoch": 2, "batch": 0, "seed": 1}
        assert sum(map(len, store.reads)) == max(23 - 4 * stop_after, 0)
        rest += [batch.frames.clone() for batch in feed]
    assert len(rest) == len(whole) - stop_after
    for found, expected in zip(rest, whole[stop_after:], strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_state_of_another_seed_is_refused():
    with (
        feed_of(MemoryStore(), seed=1) as feed,
        pytest.raises(ConfigError, match="saved with seed 2, this one has 1"),
    ):
        feed.load_state_dict({"epoch": 0, "batch": 0, "seed": 2})


@pytest.mark.parametrize("samples", [23, 24])
def test_processes_share_the_batches_one_process_would_see(samples):
    together = []
    for rank in range(2):
        with feed_of(
            MemoryStore(samples), batch_size=2, shuffle=True, seed=9, rank=rank, world_size=2
        ) as feed:
            together.append(epoch_indices(feed))
    with feed_of(MemoryStore(samples), batch_size=4, shuffle=True, seed=9) as feed:
        alone = epoch_indices(feed)
    assert len(together[0]) == len(together[1]) == len(alone)
    for zero, one, whole in zip(*together, alone, strict=True):
        assert (whole[::2], whole[1::2]) == (zero, one)
    assert sorted(joined(together[0] + together[1])) == list(range(samples))


@pytest.mark.parametrize(("samples", "batches"), [(7, 1), (8, 2), (11, 2)])
def test_processes_drop_the_last_batch_that_one_process_would_drop(samples, batches):
    for rank in range(2):
        settings = {"batch_size": 2, "shuffle": True, "drop_last": True, "rank": rank, "world_size": 2}
        with feed_of(MemoryStore(samples), **settings) as feed:
            assert len(feed) == batches
            assert [len(batch.labels) for batch in feed] == [2] * batches


def test_a_process_without_samples_is_refused_in_training_only():
    settings = {"batch_size": 2, "rank": 2, "world_size": 3}
    with pytest.raises(ConfigError, match="the last batch of 8 samples has 2, too few for 3 processes"):
        feed_of(MemoryStore(8), shuffle=True, **settings)
    with feed_of(MemoryStore(2), **settings) as feed:
        assert len(feed) == 0
        assert list(feed) == []


def test_evaluation_shares_every_sample_exactly_once():
    seen = []
    for rank in range(3):
        with feed_of(MemoryStore(23), batch_size=4, rank=rank, world_size=3) as feed:
            seen += joined(epoch_indices(feed))
    assert sorted(seen) == list(range(23))


@pytest.mark.parametrize("cache", ["none", "decoded", "auto"])
def test_cache_reads_each_sample_once_and_changes_nothing(cache):
    store = MemoryStore()
    with feed_of(store, np.arange(3, 23), shuffle=True, cache=cache) as feed:
        for _ in range(3):
            for batch in feed:
                np.testing.assert_array_equal(
                    batch.frames.numpy(), store.frames[batch.index.numpy()].swapaxes(0, 1)
                )
    reads = sum(len(read) for read in store.reads)
    assert reads == (60 if cache == "none" else 20)


def test_a_kept_batch_is_never_overwritten_and_a_dropped_one_is_used_again():
    store = MemoryStore(64)
    with feed_of(store) as feed:
        kept = [next(iter(feed)).frames[1:, :2] for _ in range(1)]
        before = kept[0].clone()
        feed.load_state_dict({"epoch": 0, "batch": 0, "seed": 0})
        for _ in range(5):
            for batch in feed:
                del batch
        torch.testing.assert_close(kept[0], before, rtol=0, atol=0)
        # Three ahead, one in the loop's hand, one kept; 80 batches were delivered.
        assert feed._buffers.made <= 6


def test_error_in_the_thread_says_where_and_the_feed_can_be_closed():
    class Damaged(MemoryStore):
        def read_into(self, indices, out):
            if 9 in indices:
                raise StoreError("shard 0: checksum of sample 9 is wrong")
            super().read_into(indices, out)

    with feed_of(Damaged()) as feed:
        walk = iter(feed)
        next(walk)
        next(walk)
        with pytest.raises(
            StoreError,
            match=r"checksum of sample 9 is wrong \(while reading epoch 0, batch 2 of memory.zarr\)",
        ):
            next(walk)


def test_closing_ends_the_thread():
    before = threading.active_count()
    feed = feed_of(MemoryStore(64))
    next(iter(feed))
    feed.close()
    assert threading.active_count() == before


def test_threads_change_nothing():
    augment = AugmentSettings(flip=0.5, drop=0.4)
    with feed_of(MemoryStore(64), shuffle=True, augment=augment) as feed:
        alone = [batch.frames.clone() for _ in range(2) for batch in feed]
    for cache in ("none", "decoded"):
        with feed_of(MemoryStore(64), shuffle=True, augment=augment, threads=3, cache=cache) as feed:
            together = [batch.frames.clone() for _ in range(2) for batch in feed]
        assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_waiting_is_measured():
    class Slow(MemoryStore):
        def read_into(self, indices, out):
            time.sleep(0.05)
            super().read_into(indices, out)

    with feed_of(Slow(8)) as feed:
        list(feed)
        slow = feed.wait_s
    assert slow > 0.06
    with feed_of(Slow(8)) as feed:
        for _ in feed:
            time.sleep(0.1)
        # The second batch is decoded while the first is worked on.
        assert feed.wait_s < slow


def test_too_few_samples_for_a_batch():
    with pytest.raises(
        ConfigError, match=r"memory.zarr: 3 samples make no batch of 4 in each of 1 processes"
    ):
        feed_of(MemoryStore(), np.arange(3), drop_last=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"rank": 2, "world_size": 2}, "rank must be from 0 to 1, got 2"),
        ({"seed": -1}, r"seed must be from 0 to 2\*\*64 - 1, got -1"),
    ],
)
def test_settings_that_make_no_sense(changes, message):
    with pytest.raises(ConfigError, match=message):
        FeedSettings(**{"batch_size": 4} | changes)


def test_shard_order_keeps_blocks_near_and_mixes_them():
    order = epoch_order(1000, seed=1, epoch=0, block=50, window=4)
    assert sorted(order.tolist()) == list(range(1000))
    # 200 samples in a row come from exactly four blocks of 50.
    for start in range(0, 1000, 200):
        assert len(set((order[start : start + 200] // 50).tolist())) == 4
    assert len(set((order[:20] // 50).tolist())) > 1


def test_feed_reads_in_shard_order_where_asked():
    with feed_of(MemoryStore(512), shuffle=True, order="shard") as feed:
        assert len(set((feed.positions(0)[:256] // 64).tolist())) == 4
    with feed_of(MemoryStore(512), shuffle=True) as feed:
        assert len(set((feed.positions(0)[:256] // 64).tolist())) == 8


def philox4x64(counter, key):
    """Philox4x64-10 as in Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011."""
    mask = 2**64 - 1
    for _ in range(10):
        low, high = 0xD2E7470EE14C6C93 * counter[0], 0xCA5A826395121157 * counter[2]
        counter = [
            (high >> 64) ^ counter[1] ^ key[0],
            high & mask,
            (low >> 64) ^ counter[3] ^ key[1],
            low & mask,
        ]
        key = [(key[0] + 0x9E3779B97F4A7C15) & mask, (key[1] + 0xBB67AE8584CAA73B) & mask]
    return counter


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (7, 3), (2**64 - 1, 12)])
def test_order_is_that_of_philox(seed, epoch):
    # NumPy counts up before its first block.
    draws = [word for block in range(1, 4) for word in philox4x64([block, 0, 0, 0], [seed, epoch])]
    expected = sorted(range(12), key=draws.__getitem__)
    assert epoch_order(12, seed=seed, epoch=epoch).tolist() == expected


def test_dataset_serves_a_plain_loader():
    store = MemoryStore(10)
    dataset = FrameDataset(store, np.array([9, 3, 4]))
    frames, label = dataset[1]
    np.testing.assert_array_equal(frames.numpy(), store.frames[3])
    assert label == store.label[3]
    store.reads.clear()
    frames, labels = next(iter(DataLoader(dataset, batch_size=3)))
    assert store.reads == [[9, 3, 4]]
    np.testing.assert_array_equal(frames.numpy(), store.frames[[9, 3, 4]])
    assert labels.tolist() == store.label[[9, 3, 4]].tolist()
    frames, labels = next(iter(DataLoader(dataset, batch_size=3, collate_fn=time_first)))
    np.testing.assert_array_equal(frames.numpy(), store.frames[[9, 3, 4]].swapaxes(0, 1))


def test_dataset_pickles():
    dataset = pickle.loads(pickle.dumps(FrameDataset(MemoryStore(10))))
    np.testing.assert_array_equal(dataset[2][0].numpy(), MemoryStore(10).frames[2])


def test_dataset_in_a_worker_warns(monkeypatch):
    monkeypatch.setattr("events.batches.get_worker_info", lambda: object())
    dataset = FrameDataset(MemoryStore(4))
    with pytest.warns(UserWarning, match="use num_workers=0 or events.batches.Feed"):
        dataset[0]

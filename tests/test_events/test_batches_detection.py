"""Stored windows with boxes as batches: what comes with which frames, and a feed that is continued."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from suites.boxed_files import write_bbox_tree

from events.augment import AugmentSettings
from events.batches import FeedSettings
from events.batches_detection import DetectionFeed
from events.binning.settings import PRESETS
from events.convert import ConvertSettings, convert
from events.datasets.detection.registry import list_detection
from events.datasets.detection.windows import WindowRules
from events.errors import ConfigError
from events.store.detection import open_detection_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Twelve windows with a box each, and eight of which nothing is known."""
    folder = tmp_path_factory.mktemp("feed")
    rules = WindowRules(every_us=125_000)
    listing = list_detection("gen1", write_bbox_tree(folder / "src"), rules=rules)
    binning = replace(PRESETS["cube"], size_hw=(24, 32))
    convert(listing, folder / "out.zarr", ConvertSettings(binning=binning, shard_samples=8))
    return open_detection_store(folder / "out.zarr")


def everything(store):
    """Return the numbers of all windows."""
    return np.arange(len(store))


def test_a_batch_has_the_boxes_of_its_windows(store):
    settings = FeedSettings(batch_size=5, shuffle=True, seed=4)
    with DetectionFeed(store, everything(store), settings) as feed:
        batches = list(feed)
    assert sorted(torch.cat([batch.index for batch in batches]).tolist()) == list(range(20))
    for batch in batches:
        T, B, C, H, W = batch.frames.shape
        assert (5, len(batch.index), 4, 24, 32) == (T, B, C, H, W)
        assert len(batch.boxes) == len(batch.labels) == len(batch.ignore) == B
        for place, window in enumerate(batch.index.tolist()):
            expected = store.boxes_of(window)
            np.testing.assert_array_equal(batch.boxes[place].numpy(), expected.xyxy)
            assert batch.labels[place].tolist() == expected.class_id.tolist()
            np.testing.assert_array_equal(
                batch.frames[:, place].numpy(), store.frames.read(window).astype(np.float32)
            )
            assert batch.boxes[place].shape == (len(expected.xyxy), 4)
            kinds = (batch.boxes[place].dtype, batch.labels[place].dtype, batch.ignore[place].dtype)
            assert kinds == (torch.float32, torch.int64, torch.bool)


def test_an_empty_window_has_empty_tensors(store):
    empty = np.flatnonzero(~store.labelled)
    with DetectionFeed(store, empty, FeedSettings(batch_size=8)) as feed:
        batch = next(iter(feed))
    assert [boxes.shape for boxes in batch.boxes] == [(0, 4)] * 8
    assert [labels.shape for labels in batch.labels] == [(0,)] * 8


def test_a_feed_goes_on_to_the_bit(store):
    settings = FeedSettings(batch_size=3, shuffle=True, seed=9)
    with DetectionFeed(store, everything(store), settings) as feed:
        whole = [batch for _ in range(2) for batch in feed]
    with DetectionFeed(store, everything(store), settings) as feed:
        first = [batch for _, batch in zip(range(4), feed, strict=False)]
        state = feed.state_dict()
    with DetectionFeed(store, everything(store), settings) as feed:
        feed.load_state_dict(state)
        rest = [*feed, *feed]
    assert len(first) + len(rest) == len(whole) == 14
    for found, expected in zip([*first, *rest], whole, strict=True):
        assert torch.equal(found.frames, expected.frames)
        assert torch.equal(found.index, expected.index)
        assert all(torch.equal(a, b) for a, b in zip(found.boxes, expected.boxes, strict=True))


def test_changing_a_batch_leaves_the_store_as_it_is(store):
    before = store.boxes.xyxy.copy()
    with DetectionFeed(store, store.indices("train"), FeedSettings(batch_size=6)) as feed:
        for batch in feed:
            for boxes in batch.boxes:
                boxes += 1
    np.testing.assert_array_equal(store.boxes.xyxy, before)


def test_frames_are_not_moved_without_their_boxes(store):
    settings = FeedSettings(batch_size=2, augment=AugmentSettings(flip=True))
    with pytest.raises(ConfigError, match="moves frames but not their boxes; leave it out"):
        DetectionFeed(store, everything(store), settings)

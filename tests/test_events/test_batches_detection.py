"""Stored windows with boxes as batches: what comes with which frames, and a feed that is continued."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from suites.boxed_files import GEN1_BBOX, bbox_rows, write_bbox_tree

from events.augment import AugmentSettings, drawn_geometry
from events.augment_windows import moved_boxes
from events.batches import FeedSettings
from events.batches_detection import DetectionFeed
from events.binning.settings import PRESETS
from events.convert import ConvertSettings, convert
from events.datasets.detection.registry import list_detection
from events.datasets.detection.windows import WindowRules
from events.errors import ConfigError
from events.recording import EVENT_DTYPE
from events.store.detection import open_detection_store
from events.writers.registry import write_recording


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


def events_extent(frames) -> list[int]:
    """Return x0, y0, x1, y1 of the smallest box over all events of frames [T, C, H, W]."""
    rows, columns = np.nonzero(frames.sum(dim=(0, 1)).numpy())
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


@pytest.mark.parametrize(
    ("augment", "margin"),
    [
        (AugmentSettings(flip=0.5), 0),
        (AugmentSettings(roll_px=6), 0),
        (AugmentSettings(flip=0.5, roll_px=9), 0),
        (AugmentSettings(zoom=0.4), 1),
        (AugmentSettings(flip=0.5, roll_px=5, zoom=0.3), 1),
    ],
    ids=lambda value: "" if isinstance(value, int) else str(value)[15:60],
)
def test_boxes_follow_their_frames(tmp_path, augment, margin):
    """A window whose events fill their box to all four edges still does so, wherever both are moved."""
    write_filled(tmp_path / "src")
    convert(
        list_detection("shapes", tmp_path / "src"),
        tmp_path / "out.zarr",
        ConvertSettings(binning=PRESETS["counts"]),
    )
    store = open_detection_store(tmp_path / "out.zarr")
    settings = FeedSettings(batch_size=3, shuffle=True, seed=2, augment=augment)
    seen: set[tuple[int, ...]] = set()
    with DetectionFeed(store, everything(store), settings) as feed:
        for _ in range(12):
            for batch in feed:
                for place, boxes in enumerate(batch.boxes):
                    if len(boxes) == 0:
                        assert batch.frames[:, place].sum() == 0
                        continue
                    extent = events_extent(batch.frames[:, place])
                    np.testing.assert_allclose(boxes[0].numpy(), extent, atol=margin)
                    seen.add(tuple(extent))
    assert len(seen) > 4


def write_filled(root):
    """Write three recordings of 32 x 24 pixels whose box is full of events before its label."""
    for number, box in enumerate([(2, 3, 12, 9), (20, 10, 31, 22), (10, 1, 20, 20)]):
        x0, y0, x1, y1 = box
        y, x = (axis.ravel() for axis in np.mgrid[y0:y1, x0:x1])
        events = np.zeros(len(x), EVENT_DTYPE)
        events["t"], events["x"], events["y"] = np.arange(200_000, 200_000 + len(x)), x, y
        folder = root / ("train", "val", "test")[number]
        folder.mkdir(parents=True)
        write_recording(folder / "a_td.dat", events, format="dat", sensor_hw=(24, 32))
        np.save(folder / "a_bbox.npy", bbox_rows(GEN1_BBOX, box, 0, (250_000,)))


def test_little_left_of_a_box_is_to_be_ignored():
    """Of 10 pixels, 8 are moved out to the right: a fifth is left, and of another box nothing."""
    settings = AugmentSettings(roll_px=1)
    drawn = [drawn_geometry(window, settings=settings, seed=0, epoch=0) for window in range(50)]
    window = next(number for number, geometry in enumerate(drawn) if (geometry.dy, geometry.dx) == (0, 1))
    boxes = np.array([[5, 0, 15, 4], [29, 0, 39, 4], [31, 0, 35, 4]], np.float32)
    moved, seen, ignore = moved_boxes(
        boxes, window=window, settings=settings, seed=0, epoch=0, frame_hw=(24, 32)
    )
    assert moved[:2].tolist() == [[6, 0, 16, 4], [30, 0, 32, 4]]
    assert seen.tolist() == [True, True, False]
    assert ignore.tolist() == [False, True, False]


def test_what_boxes_cannot_follow_is_refused(store):
    for augment, said in (
        (AugmentSettings(rotate_deg=5), "rotate_deg 5"),
        (AugmentSettings(roll_px=3, roll_fill="wrap"), "roll_fill wrap"),
    ):
        with pytest.raises(ConfigError, match=f"boxes cannot follow {said}; use flip, roll_px, zoom"):
            DetectionFeed(store, everything(store), FeedSettings(batch_size=2, augment=augment))

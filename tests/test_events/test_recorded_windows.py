"""Windows binned anew from their recordings' events: the store's own, or augmented with their boxes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from suites.boxed_files import write_bbox_tree, write_rvt

from events.augment import AugmentSettings
from events.augment_boxes import BoxAugmentSettings
from events.batches import FeedSettings
from events.batches_detection import DetectionFeed
from events.binning.settings import PRESETS
from events.binning.window import bin_window
from events.convert import ConvertSettings, convert
from events.datasets.detection.registry import list_detection
from events.datasets.detection.windows import WindowRules
from events.errors import ConfigError, StoreError
from events.readers.registry import open_recording
from events.recorded_windows import RecordedWindows
from events.store.detection import open_detection_store

UNCHANGED = BoxAugmentSettings()
EVERYTHING = BoxAugmentSettings(
    flip=0.5,
    zoom=0.7,
    zoom_in=1.5,
    zoom_out=1.3,
    translate_px=20,
    time_scale=1.5,
    polarity_flip=0.5,
    drop=0.3,
)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return write_bbox_tree(tmp_path_factory.mktemp("recorded") / "src")


def converted(recordings, folder, **binning):
    """Return a store of the recordings' windows, by default cubes of half the sensor's size."""
    settings = replace(PRESETS["cube"], **({"size_hw": (120, 152)} | binning))
    listing = list_detection("gen1", recordings, rules=WindowRules(every_us=125_000))
    convert(listing, folder / "out.zarr", ConvertSettings(binning=settings, shard_samples=8))
    return open_detection_store(folder / "out.zarr")


@pytest.fixture(scope="module")
def store(recordings, tmp_path_factory):
    return converted(recordings, tmp_path_factory.mktemp("store"))


def frames_of(windows, window, epoch=0):
    frames = windows.store.frames
    out = np.full(frames.shape[1:], 7, frames.dtype)
    windows.write_frames(window, epoch, out)
    return out


@pytest.mark.parametrize(
    "binning", [{}, {"size_hw": None, "value": "binary"}, {"frames": 1, "dedup": True}], ids=str
)
def test_unchanged_they_are_the_stores(recordings, tmp_path, binning):
    store = converted(recordings, tmp_path, **binning)
    windows = RecordedWindows(store, recordings, UNCHANGED, seed=0)
    assert store.frames.n_events.sum() > 100
    for window in range(len(store)):
        np.testing.assert_array_equal(frames_of(windows, window), store.frames.read(window))
        found, expected = windows.boxes_of(window, 3), store.boxes_of(window)
        for ours, stored in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, stored)


def test_events_stay_in_their_boxes(store, recordings):
    """Every event of these recordings lies in the box: so it does wherever both are moved."""
    windows = RecordedWindows(store, recordings, EVERYTHING, seed=3)
    seen = set()
    for window in np.flatnonzero(np.diff(store.boxes.window_ptr)).tolist():
        for epoch in range(6):
            boxes = windows.boxes_of(window, epoch)
            rows, columns = np.nonzero(frames_of(windows, window, epoch).sum(axis=(0, 1)))
            if len(boxes.xyxy) == 0:
                assert len(rows) == 0
                continue
            x0, y0, x1, y1 = boxes.xyxy[0]
            # A pixel of the frames is two of the sensor, and belongs to the box with one of them.
            assert columns.min() >= x0 - 1
            assert rows.min() >= y0 - 1
            assert columns.max() + 1 <= x1 + 1
            assert rows.max() + 1 <= y1 + 1
            seen.add(tuple(boxes.xyxy[0].tolist()))
    assert len(seen) > 20


def test_time_that_shrinks_brings_in_what_was_before(store, recordings):
    """At factor f below 1 an event at t is sent at the end less (end - t) f: a longer past in one window."""
    windows = RecordedWindows(store, recordings, BoxAugmentSettings(time_scale=2.0), seed=0)
    binning = replace(PRESETS["cube"], size_hw=(120, 152))
    events = open_recording(recordings / "train/clip0_td.dat").read()
    shrunk = 0
    for window in np.flatnonzero(store.recording == store.recording[0]).tolist():
        for epoch in range(4):
            factor, stop_us = windows.drawn(window, epoch).time_scale, int(store.t_end_us[window])
            moved = events[events["t"] < stop_us].copy()
            moved["t"] = stop_us - np.ceil((stop_us - moved["t"]) * factor).astype(np.int64)
            expected = bin_window(moved, settings=binning, sensor_hw=(240, 304), stop_us=stop_us).frames
            np.testing.assert_array_equal(frames_of(windows, window, epoch), expected)
            shrunk += factor < 1 and expected.sum() > store.frames.read(window).sum()
    assert shrunk > 0


def test_a_feed_goes_on_to_the_bit_and_every_epoch_differs(store, recordings):
    settings = FeedSettings(batch_size=3, shuffle=True, seed=9)

    def feed():
        windows = RecordedWindows(store, recordings, EVERYTHING, seed=9)
        return DetectionFeed(store, store.indices("train"), settings, recorded=windows)

    with feed() as first:
        whole = [batch for _ in range(2) for batch in first]
    with feed() as second:
        begun = [batch for _, batch in zip(range(2), second, strict=False)]
        state = second.state_dict()
    with feed() as third:
        third.load_state_dict(state)
        rest = [*third, *third]
    assert len(whole) == len(begun) + len(rest)
    for found, expected in zip([*begun, *rest], whole, strict=True):
        assert torch.equal(found.frames, expected.frames)
        assert torch.equal(found.index, expected.index)
        assert all(torch.equal(a, b) for a, b in zip(found.boxes, expected.boxes, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(found.ignore, expected.ignore, strict=True))
    by_window = {}
    for batch in whole:
        for place, window in enumerate(batch.index.tolist()):
            by_window.setdefault(window, []).append(batch.frames[:, place])
    assert any(not torch.equal(*both) for both in by_window.values())


def test_a_feed_of_stored_counts(store, recordings):
    """Counts as stored, as a GPU is given them, and floats are the same numbers."""
    windows = RecordedWindows(store, recordings, EVERYTHING, seed=1)
    batches = []
    for counts in (False, True):
        settings = FeedSettings(batch_size=4, counts=counts)
        with DetectionFeed(store, store.indices("train"), settings, recorded=windows) as feed:
            batches.append(next(iter(feed)).frames)
    assert batches[1].dtype == torch.uint8
    assert torch.equal(batches[0], batches[1].float())
    assert batches[0].sum() > 0


def test_recordings_that_are_not_the_stores(store, recordings, tmp_path):
    with pytest.raises(StoreError, match=r"clip0_td\.dat: is not there; .*name their folder"):
        RecordedWindows(store, tmp_path, EVERYTHING, seed=0)
    other = write_bbox_tree(tmp_path / "other")
    with (other / "train/clip1_td.dat").open("ab") as file:
        file.write(b"\0" * 8)
    with pytest.raises(StoreError, match=r"clip1_td\.dat: has \d+ bytes, expected \d+"):
        RecordedWindows(store, other, EVERYTHING, seed=0)


def test_what_cannot_be_augmented(store, recordings, tmp_path):
    windows = RecordedWindows(store, recordings, EVERYTHING, seed=0)
    both = FeedSettings(batch_size=2, augment=AugmentSettings(flip=0.5))
    with pytest.raises(ConfigError, match="events and frames would both be augmented"):
        DetectionFeed(store, store.indices("train"), both, recorded=windows)
    counted = converted(recordings, tmp_path, window_events=50)
    with pytest.raises(ConfigError, match="windows of 50 events"):
        RecordedWindows(counted, recordings, EVERYTHING, seed=0)
    source = write_rvt(tmp_path / "rvt")
    listing = list_detection("rvt", source)
    convert(listing, tmp_path / "rvt.zarr", ConvertSettings(binning=listing.binning))
    with pytest.raises(ConfigError, match="no events to augment"):
        RecordedWindows(open_detection_store(tmp_path / "rvt.zarr"), source, EVERYTHING, seed=0)

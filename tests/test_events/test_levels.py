"""Frames of levels: counted by hand, made alike by every implementation, stored, delivered and shown."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from suites.store_tree import list_tree, write_tree
from test_binning import BINNERS, events_at, random_events
from test_chunked_binning import Chunks, assert_same
from typer.testing import CliRunner

from events.augment import AugmentSettings
from events.batches import Feed, FeedSettings, FrameDataset, carried
from events.binning import numba_cpu, reference
from events.binning.chunked import bin_chunked
from events.binning.fused import bin_fused
from events.binning.levels import stored_lanes
from events.binning.settings import PRESETS, BinSettings, changed_binning
from events.cli import app
from events.convert import ConvertSettings, convert
from events.errors import ConfigError
from events.readers.registry import open_recording
from events.store.check import check_store
from events.store.layout import binning_settings
from events.store.reader import open_store
from events.writers.registry import write_recording

HAND = [0, 1, 2, 3, 3, 3, 4, 4, 4]


def test_counts_go_to_the_lane_of_the_nearest_power():
    assert stored_lanes(4).tolist() == HAND
    assert stored_lanes(1).tolist() == [0, 1]
    assert stored_lanes(8)[[90, 91, 128]].tolist() == [7, 8, 8]  # 2^6.5 is 90.5


@BINNERS
def test_sub_frames_with_events_are_counted_not_events(bin_events):
    # Eight sub-frames of two events: pixel 0 in 5 of them (one twice), pixel 1 in 1, pixel 2 in 5.
    x = [0, 0, 0, 1, 0, 2, 0, 2, 0, 2, 2, 2, 2, 2, 3, 3]
    chosen = BinSettings(frames=1, levels=4)
    result = bin_events(events_at(range(16), x=x), settings=chosen, sensor_hw=(1, 4))
    assert result.frames[0, 1, 0].tolist() == [HAND[5], HAND[1], HAND[5], HAND[1]]
    assert result.frames[0, 0].sum() == 0
    assert result.t_edges_us.tolist() == [0, 16]
    assert (result.frames.dtype, result.n_events, result.n_saturated) == (np.uint8, 16, 0)


@BINNERS
@pytest.mark.parametrize(("sub_frames", "stored"), [(4, [3]), (5, [3, 1]), (6, [3, 2]), (7, [3, 3])])
def test_the_last_group_is_filled_up_with_zeros(bin_events, sub_frames, stored):
    chosen = BinSettings(frames=len(stored), levels=3, sub_frames=sub_frames)
    result = bin_events(events_at(range(2 * sub_frames)), settings=chosen, sensor_hw=(1, 1))
    assert result.frames[:, 1, 0, 0].tolist() == stored
    assert result.t_edges_us.tolist() == [*[0, 8][: len(stored)], 2 * sub_frames]


@BINNERS
def test_binary_frames_are_cut_first_and_joined_then(bin_events):
    # 17 events in 8 frames: k = 2, and 4 for each of T' = 4; 17 // 4 is 4 as well, but 23 // 4 is 5.
    chosen = BinSettings(frames=4, tail="drop", value="binary", binary_frames=8)
    result = bin_events(events_at(range(23), x=range(23)), settings=chosen, sensor_hw=(1, 23))
    assert result.frames.sum(axis=(1, 2, 3)).tolist() == [4, 4, 4, 4]
    assert result.t_edges_us.tolist() == [0, 4, 8, 12, 16]
    short = bin_events(events_at(range(7)), settings=chosen, sensor_hw=(1, 1))
    assert (short.frames.sum(), short.n_events) == (0, 0)


level_sets = st.builds(
    lambda levels, short, frames, split, tail, joined, size_hw, resize: BinSettings(
        levels=levels,
        frames=frames,
        sub_frames=max(1, (frames << (levels - 1)) - min(short, (1 << (levels - 1)) - 1)),
        split=split,
        tail=tail if split == "time" or tail != "own" else "last",
        window_us=17 if split == "duration" else None,
        binary_frames=None
        if joined == 0 or split != "count"
        else joined * max(1, (frames << (levels - 1)) - min(short, (1 << (levels - 1)) - 1)),
        size_hw=size_hw,
        resize=resize if size_hw else "direct",
    ),
    levels=st.integers(1, 5),
    short=st.integers(0, 9),
    frames=st.integers(1, 5),
    split=st.sampled_from(["count", "time", "duration"]),
    tail=st.sampled_from(["last", "drop", "own"]),
    joined=st.integers(0, 3),
    size_hw=st.one_of(st.none(), st.tuples(st.integers(1, 8), st.integers(1, 8))),
    resize=st.sampled_from(["direct", "separate", "joint"]),
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    chosen=level_sets,
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 1500),
    chunk=st.integers(40, 700),
    backward=st.booleans(),
)
def test_all_implementations_agree(chosen, seed, n, chunk, backward):
    sensor_hw = (7, 9)
    events = random_events(seed, n, sensor_hw=sensor_hw, span_us=900, backward=backward)
    expected = reference.bin_events(events, settings=chosen, sensor_hw=sensor_hw)
    assert expected.frames.shape == chosen.frame_shape(sensor_hw)
    assert expected.frames.dtype == chosen.dtype
    assert_same(numba_cpu.bin_events(events, settings=chosen, sensor_hw=sensor_hw), expected)
    out = np.full(chosen.frame_shape(sensor_hw), 7, chosen.dtype)
    assert_same(numba_cpu.bin_events(events, settings=chosen, sensor_hw=sensor_hw, out=out), expected)
    assert_same(bin_chunked(Chunks(events, chunk=chunk, sensor_hw=sensor_hw), chosen), expected)


@pytest.mark.parametrize(
    "chosen",
    [
        PRESETS["mlif"],
        BinSettings(frames=10, tail="drop", levels=4, sub_frames=80, size_hw=(48, 48)),
        BinSettings(frames=3, levels=4, sub_frames=20, split="time"),
        BinSettings(frames=3, levels=2, size_hw=(20, 30), resize="separate"),
    ],
)
def test_straight_from_the_bytes_of_a_recording(tmp_path, chosen):
    events = random_events(3, 90_001, sensor_hw=(128, 128), span_us=9000, backward=False)
    events["t"] += 9000
    write_recording(tmp_path / "a.aedat", events, format="aedat2", sensor_hw=(128, 128))
    found = bin_fused(open_recording(tmp_path / "a.aedat"), chosen)
    decoded = open_recording(tmp_path / "a.aedat").read()
    assert_same(found, reference.bin_events(decoded, settings=chosen, sensor_hw=(128, 128)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"levels": 0}, r"levels \(S\) must be from 1 to 8, got 0"),
        ({"levels": 9}, r"levels \(S\) must be from 1 to 8, got 9"),
        (
            {"frames": 4, "levels": 3, "sub_frames": 20},
            r"Q\) 4, sub_frames \(T'\) 20 and levels \(S\) 3 do not fit: F = 2\^\(S-1\) = 4 "
            r"sub-frames make a frame, so Q = ceil\(T'/F\) = 5; use frames 5, or sub_frames from 13 to 16",
        ),
        ({"frames": 1, "levels": 3, "sub_frames": 0}, r"sub_frames \(T'\) must be at least 1, got 0"),
        ({"sub_frames": 20}, "need levels, got none"),
        ({"value": "lane"}, "need levels, got none"),
        ({"resize": "joint", "size_hw": (4, 4)}, "need levels, got none"),
        ({"levels": 2, "value": "binary"}, "levels makes frames of value 'lane', got value 'binary'"),
        ({"levels": 2, "resize": "joint"}, "resize 'joint' needs a size, got none; set size_hw"),
        ({"levels": 2, "resize": "area"}, "resize 'area' needs value 'count', got 'lane'"),
        ({"binary_frames": 80}, "binary_frames needs split 'count' and value 'binary' or levels"),
        (
            {"frames": 10, "levels": 3, "sub_frames": 40, "binary_frames": 20},
            r"binary_frames 20 cannot be joined to sub_frames \(T'\) 40: it must be a multiple of it",
        ),
        ({"frames": 30, "value": "binary", "binary_frames": 80}, r"joined to frames \(T\) 30"),
    ],
)
def test_settings_that_do_not_fit_are_said_at_once(wrong, message):
    with pytest.raises(ConfigError, match=message) as error:
        BinSettings(**wrong)
    assert "\n" not in str(error.value)


def test_the_number_of_frames_follows():
    assert changed_binning(BinSettings(), levels=4, sub_frames=20).frames == 3
    assert changed_binning(PRESETS["mlif"], sub_frames=40).frames == 10
    assert changed_binning(BinSettings(), levels=4).pieces == 80
    with pytest.raises(ConfigError, match="from 1 to 8, got -2"):
        changed_binning(BinSettings(), levels=-2, sub_frames=20)


def test_settings_made_before_are_kept_as_they_were():
    assert not {"levels", "sub_frames", "binary_frames"} & set(binning_settings(BinSettings()))
    assert binning_settings(PRESETS["mlif"])["sub_frames"] == 10


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("levels") / "dots", per_class=2)


def made(tree, path, **binning):
    convert(list_tree(tree), path, ConvertSettings(binning=BinSettings(**binning), shard_samples=4))
    return open_store(path)


CARRIED = np.array([0, 1, 2, 4, 8], np.float32)


@pytest.mark.parametrize("cache", ["none", "decoded"])
def test_batches_carry_powers_of_two(tree, tmp_path, cache):
    store = made(tree, tmp_path / "a.zarr", frames=2, levels=4, sub_frames=13, size_hw=(32, 32))
    feed_settings = FeedSettings(batch_size=3, cache=cache, augment=AugmentSettings(flip=1.0))
    stored = np.stack([store.read(i) for i in range(6)], axis=1)
    assert set(np.unique(stored)) >= {0, 1, 2, 3}
    with Feed(store, np.arange(6), feed_settings) as feed:
        for _ in range(2):  # the second time from the cache, where there is one
            batches = [batch.frames for batch in feed]
            assert batches[0].dtype == torch.float32
            np.testing.assert_array_equal(torch.cat(batches, dim=1).numpy(), CARRIED[stored[..., ::-1]])
    with Feed(store, np.arange(6), FeedSettings(batch_size=3, counts=True)) as feed:
        np.testing.assert_array_equal(next(iter(feed)).frames.numpy(), stored[:, :3])
    np.testing.assert_array_equal(FrameDataset(store)[0][0].numpy(), CARRIED[stored[:, 0]])
    # Bytes index, they do not mask.
    moved = carried(torch.from_numpy(stored), torch.from_numpy(store.values))
    np.testing.assert_array_equal(moved.numpy(), CARRIED[stored])


def test_resized_lanes_are_delivered_as_fractions(tree, tmp_path):
    chosen = {"frames": 2, "levels": 3, "size_hw": (20, 24), "resize": "joint"}
    store = made(tree, tmp_path / "a.zarr", **chosen)
    assert store.dtype == np.uint16
    with Feed(store, np.arange(2), FeedSettings(batch_size=2)) as feed:
        frames = next(iter(feed)).frames.numpy()
    stored = np.stack([store.read(0), store.read(1)], axis=1)
    np.testing.assert_array_equal(frames, (stored / 255).astype(np.float32))
    assert 0 < (frames % 1 > 0).mean() < 1
    assert check_store(store.path, against=tree).problems == []


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_from_the_command_line_to_a_look(tree, tmp_path):
    path = tmp_path / "levels.zarr"
    result = run("convert", "folder", tree, path, "--levels", 3, "--sub-frames", 10, "--size", 32,
                 "--workers", 1, "--split", "random:0:0.5")  # fmt: skip
    assert result.exit_code == 0, result.output
    store = open_store(path)
    assert store.shape[1:] == (3, 2, 32, 32)
    assert store.attributes["binning"] | {"levels": 3, "sub_frames": 10, "value": "lane"} == dict(
        store.attributes["binning"]
    )
    assert run("check", path, "--against", tree).exit_code == 0
    told = run("info", path).stdout
    assert "3 lanes of 10 binary sub-frames, 4 a frame; stored is 1 for 1, 2 for 2, 3 for 4, 0 for" in told
    assert json.loads(run("info", path, "--json").stdout)["binning"]["levels"] == 3
    assert (
        "A pixel holds 0, or s + 1 for lane s of 3, which stands for 2^s." in (path / "README.md").read_text()
    )
    assert run("view", path, "--png", tmp_path / "a.png").exit_code == 0
    np.testing.assert_array_equal(store.whole_values(store.read(0)), CARRIED[store.read(0)])
    other = run("convert", "folder", tree, path, "--frames", 3, "--size", 32, "--split", "random:0:0.5")
    assert other.exit_code == 1
    assert "binning.levels: found 3, expected null" in other.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frames", 4, "--levels", 3, "--sub-frames", 20], "use frames 5, or sub_frames from 13 to 16"),
        (["--levels", 3, "--value", "count"], "--levels decides what a pixel holds"),
        (["--preset", "mlif", "--value", "count"], "--preset mlif decides what a pixel holds"),
        (["--preset", "mlif", "--dtype", "uint16"], "--preset mlif decides what a pixel holds"),
        (["--levels", 3, "--events"], "leave out --levels"),
        (["--preset", "mlif80", "--levels", 3], "got value 'binary'"),
    ],
)
def test_options_that_do_not_fit_are_said_before_any_work(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    result = run("convert", "folder", "absent", *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_the_relation_is_in_the_help():
    told = " ".join(run("convert", "--help").stdout.replace("│", " ").split())
    assert "F = 2^(S-1) binary sub-frames make a frame, Q = ceil(T'/F)" in told

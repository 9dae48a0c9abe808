"""Settings of a conversion: checked, hashed, and compared with those of a store that is there."""

from dataclasses import replace

import pytest
from suites.store_tree import SENSOR_HW, SETTINGS

from events.binning.settings import BinSettings
from events.convert import ConvertSettings, convert
from events.errors import ConfigError, StoreError
from events.recording import ReadOptions
from events.store.attributes import read_attributes, write_attributes
from events.store.layout import StoreConfig
from events.store.plan import plan_conversion


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="codec must be one of fast, small, got 'zip'"):
        ConvertSettings(codec="zip")
    with pytest.raises(ConfigError, match="shard_samples must be at least 1, got 0"):
        ConvertSettings(shard_samples=0)
    with pytest.raises(ConfigError, match="seed must be 0 or more, got -1"):
        ConvertSettings(seed=-1)


def test_hash_follows_every_setting(listing):
    def config_hash(**changes):
        return plan_conversion(listing, replace(SETTINGS, **changes)).config.hash()

    same, other = config_hash(), set()
    other.add(config_hash(seed=1))
    other.add(config_hash(codec="small"))
    other.add(config_hash(shard_samples=5))
    other.add(config_hash(binning=BinSettings(frames=3, tail="drop")))
    other.add(config_hash(read=ReadOptions(polarity="raw")))
    relabelled = replace(listing, samples=(replace(listing.samples[0], label=2), *listing.samples[1:]))
    other.add(plan_conversion(relabelled, SETTINGS).config.hash())
    assert len(other) == 6
    assert same not in other
    assert same == config_hash()


def test_hash_of_stores_made_before_there_were_streams_and_topics():
    """Computed by the version before `ReadOptions` had `stream` and `topic`, over the same settings."""
    config = StoreConfig(
        dataset="folder",
        binning=BinSettings(frames=10),
        read=ReadOptions(damage="strict", sensor_hw=(128, 128)),
        codec="fast",
        shard_samples=64,
        seed=0,
        frame_shape=(10, 2, 128, 128),
        sensor_hw=(128, 128),
        class_names=("cat", "dog"),
        split_rule="official",
        source={"files": 2, "bytes": 100, "sha256": "0" * 64},
    )
    assert config.hash() == "2858a81ae10d0a3a"
    assert replace(config, read=replace(config.read, stream=1)).hash() != config.hash()


def test_older_store_is_continued_and_a_stream_given_since_is_named(listing, tmp_path):
    path = tmp_path / "older.zarr"
    convert(listing, path, SETTINGS)
    # As some versions wrote it: every option, given or not.
    attributes = read_attributes(path)
    attributes["read"] |= {"stream": None, "topic": None}
    write_attributes(path, attributes | {"config_hash": "0123456789abcdef"})
    assert convert(listing, path, SETTINGS).shards_written == 0
    with pytest.raises(StoreError, match=r"read\.stream: found null, expected 1"):
        convert(listing, path, replace(SETTINGS, read=ReadOptions(stream=1)))
    attributes["read"]["stream"] = 2
    write_attributes(path, attributes)
    with pytest.raises(StoreError, match=r"read\.stream: found 2, expected null"):
        convert(listing, path, SETTINGS)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            replace(SETTINGS, binning=BinSettings(frames=5)),
            r"frame_shape: found \[3, .* binning\.frames: found 3, exp",
        ),
        (replace(SETTINGS, codec="small"), r'\(codec: found "fast", expected "small"\)'),
        (replace(SETTINGS, seed=1), r"\(permutation\.seed: found 0, expected 1\)"),
        (
            replace(SETTINGS, read=ReadOptions(orientation="raw", sensor_hw=SENSOR_HW)),
            r'found "jaer", expected "raw"',
        ),
        (replace(SETTINGS, shard_samples=8), r"\(shard_samples: found 4, expected 8\)"),
    ],
)
def test_other_settings_are_refused_by_name(listing, whole, changed, message):
    with pytest.raises(StoreError, match=message):
        convert(listing, whole, changed)


def test_other_recordings_are_refused_by_name(listing, whole):
    fewer = replace(listing, samples=listing.samples[:-1])
    with pytest.raises(StoreError, match=r"found 9 with frog/2\.aedat present, expected 8 with it absent"):
        convert(fewer, whole, SETTINGS)
    grown = replace(listing.samples[0], size_bytes=7)
    with pytest.raises(StoreError, match=r"cat/0\.aedat size_bytes: found \d+, expected 7"):
        convert(replace(listing, samples=(grown, *listing.samples[1:])), whole, SETTINGS)


def test_overwrite_replaces_a_store_and_nothing_else(listing, tmp_path):
    store = tmp_path / "dots.zarr"
    convert(listing, store, SETTINGS)
    convert(listing, store, replace(SETTINGS, seed=1), overwrite=True)
    assert read_attributes(store)["permutation"]["seed"] == 1
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(StoreError, match=r"photos: is there already and is no store of ours"):
        convert(listing, tmp_path / "photos", SETTINGS, overwrite=True)
    assert (tmp_path / "photos" / "a.jpg").read_bytes() == b"x"

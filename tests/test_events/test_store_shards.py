"""Shards and columns: bytes pinned, readable by every Zarr reader, damage noticed."""

import json
import pickle
import shutil
import struct
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import tensorstore
import zarr
from suites.store_tree import frames_by_hand, list_tree, moving_dot, write_tree

from events.binning.settings import BinSettings
from events.convert import ConvertSettings, convert
from events.errors import StoreError
from events.store.layout import frame_codecs, shuffled_order
from events.store.reader import open_store
from events.store.shard import (
    crc_is_right,
    encode_sample,
    index_bytes,
    parse_index,
    shard_parts,
    write_atomically,
)

# First 16 hex digits of the SHA-256 of `golden_shard`, read back by tensorstore and zarr-python below.
GOLDEN_SHARDS = {
    ("fast", "uint8"): "8b92c982bf05d892",
    ("fast", "uint16"): "46905a06d5318950",
    ("small", "uint8"): "bcc7abd54a31b240",
    ("small", "uint16"): "57801b3841440627",
}


def golden_samples(dtype: str) -> list[np.ndarray]:
    """Return three samples made by a rule: mostly zero, small counts, every value of the type's low byte."""
    place = np.arange(2 * 2 * 24 * 32).reshape(2, 2, 24, 32)
    sparse = np.where(place % 7 == 0, place % 5, 0)
    return [sparse.astype(dtype), (place * 37 % 11).astype(dtype), (place % 256).astype(dtype)]


def golden_shard(codec, dtype: str) -> bytes:
    encoded = [encode_sample(sample, codec) for sample in golden_samples(dtype)]
    return b"".join(shard_parts([*encoded[:2], None, encoded[2]], slots=5))


def frames_array(folder: Path, codec: str, dtype: str) -> Path:
    """Make an array of five samples whose one shard is the golden one."""
    path = folder / f"{codec}-{dtype}"
    zarr.create_array(
        path,
        shape=(5, 2, 2, 24, 32),
        dtype=dtype,
        chunks=(1, 2, 2, 24, 32),
        shards=(5, 2, 2, 24, 32),
        compressors=frame_codecs(codec, np.dtype(dtype).itemsize),
        fill_value=0,
        chunk_key_encoding={"name": "default", "separator": "."},
    )
    (path / "c.0.0.0.0.0").write_bytes(golden_shard(codec, dtype))
    return path


def read_with_tensorstore(array: Path) -> np.ndarray:
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(array)}}
    return tensorstore.open(spec).result().read().result()


@pytest.mark.parametrize(("codec", "dtype"), GOLDEN_SHARDS)
def test_shard_bytes_are_pinned(codec, dtype):
    assert sha256(golden_shard(codec, dtype)).hexdigest()[:16] == GOLDEN_SHARDS[codec, dtype]


@pytest.mark.parametrize(("codec", "dtype"), GOLDEN_SHARDS)
def test_zarr_and_tensorstore_read_our_shards(codec, dtype, tmp_path):
    array = frames_array(tmp_path, codec, dtype)
    one, two, four = golden_samples(dtype)
    expected = np.stack([one, two, np.zeros_like(one), four, np.zeros_like(one)])
    np.testing.assert_array_equal(zarr.open_array(array, mode="r")[...], expected)
    np.testing.assert_array_equal(read_with_tensorstore(array), expected)


@pytest.mark.parametrize(("codec", "dtype"), GOLDEN_SHARDS)
def test_zarrs_reads_our_shards(codec, dtype, tmp_path):
    array = frames_array(tmp_path, codec, dtype)
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        opened = zarr.open_array(array, mode="r")
        assert type(opened._async_array.codec_pipeline).__name__ == "ZarrsCodecPipeline"
        samples = [opened[place] for place in (0, 1, 3)]
    np.testing.assert_array_equal(np.stack(samples), np.stack(golden_samples(dtype)))


def test_index_is_offsets_and_lengths_with_crc():
    stored = golden_shard("fast", "uint8")
    start = len(stored) - index_bytes(5)
    # By hand: five pairs of uint64 and four bytes of CRC.
    assert index_bytes(5) == 84
    pairs = struct.unpack("<10Q", stored[start : start + 80])
    empty = 2**64 - 1
    assert pairs[0] == 0
    assert pairs[2] == pairs[1]  # the second sample starts where the first one ends
    assert pairs[4:6] == (empty, empty)
    assert pairs[6] + pairs[7] == start
    assert pairs[8:10] == (empty, empty)
    index = parse_index(stored[start:], slots=5, index_offset=start, where=Path("x"))
    assert index[2] == index[4] == (0, 0)
    assert index[0] == (0, pairs[1])


def test_index_that_points_outside_is_refused():
    index = np.full((2, 2), 2**64 - 1, "<u8")
    index[0] = 90, 20
    stored = index.tobytes() + struct.pack("<I", google_crc32c.value(index.tobytes()))
    with pytest.raises(StoreError, match=r"slot 0 .* bytes 90 to 110, the samples end at 100"):
        parse_index(stored, slots=2, index_offset=100, where=Path("c.0"))


def test_crc_of_known_vector():
    # RFC 3720, appendix B.4: 32 bytes of zeros have the CRC-32C aa 36 91 8a (little endian).
    message = bytes(32) + bytes.fromhex("aa36918a")
    assert crc_is_right(message)
    assert not crc_is_right(message[:-1] + b"\x8b")


def test_atomic_write_leaves_nothing_behind_when_it_fails(tmp_path):
    def parts():
        yield b"abc"
        raise OSError(28, "No space left on device")

    (tmp_path / "kept").write_bytes(b"before")
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "kept", parts())
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_bytes() == b"before"


def philox_4x64_10(counter: int, key: int) -> list[int]:
    """One block of Philox4x64-10, from Salmon et al., "Parallel random numbers", SC 2011, section 3."""
    words, keys = [counter, 0, 0, 0], [key, 0]
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * words[0], 2**64)
        high1, low1 = divmod(0xCA5A826395121157 * words[2], 2**64)
        words = [high1 ^ words[1] ^ keys[0], low1, high0 ^ words[3] ^ keys[1], low0]
        keys = [(keys[0] + 0x9E3779B97F4A7C15) % 2**64, (keys[1] + 0xBB67AE8584CAA73B) % 2**64]
    return words


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_order_sorts_by_philox(seed):
    # NumPy counts blocks from 1.
    drawn = [word for block in range(1, 4) for word in philox_4x64_10(block, seed)]
    assert shuffled_order(12, seed).tolist() == sorted(range(12), key=drawn.__getitem__)


def test_order_has_every_recording_once():
    assert sorted(shuffled_order(1000, 7).tolist()) == list(range(1000))
    assert shuffled_order(1000, 7).tolist() != shuffled_order(1000, 8).tolist()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of six samples in shards of four, all converted."""
    folder = tmp_path_factory.mktemp("store")
    listing = list_tree(write_tree(folder / "tree", per_class=2))
    settings = ConvertSettings(binning=BinSettings(frames=3), shard_samples=4)
    convert(listing, folder / "dots.zarr", settings, workers=0)
    return folder / "dots.zarr"


def expected_frames(label: int, number: int) -> np.ndarray:
    return frames_by_hand(moving_dot(1000 * label + number), frames=3)


def test_frames_are_those_counted_by_hand(store):
    opened = open_store(store)
    assert opened.shape == (6, 3, 2, 128, 128)
    assert opened.dtype == np.uint8
    assert opened.direct
    assert opened.sensor_hw == (128, 128)
    assert opened.class_names == ("cat", "dog", "frog")
    paths = opened.source_paths()
    for position in range(6):
        name, file = paths[opened.source_index[position]].split("/")
        label, number = opened.class_names.index(name), int(file.removesuffix(".aedat"))
        assert opened.label[position] == label
        np.testing.assert_array_equal(opened.read(position), expected_frames(label, number))
    assert opened.n_events.tolist() == [400] * 6
    assert opened.status.tolist() == [1] * 6
    # 133 events of 50 microseconds from 1000 on, and the rest up to one after the last event.
    assert opened.t_edges_us[0].tolist() == [1000, 1000 + 133 * 50, 1000 + 266 * 50, 1000 + 399 * 50 + 1]


def test_direct_reader_equals_zarr_and_tensorstore(store):
    opened = open_store(store)
    out = np.full((6, 3, 2, 128, 128), 99, np.uint8)
    opened.read_into(np.arange(6)[::-1], out)
    np.testing.assert_array_equal(out[::-1], zarr.open_array(store / "frames", mode="r")[...])
    np.testing.assert_array_equal(out[::-1], read_with_tensorstore(store / "frames"))


def test_columns_equal_those_of_zarr(store):
    opened, group = open_store(store), zarr.open_group(store, mode="r")
    for name in ("label", "split", "n_events", "n_saturated", "source_index", "t_edges_us", "status"):
        stored = group[name][...]
        np.testing.assert_array_equal(getattr(opened, name), stored)
        assert getattr(opened, name).dtype == stored.dtype
    assert group["t_edges_us"].metadata.dimension_names == ("sample", "edge")
    assert group["frames"].metadata.dimension_names == ("sample", "step", "polarity", "row", "column")


def test_splits_give_positions(store):
    opened = open_store(store)
    train, test = opened.indices("train"), opened.indices("test")
    assert train.dtype == np.int64
    assert sorted([*train, *test]) == list(range(6))
    assert len(train) == 3
    with pytest.raises(StoreError, match=r"no split 'training'; known: train, validation, test"):
        opened.indices("training")


def test_store_pickles_by_path(store):
    opened = open_store(store)
    opened.read(0)
    copied = pickle.loads(pickle.dumps(opened))
    np.testing.assert_array_equal(copied.read(5), opened.read(5))
    assert len(pickle.dumps(opened)) < 500


def test_threads_share_a_store(store):
    opened = open_store(store)
    expected = [opened.read(position) for position in range(6)]
    fresh = open_store(store)
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(fresh.read, [position % 6 for position in range(60)]))
    for place, frames in enumerate(read):
        np.testing.assert_array_equal(frames, expected[place % 6])


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.empty((1, 3, 2, 128, 128), np.float32), r"\(1, 3, 2, 128, 128\), float32; expected .* uint8"),
        (np.empty((2, 3, 2, 128, 128), np.uint8), r"shape \(2, 3, 2, 128, 128\), uint8; expected \(1, "),
        (np.empty((1, 3, 2, 128, 256), np.uint8)[..., ::2], r"C order"),
    ],
)
def test_wrong_output_is_refused(store, out, message):
    with pytest.raises(StoreError, match=message):
        open_store(store).read_into([0], out)


@pytest.mark.parametrize("index", [-1, 6])
def test_index_outside_is_refused(store, index):
    with pytest.raises(StoreError, match=rf"no such samples: \[{index}\], expected 0 to 5"):
        open_store(store).read(index)


def damaged_copy(store: Path, folder: Path, *, byte: int) -> Path:
    copy = folder / "damaged.zarr"
    shutil.copytree(store, copy)
    shard = copy / "frames" / "c.0.0.0.0.0"
    stored = bytearray(shard.read_bytes())
    stored[byte] ^= 1
    shard.write_bytes(stored)
    return copy


def test_damaged_sample_is_noticed(store, tmp_path):
    opened = open_store(damaged_copy(store, tmp_path, byte=100))
    with pytest.raises(
        StoreError, match=r"c\.0\.0\.0\.0\.0: checksum of sample 0 \(byte 0\) is wrong; run the"
    ):
        opened.read(0)
    assert opened.read(1).sum() == 400


def test_damaged_index_is_noticed(store, tmp_path):
    opened = open_store(damaged_copy(store, tmp_path, byte=-10))
    with pytest.raises(StoreError, match=r"c\.0\.0\.0\.0\.0: checksum of the shard index is wrong"):
        opened.read(0)


def test_missing_shard_is_noticed(store, tmp_path):
    copy = tmp_path / "copy.zarr"
    shutil.copytree(store, copy)
    (copy / "frames" / "c.1.0.0.0.0").unlink()
    opened = open_store(copy)
    assert opened.read(3).sum() == 400
    with pytest.raises(
        StoreError, match=r"c\.1\.0\.0\.0\.0: No such file or directory; run the conversion again"
    ):
        opened.read(4)


def test_absent_sample_of_status_ok_is_noticed(store, tmp_path):
    copy = tmp_path / "copy.zarr"
    shutil.copytree(store, copy)
    shard = copy / "frames" / "c.1.0.0.0.0"
    shard.write_bytes(b"".join(shard_parts([None, None], slots=4)))
    with pytest.raises(StoreError, match=r"sample 4 is absent"):
        open_store(copy).read(4)


@pytest.mark.parametrize("layout", ["whole chunks", "four samples a chunk", "gzip", "slashes"])
def test_other_layouts_give_the_same_frames(store, layout, tmp_path):
    copy = tmp_path / "copy.zarr"
    shutil.copytree(store, copy)
    expected = zarr.open_array(store / "frames", mode="r")[...]
    shutil.rmtree(copy / "frames")
    options = {
        "whole chunks": {"chunks": (2, 3, 2, 128, 128)},
        "four samples a chunk": {"chunks": (4, 3, 2, 128, 128), "shards": (8, 3, 2, 128, 128)},
        "gzip": {
            "chunks": (1, 3, 2, 128, 128),
            "shards": (4, 3, 2, 128, 128),
            "compressors": {"name": "gzip", "configuration": {"level": 1}},
        },
        "slashes": {
            "chunks": (1, 3, 2, 128, 128),
            "shards": (4, 3, 2, 128, 128),
            "compressors": [
                {"name": "zstd", "configuration": {"level": 1, "checksum": False}},
                {"name": "crc32c"},
            ],
        },
    }[layout]
    array = zarr.create_array(copy / "frames", shape=expected.shape, dtype="uint8", **options)
    array[...] = expected
    opened = open_store(copy)
    # Only the last one is one sample per inner chunk with a codec the direct reader knows.
    assert opened.direct == (layout == "slashes")
    out = np.empty(expected.shape, np.uint8)
    opened.read_into(range(6), out)
    np.testing.assert_array_equal(out, expected)


def test_column_of_another_layout_is_read(store, tmp_path):
    copy = tmp_path / "copy.zarr"
    shutil.copytree(store, copy)
    labels = open_store(store).label
    shutil.rmtree(copy / "label")
    zarr.create_array(copy / "label", data=labels, chunks=(2,))
    np.testing.assert_array_equal(open_store(copy).label, labels)


def change_attributes(store: Path, **changes) -> None:
    metadata = json.loads((store / "zarr.json").read_text())
    metadata["attributes"]["event_store"] |= changes
    (store / "zarr.json").write_text(json.dumps(metadata))


def test_unfinished_store_is_refused_and_readable_on_demand(store, tmp_path):
    copy = tmp_path / "copy.zarr"
    shutil.copytree(store, copy)
    change_attributes(copy, complete=False)
    rows = (copy / "manifest.jsonl").read_text().splitlines()
    (copy / "manifest.jsonl").write_text(rows[0] + "\n" + rows[1][:50])
    with pytest.raises(
        StoreError, match=r"unfinished store, 4 of 6 samples are there; run the same conversion"
    ):
        open_store(copy)
    opened = open_store(copy, allow_partial=True)
    assert opened.status.tolist() == [1, 1, 1, 1, 0, 0]
    assert opened.counts() == {"ok": 4, "failed": 0, "missing": 2}
    assert opened.read(3).sum() == 400
    assert opened.read(5).sum() == 0


def test_other_schema_is_refused(store, tmp_path):
    copy = tmp_path / "copy.zarr"
    shutil.copytree(store, copy)
    change_attributes(copy, schema=7, tool_version="9.9")
    with pytest.raises(StoreError, match=r"schema 7, kind 'frames', expected schema 1, .* wrote it \(9\.9\)"):
        open_store(copy)


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(
        StoreError, match=r"nothing: found nothing, expected a store; make one with `events conv"
    ):
        open_store(tmp_path / "nothing")
    with pytest.raises(StoreError, match=r"found a folder without zarr\.json"):
        open_store(tmp_path)
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(StoreError, match="no attribute 'event_store'"):
        open_store(tmp_path / "other.zarr")

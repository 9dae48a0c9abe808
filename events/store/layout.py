"""What a store on disk consists of: file names, columns, codecs, and the hash that tells settings apart.

The layout is described for readers of other tools in docs/store.md. Nothing here imports Zarr, so that a
conversion worker and the command line start quickly.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Literal

import numpy as np

from events.binning.settings import BinSettings
from events.datasets.listing import Sample
from events.errors import ConfigError
from events.recording import ReadOptions

# Raised by one whenever a store of the new kind cannot be read by the old code, or the other way round.
SCHEMA = 1
KIND = "frames"

# The one attribute of the group that is ours.
ATTRIBUTE = "event_store"

MANIFEST_NAME = "manifest.jsonl"
SOURCES_NAME = "sources.jsonl"
CARD_NAME = "README.md"
LOCK_NAME = ".writer.lock"
TEMPORARY_SUFFIX = ".tmp"

# Values of the `status` column.
STATUS_MISSING, STATUS_OK, STATUS_FAILED = 0, 1, 2

# Below this many samples a shard holds 64, from there on 256: large enough to make file system and Dask
# overhead vanish, small enough to leave several shards for each worker.
FEW_SAMPLES = 4000
SHARD_SAMPLES_FEW, SHARD_SAMPLES_MANY = 64, 256

# How windows of labelled recordings lie, instead of in a seeded order.
RECORDED_ORDER = "recording after recording, windows in order of time"

# The group of columns of windows and their boxes.
BOXES = "boxes"

Codec = Literal["fast", "small"]
CODECS: tuple[Codec, ...] = ("fast", "small")


@dataclass(frozen=True)
class Column:
    """One value (or one row) per sample, stored as a single chunk.

    Attributes:
        dtype: NumPy type, little endian.
        dimensions: Names of the axes; a second axis has length `frames + 1`.
    """

    dtype: str
    dimensions: tuple[str, ...] = ("sample",)


COLUMNS: dict[str, Column] = {
    "label": Column("int32"),
    "split": Column("uint8"),
    "n_events": Column("uint32"),
    "n_saturated": Column("uint32"),
    "source_index": Column("uint32"),
    "t_edges_us": Column("int64", ("sample", "edge")),
    "status": Column("uint8"),
}

# Columns small in number: zstd keeps them tiny, and every Zarr v3 reader has it.
COLUMN_CODECS: list[dict[str, Any]] = [
    {"name": "zstd", "configuration": {"level": 3, "checksum": False}},
    {"name": "crc32c"},
]


# Reading options that did not exist when schema 1 began. Where they are not given they are left out of the
# settings, so that stores made before keep their hash and can be continued; add later ones here.
LATER_READ_OPTIONS = ("stream", "topic")

# Settings of binning that came later, likewise.
LATER_BINNING = (
    "levels",
    "sub_frames",
    "binary_frames",
    "micro_bins",
    "cutoff",
    "rvt_compat",
    "dedup",
    "window_events",
)

# Compression levels of the presets; docs/decisions/0003-compression-level.md says why these.
LZ4HC_LEVEL = 3
ZSTD_LEVEL = 9


def frame_codecs(codec: Codec, itemsize: int) -> list[dict[str, Any]]:
    """Return the Zarr v3 codecs of one sample, after `bytes`.

    `fast` decodes about three times faster than zstd for a third more bytes. Byte shuffle helps 16-bit
    counts, whose upper byte is nearly always zero, and hurts 8-bit ones.
    """
    if codec == "fast":
        shuffle = "noshuffle" if itemsize == 1 else "shuffle"
        lz4hc = {"cname": "lz4hc", "clevel": LZ4HC_LEVEL}
        blosc = {"typesize": itemsize, **lz4hc, "shuffle": shuffle, "blocksize": 0}
        return [{"name": "blosc", "configuration": blosc}, {"name": "crc32c"}]
    if codec == "small":
        zstd = {"level": ZSTD_LEVEL, "checksum": False}
        return [{"name": "zstd", "configuration": zstd}, {"name": "crc32c"}]
    raise ConfigError(f"codec must be one of {', '.join(CODECS)}, got {codec!r}")


def shard_name(shard: int) -> str:
    """Return the file name of a shard inside the folder `frames` (chunk key with separator `.`)."""
    return f"c.{shard}.0.0.0.0"


def default_shard_samples(samples: int) -> int:
    """Return the number of samples in a shard for a data set of this many."""
    return SHARD_SAMPLES_FEW if samples < FEW_SAMPLES else SHARD_SAMPLES_MANY


def shuffled_order(samples: int, seed: int) -> np.ndarray:
    """Return the source index of each stored position, shape [N], uint32.

    Positions are sorted by the raw 64-bit output of Philox keyed with the seed. The raw stream is
    guaranteed never to change between NumPy versions, `Generator.permutation` is not.
    """
    keys = np.random.Philox(key=seed).random_raw(samples)
    return np.argsort(keys, kind="stable").astype(np.uint32)


def source_rows(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Return what `sources.jsonl` says of each recording before it has been read, in listing order."""
    return [
        {
            "path": sample.path,
            "size_bytes": sample.size_bytes,
            "label": sample.label,
            "split": sample.split,
            "number": sample.number,
        }
        | time_range_entry(sample.t_range_us)
        for sample in samples
    ]


def time_range_entry(t_range_us: tuple[int, int] | None) -> dict[str, Any]:
    """Return what a row says of the part of a file that a sample is; empty for a whole file."""
    return {} if t_range_us is None else {"t_range_us": list(t_range_us)}


def row_time_range(row: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the part of its file that a row's sample is, [start, stop) in microseconds; None is all."""
    start_stop = row.get("t_range_us")
    return None if start_stop is None else (start_stop[0], start_stop[1])


def source_identity(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return count, bytes and a digest of the names, sizes, labels and splits of all recordings.

    The digest is known before anything has been read, so it can decide whether a conversion may be
    continued. A file replaced by another one of the same size is not noticed by it; the CRC-32C of each
    file's content, recorded in `sources.jsonl` when it is read, is what `events check --against` compares.
    """
    digest = sha256()
    for row in rows:
        identity = [row["path"], row["size_bytes"], row["label"], row["split"]]
        if "t_range_us" in row:
            identity.append(row["t_range_us"])
        digest.update(json.dumps(identity, ensure_ascii=False).encode() + b"\n")
    return {
        "files": len(rows),
        "bytes": sum(row["size_bytes"] for row in rows),
        "sha256": digest.hexdigest(),
    }


def content_digest(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the SHA-256 over path, size and CRC-32C of all recordings, known once all were read."""
    digest = sha256()
    for row in rows:
        content = [row["path"], row["size_bytes"], row.get("crc32c")]
        digest.update(json.dumps(content, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


@dataclass(frozen=True)
class StoreConfig:
    """Everything that decides the content of a store, and nothing else.

    Two conversions with equal configurations write the same bytes, whatever the number of workers.
    """

    dataset: str
    binning: BinSettings
    read: ReadOptions
    codec: Codec
    shard_samples: int
    seed: int
    frame_shape: tuple[int, int, int, int]
    sensor_hw: tuple[int, int]
    class_names: tuple[str, ...]
    split_rule: str
    source: Mapping[str, Any]
    selection: str = ""
    planes: tuple[str, ...] = ()
    boxes: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the configuration as plain JSON types, named as in the attribute `event_store`."""
        height, width = self.sensor_hw
        planes = {"planes": self.planes} if self.planes else {"polarities": ["off", "on"]}
        plain = {
            "schema": SCHEMA,
            "kind": KIND,
            "dataset": self.dataset,
            "sensor": {"height": height, "width": width} | planes,
            "frame_shape": self.frame_shape,
            "binning": binning_settings(self.binning),
            "read": read_settings(self.read),
            "class_names": self.class_names,
            "split_rule": self.split_rule,
            "permutation": {"seed": self.seed, "rule": "argsort of Philox(key=seed).random_raw(samples)"},
            "codec": self.codec,
            "shard_samples": self.shard_samples,
            "source": dict(self.source),
        }
        if self.selection:
            plain["selection"] = self.selection
        if self.boxes is not None:
            plain["boxes"] = dict(self.boxes)
            plain["permutation"] = {"rule": RECORDED_ORDER}
        return json.loads(json.dumps(plain))

    def hash(self) -> str:
        """Return the first 16 hex digits of the SHA-256 of the configuration as canonical JSON."""
        return sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:16]


def read_settings(read: ReadOptions) -> dict[str, Any]:
    """Return reading options as a store keeps them: without the later ones that are not given."""
    given = asdict(read)
    return {
        name: value for name, value in given.items() if name not in LATER_READ_OPTIONS or value is not None
    }


def binning_settings(binning: BinSettings) -> dict[str, Any]:
    """Return settings of binning as a store keeps them: without the later ones that are not given."""
    given = asdict(binning)
    return {name: value for name, value in given.items() if name not in LATER_BINNING or value is not None}


def stored_binning(binning: Mapping[str, Any]) -> BinSettings:
    """Return the settings of binning of which a store keeps the `binning_settings`."""
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in binning.items()
    }
    return BinSettings(**given)


def stored_read_options(read: Mapping[str, Any]) -> ReadOptions:
    """Return the reading options of which a store keeps the `read_settings`."""
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in read.items()
    }
    return ReadOptions(**given)


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Return one `field: found ..., expected ...` per setting that differs, with dotted names.

    What `found` has beyond the fields of `expected` is no difference, except for settings that are left out
    where they are not given; a field that is absent is null.
    """
    left, right = _flatten(found), _flatten(expected)
    optional = ("read", "binning", "selection")
    absent = {name: None for name in left if name not in right and name.split(".")[0] in optional}
    return [
        f"{name}: found {_shown(left.get(name))}, expected {_shown(value)}"
        for name, value in (right | absent).items()
        if left.get(name) != value
    ]


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."

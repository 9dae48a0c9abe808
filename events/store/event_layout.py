"""What an event store on disk consists of: raw events of all recordings, so that binning needs no decoding.

    name.zarr/
      zarr.json              attribute `event_store` with kind "events"; `complete` set last
      dt/ xp/ y/ high/       flat columns over all recordings, packed as `event_packing` says
      chunk_t0/              time of the first event of each chunk of these
      ms_index/              position of the first event per millisecond, flat over all recordings
      first_event/ n_events/ first_ms/ n_ms/ ms_origin/ label/ split/ status/     one value per recording
      sources.jsonl, manifest.jsonl

A flat column is cut into chunks of CHUNK values and shards of SHARD_CHUNKS chunks; every recording starts on
a shard boundary, so that a shard is written whole by one recording. What a recording does not fill is zero,
and so is what has no chunk in `high`, which most recordings never need.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from events.store.layout import Codec, Column

EVENTS_KIND = "events"
EVENTS_SCHEMA = 2

# Values in a chunk, and chunks in a shard: 4 M events, whose columns take 34 MB before compression.
CHUNK = 1 << 16
SHARD_CHUNKS = 64
SHARD = CHUNK * SHARD_CHUNKS

# Columns of events, and the index by time; the order is that in which shards are written.
PACKED_COLUMNS = ("dt", "xp", "y")
HIGH = "high"
EVENT_COLUMNS = (*PACKED_COLUMNS, HIGH)
MS_INDEX = "ms_index"
FLAT_COLUMNS = (*EVENT_COLUMNS, MS_INDEX)

CHUNK_T0 = "chunk_t0"

# A clock that leaps may span any time: no index is kept past that many milliseconds (4.6 hours).
MOST_MS = 1 << 24

RECORDING_COLUMNS: dict[str, Column] = {
    "label": Column("int32"),
    "split": Column("uint8"),
    "status": Column("uint8"),
    "first_event": Column("int64"),
    "n_events": Column("int64"),
    "first_ms": Column("int64"),
    "n_ms": Column("int64"),
    "ms_origin": Column("int64"),
}


def column_types(sensor_hw: tuple[int, int] | None) -> dict[str, str]:
    """Return the NumPy type of each flat column: the narrowest for a sensor, wide enough for most if unknown.

    An event that needs more is stored all the same, the rest of it in `high`.

    Args:
        sensor_hw: Height and width in pixels.
    """
    height, width = sensor_hw or (1 << 16, 1 << 16)
    return {
        "dt": "int32",
        "xp": "uint8" if 2 * width <= 1 << 8 else "uint16",
        "y": "uint8" if height <= 1 << 8 else "uint16",
        HIGH: "uint64",
        MS_INDEX: "int64",
    }


def blosc_settings(codec: Codec, itemsize: int) -> dict[str, Any]:
    """Return the configuration of the codec `blosc` for values of that many bytes."""
    name, level = ("lz4", 5) if codec == "fast" else ("zstd", 1)
    return {"typesize": itemsize, "cname": name, "clevel": level, "shuffle": "shuffle", "blocksize": 0}


def flat_codecs(codec: Codec, itemsize: int) -> list[dict[str, Any]]:
    """Return the Zarr v3 codecs of one chunk, after `bytes`."""
    return [{"name": "blosc", "configuration": blosc_settings(codec, itemsize)}, {"name": "crc32c"}]


def event_shard_name(number: int) -> str:
    """Return the file name of a shard inside the folder of a flat column."""
    return f"c.{number}"


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Return the first 16 hex digits of the SHA-256 of settings as canonical JSON."""
    return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

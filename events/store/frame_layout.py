"""Reading the metadata of the `frames` array: is it a layout the direct reader knows?"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from events.errors import StoreError
from events.store.shard import Decoder, decoder

INDEX_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]


@dataclass(frozen=True)
class FrameLayout:
    """How the frames lie on disk.

    Attributes:
        shape: (N, T, P, H, W).
        dtype: Type of a value.
        shard_samples: Slots of a shard; 0 where the layout is unknown.
        separator: Between the numbers of a shard's file name.
        decompress: Decompresses one sample; None where only zarr-python can read the array.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    shard_samples: int
    separator: str
    decompress: Decoder | None

    def chunk_name(self, shard: int) -> str:
        """Return the path of a shard's file below the array's folder."""
        return self.separator.join(["c", str(shard), *["0"] * (len(self.shape) - 1)])


def read_frame_layout(array: Path) -> FrameLayout:
    """Read the metadata of an array and say whether the direct reader knows its layout.

    Known: shards of whole samples, one sample per inner chunk, `bytes` then `blosc` or `zstd` then
    `crc32c`, index at the end with its own CRC, values of one or two little-endian bytes, fill value 0.

    Raises:
        StoreError: There is no array of five axes.
    """
    try:
        metadata = json.loads((array / "zarr.json").read_bytes())
        shape, data_type = tuple(metadata["shape"]), metadata["data_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{array}: no metadata of a Zarr v3 array ({error}); convert again with --overwrite"
        ) from None
    if len(shape) != 5 or data_type not in ("uint8", "uint16"):
        raise StoreError(
            f"{array}: found shape {list(shape)}, type {data_type}; expected [N, T, P, H, W], uint8 or uint16"
        )
    slots, decompress = _known_codecs(metadata, shape)
    encoding = metadata["chunk_key_encoding"]
    separator = encoding.get("configuration", {}).get("separator", "/")
    return FrameLayout(
        shape=shape,
        dtype=np.dtype(data_type),
        shard_samples=slots,
        separator=separator,
        decompress=decompress if encoding["name"] == "default" else None,
    )


def _known_codecs(metadata: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, Decoder | None]:
    codecs, grid = metadata["codecs"], metadata["chunk_grid"]
    if grid["name"] != "regular" or [codec["name"] for codec in codecs] != ["sharding_indexed"]:
        return 0, None
    sharding, shard = codecs[0]["configuration"], grid["configuration"]["chunk_shape"]
    one_sample = sharding["chunk_shape"] == [1, *shape[1:]] and shard[1:] == list(shape[1:])
    index_known = sharding.get("index_location", "end") == "end" and sharding["index_codecs"] == INDEX_CODECS
    inner = sharding["codecs"]
    plain = not metadata.get("storage_transformers") and metadata["fill_value"] == 0
    endian = inner[0].get("configuration", {}).get("endian", "little")
    if not (one_sample and index_known and plain and endian == "little"):
        return 0, None
    return shard[0], decoder(inner)

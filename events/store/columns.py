"""Reading the per-sample columns without importing zarr-python, which alone takes half a second."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import zstd

from events.errors import StoreError
from events.store.layout import COLUMN_CODECS, COLUMNS
from events.store.shard import crc_is_right

BYTES_CODECS: list[dict[str, Any]] = [
    {"name": "bytes", "configuration": {"endian": "little"}},
    {"name": "bytes"},
]
CHUNK_NAMES = {"name": "default", "configuration": {"separator": "."}}


def read_columns(store: Path) -> dict[str, np.ndarray]:
    """Return all columns of a store, each of shape [N] or, for `t_edges_us`, [N, T + 1].

    Raises:
        StoreError: A column is absent or damaged.
    """
    return {name: read_column(store / name) for name in COLUMNS}


def read_column(array: Path) -> np.ndarray:
    """Return a column by the path of its array.

    Raises:
        StoreError: It is absent or damaged.
    """
    try:
        metadata = json.loads((array / "zarr.json").read_bytes())
        codecs, shape = metadata["codecs"], tuple(metadata["shape"])
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(
            f"{array}: no metadata of a Zarr v3 array ({error}); convert again with --overwrite"
        ) from None
    one_chunk = metadata["chunk_grid"]["configuration"]["chunk_shape"] == list(shape)
    names_known = metadata["chunk_key_encoding"] == CHUNK_NAMES
    if not (one_chunk and codecs[0] in BYTES_CODECS and codecs[1:] == COLUMN_CODECS and names_known):
        return _read_through_zarr(array)
    chunk = array / ".".join(["c", *["0"] * len(shape)])
    if not chunk.is_file():
        # An array that was never written, or holds nothing but its fill value, has no chunk file.
        return np.full(shape, metadata["fill_value"], metadata["data_type"])
    stored = chunk.read_bytes()
    if not crc_is_right(stored):
        raise StoreError(f"{chunk}: checksum is wrong; run the conversion again to repair it")
    values = np.frombuffer(zstd.decompress(memoryview(stored)[:-4]), metadata["data_type"])
    return values.reshape(shape).copy()


def _read_through_zarr(array: Path) -> np.ndarray:
    import zarr

    return np.asarray(zarr.open_array(array, mode="r")[...])

"""Shards of an event store's flat columns: written whole by one recording, read chunk by chunk."""

import struct
from collections.abc import Sequence
from pathlib import Path

import google_crc32c
import numpy as np
from numcodecs import blosc

from events.errors import StoreError
from events.store.event_layout import CHUNK, SHARD_CHUNKS, blosc_settings, event_shard_name
from events.store.layout import Codec
from events.store.shard import REPAIR, MappedShard, crc_is_right, map_shard, shard_parts, write_atomically


def encode_chunk(values: np.ndarray, codec: Codec) -> bytes:
    """Return CHUNK values as a shard holds them: compressed, with CRC-32C."""
    settings = blosc_settings(codec, values.itemsize)
    body = blosc.compress(
        values, settings["cname"].encode(), settings["clevel"], blosc.SHUFFLE, 0, values.itemsize
    )
    return bytes(body) + struct.pack("<I", google_crc32c.value(body))


def write_flat_shard(path: Path, chunks: Sequence[bytes | None]) -> tuple[int, int]:
    """Write at most SHARD_CHUNKS encoded chunks as a shard file; return its bytes and its CRC-32C.

    It is not synced, which takes longer than all else for small recordings: a conversion that goes on
    compares length and CRC-32C, and all is synced before a store is complete.

    Args:
        path: The file.
        chunks: From `encode_chunk`; None where all values are zero.
    """
    return write_atomically(path, shard_parts(chunks, slots=SHARD_CHUNKS), sync=False)


class FlatColumn:
    """One flat column of a store, read chunk by chunk; keeps the last chunk, and its shard mapped."""

    def __init__(self, folder: Path, dtype: str) -> None:
        """Stand for the column in a folder."""
        self._folder = folder
        self._shard: MappedShard | None = None
        self._shard_number = self._number = -1
        self._values = np.empty(CHUNK, dtype)

    def value(self, position: int) -> int:
        """Return the value at a position."""
        return int(self.chunk(position // CHUNK)[position % CHUNK])

    def chunk(self, number: int) -> np.ndarray:
        """Return the values of a chunk, shape [CHUNK]; the next call overwrites them.

        Raises:
            StoreError: The chunk or its shard is absent or damaged.
        """
        found = self.chunk_or_none(number)
        if found is None:
            raise StoreError(f"{self._path(number)}: chunk {number % SHARD_CHUNKS} is missing; {REPAIR}")
        return found

    def chunk_or_none(self, number: int) -> np.ndarray | None:
        """Return the values of a chunk as `chunk` does, None where all are zero and it is not stored."""
        if number != self._number:
            shard, slot = self._map(number), number % SHARD_CHUNKS
            offset, length = shard.index[slot]
            if length == 0:
                return None
            stored = shard.map[offset : offset + length]
            if not crc_is_right(stored):
                where = f"{self._path(number)}: chunk {slot} at byte {offset}"
                raise StoreError(f"{where} is damaged, its checksum is wrong; {REPAIR}")
            self._number = -1
            blosc.decompress(memoryview(stored)[:-4], self._values)
            self._number = number
        return self._values

    def _map(self, number: int) -> MappedShard:
        if self._shard is None or self._shard_number != number // SHARD_CHUNKS:
            self._shard = map_shard(self._path(number), slots=SHARD_CHUNKS)
            self._shard_number = number // SHARD_CHUNKS
        return self._shard

    def _path(self, number: int) -> Path:
        return self._folder / event_shard_name(number // SHARD_CHUNKS)

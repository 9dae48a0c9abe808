"""Shards of an event store's flat columns: written whole by one recording, read chunk by chunk."""

import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import numpy as np
from numcodecs import blosc

from events.errors import StoreError
from events.store.event_layout import CHUNK, SHARD_CHUNKS, blosc_settings, event_shard_name
from events.store.layout import Codec
from events.store.shard import crc_is_right, index_bytes, parse_index, shard_parts, write_atomically


def encode_chunk(values: np.ndarray, codec: Codec) -> bytes:
    """Return at most CHUNK values as a shard holds them: filled up with zeros, compressed, with CRC-32C."""
    if len(values) < CHUNK:
        values = np.concatenate([values, np.zeros(CHUNK - len(values), values.dtype)])
    settings = blosc_settings(codec, values.itemsize)
    body = blosc.compress(
        np.ascontiguousarray(values),
        settings["cname"].encode(),
        settings["clevel"],
        blosc.SHUFFLE,
        0,
        values.itemsize,
    )
    return bytes(body) + struct.pack("<I", google_crc32c.value(body))


def write_flat_shard(path: Path, values: np.ndarray, codec: Codec) -> tuple[int, int]:
    """Write at most SHARD values as a shard file; return its length in bytes and its CRC-32C.

    It is not synced, which takes longer than all else for small recordings: a conversion that goes on
    compares length and CRC-32C, and all is synced before a store is complete.
    """
    chunks: list[bytes | None] = [
        encode_chunk(values[at : at + CHUNK], codec) for at in range(0, len(values), CHUNK)
    ]
    return write_atomically(path, shard_parts(chunks, slots=SHARD_CHUNKS), sync=False)


class FlatColumn:
    """One flat column of a store, read by position; keeps nothing but the index of the last shard."""

    def __init__(self, folder: Path, dtype: str) -> None:
        """Stand for the column in a folder."""
        self._folder = folder
        self._dtype = np.dtype(dtype)
        self._shard = -1
        self._index: list[tuple[int, int]] = []
        self._chunk = np.empty(CHUNK, self._dtype)

    def pieces(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield the values from `start` to `stop`, cut where chunks end; each overwritten by the next."""
        at = start
        while at < stop:
            inside = at % CHUNK
            count = min(CHUNK - inside, stop - at)
            yield self._load(at // CHUNK)[inside : inside + count]
            at += count

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the values from `start` to `stop`, new memory."""
        parts = [piece.copy() for piece in self.pieces(start, stop)]
        return np.concatenate(parts) if parts else np.empty(0, self._dtype)

    def _load(self, number: int) -> np.ndarray:
        shard, slot = divmod(number, SHARD_CHUNKS)
        path = self._folder / event_shard_name(shard)
        try:
            with path.open("rb") as file:
                if shard != self._shard:
                    self._index, self._shard = _read_index(file, path), shard
                offset, length = self._index[slot]
                file.seek(offset)
                stored = file.read(length)
        except FileNotFoundError:
            raise StoreError(f"{path}: no such shard; convert again with --overwrite") from None
        if length == 0 or len(stored) < length or not crc_is_right(stored):
            raise StoreError(
                f"{path}: chunk {slot} at byte {offset} is missing or its checksum is wrong; "
                "convert again with --overwrite"
            )
        blosc.decompress(memoryview(stored)[:-4], self._chunk)
        return self._chunk


def _read_index(file, path: Path) -> list[tuple[int, int]]:  # type: ignore[no-untyped-def]
    size = path.stat().st_size
    length = index_bytes(SHARD_CHUNKS)
    if size < length:
        raise StoreError(f"{path}: {size} bytes are too few for a shard; convert again with --overwrite")
    file.seek(size - length)
    return parse_index(file.read(length), slots=SHARD_CHUNKS, index_offset=size - length, where=path)

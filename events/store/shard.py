"""Shards as bytes: one file that holds many samples, as the Zarr v3 codec `sharding_indexed` lays it out.

    sample 0 | sample 1 | ... | index | crc32c of the index

Each sample is `bytes -> blosc or zstd -> crc32c`. The index has one (offset, length) pair of little-endian
uint64 per slot, in bytes from the start of the file; both are 2^64 - 1 where a slot is empty.
Source: zarr-specs, "Sharding codec", https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed
"""

import mmap
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc, zstd

from events.errors import StoreError
from events.store.layout import LZ4HC_LEVEL, TEMPORARY_SUFFIX, ZSTD_LEVEL, Codec

# Blosc's own thread pool hangs in forked processes (known to numcodecs) and gains nothing here:
# samples are small, and whoever wants parallel decoding reads from several threads.
blosc.use_threads = False

EMPTY = 2**64 - 1
CRC_BYTES = 4

# CRC-32C of any message followed by its own CRC in little-endian order. One pass over the stored bytes
# checks them without cutting the checksum off. Source: RFC 3720, appendix B.4 (residue, bits inverted).
CRC32C_RESIDUE = 0x48674BC7

Decoder = Callable[[memoryview, np.ndarray], Any]

REPAIR = "run the conversion again to repair it"


def encode_sample(frames: np.ndarray, codec: Codec) -> bytes:
    """Return one sample as a shard holds it: compressed, followed by its CRC-32C.

    Args:
        frames: Shape [T, P, H, W], uint8 or little-endian uint16, C order.
        codec: Preset of `layout.frame_codecs`.
    """
    if codec == "fast":
        itemsize = frames.dtype.itemsize
        shuffle = blosc.NOSHUFFLE if itemsize == 1 else blosc.SHUFFLE
        body = blosc.compress(frames, b"lz4hc", LZ4HC_LEVEL, shuffle, 0, itemsize)
    else:
        body = zstd.compress(frames, ZSTD_LEVEL, False)
    return body + struct.pack("<I", google_crc32c.value(body))


def decoder(codecs: Sequence[Mapping[str, Any]]) -> Decoder | None:
    """Return the function that decompresses a sample without its CRC into an array.

    Args:
        codecs: Inner codecs as in the metadata of the array.

    Returns:
        None where the codecs are not `bytes`, then `blosc` or `zstd`, then `crc32c`.
    """
    names = [codec.get("name") for codec in codecs]
    if names == ["bytes", "blosc", "crc32c"]:
        return blosc.decompress
    if names == ["bytes", "zstd", "crc32c"]:
        return zstd.decompress
    return None


def crc_is_right(stored: bytes) -> bool:
    """Say whether bytes that end with their own CRC-32C are undamaged."""
    return google_crc32c.value(stored) == CRC32C_RESIDUE


def shard_parts(samples: Sequence[bytes | None], *, slots: int) -> list[bytes]:
    """Return the pieces of a shard file in order: each encoded sample, then the index with its CRC.

    Args:
        samples: Encoded samples in slot order; None leaves the slot empty.
        slots: Slots of every shard, at least as many as there are samples.
    """
    index = np.full((slots, 2), EMPTY, dtype="<u8")
    offset = 0
    for slot, sample in enumerate(samples):
        if sample is not None:
            index[slot] = offset, len(sample)
            offset += len(sample)
    body = index.tobytes()
    end = body + struct.pack("<I", google_crc32c.value(body))
    return [sample for sample in samples if sample is not None] + [end]


@dataclass(frozen=True)
class MappedShard:
    """A shard file in memory.

    Attributes:
        map: Its bytes.
        index: Offset and length in bytes of each slot; length 0 where it is empty.
    """

    map: mmap.mmap
    index: list[tuple[int, int]]


def map_shard(path: Path, *, slots: int) -> MappedShard:
    """Map a shard file and check its index.

    Raises:
        StoreError: It is absent, cut off, or its index is damaged.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = size - index_bytes(slots)
            if start < 0:
                raise StoreError(f"{path}: {size} bytes are too few for a shard; {REPAIR}")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; {REPAIR}") from error
    return MappedShard(mapped, parse_index(mapped[start:], slots=slots, index_offset=start, where=path))


def parse_index(stored: bytes, *, slots: int, index_offset: int, where: Path) -> list[tuple[int, int]]:
    """Check a shard's index and return (offset, length) of each slot in bytes; length 0 where it is empty.

    Args:
        stored: Index with its CRC.
        slots: Slots of the shard.
        index_offset: Bytes of the file before the index.
        where: The shard's file, for messages.
    """
    if not crc_is_right(stored):
        raise StoreError(f"{where}: checksum of the shard index is wrong; {REPAIR}")
    values = struct.unpack_from(f"<{2 * slots}Q", stored)
    index = []
    for slot, (offset, length) in enumerate(zip(values[::2], values[1::2], strict=True)):
        if offset == length == EMPTY:
            offset = length = 0
        elif offset + length > index_offset:
            raise StoreError(
                f"{where}: slot {slot} of the shard index points to bytes {offset} to {offset + length}, "
                f"the samples end at {index_offset}; {REPAIR}"
            )
        index.append((offset, length))
    return index


def index_bytes(slots: int) -> int:
    """Return the length of a shard's index with its CRC."""
    return 16 * slots + CRC_BYTES


def file_crc32c(path: Path) -> int:
    """Return the CRC-32C of a file's content."""
    crc = 0
    # A block that stays in the processor's cache between being read and being summed.
    with path.open("rb", buffering=0) as file:
        while block := file.read(1 << 18):
            crc = google_crc32c.extend(crc, block)
    return crc


def write_atomically(path: Path, parts: Iterable[bytes], *, sync: bool = True) -> tuple[int, int]:
    """Write a file so that it is either there in full or not at all, even after a power cut.

    Temporary file beside it, fsync, rename, fsync of the folder. The temporary file is removed when
    anything goes wrong; one left by a killed process is swept at the next start. Without `sync` a kill does
    no harm either, but a power cut may.

    Returns:
        Length in bytes and CRC-32C of what was written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    size, crc = 0, 0
    try:
        with temporary.open("wb", buffering=0) as file:
            for part in parts:
                _write_all(file.fileno(), part)
                size += len(part)
                crc = google_crc32c.extend(crc, part)
            if sync:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if sync:
        sync_folder(path.parent)
    return size, crc


def _write_all(descriptor: int, part: bytes) -> None:
    # One write may take less than it was given (at most 2 GiB, or what still fits on the disk).
    rest = memoryview(part)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Damage what lies within packed or summed parts of a file, and pack it again, so that it is looked at."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable

import lz4.frame
import numpy as np
import zstandard

Change = Callable[[bytes], bytes]
LARGEST_PART = 1 << 16
ZSTD_MAGIC, LZ4_MAGIC = b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"
MAT_HEADER_BYTES, MAT_COMPRESSED = 128, 15


def change_inside(data: bytes, change: Change, rng: np.random.Generator) -> bytes:
    """Return the file with one of its packed parts changed; as it was where there is none that unpacks."""
    try:
        if data[:2] == b"PK":
            return change_zip(data, change, rng)
        if data[:6] == b"MATLAB":
            return change_mat(data, change, rng)
        if data[:10] == b"#!AER-DAT4":
            return change_aedat4(data, change, rng)
    except (ValueError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile, zstandard.ZstdError):
        pass
    except (NotImplementedError, EOFError, OSError):
        pass
    return data


def change_zip(data: bytes, change: Change, rng: np.random.Generator) -> bytes:
    """Change a member of a zip archive; its sum is right again."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()[:16]
        members = {name: archive.open(name).read(LARGEST_PART) for name in names}
    if members:
        chosen = names[int(rng.integers(len(names)))]
        members[chosen] = change(members[chosen])
    stream = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if rng.random() < 0.3 else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def change_mat(data: bytes, change: Change, rng: np.random.Generator) -> bytes:
    """Change a packed variable of a MATLAB file."""
    places, at = [], MAT_HEADER_BYTES
    while at + 8 <= len(data) and len(places) < 64:
        kind, count = struct.unpack_from("<2I", data, at)
        places += [(at, at + 8 + count)] if kind == MAT_COMPRESSED else []
        at += 8 + count
    if not places:
        return data
    start, stop = places[int(rng.integers(len(places)))]
    inner = change(zlib.decompressobj().decompress(data[start + 8 : stop], LARGEST_PART))
    packed = zlib.compress(inner, 1)
    return data[:start] + struct.pack("<2I", MAT_COMPRESSED, len(packed)) + packed + data[stop:]


def change_aedat4(data: bytes, change: Change, rng: np.random.Generator) -> bytes:
    """Change a packed payload of AEDAT 4, and the size before it."""
    magics = (ZSTD_MAGIC, LZ4_MAGIC)
    places = [at for magic in magics if (at := data.find(magic, int(rng.integers(len(data))))) >= 8]
    places = places or [at for magic in magics if (at := data.find(magic)) >= 8]
    if not places:
        return data
    start = places[int(rng.integers(len(places)))]
    stop = start + min(struct.unpack_from("<I", data, start - 4)[0], len(data))
    stored = data[start:stop]
    if stored[:4] == LZ4_MAGIC:
        packed = lz4.frame.compress(change(lz4.frame.LZ4FrameDecompressor().decompress(stored, LARGEST_PART)))
    else:
        inner = zstandard.ZstdDecompressor().stream_reader(stored).read(LARGEST_PART)
        packed = zstandard.ZstdCompressor(level=1).compress(change(inner))
    return data[: start - 4] + struct.pack("<I", len(packed)) + packed + data[stop:]

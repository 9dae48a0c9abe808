"""How the payloads of AEDAT 4 packets are packed: not at all, as an LZ4 frame, or as a Zstandard frame.

No payload may unpack to more than `LARGEST_PAYLOAD` bytes, so that a small file cannot ask for all the memory
there is.
"""

from collections.abc import Callable
from pathlib import Path

from events.errors import EventsError

# The enumeration of IOHeader. Source: iniVation, "AEDAT file formats", AEDAT 4.0.
COMPRESSIONS = ("none", "LZ4", "LZ4_HIGH", "ZSTD", "ZSTD_HIGH")

# Sixteen million events; DV's packets hold 10 ms.
LARGEST_PAYLOAD = 1 << 28
# A byte of LZ4 stands for at most that many.
LZ4_RATIO = 255

# Sources: the LZ4 frame format's page; RFC 8878.
LZ4_MAGIC = 0x184D2204
ZSTD_MAGIC = 0xFD2FB528
MAGICS = {0: 0, 1: LZ4_MAGIC, 2: LZ4_MAGIC, 3: ZSTD_MAGIC, 4: ZSTD_MAGIC}
LZ4_SIZE_FLAG = 0x08


class UnpackError(Exception):
    """The stored bytes of a packet cannot be unpacked."""


Stored = bytes | memoryview

# Gives the payload for stored bytes; the start of the payload where `cut` says that their end is missing.
Unpack = Callable[[Stored, bool], Stored]


def unpacker(compression: int, path: Path) -> Unpack:
    """Return what unpacks the payloads of a file.

    Raises:
        EventsError: The library for it is not installed.
    """
    if compression == 0:
        return lambda stored, cut: stored
    try:
        return lz4_unpacker() if compression in (1, 2) else zstd_unpacker()
    except ImportError as error:
        raise EventsError(
            f"{path}: its packets are packed as {COMPRESSIONS[compression]}, and {error.name} is not "
            f"installed; pip install {error.name}"
        ) from None


def lz4_unpacker() -> Unpack:
    """Return what unpacks LZ4 frames."""
    import lz4.frame

    whole, decompressor = lz4.frame.decompress, lz4.frame.LZ4FrameDecompressor

    def unpack(stored: Stored, cut: bool) -> bytes:
        length = len(stored)
        # The size that a frame may state is what the library allocates.
        bounded = length * LZ4_RATIO <= LARGEST_PAYLOAD
        if length > 14 and stored[4] & LZ4_SIZE_FLAG:
            bounded = True
            size = int.from_bytes(stored[6:14], "little")
            if size > min(LARGEST_PAYLOAD, length * LZ4_RATIO):
                raise UnpackError(f"says that it unpacks to {size} bytes")
        try:
            if bounded and not cut:
                return whole(stored)
            # Stops at a limit, and takes a frame whose end is missing.
            stream = decompressor()
            payload = stream.decompress(stored, LARGEST_PAYLOAD)
        except (RuntimeError, ValueError, MemoryError, EOFError) as error:
            raise UnpackError(str(error)) from None
        if not cut and not stream.eof:
            raise UnpackError(f"ends early or unpacks to more than {LARGEST_PAYLOAD} bytes")
        return payload

    return unpack


def zstd_unpacker() -> Unpack:
    """Return what unpacks Zstandard frames."""
    import zstandard

    # Windows above that are refused, so that a header cannot ask for all the memory there is.
    decompressor = zstandard.ZstdDecompressor(max_window_size=LARGEST_PAYLOAD)

    def unpack(stored: Stored, cut: bool) -> bytes:
        try:
            size = zstandard.frame_content_size(stored)
            if size > LARGEST_PAYLOAD:
                raise UnpackError(f"says that it unpacks to {size} bytes")
            if size > 0 and not cut:
                return decompressor.decompress(stored)
            with decompressor.stream_reader(stored) as stream:
                payload = stream.read(LARGEST_PAYLOAD if cut else LARGEST_PAYLOAD + 1)
        except (zstandard.ZstdError, MemoryError, ValueError) as error:
            raise UnpackError(str(error)) from None
        if len(payload) > LARGEST_PAYLOAD:
            raise UnpackError(f"unpacks to more than {LARGEST_PAYLOAD} bytes")
        return payload

    return unpack

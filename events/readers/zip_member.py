"""The bytes of one file in a zip archive, unpacked into memory that the caller has.

`zipfile` hands out new memory for every read and copies what it has not yet used each time, which takes a
third as long as unpacking. It still finds the members, and reads those packed otherwise than by deflate.
Source: PKWARE, APPNOTE.TXT, 4.3.7 (local file header).
"""

import zipfile
import zlib
from typing import IO

LOCAL_HEADER_BYTES = 30

# Bytes read and unpacked at a time: few enough that what is unpacked stays in the cache.
PACKED_BYTES, UNPACKED_BYTES = 1 << 14, 1 << 15

ENCRYPTED = 1


def open_member(archive: zipfile.ZipFile, file: IO[bytes], name: str) -> "IO[bytes] | DeflatedMember":
    """Open a member of an archive that is also open as a file of its own.

    Raises what `zipfile` raises for damaged archives, then or while it is read.
    """
    found = archive.getinfo(name)
    if found.compress_type == zipfile.ZIP_DEFLATED and not found.flag_bits & ENCRYPTED:
        archive.open(found).close()  # its header is there and says the same
        return DeflatedMember(file, found)
    return archive.open(found)


class DeflatedMember:
    """A deflated member of a zip archive, read once from its first byte to its last."""

    def __init__(self, file: IO[bytes], found: zipfile.ZipInfo) -> None:
        """Stand before the first byte. Members of one archive share its file."""
        file.seek(found.header_offset)
        header = file.read(LOCAL_HEADER_BYTES)
        lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        self._file = file
        self._found = found
        self._at = found.header_offset + LOCAL_HEADER_BYTES + lengths
        self._packed_left = found.compress_size
        self._left = found.file_size
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._crc = 0

    def seek(self, count: int) -> None:
        """Pass over the first bytes; only before anything is read."""
        passed = memoryview(bytearray(min(count, 1 << 20)))
        while count and (done := self.readinto(passed[: min(count, len(passed))])):
            count -= done

    def readinto(self, target: memoryview) -> int:
        """Fill bytes; return how many, fewer only at the end.

        Raises:
            zipfile.BadZipFile: The member has ended, and is not what was packed.
            zlib.error: What was packed is damaged.
        """
        done = 0
        while done < len(target) and self._left:
            piece = self._unpack(min(len(target) - done, self._left, UNPACKED_BYTES))
            target[done : done + len(piece)] = piece
            done += len(piece)
            self._left = self._left - len(piece) if piece else 0
            self._crc = zlib.crc32(piece, self._crc)
            if not self._left and self._crc != self._found.CRC:
                raise zipfile.BadZipFile(f"Bad CRC-32 for file {self._found.filename!r}")
        return done

    def _unpack(self, most: int) -> bytes:
        """Return the next bytes, some but at most so many; none at the end."""
        while not self._inflate.eof:
            packed = self._inflate.unconsumed_tail
            if not packed and self._packed_left:
                self._file.seek(self._at)
                packed = self._file.read(min(PACKED_BYTES, self._packed_left))
                self._at += len(packed)
                self._packed_left = self._packed_left - len(packed) if packed else 0
            piece = self._inflate.decompress(packed, most)
            if piece or not packed:
                return piece
        return b""

"""Formats that are told by their first bytes and have no reader here: named, so that nobody has to guess."""

# Offset, bytes, name. Sources: the formats' own pages; RFC 1952 (gzip), RFC 8878 (Zstandard).
SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"MATLAB 7.3 MAT-file", "a MATLAB 7.3 file; save it with -v7"),
    (0, b"\x1f\x8b", "gzip; unpack it first"),
    (0, b"BZh", "bzip2; unpack it first"),
    (0, b"\xfd7zXZ\x00", "xz; unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard; unpack it first"),
    (0, b"7z\xbc\xaf\x27\x1c", "7-Zip; unpack it first"),
    (0, b"Rar!\x1a\x07", "RAR; unpack it first"),
    (257, b"ustar", "tar; unpack it first"),
    (0, b"version https://git-lfs.github.com", "a Git LFS pointer; fetch the file itself"),
    (0, b"<!DOCTYPE html", "an HTML page, perhaps a failed download"),
    (0, b"<html", "an HTML page, perhaps a failed download"),
    (0, b"\x80\x04\x95", "a Python pickle, which is never loaded"),
)

STARTS = tuple(mark for offset, mark, _ in SIGNATURES if offset == 0)


def name_foreign(head: bytes) -> str | None:
    """Return the name of the format if it is one of those without a reader."""
    if not head.startswith(STARTS) and head[257:262] != b"ustar":
        return None
    for offset, mark, name in SIGNATURES:
        if head[offset : offset + len(mark)] == mark:
            return name
    return None

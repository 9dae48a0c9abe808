"""The container of MATLAB files of level 5: their variables, of which columns of real numbers are unpacked.

128 bytes of header, whose last four are the version and `IM` (little-endian) or `MI`. Then elements: uint32
type and uint32 length, or both as uint16 in one word where at most four bytes follow; padded to eight bytes
but for compressed ones. Type 14 is a variable, type 15 one packed with zlib. A variable has elements of flags
(class in the lowest byte), of dimensions, of its name, and of its numbers, of whatever type.
Source: MathWorks, "MAT-File Format", level 5. SciPy's reader is not used: damaged files can crash it.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from events.errors import DamagedRecording
from events.readers.source import Source

HEADER_BYTES = 128
MATRIX, COMPRESSED = 14, 15
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CLASSES = {1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse"}
COMPLEX = 0x800
# Of a packed variable that many bytes are unpacked to see its name and its dimensions.
PEEK_BYTES = 4096
# Variables of a file that are looked at; those of events have four.
MOST_VARIABLES = 1000


class MatVariable(NamedTuple):
    """A variable.

    Attributes:
        name: Its name.
        kind: `number`, or what else it is.
        shape: Its dimensions.
        position: Byte of the file where it starts.
        length: Bytes of the file it takes, without its tag.
        packed: Whether it is packed with zlib.
        order: Byte order, `<` or `>`.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    position: int
    length: int
    packed: bool
    order: str


def list_variables(source: Source) -> list[MatVariable]:
    """Return the variables of a file.

    Raises:
        DamagedRecording: It ends inside one, or one makes no sense.
    """
    order = {b"IM": "<", b"MI": ">"}.get(source.head[126:128])
    if order is None:
        raise damaged(source, min(126, source.size), "the file ends in its header, or names no byte order")
    found: list[MatVariable] = []
    position = HEADER_BYTES
    while position < source.size and len(found) < MOST_VARIABLES:
        tag = source.read(position, 8)
        if len(tag) < 8:
            raise damaged(source, position, "the file ends inside a tag")
        kind, count = struct.unpack(f"{order}2I", tag)
        if kind not in (MATRIX, COMPRESSED):
            raise damaged(source, position, f"an element of type {kind}, where a variable should be")
        if count > source.size - position - 8:
            raise damaged(source, position, "the file ends inside a variable")
        start = MatVariable("", "", (), position, count, kind == COMPRESSED, order)
        found.append(describe(source, start, unpack(source, start, PEEK_BYTES)))
        position += 8 + count
    return found


def read_numbers(source: Source, variable: MatVariable, largest_bytes: int) -> np.ndarray:
    """Return the numbers of a variable in their order in the file, of whatever type holds them.

    Raises:
        DamagedRecording: There are more or fewer than its dimensions say, or more bytes than `largest_bytes`.
    """
    elements = split(source, variable, unpack(source, variable, largest_bytes))
    for _ in range(3):
        next(elements, None)
    kind, data = next(elements, (0, b""))
    rows = int(np.prod(variable.shape, dtype=np.float64))
    dtype = np.dtype(variable.order + NUMBERS.get(kind, "u1"))
    if kind not in NUMBERS or len(data) != rows * dtype.itemsize:
        raise damaged(source, variable.position, f"{variable.name} has not the {rows} numbers that it claims")
    return np.frombuffer(data, dtype)


def unpack(source: Source, variable: MatVariable, largest_bytes: int) -> bytes:
    """Return the first bytes of what is inside a variable, at most that many."""
    if not variable.packed:
        return source.read(variable.position + 8, min(variable.length, largest_bytes))
    data = source.read(variable.position + 8, variable.length)
    try:
        data = zlib.decompressobj().decompress(data, largest_bytes)
    except zlib.error as error:
        raise damaged(source, variable.position, f"a variable cannot be unpacked: {error}") from None
    if len(data) < 8 or struct.unpack_from(f"{variable.order}I", data)[0] != MATRIX:
        raise damaged(source, variable.position, "a packed element that is no variable")
    return data[8:]


def split(source: Source, variable: MatVariable, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and bytes of the elements inside a variable; the last may be cut off."""
    at = 0
    while at + 8 <= len(data):
        kind, count = struct.unpack_from(f"{variable.order}2I", data, at)
        if kind >> 16:  # both in one word
            kind, count, start, step = kind & 0xFFFF, kind >> 16, at + 4, 8
            if count > 4:
                raise damaged(source, variable.position, f"a short element of {count} bytes")
        else:
            start, step = at + 8, 8 + -(-count // 8) * 8
        yield kind, data[start : start + count]
        at += step


def describe(source: Source, variable: MatVariable, data: bytes) -> MatVariable:
    """Return a variable with its name, dimensions and kind, of which `data` is the beginning."""
    elements = split(source, variable, data)
    _, flags = next(elements, (0, b""))
    _, dimensions = next(elements, (0, b""))
    _, name = next(elements, (0, b""))
    if len(flags) != 8 or not 8 <= len(dimensions) <= 256 or len(dimensions) % 4:
        raise damaged(source, variable.position, "a variable without flags or dimensions")
    word = struct.unpack_from(f"{variable.order}I", flags)[0]
    shape = tuple(int(side) for side in np.frombuffer(dimensions, f"{variable.order}i4"))
    if min(shape) < 0:
        raise damaged(source, variable.position, f"a variable of dimensions {shape}")
    kind = "complex" if word & COMPLEX else "number"
    if not 6 <= word & 0xFF <= 15:
        kind = CLASSES.get(word & 0xFF, f"class {word & 0xFF}")
    return variable._replace(name=name.decode("latin-1"), kind=kind, shape=shape)


def damaged(source: Source, position: int, reason: str) -> DamagedRecording:
    """Return the error for a place in the file."""
    return DamagedRecording(f"{source.path}: byte {position}: {reason}; make or fetch it again")

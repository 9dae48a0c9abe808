"""Prophesee's ECF as its page describes it, in plain Python: for tests, all of its forms on demand."""

import struct

import numpy as np

FORMS = ("yxp", "xp", "masks")


def encode_ecf(events: np.ndarray, form: str) -> bytes:
    """Return one chunk with events, EVENT_DTYPE, times not falling, in one of FORMS."""
    header = len(events) << 2 | (form == "yxp") << 1 | (form == "xp")
    parts = [struct.pack("<I", header), encode_times([int(t) for t in events["t"]])]
    x, y, p = ([int(value) for value in events[name]] for name in "xyp")
    if form == "yxp":
        parts.append(packed([a << 12 | b << 1 | c for a, b, c in zip(y, x, p, strict=True)], 24, 32))
    else:
        parts.append(encode_runs(y, 5))
        if form == "xp":
            parts.append(packed([a << 1 | b for a, b in zip(x, p, strict=True)], 12, 16))
        else:
            parts += [encode_masks(x), encode_runs(p, 7)]
    return b"".join(parts)


def runs(values: list[int]) -> list[tuple[int, int]]:
    """Return each value with how often it stands in a row, at most 65,535 times."""
    found: list[list[int]] = []
    for value in values:
        if found and found[-1][0] == value and found[-1][1] < 65535:
            found[-1][1] += 1
        else:
            found.append([value, 1])
    return [(value, length) for value, length in found]


def encode_times(times: list[int]) -> bytes:
    out = bytearray(struct.pack("<Q", times[0] if times else 0))
    now = times[0] if times else 0
    for time, length in runs(times):
        step = time - now
        now = time
        if step >= 15:
            while step:
                out.append(0xF0 | step & 15)
                step >>= 4
        out += bytes([step << 4 | min(length, 15)]) + (struct.pack("<H", length) if length >= 15 else b"")
    return bytes(out)


def encode_runs(values: list[int], bits: int) -> bytes:
    """Runs in words of 16 bits where their length has 5, of 8 where it has 7."""
    word, most = ("<H", 31) if bits == 5 else ("<B", 127)
    out = b""
    for value, length in runs(values):
        out += struct.pack(word, value << bits | min(length, most))
        out += struct.pack("<H", length) if length >= most else b""
    return out


def encode_masks(x: list[int]) -> bytes:
    out, i = b"", 0
    while i < len(x):
        first, mask = x[i], 0
        i += 1
        for j in range(5):
            if i < len(x) and x[i] == first + j + 1:
                mask |= 16 >> j
                i += 1
        out += struct.pack("<H", first << 5 | mask)
    return out


def packed(values: list[int], bits: int, word_bits: int) -> bytes:
    """Four values of 24 bits in three words of 32, or of 12 in three of 16."""
    out = b""
    for i in range(0, len(values), 4):
        a, b, c, d = [*values[i : i + 4], 0, 0, 0][:4]
        if word_bits == 32:
            words = [a << 8 | b & 0xFF, (b >> 8) << 16 | c & 0xFFFF, (c >> 16) << 24 | d]
            out += struct.pack("<3I", *words)
        else:
            words = [a << 4 | b & 0xF, (b >> 4) << 8 | c & 0xFF, (c >> 8) << 12 | d]
            out += struct.pack("<3H", *words)
    return out

"""Damage bytes at random: flips, extremes, cuts, repeats, parts of other files; in packed parts too."""

import numpy as np

from benchmarks.fuzz.packed import change_inside

EXTREMES = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 40,
    (1 << 63) - 1,
)
LARGEST = 1 << 16


def mutate(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Return `data` with one to eight mutations; `other` gives bytes to put in."""
    for _ in range(int(rng.integers(1, 9))):
        kind = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
        data = kind(data, other, rng)[:LARGEST]
    return data


def place(data: bytes, rng: np.random.Generator) -> int:
    """Return a position, in the first 256 bytes half of the time, for there headers are."""
    stop = len(data) + 1
    return int(rng.integers(min(stop, 256) if rng.random() < 0.5 else stop))


def flip(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    if not data:
        return data
    at = min(place(data, rng), len(data) - 1)
    return data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]


def extreme(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    at, width = place(data, rng), int(rng.choice([1, 2, 4, 8]))
    value = EXTREMES[int(rng.integers(len(EXTREMES)))] & ((1 << 8 * width) - 1)
    order = "little" if rng.random() < 0.5 else "big"
    return data[:at] + value.to_bytes(width, order) + data[at + width :]


def digit(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Change a digit of a text header, or put many in its place."""
    places = [i for i, byte in enumerate(data[:512]) if 48 <= byte <= 57]
    if not places:
        return data
    at = places[int(rng.integers(len(places)))]
    new = bytes([48 + int(rng.integers(10))]) if rng.random() < 0.7 else b"9" * int(rng.integers(1, 30))
    return data[:at] + new + data[at + 1 :]


def cut(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return data[: place(data, rng)]


def drop(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    at = place(data, rng)
    return data[:at] + data[at + int(rng.integers(1, 40)) :]


def repeat(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    at = place(data, rng)
    return data[:at] + data[at : at + int(rng.integers(1, 300))] * int(rng.integers(1, 6)) + data[at:]


def noise(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    at, count = place(data, rng), int(rng.integers(1, 100))
    return data[:at] + rng.bytes(count) + data[at + (count if rng.random() < 0.5 else 0) :]


def splice(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return data[: place(data, rng)] + other[place(other, rng) :]


def inside(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Mutate what a packed part of the file holds."""

    def change(part: bytes) -> bytes:
        return OUTER[int(rng.integers(len(OUTER)))](part, other, rng)[:LARGEST]

    return change_inside(data, change, rng)


OUTER = (flip, flip, extreme, extreme, digit, cut, drop, repeat, noise, splice)
MUTATIONS = (*OUTER, inside, inside)

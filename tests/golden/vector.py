"""One golden vector: the arrays of a file, and comparisons that name what differs."""

import io
from pathlib import Path

import numpy as np


class Mismatch(AssertionError):
    """A golden vector is not reproduced; the message is one line."""


class Vector:
    """The arrays of one golden file. Remembers which were used, so that none is passed over unseen.

    Attributes:
        path: The file.
        name: Its name without suffix.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.stem
        # Through memory: NumPy leaves a damaged file open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            self._arrays = {key: file[key] for key in file.files}
        self._unused = set(self._arrays)

    def __contains__(self, key: str) -> bool:
        return key in self._arrays

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self._arrays:
            raise Mismatch(f"array {key!r} is missing; found {', '.join(sorted(self._arrays))}")
        self._unused.discard(key)
        return self._arrays[key]

    def scalar(self, key: str) -> float:
        """Return a stored number."""
        return float(np.asarray(self[key]).reshape(()))

    def ignore(self, *keys: str) -> None:
        """Leave out, on purpose, arrays that say nothing about the result, such as a seed."""
        self._unused -= set(keys)

    def finish(self) -> None:
        """Raise Mismatch where an array was neither used nor ignored."""
        if self._unused:
            raise Mismatch(
                f"the check for this kind does not know the arrays {', '.join(sorted(self._unused))}"
            )

    def equal(self, key: str, found: np.ndarray) -> None:
        """Raise Mismatch unless `found` equals the stored array exactly, in shape and every value."""
        expected, found = self[key], np.asarray(found)
        if found.shape != expected.shape:
            raise Mismatch(f"{key}: found shape {found.shape}, expected {expected.shape}")
        wrong = np.argwhere(found != expected)
        if len(wrong):
            at = tuple(int(i) for i in wrong[0])
            raise Mismatch(
                f"{key}: {len(wrong)} of {expected.size} values differ, first at {at}: "
                f"found {found[at]}, expected {expected[at]}"
            )

    def close(self, key: str, found: np.ndarray, *, rtol: float, atol: float = 0.0) -> None:
        """Raise Mismatch unless |found - expected| <= atol + rtol |expected|; NaN is never close."""
        expected, found = self[key], np.asarray(found)
        if found.shape != expected.shape and found.size == expected.size == 1:
            found = found.reshape(expected.shape)
        if found.shape != expected.shape:
            raise Mismatch(f"{key}: found shape {found.shape}, expected {expected.shape}")
        error = np.abs(found.astype(np.float64) - expected)
        wrong = np.argwhere(~(error <= atol + rtol * np.abs(expected.astype(np.float64))))
        if len(wrong):
            at = tuple(int(i) for i in wrong[0])
            raise Mismatch(
                f"{key}: {len(wrong)} of {expected.size} values are off, first at {at}: found {found[at]}, "
                f"expected {expected[at]}, rtol {rtol:g}, atol {atol:g}"
            )

    def close_to_largest(self, key: str, found: np.ndarray, *, relative: float) -> None:
        """Raise Mismatch unless every error is at most `relative` times the largest expected entry."""
        self.close(key, found, rtol=0.0, atol=relative * float(np.abs(self[key]).max()))

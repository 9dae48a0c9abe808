"""Run what Numba compiles as Python, so that coverage sees it, with every index checked.

`take_over()` has to come before anything of `events` is imported. Arrays that reach a kernel are then
`Checked`: an index outside, a negative one too, is an IndexError, and numbers are of 64 bits and wrap, as
Numba's are. What a kernel computes is therefore what the compiled one computes, some hundred times slower.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numba
import numpy as np


class Checked:
    """An array of one axis as a kernel sees it; slices and views share its memory."""

    def __init__(self, array: np.ndarray) -> None:
        """Wrap an array, shape [n], or [n, m] whose rows are taken as arrays."""
        self.array = array
        self.wide = np.uint64 if array.dtype == np.uint64 else np.int64 if array.dtype.kind in "iub" else None
        self.fields = array.view(np.recarray) if array.dtype.names else None

    def __len__(self) -> int:
        """Return the elements."""
        return len(self.array)

    @property
    def size(self) -> int:
        """Elements over all axes."""
        return self.array.size

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements of each axis."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the elements."""
        return self.array.dtype

    def view(self, dtype: Any) -> "Checked":
        """Return the same bytes as another type; they must start where a machine may load it."""
        view = self.array.view(dtype)
        if not view.flags.aligned:
            raise IndexError(f"a view of {dtype} that is not aligned")
        return Checked(view)

    def inside(self, index: Any) -> Any:
        """Return the index, or raise where it is outside, on any axis."""
        if isinstance(index, slice):
            start, stop = index.start or 0, len(self) if index.stop is None else index.stop
            if not (0 <= start <= stop <= len(self)) and start < stop:
                raise IndexError(f"slice from {start} to {stop} of {len(self)} elements")
            return index
        if isinstance(index, tuple):
            outside = any(not 0 <= one < size for one, size in zip(index, self.shape, strict=False))
        else:
            outside = not 0 <= index < len(self)
        if outside:
            raise IndexError(f"index {index} of {self.shape} elements")
        return index

    def __getitem__(self, index: Any) -> Any:
        """Return an element in 64 bits, a record, or a part."""
        index = self.inside(index)
        if self.fields is not None and not isinstance(index, slice):
            return self.fields[index]
        found = self.array[index]
        if isinstance(found, np.ndarray):
            return Checked(found)
        return found if self.wide is None else self.wide(found)

    def __setitem__(self, index: Any, value: Any) -> None:
        """Put in an element, without the bits for which there is no room, or a part."""
        index = self.inside(index)
        if isinstance(value, Checked):
            value = value.array
        elif self.wide is not None and not isinstance(index, slice):
            value = np.array(int(value) & (1 << 64) - 1, np.uint64).astype(self.array.dtype)
        self.array[index] = value

    def reshape(self, *shape: Any) -> "Checked":
        """Return the same elements in another shape."""
        return Checked(self.array.reshape(*shape))

    def __array__(self, *arguments: Any, **options: Any) -> np.ndarray:
        """Return the array, for NumPy's functions."""
        return self.array


def wide(value: Any) -> Any:
    """Return an argument as the kernel takes it: numbers in 64 bits, arrays checked."""
    if isinstance(value, np.ndarray):
        return Checked(value)
    if isinstance(value, tuple):
        return type(value)(*map(wide, value)) if hasattr(value, "_fields") else tuple(map(wide, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return np.int64(value)
    return value


def plain(*arguments: Any, **_options: Any) -> Callable[..., Any]:
    """Stand for `numba.njit`, with or without options."""
    if not arguments:
        return plain
    kernel = arguments[0]

    @functools.wraps(kernel)
    def run(*values: Any) -> Any:
        if INSIDE:  # called by a kernel
            return kernel(*values)
        INSIDE.append(True)
        try:
            with np.errstate(all="ignore"):  # integers wrap
                return narrow(kernel(*map(wide, values)))
        finally:
            INSIDE.clear()

    return run


# Not empty while a kernel runs.
INSIDE: list[bool] = []


def narrow(value: Any) -> Any:
    """Return a result as a compiled kernel returns it: numbers as Python's own, arrays as they are."""
    if isinstance(value, Checked):
        return value.array
    if isinstance(value, tuple):
        return tuple(map(narrow, value))
    return value.item() if isinstance(value, np.generic) else value


def count_trailing_zeros(word: np.int64) -> int:
    """Stand for the machine's instruction."""
    bits = int(word) & (1 << 64) - 1
    return (bits & -bits).bit_length() - 1 if bits else 64


def take_over() -> None:
    """Let the kernels of everything imported from here on run as Python."""
    numba.njit = plain
    from events.readers import bits

    bits.count_trailing_zeros = count_trailing_zeros


def kernel_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that a kernel's stand-in runs; any other as it is."""
    return inspect.unwrap(function)

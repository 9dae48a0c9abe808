"""Reading pickles of arrays and plain values without running anything that they name.

CIFAR's published files are pickles of Python 2. A pickle may name any function to be called; here those
that rebuild a NumPy array are known, and everything else is refused.
"""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from events.errors import DamagedRecording

# NumPy's own way to make an empty array that is filled afterwards, wherever this version keeps it.
_RECONSTRUCT: Callable[..., Any] = np.empty(0).__reduce__()[0]  # type: ignore[assignment]


def _bytes_of_text(text: str, encoding: str) -> bytes:
    """Return bytes that Python 3 wrote into a pickle of an old protocol as text."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text in {encoding!r}")
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _bytes_of_text,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not called here")
        return _KNOWN[module, name]


def read_plain_pickle(content: bytes, *, where: Path | str) -> dict[bytes, Any]:
    """Return the dictionary in a pickle of arrays, numbers, text, lists and dictionaries.

    Text of Python 2 comes as bytes, and so do keys.

    Args:
        content: The pickle.
        where: Its file, for messages.

    Raises:
        DamagedRecording: It is none, cut off, no dictionary, or names something else.
    """
    try:
        found = _PlainUnpickler(io.BytesIO(content), encoding="bytes").load()
    except (
        *(pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError),
        *(ImportError, OverflowError, MemoryError),
    ) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise DamagedRecording(
            f"{where}: no pickle of plain arrays, or damaged ({said}); get the file again"
        ) from error
    if not isinstance(found, dict):
        raise DamagedRecording(f"{where}: a pickle of {type(found).__name__}, expected a dictionary")
    return {key.encode() if isinstance(key, str) else key: value for key, value in found.items()}

"""scikit-learn's handwritten digits in MNIST's files: pictures that need no download.

1,797 digits of 8x8 pixels with 17 grey levels (Alpaydin and Kaynak, "Optical recognition of handwritten
digits", UCI Machine Learning Repository, 1998, CC BY 4.0; scikit-learn's `load_digits` is its test part).
"""

from pathlib import Path

import numpy as np

from events.datasets.images.mnist import write_idx
from events.errors import ConfigError, StoreError

# Largest grey level in load_digits.
LARGEST_GREY = 16
# The second of every five pictures of a digit is for testing.
TEST_EVERY, TEST_PLACE = 5, 1


def write_digit_pictures(dst: Path, *, per_class: int | None = None) -> None:
    """Write the digits as data set `mnist`: four files, with the same bytes for the same number.

    Args:
        dst: Folder to write to; made where it is missing.
        per_class: Pictures of each digit, the first ones; None takes all, 174 to 183.

    Raises:
        ConfigError: scikit-learn is missing, or there would be no pictures for testing.
        StoreError: The folder cannot be written.
    """
    if per_class is not None and per_class <= TEST_PLACE:
        raise ConfigError(f"per_class must be at least {TEST_PLACE + 1}, one for testing, got {per_class}")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ConfigError(
            f"handwritten digits need scikit-learn ({error}); pip install scikit-learn"
        ) from None
    found = load_digits()
    images = np.round(found.images * (255 / LARGEST_GREY)).astype(np.uint8)
    in_class = _places_in_class(found.target)
    is_kept = in_class < (len(images) if per_class is None else per_class)
    is_test = in_class % TEST_EVERY == TEST_PLACE
    try:
        dst.mkdir(parents=True, exist_ok=True)
        for stem, chosen in (("train", is_kept & ~is_test), ("t10k", is_kept & is_test)):
            write_idx(dst / f"{stem}-images-idx3-ubyte.gz", images[chosen])
            write_idx(dst / f"{stem}-labels-idx1-ubyte.gz", found.target[chosen])
    except OSError as error:
        raise StoreError(f"{dst}: cannot be written ({error.strerror}); choose another folder") from error


def _places_in_class(labels: np.ndarray) -> np.ndarray:
    """Return of each picture how many of its class come before it, shape [N]."""
    places = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        places[members] = np.arange(len(members))
    return places

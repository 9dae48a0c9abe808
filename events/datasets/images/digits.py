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
# Every fifth digit is for testing: 1,437 remain for training.
TEST_EVERY = 5


def write_digit_pictures(dst: Path) -> None:
    """Write the digits as data set `mnist`: four files, always with the same bytes.

    Raises:
        ConfigError: scikit-learn is missing.
        StoreError: The folder cannot be written.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ConfigError(
            f"handwritten digits need scikit-learn ({error}); pip install scikit-learn"
        ) from None
    found = load_digits()
    images = np.round(found.images * (255 / LARGEST_GREY)).astype(np.uint8)
    is_test = np.arange(len(images)) % TEST_EVERY == TEST_EVERY - 1
    try:
        dst.mkdir(parents=True, exist_ok=True)
        for stem, chosen in (("train", ~is_test), ("t10k", is_test)):
            write_idx(dst / f"{stem}-images-idx3-ubyte.gz", images[chosen])
            write_idx(dst / f"{stem}-labels-idx1-ubyte.gz", found.target[chosen])
    except OSError as error:
        raise StoreError(f"{dst}: cannot be written ({error.strerror}); choose another folder") from error

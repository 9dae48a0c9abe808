"""One picture as a sample: opened, brought to size, and given as a frame of one step."""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from events.binning.settings import BinSettings, Frames
from events.datasets.images.archive import ARCHIVES, archived_planes
from events.datasets.images.folders import ANY_PICTURES, CALTECH101, IMAGENET
from events.errors import ConfigError, DamagedRecording
from events.recording import DEFAULT_CHUNK_EVENTS, FileReport, Recording

FOLDERS = (ANY_PICTURES.dataset, CALTECH101.dataset, IMAGENET.dataset)
# What Pillow raises on files that are damaged or no pictures.
_UNREADABLE = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)


def is_archived(dataset: str) -> bool:
    """Whether a data set's samples are pictures in a few large files, and no files of their own."""
    return dataset in ARCHIVES


def is_pictures(dataset: str) -> bool:
    """Whether a data set's samples are pictures."""
    return is_archived(dataset) or dataset in FOLDERS


def open_picture(dataset: str, root: Path, sample: str) -> "Picture":
    """Open a picture by its name in the listing.

    Raises:
        DamagedRecording: The file is no picture, or damaged.
    """
    if is_archived(dataset):
        return Picture(root / sample, dataset, _as_image(archived_planes(dataset, root, sample)))
    path = root / sample
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except _UNREADABLE as error:
        said = " ".join(str(error).split())
        raise DamagedRecording(f"{path}: no picture, or damaged ({said}); get the file again") from error
    return Picture(path, dataset, image)


def _as_image(planes: np.ndarray) -> Image.Image:
    """Return planes [P, H, W], P 1 or 3, as a picture."""
    pixels = planes[0] if len(planes) == 1 else planes.transpose(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(pixels))


class Picture(Recording):
    """A picture where recordings are expected: it has a size and a report, but no events."""

    def __init__(self, path: Path, dataset: str, image: Image.Image) -> None:
        self.path, self.format, self.facts = path, dataset, {}
        self.sensor_hw = (image.height, image.width)
        self._image = image
        self.report = FileReport(str(path), dataset, bytes_total=len(self.content))

    @property
    def content(self) -> bytes:
        """The pixels as bytes, which is what the checksum of a sample without a file is of."""
        return self._image.tobytes()

    def decode_chunks(self, *, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[np.ndarray]:
        """Raise ConfigError: there are no events to give."""
        raise ConfigError(f"{self.path}: a picture, not a recording of events; convert it to frames")

    def frames(self, binning: BinSettings) -> Frames:
        """Return the picture as a frame of one step, uint8 [1, P, H, W].

        Where a size is asked for, the picture is scaled until it covers it (bilinear, averaging where it
        shrinks) and its middle is cut out.
        """
        image = fit(self._image, binning.size_hw or self.sensor_hw)
        pixels = np.atleast_3d(np.asarray(image, np.uint8)).transpose(2, 0, 1)
        return Frames(np.ascontiguousarray(pixels[None]), np.zeros(2, np.int64), 0, 0)


def fit(image: Image.Image, size_hw: tuple[int, int]) -> Image.Image:
    """Return a picture scaled until it covers a size, and of it the middle; as it is where it fits."""
    height, width = size_hw
    if (image.height, image.width) == (height, width):
        return image
    scale = max(height / image.height, width / image.width)
    scaled = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
    image = image.resize(scaled, Image.Resampling.BILINEAR)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def check_binning(binning: BinSettings) -> None:
    """Raise ConfigError where a setting is about events, of which pictures have none."""
    if binning != BinSettings(frames=1, size_hw=binning.size_hw):
        raise ConfigError(
            "pictures have one frame of uint8 and no events; of binning, give size_hw alone and frames = 1 "
            "(steps are made in training by model.steps)"
        )

"""Recordings of handwritten digits: real pictures, moved before a simulated DVS128.

The pictures are scikit-learn's `load_digits`: 1,797 digits of 8x8 pixels with 17 grey levels, the test
part of Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository,
1998 (CC BY 4.0). The recordings are laid out and named as CIFAR10-DVS is:
`<class>/digits_<class>_<number>.aedat` with the classes zero to nine.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

from events.errors import ConfigError
from events.parallel import run_jobs
from events.synth.folder import claim_folder
from events.synth.motion import MotionSettings, closed_loops
from events.synth.sensor import Pixels, SensorSettings, draw_pixels, record_moving_picture
from events.writers.registry import write_recording

CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# Pictures of the rarest digit in load_digits, the eight.
MOST_PER_CLASS = 174
# Largest grey level in load_digits.
LARGEST_GREY = 16
# Recordings in one job: long enough to hide the cost of handing it out, short enough for progress.
JOB_RECORDINGS = 20
# The settings a folder was made with; hidden, so that it is no part of the data set.
SETTINGS_FILE = ".digits.json"
# Raised whenever the same settings would give other bytes.
RECORDING_VERSION = 1
# Log intensities are rounded to this many decimals, so that the last bit of a machine's logarithm
# changes no event.
LOG_DECIMALS = 4


@dataclass(frozen=True)
class DigitSettings:
    """What is recorded, and how.

    Attributes:
        per_class: Recordings of each digit; each is made from a picture of its own.
        seed: Draws the chip, the order of the pictures, and each recording's noise.
        duration_us: Length of a recording in microseconds.
        step_us: Time between renderings; events have times of their own within it.
        digit_px: Height and width at which a digit and its border are shown, in sensor pixels.
        contrast: Light of the brightest stroke over light of the background.
        sensor: The simulated sensor.
        motion: How the picture moves.
    """

    per_class: int = 100
    seed: int = 0
    duration_us: int = 300_000
    step_us: int = 1_000
    digit_px: int = 120
    contrast: float = 4.0
    sensor: SensorSettings = field(default_factory=SensorSettings)
    motion: MotionSettings = field(default_factory=MotionSettings)

    def __post_init__(self) -> None:
        if not 1 <= self.per_class <= MOST_PER_CLASS:
            raise ConfigError(
                f"per_class must be from 1 to {MOST_PER_CLASS}, got {self.per_class}: every recording shows "
                f"a picture of its own, and scikit-learn has {MOST_PER_CLASS} of the rarest digit"
            )
        if self.step_us < 1 or self.duration_us < self.step_us or self.duration_us % self.step_us:
            raise ConfigError(
                f"duration_us ({self.duration_us}) must be a multiple of step_us ({self.step_us}), "
                "both at least 1"
            )
        if self.digit_px < 1:
            raise ConfigError(f"digit_px must be at least 1, got {self.digit_px}")
        if not self.contrast > 1:
            raise ConfigError(f"contrast must be above 1, got {self.contrast}")
        if max(self.sensor.sensor_hw) > 128:
            raise ConfigError(f"sensor_hw must fit the DVS128's 128x128, got {self.sensor.sensor_hw}")


def recording_path(label: int, number: int) -> str:
    """Return where a recording lies below its folder, as `zero/digits_zero_0.aedat`."""
    name = CLASS_NAMES[label]
    return f"{name}/digits_{name}_{number}.aedat"


def write_digits(
    dst: Path,
    settings: DigitSettings | None = None,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the recordings of all digits; the same settings give the same bytes, however many workers.

    A recording that is there already is kept, so that an interrupted call can be repeated.

    Args:
        dst: Folder to write to; made where it is missing.
        settings: What to record; None takes the defaults.
        workers: Processes to use.
        scheduler: Address of a running Dask scheduler to use instead.
        progress: Called with the number of recordings done and of all, at the start and after each job.

    Raises:
        ConfigError: scikit-learn is missing, or the folder holds recordings of other settings.
        StoreError: The folder cannot be written.
    """
    settings = settings or DigitSettings()
    _digit_images()
    claim_folder(
        dst,
        {"recording_version": RECORDING_VERSION} | asdict(settings),
        note=SETTINGS_FILE,
        growing="per_class",
        folders=CLASS_NAMES,
        may_hold=True,
    )
    every = [(label, number) for number in range(settings.per_class) for label in range(len(CLASS_NAMES))]
    missing = [one for one in every if not (dst / recording_path(*one)).exists()]
    done = len(every) - len(missing)
    if progress is not None:
        progress(done, len(every))
    jobs = [tuple(missing[i : i + JOB_RECORDINGS]) for i in range(0, len(missing), JOB_RECORDINGS)]
    write = partial(write_some_digits, dst=dst, settings=settings)
    for written in run_jobs(write, jobs, workers=workers, scheduler=scheduler):
        done += written
        if progress is not None:
            progress(done, len(every))


def write_some_digits(which: tuple[tuple[int, int], ...], *, dst: Path, settings: DigitSettings) -> int:
    """Write recordings, each given by label and number; return how many. The work of one job."""
    for label, number in which:
        picture = picture_order(label, settings.seed)[number]
        write_recording(
            dst / recording_path(label, number),
            record_digit(label, number, settings),
            format="aedat2",
            sensor_hw=settings.sensor.sensor_hw,
            comments=(f"Simulated by spikeline: load_digits, digit {label}, its picture {picture}",),
        )
    return len(which)


def record_digit(label: int, number: int, settings: DigitSettings) -> np.ndarray:
    """Return the events of one recording, shape [N], EVENT_DTYPE.

    Args:
        label: The digit.
        number: Its recording, from 0 to `settings.per_class` - 1.
        settings: How it is recorded.
    """
    offsets = closed_loops(settings.motion, steps=settings.duration_us // settings.step_us)
    # The picture's window moves against the picture; the smallest offset becomes 0.
    offsets = -offsets + settings.motion.radius_px
    image = _digit_images()[label][picture_order(label, settings.seed)[number]]
    return record_moving_picture(
        log_picture(image, settings),
        offsets,
        step_us=settings.step_us,
        settings=settings.sensor,
        pixels=_chip(settings.sensor, settings.seed),
        rng=np.random.default_rng([settings.seed, label, number]),
    )


def picture_order(label: int, seed: int) -> np.ndarray:
    """Return which picture of a digit each of its recordings shows; no picture comes twice.

    Shuffled, because load_digits is ordered by writer and the last recordings are the ones tested on.
    """
    rng = np.random.default_rng([seed, label])
    return rng.permutation(len(_digit_images()[label]))


def log_picture(image: np.ndarray, settings: DigitSettings) -> np.ndarray:
    """Return a digit as the sensor's surroundings: natural log of light, background 0.

    The digit gets a border of one background pixel, because strokes reach the edge of the 8x8 pictures
    and would end there as if cut; it is enlarged bicubically, as CIFAR10-DVS's pictures were, and lies
    in the middle.

    Args:
        image: Grey levels 0 to 16, shape [8, 8].
        settings: Its size, contrast and motion.

    Returns:
        float32, the sensor's size and a margin for the motion.
    """
    grey = Image.fromarray(np.round(np.pad(image, 1) * 255 / LARGEST_GREY).astype(np.uint8))
    size = (settings.digit_px, settings.digit_px)
    digit = np.asarray(grey.resize(size, Image.Resampling.BICUBIC)) / 255
    margin = 2 * int(np.ceil(settings.motion.radius_px)) + 1
    height, width = settings.sensor.sensor_hw
    # Wide enough for a digit that is larger than the sensor; the middle of it is cut out below.
    canvas = np.zeros((max(height + margin, size[0]), max(width + margin, size[1])))
    top, left = (canvas.shape[0] - size[0]) // 2, (canvas.shape[1] - size[1]) // 2
    canvas[top : top + size[0], left : left + size[1]] = digit
    top, left = (canvas.shape[0] - height - margin) // 2, (canvas.shape[1] - width - margin) // 2
    seen = canvas[top : top + height + margin, left : left + width + margin]
    return np.round(np.log(1 + (settings.contrast - 1) * seen), LOG_DECIMALS).astype(np.float32)


@cache
def _digit_images() -> tuple[np.ndarray, ...]:
    """Return the pictures of each digit, each float64 [n, 8, 8] with grey levels 0 to 16."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ConfigError(
            'the digits come with scikit-learn, which is not installed; pip install "spikeline[train]"'
        ) from error
    digits = load_digits()
    return tuple(digits.images[digits.target == label] for label in range(len(CLASS_NAMES)))


@cache
def _chip(sensor: SensorSettings, seed: int) -> Pixels:
    """Return the thresholds of the one chip that makes all recordings of a seed."""
    return draw_pixels(sensor, np.random.default_rng([seed, len(CLASS_NAMES)]))

"""Seeded augmentation of pictures: operations on one (RandAugment), and two mixed to one (mixup, CutMix).

Sources: Cubuk et al., "RandAugment", NeurIPS 2020, with the operations, sizes and spread of magnitudes that
timm's `rand-m9-n1-mstd0.4-inc1` stands for; Zhang et al., "mixup", ICLR 2018; Yun et al., "CutMix", ICCV
2019. The operations themselves are Pillow's. As in `events.augment`, what happens to a sample depends on
(seed, epoch, sample) alone; whom it is mixed with, on seed, epoch and its place among the samples.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from scipy.special import betaincinv, ndtri

from events.errors import ConfigError

# Grey that comes in where a picture is turned, sheared or moved away.
FILL = 128
# Streams of draws beside those of the order of an epoch, which count from 0 in the lowest word.
_OPERATIONS_STREAM, _MIX_STREAM, _PARTNER_STREAM = 1, 2, 3


@dataclass(frozen=True)
class PictureAugmentSettings:
    """How far a training picture may differ from the one on disk. The default changes nothing.

    Attributes:
        operations: Operations of `OPERATIONS` that a picture goes through, drawn for each picture.
        magnitude: How far they go, from 0 to 10.
        magnitude_deviation: Standard deviation of the magnitude, drawn anew for each operation.
        operation_share: Probability that a drawn operation is done.
        mixup: Alpha of the Beta distribution that the share of a picture mixed with another is drawn from;
            0 does not mix.
        cutmix: The same for the area that a picture keeps where part of another is put into it.
        mix_share: Probability that a picture is mixed at all.
        cutmix_share: Where both are given, the probability that it is CutMix.
        mix_epochs: Epochs with mixed pictures, from the first; None for all.
    """

    operations: int = 0
    magnitude: float = 9.0
    magnitude_deviation: float = 0.0
    operation_share: float = 0.5
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_share: float = 1.0
    cutmix_share: float = 0.5
    mix_epochs: int | None = None

    def __post_init__(self) -> None:
        for name in ("operations", "magnitude_deviation", "mixup", "cutmix"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0 <= self.magnitude <= 10:
            raise ConfigError(f"magnitude must be from 0 to 10, got {self.magnitude}")
        for name in ("operation_share", "mix_share", "cutmix_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is a probability from 0 to 1, got {getattr(self, name)}")
        if self.mix_epochs is not None and self.mix_epochs < 0:
            raise ConfigError(f"mix_epochs must be at least 0, got {self.mix_epochs}; none mixes in all")

    def mixes(self, epoch: int) -> bool:
        """Whether pictures are mixed in an epoch, counted from 0."""
        return self.mixup + self.cutmix > 0 and (self.mix_epochs is None or epoch < self.mix_epochs)


def check_pictures(settings: PictureAugmentSettings, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Raise ConfigError where something is to be done to pictures and samples [T, P, H, W] are none."""
    if not (settings.operations or settings.mixup or settings.cutmix):
        return
    if shape[0] != 1 or shape[1] not in (1, 3) or dtype != np.uint8:
        raise ConfigError(
            f"augment.pictures is for pictures, uint8 of shape [1, 1 or 3, H, W]; found {dtype} of shape "
            f"{list(shape)}; leave it out for recordings"
        )


def _turn(image: Image.Image, level: float) -> Image.Image:
    return image.rotate(30 * level, Image.Resampling.BILINEAR, fillcolor=_grey(image))


def _move(image: Image.Image, *terms: float) -> Image.Image:
    """Return a picture whose pixel (x, y) is that of (a x + b y + c, d x + e y + f) before."""
    bilinear = Image.Resampling.BILINEAR
    return image.transform(image.size, Image.Transform.AFFINE, terms, bilinear, fillcolor=_grey(image))


def _grey(image: Image.Image) -> int | tuple[int, ...]:
    return FILL if image.mode == "L" else (FILL, FILL, FILL)


def _solarize_add(image: Image.Image, level: float) -> Image.Image:
    """Add up to 110 to values below 128."""
    added = int(110 * level)
    return image.point(
        [min(value + added, 255) if value < 128 else value for value in range(256)] * len(image.getbands())
    )


def _enhance(kind: type, image: Image.Image, level: float) -> Image.Image:
    """Return a picture further from, or nearer to, one without what is enhanced; 1 would leave it."""
    return kind(image).enhance(max(0.1, 1 + 0.9 * level))


# Name to a function of a picture and a level. Levels are from 0 to 1; of `SIGNED` from -1 to 1.
OPERATIONS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "invert": lambda image, _: ImageOps.invert(image),
    "posterize": lambda image, level: ImageOps.posterize(image, max(1, 4 - int(4 * level))),
    "solarize": lambda image, level: ImageOps.solarize(image, 256 - int(256 * level)),
    "solarize_add": _solarize_add,
    "rotate": _turn,
    "color": lambda image, level: _enhance(ImageEnhance.Color, image, level),
    "contrast": lambda image, level: _enhance(ImageEnhance.Contrast, image, level),
    "brightness": lambda image, level: _enhance(ImageEnhance.Brightness, image, level),
    "sharpness": lambda image, level: _enhance(ImageEnhance.Sharpness, image, level),
    "shear_x": lambda image, level: _move(image, 1, 0.3 * level, 0, 0, 1, 0),
    "shear_y": lambda image, level: _move(image, 1, 0, 0, 0.3 * level, 1, 0),
    "translate_x": lambda image, level: _move(image, 1, 0, 0.45 * level * image.width, 0, 1, 0),
    "translate_y": lambda image, level: _move(image, 1, 0, 0, 0, 1, 0.45 * level * image.height),
}
SIGNED = (
    *("rotate", "color", "contrast", "brightness", "sharpness"),
    *("shear_x", "shear_y", "translate_x", "translate_y"),
)


def operate(
    pictures: np.ndarray, samples: np.ndarray, *, settings: PictureAugmentSettings, seed: int, epoch: int
) -> None:
    """Put every picture through operations drawn for it.

    Args:
        pictures: Shape [B, P, H, W] with P of 1 or 3, values from 0 to 255 of any number type; written.
        samples: Number of each in the store, shape [B], int64.
        settings: What may be done.
        seed: Seed of the run.
        epoch: Epoch, from 0.
    """
    if settings.operations == 0:
        return
    names = list(OPERATIONS)
    for picture, sample in zip(pictures, samples, strict=True):
        draws = _draws(seed, epoch, int(sample), _OPERATIONS_STREAM, 4 * settings.operations)
        image = None
        for which, done, spread, sign in draws.reshape(-1, 4):
            if done >= settings.operation_share:
                continue
            image = _to_image(picture) if image is None else image
            name = names[int(which * len(names))]
            # Never exactly 0, of which the normal distribution would make minus infinity.
            magnitude = settings.magnitude + settings.magnitude_deviation * float(ndtri(spread + 2.0**-54))
            level = min(max(magnitude, 0.0), 10.0) / 10
            image = OPERATIONS[name](image, -level if name in SIGNED and sign < 0.5 else level)
        if image is not None:
            values = np.asarray(image)
            picture[...] = values.transpose(2, 0, 1) if values.ndim == 3 else values[None]


def _to_image(picture: np.ndarray) -> Image.Image:
    planes = picture.astype(np.uint8)
    return Image.fromarray(planes[0] if len(planes) == 1 else np.ascontiguousarray(planes.transpose(1, 2, 0)))


def mix(
    pictures: np.ndarray,
    others: np.ndarray,
    samples: np.ndarray,
    *,
    settings: PictureAugmentSettings,
    seed: int,
    epoch: int,
) -> np.ndarray:
    """Mix pictures with others, rounding to whole numbers.

    Args:
        pictures: Shape [B, P, H, W], values from 0 to 255 of any number type; written.
        others: What each is mixed with, of that shape and type.
        samples: Number of each picture in the store, shape [B], int64.
        settings: How they are mixed.
        seed: Seed of the run.
        epoch: Epoch, from 0.

    Returns:
        Share of each picture that is its own, from 0 to 1, shape [B], float32.
    """
    shares = np.ones(len(pictures), np.float32)
    for place, sample in enumerate(samples):
        mixed, which, draw, y, x = _draws(seed, epoch, int(sample), _MIX_STREAM, 5)
        if mixed >= settings.mix_share:
            continue
        cut = settings.mixup == 0 or (settings.cutmix > 0 and which < settings.cutmix_share)
        alpha = settings.cutmix if cut else settings.mixup
        share = float(betaincinv(alpha, alpha, draw))
        picture, other = pictures[place], others[place]
        if cut:
            shares[place] = _cut(picture, other, share, y, x)
        else:
            picture[...] = np.rint(
                share * picture.astype(np.float32) + (1 - share) * other.astype(np.float32)
            )
            shares[place] = share
    return shares


def _cut(picture: np.ndarray, other: np.ndarray, share: float, y: float, x: float) -> float:
    """Put a box of another picture, of 1 - share of the area, around (y, x) of 0 to 1; return what is left.

    Of a box that reaches over the border, what lies outside is cut off, so that more may be left.
    """
    H, W = picture.shape[1:]
    side = np.sqrt(1 - share)
    (top, bottom), (left, right) = (
        (max(0, int(centre * size - side * size / 2)), min(size, int(centre * size + side * size / 2)))
        for centre, size in ((y, H), (x, W))
    )
    picture[:, top:bottom, left:right] = other[:, top:bottom, left:right]
    return 1 - (bottom - top) * (right - left) / (H * W)


@lru_cache(maxsize=2)
def partners(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """Return whom each of `count` samples is mixed with in an epoch, each once; int64 [count]."""
    return np.argsort(_draws(seed, epoch, 0, _PARTNER_STREAM, count), kind="stable")


def _draws(seed: int, epoch: int, sample: int, stream: int, count: int) -> np.ndarray:
    """Return numbers from 0 to below 1; raw Philox output is the same in every NumPy version."""
    counter = np.array([0, 0, sample, stream], np.uint64)
    raw = np.random.Philox(key=np.array([seed, epoch], np.uint64), counter=counter).random_raw(count)
    return (raw >> np.uint64(11)) * 2.0**-53

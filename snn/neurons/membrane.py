"""The membrane in few bits: which levels it may take between two steps, and the gradient past them.

After the reset of step t the membrane r is replaced by one of a short list of levels, v = Q(r). The spike of
a step is decided before that, on the full membrane.

Sources: IM-SNN and SpQuant-SNN and their released code (ternary and five levels, stacked surrogate);
LT-SNN's released code (floor to 23 levels, four levels, the chip grid of 1/8 steps).
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from snn.errors import NeuronError, did_you_mean

Rounding = Literal["nearest", "floor"]
MembraneGradient = Literal["stacked", "pass", "zero"]
BumpHeight = Literal["step", "one"]

MOST_LEVELS = 256


@dataclass(frozen=True)
class MembraneSettings:
    """Levels of the membrane between steps; without levels it stays a float.

    Attributes:
        levels: Values it may take, ascending; empty leaves the membrane as it is.
        bits: Bits a level is stored in, the fewest that tell all levels apart; None works them out. Said
            aloud, it guards against a level that was forgotten.
        rounding: `nearest`: the nearest level, of two equally near ones the lower. `floor`: the highest
            level not above r, or else the lowest level.
        gradient: What Q(r) passes on. `stacked`: one bump for each boundary between two levels,
            k sigmoid(k z) (1 - sigmoid(k z)) with z = r - boundary, k = `slope`. `pass`: 1 up to `top`,
            0 above. `zero`: nothing.
        slope: Steepness k of the bumps, above 0; 2 in the releases.
        bump_height: `step`: a bump has the area of the step between its two levels, so that the gradient of
            a fine grid is about 1. `one`: every bump has area 1 (released; the same for levels 1 apart).
        top: Highest r at which the gradient `pass` passes; the threshold 1 in the releases.
    """

    levels: tuple[float, ...] = ()
    bits: int | None = None
    rounding: Rounding = "nearest"
    gradient: MembraneGradient = "stacked"
    slope: float = 2.0
    bump_height: BumpHeight = "step"
    top: float = 1.0

    # Filled below: settings to start from, by name.
    PRESETS: ClassVar[dict[str, "MembraneSettings"]] = {}

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            found = getattr(self, name)
            if found not in choices:
                hint = did_you_mean(found, choices)
                raise NeuronError(
                    f"membrane.{name}: found {found!r}, expected one of {', '.join(choices)}{hint}"
                )
        if not (_is_number(self.slope) and self.slope > 0):
            raise NeuronError(f"membrane.slope: found {self.slope!r}, expected a number above 0")
        if not _is_number(self.top):
            raise NeuronError(f"membrane.top: found {self.top!r}, expected a finite number")
        self._check_levels()

    def _check_levels(self) -> None:
        levels = self.levels
        if not isinstance(levels, tuple):
            raise NeuronError(f"membrane.levels: found {levels!r}, expected a tuple of numbers")
        if not levels:
            if self.bits is not None:
                raise NeuronError(
                    f"membrane.bits: found {self.bits} without levels, expected levels, such as (-1, 0, 1)"
                )
            return
        numbers = 2 <= len(levels) <= MOST_LEVELS and all(map(_is_number, levels))
        if not (numbers and all(low < high for low, high in pairwise(levels))):
            shown = f"{list(levels)}" if len(levels) <= 9 else f"{len(levels)} levels from {levels[0]!r}"
            raise NeuronError(
                f"membrane.levels: found {shown}, expected 2 to {MOST_LEVELS} finite numbers, rising"
            )
        if self.bits is not None and self.bits != fewest_bits(len(levels)):
            raise NeuronError(
                f"membrane.bits: found {self.bits} for {len(levels)} levels, expected "
                f"{fewest_bits(len(levels))}, the fewest that tell them apart"
            )

    @property
    def stored_bits(self) -> int | None:
        """Bits a level is stored in; None for a float membrane."""
        return fewest_bits(len(self.levels)) if self.levels else None

    @property
    def boundaries(self) -> tuple[float, ...]:
        """Where the level changes, ascending: halfway between levels, or at the upper one with `floor`."""
        if self.rounding == "floor":
            return self.levels[1:]
        return tuple((low + high) / 2 for low, high in pairwise(self.levels))

    @property
    def bump_heights(self) -> tuple[float, ...]:
        """Area of the bump at each boundary."""
        steps = pairwise(self.levels)
        return tuple(1.0 if self.bump_height == "one" else high - low for low, high in steps)


def _is_number(found: Any) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found)


def fewest_bits(levels: int) -> int:
    """Return the number of bits that tell so many levels apart."""
    return (levels - 1).bit_length()


CHOICES: dict[str, tuple[str, ...]] = {
    "rounding": get_args(Rounding),
    "gradient": get_args(MembraneGradient),
    "bump_height": get_args(BumpHeight),
}

# The 24 levels of the chip of LT-SNN's authors: steps of 1/8 from -2 to 0.875.
CHIP_LEVELS = tuple(k / 8 for k in range(-16, 8))

MEMBRANES: dict[str, MembraneSettings] = {
    "float": MembraneSettings(),
    # "1.58 bit" of IM-SNN and SpQuant-SNN.
    "ternary": MembraneSettings(levels=(-1.0, 0.0, 1.0)),
    # The default of SpQuant-SNN's release, 2.32 bit.
    "five": MembraneSettings(levels=(-3.0, -2.0, -1.0, 0.0, 1.0)),
    "chip": MembraneSettings(levels=CHIP_LEVELS),
    "chip_published": MembraneSettings(levels=CHIP_LEVELS, bump_height="one"),
    # LT-SNN, October 2022: written by hand there, and 0.25 is missing.
    "floor23": MembraneSettings(
        levels=tuple(level for level in CHIP_LEVELS if level != 0.25), rounding="floor", gradient="pass"
    ),
    "four": MembraneSettings(levels=(-2.0, -1.0, 0.0, 1.0), gradient="pass"),
}
MembraneSettings.PRESETS.update(MEMBRANES)


class Quantise(torch.autograd.Function):
    """Replace a membrane by its level; backward by `gradient`."""

    @staticmethod
    def forward(ctx: Any, r: Tensor, settings: MembraneSettings) -> Tensor:
        """Return the level of every value of r."""
        ctx.save_for_backward(r)
        ctx.settings = settings
        v = torch.full_like(r, settings.levels[0])
        for boundary, level in zip(settings.boundaries, settings.levels[1:], strict=True):
            above = r >= boundary if settings.rounding == "floor" else r > boundary
            v = torch.where(above, level, v)
        return v

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Pass the gradient on."""
        (d,) = grads
        (r,) = ctx.saved_tensors
        return d * membrane_slope(r, ctx.settings), None


def membrane_slope(r: Tensor, settings: MembraneSettings) -> Tensor:
    """Return Q'(r), the stand-in for the derivative of the levels, in the shape of r."""
    if settings.gradient == "zero":
        return torch.zeros_like(r)
    if settings.gradient == "pass":
        return (r <= settings.top).to(r.dtype)
    slope = torch.zeros_like(r)
    for boundary, height in zip(settings.boundaries, settings.bump_heights, strict=True):
        z = torch.sigmoid(settings.slope * (r - boundary))
        slope = slope + height * settings.slope * z * (1 - z)
    return slope


def quantise_membrane(r: Tensor, settings: MembraneSettings) -> Tensor:
    """Return the level of every membrane value; r itself where there are no levels.

    Args:
        r: Membrane after the reset, any shape.
        settings: The levels.
    """
    return Quantise.apply(r, settings) if settings.levels else r

"""Numbers in fixed point, and a batch normalisation folded into one scale and bias per channel.

A number x is kept as the whole number round(x 2^F), of a chosen number of bits, sign included. LT-SNN's
released chip export has 16 bits, 13 of them after the point (-4 to just below 4), and cuts toward zero:
`PUBLISHED`. A scale of 0.01 is then told in 7 bits, so that here, unless told, every layer takes the F that
suits its numbers, and the nearest number.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np

from snn.errors import ExportError

Rounding = Literal["nearest", "zero"]

MOST_BITS = 32
MOST_FRACTION_BITS = 30


@dataclass(frozen=True)
class FixedPoint:
    """How numbers are kept.

    Attributes:
        bits: Of a number, sign included, 2 to 32.
        fraction_bits: Of them after the point, 0 to bits - 1. None takes for each layer, for its scales and
            for its biases on their own, as many as hold the largest: small scales then keep their digits.
        rounding: `nearest`, a half to the even one; `zero`: toward zero, as released.
    """

    bits: int = 16
    fraction_bits: int | None = None
    rounding: Rounding = "nearest"

    def __post_init__(self) -> None:
        if type(self.bits) is not int or not 2 <= self.bits <= MOST_BITS:
            raise ExportError(f"bits: found {self.bits!r}, expected a whole number from 2 to {MOST_BITS}")
        if self.fraction_bits is not None:
            self._check_fraction_bits(self.fraction_bits)
        if self.rounding not in get_args(Rounding):
            raise ExportError(f"rounding: found {self.rounding!r}, expected nearest or zero")

    def _check_fraction_bits(self, found: int) -> None:
        if type(found) is not int or not 0 <= found < self.bits:
            raise ExportError(
                f"fraction bits: found {found!r} of {self.bits} bits, expected 0 to {self.bits - 1}: one bit "
                "is the sign"
            )

    def fraction_bits_for(self, values: np.ndarray) -> int:
        """Return the fraction bits F of these numbers: as told, else the most that hold all, 0 to 30."""
        if self.fraction_bits is not None:
            return self.fraction_bits
        largest = float(np.abs(values).max(initial=0.0))
        # largest = mantissa 2^exponent with a mantissa below 1: exponent bits before the point are enough.
        return int(np.clip(self.bits - 1 - np.frexp(largest)[1], 0, MOST_FRACTION_BITS))


PUBLISHED = FixedPoint(bits=16, fraction_bits=13, rounding="zero")


class Fixed(NamedTuple):
    """Numbers in fixed point.

    Attributes:
        codes: Whole numbers, int64; a code is worth 2^-fraction_bits.
        fraction_bits: F.
        saturated: How many were beyond the range, and are now its end.
        lost: How many were not 0 and became 0.
        exact: Whether all of them are worth what they were.
    """

    codes: np.ndarray
    fraction_bits: int
    saturated: int
    lost: int
    exact: bool

    @property
    def values(self) -> np.ndarray:
        """What the codes are worth, float64."""
        return self.codes / 2.0**self.fraction_bits


def to_fixed(values: np.ndarray, form: FixedPoint) -> Fixed:
    """Return numbers in fixed point; what is beyond the range becomes its end.

    Raises:
        ExportError: A number is not finite.
    """
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        raise ExportError("fixed point: found a number that is not finite, expected finite numbers")
    fraction_bits = form.fraction_bits_for(values)
    scaled = values * 2.0**fraction_bits
    rounded = np.rint(scaled) if form.rounding == "nearest" else np.trunc(scaled)
    lowest, highest = -(2 ** (form.bits - 1)), 2 ** (form.bits - 1) - 1
    codes = np.clip(rounded, lowest, highest).astype(np.int64)
    saturated = int(((rounded < lowest) | (rounded > highest)).sum())
    lost = int(((codes == 0) & (values != 0)).sum())
    exact = bool((codes == scaled).all())
    if form.fraction_bits is None:
        # Zeros at the end of all codes say nothing: powers of two become 1.
        zeros = min(_trailing_zeros(codes), fraction_bits)
        codes, fraction_bits = codes >> zeros, fraction_bits - zeros
    return Fixed(codes, fraction_bits, saturated, lost, exact)


def _trailing_zeros(codes: np.ndarray) -> int:
    """Return how many bits at the end are 0 in all codes; many where all are 0."""
    lowest = int(np.bitwise_or.reduce(np.abs(codes), axis=None))
    return MOST_BITS if lowest == 0 else (lowest & -lowest).bit_length() - 1


def fold_norm(
    weight_scale: np.ndarray,
    conv_bias: np.ndarray,
    *,
    weight: np.ndarray,
    bias: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    eps: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return scale and bias, float64 [O], with which a convolution of codes gives what normalisation gave.

        scale = weight * weight_scale / sqrt(variance + eps)
        bias' = bias + weight * (conv_bias - mean) / sqrt(variance + eps)

    Source: LT-SNN's released chip export, whose S is 1 / weight_scale. There S is left over from training
    while the codes are made with another one, so that the result is off; here one scale belongs to both.

    Args:
        weight_scale: What a code of the weights is worth, a number or one per output channel [O].
        conv_bias: Of the convolution, [O].
        weight: Factor of the normalisation, [O].
        bias: Of the normalisation, [O].
        mean: Running mean, [O].
        variance: Running variance, [O].
        eps: Added to the variance.
    """
    arrays = (weight_scale, conv_bias, weight, bias, mean, variance)
    weight_scale, conv_bias, weight, bias, mean, variance = (np.asarray(a, np.float64) for a in arrays)
    factor = weight / np.sqrt(variance + eps)
    return factor * weight_scale, bias + factor * (conv_bias - mean)


def map_bits(values: np.ndarray) -> int:
    """Return the bits of one map of the largest of these whole numbers, without a sign.

    Bits of the largest size times the places of a map. Source: the size report of LT-SNN's chip export.

    Args:
        values: Whole numbers, shape [..., H, W].
    """
    largest = int(np.abs(values).max(initial=0))
    return largest.bit_length() * values.shape[-2] * values.shape[-1]

"""What a compiled kernel is specialised for, and the numbers it is called with.

Options are compiled in: each combination is a program of its own, kept on disk by Numba. Numbers are
arguments, so that another gamma or slope compiles nothing.
"""

import math
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np

from snn.neurons.membrane import MembraneSettings
from snn.neurons.settings import NeuronSettings

HARD, SOFT, SOFT_VALUE, ALL = range(4)
TRIANGLE, TRIANGLE_MEMBRANE, PRODUCT, PRODUCT_ATAN, IDENTITY, SIGMOID, ATAN = range(7)
MEMBRANE, THRESHOLD, LANE, IGNORE_THRESHOLD = range(4)
SUBTRACT, EXPLICIT, SQUARED, NO_GRADIENT = range(4)
FLOAT, TWO_BUMPS, STACKED, STACKED_WIDE, PASS, ZERO = range(6)

RESETS = {"hard": HARD, "soft": SOFT, "soft_value": SOFT_VALUE, "all": ALL}
SURROGATES = {
    "triangle": TRIANGLE,
    "triangle_membrane": TRIANGLE_MEMBRANE,
    "product": PRODUCT,
    "product_atan": PRODUCT_ATAN,
    "identity": IDENTITY,
    "sigmoid": SIGMOID,
    "atan": ATAN,
}
WIDTHS = {
    "membrane": MEMBRANE,
    "threshold": THRESHOLD,
    "lane": LANE,
    "ignore_threshold": IGNORE_THRESHOLD,
}
THRESHOLD_GRADIENTS = {
    "subtract": SUBTRACT,
    "subtract+explicit": EXPLICIT,
    "subtract+squared": SQUARED,
    "none": NO_GRADIENT,
}

# Up to this exponent all bumps of a stacked gradient come from one exponential, whose own exponent is kept
# within FAR_EXPONENT: the largest float32 is e^88, and e^-25 is nothing beside a bump.
WIDEST_EXPONENT = 30.0
FAR_EXPONENT = 55.0


class Options(NamedTuple):
    """What is compiled in; every field is a small whole number.

    Attributes:
        decay_input: Whether the current is scaled by 1 - decay.
        lanes: Number of lanes.
        cumulative: Whether every lane reached fires.
        at_threshold: Whether a membrane at the threshold reaches it.
        reset: One of HARD, SOFT, SOFT_VALUE, ALL.
        detach_reset: Whether the gradient stops at the spike inside the reset.
        membrane: FLOAT, or the gradient of the levels.
        floor: Whether membranes are rounded down to a level.
        surrogate: TRIANGLE, ...
        width: Unit of the surrogate's width: MEMBRANE, ...
        add_edges: Whether the gradient adds where a lane hands over to the next.
        threshold_gradient: SUBTRACT, ...
        sources: Digest of the text of the kernels. Numba looks for changes in one file only, and would
            go on with programs compiled from older text of the others.
    """

    decay_input: int
    lanes: int
    cumulative: int
    at_threshold: int
    reset: int
    detach_reset: int
    membrane: int
    floor: int
    surrogate: int
    width: int
    add_edges: int
    threshold_gradient: int
    sources: int


class Numbers(NamedTuple):
    """Numbers of a call, all in the dtype of the state; 0, 1 and 2 too, which would else be float64."""

    zero: float
    one: float
    two: float
    rest: float
    smallest_lane: float
    surrogate_scale: float
    gamma: float
    triangle_height: float
    slope: float
    atan_height: float
    atan_width: float
    half: float
    half_pi: float
    quarter: float
    membrane_slope: float
    membrane_top: float
    far: float


class Levels(NamedTuple):
    """The levels of the membrane as arrays in the dtype of the state; empty for a float membrane.

    Attributes:
        values: Shape [L], ascending.
        boundaries: Shape [L - 1], where the level changes.
        heights: Shape [L - 1], height of the bump at each boundary, times its slope.
        factors: Shape [L - 1], exp(slope (centre - boundary)), for STACKED.
        centre: Shape [1], the middle of the boundaries.
        spread: Shape [1], cosh(slope (last boundary - centre)), for TWO_BUMPS.
    """

    values: np.ndarray
    boundaries: np.ndarray
    heights: np.ndarray
    factors: np.ndarray
    centre: np.ndarray
    spread: np.ndarray


@cache
def options(settings: NeuronSettings) -> Options:
    """Return what is compiled for these neurons."""
    return Options(
        decay_input=int(settings.charge == "decay_input"),
        lanes=settings.lanes,
        cumulative=int(settings.firing == "cumulative" and settings.lanes > 1),
        at_threshold=int(settings.fire_rule == ">="),
        reset=RESETS[settings.reset],
        detach_reset=int(settings.detach_reset),
        membrane=_membrane(settings.membrane),
        floor=int(settings.membrane.rounding == "floor"),
        surrogate=SURROGATES[settings.surrogate],
        width=WIDTHS[settings.surrogate_width],
        add_edges=int(settings.upper_edge == "add" and settings.lanes > 1),
        threshold_gradient=THRESHOLD_GRADIENTS[settings.threshold_gradient],
        sources=source_digest(),
    )


@cache
def numbers(settings: NeuronSettings, dtype: str) -> Numbers:
    """Return the numbers of these neurons."""
    values = (
        0.0,
        1.0,
        2.0,
        settings.rest,
        settings.lane_values[0],
        settings.surrogate_scale,
        settings.gamma,
        1 / settings.gamma**2,
        settings.slope,
        settings.slope / 2,
        math.pi * settings.slope / 2,
        0.5,
        math.pi / 2,
        0.25,
        settings.membrane.slope,
        settings.membrane.top,
        FAR_EXPONENT,
    )
    return Numbers(*np.array(values, dtype))


@cache
def levels(membrane: MembraneSettings, dtype: str) -> Levels:
    """Return the levels of a membrane as arrays."""
    if not membrane.levels:
        return Levels(*[np.empty(0, dtype)] * 6)
    boundaries = np.array(membrane.boundaries)
    centre = (boundaries[0] + boundaries[-1]) / 2
    with np.errstate(over="ignore"):
        factors = np.exp(membrane.slope * (centre - boundaries))
        spread = np.cosh(membrane.slope * (boundaries[-1:] - centre))
        heights = membrane.slope * np.array(membrane.bump_heights)
        arrays = (np.array(membrane.levels), boundaries, heights, factors, np.array([centre]), spread)
        return Levels(*[array.astype(dtype) for array in arrays])


def _membrane(membrane: MembraneSettings) -> int:
    if not membrane.levels:
        return FLOAT
    if membrane.gradient != "stacked":
        return {"pass": PASS, "zero": ZERO}[membrane.gradient]
    reach = membrane.slope * (membrane.boundaries[-1] - membrane.boundaries[0]) / 2
    if reach > WIDEST_EXPONENT:
        return STACKED_WIDE
    return TWO_BUMPS if len(membrane.levels) == 3 and len(set(membrane.bump_heights)) == 1 else STACKED


@cache
def source_digest() -> int:
    """Return a number that changes with the text of any file of these kernels."""
    digest = sha256()
    for path in sorted(Path(__file__).parent.glob("numba_cpu*.py")):
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest()[:4], "little")

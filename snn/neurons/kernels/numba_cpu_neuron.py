"""The rules of one neuron at one step, as scalar functions that kernels are built from.

Each follows its namesake in `snn.neurons.reference` and `snn.neurons.surrogate`. The options `o` are known
when a kernel is compiled, so that only the branch that applies is left. Every number must be of the state's
dtype: a bare 1 or 0.5 would make the arithmetic float64.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload, register_jitable

from snn.neurons.kernels.numba_cpu_options import (
    ATAN,
    EXPLICIT,
    HARD,
    IDENTITY,
    IGNORE_THRESHOLD,
    LANE,
    MEMBRANE,
    NO_GRADIENT,
    PRODUCT,
    PRODUCT_ATAN,
    SIGMOID,
    SOFT,
    SOFT_VALUE,
    SQUARED,
    THRESHOLD,
    TRIANGLE_MEMBRANE,
    Numbers,
    Options,
)

# exp(x) = 2^n exp(r) with n = round(x / ln 2); adding 1.5 * 2^23 to a float32 rounds it and leaves n in the
# lowest bits. ln 2 comes in two parts, so that r is exact; exp(r) = 1 + r + r^2 p(r) where |r| <= ln(2) / 2.
# Source of the constants: Moshier's Cephes library, expf.
_PER_LN2 = np.float32(1.44269504088896)
_ROUND = np.float32(12582912.0)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_SMALLEST_EXPONENT = np.float32(-87.0)
_ONE = np.float32(1.0)
_SERIES = tuple(
    np.float32(c)
    for c in (
        5.0000001201e-1,
        1.6666665459e-1,
        4.1665795894e-2,
        8.3334519073e-3,
        1.3981999507e-3,
        1.9875691500e-4,
    )
)
_C2, _C3, _C4, _C5, _C6, _C7 = _SERIES


def exponential(x: float) -> float:
    """Return exp(x)."""
    return math.exp(x)


@register_jitable(forceinline=True)
def _exponential32(x: Any) -> Any:
    """Return exp(x) for x at most 87; below -87, exp(-87). Without calls or branches, for vector units."""
    x = _SMALLEST_EXPONENT if x < _SMALLEST_EXPONENT else x
    rounded = x * _PER_LN2 + _ROUND
    n = rounded - _ROUND
    r = x - n * _LN2_HIGH
    r = r - n * _LN2_LOW
    p = _C7 * r + _C6
    p = p * r + _C5
    p = p * r + _C4
    p = p * r + _C3
    p = p * r + _C2
    p = p * (r * r) + r + _ONE
    power = np.int32((np.float32(rounded).view(np.int32) + 127) << 23)
    return p * np.int32(power).view(np.float32)


@overload(exponential, jit_options={"forceinline": True})
def _exponential(x: float) -> Callable[[float], float]:
    def single(x: float) -> float:
        return _exponential32(x)

    def double(x: float) -> float:
        return math.exp(x)

    # Numba calls this with the type of x.
    return single if x is types.float32 else double


@njit(nogil=True, error_model="numpy", forceinline=True)
def charge(v: float, x: float, decay: float, o: Options, k: Numbers) -> float:
    """Return the membrane before the spike."""
    above_rest = v - k.rest
    if o.decay_input:
        return v + (k.one - decay) * (x - above_rest)
    return decay * above_rest + x + k.rest


@njit(nogil=True, error_model="numpy", forceinline=True)
def reaches(a: float, c: float, o: Options) -> bool:
    """Return whether a membrane reaches a threshold."""
    return a >= c if o.at_threshold else a > c


@njit(nogil=True, error_model="numpy", forceinline=True)
def spike_value(a: float, threshold: float, o: Options, k: Numbers) -> float:
    """Return the spike handed on: the value of the highest lane reached, or of all together."""
    # Written out lane by lane: with a loop in it, the loop over neurons does not run on vector units.
    lane = k.smallest_lane
    value = _with_lane(k.zero, a, lane, threshold, o, k)
    if o.lanes > 1:
        lane = lane + lane
        value = _with_lane(value, a, lane, threshold, o, k)
    if o.lanes > 2:
        lane = lane + lane
        value = _with_lane(value, a, lane, threshold, o, k)
    if o.lanes > 3:
        lane = lane + lane
        value = _with_lane(value, a, lane, threshold, o, k)
    if o.lanes > 4:
        lane = lane + lane
        value = _with_lane(value, a, lane, threshold, o, k)
    if o.lanes > 5:
        lane = lane + lane
        value = _with_lane(value, a, lane, threshold, o, k)
    if o.lanes > 6:
        lane = lane + lane
        value = _with_lane(value, a, lane, threshold, o, k)
    if o.lanes > 7:
        lane = lane + lane
        value = _with_lane(value, a, lane, threshold, o, k)
    return value


@njit(nogil=True, error_model="numpy", forceinline=True)
def _with_lane(value: float, a: float, lane: float, threshold: float, o: Options, k: Numbers) -> float:
    """Return the spike's value once a further lane is looked at."""
    reached = reaches(a, lane * threshold, o)
    if o.cumulative:
        return value + (lane if reached else k.zero)
    return lane if reached else value


@njit(nogil=True, error_model="numpy", forceinline=True)
def has_fired(a: float, value: float, threshold: float, o: Options, k: Numbers) -> bool:
    """Return whether a neuron counts as fired in its reset."""
    # Cumulative lanes are judged by the lowest, which differs for thresholds below 0.
    return reaches(a, k.smallest_lane * threshold, o) if o.cumulative else value > k.zero


@njit(nogil=True, error_model="numpy", forceinline=True)
def reset(a: float, value: float, fired: bool, threshold: float, o: Options, k: Numbers) -> float:
    """Return the membrane after the reset."""
    if o.reset == HARD:
        return k.rest if fired else a
    if o.reset == SOFT:
        return a - threshold * (k.one if fired else k.zero)
    if o.reset == SOFT_VALUE:
        return a - threshold * value
    return k.rest


@njit(nogil=True, error_model="numpy", forceinline=True)
def bell(x: float, k: Numbers) -> float:
    """Return z (1 - z) with z = sigmoid(x)."""
    # The same for x and -x, and exp(-|x|) cannot overflow.
    e = exponential(-abs(x))
    return e / ((k.one + e) * (k.one + e))


@njit(nogil=True, error_model="numpy", forceinline=True)
def bumps_of_two(x: float, spread: float, k: Numbers) -> float:
    """Return the sum of z (1 - z) with z = sigmoid(x - s) and with z = sigmoid(x + s), spread = cosh(s).

    z (1 - z) is 1 / (2 + 2 cosh(x)); the two add up to (1 + cosh(x) c) / (cosh(x) + c)^2, c = spread,
    here with e = exp(-|x|) in place of cosh(x) = (e + 1/e) / 2: it cannot overflow and divides once.
    """
    e = exponential(-abs(x))
    square, twice = k.one + e * e, e + e
    below = square + twice * spread
    return twice * (twice + spread * square) / (below * below)


@njit(nogil=True, error_model="numpy", forceinline=True)
def surrogate(u: float, threshold: float, o: Options, k: Numbers) -> float:
    """Return the surrogate at a distance u from the threshold."""
    if o.surrogate == SIGMOID:
        return k.slope * bell(k.slope * u, k)
    if o.surrogate == ATAN:
        x = k.atan_width * u
        return k.atan_height / (k.one + x * x)
    if o.surrogate == IDENTITY:
        return k.one
    distance = abs(u + threshold) if o.surrogate == TRIANGLE_MEMBRANE else abs(u)
    height = k.gamma - distance
    # NaN must stay NaN: compared the other way round it would become 0.
    triangle = (k.zero if height < k.zero else height) * k.triangle_height
    if o.surrogate == PRODUCT:
        return bell(threshold * u, k) * threshold * triangle
    if o.surrogate == PRODUCT_ATAN:
        x = k.half_pi * threshold * u
        return k.half * threshold / (k.one + x * x) * triangle
    return triangle


@njit(nogil=True, error_model="numpy", forceinline=True)
def edge_slope(
    a: float, lane: float, per_lane: float, threshold: float, per_threshold: float, o: Options, k: Numbers
) -> float:
    """Return the bump of a lane's lower edge, in units of `slope_unit`; `per_` marks the inverse."""
    if o.width == THRESHOLD:
        return surrogate(a * per_threshold - lane, threshold, o, k)
    if o.width == LANE:
        return surrogate(a * per_threshold * per_lane - k.one, threshold, o, k) * per_lane
    if o.width == IGNORE_THRESHOLD:
        return surrogate(a - lane, threshold, o, k)
    return surrogate(a - lane * threshold, threshold, o, k)


@njit(nogil=True, error_model="numpy", forceinline=True)
def slope_unit(per_threshold: float, o: Options, k: Numbers) -> float:
    """Return what the bumps of all lanes are multiplied with: once for their sum is cheaper."""
    if o.width in (THRESHOLD, LANE):
        return k.surrogate_scale * per_threshold
    return k.surrogate_scale


@njit(nogil=True, error_model="numpy", forceinline=True)
def reset_gradients(
    a: float, value: float, fired: bool, threshold: float, rho: float, o: Options, k: Numbers
) -> tuple[float, float, float, float]:
    """Return the gradients of a, the spike's value, fired and the threshold through the reset.

    rho is the gradient of the membrane after the reset, before its levels.
    """
    if o.reset == HARD:
        to_fired = k.zero if o.detach_reset else -rho * (a - k.rest)
        return (k.zero if fired else rho), k.zero, to_fired, k.zero
    if o.reset == SOFT:
        to_fired = k.zero if o.detach_reset else -rho * threshold
        return rho, k.zero, to_fired, (-rho if fired else k.zero)
    if o.reset == SOFT_VALUE:
        to_value = k.zero if o.detach_reset else -rho * threshold
        return rho, to_value, k.zero, -rho * value
    return k.zero, k.zero, k.zero, k.zero


@njit(nogil=True, error_model="numpy", forceinline=True)
def fire_gradients(
    a: float, to_value: float, to_fired: float, threshold: float, per_threshold: float, o: Options, k: Numbers
) -> tuple[float, float]:
    """Return the gradients of a and the threshold through the spikes.

    Lane s gets w_s times the gradient of the value and, one-hot, that of fired; crossing an edge starts a
    lane and, one-hot, ends the one below.
    """
    lane, per_lane = k.smallest_lane, k.one / k.smallest_lane
    slope = edge_slope(a, lane, per_lane, threshold, per_threshold, o, k)
    total = (lane * to_value + to_fired) * slope
    weighted = lane * total
    # What a higher edge gets, in units of its lane: w_s, w_s - w_{s-1} or w_s + w_{s-1}, and of fired 0 or 2.
    share, again = to_value, k.zero
    if not o.cumulative:
        share = to_value * (k.one + k.half if o.add_edges else k.half)
        again = k.two * to_fired if o.add_edges else k.zero
    if o.lanes > 1:
        lane, per_lane = lane + lane, k.half * per_lane
        psi = (lane * share + again) * edge_slope(a, lane, per_lane, threshold, per_threshold, o, k)
        total, weighted = total + psi, weighted + lane * psi
    if o.lanes > 2:
        lane, per_lane = lane + lane, k.half * per_lane
        psi = (lane * share + again) * edge_slope(a, lane, per_lane, threshold, per_threshold, o, k)
        total, weighted = total + psi, weighted + lane * psi
    if o.lanes > 3:
        lane, per_lane = lane + lane, k.half * per_lane
        psi = (lane * share + again) * edge_slope(a, lane, per_lane, threshold, per_threshold, o, k)
        total, weighted = total + psi, weighted + lane * psi
    if o.lanes > 4:
        lane, per_lane = lane + lane, k.half * per_lane
        psi = (lane * share + again) * edge_slope(a, lane, per_lane, threshold, per_threshold, o, k)
        total, weighted = total + psi, weighted + lane * psi
    if o.lanes > 5:
        lane, per_lane = lane + lane, k.half * per_lane
        psi = (lane * share + again) * edge_slope(a, lane, per_lane, threshold, per_threshold, o, k)
        total, weighted = total + psi, weighted + lane * psi
    if o.lanes > 6:
        lane, per_lane = lane + lane, k.half * per_lane
        psi = (lane * share + again) * edge_slope(a, lane, per_lane, threshold, per_threshold, o, k)
        total, weighted = total + psi, weighted + lane * psi
    if o.lanes > 7:
        lane, per_lane = lane + lane, k.half * per_lane
        psi = (lane * share + again) * edge_slope(a, lane, per_lane, threshold, per_threshold, o, k)
        total, weighted = total + psi, weighted + lane * psi
    unit = slope_unit(per_threshold, o, k)
    total, weighted = total * unit, weighted * unit
    edge = to_value + to_fired
    return total, _threshold_gradient(a, edge, total, weighted, threshold, per_threshold, o, k)


@njit(nogil=True, error_model="numpy", forceinline=True)
def _threshold_gradient(
    a: float,
    edge: float,
    total: float,
    weighted: float,
    threshold: float,
    per_threshold: float,
    o: Options,
    k: Numbers,
) -> float:
    """Return the gradient of the threshold through the spikes; see `snn.neurons.surrogate.Fire`."""
    if o.threshold_gradient == NO_GRADIENT or o.width == IGNORE_THRESHOLD:
        return k.zero
    if o.width != MEMBRANE:
        return -total * a * per_threshold
    u = a - threshold
    if o.threshold_gradient == EXPLICIT:
        sigmoid = k.one / (k.one + exponential(-abs(u)))
        return -weighted - (total * sigmoid if u >= k.zero else k.zero)
    if o.threshold_gradient == SQUARED:
        return -weighted - (total * edge if u >= k.zero else k.zero)
    return -weighted

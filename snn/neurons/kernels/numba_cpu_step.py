"""One step of a block of neurons: row by row, so that each loop runs on vector units.

Rows that a loop writes besides others lie in one array, ROW apart: the compiler then sees that they do not
overlap. Other arrays it has to compare before each loop, and it gives up past a few.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import cfunc, intp, njit, typeof, void

from snn.neurons.kernels.numba_cpu_blocks import ROW
from snn.neurons.kernels.numba_cpu_neuron import (
    bell,
    bumps_of_two,
    charge,
    exponential,
    fire_gradients,
    has_fired,
    reset,
    reset_gradients,
    spike_value,
)
from snn.neurons.kernels.numba_cpu_options import (
    FLOAT,
    NO_GRADIENT,
    PASS,
    STACKED,
    TWO_BUMPS,
    ZERO,
    Levels,
    Numbers,
    Options,
)

# Rows of the scratch array, as offsets.
THRESHOLD, DECAY, PER_THRESHOLD, V, R, D, SLOPE = (ROW * i for i in range(7))
GRAD_THRESHOLD, GRAD_DECAY, FACTOR = (ROW * i for i in range(7, 10))
ROWS = 10

# What `run_step` writes beside the membrane.
SPIKES, MEMBRANES = range(2)


@njit(nogil=True, error_model="numpy", forceinline=True)
def run_step(
    x: np.ndarray,
    rows: np.ndarray,
    written: np.ndarray,
    what: int,
    n: int,
    o: Options,
    k: Numbers,
    levels: Levels,
) -> None:
    """Go one step forward from the membrane in V; write the spikes or the membranes it started from."""
    for j in range(n):
        v, threshold = rows[V + j], rows[THRESHOLD + j]
        a = charge(v, x[j], rows[DECAY + j], o, k)
        value = spike_value(a, threshold, o, k)
        fired = has_fired(a, value, threshold, o, k)
        written[j] = value if what == SPIKES else v
        rows[R + j] = reset(a, value, fired, threshold, o, k)
    # Written to V in the loop above, the membranes would keep it from running on vector units.
    if o.membrane == FLOAT:
        for j in range(n):
            rows[V + j] = rows[R + j]
    else:
        _quantise(rows, n, o, levels)


@njit(nogil=True, error_model="numpy", forceinline=True)
def _quantise(rows: np.ndarray, n: int, o: Options, levels: Levels) -> None:
    """Write the levels of the membranes in R into V."""
    lowest = levels.values[0]
    if o.membrane == TWO_BUMPS:
        # The usual three levels in one loop instead of three.
        first, second = levels.boundaries[0], levels.boundaries[1]
        middle, highest = levels.values[1], levels.values[2]
        for j in range(n):
            r = rows[R + j]
            low = middle if (r >= first if o.floor else r > first) else lowest
            rows[V + j] = highest if (r >= second if o.floor else r > second) else low
        return
    for j in range(n):
        rows[V + j] = lowest
    for i in range(levels.boundaries.size):
        boundary, level = levels.boundaries[i], levels.values[i + 1]
        for j in range(n):
            r = rows[R + j]
            above = r >= boundary if o.floor else r > boundary
            rows[V + j] = level if above else rows[V + j]


@njit(nogil=True, error_model="numpy", forceinline=True)
def pass_levels(
    x: np.ndarray, before: np.ndarray, rows: np.ndarray, n: int, o: Options, k: Numbers, levels: Levels
) -> None:
    """Take the gradient in D from behind the levels of the membrane to before them."""
    if o.membrane == ZERO:
        for j in range(n):
            rows[D + j] = k.zero * rows[D + j]
        return
    for j in range(n):
        threshold = rows[THRESHOLD + j]
        a = charge(before[j], x[j], rows[DECAY + j], o, k)
        value = spike_value(a, threshold, o, k)
        rows[R + j] = reset(a, value, has_fired(a, value, threshold, o, k), threshold, o, k)
        rows[SLOPE + j] = k.zero
    if o.membrane == PASS:
        for j in range(n):
            rows[D + j] = rows[D + j] * (k.one if rows[R + j] <= k.membrane_top else k.zero)
        return
    if o.membrane == STACKED:
        _add_bumps_by_factors(rows, n, k, levels)
    else:
        _add_bumps(rows, n, k, levels)
    for j in range(n):
        rows[D + j] = rows[D + j] * rows[SLOPE + j]


@njit(nogil=True, error_model="numpy", forceinline=True)
def _add_bumps_by_factors(rows: np.ndarray, n: int, k: Numbers, levels: Levels) -> None:
    """Add the bump of every boundary at R to SLOPE, all from one exponential per neuron.

    z (1 - z) with z = sigmoid(slope (r - b)) is e / (1 + e)^2 with e = exp(slope (r - c)) exp(slope (c - b)).
    """
    centre = levels.centre[0]
    far = k.far
    for j in range(n):
        distance = k.membrane_slope * (rows[R + j] - centre)
        distance = far if distance > far else distance
        rows[FACTOR + j] = exponential(-far if distance < -far else distance)
    for i in range(levels.boundaries.size):
        factor, height = levels.factors[i], levels.heights[i]
        for j in range(n):
            e = rows[FACTOR + j] * factor
            rows[SLOPE + j] = rows[SLOPE + j] + height * e / ((k.one + e) * (k.one + e))


@njit(nogil=True, error_model="numpy", forceinline=True)
def _add_bumps(rows: np.ndarray, n: int, k: Numbers, levels: Levels) -> None:
    """Add the bump of every boundary at R to SLOPE."""
    for i in range(levels.boundaries.size):
        boundary, height = levels.boundaries[i], levels.heights[i]
        for j in range(n):
            rows[SLOPE + j] = rows[SLOPE + j] + height * bell(k.membrane_slope * (rows[R + j] - boundary), k)


@njit(nogil=True, error_model="numpy", forceinline=True)
def step_back(
    x: np.ndarray,
    before: np.ndarray,
    grad: np.ndarray,
    rows: np.ndarray,
    grad_x: np.ndarray,
    n: int,
    o: Options,
    k: Numbers,
    levels: Levels,
) -> None:
    """Go one step back: from the gradient of the membrane in D and of the spikes to those of x and D."""
    if o.membrane == TWO_BUMPS:
        centre, spread, height = levels.centre[0], levels.spread[0], levels.heights[0]
    else:
        centre = spread = height = k.zero
    for j in range(n):
        threshold, decay, rho = rows[THRESHOLD + j], rows[DECAY + j], rows[D + j]
        per_threshold = rows[PER_THRESHOLD + j]
        v = before[j]
        a = charge(v, x[j], decay, o, k)
        value = spike_value(a, threshold, o, k)
        fired = has_fired(a, value, threshold, o, k)
        if o.membrane == TWO_BUMPS:
            r = reset(a, value, fired, threshold, o, k)
            rho = rho * height * bumps_of_two(k.membrane_slope * (r - centre), spread, k)
        by_reset, to_value, to_fired, threshold_by_reset = reset_gradients(
            a, value, fired, threshold, rho, o, k
        )
        by_spike, threshold_by_spike = fire_gradients(
            a, grad[j] + to_value, to_fired, threshold, per_threshold, o, k
        )
        grad_a = by_reset + by_spike
        if o.threshold_gradient != NO_GRADIENT:
            by_threshold = threshold_by_reset + threshold_by_spike
            rows[GRAD_THRESHOLD + j] = rows[GRAD_THRESHOLD + j] + by_threshold
        above_rest = v - k.rest
        by_decay = above_rest - x[j] if o.decay_input else above_rest
        rows[GRAD_DECAY + j] = rows[GRAD_DECAY + j] + grad_a * by_decay
        rows[D + j] = decay * grad_a
        grad_x[j] = (k.one - decay) * grad_a if o.decay_input else grad_a


@cache
def compiled_step(options: Options, dtype: str) -> Callable[..., None]:
    """Return `run_step` for these options, for float32 or float64, as a function to hand to a kernel."""
    o = options
    array, numbers, levels = _argument_types(dtype)

    signature = void(array, intp, array, array, intp, intp, intp, numbers, levels)

    @cfunc(signature, cache=True, error_model="numpy")
    def step(
        x: np.ndarray,
        x_at: int,
        rows: np.ndarray,
        written: np.ndarray,
        at: int,
        what: int,
        n: int,
        k: Numbers,
        levels: Levels,
    ) -> None:
        run_step(x[x_at : x_at + n], rows, written[at : at + n], what, n, o, k, levels)

    return step


@cache
def compiled_step_back(options: Options, dtype: str) -> Callable[..., None]:
    """Return `pass_levels` and `step_back` in one, for these options, for float32 or float64."""
    o = options
    array, numbers, levels = _argument_types(dtype)

    signature = void(array, intp, array, intp, array, intp, array, array, intp, intp, numbers, levels)

    @cfunc(signature, cache=True, error_model="numpy")
    def back(
        x: np.ndarray,
        x_at: int,
        before: np.ndarray,
        before_at: int,
        grad: np.ndarray,
        grad_at: int,
        rows: np.ndarray,
        grad_x: np.ndarray,
        at: int,
        n: int,
        k: Numbers,
        levels: Levels,
    ) -> None:
        current, v, above = x[x_at : x_at + n], before[before_at : before_at + n], grad[grad_at : grad_at + n]
        if o.membrane != FLOAT and o.membrane != TWO_BUMPS:
            pass_levels(current, v, rows, n, o, k, levels)
        step_back(current, v, above, rows, grad_x[at : at + n], n, o, k, levels)

    return back


def _argument_types(dtype: str) -> tuple[Any, Any, Any]:
    """Return Numba's types of a row, of `Numbers` and of `Levels`."""
    one = np.dtype(dtype).type(1)
    row = np.ones(1, dtype)
    return typeof(row), typeof(Numbers(*[one] * len(Numbers._fields))), typeof(Levels(*[row] * 6))

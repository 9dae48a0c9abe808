"""The two loops of a launch: over blocks of neurons and, per block, over all steps, forward or back.

The neurons themselves come in as compiled functions, see `snn.neurons.kernels.numba_cpu_step`. So these
loops are compiled once for all neurons, and again when the text of a kernel file changes, of which
`sources` is the digest. Arrays are flat, as they lie in memory: y [T N], v [N] or empty
for rest, threshold and decay [1] or [C], scale and shift [C] or empty, mask [T B C] or empty, out [T M],
final [N], checkpoints [(chunks - 1) N]. pooling is 0 for none, 1 for average, 2 for maximum.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numba import njit

from snn.neurons.kernels.launch import CHUNK
from snn.neurons.kernels.numba_cpu_blocks import COLUMNS, LINES, ROW, START, Geometry
from snn.neurons.kernels.numba_cpu_options import Levels, Numbers
from snn.neurons.kernels.numba_cpu_rows import (
    add_sums,
    add_to_channels,
    block_size,
    fill,
    gather,
    input_gradient,
    multiply,
    pool,
    scatter,
    set_row,
    transform,
    unpool,
)
from snn.neurons.kernels.numba_cpu_step import (
    DECAY,
    GRAD_DECAY,
    GRAD_THRESHOLD,
    MEMBRANES,
    PER_THRESHOLD,
    ROWS,
    SPIKES,
    THRESHOLD,
    D,
    V,
)

# Rows beside those of the neurons, each an array of its own; the last four are an InputGradient's.
X, Y, GRAD_OUT, GRAD_X, SPIKE, SCALE, SHIFT, MASK, MEAN, SUM_G, SUM_GY = range(11)
G_SCALE, Y_SCALE, G_MEAN, G_SHIFT = range(11, 15)
OTHER_ROWS = 15


@njit(nogil=True, error_model="numpy")
def fill_affine(
    scale: np.ndarray, shift: np.ndarray, other: np.ndarray, block: np.ndarray, g: Geometry
) -> None:
    """Fill the rows of the affine map, if there is one."""
    if scale.size:
        fill(scale, 0, 0, other[SCALE], block, g)
        fill(shift, 0, 0, other[SHIFT], block, g)


@njit(nogil=True, error_model="numpy")
def start_row(
    v: np.ndarray, offset: int, rows: np.ndarray, block: np.ndarray, g: Geometry, k: Numbers
) -> None:
    """Fill V with the membranes at `offset`, or with rest."""
    if v.size:
        gather(v, offset, block, rows[V:])
    else:
        set_row(rows[V:], k.rest, block_size(block))


@njit(nogil=True, error_model="numpy")
def y_of_step(y: np.ndarray, t: int, other: np.ndarray, block: np.ndarray, n: int, g: Geometry) -> np.ndarray:
    """Return y of a block at a step: where it lies, or gathered from several places."""
    if block[LINES] * block[COLUMNS] == 1:
        start = t * g.neurons + block[START]
        return y[start : start + n]
    row = other[Y, :n]
    gather(y, t * g.neurons, block, row)
    return row


@njit(nogil=True, error_model="numpy")
def x_of_step(
    y_row: np.ndarray,
    mask: np.ndarray,
    t: int,
    affine: bool,
    other: np.ndarray,
    block: np.ndarray,
    n: int,
    g: Geometry,
) -> np.ndarray:
    """Return the current of a block at a step: y itself where nothing is done to it."""
    masked = mask.size > 0
    if masked:
        fill(mask, t * g.batch * g.channels, g.channels, other[MASK], block, g)
    if not (affine or masked):
        return y_row
    x = other[X, :n]
    transform(y_row, x, other[SCALE], other[SHIFT], other[MASK], affine, masked, n)
    return x


@cache
def forward_loop(sources: int) -> Callable[..., None]:
    """Return the program that runs blocks `first` to `last` forward."""

    @njit(nogil=True, cache=True, error_model="numpy")
    def run(
        step: Callable[..., None],
        y: np.ndarray,
        v: np.ndarray,
        threshold: np.ndarray,
        decay: np.ndarray,
        scale: np.ndarray,
        shift: np.ndarray,
        mask: np.ndarray,
        out: np.ndarray,
        final: np.ndarray,
        checkpoints: np.ndarray,
        pooling: int,
        blocks: np.ndarray,
        g: Geometry,
        k: Numbers,
        levels: Levels,
        first: int,
        last: int,
    ) -> None:
        _ = sources
        rows, other = np.empty(ROWS * ROW, y.dtype), np.empty((OTHER_ROWS, ROW), y.dtype)
        for b in range(first, last):
            block = blocks[b]
            n = block_size(block)
            fill(threshold, 0, 0, rows[THRESHOLD:], block, g)
            fill(decay, 0, 0, rows[DECAY:], block, g)
            fill_affine(scale, shift, other, block, g)
            start_row(v, 0, rows, block, g, k)
            for t in range(g.steps):
                if t and t % CHUNK == 0:
                    scatter(rows[V:], checkpoints, (t // CHUNK - 1) * g.neurons, block)
                y_row = y_of_step(y, t, other, block, n, g)
                x = x_of_step(y_row, mask, t, scale.size > 0, other, block, n, g)
                if pooling:
                    step(x, rows, other[SPIKE], SPIKES, n, k, levels)
                    pool(other[SPIKE], out, t * g.outs, block, pooling == 2, g, k)
                else:
                    # Without a pool a block is always one piece, and out is laid out as y.
                    step(x, rows, out[t * g.neurons + block[START] :], SPIKES, n, k, levels)
            scatter(rows[V:], final, 0, block)

    return run


@njit(nogil=True, error_model="numpy")
def fill_backward(
    threshold: np.ndarray,
    decay: np.ndarray,
    mean: np.ndarray,
    formula: np.ndarray,
    grad_final: np.ndarray,
    rows: np.ndarray,
    other: np.ndarray,
    block: np.ndarray,
    n: int,
    g: Geometry,
    k: Numbers,
) -> None:
    """Fill the rows that a block keeps while going back: parameters, sums at 0, the membrane's gradient."""
    fill(threshold, 0, 0, rows[THRESHOLD:], block, g)
    fill(decay, 0, 0, rows[DECAY:], block, g)
    for j in range(n):
        rows[PER_THRESHOLD + j] = k.one / rows[THRESHOLD + j]
    set_row(rows[GRAD_THRESHOLD:], k.zero, n)
    set_row(rows[GRAD_DECAY:], k.zero, n)
    if mean.size:
        fill(mean, 0, 0, other[MEAN], block, g)
        set_row(other[SUM_G], k.zero, n)
        set_row(other[SUM_GY], k.zero, n)
    for i in range(formula.shape[0]):
        fill(formula[i], 0, 0, other[G_SCALE + i], block, g)
    if grad_final.size:
        gather(grad_final, 0, block, rows[D:])
    else:
        set_row(rows[D:], k.zero, n)


@njit(nogil=True, error_model="numpy")
def grad_of_step(
    grad_out: np.ndarray,
    t: int,
    pooling: int,
    step: Callable[..., None],
    x: np.ndarray,
    before: np.ndarray,
    rows: np.ndarray,
    other: np.ndarray,
    block: np.ndarray,
    n: int,
    g: Geometry,
    k: Numbers,
    levels: Levels,
) -> np.ndarray:
    """Return the gradient of a block's spikes at a step: where it lies, or handed back through the pool."""
    if not pooling:
        start = t * g.neurons + block[START]
        return grad_out[start : start + n]
    if pooling == 2:
        # The membranes in V are not needed any more once a chunk has been run again.
        for j in range(n):
            rows[V + j] = before[j]
        step(x, rows, other[SPIKE], SPIKES, n, k, levels)
    grad = other[GRAD_OUT, :n]
    unpool(grad_out, t * g.outs, block, other[SPIKE], grad, pooling == 2, g, k)
    return grad


@cache
def backward_loop(sources: int) -> Callable[..., None]:
    """Return the program that goes back through groups `first` to `last` of blocks.

    grad_out is like out, grad_final like final or empty for zero, grad_y like y or empty where only sums are
    wanted, grad_v like v. formula is empty or holds the terms of an `InputGradient`, shape [4, C]; mean is
    empty or [C]. The sums of a group are written to its line of sum_threshold, ..., float64.
    """

    @njit(nogil=True, cache=True, error_model="numpy")
    def run(
        step: Callable[..., None],
        step_back: Callable[..., None],
        y: np.ndarray,
        v: np.ndarray,
        threshold: np.ndarray,
        decay: np.ndarray,
        scale: np.ndarray,
        shift: np.ndarray,
        mask: np.ndarray,
        checkpoints: np.ndarray,
        grad_out: np.ndarray,
        grad_final: np.ndarray,
        formula: np.ndarray,
        mean: np.ndarray,
        grad_y: np.ndarray,
        grad_v: np.ndarray,
        sum_threshold: np.ndarray,
        sum_decay: np.ndarray,
        sum_g: np.ndarray,
        sum_gy: np.ndarray,
        pooling: int,
        blocks: np.ndarray,
        g: Geometry,
        k: Numbers,
        levels: Levels,
        first: int,
        last: int,
    ) -> None:
        _ = sources
        rows, other = np.empty(ROWS * ROW, y.dtype), np.empty((OTHER_ROWS, ROW), y.dtype)
        history = np.empty(min(g.steps, CHUNK) * ROW, y.dtype)
        groups = sum_threshold.shape[0]
        for group in range(first, last):
            for b in range(group * blocks.shape[0] // groups, (group + 1) * blocks.shape[0] // groups):
                block = blocks[b]
                n = block_size(block)
                direct = grad_y.size > 0 and block[LINES] * block[COLUMNS] == 1
                # Not a power of two apart, see ROW.
                pitch = (n + 31) // 16 * 16
                fill_affine(scale, shift, other, block, g)
                fill_backward(threshold, decay, mean, formula, grad_final, rows, other, block, n, g, k)
                for chunk in range((g.steps - 1) // CHUNK, -1, -1):
                    begin, end = chunk * CHUNK, min(chunk * CHUNK + CHUNK, g.steps)
                    if chunk:
                        start_row(checkpoints, (chunk - 1) * g.neurons, rows, block, g, k)
                    else:
                        start_row(v, 0, rows, block, g, k)
                    # First forward, keeping the membrane before each step, then back.
                    for i in range(2 * (end - begin)):
                        forward = i < end - begin
                        t = begin + i if forward else end - 1 - (i - (end - begin))
                        before = history[(t - begin) * pitch : (t - begin) * pitch + n]
                        y_row = y_of_step(y, t, other, block, n, g)
                        x = x_of_step(y_row, mask, t, scale.size > 0, other, block, n, g)
                        if forward:
                            step(x, rows, before, MEMBRANES, n, k, levels)
                            continue
                        grad = grad_of_step(
                            grad_out, t, pooling, step, x, before, rows, other, block, n, g, k, levels
                        )
                        offset = t * g.neurons + block[START]
                        grad_x = grad_y[offset : offset + n] if direct else other[GRAD_X, :n]
                        step_back(x, before, grad, rows, grad_x, n, k, levels)
                        if mask.size:
                            multiply(grad_x, other[MASK], n)
                        if mean.size:
                            add_sums(grad_x, y_row, other[MEAN], other[SUM_G], other[SUM_GY], n)
                        if formula.size:
                            input_gradient(
                                grad_x,
                                y_row,
                                other[G_SCALE],
                                other[Y_SCALE],
                                other[G_MEAN],
                                other[G_SHIFT],
                                n,
                            )
                        if grad_y.size and not direct:
                            scatter(grad_x, grad_y, t * g.neurons, block)
                scatter(rows[D:], grad_v, 0, block)
                add_to_channels(rows[GRAD_THRESHOLD:], sum_threshold[group], block, g)
                add_to_channels(rows[GRAD_DECAY:], sum_decay[group], block, g)
                if mean.size:
                    add_to_channels(other[SUM_G], sum_g[group], block, g)
                    add_to_channels(other[SUM_GY], sum_gy[group], block, g)

    return run

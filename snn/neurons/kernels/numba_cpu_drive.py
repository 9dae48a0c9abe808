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
    add_to_channels,
    block_size,
    fill,
    gather,
    pool,
    scatter,
    set_row,
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

# Rows beside those of the neurons. Those that one loop reads and writes lie side by side, others that it may
# be given instead of memory outside of them: see `snn.neurons.kernels.numba_cpu_step`.
X, SCALE, SHIFT, MASK, MEAN, SUM_G, SUM_GY, Y, GRAD_OUT, GRAD_X, SPIKE = (
    ROW * i for i in range(ROWS, ROWS + 11)
)
ALL_ROWS = ROWS + 11


@njit(nogil=True, error_model="numpy")
def fill_affine(
    scale: np.ndarray, shift: np.ndarray, rows: np.ndarray, block: np.ndarray, g: Geometry
) -> None:
    """Fill the rows of the affine map, if there is one."""
    if scale.size:
        fill(scale, 0, 0, rows, SCALE, block, g)
        fill(shift, 0, 0, rows, SHIFT, block, g)


@njit(nogil=True, error_model="numpy")
def start_row(
    v: np.ndarray, offset: int, rows: np.ndarray, block: np.ndarray, g: Geometry, k: Numbers
) -> None:
    """Fill V with the membranes at `offset`, or with rest."""
    if v.size:
        gather(v, offset, block, rows, V)
    else:
        set_row(rows, V, k.rest, block_size(block))


@njit(nogil=True, error_model="numpy", forceinline=True)
def y_of_step(
    y: np.ndarray, t: int, rows: np.ndarray, block: np.ndarray, g: Geometry
) -> tuple[np.ndarray, int]:
    """Return y of a block at a step, and where it begins: where it lies, or gathered from several places."""
    if block[LINES] * block[COLUMNS] == 1:
        return y, t * g.neurons + block[START]
    gather(y, t * g.neurons, block, rows, Y)
    return rows, Y


@njit(nogil=True, error_model="numpy")
def transform(y: np.ndarray, at: int, rows: np.ndarray, affine: bool, masked: bool, n: int) -> None:
    """Write the current X of a step: the affine map of y, times the mask."""
    current = y[at : at + n]
    if affine:
        for j in range(n):
            rows[X + j] = current[j] * rows[SCALE + j] + rows[SHIFT + j]
    else:
        for j in range(n):
            rows[X + j] = current[j]
    if masked:
        for j in range(n):
            rows[X + j] = rows[X + j] * rows[MASK + j]


@njit(nogil=True, error_model="numpy", forceinline=True)
def x_of_step(
    y: np.ndarray,
    at: int,
    mask: np.ndarray,
    t: int,
    affine: bool,
    rows: np.ndarray,
    block: np.ndarray,
    n: int,
    g: Geometry,
) -> tuple[np.ndarray, int]:
    """Return the current of a block at a step, and where it begins: y itself where nothing is done to it."""
    masked = mask.size > 0
    if masked:
        fill(mask, t * g.batch * g.channels, g.channels, rows, MASK, block, g)
    if not (affine or masked):
        return y, at
    transform(y, at, rows, affine, masked, n)
    return rows, X


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
        rows = np.empty(ALL_ROWS * ROW, y.dtype)
        for b in range(first, last):
            block = blocks[b]
            n = block_size(block)
            fill(threshold, 0, 0, rows, THRESHOLD, block, g)
            fill(decay, 0, 0, rows, DECAY, block, g)
            fill_affine(scale, shift, rows, block, g)
            start_row(v, 0, rows, block, g, k)
            for t in range(g.steps):
                if t and t % CHUNK == 0:
                    scatter(rows, V, checkpoints, (t // CHUNK - 1) * g.neurons, block)
                y_row, y_at = y_of_step(y, t, rows, block, g)
                x, x_at = x_of_step(y_row, y_at, mask, t, scale.size > 0, rows, block, n, g)
                if pooling:
                    step(x, x_at, rows, rows, SPIKE, SPIKES, n, k, levels)
                    pool(rows, SPIKE, out, t * g.outs, block, pooling == 2, g, k)
                else:
                    # Without a pool a block is always one piece, and out is laid out as y.
                    step(x, x_at, rows, out, t * g.neurons + block[START], SPIKES, n, k, levels)
            scatter(rows, V, final, 0, block)

    return run


@njit(nogil=True, error_model="numpy")
def fill_backward(
    threshold: np.ndarray,
    decay: np.ndarray,
    mean: np.ndarray,
    grad_final: np.ndarray,
    rows: np.ndarray,
    block: np.ndarray,
    n: int,
    g: Geometry,
    k: Numbers,
) -> None:
    """Fill the rows that a block keeps while going back: parameters, sums at 0, the membrane's gradient."""
    fill(threshold, 0, 0, rows, THRESHOLD, block, g)
    fill(decay, 0, 0, rows, DECAY, block, g)
    for j in range(n):
        rows[PER_THRESHOLD + j] = k.one / rows[THRESHOLD + j]
    set_row(rows, GRAD_THRESHOLD, k.zero, n)
    set_row(rows, GRAD_DECAY, k.zero, n)
    if mean.size:
        fill(mean, 0, 0, rows, MEAN, block, g)
        set_row(rows, SUM_G, k.zero, n)
        set_row(rows, SUM_GY, k.zero, n)
    if grad_final.size:
        gather(grad_final, 0, block, rows, D)
    else:
        set_row(rows, D, k.zero, n)


@njit(nogil=True, error_model="numpy", forceinline=True)
def grad_of_step(
    grad_out: np.ndarray,
    t: int,
    pooling: int,
    step: Callable[..., None],
    x: np.ndarray,
    x_at: int,
    history: np.ndarray,
    before: int,
    rows: np.ndarray,
    block: np.ndarray,
    n: int,
    g: Geometry,
    k: Numbers,
    levels: Levels,
) -> tuple[np.ndarray, int]:
    """Return the gradient of a block's spikes at a step: where it lies, or handed back through the pool."""
    if not pooling:
        return grad_out, t * g.neurons + block[START]
    if pooling == 2:
        # The membranes in V are not needed any more once a chunk has been run again.
        for j in range(n):
            rows[V + j] = history[before + j]
        step(x, x_at, rows, rows, SPIKE, SPIKES, n, k, levels)
    unpool(grad_out, t * g.outs, block, rows, SPIKE, GRAD_OUT, pooling == 2, g, k)
    return rows, GRAD_OUT


@njit(nogil=True, error_model="numpy")
def multiply_by_mask(grad_x: np.ndarray, at: int, rows: np.ndarray, n: int) -> None:
    """Take the gradient of the current back through the mask."""
    grad = grad_x[at : at + n]
    for j in range(n):
        grad[j] = grad[j] * rows[MASK + j]


@njit(nogil=True, error_model="numpy")
def add_sums(grad_x: np.ndarray, at: int, y: np.ndarray, y_at: int, rows: np.ndarray, n: int) -> None:
    """Add g and g (y - mean) to their sums over steps."""
    grad, current = grad_x[at : at + n], y[y_at : y_at + n]
    for j in range(n):
        rows[SUM_G + j] = rows[SUM_G + j] + grad[j]
        rows[SUM_GY + j] = rows[SUM_GY + j] + grad[j] * (current[j] - rows[MEAN + j])


@cache
def backward_loop(sources: int) -> Callable[..., None]:
    """Return the program that goes back through groups `first` to `last` of blocks.

    grad_out is like out, grad_final like final or empty for zero, grad_x like y or empty where only sums are
    wanted, grad_v like v; mean is empty or [C]. The sums of a group are written to its line of
    sum_threshold, ..., float64.
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
        mean: np.ndarray,
        grad_x: np.ndarray,
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
        rows = np.empty(ALL_ROWS * ROW, y.dtype)
        history = np.empty(min(g.steps, CHUNK) * ROW, y.dtype)
        groups = sum_threshold.shape[0]
        for group in range(first, last):
            for b in range(group * blocks.shape[0] // groups, (group + 1) * blocks.shape[0] // groups):
                block = blocks[b]
                n = block_size(block)
                direct = grad_x.size > 0 and block[LINES] * block[COLUMNS] == 1
                # Not a power of two apart, see ROW.
                pitch = (n + 31) // 16 * 16
                fill_affine(scale, shift, rows, block, g)
                fill_backward(threshold, decay, mean, grad_final, rows, block, n, g, k)
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
                        before = (t - begin) * pitch
                        y_row, y_at = y_of_step(y, t, rows, block, g)
                        x, x_at = x_of_step(y_row, y_at, mask, t, scale.size > 0, rows, block, n, g)
                        if forward:
                            step(x, x_at, rows, history, before, MEMBRANES, n, k, levels)
                            continue
                        grad, grad_at = grad_of_step(
                            grad_out, t, pooling, step, x, x_at, history, before, rows, block, n, g, k, levels
                        )
                        found, at = (grad_x, t * g.neurons + block[START]) if direct else (rows, GRAD_X)
                        step_back(x, x_at, history, before, grad, grad_at, rows, found, at, n, k, levels)
                        if mask.size:
                            multiply_by_mask(found, at, rows, n)
                        if mean.size:
                            add_sums(found, at, y_row, y_at, rows, n)
                        if grad_x.size and not direct:
                            scatter(rows, GRAD_X, grad_x, t * g.neurons, block)
                scatter(rows, D, grad_v, 0, block)
                add_to_channels(rows, GRAD_THRESHOLD, sum_threshold[group], block, g)
                add_to_channels(rows, GRAD_DECAY, sum_decay[group], block, g)
                if mean.size:
                    add_to_channels(rows, SUM_G, sum_g[group], block, g)
                    add_to_channels(rows, SUM_GY, sum_gy[group], block, g)

    return run

"""Moving a block between memory and the rows a kernel works on: pieces, parameters per channel, pools, sums.

Memory is flat: one step after the other, each as its layout has it. A row holds one number per neuron of a
block.
"""

import numpy as np
from numba import njit

from snn.neurons.kernels.numba_cpu_blocks import (
    COLUMN_STRIDE,
    COLUMNS,
    FIRST_LINE,
    INNER,
    LENGTH,
    LINE,
    LINE_STRIDE,
    LINES,
    OUT_SHIFT,
    POOL_LINES,
    START,
    Geometry,
)
from snn.neurons.kernels.numba_cpu_options import Numbers


@njit(nogil=True, error_model="numpy")
def block_size(block: np.ndarray) -> int:
    """Return the number of neurons of a block."""
    return block[LINES] * block[COLUMNS] * block[LENGTH]


@njit(nogil=True, error_model="numpy")
def set_row(row: np.ndarray, number: float, n: int) -> None:
    """Fill the first n places of a row with a number."""
    for j in range(n):
        row[j] = number


@njit(nogil=True, error_model="numpy")
def gather(memory: np.ndarray, offset: int, block: np.ndarray, row: np.ndarray) -> None:
    """Copy a block of the step that starts at `offset` into a row."""
    at = 0
    for line in range(block[LINES]):
        for column in range(block[COLUMNS]):
            start = offset + block[START] + line * block[LINE_STRIDE] + column * block[COLUMN_STRIDE]
            for j in range(block[LENGTH]):
                row[at + j] = memory[start + j]
            at += block[LENGTH]


@njit(nogil=True, error_model="numpy")
def scatter(row: np.ndarray, memory: np.ndarray, offset: int, block: np.ndarray) -> None:
    """Copy a row into a block of the step that starts at `offset`."""
    at = 0
    for line in range(block[LINES]):
        for column in range(block[COLUMNS]):
            start = offset + block[START] + line * block[LINE_STRIDE] + column * block[COLUMN_STRIDE]
            for j in range(block[LENGTH]):
                memory[start + j] = row[at + j]
            at += block[LENGTH]


@njit(nogil=True, error_model="numpy")
def fill(
    parameter: np.ndarray, offset: int, per_sample: int, row: np.ndarray, block: np.ndarray, g: Geometry
) -> None:
    """Fill a row with one number per channel, or per sample and channel, that starts at `offset`.

    `per_sample` is the distance of two samples in `parameter`, 0 where there is one number per channel. A
    parameter that is one number fills the row with it.
    """
    if parameter.size == 1:
        set_row(row, parameter[0], block_size(block))
        return
    at = 0
    for line in range(block[LINES]):
        for column in range(block[COLUMNS]):
            start = block[START] + line * block[LINE_STRIDE] + column * block[COLUMN_STRIDE]
            stop = start + block[LENGTH]
            while start < stop:
                channel = start // g.area % g.channels
                source = offset + start // g.sample * per_sample + channel
                if g.area == 1:
                    size = min(g.channels - channel, stop - start)
                    for j in range(size):
                        row[at + j] = parameter[source + j]
                else:
                    size = min(g.area - start % g.area, stop - start)
                    number = parameter[source]
                    for j in range(size):
                        row[at + j] = number
                at += size
                start += size


@njit(nogil=True, error_model="numpy", fastmath={"reassoc", "nsz"})
def total(row: np.ndarray) -> float:
    """Return the sum of a row in float64; in any order, so that vector units can be used."""
    result = 0.0
    for j in range(row.size):
        result += row[j]
    return result


@njit(nogil=True, error_model="numpy")
def add_to_channels(row: np.ndarray, sums: np.ndarray, block: np.ndarray, g: Geometry) -> None:
    """Add a row to sums per channel, float64; where there is one sum only, to that."""
    if sums.size == 1:
        sums[0] += total(row[: block_size(block)])
        return
    at = 0
    for line in range(block[LINES]):
        for column in range(block[COLUMNS]):
            start = block[START] + line * block[LINE_STRIDE] + column * block[COLUMN_STRIDE]
            stop = start + block[LENGTH]
            while start < stop:
                channel = start // g.area % g.channels
                if g.area == 1:
                    size = min(g.channels - channel, stop - start)
                    for j in range(size):
                        sums[channel + j] += row[at + j]
                else:
                    size = min(g.area - start % g.area, stop - start)
                    sums[channel] += total(row[at : at + size])
                at += size
                start += size


@njit(nogil=True, error_model="numpy")
def pool(
    row: np.ndarray, out: np.ndarray, offset: int, block: np.ndarray, maximum: bool, g: Geometry, k: Numbers
) -> None:
    """Pool the spikes of a block into the step of outputs that starts at `offset`."""
    length, inner = block[LINE], block[INNER]
    pixels = length // inner // 2
    for line in range(block[POOL_LINES] - 1):
        plane, y = (block[FIRST_LINE] + line) // g.height, (block[FIRST_LINE] + line) % g.height
        if y % 2 or y + 1 == g.height:
            continue
        to = offset + (plane * (g.height // 2) + y // 2) * g.out_line + block[OUT_SHIFT]
        upper = row[line * length : line * length + length]
        lower = row[line * length + length : line * length + 2 * length]
        _pool_line(upper, lower, out[to : to + pixels * inner], inner, maximum, k)


@njit(nogil=True, error_model="numpy")
def _pool_line(
    upper: np.ndarray, lower: np.ndarray, out: np.ndarray, inner: int, maximum: bool, k: Numbers
) -> None:
    for pixel in range(out.size // inner):
        left, right, to = 2 * pixel * inner, (2 * pixel + 1) * inner, pixel * inner
        for c in range(inner):
            a, b, d, e = upper[left + c], upper[right + c], lower[left + c], lower[right + c]
            if maximum:
                out[to + c] = max(max(a, b), max(d, e))
            else:
                out[to + c] = (a + b + d + e) * k.quarter


@njit(nogil=True, error_model="numpy")
def unpool(
    grad: np.ndarray,
    offset: int,
    block: np.ndarray,
    spikes: np.ndarray,
    row: np.ndarray,
    maximum: bool,
    g: Geometry,
    k: Numbers,
) -> None:
    """Hand the gradient of pooled spikes, of the step that starts at `offset`, to the spikes of a block.

    A maximum hands all to the first largest spike of its window, line by line.
    """
    set_row(row, k.zero, block_size(block))
    length, inner = block[LINE], block[INNER]
    pixels = length // inner // 2
    for line in range(block[POOL_LINES] - 1):
        plane, y = (block[FIRST_LINE] + line) // g.height, (block[FIRST_LINE] + line) % g.height
        if y % 2 or y + 1 == g.height:
            continue
        source = offset + (plane * (g.height // 2) + y // 2) * g.out_line + block[OUT_SHIFT]
        at, last = line * length, line * length + 2 * length
        grad_line = grad[source : source + pixels * inner]
        _unpool_line(grad_line, spikes[at:last], row[at:last], length, inner, maximum, k)


@njit(nogil=True, error_model="numpy")
def _unpool_line(
    grad: np.ndarray, spikes: np.ndarray, row: np.ndarray, length: int, inner: int, maximum: bool, k: Numbers
) -> None:
    for pixel in range(grad.size // inner):
        left, source = 2 * pixel * inner, pixel * inner
        for c in range(inner):
            i = left + c
            part = grad[source + c]
            if not maximum:
                part = part * k.quarter
                row[i] = row[i + inner] = row[length + i] = row[length + i + inner] = part
                continue
            a, b, d, e = spikes[i], spikes[i + inner], spikes[length + i], spikes[length + i + inner]
            largest = max(max(a, b), max(d, e))
            row[i] = part if a == largest else k.zero
            row[i + inner] = part if b == largest and a != largest else k.zero
            row[length + i] = part if d == largest and max(a, b) != largest else k.zero
            row[length + i + inner] = part if max(max(a, b), d) != largest else k.zero


@njit(nogil=True, error_model="numpy")
def transform(
    y: np.ndarray,
    x: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    mask: np.ndarray,
    affine: bool,
    masked: bool,
    n: int,
) -> None:
    """Write the current x of a step: the affine map of y, times the mask."""
    for j in range(n):
        current = y[j]
        if affine:
            current = current * scale[j] + shift[j]
        if masked:
            current = current * mask[j]
        x[j] = current


@njit(nogil=True, error_model="numpy")
def multiply(row: np.ndarray, factors: np.ndarray, n: int) -> None:
    """Multiply a row by another."""
    for j in range(n):
        row[j] = row[j] * factors[j]


@njit(nogil=True, error_model="numpy")
def add_sums(
    g: np.ndarray, y: np.ndarray, mean: np.ndarray, sum_g: np.ndarray, sum_gy: np.ndarray, n: int
) -> None:
    """Add g and g (y - mean) to their sums over steps."""
    for j in range(n):
        sum_g[j] = sum_g[j] + g[j]
    for j in range(n):
        sum_gy[j] = sum_gy[j] + g[j] * (y[j] - mean[j])


@njit(nogil=True, error_model="numpy")
def input_gradient(
    g: np.ndarray,
    y: np.ndarray,
    g_scale: np.ndarray,
    y_scale: np.ndarray,
    mean: np.ndarray,
    shift: np.ndarray,
    n: int,
) -> None:
    """Turn the gradient g of x into that of y; see `snn.neurons.kernels.launch.InputGradient`."""
    for j in range(n):
        g[j] = g_scale[j] * g[j] + y_scale[j] * (y[j] - mean[j]) + shift[j]

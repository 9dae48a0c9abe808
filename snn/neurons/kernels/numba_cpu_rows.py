"""Moving a block between memory and the rows a kernel works on: pieces, parameters per channel, pools, sums.

Memory is flat: one step after the other, each as its layout has it. A row holds one number per neuron of a
block. It is given as an array and the place where it begins: to make an array of it at every step would take
as long as a hundred neurons.
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
def set_row(rows: np.ndarray, at: int, number: float, n: int) -> None:
    """Fill the n places of the row at `at` with a number."""
    row = rows[at : at + n]
    for j in range(n):
        row[j] = number


@njit(nogil=True, error_model="numpy")
def gather(memory: np.ndarray, offset: int, block: np.ndarray, rows: np.ndarray, at: int) -> None:
    """Copy a block of the step that starts at `offset` into the row at `at`."""
    for line in range(block[LINES]):
        for column in range(block[COLUMNS]):
            start = offset + block[START] + line * block[LINE_STRIDE] + column * block[COLUMN_STRIDE]
            row, piece = rows[at : at + block[LENGTH]], memory[start : start + block[LENGTH]]
            for j in range(block[LENGTH]):
                row[j] = piece[j]
            at += block[LENGTH]


@njit(nogil=True, error_model="numpy")
def scatter(rows: np.ndarray, at: int, memory: np.ndarray, offset: int, block: np.ndarray) -> None:
    """Copy the row at `at` into a block of the step that starts at `offset`."""
    for line in range(block[LINES]):
        for column in range(block[COLUMNS]):
            start = offset + block[START] + line * block[LINE_STRIDE] + column * block[COLUMN_STRIDE]
            row, piece = rows[at : at + block[LENGTH]], memory[start : start + block[LENGTH]]
            for j in range(block[LENGTH]):
                piece[j] = row[j]
            at += block[LENGTH]


@njit(nogil=True, error_model="numpy")
def fill(
    parameter: np.ndarray,
    offset: int,
    per_sample: int,
    rows: np.ndarray,
    at: int,
    block: np.ndarray,
    g: Geometry,
) -> None:
    """Fill the row at `at` with one number per channel, or per sample and channel, that starts at `offset`.

    `per_sample` is the distance of two samples in `parameter`, 0 where there is one number per channel. A
    parameter that is one number fills the row with it.
    """
    if parameter.size == 1:
        set_row(rows, at, parameter[0], block_size(block))
        return
    for line in range(block[LINES]):
        for column in range(block[COLUMNS]):
            start = block[START] + line * block[LINE_STRIDE] + column * block[COLUMN_STRIDE]
            stop = start + block[LENGTH]
            while start < stop:
                channel = start // g.area % g.channels
                source = offset + start // g.sample * per_sample + channel
                if g.area == 1:
                    size = min(g.channels - channel, stop - start)
                    row, numbers = rows[at : at + size], parameter[source : source + size]
                    for j in range(size):
                        row[j] = numbers[j]
                else:
                    size = min(g.area - start % g.area, stop - start)
                    set_row(rows, at, parameter[source], size)
                at += size
                start += size


@njit(nogil=True, error_model="numpy", fastmath={"reassoc", "nsz"})
def total(rows: np.ndarray, at: int, n: int) -> float:
    """Return the sum of a row in float64; in any order, so that vector units can be used."""
    result, row = 0.0, rows[at : at + n]
    for j in range(n):
        result += row[j]
    return result


@njit(nogil=True, error_model="numpy")
def add_to_channels(rows: np.ndarray, at: int, sums: np.ndarray, block: np.ndarray, g: Geometry) -> None:
    """Add the row at `at` to sums per channel, float64; where there is one sum only, to that."""
    if sums.size == 1:
        sums[0] += total(rows, at, block_size(block))
        return
    for line in range(block[LINES]):
        for column in range(block[COLUMNS]):
            start = block[START] + line * block[LINE_STRIDE] + column * block[COLUMN_STRIDE]
            stop = start + block[LENGTH]
            while start < stop:
                channel = start // g.area % g.channels
                if g.area == 1:
                    size = min(g.channels - channel, stop - start)
                    row, part = rows[at : at + size], sums[channel : channel + size]
                    for j in range(size):
                        part[j] += row[j]
                else:
                    size = min(g.area - start % g.area, stop - start)
                    sums[channel] += total(rows, at, size)
                at += size
                start += size


@njit(nogil=True, error_model="numpy")
def pool(
    rows: np.ndarray,
    at: int,
    out: np.ndarray,
    offset: int,
    block: np.ndarray,
    maximum: bool,
    g: Geometry,
    k: Numbers,
) -> None:
    """Pool the spikes of a block, the row at `at`, into the step of outputs that starts at `offset`."""
    length, inner = block[LINE], block[INNER]
    outs = length // inner // 2 * inner
    to, line, y = offset + first_output(block, g), 0, block[FIRST_LINE] % g.height
    while line + 1 < block[POOL_LINES]:
        if y + 1 == g.height:
            line, y = line + 1, 0
            continue
        upper = at + line * length
        lower = upper + length
        _pool_lines(rows[upper:lower], rows[lower : lower + length], out[to : to + outs], inner, maximum, k)
        to, line, y = to + g.out_line, line + 2, y + 2
        if y == g.height:
            y = 0


@njit(nogil=True, error_model="numpy", forceinline=True)
def first_output(block: np.ndarray, g: Geometry) -> int:
    """Return where in its step the first output of a block lies; blocks begin with an even line."""
    plane, y = block[FIRST_LINE] // g.height, block[FIRST_LINE] % g.height
    return (plane * (g.height // 2) + y // 2) * g.out_line + block[OUT_SHIFT]


@njit(nogil=True, error_model="numpy", forceinline=True)
def _pool_lines(
    upper: np.ndarray, lower: np.ndarray, out: np.ndarray, inner: int, maximum: bool, k: Numbers
) -> None:
    """Pool two lines of pixels of `inner` values."""
    if inner == 1 and not maximum:
        # The usual case apart: neighbours at a distance that is known run on vector units.
        for i in range(out.size):
            out[i] = (upper[2 * i] + upper[2 * i + 1] + lower[2 * i] + lower[2 * i + 1]) * k.quarter
        return
    for pixel in range(out.size // inner):
        left, right, to = 2 * pixel * inner, (2 * pixel + 1) * inner, pixel * inner
        for c in range(inner):
            a, b, d, e = upper[left + c], upper[right + c], lower[left + c], lower[right + c]
            out[to + c] = max(max(a, b), max(d, e)) if maximum else (a + b + d + e) * k.quarter


@njit(nogil=True, error_model="numpy")
def unpool(
    grad: np.ndarray,
    offset: int,
    block: np.ndarray,
    rows: np.ndarray,
    spikes: int,
    at: int,
    maximum: bool,
    g: Geometry,
    k: Numbers,
) -> None:
    """Hand the gradient of pooled spikes, of the step that starts at `offset`, to the row at `at`.

    A maximum hands all to the first largest spike of its window, line by line; `spikes` is where their row
    begins. Lines and columns left over get 0.
    """
    length, inner = block[LINE], block[INNER]
    if g.height % 2 or length // inner % 2:
        set_row(rows, at, k.zero, block_size(block))
    outs = length // inner // 2 * inner
    source, line, y = offset + first_output(block, g), 0, block[FIRST_LINE] % g.height
    while line + 1 < block[POOL_LINES]:
        if y + 1 == g.height:
            line, y = line + 1, 0
            continue
        here, part = line * length, grad[source : source + outs]
        both = rows[at + here : at + here + 2 * length]
        if maximum:
            fired = rows[spikes + here : spikes + here + 2 * length]
            _unpool_maxima(part, fired, both, length, inner, k)
        else:
            _unpool_means(part, both, length, inner, k)
        source, line, y = source + g.out_line, line + 2, y + 2
        if y == g.height:
            y = 0


@njit(nogil=True, error_model="numpy", forceinline=True)
def _unpool_means(grad: np.ndarray, both: np.ndarray, length: int, inner: int, k: Numbers) -> None:
    """Fill two lines that follow each other."""
    if inner == 1:
        for i in range(grad.size):
            both[2 * i] = both[2 * i + 1] = grad[i] * k.quarter
    else:
        for pixel in range(grad.size // inner):
            left, source = 2 * pixel * inner, pixel * inner
            for c in range(inner):
                both[left + c] = both[left + inner + c] = grad[source + c] * k.quarter
    upper, lower = both[:length], both[length:]
    for i in range(2 * grad.size):
        lower[i] = upper[i]


@njit(nogil=True, error_model="numpy", forceinline=True)
def _unpool_maxima(
    grad: np.ndarray, spikes: np.ndarray, both: np.ndarray, length: int, inner: int, k: Numbers
) -> None:
    """Fill two lines that follow each other, above which these spikes were."""
    for pixel in range(grad.size // inner):
        left, source = 2 * pixel * inner, pixel * inner
        for c in range(inner):
            i = left + c
            part = grad[source + c]
            a, b, d, e = spikes[i], spikes[i + inner], spikes[length + i], spikes[length + i + inner]
            largest = max(max(a, b), max(d, e))
            both[i] = part if a == largest else k.zero
            both[i + inner] = part if b == largest and a != largest else k.zero
            both[length + i] = part if d == largest and max(a, b) != largest else k.zero
            both[length + i + inner] = part if max(max(a, b), d) != largest else k.zero

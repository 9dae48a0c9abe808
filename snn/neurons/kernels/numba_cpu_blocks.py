"""How a step of neurons is cut into blocks, small enough that all steps of a chunk stay in cache.

A block is a run of neurons as they lie in memory. With a pool it holds whole windows of 2x2: whole planes
of small images, pairs of lines of larger ones, and of very long lines a piece of the upper and the same
piece of the lower line, side by side in the kernel's rows.
"""

from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from snn.neurons.kernels.launch import Launch

# Most neurons of a block: 32 steps of them, in float32 128 kB, stay in the second cache, and the rows of one
# step in the first. Rows of scratch memory lie ROW apart: not a power of two, so that a neuron of all rows
# does not fall into the same few lines of the first cache.
BLOCK = 1024
ROW = 1088

# Blocks are summed up in so many groups, whatever the number of threads, so that sums are always the same.
GROUPS = 64

# Columns of a table of blocks. A block is made of LINES x COLUMNS pieces of LENGTH neurons.
START, LINES, LINE_STRIDE, COLUMNS, COLUMN_STRIDE, LENGTH = range(6)
# What the pool needs: the block holds POOL_LINES lines of LINE values, INNER of them per pixel; the first is
# line FIRST_LINE of all images; its outputs are moved by OUT_SHIFT in their line.
FIRST_LINE, POOL_LINES, LINE, INNER, OUT_SHIFT = range(6, 11)
FIELDS = 11


class Geometry(NamedTuple):
    """Sizes of a launch, as a kernel needs them.

    Attributes:
        steps: Number of steps T.
        neurons: Number of neurons of a step.
        outs: Number of outputs of a step.
        batch: Number of samples.
        channels: Number of channels C.
        area: Neurons of a channel that lie together: H W, or 1 with channels last.
        sample: Neurons of a sample.
        height: Lines of an image.
        out_line: Outputs of a line.
    """

    steps: int
    neurons: int
    outs: int
    batch: int
    channels: int
    area: int
    sample: int
    height: int
    out_line: int


def geometry(launch: Launch) -> Geometry:
    """Return the sizes of a launch."""
    height, width = launch.height_width
    inner = launch.channels if launch.channels_last else 1
    return Geometry(
        steps=launch.steps,
        neurons=launch.neurons,
        outs=prod(launch.out_shape[1:]),
        batch=launch.batch,
        channels=launch.channels,
        area=1 if launch.channels_last else height * width,
        sample=launch.channels * height * width,
        height=height,
        out_line=width // 2 * inner,
    )


def blocks(launch: Launch) -> np.ndarray:
    """Return the table of blocks of a launch, int64, shape [blocks, FIELDS]."""
    height, width = launch.height_width
    if launch.pool == "none" or launch.neurons == 0:
        return _runs(launch.neurons, BLOCK)
    inner = launch.channels if launch.channels_last else 1
    planes = launch.batch if launch.channels_last else launch.batch * launch.channels
    return _windows(planes, height, width, inner)


@lru_cache(maxsize=64)
def _runs(neurons: int, size: int) -> np.ndarray:
    """Cut neurons into runs of at most `size`."""
    table = np.zeros((-(-neurons // size), FIELDS), np.int64)
    table[:, START] = np.arange(0, neurons, size)
    table[:, LENGTH] = np.minimum(size, neurons - table[:, START])
    table[:, [LINES, COLUMNS]] = 1
    return table


@lru_cache(maxsize=64)
def _windows(planes: int, height: int, width: int, inner: int) -> np.ndarray:
    """Cut planes of height x width pixels of `inner` values so that no window of 2x2 is cut."""
    line = width * inner
    if height * line <= BLOCK:
        table = _runs(planes * height * line, BLOCK // (height * line) * height * line).copy()
        table[:, FIRST_LINE] = table[:, START] // line
        table[:, POOL_LINES] = table[:, LENGTH] // line
        table[:, [LINE, INNER]] = line, inner
        return table
    rows = _pairs(height, line, inner) if 2 * line <= BLOCK else _pieces(height, width, inner)
    plane = np.array(rows, np.int64)
    table = np.tile(plane, (planes, 1))
    number = np.repeat(np.arange(planes), len(plane))
    table[:, START] += number * height * line
    table[:, FIRST_LINE] += number * height
    return table


def _pairs(height: int, line: int, inner: int) -> list[tuple[int, ...]]:
    """Cut a plane into runs of whole pairs of lines."""
    size = BLOCK // (2 * line) * 2
    rows: list[tuple[int, ...]] = []
    for first in range(0, height, size):
        lines = min(size, height - first)
        rows.append((first * line, 1, 0, 1, 0, lines * line, first, lines, line, inner, 0))
    return rows


def _pieces(height: int, width: int, inner: int) -> list[tuple[int, ...]]:
    """Cut a plane into pieces of pairs of lines: whole pixels, or of pixels too large some channels."""
    line = width * inner
    pixels = max(BLOCK // (4 * inner), 1) * 2
    share = min(inner, BLOCK // 4)
    whole = 2 * pixels * inner <= BLOCK
    rows: list[tuple[int, ...]] = []
    for first in range(0, height, 2):
        lines = min(2, height - first)
        for pixel in range(0, width, pixels):
            columns = min(pixels, width - pixel)
            at, out = first * line + pixel * inner, pixel // 2 * inner
            if whole:
                size = columns * inner
                rows.append((at, lines, line, 1, 0, size, first, lines, size, inner, out))
                continue
            for channel in range(0, inner, share):
                size = min(share, inner - channel)
                piece = (at + channel, lines, line, columns, inner, size)
                rows.append((*piece, first, lines, columns * size, size, out + channel))
    return rows

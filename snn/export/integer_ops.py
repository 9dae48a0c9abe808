"""What layers compute, on whole numbers alone: int64 in, int64 out, NumPy and nothing else.

Steps and samples are merged wherever a layer has no state, `[N, ...]` with N = T * B.
"""

import numpy as np

Pair = tuple[int, int]


def convolve(x: np.ndarray, weight: np.ndarray, *, stride: Pair, padding: Pair, groups: int) -> np.ndarray:
    """Return the sums of a 2D convolution, int64, shape [N, O, H', W'].

    Args:
        x: Whole numbers, int64, shape [N, C, H, W].
        weight: Codes, shape [O, C / groups, kernel height, kernel width].
        stride: In height and width.
        padding: Zeros above and below, left and right.
        groups: Of channels that are computed apart.
    """
    N, C, H, W = x.shape
    channels, _, height, width = weight.shape
    x = np.pad(x, ((0, 0), (0, 0), (padding[0], padding[0]), (padding[1], padding[1])))
    rows = (H + 2 * padding[0] - height) // stride[0] + 1
    columns = (W + 2 * padding[1] - width) // stride[1] + 1
    weight = weight.astype(np.int64).reshape(groups, channels // groups, C // groups, height, width)
    sums = np.zeros((N, groups, channels // groups, rows * columns), np.int64)
    for i in range(height):
        for j in range(width):
            window = x[:, :, i : i + rows * stride[0] : stride[0], j : j + columns * stride[1] : stride[1]]
            places = window.reshape(N, groups, C // groups, rows * columns)
            sums += np.matmul(weight[..., i, j], places)
    return sums.reshape(N, channels, rows, columns)


def windows(x: np.ndarray) -> np.ndarray:
    """Return the windows of 2x2 places, shape [..., H // 2, W // 2, 2, 2], of x [..., H, W].

    A last row or column without a partner is left out, as torch's pools do.
    """
    rows, columns = x.shape[-2] // 2, x.shape[-1] // 2
    x = x[..., : 2 * rows, : 2 * columns].reshape(*x.shape[:-2], rows, 2, columns, 2)
    return np.moveaxis(x, -3, -2)


def largest(x: np.ndarray, *, kernel: int, stride: int, padding: int) -> np.ndarray:
    """Return the largest value of every window, shape [N, C, H', W'], of x [N, C, H, W].

    Around the map lies the least number there is, as in torch's pools.
    """
    around = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    x = np.pad(x, around, constant_values=np.iinfo(x.dtype).min)
    seen = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(2, 3))
    return seen[:, :, ::stride, ::stride].max(axis=(-2, -1))

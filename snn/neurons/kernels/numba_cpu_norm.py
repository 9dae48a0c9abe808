"""The gradient of a current before normalisation from that behind it, on the CPU, in place."""

import numpy as np
from numba import njit
from torch import Tensor

from snn.neurons.kernels.launch import InputGradient, Launch
from snn.neurons.kernels.threads import run_ranges

# Elements below which a second thread costs more than it brings.
WORK_PER_THREAD = 1 << 17


def to_input_gradient(launch: Launch, grad: Tensor, y: Tensor, rule: InputGradient) -> None:
    """Turn the gradient of x into that of y where it lies; see `InputGradient`.

    Args:
        launch: What both belong to.
        grad: Gradient of x, shape [T, B, ...], state dtype, in the launch's layout; overwritten.
        y: The same shape, dtype and layout.
        rule: How one follows from the other.
    """
    terms = tuple(term.detach().to(grad.dtype).contiguous().numpy() for term in rule)
    if launch.channels_last:
        kernel, shape = _pixels, (-1, launch.channels)
        grad, y = (tensor.movedim(-3, -1) for tensor in (grad, y))
    else:
        kernel, shape = _planes, (launch.steps * launch.batch * launch.channels, -1)
    arrays = (grad.view(shape).numpy(), y.detach().view(shape).numpy())
    run_ranges(kernel, (*arrays, *terms), len(arrays[0]), most=grad.numel() // WORK_PER_THREAD)


@njit(nogil=True, cache=True, error_model="numpy")
def _planes(
    grad: np.ndarray,
    y: np.ndarray,
    g_scale: np.ndarray,
    y_scale: np.ndarray,
    mean: np.ndarray,
    shift: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Turn planes first to last of [T B C, H W]."""
    for plane in range(first, last):
        channel = plane % len(mean)
        by_g, by_y, centre, moved = g_scale[channel], y_scale[channel], mean[channel], shift[channel]
        for i in range(grad.shape[1]):
            grad[plane, i] = by_g * grad[plane, i] + by_y * (y[plane, i] - centre) + moved


@njit(nogil=True, cache=True, error_model="numpy")
def _pixels(
    grad: np.ndarray,
    y: np.ndarray,
    g_scale: np.ndarray,
    y_scale: np.ndarray,
    mean: np.ndarray,
    shift: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Turn pixels first to last of [T B H W, C]."""
    for pixel in range(first, last):
        for c in range(len(mean)):
            grad[pixel, c] = g_scale[c] * grad[pixel, c] + y_scale[c] * (y[pixel, c] - mean[c]) + shift[c]

"""How much boxes overlap, in NumPy."""

import numpy as np


def box_overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the intersection over union of each box of a with each of b.

    Boxes of no area overlap with nothing.

    Args:
        a: Boxes x0, y0, x1, y1, shape [N, 4].
        b: Boxes, shape [M, 4].

    Returns:
        float64, shape [N, M], from 0 to 1.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    corner = np.maximum(a[:, None, :2], b[None, :, :2])
    far = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(far - corner, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)

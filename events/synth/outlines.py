"""Outlines of made-up objects: a circle and regular polygons, all of one area, with their exact extent.

An outline of size d has the area of a circle of diameter d, so that classes differ in shape alone. With n
edges its apothem a, the distance of each edge from the middle, follows from the area of a regular polygon,
n a^2 tan(pi / n) = pi d^2 / 4; its corners are at a / cos(pi / n).

Places are continuous: pixel x of a sensor covers x to x + 1, its centre is at x + 0.5.
"""

from functools import cache

import numpy as np

# Edges by class; 0 is the circle.
EDGES = {"circle": 0, "square": 4, "triangle": 3}
CLASS_NAMES = tuple(EDGES)
# Points along each side of the square from which shares of an outline's area are counted.
GRID_POINTS = 64


def apothem(edges: int, size_px: np.ndarray | float) -> np.ndarray:
    """Return the distance of the edges from the middle, for a circle its radius; in pixels."""
    share = 1.0 if edges == 0 else np.sqrt(np.pi / (edges * np.tan(np.pi / edges)))
    return np.asarray(size_px) / 2 * share


def edge_directions(edges: int, angle: float) -> np.ndarray:
    """Return the unit vectors (x, y) from the middle to each edge, shape [edges, 2], turned by `angle`.

    At angle 0 the first edge of an outline is the lower one; y counts downwards.
    """
    angles = angle + np.pi / 2 + 2 * np.pi * np.arange(edges) / edges
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def distance_outside(edges: int, size_px: float, angle: float, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Return how far points lie outside an outline, in pixels; negative within.

    Of a polygon this is the largest distance beyond the line of an edge, so its corners stay sharp.

    Args:
        edges: Edges of the outline, 0 for the circle.
        size_px: Its size.
        angle: By how much it is turned, radians.
        dx: Distance of the points to the right of its middle, in pixels.
        dy: Distance below its middle; must broadcast with dx.
    """
    if edges == 0:
        beyond = np.sqrt(dx * dx + dy * dy)
    else:
        beyond = np.maximum.reduce([dx * x + dy * y for x, y in edge_directions(edges, angle).tolist()])
    return np.asarray(beyond - apothem(edges, size_px))


def half_extents(edges: int, size_px: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Return how far an outline reaches from its middle: left, up, right, down; float64 [..., 4], pixels."""
    inner = np.asarray(apothem(edges, size_px))[..., None]
    if edges == 0:
        return np.repeat(inner, 4, axis=-1)
    corners = np.asarray(angle)[..., None] + np.pi / 2 + np.pi * (2 * np.arange(edges) + 1) / edges
    x, y = (inner / np.cos(np.pi / edges) * part for part in (np.cos(corners), np.sin(corners)))
    return np.stack([-x.min(-1), -y.min(-1), x.max(-1), y.max(-1)], axis=-1)


@cache
def inside_points(edges: int) -> np.ndarray:
    """Return points spread evenly over an outline of size 1 at angle 0: x, y from its middle, [N, 2]."""
    # The circle around the corners of the triangle, the widest of the outlines, has a diameter below 1.6.
    side = (np.arange(GRID_POINTS) + 0.5) / GRID_POINTS * 1.6 - 0.8
    x, y = (part.ravel() for part in np.meshgrid(side, side))
    within = distance_outside(edges, 1.0, 0.0, x, y) <= 0
    return np.stack([x, y], axis=1)[within]

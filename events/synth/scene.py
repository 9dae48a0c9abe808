"""A scene of made-up objects: where each is at any time, its exact box, how much of it is seen, its light.

Each object runs along an ellipse, turns, and grows and shrinks as if it came nearer and went away, all at
rates of its own that are smooth in time. So every edge moves now and then across itself and sends events,
also one along which the object moves. The background's light is 1; an object is lighter or darker. Of two
objects in one place the one with the higher number is nearer and hides the other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from events.synth.outlines import (
    CLASS_NAMES,
    EDGES,
    apothem,
    distance_outside,
    half_extents,
    inside_points,
)

# Log light is rounded to this many parts of 1, so that the last bit of a machine's sine changes no event.
LOG_UNITS = 1e4

# Pictures are drawn so many pixels at once.
PIXELS_AT_ONCE = 1 << 18


class Boxes(NamedTuple):
    """All objects of a scene at one time, one row an object, in the order of their numbers.

    Attributes:
        xyxy: Extent of the whole outline, seen or not: x0, y0, x1, y1 in pixels, float64 [M, 4]. May reach
            beyond the sensor.
        class_id: Position in CLASS_NAMES, int64 [M].
        track_id: Number of the object, int64 [M].
        visible_share: Share of the outline's area that is on the sensor and not hidden by a nearer object,
            float64 [M]; counted at about 2,000 points of the outline.
    """

    xyxy: np.ndarray
    class_id: np.ndarray
    track_id: np.ndarray
    visible_share: np.ndarray


class Poses(NamedTuple):
    """Middle, size in pixels and angle in radians of all objects, each float64 [M], or [S, M] at S times."""

    x: np.ndarray
    y: np.ndarray
    size_px: np.ndarray
    angle: np.ndarray


@dataclass(frozen=True, eq=False)
class Scene:
    """Objects by columns, each of shape [M]. Times are in microseconds, angles in radians.

    At time t object i has the middle (x, y) + R(tilt) (semi_x cos w, semi_y sin w), w = phase + rate t, with
    R a rotation; the size size_px (1 + swell sin(swell_phase + swell_rate t)); the angle angle + turn_rate t.

    Attributes:
        sensor_hw: Height and width of the sensor in pixels.
        class_id: Position in CLASS_NAMES.
        light: Its light over that of the background.
        x, y: Middle of its path in pixels.
        semi_x, semi_y: Half axes of its path in pixels.
        tilt: By how much the path is turned.
        phase, rate: Where on the path it starts, and how fast it runs through it, radians a second.
        size_px: Its size; see `events.synth.outlines`.
        swell, swell_phase, swell_rate: By which share, from where and how fast its size changes.
        angle, turn_rate: Its angle at the start, and radians a second.
    """

    sensor_hw: tuple[int, int]
    class_id: np.ndarray
    light: np.ndarray
    x: np.ndarray
    y: np.ndarray
    semi_x: np.ndarray
    semi_y: np.ndarray
    tilt: np.ndarray
    phase: np.ndarray
    rate: np.ndarray
    size_px: np.ndarray
    swell: np.ndarray
    swell_phase: np.ndarray
    swell_rate: np.ndarray
    angle: np.ndarray
    turn_rate: np.ndarray

    def __len__(self) -> int:
        return len(self.class_id)

    def poses_at(self, t_us: float | np.ndarray) -> Poses:
        """Return where all objects are at a time, or at each of several, shape [S]."""
        seconds = np.asarray(t_us)[..., None] / 1e6
        along = self.phase + self.rate * seconds
        right, down = self.semi_x * np.cos(along), self.semi_y * np.sin(along)
        cosine, sine = np.cos(self.tilt), np.sin(self.tilt)
        return Poses(
            self.x + cosine * right - sine * down,
            self.y + sine * right + cosine * down,
            self.size_px * (1 + self.swell * np.sin(self.swell_phase + self.swell_rate * seconds)),
            self.angle + self.turn_rate * seconds,
        )

    def boxes_at(self, t_us: float) -> Boxes:
        """Return the exact boxes of all objects at a time, and how much of each is seen."""
        poses = self.poses_at(t_us)
        reach = [
            half_extents(edges, size, angle)
            for edges, size, angle in zip(self._edges(), poses.size_px, poses.angle, strict=True)
        ]
        middle = np.stack([poses.x, poses.y, poses.x, poses.y], axis=1)
        xyxy = middle + np.array(reach).reshape(-1, 4) * np.array([-1, -1, 1, 1])
        return Boxes(xyxy, self.class_id, np.arange(len(self)), self._visible_shares(poses))

    def log_light(self, times_us: np.ndarray) -> Iterator[np.ndarray]:
        """Yield what the pixels see at each time: natural log of light, background 0, float32 [n, H, W].

        Several times come at once, all in order. A pixel that an edge crosses sees both sides by their share
        of it, taken as linear in the distance of its centre from the edge, from half a pixel within to half
        a pixel outside.
        """
        edges = np.array(self._edges())
        size = max(1, PIXELS_AT_ONCE // (self.sensor_hw[0] * self.sensor_hw[1]))
        for first in range(0, len(times_us), size):
            poses = self.poses_at(times_us[first : first + size])
            inner = np.stack(
                [apothem(n, sizes) for n, sizes in zip(edges.tolist(), poses.size_px.T, strict=True)], axis=1
            )
            yield _log_lights(self.sensor_hw, edges, self.light, poses, inner)

    def _edges(self) -> list[int]:
        return [EDGES[CLASS_NAMES[class_id]] for class_id in self.class_id]

    def _visible_shares(self, poses: Poses) -> np.ndarray:
        height, width = self.sensor_hw
        edges = self._edges()
        shares = np.empty(len(self))
        for i in range(len(self)):
            cosine, sine = np.cos(poses.angle[i]), np.sin(poses.angle[i])
            points = poses.size_px[i] * (
                inside_points(edges[i]) @ np.array([[cosine, sine], [-sine, cosine]])
            )
            x, y = poses.x[i] + points[:, 0], poses.y[i] + points[:, 1]
            seen = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            for j in range(i + 1, len(self)):
                outside = distance_outside(
                    edges[j], poses.size_px[j], poses.angle[j], x - poses.x[j], y - poses.y[j]
                )
                seen &= outside > 0
            shares[i] = seen.mean()
        return shares


@njit(cache=True, nogil=True)
def _log_lights(sensor_hw, edges, own, poses, inner):  # type: ignore[no-untyped-def]
    """Return log light float32 [S, H, W] for poses [S, M] and apothems `inner` [S, M], in pixels."""
    found = np.empty((len(inner), *sensor_hw), np.float32)
    light = np.empty(sensor_hw)
    # Most pixels see what the one before saw.
    last, last_log = 1.0, np.float32(0)
    for s in range(len(inner)):
        light[:] = 1
        _cover_all(light, edges, own, poses.x[s], poses.y[s], poses.angle[s], inner[s])
        for row in range(light.shape[0]):
            for column in range(light.shape[1]):
                if light[row, column] != last:
                    last = light[row, column]
                    last_log = np.float32(np.rint(np.log(last) * LOG_UNITS) / LOG_UNITS)
                found[s, row, column] = last_log
    return found


@njit(cache=True, nogil=True)
def _cover_all(light, edges, own, xs, ys, angles, inner):  # type: ignore[no-untyped-def]
    """Put all objects before the background `light`, float64 [H, W], which is changed; the nearest last.

    How far a pixel's centre lies outside an outline is that of `distance_outside`; `inner` is the apothem
    of each object in pixels.
    """
    height, width = light.shape
    directions = np.empty((max(1, edges.max()), 2))
    for i in range(len(edges)):
        x, y, n = xs[i], ys[i], edges[i]
        for k in range(n):
            angle = angles[i] + np.pi / 2 + 2 * np.pi * k / n
            directions[k, 0], directions[k, 1] = np.cos(angle), np.sin(angle)
        reach = (inner[i] / np.cos(np.pi / n) if n else inner[i]) + 1
        for row in range(max(0, int(np.floor(y - reach))), min(height, int(np.ceil(y + reach)))):
            for column in range(max(0, int(np.floor(x - reach))), min(width, int(np.ceil(x + reach)))):
                dx, dy = column + 0.5 - x, row + 0.5 - y
                beyond = -np.inf if n else np.sqrt(dx * dx + dy * dy)
                for k in range(n):
                    beyond = max(beyond, dx * directions[k, 0] + dy * directions[k, 1])
                covered = min(max(0.5 - (beyond - inner[i]), 0.0), 1.0)
                light[row, column] += covered * (own[i] - light[row, column])

"""The recurrence of neurons and its gradient, written out by hand in NumPy; shares no code with snn.

Follows the formulas published beside the golden vectors: forward per step, then back through time with
g the gradient of a spike and d the gradient that reaches the membrane from the step after.
"""

from typing import NamedTuple

import numpy as np


class Expected(NamedTuple):
    spikes: np.ndarray  # [T, B, ...], with their value
    v: np.ndarray  # [B, ...]
    grad_current: np.ndarray  # [T, B, ...]
    grad_v: np.ndarray  # [B, ...], gradient of the initial membrane
    grad_threshold: float
    grad_scale: float


def logistic(z):
    return 1 / (1 + np.exp(-z))


def surrogate(u, threshold, s):
    """G(u) by the table of published revisions."""
    tri = np.where(np.abs(u) < s.gamma, s.gamma - np.abs(u), 0) / s.gamma**2
    a = u + threshold
    z = logistic(threshold * u)
    by_slope = logistic(s.slope * u)
    return {
        "triangle": tri,
        "triangle_membrane": np.where(np.abs(a) < s.gamma, s.gamma - np.abs(a), 0) / s.gamma**2,
        "product": z * (1 - z) * threshold * tri,
        "product_atan": 0.5 * threshold * tri / (1 + np.square(np.pi * threshold * u / 2)),
        "identity": np.ones_like(u),
        "sigmoid": s.slope * by_slope * (1 - by_slope),
        "atan": 0.5 * s.slope / (1 + np.square(np.pi * s.slope * u / 2)),
    }[s.surrogate]


def neuron(x, v, threshold, scale, s, grad_spikes, grad_final):
    """Run x [T, B, ...] from v [B, ...] in float64 and back from the gradients of both results."""
    charged, distances, fired, m = [], [], [], v
    for current in x:
        a = s.decay * m + current
        u = a - threshold
        spike = np.where(u >= 0 if s.fire_rule == ">=" else u > 0, 1.0, 0.0)
        m = (1 - spike) * a if s.reset == "hard" else a - threshold * spike
        charged, distances, fired = [*charged, a], [*distances, u], [*fired, spike]
    value = {"one": 1.0, "threshold": 3.3 * threshold, "learned": scale}[s.spike_value]
    learns = s.threshold_gradient != "none"

    d, grad_current = grad_final, np.zeros_like(x)
    grad_threshold = grad_scale = 0.0
    for t in reversed(range(len(x))):
        a, u, spike, g = charged[t], distances[t], fired[t], grad_spikes[t]
        reset_slope = a if s.reset == "hard" else threshold
        e = g - (0 if s.detach_reset else d * reset_slope)
        psi = e * surrogate(u, threshold, s)
        grad_current[t] = psi + (d * (1 - spike) if s.reset == "hard" else d)
        if learns:
            grad_threshold -= psi.sum()
            grad_threshold -= (d * spike).sum() if s.reset == "soft" else 0
        if s.threshold_gradient == "subtract+explicit":
            grad_threshold -= (psi * logistic(u))[u >= 0].sum()
        if s.threshold_gradient == "subtract+squared":
            grad_threshold -= (e * psi)[u >= 0].sum()
        if s.spike_value == "threshold":
            grad_threshold += (g * spike).sum()
        if s.spike_value == "learned":
            grad_scale += (g * spike).sum()
        d = s.decay * grad_current[t]
    return Expected(value * np.stack(fired), m, grad_current, d, grad_threshold, grad_scale)

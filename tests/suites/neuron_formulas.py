"""The recurrence of neurons and its gradient, written out by hand in NumPy; shares no code with snn.

Written from the equations, not from the program: forward per step, then back through time, edge by edge.
Going backward, g is the gradient of what the neuron hands on, d the gradient that reaches the membrane from
the step after. Sources: LT-SNN (IJCNN 2024), IM-SNN and SpQuant-SNN, one-hot M-LIF (IEEE Access 2025) and the
code they released; PLIF (ICCV 2021).
"""

from typing import NamedTuple

import numpy as np


class Expected(NamedTuple):
    """Both results, then the gradient of every input in the order of `neuron`'s arguments."""

    spikes: np.ndarray  # [T, B, ...], merged over lanes
    v: np.ndarray  # [B, ...]
    grad_current: np.ndarray  # [T, B, ...]
    grad_v: np.ndarray  # [B, ...]
    grad_threshold: np.ndarray  # in the shape of the threshold: () or [C]
    grad_decay: np.ndarray  # in the shape of the decay: () or [C]
    grad_scale: float


class Step(NamedTuple):
    """What the way back needs of one step, each [B, ...]."""

    before: np.ndarray  # membrane that came in
    current: np.ndarray  # after the mask
    a: np.ndarray  # membrane charged
    value: np.ndarray  # merged lanes
    fired: np.ndarray
    r: np.ndarray  # membrane after the reset, before its levels


def neuron(x, v, threshold, decay, scale, s, grad_spikes, grad_final, mask=None):
    """Run x [T, B, ...] from v [B, ...] in float64 and back from the gradients of both results."""
    theta, keep = over_channels(threshold, x), over_channels(decay, x)
    steps = []
    for t in range(len(x)):
        current = x[t] if mask is None else x[t] * over_space(mask[t], x[t])
        step, v = forward(v, current, theta, keep, s)
        steps.append(step)
    amplitude = {"one": 1.0, "threshold": 3.3 * theta, "learned": scale}[s.spike_value]
    spikes = np.stack([amplitude * step.value for step in steps])

    d, grad_current = grad_final, np.zeros_like(x)
    sums = {"threshold": np.zeros(x.shape[1:]), "decay": np.zeros(x.shape[1:])}
    grad_scale = 0.0
    for t in reversed(range(len(x))):
        step, g = steps[t], grad_spikes[t]
        grad_a, grad_theta = backward(step, g, d, theta, s)
        if s.spike_value == "threshold":
            grad_theta = grad_theta + g * step.value
        if s.spike_value == "learned":
            grad_scale += (g * step.value).sum()
        sums["threshold"] += grad_theta
        if s.charge == "decay_input":  # a = rest + keep (before - rest) + (1 - keep) current
            grad_current[t] = (1 - keep) * grad_a
            sums["decay"] += grad_a * (step.before - s.rest - step.current)
        else:  # a = rest + keep (before - rest) + current
            grad_current[t] = grad_a
            sums["decay"] += grad_a * (step.before - s.rest)
        d = keep * grad_a
    if mask is not None:
        grad_current *= np.stack([over_space(mask[t], x[t]) for t in range(len(x))])
    return Expected(
        spikes,
        v,
        grad_current,
        d,
        sum_like(threshold, sums["threshold"]),
        sum_like(decay, sums["decay"]),
        grad_scale,
    )


def forward(before, current, theta, keep, s):
    """Return the step and the membrane after it."""
    gain = 1 - keep if s.charge == "decay_input" else 1.0
    a = s.rest + keep * (before - s.rest) + gain * current
    reached = [a >= w * theta if s.fire_rule == ">=" else a > w * theta for w in weights(s)]
    # One-hot: the highest lane that was reached. Cumulative: every one.
    lanes = [w * hit for w, hit in zip(weights(s), reached, strict=True)]
    value = np.sum(lanes, axis=0) if s.firing == "cumulative" else np.max(lanes, axis=0)
    fired = (value > 0).astype(float)
    r = {
        "hard": np.where(fired == 1, s.rest, a),
        "soft": a - theta * fired,
        "soft_value": a - theta * value,
        "all": np.full_like(a, s.rest),
    }[s.reset]
    return Step(before, current, a, value, fired, r), quantise(r, s.membrane)


def backward(step, g, d, theta, s):
    """Return the gradients of a and of the threshold, [B, ...], not summed."""
    a = step.a
    rho = d * quantise_slope(step.r, s.membrane)
    # How the reset membrane r hangs on a directly, on the fired bit and on the value.
    straight = {"hard": 1 - step.fired, "soft": 1.0, "soft_value": 1.0, "all": 0.0}[s.reset]
    by_fired = {"hard": s.rest - a, "soft": -theta, "soft_value": 0.0, "all": 0.0}[s.reset]
    by_value = {"hard": 0.0, "soft": 0.0, "soft_value": -theta, "all": 0.0}[s.reset]
    if s.detach_reset:
        by_fired = by_value = 0.0
    grad_a, grad_theta = rho * straight, np.zeros_like(a)
    for w, jump, start, (bump, bump_theta) in zip(weights(s), *jumps(s), bumps(a, theta, s), strict=True):
        e = jump * (g + rho * by_value) + start * rho * by_fired
        grad_a = grad_a + e * bump
        grad_theta = grad_theta + e * bump_theta
        if s.threshold_gradient == "subtract+explicit":
            grad_theta -= np.where(a >= w * theta, e * bump * logistic(a - w * theta), 0)
        if s.threshold_gradient == "subtract+squared":
            grad_theta -= np.where(a >= w * theta, e * e * bump, 0)
    if s.reset == "soft":
        grad_theta -= rho * step.fired
    if s.reset == "soft_value":
        grad_theta -= rho * step.value
    return grad_a, np.zeros_like(a) if s.threshold_gradient == "none" else grad_theta


def weights(s):
    """Return w_s: 1, 2, 4, ... or, scaled, ..., 1/4, 1/2, 1."""
    return [2.0 ** (k - (s.lanes - 1 if s.scaled else 0)) for k in range(s.lanes)]


def jumps(s):
    """Return by how much the value and the fired bit change at each lane's lower edge.

    In the release of M-LIF the lower lane does not stop there but starts again.
    """
    w = weights(s)
    if s.firing == "cumulative":
        return w, [1.0] + [0.0] * (s.lanes - 1)
    stops = 1 if s.upper_edge == "subtract" else -1
    return [w[0]] + [w[k] - stops * w[k - 1] for k in range(1, s.lanes)], [1.0] + [1.0 - stops] * (
        s.lanes - 1
    )


def bumps(a, theta, s):
    """Return for each lane the surrogate's stand-in for d[a > c]/da and for d[a > c]/dtheta."""
    pairs = []
    for w in weights(s):
        c = w * theta
        if s.surrogate_width == "membrane":  # of a - c
            bump = surrogate(a - c, theta, s)
            pairs.append((bump, -w * bump))
        elif s.surrogate_width == "ignore_threshold":  # of a - w
            pairs.append((surrogate(a - w, theta, s), np.zeros_like(a)))
        else:  # of a / c - 1 or a / theta - w
            unit = c if s.surrogate_width == "lane" else theta
            bump = surrogate((a - c) / unit, theta, s)
            pairs.append((bump / unit, -bump * a / (unit * theta)))
    return pairs


def surrogate(u, theta, s):
    """Return G(u) by the table of published forms."""
    tri = np.where(np.abs(u) < s.gamma, s.gamma - np.abs(u), 0) / s.gamma**2
    a = u + theta
    z = logistic(theta * u)
    by_slope = logistic(s.slope * u)
    found = {
        "triangle": tri,
        "triangle_membrane": np.where(np.abs(a) < s.gamma, s.gamma - np.abs(a), 0) / s.gamma**2,
        "product": z * (1 - z) * theta * tri,
        "product_atan": 0.5 * theta * tri / (1 + np.square(np.pi * theta * u / 2)),
        "identity": np.ones_like(u),
        "sigmoid": s.slope * by_slope * (1 - by_slope),
        "atan": 0.5 * s.slope / (1 + np.square(np.pi * s.slope * u / 2)),
    }[s.surrogate]
    return s.surrogate_scale * found


def quantise(r, m):
    """Return the level of r: the nearest (ties down), or the highest that is not above."""
    if not m.levels:
        return r
    levels = np.array(m.levels)
    clipped = np.clip(r, levels[0], levels[-1])[..., None]
    if m.rounding == "floor":
        return levels[(levels <= clipped).sum(-1) - 1]
    return levels[np.abs(levels - clipped).argmin(-1)]  # the first of equals: the lower


def quantise_slope(r, m):
    """Return the stand-in for the derivative of `quantise`."""
    if not m.levels:
        return np.ones_like(r)
    if m.gradient == "zero":
        return np.zeros_like(r)
    if m.gradient == "pass":
        return np.where(r <= m.top, 1.0, 0.0)
    slope = np.zeros_like(r)
    for low, high in zip(m.levels[:-1], m.levels[1:], strict=True):
        boundary = high if m.rounding == "floor" else 0.5 * (low + high)
        z = logistic(m.slope * (r - boundary))
        slope += (high - low if m.bump_height == "step" else 1.0) * m.slope * z * (1 - z)
    return slope


def logistic(z):
    return 0.5 * (1 + np.tanh(z / 2))


def over_channels(parameter, x):
    """Return a number or [C] so that it broadcasts against a step [B, C, ...] of x."""
    parameter = np.asarray(parameter, dtype=float)
    return parameter if parameter.ndim == 0 else parameter.reshape(-1, *[1] * (x.ndim - 3))


def over_space(mask, step):
    """Return a mask [B, C] so that it broadcasts against a step [B, C, ...]."""
    return mask.reshape(*mask.shape, *[1] * (step.ndim - 2))


def sum_like(parameter, terms):
    """Return the terms [B, C, ...] summed to the shape of a parameter, () or [C]."""
    if np.ndim(parameter) == 0:
        return terms.sum()
    return np.moveaxis(terms, 1, 0).reshape(len(parameter), -1).sum(-1)

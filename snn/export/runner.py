"""Run an exported network: whole numbers from the counts of events to the logits. Needs NumPy alone.

from snn.export.network import read_network
from snn.export.runner import run_network

logits = run_network(read_network(path), frames)  # int64 [T, B, K]
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from snn.errors import ExportError
from snn.export.integer_ops import convolve, largest, windows
from snn.export.network import IntegerNetwork, Layer


def run_network(
    network: IntegerNetwork, frames: np.ndarray, *, spikes: dict[str, np.ndarray] | None = None
) -> np.ndarray:
    """Return logits for every step, int64, shape [T, B, K].

    A logit is worth 2^-logit_fraction_bits; the class is that of the largest sum over steps.

    Args:
        network: What is run.
        frames: Counts of events, an integer dtype, shape [T, B, P, H, W]; T is 1 where the network repeats
            a picture.
        spikes: Where the spikes of every layer of neurons are put, by name, int64, shape [T, B, ...].

    Raises:
        ExportError: The frames are not of the shape, type or size the network was exported for.
    """
    check_frames(network, frames)
    frames = frames.astype(np.int64)
    if network.repeats is not None:
        frames = np.broadcast_to(frames, (network.repeats, *frames.shape[1:]))
    T, B = frames.shape[:2]
    signals = {"frames": frames}
    last_use = {name: i for i, layer in enumerate(network.layers) for name in layer.inputs}
    for i, layer in enumerate(network.layers):
        inputs = [signals[name].reshape(T * B, *signals[name].shape[2:]) for name in layer.inputs]
        out = (
            _run_neurons(layer, inputs[0], T) if layer.kind == "neuron" else STEPS[layer.kind](layer, *inputs)
        )
        signals[layer.name] = out.reshape(T, B, *layer.shape)
        if spikes is not None and layer.kind == "neuron":
            spikes[layer.name] = signals[layer.name]
        for name in layer.inputs:
            if last_use[name] == i:
                signals.pop(name, None)
    return signals[network.layers[-1].name]


def check_frames(network: IntegerNetwork, frames: np.ndarray) -> None:
    """Raise ExportError unless frames are whole numbers of the shape and size a network is made for."""
    expected = ", ".join(map(str, network.frames))
    if frames.ndim != 5 or frames.shape[2:] != network.frames:
        raise ExportError(f"frames: found shape {frames.shape}, expected [T, B, {expected}]")
    if not np.issubdtype(frames.dtype, np.integer):
        raise ExportError(f"frames: found dtype {frames.dtype}, expected whole numbers, such as uint8")
    lowest, highest = int(frames.min(initial=0)), int(frames.max(initial=0))
    if lowest < 0 or highest > network.largest_count:
        raise ExportError(
            f"frames: found counts from {lowest} to {highest}, expected 0 to {network.largest_count}; "
            "export with a larger largest count"
        )
    if network.repeats is not None and len(frames) != 1:
        raise ExportError(
            f"frames: found {len(frames)} steps, expected 1: this network repeats a frame "
            f"{network.repeats} times"
        )
    if len(frames) > network.most_steps:
        raise ExportError(
            f"frames: found {len(frames)} steps, expected at most {network.most_steps}; export for more"
        )


def _scaled(layer: Layer, sums: np.ndarray) -> np.ndarray:
    """Return sums [N, O, ...] times the scale plus the bias, both brought to the same fraction bits."""
    n = layer.numbers
    over = (-1, *[1] * (sums.ndim - 2))
    scale = layer.arrays["scale"].astype(np.int64).reshape(over)
    bias = layer.arrays["bias"].astype(np.int64).reshape(over)
    return ((sums * scale << n["scale_shift"]) + (bias << n["bias_shift"])) >> n["shift_right"]


def _conv(layer: Layer, x: np.ndarray) -> np.ndarray:
    n = layer.numbers
    stride, padding = tuple(n["stride"]), tuple(n["padding"])
    sums = convolve(x, layer.arrays["weight"], stride=stride, padding=padding, groups=n["groups"])
    return _scaled(layer, sums)


def _linear(layer: Layer, x: np.ndarray) -> np.ndarray:
    return _scaled(layer, x @ layer.arrays["weight"].astype(np.int64).T)


def _add(layer: Layer, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    first, second = layer.numbers["shifts"]
    return (one << first) + (other << second)


def _max_pool(layer: Layer, x: np.ndarray) -> np.ndarray:
    n = layer.numbers
    return largest(x, kernel=n["kernel"], stride=n["stride"], padding=n["padding"])


def _attention(layer: Layer, query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return V K^T Q head by head, over places, for [N, C, H, W]; its scale is in the fraction bits."""
    heads = layer.numbers["heads"]
    q, k, v = (x.reshape(len(x), heads, x.shape[1] // heads, -1) for x in (query, key, value))
    return (v @ k.swapaxes(-1, -2) @ q).reshape(query.shape)


STEPS: dict[str, Callable[..., np.ndarray]] = {
    "conv": _conv,
    "linear": _linear,
    "sum_pool": lambda _, x: windows(x).sum(axis=(-2, -1)),
    "max_pool": _max_pool,
    "sum_places": lambda _, x: x.sum(axis=(-2, -1)),
    "flatten": lambda _, x: x.reshape(len(x), -1),
    "add": _add,
    "attention": _attention,
}


def _run_neurons(layer: Layer, current: np.ndarray, T: int) -> np.ndarray:
    """Return spikes [T, B, ...] for a current [T * B, ...]; see `snn.neurons.reference` for the rules."""
    n = layer.numbers
    current = current.reshape(T, -1, *current.shape[1:]) << n["guard_bits"]
    a = {name: _over_channels(array, current.ndim) for name, array in layer.arrays.items() if array.ndim == 2}
    a |= {name: array for name, array in layer.arrays.items() if array.ndim == 1}
    v = np.full(current.shape[1:], n["rest"], np.int64)
    spikes = np.empty_like(current)
    for t, x in enumerate(current):
        above_rest = v - n["rest"]
        if n["charge"] == "decay":
            charged = n["rest"] + _leak(above_rest, n, a) + x
        else:
            charged = v + _leak(x - above_rest, n, a)
        reached = sum((charged >= threshold).astype(np.int64) for threshold in a["thresholds"])
        spikes[t] = a["spike_values"][reached]
        v = _levels(_reset(charged, reached, n, a), a)
    return spikes


def _over_channels(array: np.ndarray, dimensions: int) -> np.ndarray:
    """Return [L, C] so that each of the L rows broadcasts against one step [B, C, ...]."""
    return array.reshape(len(array), -1, *[1] * (dimensions - 3))


def _leak(x: np.ndarray, n: dict[str, Any], a: dict[str, np.ndarray]) -> np.ndarray:
    """Return x times the leak, rounded down."""
    return x >> n["leak_shift"] if "leak" not in a else (x * a["leak"][0]) >> n["leak_shift"]


def _reset(
    charged: np.ndarray, reached: np.ndarray, n: dict[str, Any], a: dict[str, np.ndarray]
) -> np.ndarray:
    if n["reset"] == "all":
        return np.full_like(charged, n["rest"])
    if n["reset"] == "hard":
        return np.where(reached > 0, n["rest"], charged)
    for count, taken in enumerate(a["taken"]):
        charged = np.where(reached == count, charged - taken, charged)
    return charged


def _levels(r: np.ndarray, a: dict[str, np.ndarray]) -> np.ndarray:
    """Return the level of every membrane value; r itself where there are no levels."""
    if "levels" not in a:
        return r
    return a["levels"][np.searchsorted(a["boundaries"], r, side="right")]

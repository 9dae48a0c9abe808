"""That no sum of an exported network can exceed 63 bits, whatever the frames."""

import numpy as np

from snn.errors import ExportError
from snn.export.network import IntegerNetwork, Layer

MOST = 2**63 - 1


def check_bounds(network: IntegerNetwork) -> None:
    """Raise ExportError where frames within the network's own limits could overflow int64.

    Bounds are worst cases of every layer, from the sizes of its own weights, in whole numbers of any size.
    """
    bounds = {"frames": network.largest_count}
    for layer in network.layers:
        largest, handed_on = _bound(layer, [bounds[name] for name in layer.inputs], network)
        if max(largest, handed_on) > MOST:
            raise ExportError(
                f"layer {layer.name!r}: its sums may take {largest.bit_length() + 1} bits, expected at most "
                f"64; use fewer fraction bits, fewer guard bits or a smaller largest count than "
                f"{network.largest_count}"
            )
        bounds[layer.name] = handed_on


def _bound(layer: Layer, given: list[int], network: IntegerNetwork) -> tuple[int, int]:
    """Return the largest size of anything on the way, and of what is handed on."""
    if layer.kind in ("conv", "linear"):
        return _weighted(layer, given[0])
    if layer.kind == "neuron":
        return _neuron(layer, given[0], network.most_steps), int(np.abs(layer.arrays["spike_values"]).max())
    if layer.kind == "add":
        largest = sum(bound << shift for bound, shift in zip(given, layer.numbers["shifts"], strict=True))
    elif layer.kind == "attention":
        C, H, W = layer.shape
        largest = given[0] * given[1] * given[2] * H * W * (C // layer.numbers["heads"])
    elif layer.kind == "sum_pool":
        largest = 4 * given[0]
    elif layer.kind == "sum_places":
        # How many places there are is not known here; no map has more than this.
        largest = given[0] << 20
    else:
        largest = given[0]
    return largest, largest


def _weighted(layer: Layer, given: int) -> tuple[int, int]:
    weight = layer.arrays["weight"]
    sizes = np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(axis=1)
    n = layer.numbers
    scale_shift, bias_shift = n["scale_shift"], n["bias_shift"]
    channels = zip(sizes.tolist(), layer.arrays["scale"].tolist(), layer.arrays["bias"].tolist(), strict=True)
    largest = max(
        (size * given * max(1, abs(scale)) << scale_shift) + (abs(bias) << bias_shift)
        for size, scale, bias in channels
    )
    return largest, (largest >> n["shift_right"]) + 1


def _neuron(layer: Layer, given: int, steps: int) -> int:
    """Return a bound of the membrane: currents of all steps, what is taken at resets, levels, rest."""
    n, arrays = layer.numbers, layer.arrays
    current = given << n["guard_bits"]
    sizes = [int(np.abs(arrays[name]).max()) for name in ("taken", "levels", "thresholds") if name in arrays]
    factor = int(np.abs(arrays["leak"]).max()) if "leak" in arrays else 1
    membrane = steps * (current + sum(sizes) + abs(n["rest"]) + 1)
    if "levels" in arrays:
        membrane = current + int(np.abs(arrays["levels"]).max()) + abs(n["rest"])
    return (membrane + current) * factor

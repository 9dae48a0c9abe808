"""From a plan to a network in whole numbers.

A signal is a whole number worth 2^-fraction_bits. A mean over 2x2 places stays a sum with two fraction bits
more, so that nothing is lost; a convolution multiplies by a scale of F fraction bits, which adds F. Whether a
membrane of f fraction bits reaches a threshold, or a level's boundary, is exact whatever f is: it is worth
theta or more just where the whole number is at least theta 2^f rounded up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

from snn.errors import ExportError
from snn.export.bounds import check_bounds
from snn.export.fixed_point import FixedPoint, to_fixed
from snn.export.network import IntegerNetwork, Layer
from snn.export.plan import FRAMES, Neurons, Node, Plan, Weights

# Fraction bits of a membrane are not driven beyond this, so that sums stay below 2^63.
MOST_FRACTION_BITS = 48
# Of numbers that are no spikes where another layer multiplies them.
MOST_CURRENT_BITS = 20


@dataclass(frozen=True)
class ExportSettings:
    """How a network becomes whole numbers.

    Attributes:
        form: Of scales, biases and leaks that are no shift.
        guard_bits: Fraction bits of a membrane beyond those of its current; None takes as many as the leak
            needs to be exact over `steps`.
        largest_count: Largest number of events a place of a frame may have.
        steps: Most steps T that it will be run for; of no use where the network repeats a frame.
    """

    form: FixedPoint = field(default_factory=FixedPoint)
    guard_bits: int | None = 0
    largest_count: int = 255
    steps: int = 64


def integer_network(
    plan: Plan, settings: ExportSettings, *, about: dict[str, Any] | None = None
) -> IntegerNetwork:
    """Return a plan in whole numbers.

    Args:
        plan: What every layer computes.
        settings: Bits of the numbers.
        about: Kept with the network, as plain JSON types.

    Raises:
        ExportError: A layer is in float, or sums could exceed 63 bits.
    """
    _refuse_float(plan)
    settings = settings if plan.repeats is None else replace(settings, steps=plan.repeats)
    multiplied = _multiplied(plan)
    layers: dict[str, Layer] = {}
    fractions, factors = {FRAMES: 0}, {FRAMES: Fraction(1)}
    for node in plan.nodes:
        given = [fractions[name] for name in node.inputs]
        factor = factors[node.inputs[0]]
        if factor != 1 and node.kind != "linear":
            raise ExportError(
                f"layer {node.name!r}: found a mean over a number of places that is no power of two before "
                "it, expected a linear layer there, which takes the division in"
            )
        layer, factors[node.name] = _layer(node, given, factor, settings, plan)
        if node.weights is not None and node.name in multiplied:
            layer = _narrowed(layer)
        layers[node.name], fractions[node.name] = layer, layer.fraction_bits
    form = settings.form
    numbers = {"bits": form.bits, "fraction_bits": form.fraction_bits, "rounding": form.rounding}
    network = IntegerNetwork(
        tuple(plan.frames),
        settings.largest_count,
        settings.steps,
        plan.repeats,
        tuple(layers.values()),
        {"fixed_point": numbers} | (about or {}),
    )
    check_bounds(network)
    return network


def _multiplied(plan: Plan) -> set[str]:
    """Return what layers with weights see, themselves or in a sum."""
    seen: set[str] = set()
    for node in reversed(plan.nodes):
        if node.weights is not None or (node.kind == "add" and node.name in seen):
            seen.update(node.inputs)
    return seen


def _refuse_float(plan: Plan) -> None:
    found = [n.name for n in plan.nodes if n.weights is not None and n.weights.rule == "float"]
    if found:
        raise ExportError(
            f"layers {', '.join(map(repr, found))}: found weights in float, expected 2, 3, 4 or 8 bits; "
            "export with --float-bits 8, or train with model.weights.first_bits, last_bits and "
            "shortcut_bits of 8"
        )


def _layer(
    node: Node, given: list[int], factor: Fraction, settings: ExportSettings, plan: Plan
) -> tuple[Layer, Fraction]:
    """Return a layer, and the factor that what it hands on is still to be multiplied by."""
    plain = Layer(node.name, node.kind, node.inputs, node.shape, given[0], dict(node.numbers))
    if node.weights is not None:
        return _weighted(plain, node.weights, factor, settings.form), Fraction(1)
    if node.neurons is not None:
        return _neuron(plain, node.neurons, settings), Fraction(1)
    if node.kind == "sum_pool":
        return replace(plain, fraction_bits=given[0] + 2), factor
    if node.kind == "attention":
        return replace(plain, fraction_bits=sum(given) + node.numbers["fraction_bits"]), factor
    if node.kind == "add":
        most = max(given)
        return replace(plain, fraction_bits=most, numbers={"shifts": [most - g for g in given]}), factor
    if node.kind == "sum_places":
        _, H, W = _shape(plan, node.inputs[0])
        if (H * W) & (H * W - 1) == 0:
            return replace(plain, fraction_bits=given[0] + (H * W).bit_length() - 1), factor
        return plain, Fraction(1, H * W)
    return plain, factor


def _shape(plan: Plan, name: str) -> tuple[int, ...]:
    return plan.frames if name == FRAMES else next(n.shape for n in plan.nodes if n.name == name)


def _weighted(plain: Layer, weights: Weights, factor: Fraction, form: FixedPoint) -> Layer:
    scale = to_fixed(weights.scale * float(factor), form)
    bias = to_fixed(weights.bias, form)
    product_bits = plain.fraction_bits + scale.fraction_bits
    fraction_bits = max(product_bits, bias.fraction_bits)
    numbers: dict[str, Any] = {
        "weight_bits": weights.bits,
        "weight_rule": weights.rule,
        "scale_fraction_bits": scale.fraction_bits,
        "shift_right": 0,
        "scale_shift": fraction_bits - product_bits,
        "bias_shift": fraction_bits - bias.fraction_bits,
        "saturated_scales": scale.saturated,
        "saturated_biases": bias.saturated,
        "lost_scales": scale.lost,
        "exact": scale.exact and bias.exact,
    }
    if plain.kind == "conv":
        numbers |= {
            "stride": list(weights.stride),
            "padding": list(weights.padding),
            "groups": weights.groups,
        }
    arrays = {
        "weight": weights.values,
        "scale": scale.codes.astype(np.int32),
        "bias": bias.codes.astype(np.int32),
    }
    return replace(plain, fraction_bits=fraction_bits, numbers=numbers, arrays=arrays)


def _narrowed(layer: Layer) -> Layer:
    """Return a layer that drops fraction bits beyond 20: another one multiplies what it hands on."""
    drop = max(0, layer.fraction_bits - MOST_CURRENT_BITS)
    exact = layer.numbers["exact"] and drop == 0
    numbers = layer.numbers | {"shift_right": drop, "exact": exact}
    return replace(layer, fraction_bits=layer.fraction_bits - drop, numbers=numbers)


def _neuron(plain: Layer, neurons: Neurons, settings: ExportSettings) -> Layer:
    s, current_bits = neurons.settings, plain.fraction_bits
    leak = neurons.decay if s.charge == "decay" else 1 - neurons.decay
    needed = _exact_guard(neurons, leak, current_bits, settings.steps)
    asked = needed if settings.guard_bits is None else settings.guard_bits
    guard = max(0, min(asked, MOST_FRACTION_BITS - current_bits))
    one = 2.0 ** (current_bits + guard)
    unit = min(s.lane_values)
    numbers: dict[str, Any] = {
        "charge": s.charge,
        "reset": s.reset,
        "rest": round(s.rest * one),
        "guard_bits": guard,
        "membrane_fraction_bits": current_bits + guard,
        "fires_at": s.fire_rule,
    }
    arrays = {
        "thresholds": _edges(np.outer(s.lane_values, neurons.threshold), one, upper=s.fire_rule == ">="),
        "spike_values": np.array([round(value / unit) for value in s.spike_values], np.int64),
    }
    if s.reset in ("soft", "soft_value"):
        sizes = s.spike_values if s.reset == "soft_value" else (0.0, *[1.0] * s.lanes)
        arrays["taken"] = np.rint(np.outer(sizes, neurons.threshold) * one).astype(np.int64)
    if s.membrane.levels:
        upper = s.membrane.rounding == "floor"
        arrays["levels"] = np.rint(np.array(s.membrane.levels) * one).astype(np.int64)
        arrays["boundaries"] = _edges(np.array(s.membrane.boundaries), one, upper=upper)
    leak_numbers, leak_arrays, leak_exact = _leak(leak, settings.form)
    numbers |= leak_numbers | {"exact": leak_exact and guard >= needed}
    spike_bits = s.lanes - 1 if s.scaled else 0
    return replace(plain, fraction_bits=spike_bits, numbers=numbers, arrays=arrays | leak_arrays)


def _edges(values: np.ndarray, one: float, *, upper: bool) -> np.ndarray:
    """Return the smallest whole number that reaches each value (`upper`), or that lies above it; int64."""
    scaled = values * one
    return (np.ceil(scaled) if upper else np.floor(scaled) + 1).astype(np.int64)


def _leak(leak: np.ndarray, form: FixedPoint) -> tuple[dict[str, Any], dict[str, np.ndarray], bool]:
    """Return how a leak is applied: by a shift where it is one power of two for all, else by a product."""
    mantissa, exponent = np.frexp(leak)
    if (mantissa == 0.5).all() and (exponent == exponent[0]).all() and exponent[0] <= 1:
        return {"leak_shift": int(1 - exponent[0])}, {}, True
    fixed = to_fixed(leak, form)
    return {"leak_shift": fixed.fraction_bits}, {"leak": fixed.codes.reshape(1, -1)}, fixed.exact


def _exact_guard(neurons: Neurons, leak: np.ndarray, current_bits: int, steps: int) -> int:
    """Return the guard bits with which neither leak nor levels nor resets are rounded."""
    s = neurons.settings
    per_step = _fraction_bits(leak)
    fixed = _fraction_bits([s.rest, *s.membrane.levels])
    if s.reset in ("soft", "soft_value"):
        fixed = max(fixed, _fraction_bits(np.outer(s.spike_values, neurons.threshold).ravel()))
    if s.reset == "all":
        return max(0, fixed + per_step - current_bits)
    if s.membrane.levels:
        # The charge is on the grid of currents and leaked levels, and no step adds to that.
        own = per_step if s.charge == "decay_input" else 0
        return max(own, fixed + per_step - current_bits, 0)
    shared = steps if s.charge == "decay_input" else steps - 1
    return max(0, fixed - current_bits) + per_step * shared


def _fraction_bits(values: Sequence[float] | np.ndarray) -> int:
    """Return how many fraction bits tell these numbers exactly."""
    return max(Fraction(float(value)).denominator.bit_length() - 1 for value in values)

"""What one layer of neurons computes: the options of the recurrence, the default, and the published forms.

Sources: LT-SNN, Hasssan et al., IJCNN 2024 (10650320) and its released code; TET's fixed LIF; IM-SNN and
SpQuant-SNN's fixed LIF. `docs/neurons.md` says what every option is and why the default is the default.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from snn.errors import NeuronError, did_you_mean

Kind = Literal["lif", "lt"]
FireRule = Literal[">=", ">"]
Reset = Literal["hard", "soft"]
Surrogate = Literal["triangle", "triangle_membrane", "product", "product_atan", "identity", "sigmoid", "atan"]
ThresholdGradient = Literal["subtract", "subtract+explicit", "subtract+squared", "none"]
ThresholdConstraint = Literal["none", "positive", "sigmoid"]
SpikeValue = Literal["one", "threshold", "learned"]


def _check_choice(name: str, found: Any, choices: tuple[str, ...]) -> None:
    if found in choices:
        return
    hint = did_you_mean(found, choices)
    raise NeuronError(f"{name}: found {found!r}, expected one of {', '.join(choices)}{hint}")


def _check_number(name: str, found: Any, expected: str, accepts: Callable[[float], bool]) -> None:
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    if not (is_number and math.isfinite(found) and accepts(found)):
        raise NeuronError(f"{name}: found {found!r}, expected a number {expected}")


@dataclass(frozen=True)
class NeuronSettings:
    """One layer of neurons. The rules behind the names are in `snn.neurons.reference`.

    Attributes:
        kind: `lif`: the threshold is a constant. `lt`: it is one learned scalar per layer.
        decay: Share of the membrane kept from one step to the next, from 0 to 1.
        threshold: Firing threshold; for `lt` its value before training.
        fire_rule: Whether a membrane exactly at the threshold fires (`>=`) or not (`>`).
        reset: `hard`: a neuron that fired starts again at 0. `soft`: it keeps what exceeds the threshold.
        detach_reset: Whether the gradient stops at the spike inside the reset.
        surrogate: Stand-in for the derivative of the spike, a key of `snn.neurons.surrogate.SURROGATES`.
        gamma: Half width of the triangle, in units of the membrane, above 0.
        slope: Steepness of the surrogates `sigmoid` and `atan`, above 0.
        threshold_gradient: How the threshold of `lt` learns. `subtract`: the ordinary gradient of
            u = a - threshold. `subtract+explicit`: plus LT-SNN's second path (released since 27 August
            2022). `subtract+squared`: plus the second path of June 2022, in which the gradient from
            above enters squared. `none`: only through the value of a spike, see `spike_value`.
        threshold_constraint: `none`; `positive`: softplus of a free parameter; `sigmoid`: between 0 and 1.
        spike_value: What a spike hands on. `one`: 1. `threshold`: 3.3 times the threshold. `learned`: a
            learned scalar per layer. The last two are kept from the history of the release.
    """

    kind: Kind = "lt"
    decay: float = 0.5
    threshold: float = 1.0
    fire_rule: FireRule = ">="
    reset: Reset = "hard"
    detach_reset: bool = False
    surrogate: Surrogate = "triangle"
    gamma: float = 1.0
    slope: float = 4.0
    threshold_gradient: ThresholdGradient = "subtract"
    threshold_constraint: ThresholdConstraint = "none"
    spike_value: SpikeValue = "one"

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            _check_choice(name, getattr(self, name), choices)
        _check_number("decay", self.decay, "from 0 to 1", lambda value: 0 <= value <= 1)
        _check_number("threshold", self.threshold, "finite", lambda value: True)
        _check_number("gamma", self.gamma, "above 0", lambda value: value > 0)
        _check_number("slope", self.slope, "above 0", lambda value: value > 0)
        self._check_constraint()
        if self.kind == "lif" and self.spike_value != "one":
            raise NeuronError(f"spike_value {self.spike_value!r} needs kind 'lt', found kind 'lif'")

    def _check_constraint(self) -> None:
        """Raise NeuronError where the threshold before training breaks its own constraint."""
        if self.threshold_constraint == "positive" and self.threshold <= 0:
            raise NeuronError(
                f"threshold: found {self.threshold}, expected above 0 with threshold_constraint 'positive'"
            )
        if self.threshold_constraint == "sigmoid" and not 0 < self.threshold < 1:
            raise NeuronError(
                f"threshold: found {self.threshold}, expected between 0 and 1 "
                "with threshold_constraint 'sigmoid'"
            )

    def fixed(self) -> "NeuronSettings":
        """Return the same neuron with a constant threshold, as the first layer of LT-SNN's networks has."""
        return replace(self, kind="lif", threshold_constraint="none", spike_value="one")


CHOICES: dict[str, tuple[str, ...]] = {
    "kind": get_args(Kind),
    "fire_rule": get_args(FireRule),
    "reset": get_args(Reset),
    "surrogate": get_args(Surrogate),
    "threshold_gradient": get_args(ThresholdGradient),
    "threshold_constraint": get_args(ThresholdConstraint),
    "spike_value": get_args(SpikeValue),
}

# What was released, by name. Each differs from the default only where it says so.
PUBLISHED: dict[str, NeuronSettings] = {
    # LT-SNN from 27 August 2022 to the last revision.
    "lt": NeuronSettings(kind="lt", threshold_gradient="subtract+explicit"),
    # LT-SNN from June to 26 August 2022; every VGG log that was shipped comes from it.
    "lt_june_2022": NeuronSettings(kind="lt", surrogate="product", threshold_gradient="subtract+squared"),
    # LT-SNN's history, never wired into a network.
    "lt_atan": NeuronSettings(kind="lt", surrogate="product_atan", threshold_gradient="subtract+squared"),
    "lt_spike_threshold": NeuronSettings(
        kind="lt",
        fire_rule=">",
        surrogate="triangle_membrane",
        threshold_gradient="none",
        spike_value="threshold",
    ),
    "lt_spike_learned": NeuronSettings(
        kind="lt",
        fire_rule=">",
        surrogate="triangle_membrane",
        threshold_gradient="none",
        spike_value="learned",
    ),
    # The detector of the same authors: no leak, the gradient passes the spike unchanged.
    "lt_detector": NeuronSettings(kind="lt", decay=1.0, surrogate="identity"),
    # Fixed LIF: LT-SNN since October 2022; IM-SNN, SpQuant-SNN, TET and one-lane M-LIF.
    "lif": NeuronSettings(kind="lif"),
    "lif_strict": NeuronSettings(kind="lif", fire_rule=">"),
}


def published(name: str = "lt") -> NeuronSettings:
    """Return a neuron exactly as it was released; `name` is a key of `PUBLISHED`.

    Raises:
        NeuronError: No such release is known.
    """
    _check_choice("published neuron", name, tuple(PUBLISHED))
    return PUBLISHED[name]

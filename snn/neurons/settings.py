"""What one layer of neurons computes: the options of the recurrence, the default, and the published forms.

Sources: LT-SNN, Hasssan et al., IJCNN 2024 (10650320) and its released code; TET's fixed LIF; IM-SNN and
SpQuant-SNN's LIF with a membrane of few levels; one-hot M-LIF, IEEE Access 2025, and its released code;
PLIF, Fang et al., ICCV 2021. `docs/neurons.md` says what every option is and why the default is the default.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, get_args

from snn.errors import NeuronError, did_you_mean
from snn.neurons.membrane import MEMBRANES, MembraneSettings

Charge = Literal["decay", "decay_input"]
FireRule = Literal[">=", ">"]
Firing = Literal["one_hot", "cumulative"]
Reset = Literal["hard", "soft", "soft_value", "all"]
Surrogate = Literal["triangle", "triangle_membrane", "product", "product_atan", "identity", "sigmoid", "atan"]
SurrogateWidth = Literal["membrane", "threshold", "lane", "ignore_threshold"]
UpperEdge = Literal["subtract", "add"]
ThresholdGradient = Literal["subtract", "subtract+explicit", "subtract+squared", "none"]
ThresholdConstraint = Literal["none", "positive", "sigmoid"]
DecayConstraint = Literal["none", "sigmoid"]
SpikeValue = Literal["one", "threshold", "learned"]

MOST_LANES = 8
# Surrogates that are one bump, symmetric around the place where the spike changes.
BUMPS = ("triangle", "sigmoid", "atan", "identity")


def _check_choice(name: str, found: Any, choices: tuple[str, ...]) -> None:
    if found in choices:
        return
    hint = did_you_mean(found, choices)
    raise NeuronError(f"{name}: found {found!r}, expected one of {', '.join(choices)}{hint}")


def _check_number(name: str, found: Any, expected: str, accepts: Callable[[float], bool]) -> None:
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    if not (is_number and math.isfinite(found) and accepts(found)):
        raise NeuronError(f"{name}: found {found!r}, expected {expected}")


@dataclass(frozen=True)
class NeuronSettings:
    """One layer of neurons. The rules behind the names are in `snn.neurons.reference`.

    Attributes:
        decay: Share of the membrane kept from one step to the next, from 0 to 1, 1 - 1/tau; where it is
            learned, its value before training.
        learn_decay: Whether the decay is a parameter (PLIF; M-LIF after conversion).
        decay_constraint: `none`; `sigmoid`: between 0 and 1, as in PLIF.
        charge: `decay`: the current is added as it is. `decay_input`: it is scaled by 1 - decay.
        threshold: Firing threshold; where it is learned, its value before training.
        learn_threshold: Whether the threshold is a parameter (LT-SNN).
        threshold_constraint: `none`; `positive`: softplus of a free parameter; `sigmoid`: between 0 and 1.
        threshold_gradient: How a learned threshold learns. `subtract`: the ordinary gradient of
            u = a - threshold. `subtract+explicit`: plus LT-SNN's second path (released since 27 August
            2022). `subtract+squared`: plus the second path of June 2022, in which the gradient from
            above enters squared. `none`: only through the value of a spike, see `spike_value`; where that
            is not the threshold, it stays as it is.
        per_channel: Whether every channel learns a threshold and decay of its own.
        lanes: Number S of levels a spike may have, 1 to 8: 1, 2, 4, ... 2^(S-1). 1 is a binary spike.
        scaled: Whether the values, and the thresholds with them, are divided by 2^(S-1): ... 1/4, 1/2, 1.
        firing: Of several lanes, `one_hot`: the highest one reached fires. `cumulative`: every lane
            reached fires, and their values add up.
        fire_rule: Whether a membrane exactly at a threshold reaches it (`>=`; lanes are open on the right)
            or not (`>`; lanes are open on the left).
        reset: What a neuron that fired is left with. `hard`: the rest value. `soft`: what exceeds the
            threshold, whatever the lane. `soft_value`: what exceeds the emitted value times the
            threshold. `all`: every neuron returns to rest, fired or not (M-LIF's release, by accident).
        rest: Membrane at rest: what it leaks to, and where it starts and is reset to.
        detach_reset: Whether the gradient stops at the spike inside the reset.
        membrane: Levels the membrane may take between steps; a float without levels.
        surrogate: Stand-in for the derivative of the spike, a key of `snn.neurons.surrogate.SURROGATES`.
        gamma: Half width of the triangle, in units of `surrogate_width`, above 0.
        slope: Steepness of the surrogates `sigmoid` and `atan`, above 0.
        surrogate_scale: Factor on the surrogate, above 0.
        surrogate_width: Unit of the surrogate's width. `membrane`: as the membrane. `threshold`: the
            threshold. `lane`: the threshold of each lane, so that higher lanes have wider bumps.
            `ignore_threshold`: as the membrane, and centred as if the threshold were 1 (M-LIF's fused
            kernel, by accident).
        upper_edge: Sign of the gradient where a lane hands over to the next. `subtract`: the lower lane
            stops firing there, as the equations have it. `add`: M-LIF's release.
        spike_value: What a binary spike hands on. `one`: 1. `threshold`: 3.3 times the threshold.
            `learned`: a learned scalar per layer. The last two are kept from LT-SNN's history.
    """

    decay: float = 0.5
    learn_decay: bool = False
    decay_constraint: DecayConstraint = "none"
    charge: Charge = "decay"
    threshold: float = 1.0
    learn_threshold: bool = True
    threshold_constraint: ThresholdConstraint = "none"
    threshold_gradient: ThresholdGradient = "subtract"
    per_channel: bool = False
    lanes: int = 1
    scaled: bool = False
    firing: Firing = "one_hot"
    fire_rule: FireRule = ">="
    reset: Reset = "hard"
    rest: float = 0.0
    detach_reset: bool = False
    membrane: MembraneSettings = field(default_factory=MembraneSettings)
    surrogate: Surrogate = "triangle"
    gamma: float = 1.0
    slope: float = 4.0
    surrogate_scale: float = 1.0
    surrogate_width: SurrogateWidth = "membrane"
    upper_edge: UpperEdge = "subtract"
    spike_value: SpikeValue = "one"

    # Filled below: settings to start from, by name.
    PRESETS: ClassVar[dict[str, "NeuronSettings"]] = {}

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            _check_choice(name, getattr(self, name), choices)
        _check_number("decay", self.decay, "a number from 0 to 1", lambda value: 0 <= value <= 1)
        _check_number("threshold", self.threshold, "a finite number", lambda value: True)
        _check_number("rest", self.rest, "a finite number", lambda value: True)
        for name in ("gamma", "slope", "surrogate_scale"):
            _check_number(name, getattr(self, name), "a number above 0", lambda value: value > 0)
        if type(self.lanes) is not int or not 1 <= self.lanes <= MOST_LANES:
            raise NeuronError(f"lanes: found {self.lanes!r}, expected a whole number from 1 to {MOST_LANES}")
        if not isinstance(self.membrane, MembraneSettings):
            raise NeuronError(f"membrane: found {self.membrane!r}, expected MembraneSettings")
        self._check_constraints()
        self._check_lanes()
        if not self.learn_threshold and self.spike_value != "one":
            raise NeuronError(
                f"spike_value: found {self.spike_value!r} with a constant threshold, expected one, "
                "or learn_threshold"
            )

    def _check_constraints(self) -> None:
        """Raise NeuronError where a value before training breaks its own constraint."""
        for name, constraint in (
            ("threshold", self.threshold_constraint),
            ("decay", self.decay_constraint),
        ):
            value = getattr(self, name)
            if constraint == "positive" and value <= 0:
                raise NeuronError(
                    f"{name}: found {value}, expected above 0 with {name}_constraint 'positive'"
                )
            if constraint == "sigmoid" and not 0 < value < 1:
                raise NeuronError(
                    f"{name}: found {value}, expected between 0 and 1 with {name}_constraint 'sigmoid'"
                )

    def _check_lanes(self) -> None:
        """Raise NeuronError where an option that knows one binary spike meets lanes or their widths."""
        relative = self.surrogate_width in ("threshold", "lane")
        if (self.lanes > 1 or relative) and self.threshold <= 0:
            raise NeuronError(
                f"threshold: found {self.threshold}, expected above 0 with lanes={self.lanes} "
                f"and surrogate_width {self.surrogate_width!r}"
            )
        if self.lanes == 1 and self.surrogate_width == "membrane":
            return
        if self.surrogate not in BUMPS:
            raise NeuronError(
                f"surrogate: found {self.surrogate!r}, expected one of {', '.join(BUMPS)} "
                f"with lanes={self.lanes} and surrogate_width {self.surrogate_width!r}"
            )
        if self.threshold_gradient in ("subtract+explicit", "subtract+squared"):
            raise NeuronError(
                f"threshold_gradient: found {self.threshold_gradient!r}, expected subtract or none "
                f"with lanes={self.lanes} and surrogate_width {self.surrogate_width!r}"
            )
        if self.lanes > 1 and self.spike_value != "one":
            raise NeuronError(
                f"spike_value: found {self.spike_value!r}, expected one with lanes={self.lanes}"
            )

    @property
    def threshold_learns(self) -> bool:
        """Whether a gradient reaches the threshold: from its distance, or as the value of a spike."""
        reached = self.threshold_gradient != "none" or self.spike_value == "threshold"
        return self.learn_threshold and reached

    @property
    def lane_values(self) -> tuple[float, ...]:
        """Value w of each lane, also its threshold in units of the threshold; ascending."""
        smallest = 2.0 ** (1 - self.lanes) if self.scaled else 1.0
        return tuple(smallest * 2**s for s in range(self.lanes))

    @property
    def spike_values(self) -> tuple[float, ...]:
        """Every value a spike can have, ascending, 0 first; not defined for values that are learned."""
        if self.spike_value != "one":
            raise NeuronError(
                f"spike_value: found {self.spike_value!r}, whose values are learned, expected one"
            )
        if self.firing == "one_hot":
            return (0.0, *self.lane_values)
        return tuple(sum(self.lane_values[:s]) for s in range(self.lanes + 1))

    def fixed(self) -> "NeuronSettings":
        """Return the same neuron with a constant threshold, as the first layer of LT-SNN's networks has.

        What only says how a threshold learns goes back to its default. A decay stays as it is.
        """
        return replace(
            self,
            learn_threshold=False,
            threshold_constraint="none",
            threshold_gradient="subtract",
            spike_value="one",
        )


CHOICES: dict[str, tuple[str, ...]] = {
    "decay_constraint": get_args(DecayConstraint),
    "charge": get_args(Charge),
    "threshold_constraint": get_args(ThresholdConstraint),
    "threshold_gradient": get_args(ThresholdGradient),
    "firing": get_args(Firing),
    "fire_rule": get_args(FireRule),
    "reset": get_args(Reset),
    "surrogate": get_args(Surrogate),
    "surrogate_width": get_args(SurrogateWidth),
    "upper_edge": get_args(UpperEdge),
    "spike_value": get_args(SpikeValue),
}

# The family by name, each with the behaviour we hold to be right.
NEURONS: dict[str, NeuronSettings] = {
    "lif": NeuronSettings(learn_threshold=False),
    # Decay learned, one per layer. Source: PLIF; the surrogate and both resets as in its released code.
    "plif": NeuronSettings(
        learn_threshold=False,
        learn_decay=True,
        decay_constraint="sigmoid",
        charge="decay_input",
        detach_reset=True,
        surrogate="atan",
        slope=2.0,
    ),
    "lt": NeuronSettings(),
    "quantlif": NeuronSettings(learn_threshold=False, fire_rule=">", membrane=MEMBRANES["ternary"]),
    "mlif": NeuronSettings(
        learn_threshold=False, lanes=3, fire_rule=">", detach_reset=True, surrogate_width="lane"
    ),
}
NeuronSettings.PRESETS.update(NEURONS)

_MLIF = replace(NEURONS["mlif"], upper_edge="add")
_MLIF_NODE = replace(_MLIF, charge="decay_input", scaled=True, surrogate="sigmoid")
_MLIF_FAST = replace(_MLIF_NODE, fire_rule=">=", surrogate_width="threshold", upper_edge="subtract")

# What was released, by name. Each differs from the default only where it says so.
PUBLISHED: dict[str, NeuronSettings] = {
    # LT-SNN from 27 August 2022 to the last revision.
    "lt": NeuronSettings(threshold_gradient="subtract+explicit"),
    # LT-SNN from June to 26 August 2022; every VGG log that was shipped comes from it.
    "lt_june_2022": NeuronSettings(surrogate="product", threshold_gradient="subtract+squared"),
    # LT-SNN's history, never wired into a network.
    "lt_atan": NeuronSettings(surrogate="product_atan", threshold_gradient="subtract+squared"),
    "lt_spike_threshold": NeuronSettings(
        fire_rule=">", surrogate="triangle_membrane", threshold_gradient="none", spike_value="threshold"
    ),
    "lt_spike_learned": NeuronSettings(
        fire_rule=">", surrogate="triangle_membrane", threshold_gradient="none", spike_value="learned"
    ),
    # The detector of the same authors: no leak, the gradient passes the spike unchanged.
    "lt_detector": NeuronSettings(decay=1.0, surrogate="identity"),
    # Fixed LIF: LT-SNN since October 2022; IM-SNN, SpQuant-SNN, TET and one-lane M-LIF.
    "lif": NeuronSettings(learn_threshold=False),
    "lif_strict": NeuronSettings(learn_threshold=False, fire_rule=">"),
    # LT-SNN, October 2022: the membrane rounded down to 23 levels.
    "lif_floor23": NeuronSettings(learn_threshold=False, membrane=MEMBRANES["floor23"]),
    # IM-SNN and SpQuant-SNN: five levels by default, three as in the papers, 24 on the chip.
    "quantlif_five": replace(NEURONS["quantlif"], membrane=MEMBRANES["five"]),
    "quantlif_ternary": NEURONS["quantlif"],
    "quantlif_chip": replace(NEURONS["quantlif"], membrane=MEMBRANES["chip_published"]),
    # One-hot M-LIF: VGGSNN; the networks converted from ANNs (learned threshold and leak); the transformer's
    # node; its fast node; the fused kernel of the fast node.
    "mlif": _MLIF,
    "mlif_converted": replace(
        _MLIF, learn_threshold=True, learn_decay=True, decay=1.0, reset="soft_value", surrogate_scale=0.3
    ),
    "mlif_node": _MLIF_NODE,
    "mlif_fast": _MLIF_FAST,
    "mlif_kernel": replace(_MLIF_FAST, surrogate_width="ignore_threshold"),
}


def published(name: str = "lt") -> NeuronSettings:
    """Return a neuron exactly as it was released; `name` is a key of `PUBLISHED`.

    Raises:
        NeuronError: No such release is known.
    """
    _check_choice("published neuron", name, tuple(PUBLISHED))
    return PUBLISHED[name]

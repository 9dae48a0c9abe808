"""In how many bits each layer's weights are, and by which rule."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from snn.errors import QuantError, did_you_mean
from snn.quant.learned_clip import grid

Rule = Literal["auto", "sawb", "mean_abs", "ternary", "ternary_mean", "four_level", "learned_clip"]

FLOAT_BITS = 32

# Bits each rule is for.
RULE_BITS: dict[str, tuple[int, ...]] = {
    "auto": (2, 3, 4, 8),
    "sawb": (2, 3, 4, 8),
    "mean_abs": (2, 3, 4, 8),
    "ternary": (2,),
    "ternary_mean": (2,),
    "four_level": (2,),
    "learned_clip": (2, 3, 4, 8),
}
# What a rule was released as, where that differs from it; see WeightSettings.published.
PUBLISHED = ("sawb", "mean_abs", "ternary", "four_level", "learned_clip")


class LayerRule(NamedTuple):
    """How one layer's weights are brought to few bits.

    Attributes:
        bits: 2, 3, 4 or 8.
        rule: Key of `RULE_BITS`, never `auto`.
        per_channel, power_of_two, levels, published: As in WeightSettings.
    """

    bits: int
    rule: str
    per_channel: bool = False
    power_of_two: bool = False
    levels: tuple[float, ...] = ()
    published: bool = False


@dataclass(frozen=True)
class WeightSettings:
    """Bits of the weights, by the role of a layer. Biases and normalisations stay in float.

    Attributes:
        bits: Of all convolutions and linear layers that are none of the below: 2, 3, 4 or 8; 32 is float.
        rule: How levels are placed. `sawb`: SAWB from the weights as they are. `mean_abs`: clip at
            2 mean |w|. `ternary`: SpQuant-SNN's three levels. `ternary_mean`: TWN's. `four_level`: SAWB's
            four, without zero. `learned_clip`: the nearest of `levels` below a learned clip. `auto`: `sawb`,
            but `learned_clip` for 8 bits, where SAWB's clip falls below 0 for weights that are far from
            normal. A role with bits that the rule is not for takes what `auto` would.
        first_bits: Of the layer that sees the frames.
        last_bits: Of the classifier.
        shortcut_bits: Of convolutions beside a residual path.
        gate_bits: Of layers that decide which channels or places are computed.
        per_channel: Whether every output channel has its own scale; for `sawb` and `mean_abs`.
        power_of_two: Whether scales are powers of two, in training too: then a shift applies them, exactly.
        levels: For `learned_clip`, sizes from 0 to 1 such as (0, 0.25, 0.5, 1), of which both signs exist;
            empty takes evenly spaced ones. As many as the bits tell apart.
        published: Each rule as it was released, where that differs: `sawb` and `mean_abs` carry their clip
            from call to call and use another in evaluation; `sawb` with `per_channel` cuts codes to -3 to 6;
            `four_level` passes gradients where |w| < 1, `learned_clip` everywhere. For comparison only.
    """

    bits: int = FLOAT_BITS
    rule: Rule = "auto"
    first_bits: int = FLOAT_BITS
    last_bits: int = FLOAT_BITS
    shortcut_bits: int = FLOAT_BITS
    gate_bits: int = FLOAT_BITS
    per_channel: bool = False
    power_of_two: bool = False
    levels: tuple[float, ...] = ()
    published: bool = False

    def __post_init__(self) -> None:
        for name in ("bits", "first_bits", "last_bits", "shortcut_bits", "gate_bits"):
            _check_bits(name, getattr(self, name))
        if self.rule not in get_args(Rule):
            hint = did_you_mean(self.rule, RULE_BITS)
            raise QuantError(
                f"weights.rule: found {self.rule!r}, expected one of {', '.join(RULE_BITS)}{hint}"
            )
        if self.bits != FLOAT_BITS and self.bits not in RULE_BITS[self.rule]:
            expected = " or ".join(map(str, RULE_BITS[self.rule]))
            raise QuantError(
                f"weights.bits: found {self.bits} with rule {self.rule!r}, expected {expected}; "
                "sawb, mean_abs and learned_clip have 2, 3, 4 and 8"
            )
        self._check_levels()
        self._check_options()

    def _check_levels(self) -> None:
        if not self.levels:
            return
        if self.rule != "learned_clip":
            raise QuantError(f"weights.levels: found with rule {self.rule!r}, expected rule 'learned_clip'")
        grid(self.levels)
        count = 2 * len(self.levels) - 1
        bits = (count - 1).bit_length()
        if self.bits != bits:
            raise QuantError(
                f"weights.bits: found {self.bits} for {count} levels ({len(self.levels)} sizes, both signs), "
                f"expected {bits}, the fewest that tell them apart"
            )

    def _check_options(self) -> None:
        """Raise QuantError where an option has nothing to act on, or two do not go together."""
        options = ("per_channel", "power_of_two", "published")
        asked = [name for name in options if getattr(self, name)] + ["rule"] * (self.rule != "auto")
        if asked and not self.anything:
            raise QuantError(
                f"weights.{asked[0]}: found {getattr(self, asked[0])!r} with all weights in float, "
                "expected weights.bits of 2, 3, 4 or 8"
            )
        rule = self._automatic(self.bits) if self.rule == "auto" else self.rule
        if self.per_channel and rule not in ("sawb", "mean_abs"):
            raise QuantError(f"weights.per_channel: found true with rule {rule!r}, expected sawb or mean_abs")
        if not self.published:
            return
        if rule not in PUBLISHED:
            raise QuantError(
                f"weights.published: found true with rule {rule!r}, expected {', '.join(PUBLISHED)}"
            )
        if self.power_of_two:
            raise QuantError("weights.published: found true with power_of_two, which was never released")
        if self.per_channel and (rule != "sawb" or any(bits != 4 for bits in self._used())):
            raise QuantError(
                "weights.published: found true with per_channel, which was released for sawb in 4 bits alone"
            )

    def _used(self) -> list[int]:
        found = (self.bits, self.first_bits, self.last_bits, self.shortcut_bits, self.gate_bits)
        return [bits for bits in found if bits != FLOAT_BITS]

    def _automatic(self, bits: int) -> str:
        """Return what `auto` means; options that only SAWB has choose it for 8 bits, too."""
        return "learned_clip" if bits == 8 and not (self.per_channel or self.published) else "sawb"

    @property
    def anything(self) -> bool:
        """Whether any layer is to have few bits."""
        return bool(self._used())

    def for_role(self, role: str) -> LayerRule | None:
        """Return how a layer of a role is brought to few bits; None leaves it in float.

        Args:
            role: `first`, `inner`, `shortcut`, `gate` or `last`, see `snn.layers.weight_layers`.
        """
        bits = self.bits if role == "inner" else getattr(self, f"{role}_bits")
        if bits == FLOAT_BITS:
            return None
        fits = self.rule != "auto" and bits in RULE_BITS[self.rule]
        rule = self.rule if fits else self._automatic(bits)
        levels = self.levels if rule == "learned_clip" and bits == self.bits else ()
        per_channel = self.per_channel and rule in ("sawb", "mean_abs")
        return LayerRule(bits, rule, per_channel, self.power_of_two, levels, self.published)


def _check_bits(name: str, found: Any) -> None:
    known = (*RULE_BITS["sawb"], FLOAT_BITS)
    if type(found) is not int or found not in known:
        raise QuantError(
            f"weights.{name}: found {found!r}, expected one of {', '.join(map(str, known))} (32 is float)"
        )

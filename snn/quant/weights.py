"""The quantiser of one layer, as a module: it holds what is learned or carried along, and nothing else.

`codes(weight)` and `forward(weight)` take the same scale: what training computes with is what evaluation
computes with and what is exported. (The rules `published` as they were released are the exception.)
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from snn.errors import QuantError
from snn.quant import reference
from snn.quant.learned_clip import fit_clip, grid, learned_clip, nearest_level, uniform_levels
from snn.quant.reference import Quantised, largest_code, straight_through
from snn.quant.settings import LayerRule


class WeightQuantiser(nn.Module):
    """Brings one layer's weights to few bits; put on a layer by `snn.quant.apply.quantise_weights`.

    Attributes:
        rule: Bits, rule and options.
        layer: Name of the layer, for messages.
    """

    def __init__(self, rule: LayerRule, *, layer: str) -> None:
        super().__init__()
        self.rule, self.layer = rule, layer

    def codes(self, weight: Tensor) -> Quantised:
        """Return integer codes, their scale, and the size up to which gradients pass.

        Raises:
            QuantError: The scale is not above 0.
        """
        quantised = self.unchecked(weight)
        return quantised._replace(scale=self._above_zero(quantised.scale))

    def forward(self, weight: Tensor) -> Tensor:
        """Return codes * scale, in the shape of the weight, with a gradient for the weight."""
        return straight_through(weight, self.codes(weight))

    @property
    def code_values(self) -> tuple[int, ...]:
        """Every code there can be, ascending."""
        if self.rule.rule == "four_level":
            return (-3, -1, 1, 3)
        N = largest_code(self.rule.bits)
        if self.rule.published and self.rule.per_channel:
            return tuple(range(-3, 7))
        return tuple(range(-N, N + 1))

    def start_from(self, weight: Tensor) -> None:
        """Take up float weights: set what is learned or carried along as for weights just drawn."""

    def unchecked(self, weight: Tensor) -> Quantised:
        """Return `codes`, whatever the scale."""
        return quantise_by(self.rule, weight)

    def _above_zero(self, scale: Tensor) -> Tensor:
        """Return the scale; raise where it is not above 0, or on a GPU make it NaN without waiting."""
        if scale.device.type == "cpu" and not torch.compiler.is_compiling():
            if bool((scale <= 0).any()):
                raise QuantError(self.collapse(float(scale.min())))
            return scale
        return torch.where(scale > 0, scale, torch.nan)

    def collapse(self, scale: float) -> str:
        """Return in words that the scale is not above 0, and what to do."""
        return (
            f"layer {self.layer!r}: its {self.rule.bits}-bit weights collapsed: found the scale {scale:.3g} "
            f"(rule {self.rule.rule!r}), expected above 0: all its weights are 0 or of about one size; start "
            "from float weights, lower training.learning_rate, or use model.weights.rule='mean_abs'"
        )

    def extra_repr(self) -> str:
        """Return bits, rule and options in one line."""
        named = ("per_channel", "power_of_two", "published")
        options = "".join(f", {name}" for name in named if getattr(self.rule, name))
        return f"{self.rule.bits} bits, {self.rule.rule}, {len(self.code_values)} levels{options}"


def quantise_by(rule: LayerRule, w: Tensor) -> Quantised:
    """Return weights by a rule without state or anything learned."""
    options = {"power_of_two": rule.power_of_two}
    if rule.rule == "ternary":
        return reference.ternary(w, **options)
    if rule.rule == "ternary_mean":
        return reference.ternary_mean(w, **options)
    if rule.rule == "four_level":
        return reference.four_level(w, published=rule.published, **options)
    if rule.rule == "mean_abs":
        return reference.mean_abs(w, bits=rule.bits, per_channel=rule.per_channel, **options)
    if rule.published and rule.per_channel:
        return reference.sawb_channelwise_published(w)
    return reference.sawb(w, bits=rule.bits, per_channel=rule.per_channel, **options)


class StatefulQuantiser(WeightQuantiser):
    """SAWB or mean-abs as released: the clip of a training call is that of the call before.

    In evaluation the clip is taken from the weights as they are, so that a trained network is evaluated and
    exported with other weights than it was trained with.

    Attributes:
        alpha: Buffer, the clip of the next training call; 1 at first.
    """

    alpha: Tensor

    def __init__(self, rule: LayerRule, *, layer: str) -> None:
        super().__init__(rule, layer=layer)
        self.register_buffer("alpha", torch.tensor(1.0))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight of a training call, and carry the clip on; in evaluation as the others."""
        if not self.training:
            return super().forward(weight)
        quantised, alpha = reference.stateful_step(
            weight, self.alpha, bits=self.rule.bits, rule=self.rule.rule
        )
        scale = self._above_zero(quantised.scale)
        self.alpha = alpha
        return straight_through(weight, quantised._replace(scale=scale))

    def start_from(self, weight: Tensor) -> None:
        """Set the clip back to 1, as released."""
        self.alpha = torch.ones_like(self.alpha)


class LearnedClipQuantiser(WeightQuantiser):
    """The nearest of a list of levels below a clip that is learned.

    Attributes:
        log_alpha: Parameter, the logarithm of the clip, which so stays above 0, whatever the step.
        levels: Sizes from 0 to 1.
    """

    def __init__(self, rule: LayerRule, *, layer: str) -> None:
        super().__init__(rule, layer=layer)
        self.levels: Sequence[float] = rule.levels or uniform_levels(rule.bits)
        self.log_alpha = nn.Parameter(torch.zeros(()))

    @property
    def alpha(self) -> Tensor:
        """The clip."""
        return self.log_alpha.exp()

    def forward(self, weight: Tensor) -> Tensor:
        """Return the nearest levels, with gradients for the weight and the clip."""
        alpha = self._above_zero(self.alpha)
        return learned_clip(
            weight,
            alpha,
            levels=self.levels,
            power_of_two=self.rule.power_of_two,
            published=self.rule.published,
        )

    @property
    def code_values(self) -> tuple[int, ...]:
        """Every code there can be, ascending."""
        whole, _ = grid(self.levels)
        return (*(-code for code in reversed(whole[1:])), *whole)

    def start_from(self, weight: Tensor) -> None:
        """Set the clip to the one of least squared error for these weights."""
        with torch.no_grad():
            self.log_alpha.copy_(fit_clip(weight, levels=self.levels).log())

    def unchecked(self, weight: Tensor) -> Quantised:
        """Return `codes`, whatever the scale."""
        return nearest_level(weight, self.alpha, levels=self.levels, power_of_two=self.rule.power_of_two)


def make_quantiser(rule: LayerRule, *, layer: str) -> WeightQuantiser:
    """Return the quantiser of a layer."""
    if rule.rule == "learned_clip":
        return LearnedClipQuantiser(rule, layer=layer)
    if rule.published and rule.rule in ("sawb", "mean_abs") and not rule.per_channel:
        return StatefulQuantiser(rule, layer=layer)
    return WeightQuantiser(rule, layer=layer)

"""Gates as modules: they look at a block's input and decide which channels or places are computed.

A decision belongs to one sample and one step. In training everything is computed, since what is left out
is also looked at; what a gate saves, it saves in evaluation, on a machine that can leave it out.
"""

import math
from dataclasses import replace
from statistics import NormalDist
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from snn.errors import SparsityError
from snn.layers import Gate, Gated, convolve
from snn.processes import draw_uniform, mean_over_batch
from snn.sparsity import reference
from snn.sparsity.settings import SparsitySettings
from snn.sparsity.targets import (
    kept_entries,
    largest_after_norm,
    mean_after_norm,
    prune_fraction,
    shares,
    top_mass,
)

# Temperatures of drawn gates, and steepness and first threshold of channel gating. Source: the releases.
SPATIAL_TEMPERATURE = 0.4
CHANNEL_TEMPERATURE = 2 / 3
STEEPNESS = 2.0
PUBLISHED_THRESHOLD = -6.0
# Hidden features of the squeeze gate are one in this many of the input channels. Source: the release.
SQUEEZE = 4

Control = Literal["none", "shuffled", "swapped"]


class LearnedGate(Gate):
    """What all gates share: the warm-up, and other decisions in place of their own for comparison.

    Attributes:
        settings: What they are taught.
        batches: Training batches seen, int64.
        control: In evaluation, what becomes of the decisions. `none`: they hold. `shuffled`: each sample's
            and step's are dealt to other channels or places by chance, as many kept. `swapped`: a batch's
            samples have each other's, by chance.
    """

    batches: Tensor

    def __init__(self, settings: SparsitySettings) -> None:
        super().__init__()
        self.settings = settings
        self.control: Control = "none"
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def warm(self) -> Tensor:
        """Return whether everything is kept still, a scalar; counts a batch in training."""
        warm = self.batches < self.settings.warm_up_batches
        if self.training:
            self.batches += 1
        return warm

    def settled(self, kept: Tensor, warm: Tensor) -> Tensor:
        """Return decisions [T, B, ...] as they hold: all 1 in the warm-up, others in their place if asked."""
        kept = torch.where(warm, torch.ones_like(kept), kept)
        if self.training or self.control == "none":
            return kept
        # Always the same chance, so that a result can be had again.
        generator = torch.Generator().manual_seed(0)
        if self.control == "swapped":
            return kept[:, torch.randperm(kept.shape[1], generator=generator).to(kept.device)]
        flat = kept.flatten(2)
        order = torch.rand(flat.shape, generator=generator).argsort(dim=2)
        return flat.gather(2, order.to(flat.device)).reshape(kept.shape)

    def budget_loss(self, kept: Tensor, warm: Tensor) -> Tensor | None:
        """Return the squared distance of the kept share from what is asked; 0 in the warm-up.

        Of drawn gates, kept is what evaluation would keep: else the share drawn is as asked while hardly a
        logit is above 0.
        """
        if not self.training:
            return None
        distance = mean_over_batch(kept.mean(dtype=torch.float32)) - (1 - self.settings.share)
        return torch.where(warm, 0.0, distance.square())

    def extra_repr(self) -> str:
        """Return what the gate is to keep."""
        s = self.settings
        parts = [s.kind, *[s.target] * (s.kind == "channel_predictor"), f"ratio={s.share:g}"]
        parts += [f"random, {s.random}"] * (s.random != "no") + ["published"] * s.published
        return ", ".join(parts)


class ChannelPredictor(LearnedGate):
    """A linear layer on how active each input channel is where, taught which output channels are largest.

    Its loss is binary cross entropy with the target of `snn.sparsity.targets`, summed over channels. It has
    no other gradient unless it learns from the task too, and hands none to the spikes it looks at.

    Attributes:
        scale: Brings the activity of each part of each input channel to mean 0 and deviation 1, by running
            statistics in training too: a batch's own would lead to other decisions in evaluation. As
            published, nothing.
        linear: From these parts to one logit an output channel.
    """

    def __init__(self, in_channels: int, channels: int, settings: SparsitySettings) -> None:
        super().__init__(settings)
        published = settings.published
        features = in_channels if published else in_channels * settings.grid**2
        if published and in_channels > reference.PREDICTOR_WHOLE:
            features = -(-in_channels // reference.PREDICTOR_STEP)
        self.scale = nn.Identity() if published else nn.BatchNorm1d(features, affine=False)
        self.linear = nn.Linear(features, channels)

    def forward(
        self, x: Tensor, conv: nn.Conv2d, norm: nn.Module, *, book: tuple[float, ...] | None = None
    ) -> Gated:
        """Run the convolution and decide by channel; see `snn.layers.Gate`."""
        y, warm = convolve(x, conv, book), self.warm()
        logits = self.logits(x)
        kept = self.decide(logits.detach())
        if self.training and self.settings.learn_from_task:
            kept = reference.straight_through(kept, torch.sigmoid(logits))
        kept = self.settled(kept, warm)
        if not self.training:
            return Gated(y, kept, kept, None)
        target = self.target(y, norm)
        if self.keeps_what_is_likely:
            target = torch.where(warm, 1.0, target)
        loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return Gated(y, kept, kept, loss.sum(dim=2).mean())

    def logits(self, x: Tensor) -> Tensor:
        """Return a logit for every output channel, float32, shape [T, B, C_out], for x [T, B, C, H, W]."""
        frames = x.detach().flatten(0, 1)
        if self.settings.published:
            features = reference.published_features(frames)
        else:
            features = self._scaled(reference.grid_means(frames, self.settings.grid))
        return self.linear(features).float().unflatten(0, x.shape[:2])

    def _scaled(self, rates: Tensor) -> Tensor:
        if not isinstance(self.scale, nn.BatchNorm1d):
            return rates
        if self.training:
            self.scale(rates)  # for its running statistics alone
        mean, variance = self.scale.running_mean, self.scale.running_var
        return functional.batch_norm(rates, mean, variance, training=False, eps=self.scale.eps)

    @property
    def keeps_what_is_likely(self) -> bool:
        """Whether every logit above 0 is kept, however many; else always as many."""
        return self.settings.target == "top_mass" or self.settings.published

    def decide(self, logits: Tensor) -> Tensor:
        """Return 1 for channels to compute, for logits [T, B, C]; see `SparsitySettings.target`."""
        if self.keeps_what_is_likely:
            return (logits > 0).to(logits.dtype)
        return reference.keep_largest(logits, kept_entries(logits.shape[2], self.settings.share))

    def target(self, y: Tensor, norm: nn.Module) -> Tensor:
        """Return which channels are to be kept, shape [T, B, C], for what the convolution gave."""
        s = self.settings
        activation = largest_after_norm if s.score == "largest" or s.published else mean_after_norm
        scores = shares(activation(y.flatten(0, 1), norm))
        if s.target == "top_mass":
            keep = top_mass(scores, s.share, published=s.published)
        else:
            keep = prune_fraction(scores, s.share)
        return keep.unflatten(0, y.shape[:2])


class RandomGate(LearnedGate):
    """Channels or patches by chance, for comparison: always as many as the kind it stands for is to keep.

    Attributes:
        seed: What is kept where it is fixed is drawn with this, int64.
    """

    seed: Tensor

    def __init__(self, settings: SparsitySettings) -> None:
        super().__init__(replace(settings, warm_up_batches=0))
        self.register_buffer("seed", torch.randint(2**31, ()))

    def forward(
        self, x: Tensor, conv: nn.Conv2d, norm: nn.Module, *, book: tuple[float, ...] | None = None
    ) -> Gated:
        """Run the convolution and draw channels or patches; see `snn.layers.Gate`."""
        y = convolve(x, conv, book)
        if self.settings.kind != "spatial":
            kept = self.drawn(x, (y.shape[2],))
            return Gated(y, kept, kept, None)
        kept = self.drawn(x, (1, *patches_of(y, self.settings.patch)))
        return Gated(y, _spread(kept, y, self.settings), kept, None)

    def drawn(self, x: Tensor, entries: tuple[int, ...]) -> Tensor:
        """Return decisions [T, B, *entries] for x [T, B, ...]."""
        steps, samples = x.shape[:2]
        count = math.prod(entries)
        if self.settings.random == "drawn":
            # In evaluation always the same ones, so that a result can be had again.
            if self.training:
                order = draw_uniform(steps, samples, count)
            else:
                generator = torch.Generator().manual_seed(0)
                order = torch.rand(steps, samples, count, generator=generator)
        else:
            generator = torch.Generator().manual_seed(int(self.seed))
            order = torch.rand(count, generator=generator).expand(steps, samples, -1)
        kept = reference.keep_largest(order.to(x.device), kept_entries(count, self.settings.share))
        return self.settled(kept.unflatten(2, entries), self.warm())


class SqueezeGate(LearnedGate):
    """Two linear layers on how active each input channel is, with drawn gates: squeeze and excite.

    Learns from the task, through the gates' soft form, and from a budget on the kept share.

    Attributes:
        first: From input channels to hidden features.
        norm: Of these.
        second: From these to one logit an output channel.
    """

    def __init__(self, in_channels: int, channels: int, settings: SparsitySettings) -> None:
        super().__init__(settings)
        hidden = max(1, in_channels // SQUEEZE)
        self.first = nn.Linear(in_channels, hidden, bias=False)
        self.norm = nn.BatchNorm1d(hidden)
        self.second = nn.Linear(hidden, channels, bias=False)

    def forward(
        self, x: Tensor, conv: nn.Conv2d, norm: nn.Module, *, book: tuple[float, ...] | None = None
    ) -> Gated:
        """Run the convolution and decide by channel; see `snn.layers.Gate`."""
        frames, warm = x.flatten(0, 1), self.warm()
        logits = reference.squeeze_logits(frames, self.first.weight, self.norm, self.second.weight).float()
        gates = _drawn(self, logits, CHANNEL_TEMPERATURE, steps=len(x))
        kept = self.settled(gates.unflatten(0, x.shape[:2]), warm)
        loss = self.budget_loss(reference.certain_gate(logits, temperature=CHANNEL_TEMPERATURE), warm)
        return Gated(convolve(x, conv, book), kept, kept, loss)


class SpatialGate(LearnedGate):
    """A 3x3 convolution of the input's mean over patches decides for each patch, with drawn gates.

    One gate holds for all channels of a patch; as published, each channel has its own, for which the gate
    costs (1 / patch)^2 of what it saves on.

    Attributes:
        conv: From input channels to one logit a patch.
    """

    def __init__(self, in_channels: int, channels: int, settings: SparsitySettings) -> None:
        super().__init__(settings)
        self.conv = nn.Conv2d(in_channels, channels if settings.published else 1, 3, padding=1)

    def forward(
        self, x: Tensor, conv: nn.Conv2d, norm: nn.Module, *, book: tuple[float, ...] | None = None
    ) -> Gated:
        """Run the convolution and decide by patch; see `snn.layers.Gate`."""
        y, warm = convolve(x, conv, book), self.warm()
        patches = patches_of(y, self.settings.patch)
        weight, bias = self.conv.weight, self.conv.bias
        logits = reference.patch_logits(x.flatten(0, 1), weight, bias, patches=patches).float()
        kept = self.settled(
            _drawn(self, logits, SPATIAL_TEMPERATURE, steps=len(x)).unflatten(0, x.shape[:2]), warm
        )
        loss = self.budget_loss(reference.certain_gate(logits, temperature=SPATIAL_TEMPERATURE), warm)
        return Gated(y, _spread(kept, y, self.settings), kept, loss)


class PartialSumGate(LearnedGate):
    """Channel gating: the convolution over a part of its input is completed where that is large.

    Learns from the task, through the step, and from a budget on the share of completed outputs.

    Attributes:
        norm: Of the partial sums, without affine.
        threshold: Of the normalised partial sums, shape [C]. Begins where the asked share of a normal
            distribution lies above.
    """

    folds = False

    def __init__(self, conv: nn.Conv2d, settings: SparsitySettings, *, layer: str) -> None:
        super().__init__(settings)
        _check_parts(conv, settings, layer)
        first = PUBLISHED_THRESHOLD if settings.published else NormalDist().inv_cdf(settings.share)
        self.norm = nn.BatchNorm2d(conv.out_channels, affine=False)
        self.threshold = nn.Parameter(torch.full((conv.out_channels,), first))

    def forward(
        self, x: Tensor, conv: nn.Conv2d, norm: nn.Module, *, book: tuple[float, ...] | None = None
    ) -> Gated:
        """Run the convolution in two parts and decide by output; x is not packed. See `snn.layers.Gate`."""
        warm = self.warm()
        partial, rest = self._parts(x.flatten(0, 1), conv)
        in_groups = self.settings.partial == "groups"
        gates = reference.partial_sum_gates(
            self.norm(partial).float(),
            self.threshold,
            steepness=STEEPNESS,
            gradient="positive" if in_groups else "identity",
        )
        kept = self.settled(gates.unflatten(0, x.shape[:2]), warm)
        y = partial + kept.flatten(0, 1).to(rest.dtype) * rest
        if conv.bias is not None:
            y = y + conv.bias[:, None, None]
        return Gated(y.unflatten(0, x.shape[:2]), None, kept, self.budget_loss(kept, warm))

    def _parts(self, x: Tensor, conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
        """Return the partial sums and what completes them, both [N, C, H, W], without the bias."""
        weight, parts = conv.weight, self.settings.parts
        if self.settings.partial == "first":
            seen = conv.in_channels // parts
            return _convolve(x[:, :seen], weight[:, :seen], conv), _convolve(
                x[:, seen:], weight[:, seen:], conv
            )
        rows = weight.chunk(parts, dim=0)
        blocks = [rows[group].chunk(parts, dim=1)[group] for group in range(parts)]
        partial = _convolve(x, torch.cat(blocks), conv, groups=parts)
        return partial, _convolve(x, weight, conv) - partial


def patches_of(y: Tensor, patch: int) -> tuple[int, int]:
    """Return how many patches of patch x patch places the maps of y [..., H, W] have; the last may be cut."""
    return -(-y.shape[-2] // patch), -(-y.shape[-1] // patch)


def _spread(kept: Tensor, y: Tensor, settings: SparsitySettings) -> Tensor:
    """Return decisions on patches as a mask for y [T, B, C, H, W]."""
    output_hw = (y.shape[3], y.shape[4])
    mask = reference.spread(
        kept.flatten(0, 1), patch=settings.patch, output_hw=output_hw, published=settings.published
    )
    return mask.unflatten(0, y.shape[:2])


def _convolve(x: Tensor, weight: Tensor, conv: nn.Conv2d, *, groups: int = 1) -> Tensor:
    """Return the convolution of x by part of a layer's weights, without its bias."""
    padding = cast(tuple[int, int], conv.padding)
    return functional.conv2d(x, weight, None, conv.stride, padding, conv.dilation, groups)


def _drawn(gate: nn.Module, logits: Tensor, temperature: float, *, steps: int) -> Tensor:
    """Return gates for logits [T * B, ...]: drawn in training, certain in evaluation."""
    if not gate.training:
        return reference.certain_gate(logits, temperature=temperature)
    shape = (steps, len(logits) // steps, *logits.shape[1:])
    uniform = draw_uniform(*shape, device=logits.device, dtype=logits.dtype).flatten(0, 1)
    return reference.gumbel_gate(logits, temperature=temperature, uniform=uniform)


def _check_parts(conv: nn.Conv2d, settings: SparsitySettings, layer: str) -> None:
    if conv.groups != 1:
        raise SparsityError(
            f"{layer}: found a convolution in {conv.groups} groups, expected one over all channels for kind "
            "'channel_gating'; use another kind or a model without depth-wise convolutions"
        )
    sizes = [conv.in_channels] + [conv.out_channels] * (settings.partial == "groups")
    divided = settings.partial == "groups" and any(size % settings.parts for size in sizes)
    if conv.in_channels < settings.parts or divided:
        raise SparsityError(
            f"{layer}: found {conv.in_channels} channels to {conv.out_channels}, which have no "
            f"{settings.parts} parts; expected as many, and with partial 'groups' multiples of it; "
            "change sparsity.parts or model.width"
        )

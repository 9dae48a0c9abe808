"""Which gates a network has, and what they are taught."""

from dataclasses import dataclass
from typing import Literal, get_args

from snn.errors import SparsityError, did_you_mean

Kind = Literal["none", "channel_predictor", "spatial", "channel", "channel_gating"]
Target = Literal["top_mass", "prune_fraction"]
RandomMasks = Literal["no", "fixed", "drawn"]
Partial = Literal["first", "groups"]
Score = Literal["mean", "largest"]

# Share of the activation that the release keeps, and the share dropped elsewhere unless told.
PUBLISHED_MASS = 0.85
DROPPED = 0.5


@dataclass(frozen=True)
class SparsitySettings:
    """What decides which outputs of a convolution are computed, in every block but the first.

    Attributes:
        kind: `none`: all are. `channel_predictor`: a linear layer on how active each input channel is, taught
            which output channels would have been the largest (SpQuant-SNN). `channel`: two linear layers on
            the same, taught by the task and a budget (squeeze and excite, drawn gates). `spatial`: a small
            convolution decides for patches of places, taught likewise. `channel_gating`: a convolution over a
            part of the input channels is completed where it is large (CGNet).
        target: What a channel predictor is taught. `top_mass`: the fewest channels that carry a share of the
            activation; how many is up to the input. `prune_fraction`: the largest channels but for a share
            dropped, always as many.
        score: What a channel's activation is, for the target: the `mean` of its map after normalisation and
            ReLU, or the `largest` value there, as released. One place with a large value carries few spikes.
        ratio: Of `top_mass`, the share of activation kept; of all else, the share dropped. None takes 0.85
            and 0.5.
        loss_weight: Factor on the gates' loss, a mean over layers. 0 leaves gates as they were drawn.
        learn_from_task: Whether a channel predictor has the gradient of the task too, through its steps.
            Neurons then run apart from their normalisation in training. Wants a small `loss_weight`, such as
            0.1.
        warm_up_batches: Training batches in which everything is kept. Predictors learn their target
            meanwhile; with `top_mass`, whose number of channels is theirs to decide, to keep all.
        random: Masks by chance for comparison, of the same kept share: `drawn` anew for every sample and
            step, or `fixed` channels or patches of each layer. For `channel_predictor` with target
            `prune_fraction`, `channel` and `spatial`. They have nothing to learn, and so no warm-up.
        grid: A `channel_predictor` sees the mean of each input channel over grid x grid parts of its map; 1
            is over the whole map, which says little about where a convolution's largest value will be.
        patch: Places of a `spatial` gate's patch, in each direction.
        parts: A `channel_gating` convolution looks at one in this many input channels first.
        partial: Which: the `first`, or, with `groups`, for each group of outputs a group of its own.
        published: As released, for comparison. `channel_predictor`: sees a softmax over every 4th channel, is
            in the first block too, is taught by the largest value, keeps what is likelier than not whatever
            the target, and top mass leaves out the channel that reaches the share. `spatial`: a gate for
            each channel, spread side by side. `channel_gating`: thresholds begin at -6.
    """

    kind: Kind = "none"
    target: Target = "top_mass"
    score: Score = "mean"
    ratio: float | None = None
    loss_weight: float = 10.0
    learn_from_task: bool = False
    warm_up_batches: int = 20
    random: RandomMasks = "no"
    grid: int = 2
    patch: int = 2
    parts: int = 4
    partial: Partial = "first"
    published: bool = False

    def __post_init__(self) -> None:
        for name, known in (
            ("kind", Kind),
            ("target", Target),
            ("score", Score),
            ("random", RandomMasks),
            ("partial", Partial),
        ):
            self._check_name(name, get_args(known))
        if not 0 <= self.loss_weight < float("inf"):
            raise SparsityError(f"sparsity.loss_weight: found {self.loss_weight}, expected at least 0")
        for name, least in (("warm_up_batches", 0), ("grid", 1), ("patch", 1), ("parts", 2)):
            found = getattr(self, name)
            if type(found) is not int or found < least:
                raise SparsityError(f"sparsity.{name}: found {found!r}, expected a whole number from {least}")
        self._check_ratio()
        self._check_what_goes_together()

    def _check_name(self, name: str, known: tuple[str, ...]) -> None:
        found = getattr(self, name)
        if found not in known:
            hint = did_you_mean(found, known)
            raise SparsityError(f"sparsity.{name}: found {found!r}, expected one of {', '.join(known)}{hint}")

    def _check_ratio(self) -> None:
        if self.ratio is None or 0 < self.ratio < 1 or (self.keeps_mass and self.ratio == 1):
            return
        raise SparsityError(
            f"sparsity.ratio: found {self.ratio}, expected a number between 0 and 1: the share of activation "
            "kept with target 'top_mass', else the share dropped"
        )

    def _check_what_goes_together(self) -> None:
        if self.kind == "none" and (self.ratio is not None or self.published):
            name = "ratio" if self.ratio is not None else "published"
            raise SparsityError(
                f"sparsity.{name}: found {getattr(self, name)} with kind 'none', expected a kind of gate, "
                "such as channel_predictor"
            )
        if self.learn_from_task and self.kind != "channel_predictor":
            raise SparsityError(
                f"sparsity.learn_from_task: found true with kind {self.kind!r}, expected "
                "'channel_predictor'; other gates learn from the task anyway"
            )
        if self.target == "prune_fraction" and self.kind != "channel_predictor":
            raise SparsityError(
                f"sparsity.target: found 'prune_fraction' with kind {self.kind!r}, expected kind "
                "'channel_predictor'; others are given their share by ratio alone"
            )
        if self.random != "no" and (self.keeps_mass or self.kind == "channel_gating" or self.published):
            raise SparsityError(
                f"sparsity.random: found {self.random!r} with kind {self.kind!r}, target {self.target!r}, "
                f"published {str(self.published).lower()}, expected kind 'channel_predictor' with target "
                "'prune_fraction', 'channel' or 'spatial', not published: what they keep is known beforehand"
            )

    @property
    def keeps_mass(self) -> bool:
        """Whether the ratio is a share of activation kept, and not one dropped."""
        return self.kind in ("none", "channel_predictor") and self.target == "top_mass"

    @property
    def share(self) -> float:
        """The ratio, or what stands for None."""
        if self.ratio is not None:
            return self.ratio
        return PUBLISHED_MASS if self.keeps_mass else DROPPED

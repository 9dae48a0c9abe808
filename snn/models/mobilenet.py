"""MobileNet of LT-SNN: small spiking networks of 3x3 convolutions at low cost, each followed by a 1x1 one.

As released, the 3x3 convolution is a full one, not depth-wise, and the 1x1 convolution pads by 1, so that the
map grows by 2 in every block, and every block pools. Here the 1x1 convolution pads nothing and the last block
does not pool, as in SpQuant-SNN's `mobilenet_tiny`. Plans named `published` are the released ones; those
named `depthwise` have the convolution that the name promises (Howard et al., "MobileNets", 2017).
"""

from dataclasses import dataclass, replace

from torch import Tensor, nn

from snn.errors import ModelError
from snn.layers import ConvBlock, SpikingBlock, Stepwise, run_layers
from snn.models.options import POOLS, ModelOptions
from snn.neurons.hooks import is_hooked


@dataclass(frozen=True)
class MobileNetPlan:
    """What a MobileNet is made of.

    Attributes:
        channels: Channels of every block; the first is a single 3x3 convolution.
        depthwise: Whether the 3x3 convolutions after the first block see one channel each.
        padding: Zeros around the map before a 1x1 convolution.
        pool_last: Whether the last block pools like the others.
        pool_spikes: Whether the 2x2 pools at the end of the blocks see the spikes; else the current before
            the last neurons, which are then a quarter as many.
    """

    channels: tuple[int, ...]
    depthwise: bool = False
    padding: int = 0
    pool_last: bool = False
    pool_spikes: bool = False

    @property
    def pools(self) -> int:
        """Number of blocks that pool, from the first on."""
        return len(self.channels) - (not self.pool_last)


_REGULAR = MobileNetPlan((32, 64, 64, 128, 128))
_WIDE = MobileNetPlan((32, 64, 64, 128, 128, 256))
_POSTPOOL = replace(_WIDE, pool_spikes=True)

PLANS: dict[str, MobileNetPlan] = {
    "mobilenet": _REGULAR,
    "mobilenet_wide": _WIDE,
    "mobilenet_wide_postpool": _POSTPOOL,
    "mobilenet_depthwise": replace(_REGULAR, depthwise=True),
    "mobilenet_wide_depthwise": replace(_WIDE, depthwise=True),
    "mobilenet_published": replace(_REGULAR, padding=1, pool_last=True),
    "mobilenet_wide_published": replace(_WIDE, padding=1, pool_last=True),
    "mobilenet_wide_postpool_published": replace(_POSTPOOL, padding=1, pool_last=True),
}


class SeparableBlock(SpikingBlock):
    """A 3x3 conv block in every map, then a 1x1 conv block between maps.

    Attributes:
        spatial: 3x3 conv block, as many channels out as in.
        pointwise: 1x1 conv block.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        plan: MobileNetPlan,
        options: ModelOptions,
        *,
        current_pool: nn.Module | None,
    ) -> None:
        super().__init__()
        self.pack_spikes = options.pack_spikes
        self.spatial = ConvBlock(
            in_channels,
            in_channels,
            neuron=options.neuron,
            groups=in_channels if plan.depthwise else 1,
            executor=options.executor,
        )
        self.pointwise = ConvBlock(
            in_channels,
            channels,
            neuron=options.neuron,
            kernel=1,
            padding=plan.padding,
            current_pool=current_pool,
            executor=options.executor,
        )

    def forward(
        self, x: Tensor, *, pool: nn.Module | None = None, book: tuple[float, ...] | None = None
    ) -> Tensor:
        """Return spikes [T, B, channels, H, W], pooled, for spikes x [T, B, C, H, W]; see ConvBlock."""
        x = self.spatial(x, book=book)
        spatial_book = self.spatial.spike_book() if self.pack_spikes else None
        return self.pointwise(x, pool=pool, book=spatial_book)

    def spike_book(self, pool: nn.Module | None = None) -> tuple[float, ...] | None:
        """Return every value that the block and a pool after it hand on; None where they may be others."""
        return None if is_hooked(self) else self.pointwise.spike_book(pool)


class MobileNet(nn.Module):
    """Spiking MobileNet: frames `[T, B, P, H, W]` in, logits `[T, B, K]` out, one row of logits per step.

    Its layers are named `block1`, a conv block, `block2` (with `spatial` and `pointwise`) and so on, where
    spikes are pooled `pool1` after `block1` and so on, `flatten` and `classifier`.

    Attributes:
        options: What it was built from.
    """

    def __init__(self, plan: MobileNetPlan, options: ModelOptions) -> None:
        super().__init__()
        self.options = options
        height, width = map_hw(plan, options.input_hw)
        channels = options.in_channels
        for number, size in enumerate(map(options.scaled, plan.channels), start=1):
            pool = Stepwise(POOLS[options.pool](2)) if number <= plan.pools else None
            current_pool = None if plan.pool_spikes else pool
            block = self._block(number, channels, size, plan, current_pool)
            self.add_module(f"block{number}", block)
            if pool is not None and plan.pool_spikes:
                self.add_module(f"pool{number}", pool)
            channels = size
        self.flatten = nn.Flatten(start_dim=2)
        self.classifier = nn.Linear(channels * height * width, options.classes)

    def _block(
        self, number: int, in_channels: int, channels: int, plan: MobileNetPlan, pool: nn.Module | None
    ) -> SpikingBlock:
        options = self.options
        if number > 1:
            return SeparableBlock(in_channels, channels, plan, options, current_pool=pool)
        neuron, executor = options.first_neuron, options.executor
        return ConvBlock(in_channels, channels, neuron=neuron, current_pool=pool, executor=executor)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [T, B, K] for frames [T, B, P, H, W].

        Raises:
            ModelError: The frames are not of the shape the model was built for.
        """
        x = self.options.take_frames(x)
        return run_layers(self.children(), x, pack_spikes=self.options.pack_spikes)


def map_hw(plan: MobileNetPlan, input_hw: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of the last map: blocks halve it, all but the first pad before.

    Raises:
        ModelError: The frames would shrink to nothing.
    """
    smallest = 2 if plan.padding else 2**plan.pools
    if min(input_hw) < smallest:
        raise ModelError(
            f"input_hw: found {input_hw[0]}x{input_hw[1]}, expected at least {smallest}x{smallest} "
            f"for {plan.pools} pools; use larger frames or a model with fewer"
        )
    height, width = (_shrunk(size, plan) for size in input_hw)
    return height, width


def _shrunk(size: int, plan: MobileNetPlan) -> int:
    for number in range(1, len(plan.channels) + 1):
        size += 2 * plan.padding if number > 1 else 0
        size = size // 2 if number <= plan.pools else size
    return size

"""Between backbone and head: further maps, and maps that know what coarser ones have seen."""

from collections.abc import Sequence

from torch import Tensor, nn

from snn.detection.blocks import BlockOptions, Bottleneck, Hw, strided
from snn.errors import ModelError
from snn.neurons.memory import Memory

# Channels between the two convolutions of each extra map, as a share of what it is given.
# Source: Cordone et al., IJCNN 2022, released code.
EXTRA_SHARES = (2, 4, 2)


class ExtraMaps(nn.Module):
    """Coarser maps behind the last: a 1x1 conv block, then a 3x3 one of stride 2, for each.

    Source: SSD (Liu et al., ECCV 2016), with the sizes of the SSD-SNN.

    Attributes:
        maps: The layers of each.
        channels, maps_hw: Of the maps it is given and those it adds.
    """

    def __init__(
        self, options: BlockOptions, *, channels: Sequence[int], maps_hw: Sequence[Hw], extras: Sequence[int]
    ) -> None:
        super().__init__()
        if len(extras) > len(EXTRA_SHARES):
            raise ModelError(f"extras: found {len(extras)}, expected at most {len(EXTRA_SHARES)}")
        self.maps = nn.ModuleList()
        self.channels, self.maps_hw = tuple(channels), tuple(maps_hw)
        for size, share in zip(map(options.scaled, extras), EXTRA_SHARES, strict=False):
            given = self.channels[-1]
            self.maps.append(Bottleneck(given, max(given // share, 1), size, options, stride=2))
            self.channels, self.maps_hw = (*self.channels, size), (*self.maps_hw, strided(self.maps_hw[-1]))

    def forward(self, maps: list[Tensor], memory: Memory | None = None) -> list[Tensor]:
        """Return the maps given, [T, B, C, H, W] each, and those beyond."""
        maps = list(maps)
        for layer in self.maps:
            maps.append(layer(maps[-1], memory=memory))
        return maps


class SpikingFPN(nn.Module):
    """A pyramid in which every map is given what the coarser one saw, all in spikes.

    From the coarsest map down, the current of a 1x1 conv block is added to the spikes of the coarser map,
    each repeated over the places it covers, and neurons fire on the sum; a 3x3 conv block follows at every
    level. Source: Lin et al., "Feature Pyramid Networks", CVPR 2017, with neurons behind the sum, so that
    every convolution is given spikes.

    Attributes:
        lateral: 1x1 conv blocks, finest first.
        smooth: 3x3 conv blocks, finest first.
        channels, maps_hw: Of the maps it hands on.
    """

    def __init__(
        self, options: BlockOptions, *, channels: Sequence[int], maps_hw: Sequence[Hw], size: int
    ) -> None:
        super().__init__()
        size = options.scaled(size)
        self.lateral = nn.ModuleList([options.block(given, size, kernel=1) for given in channels])
        self.smooth = nn.ModuleList([options.block(size, size) for _ in channels])
        self.channels, self.maps_hw = (size,) * len(channels), tuple(maps_hw)

    def forward(self, maps: list[Tensor], memory: Memory | None = None) -> list[Tensor]:
        """Return as many maps as given, all of the same channels, [T, B, C, H, W] each."""
        found: list[Tensor] = []
        above = None
        for lateral, x in zip(reversed(self.lateral), reversed(maps), strict=True):
            plus = None if above is None else _repeated(above, (x.shape[3], x.shape[4]))
            above = lateral(x, plus=plus, memory=memory)
            found.append(above)
        return [smooth(x, memory=memory) for smooth, x in zip(self.smooth, reversed(found), strict=True)]


def _repeated(x: Tensor, hw: Hw) -> Tensor:
    """Return a map with every value at all places of a finer map that are nearest to it."""
    return nn.functional.interpolate(x.flatten(0, 1), size=hw, mode="nearest").unflatten(0, x.shape[:2])

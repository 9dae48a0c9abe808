"""What every backbone is: layers in a row, some of whose spikes are handed on."""

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from snn.detection.blocks import Hw
from snn.errors import ModelError
from snn.layers import SpikingBlock, pool_kind
from snn.neurons.memory import Memory


class Backbone(nn.Module):
    """A row of blocks and pools: frames `[T, B, P, H, W]` in, the spikes of each tap out, finest first.

    Attributes:
        channels: Of each tap.
        maps_hw: Rows and columns of each tap's map.
    """

    channels: tuple[int, ...]
    maps_hw: tuple[Hw, ...]

    def __init__(self) -> None:
        super().__init__()
        self._row: list[tuple[str, bool]] = []
        self.channels, self.maps_hw = (), ()

    def add_layer(self, name: str, layer: nn.Module) -> None:
        """Put a block or a pool at the end of the row."""
        self.add_module(name, layer)
        self._row.append((name, False))

    def add_tap(self, channels: int, hw: Hw) -> None:
        """Hand on what the last layer gives."""
        if min(hw) < 1:
            raise ModelError(
                f"input_hw: too small, a map of {hw[0]}x{hw[1]} is left; use larger frames or smaller strides"
            )
        self._row[-1] = (self._row[-1][0], True)
        self.channels, self.maps_hw = (*self.channels, channels), (*self.maps_hw, hw)

    def forward(self, x: Tensor, memory: Memory | None = None) -> list[Tensor]:
        """Return the spikes of every tap, each [T, B, C, H', W']."""
        taps, taken = [], None
        layers = [(getattr(self, name), tapped) for name, tapped in self._row]
        for (layer, tapped), (after, _) in zip(layers, [*layers[1:], (None, False)], strict=True):
            if layer is not taken:
                # A block is handed the pool after it, to run both as one, unless its own spikes are wanted.
                fits = isinstance(layer, SpikingBlock) and not tapped
                taken = after if fits and after is not None and pool_kind(after) != "none" else None
                x = run(layer, x, memory, pool=taken)
            if tapped:
                taps.append(x)
        return taps


def run(layer: nn.Module, x: Tensor, memory: Memory | None, *, pool: nn.Module | None = None) -> Tensor:
    """Call a layer, one with neurons with the membranes to start from."""
    if isinstance(layer, SpikingBlock):
        return layer(x, pool=pool, memory=memory)
    return layer(x)


def check_strides(strides: Sequence[int], known: Iterable[int]) -> None:
    """Raise ModelError unless strides are known and rise."""
    known = sorted(known)
    if not strides or sorted(set(strides)) != list(strides) or not set(strides) <= set(known):
        raise ModelError(f"strides: found {list(strides)}, expected rising ones of {known}")

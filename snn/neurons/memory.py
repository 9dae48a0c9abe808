"""What neurons remember from one call of a network to the next, handed on by whoever calls.

A network begins at rest in every call. To go on where the last steps ended, as with a recording that is cut
into windows, it is called with a `Memory` of the membranes it ended with.
"""

from collections.abc import Mapping

from torch import Tensor, nn


class Memory:
    """Membranes before and after the steps of one call, by layer of neurons.

    Attributes:
        after: Membranes after the last step, shape [B, ...], of the layers that have run, in their order.
    """

    def __init__(self, before: Mapping[nn.Module, Tensor] | None = None) -> None:
        """Begin with membranes, shape [B, ...]; a layer without one begins at rest."""
        self._before = dict(before or {})
        self.after: dict[nn.Module, Tensor] = {}

    def before(self, neuron: nn.Module) -> Tensor | None:
        """Return the membrane that a layer begins with; None is rest."""
        return self._before.get(neuron)

    def keep(self, neuron: nn.Module, v: Tensor) -> None:
        """Note the membrane that a layer ended with, shape [B, ...]."""
        self.after[neuron] = v

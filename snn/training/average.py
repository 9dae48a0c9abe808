"""A moving mean of a network's weights, which is validated and kept in place of the last ones."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving mean of all weights and statistics of a network.

        mean <- d mean + (1 - d) weights,    d = min(decay, (1 + n) / (10 + n)) at step n, from 0

    The smaller d of the beginning forgets the weights training began with. Source: TensorFlow's
    `ExponentialMovingAverage` with `num_updates`. What is no fraction, such as counters, is copied.
    """

    def __init__(self, network: nn.Module, *, decay: float) -> None:
        """Begin with the weights as they are.

        Args:
            network: The network without wrappers.
            decay: Share of the mean that is kept, above 0 and below 1.
        """
        self._decay, self._steps = decay, 0
        self._mean = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Add the weights after a step."""
        kept = min(self._decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                self._mean[name].lerp_(tensor, 1 - kept)
            else:
                self._mean[name].copy_(tensor)

    @contextmanager
    def in_place(self, network: nn.Module) -> Iterator[None]:
        """Give the network the mean while the block runs."""
        weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        network.load_state_dict(self._mean)
        try:
            yield
        finally:
            network.load_state_dict(weights)

    def state_dict(self) -> dict[str, int | dict[str, Tensor]]:
        """Return the mean and the steps it is of."""
        return {"steps": self._steps, "mean": self._mean}

    def load_state_dict(self, state: dict[str, int | dict[str, Tensor]]) -> None:
        """Go on with the mean that `state_dict` gave."""
        steps, mean = state["steps"], state["mean"]
        assert isinstance(steps, int)
        assert isinstance(mean, dict)
        self._steps = steps
        for name, tensor in mean.items():
            self._mean[name].copy_(tensor)

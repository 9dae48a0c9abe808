"""LAMB: Adam whose step in every weight tensor is as long as the tensor's norm times the learning rate."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Lamb(torch.optim.Optimizer):
    """LAMB, as far as a step of it goes:

        m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2
        r = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay w
        w = w - learning_rate * |w| / |r| * r

    The factor |w| / |r| is 1 where either is 0, and for parameters that do not decay, as timm has it.
    Source: You et al., "Large Batch Optimization for Deep Learning", ICLR 2020, algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]] | Iterable[Tensor],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step; returns what `closure` does, called with gradients before it."""
        found = None
        if closure is not None:
            with torch.enable_grad():
                found = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return found

    def _move(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state.update(step=0, mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
        state["step"] += 1
        first, second = group["betas"]
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        root = (state["square"] / (1 - second ** state["step"])).sqrt_().add_(group["eps"])
        direction = state["mean"] / (1 - first ** state["step"]) / root
        if group["weight_decay"] == 0:
            weight.sub_(group["lr"] * direction)
            return
        direction.add_(weight, alpha=group["weight_decay"])
        lengths = weight.norm(), direction.norm()
        # A tensor, so that no GPU is waited for.
        ratio = torch.where((lengths[0] > 0) & (lengths[1] > 0), lengths[0] / lengths[1], 1.0)
        weight.sub_(group["lr"] * ratio * direction)

"""Find out where a network's numbers stopped being numbers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def first_nonfinite_layer(model: nn.Module, frames: Tensor) -> str:
    """Run a batch once more and name the first layer whose output has NaN or infinity.

    Returns:
        In words: `layer 'block2.conv'`, `the input frames`, or `none` where all layers are finite.
    """
    if not bool(torch.isfinite(frames).all()):
        return "the input frames"
    found: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def check(_module: nn.Module, _arguments: Any, output: Any) -> None:
            if not found and isinstance(output, Tensor) and not bool(torch.isfinite(output).all()):
                found.append(name)

        return check

    # A layer's hook runs before that of the block around it, so the innermost one reports first.
    handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    try:
        with torch.no_grad():
            model(frames)
    finally:
        for handle in handles:
            handle.remove()
    return f"layer {found[0]!r}" if found else "none"

"""Whether anyone waits for a layer to be called, which must then not be computed with others."""

from torch import nn


def is_hooked(*modules: nn.Module) -> bool:
    """Return whether anything waits for one of these modules to be called, forward or backward."""
    everywhere = nn.modules.module._has_any_global_hook()
    return everywhere or any(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        for module in modules
    )

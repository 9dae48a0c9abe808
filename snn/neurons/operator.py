"""Functions as operators of torch, which `torch.compile` and `torch.export` keep as one node."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch

F = TypeVar("F", bound=Callable[..., Any])

NAMESPACE = "spikeline"


def operator(function: Callable[..., Any]) -> Any:
    """Register a function as `spikeline::its_name`, for every device, and return the operator.

    Its types become the operator's schema. `torch.library.custom_op` would do the same, but loads the
    compiler at the first call and checks more at every call.
    """
    name = f"{NAMESPACE}::{function.__name__}"
    torch.library.define(name, torch.library.infer_schema(function, mutates_args=()))
    torch.library.impl(name, "default")(function)
    return getattr(getattr(torch.ops, NAMESPACE), function.__name__).default


def constant_when_traced(function: F) -> F:
    """Let a compiled graph take what a function returns as a constant.

    The mark of `torch.compiler.assume_constant_result`, which would load the compiler, 2 s, for everyone.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function

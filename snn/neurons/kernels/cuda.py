"""Fused neurons on a CUDA device: the kernels of neuron.cu, compiled when first used, through CuPy."""

import numpy as np
import torch
from torch import Tensor

from snn.neurons.kernels.cuda_calls import Call, call_backward, call_forward
from snn.neurons.kernels.cuda_loader import examine, launch_kernel, load_kernel
from snn.neurons.kernels.launch import Backward, Forward, InputGradientRule, Inputs, Launch
from snn.neurons.settings import NeuronSettings

FUSED_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def why_not(settings: NeuronSettings, *, dtype: torch.dtype) -> str | None:
    """Return why these neurons cannot be run here; None where they can."""
    return not_fused(settings, dtype=dtype) or examine().problem


def not_fused(settings: NeuronSettings, *, dtype: torch.dtype) -> str | None:
    """Return what the kernels lack for these neurons, on any machine; None where they have all."""
    if settings.spike_value != "one":
        return f"spike_value {settings.spike_value!r} is not fused"
    if dtype not in FUSED_DTYPES:
        return f"{dtype} is not fused, only float32, float16 and bfloat16"
    return None


def forward(launch: Launch, inputs: Inputs) -> Forward:
    """Run the neurons over all steps.

    Args:
        launch: The call.
        inputs: What it reads, on one CUDA device.
    """
    return call_forward(launch, inputs, _run_on_device)


def backward(
    launch: Launch,
    inputs: Inputs,
    checkpoints: Tensor,
    grad_out: Tensor,
    grad_v: Tensor | None,
    *,
    write: bool = True,
    input_gradient: InputGradientRule | None = None,
    mean: Tensor | None = None,
) -> Backward:
    """Go back through `forward`; sums are the same every time.

    Args:
        launch: The call.
        inputs: What forward read.
        checkpoints: What it stored.
        grad_out: Gradient of out, in its shape and layout.
        grad_v: Gradient of the last membrane, [B, ...]; None is zero.
        write: Whether to write the gradients of y and of the first membrane.
        input_gradient: How the gradient of y follows from g; None: it is g. Where it depends on the sums, a
            second run of the kernel writes it: g itself would be rounded to y's dtype.
        mean: Mean of y per channel, [C]: g and g (y - mean) are then added up per channel.
    """
    return call_backward(
        launch,
        inputs,
        checkpoints,
        grad_out,
        grad_v,
        _run_on_device,
        write=write,
        input_gradient=input_gradient,
        mean=mean,
    )


def _run_on_device(call: Call) -> None:
    """Run a kernel on torch's current stream of the device its tensors are on."""
    arguments = tuple(np.int64(_address(argument)) for argument in call.arguments)
    kernel = load_kernel(call.text, call.kernel, call.device.index)
    launch_kernel(kernel, arguments, blocks=call.blocks, threads=call.threads, device=call.device)


def _address(argument: Tensor | int | None) -> int:
    """Return a tensor's address, 0 for none, or a number as it is."""
    if argument is None:
        return 0
    return argument.data_ptr() if isinstance(argument, Tensor) else argument

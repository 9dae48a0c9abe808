"""Batch normalisation, neurons and pooling in one go, where that can be done."""

import logging
from functools import cache
from typing import cast

from torch import Tensor, distributed, nn

from snn.errors import NeuronError
from snn.neurons.arguments import settings_text
from snn.neurons.executors import executor_for
from snn.neurons.hooks import is_hooked
from snn.neurons.kernels.launch import Pool, check_pool
from snn.neurons.modules import Neuron
from snn.neurons.operator import constant_when_traced
from snn.neurons.ops import neuron_forward, pool_spikes
from snn.neurons.reference import NeuronParameters, check_input
from snn.neurons.shared_norm import SharedBatchNorm2d
from snn.neurons.statistics import update_running, uses_batch
from snn.processes import shared_batch

logger = logging.getLogger(__name__)


def run_block(
    y: Tensor,
    norm: nn.Module,
    neuron: Neuron,
    *,
    pool: Pool = "none",
    v: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Normalise over steps and samples, run the neurons, pool their spikes.

    The same as calling the three one after the other, up to rounding: fused, the normalised current is not
    rounded to y's dtype. They are called one after the other where nothing fused fits, and the log then says
    why, once. Hooks on `neuron` are not called.

    Args:
        y: Current before normalisation, shape [T, B, C, H, W].
        norm: BatchNorm2d, in training or evaluation mode; its running statistics are updated as it does.
            An Identity where there is no normalisation.
        neuron: The neurons.
        pool: `avg` or `max` over 2x2 spikes, or `none`.
        v: Membrane before the first step, shape [B, C, H, W]; None is rest.
        mask: Share of the normalised current let through, shape [T, B, C]; None lets all of it through.

    Returns:
        Spikes, pooled; membrane after the last step, shape [B, C, H, W].

    Raises:
        NeuronError: An argument has a shape, dtype or device that cannot be run.
    """
    check_pool(pool, tuple(y.shape))
    executor = executor_for(
        neuron.executor, device_type=y.device.type, dtype=y.dtype, settings=neuron.settings
    )
    why_not = "" if executor == "reference" else _why_not(y, norm, neuron, pool, mask)
    if why_not is None:
        return _fused(y, norm, neuron, executor, pool, v, mask)
    if why_not:
        _say(f"normalisation, neurons and pooling run one after the other: {why_not}")
    current = norm(y.flatten(0, 1)).unflatten(0, y.shape[:2])
    spikes, v = neuron.run(current, v, mask=mask)
    return pool_spikes(spikes, pool), v


def _fused(
    y: Tensor,
    norm: nn.Module,
    neuron: Neuron,
    executor: str,
    pool: str,
    v: Tensor | None,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    threshold, decay = neuron.threshold, neuron.decay
    check_input(y, v, NeuronParameters(threshold, None, decay), mask=mask)
    if neuron.settings.threshold_gradient == "none":
        threshold = threshold.detach()
    options = (settings_text(neuron.settings), executor, pool)
    if isinstance(norm, nn.Identity):
        out, v, *_ = neuron_forward(
            y, v, threshold, decay, None, None, None, None, mask, *options, "none", 0.0
        )
        return out, v
    norm = cast(nn.modules.batchnorm._BatchNorm, norm)
    if y.shape[2] != norm.num_features:
        raise NeuronError(
            f"y: found shape {tuple(y.shape)}, expected {norm.num_features} channels, as norm has"
        )
    of_batch = uses_batch(norm)
    mean, variance = (None, None) if of_batch else (norm.running_mean, norm.running_var)
    rule = "batch" if of_batch else "running"
    out, v, _, mean, variance = neuron_forward(
        y, v, threshold, decay, norm.weight, norm.bias, mean, variance, mask, *options, rule, norm.eps
    )
    if norm.training and norm.track_running_stats:
        update_running(norm, mean, variance, count=y.numel() // y.shape[2])
    return out, v


def _why_not(y: Tensor, norm: nn.Module, neuron: Neuron, pool: Pool, mask: Tensor | None) -> str | None:
    """Return why normalisation and neurons cannot be fused; None where they can, empty for nothing to say."""
    if type(neuron).run is not Neuron.run or type(neuron).forward is not Neuron.forward:
        return f"{type(neuron).__name__} runs its neurons its own way"
    if mask is not None and mask.requires_grad:
        return "the mask needs a gradient"
    # A pool of nothing, too few values, or no channels: torch says what is wrong with them.
    if pool != "none" and min(y.shape[3:]) < 2:
        return ""
    if type(norm) is nn.Identity:
        return None
    if type(norm) is nn.SyncBatchNorm:
        if uses_batch(norm) and _processes(norm) > 1:
            return "SyncBatchNorm takes its statistics over several processes"
    elif type(norm) is SharedBatchNorm2d:
        if uses_batch(norm) and shared_batch() is not None:
            return "normalisation takes its statistics over several processes"
    elif type(norm) is not nn.BatchNorm2d:
        return f"found {type(norm).__name__}, can fuse BatchNorm2d"
    if is_hooked(norm):
        return "a hook waits for what the normalisation returns"
    if y.dim() != 5 or (uses_batch(norm) and y.numel() <= y.shape[2]):
        return ""
    return None


def _processes(norm: nn.SyncBatchNorm) -> int:
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size(norm.process_group)


@constant_when_traced
def _say(message: str) -> None:
    _say_once(message)


@cache
def _say_once(message: str) -> None:
    logger.info(message)

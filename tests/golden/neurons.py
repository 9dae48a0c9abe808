"""Golden vectors of LT-SNN's neurons: learned and fixed threshold, membranes of few levels between steps."""

from dataclasses import replace

import numpy as np
import torch
from golden import executor
from golden.executor import batch_first, run_steps, time_first
from golden.vector import Vector

from snn.neurons.membrane import MembraneSettings
from snn.neurons.reference import NeuronParameters
from snn.neurons.settings import NEURONS, NeuronSettings, published


def check_lt_neuron(vector: Vector) -> None:
    """Learned threshold: spikes exact, membranes 1e-5, gradients 1e-4 of the largest, summed scalars 1e-3."""
    if "product_surrogate" in vector.name:
        release = "lt_june_2022"
    elif "identity_surrogate" in vector.name:
        release = "lt_detector"
    else:
        release = "lt"
    settings = _with_stored(published(release), vector)
    grad_threshold = _check_spikes_and_gradient(vector, settings)
    vector.close("grad_thresh", grad_threshold, rtol=1e-3)
    if "mem_post" in vector:
        before, after = _membranes(vector, settings)
        vector.close("mem_pre", before, rtol=1e-5)
        vector.close("mem_post", after, rtol=1e-5)
    if "grad_thresh_subtract" in vector:
        subtract = _check_spikes_and_gradient(vector, replace(settings, threshold_gradient="subtract"))
        vector.close("grad_thresh_subtract", subtract, rtol=1e-3)
        vector.close("grad_thresh_explicit", grad_threshold - subtract, rtol=1e-3)


def check_lif(vector: Vector) -> None:
    """Fixed LIF: spikes exact, gradient 1e-4 of the largest; `_gt_` fires strictly above the threshold."""
    release = "lif_strict" if vector.name.startswith("lif_gt_") else "lif"
    _check_spikes_and_gradient(vector, _with_stored(published(release), vector))


def check_lif_floor(vector: Vector) -> None:
    """Fixed LIF whose membrane is rounded down to 23 levels: spikes exact, gradient 1e-4 of the largest."""
    settings = _with_stored(published("lif_floor23"), vector)
    vector.equal("levels", np.float32(settings.membrane.levels))
    _check_spikes_and_gradient(vector, settings)


def check_quantlif(vector: Vector) -> None:
    """Channel mask, and the nearest of a few levels between steps.

    Spikes exact, membranes 1e-5, gradient 1e-4 of the largest. The operations are counted from our
    membranes, by the rule of the release: it takes the batch in twice.
    """
    membrane = MembraneSettings(levels=tuple(float(level) for level in vector["levels"]))
    settings = _with_stored(replace(NEURONS["quantlif"], membrane=membrane), vector)
    steps = np.diff(membrane.levels)
    vector.equal("interval", np.float32(steps[0]).reshape(vector["interval"].shape))
    vector.equal("lb", np.float32(membrane.levels[0]).reshape(vector["lb"].shape))
    assert (steps == steps[0]).all(), "levels are not evenly spaced"
    mask = vector["mask"]  # [B, T, C, 1, 1]
    _check_spikes_and_gradient(vector, settings, mask)
    a, v = _membranes(vector, settings, mask)
    vector.close("mem_before_quant", np.where(vector["spikes"] == 1, np.float32(0), a), rtol=1e-5)
    vector.close("mem_quant", v, rtol=1e-5)
    batch, time, channels, height, width = a.shape
    busy = (a != 0).mean(axis=(0, 2, 3, 4))  # share of each step's membranes that are not 0
    counted = batch * np.count_nonzero(mask) * height * width * busy.sum()
    vector.close("flops_mem", counted, rtol=1e-5)
    vector.close("flops_mem_dense", np.array(time * batch * batch * time * channels * height * width), rtol=0)


def _with_stored(settings: NeuronSettings, vector: Vector) -> NeuronSettings:
    gamma = vector.scalar("gamma") if "gamma" in vector else settings.gamma
    return replace(settings, decay=vector.scalar("tau"), threshold=vector.scalar("thresh"), gamma=gamma)


def _check_spikes_and_gradient(
    vector: Vector, settings: NeuronSettings, mask: np.ndarray | None = None
) -> np.ndarray:
    """Compare spikes and gradient of x, `grad_x`; return the gradient of the threshold."""
    current = time_first(vector["x"]).requires_grad_()
    threshold = torch.tensor(settings.threshold, requires_grad=True)
    parameters = NeuronParameters(threshold)
    spikes, _ = executor.RUN(current, None, parameters, settings=settings, mask=_mask(mask))
    grad_x, grad_threshold = torch.autograd.grad(spikes, (current, threshold), time_first(vector["grad_out"]))
    vector.equal("spikes", batch_first(spikes))
    vector.close_to_largest("grad_x", batch_first(grad_x), relative=1e-4)
    return grad_threshold.numpy()


def _membranes(
    vector: Vector, settings: NeuronSettings, mask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the membranes before the spike decision and those passed on, [B, T, ...] as in the files."""
    x, channels = time_first(vector["x"]), _mask(mask)
    parameters = NeuronParameters(torch.tensor(settings.threshold))
    _, v = run_steps(x, None, parameters, settings, mask=channels)
    let_through = x if channels is None else x * channels[..., None, None]
    came_in = torch.cat((torch.zeros_like(v[:1]), v[:-1]))
    return batch_first(settings.decay * came_in + let_through), batch_first(v)


def _mask(mask: np.ndarray | None) -> torch.Tensor | None:
    """Return the mask [T, B, C] for the files' [B, T, C, 1, 1]."""
    return None if mask is None else time_first(mask).flatten(2).float()

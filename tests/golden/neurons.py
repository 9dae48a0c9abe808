"""Golden vectors of neurons: LT and fixed LIF of LT-SNN, LIF of M-LIF with one lane."""

from dataclasses import replace

import numpy as np
import torch
from golden.vector import Mismatch, Vector

from snn.neurons.reference import NeuronParameters, run_neurons
from snn.neurons.settings import NeuronSettings, published


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
        _check_membrane(vector, settings)
    if "grad_thresh_subtract" in vector:
        subtract = _check_spikes_and_gradient(vector, replace(settings, threshold_gradient="subtract"))
        vector.close("grad_thresh_subtract", subtract, rtol=1e-3)
        vector.close("grad_thresh_explicit", grad_threshold - subtract, rtol=1e-3)


def check_lif(vector: Vector) -> None:
    """Fixed LIF: spikes exact, gradient 1e-4 of the largest; `_gt_` fires strictly above the threshold."""
    release = "lif_strict" if vector.name.startswith("lif_gt_") else "lif"
    _check_spikes_and_gradient(vector, _with_stored(published(release), vector))


def check_lif_one_lane(vector: Vector) -> None:
    """M-LIF's LIF with one lane: spikes exact, gradient rtol 2e-4 and atol 2e-5."""
    if vector.scalar("S") != 1:
        raise Mismatch(f"S: found {vector.scalar('S'):g} lanes, expected 1 in a file named lif_s1_*")
    vector.ignore("seed")
    lanes = vector.scalar("multi") == 1
    threshold, gamma = vector.scalar("thresh"), vector.scalar("gama")
    settings = replace(
        published("lif_strict"),
        decay=vector.scalar("tau"),
        threshold=threshold,
        detach_reset=lanes,
        # With lanes the triangle acts on h / threshold - 1: the same triangle, wider by the threshold.
        gamma=gamma * threshold if lanes else gamma,
    )
    lane = (slice(None), slice(None), 0) if lanes else ()
    grad_out = vector["g"][lane]
    spikes, grad_x, _ = _run(vector["x"], grad_out, settings)
    vector.equal("lanes", spikes[:, :, None] if lanes else spikes)
    vector.close("gx_paper" if lanes else "gx_ref", grad_x, rtol=2e-4, atol=2e-5)


def _with_stored(settings: NeuronSettings, vector: Vector) -> NeuronSettings:
    gamma = vector.scalar("gamma") if "gamma" in vector else settings.gamma
    return replace(settings, decay=vector.scalar("tau"), threshold=vector.scalar("thresh"), gamma=gamma)


def _run(
    x: np.ndarray, grad_out: np.ndarray, settings: NeuronSettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return spikes and gradient of x, both [B, T, ...] as in the files, and gradient of the threshold."""
    current = torch.from_numpy(x).transpose(0, 1).requires_grad_()
    threshold = torch.tensor(settings.threshold, requires_grad=True)
    spikes, _ = run_neurons(current, None, NeuronParameters(threshold), settings=settings)
    grad_x, grad_threshold = torch.autograd.grad(
        spikes, (current, threshold), torch.from_numpy(grad_out).transpose(0, 1)
    )
    return (
        spikes.detach().transpose(0, 1).numpy(),
        grad_x.transpose(0, 1).numpy(),
        grad_threshold.numpy(),
    )


def _check_spikes_and_gradient(vector: Vector, settings: NeuronSettings) -> np.ndarray:
    spikes, grad_x, grad_threshold = _run(vector["x"], vector["grad_out"], settings)
    vector.equal("spikes", spikes)
    vector.close_to_largest("grad_x", grad_x, relative=1e-4)
    return grad_threshold


def _check_membrane(vector: Vector, settings: NeuronSettings) -> None:
    """Step by step, passing the membrane on: before the spike decision and after the reset."""
    parameters = NeuronParameters(torch.tensor(settings.threshold))
    x = torch.from_numpy(vector["x"]).transpose(0, 1)
    v = torch.zeros_like(x[0])
    before, after = [], []
    for step in x:
        before.append(settings.decay * v + step)
        _, v = run_neurons(step[None], v, parameters, settings=settings)
        after.append(v)
    vector.close("mem_pre", torch.stack(before, dim=1).numpy(), rtol=1e-5)
    vector.close("mem_post", torch.stack(after, dim=1).numpy(), rtol=1e-5)

"""Golden vectors of one-hot M-LIF: its LIF with lanes, the transformer's nodes, and the converted networks'.

Tolerances: lanes and levels exact; everything else rtol 2e-4, atol 2e-5; of threshold and leak both 1e-3.
Suffixes: `_ref` is the release (upper edge added), `_paper` the equations (subtracted), `_fast` and `_kernel`
the release's fast node and its fused kernel.
"""

from dataclasses import replace

import numpy as np
import torch
from golden import executor
from golden.executor import batch_first, run_steps, time_first
from golden.vector import Mismatch, Vector
from torch import Tensor

from snn.neurons.reference import NeuronParameters, run_lanes
from snn.neurons.settings import NeuronSettings, published

VALUES = {"rtol": 2e-4, "atol": 2e-5}
SUMS = {"rtol": 1e-3, "atol": 1e-3}
UPPER_EDGES = {"ref": "add", "paper": "subtract"}


def check_lif(vector: Vector) -> None:
    """M-LIF's LIF, [B, T, S, ...]; with `multi` = 0 plain LIF, with the gradient through its reset."""
    vector.ignore("seed")
    stored = {
        "lanes": int(vector.scalar("S")),
        "decay": vector.scalar("tau"),
        "threshold": vector.scalar("thresh"),
        "gamma": vector.scalar("gama"),
    }
    x, g = time_first(vector["x"]), torch.from_numpy(vector["g"])
    if vector.scalar("multi") == 0:
        settings = replace(published("lif_strict"), **stored)
        lanes, grads = _run_lanes(x, time_first(vector["g"])[:, None], settings)
        vector.equal("lanes", batch_first(lanes[:, 0]))
        vector.close("gx_ref", batch_first(grads["current"]), **VALUES)
        _check_merged(x, settings)
        return
    for suffix in _suffixes(vector):
        settings = replace(published("mlif"), **stored, upper_edge=UPPER_EDGES[suffix])
        lanes, grads = _run_lanes(x, g.movedim(0, 2), settings)
        vector.equal("lanes", lanes.movedim(2, 0).numpy())
        vector.close(f"gx_{suffix}", batch_first(grads["current"]), **VALUES)
        _check_merged(x, settings)


def check_soft(vector: Vector) -> None:
    """Neuron of converted networks, [T, S, B, ...]: learned threshold and leak, soft reset by value."""
    vector.ignore("seed")
    # What the files call gamma is a factor on a triangle of half width 1.
    stored = {
        "lanes": int(vector.scalar("S")),
        "decay": vector.scalar("leak"),
        "threshold": vector.scalar("thresh"),
        "surrogate_scale": vector.scalar("gamma"),
        "firing": {1: "one_hot", 2: "cumulative"}[int(vector.scalar("hardware_opt"))],
        "reset": {0: "soft_value", 1: "all"}[int(vector.scalar("reset_to_zero"))],
    }
    x, g = torch.from_numpy(vector["x"]), torch.from_numpy(vector["g"])
    for suffix in _suffixes(vector):
        settings = replace(published("mlif_converted"), **stored, upper_edge=UPPER_EDGES[suffix])
        lanes, grads = _run_lanes(x, g, settings)
        vector.equal("lanes", lanes.numpy())
        vector.close(f"gx_{suffix}", grads["current"].numpy(), **VALUES)
        vector.close(f"gthresh_{suffix}", grads["threshold"].numpy(), **SUMS)
        vector.close(f"gleak_{suffix}", grads["decay"].numpy(), **SUMS)
        _, v = run_steps(x, None, _parameters(settings), settings)
        vector.close("mem_after", v.detach().numpy(), **VALUES)
        _check_merged(x, settings)


def check_node(vector: Vector) -> None:
    """Nodes of the transformer, [T, B, ...]: lanes open on the left with both edges, and the fast node."""
    vector.ignore("seed")
    stored, soft = _node_settings(vector)
    for suffix in _suffixes(vector):
        settings = replace(published("mlif_node"), **stored, upper_edge=UPPER_EDGES[suffix])
        _check_node(vector, replace(settings, reset="soft") if soft else settings, "", f"gx_{suffix}")
    settings = replace(published("mlif_fast"), **stored)
    _check_node(vector, replace(settings, reset="soft_value") if soft else settings, "_fast", "gx_fast")


def check_kernel(vector: Vector) -> None:
    """Fused kernel of the fast node, [T, N]: from a membrane, with gradients of every membrane passed on."""
    vector.ignore("seed")
    stored, soft = _node_settings(vector)
    settings = replace(published("mlif_kernel"), **stored, detach_reset=vector.scalar("detach_reset") == 1)
    settings = replace(settings, reset="soft_value") if soft else settings
    x, v0 = torch.from_numpy(vector["x"]).requires_grad_(), torch.from_numpy(vector["v0"]).requires_grad_()
    y, v = run_steps(x, v0, _parameters(settings), settings)
    vector.equal("y", y.detach().numpy())
    vector.close("v", v.detach().numpy(), **VALUES)
    vector.close("h", _charged(x, v0, v, settings), **VALUES)
    g, gv = torch.from_numpy(vector["g"]), torch.from_numpy(vector["gv"])
    grad_x, grad_v0 = torch.autograd.grad((y, v), (x, v0), (g, gv), retain_graph=True)
    vector.close("gx_kernel", grad_x.numpy(), **VALUES)
    vector.close("gv0_kernel", grad_v0.numpy(), **VALUES)
    # All steps in one call, with the gradient of the last membrane alone.
    at_once, final = executor.RUN(x, v0, _parameters(settings), settings=settings)
    _same("y at once", at_once, y)
    by_steps = torch.autograd.grad((y, v[-1]), (x, v0), (g, gv[-1]))
    for found, wanted in zip(
        torch.autograd.grad((at_once, final), (x, v0), (g, gv[-1])), by_steps, strict=True
    ):
        _close("gradient at once", found, wanted, **VALUES)


def _node_settings(vector: Vector) -> tuple[dict, bool]:
    """Return what a node's file stores of its settings, and whether it resets softly: by a value of NaN."""
    rest = vector.scalar("v_reset")
    stored = {
        "lanes": int(vector.scalar("S")),
        "scaled": vector.scalar("scaled") == 1,
        "threshold": vector.scalar("v_th"),
        "decay": 1 - 1 / vector.scalar("tau"),
        "charge": "decay_input" if vector.scalar("decay_input") == 1 else "decay",
        "slope": vector.scalar("alpha"),
        "rest": 0.0 if np.isnan(rest) else rest,
    }
    return stored, bool(np.isnan(rest))


def _check_node(vector: Vector, settings: NeuronSettings, suffix: str, gradient: str) -> None:
    x = torch.from_numpy(vector["x"]).requires_grad_()
    y, _ = executor.RUN(x, None, _parameters(settings), settings=settings)
    (grad,) = torch.autograd.grad(y, x, torch.from_numpy(vector["g"]))
    at_rest = torch.full_like(x[0], settings.rest)
    steps, v = run_steps(x, at_rest, _parameters(settings), settings)
    _same("y step by step", steps, y)
    found = y.detach().numpy()
    if suffix == "_fast" and vector.name.endswith("_ties"):
        charged = _charged(x, at_rest, v, settings)
        found = _rounded_up(charged, found, vector["y_fast"], settings)
    vector.equal(f"y{suffix}", found)
    vector.close(f"v{suffix}", v.detach().numpy(), **VALUES)
    vector.close(gradient, grad.numpy(), **VALUES)


def _rounded_up(
    charged: np.ndarray, found: np.ndarray, expected: np.ndarray, settings: NeuronSettings
) -> np.ndarray:
    """Return our spikes, with those one float step below a lane's edge lifted where the file lifts them.

    The fast node takes the floor of a logarithm in float32, which rounds up there.
    """
    found = found.copy()
    lower = 0.0
    for value in settings.lane_values:
        edge = np.float32(value * settings.threshold)
        below = charged == np.nextafter(edge, np.float32(-np.inf))
        found[below & (found == lower) & (expected == value)] = value
        lower = value
    return found


def _charged(x: Tensor, v0: Tensor, v: Tensor, settings: NeuronSettings) -> np.ndarray:
    """Return the membrane before the spike of each step, [T, B, ...]."""
    above = torch.cat((v0[None], v[:-1])).detach() - settings.rest
    gain = 1 - settings.decay if settings.charge == "decay_input" else 1.0
    return (settings.rest + settings.decay * above + gain * x.detach()).numpy()


def _suffixes(vector: Vector) -> list[str]:
    """Return which gradients a file has: the release's raises an error for one lane."""
    found = [suffix for suffix in UPPER_EDGES if f"gx_{suffix}" in vector]
    if "paper" not in found:
        raise Mismatch(f"found gradients {found}, expected gx_paper at least")
    return found


def _parameters(settings: NeuronSettings) -> NeuronParameters:
    """Return the learned scalars at their values before training, with gradients."""
    decay = torch.tensor(settings.decay, requires_grad=True) if settings.learn_decay else None
    return NeuronParameters(torch.tensor(settings.threshold, requires_grad=True), None, decay)


def _run_lanes(x: Tensor, g: Tensor, settings: NeuronSettings) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the lanes, [T, S, B, ...], and the gradients of current, threshold and decay."""
    parameters = _parameters(settings)
    learned = {"current": x.detach().requires_grad_(), "threshold": parameters.threshold}
    if parameters.decay is not None:
        learned["decay"] = parameters.decay
    lanes, _ = run_lanes(learned["current"], None, parameters, settings=settings)
    grads = torch.autograd.grad(lanes, list(learned.values()), g, materialize_grads=True)
    return lanes.detach(), dict(zip(learned, grads, strict=True))


def _check_merged(x: Tensor, settings: NeuronSettings) -> None:
    """Compare the merged spikes with the sum of w_s lanes, and their gradients with those of w_s g."""
    weights = torch.tensor(settings.lane_values).reshape(-1, *[1] * (x.dim() - 1))
    g = torch.cos(torch.arange(float(x.numel()))).reshape(x.shape)
    lanes, expected = _run_lanes(x, g[:, None] * weights, settings)
    parameters = _parameters(settings)
    learned = {"current": x.detach().requires_grad_(), "threshold": parameters.threshold}
    if parameters.decay is not None:
        learned["decay"] = parameters.decay
    spikes, _ = executor.RUN(learned["current"], None, parameters, settings=settings)
    _same("merged lanes", spikes, (lanes * weights).sum(1))
    grads = torch.autograd.grad(spikes, list(learned.values()), g, materialize_grads=True)
    for (name, wanted), found in zip(expected.items(), grads, strict=True):
        _close(
            f"gradient of {name} by merged lanes", found, wanted, **(VALUES if name == "current" else SUMS)
        )


def _same(what: str, found: Tensor, expected: Tensor) -> None:
    if not torch.equal(found, expected):
        raise Mismatch(f"{what}: {int((found != expected).sum())} of {expected.numel()} values differ")


def _close(what: str, found: Tensor, expected: Tensor, *, rtol: float, atol: float) -> None:
    wrong = ~torch.isclose(found, expected, rtol=rtol, atol=atol)
    if wrong.any():
        raise Mismatch(f"{what}: {int(wrong.sum())} of {expected.numel()} values are off")

"""Golden vectors of weights and activations in few bits.

Codes are exact, values 1e-5 relative, gradients 1e-4 of the largest, summed scalars 1e-3. One file is
excepted by its README: in `wq_stats_asymm_8bit` a clipped entry may be one code off, since its clip edge
times a half-integer lies exactly on a rounding boundary.
"""

from collections.abc import Callable

import numpy as np
import torch
from golden.vector import Mismatch, Vector
from torch import Tensor

from snn.quant import activations, reference
from snn.quant.learned_clip import learned_clip
from snn.quant.reference import Quantised, straight_through


def check_weights(vector: Vector) -> None:
    """Values, codes, scales and gradients of one weight rule."""
    name = vector.name.removeprefix("wq_")
    for beginning, check in WEIGHTS.items():
        if name.startswith(beginning):
            check(vector)
            return
    raise Mismatch(f"found weights named {name!r}, expected one of {', '.join(WEIGHTS)}")


def check_activations(vector: Vector) -> None:
    """Values and gradients of one activation rule, as published."""
    name = vector.name.removeprefix("aq_").partition("_")[0]
    function = ACTIVATIONS.get(name)
    if function is None:
        raise Mismatch(f"found activations named {name!r}, expected one of {', '.join(ACTIVATIONS)}")
    alpha = torch.tensor(vector.scalar("alpha"), requires_grad=True)
    x = torch.from_numpy(vector["x"]).requires_grad_()
    y = function(x, alpha, int(vector.scalar("nbit")))
    grad_x, grad_alpha = torch.autograd.grad(y, (x, alpha), torch.from_numpy(vector["grad_out"]))
    vector.close("y", y.detach().numpy(), rtol=1e-5)
    vector.close_to_largest("grad_x", grad_x.numpy(), relative=1e-4)
    vector.close("grad_alpha", grad_alpha.numpy(), rtol=1e-3)


def _stateful(vector: Vector) -> None:
    rule = "sawb" if vector.name.startswith("wq_sawb") else "mean_abs"
    bits, w = int(vector.scalar("nbit")), torch.from_numpy(vector["w"])
    if "z" in vector:
        # Stored as the divisor and the second factor: alpha = (sd - z1 m) / z0.
        first, second = reference.SAWB[bits]
        vector.close("z", np.array([1 / first, second / first]), rtol=1e-12)
    alpha = torch.tensor(1.0)
    for call in ("1", "2"):
        vector.close(f"alpha_before_{call}", alpha.numpy(), rtol=1e-5)
        quantised, alpha = reference.stateful_step(w, alpha, bits=bits, rule=rule)
        _values(vector, w, quantised, of=call)
        vector.close(f"alpha_after_{call}", alpha.numpy(), rtol=1e-5)
        vector.close(f"scale_{call}", (1 / quantised.scale).numpy(), rtol=1e-5)
    one_shot = {"sawb": reference.sawb, "mean_abs": reference.mean_abs}[rule](w, bits=bits)
    vector.close("y_eval", one_shot.values.numpy(), rtol=1e-5)
    vector.equal("y_int", one_shot.codes.numpy())


def _values(vector: Vector, w: Tensor, quantised: Quantised, *, of: str = "") -> None:
    """Compare values and, where one is stored, the gradient."""
    end = f"_{of}" if of else ""
    w = w.clone().requires_grad_()
    y = straight_through(w, quantised)
    vector.close(f"y{end}", y.detach().numpy(), rtol=1e-5)
    if f"grad_out{end}" in vector:
        (grad,) = torch.autograd.grad(y, w, torch.from_numpy(vector[f"grad_out{end}"]))
        vector.close_to_largest(f"grad_w{end}", grad.numpy(), relative=1e-4)


def _one_shot(vector: Vector) -> None:
    w = torch.from_numpy(vector["w"])
    quantised = reference.sawb(w, bits=int(vector.scalar("nbit")))
    assert quantised.limit is not None
    vector.close("alpha", quantised.limit.numpy(), rtol=1e-5)
    vector.close("scale", (1 / quantised.scale).numpy(), rtol=1e-5)
    _values(vector, w, quantised)


def _four_level(vector: Vector) -> None:
    w = torch.from_numpy(vector["w"])
    quantised = reference.four_level(w, published=True)
    vector.close("alpha", 3 * quantised.scale.numpy(), rtol=1e-5)
    _values(vector, w, quantised)


def _channelwise(vector: Vector) -> None:
    w = torch.from_numpy(vector["w"])
    quantised = reference.sawb_channelwise_published(w)
    vector.close("alpha", 7 * quantised.scale.flatten().numpy(), rtol=1e-5)
    _values(vector, w, quantised)


def _unclipped(vector: Vector) -> None:
    w, bits = torch.from_numpy(vector["w"]), int(vector.scalar("nbit"))
    quantised = reference.mean_abs_unclipped(w, bits=bits)
    vector.close("alpha", (quantised.scale * reference.largest_code(bits)).numpy(), rtol=1e-5)
    _values(vector, w, quantised)


def _ternary(vector: Vector) -> None:
    w = torch.from_numpy(vector["w"])
    vector.close("dead_zone", (0.05 * w.abs().max()).numpy(), rtol=1e-5)
    _values(vector, w, reference.ternary(w))


def _statistics(vector: Vector) -> None:
    w, bits = torch.from_numpy(vector["w"]), int(vector.scalar("nbit"))
    rule = vector.name.removeprefix("wq_stats_").rpartition("_")[0]
    quantised = reference.statistics(w, bits=bits, rule=rule)
    vector.close("scale", (1 / quantised.scale).numpy(), rtol=1e-5)
    codes = quantised.codes.numpy()
    if vector.name == "wq_stats_asymm_8bit":
        codes = _within_one_code_where_clipped(vector, w, quantised)
    if "y_int" in vector:
        vector.equal("y_int", codes)
    vector.close("y", codes * quantised.scale.numpy(), rtol=1e-5)


def _within_one_code_where_clipped(vector: Vector, w: Tensor, quantised: Quantised) -> np.ndarray:
    """Return our codes, with the stored ones where a clipped entry is one off."""
    codes, stored = quantised.codes.numpy(), vector["y_int"]
    assert quantised.limit is not None
    clipped = (w.abs() >= quantised.limit * (1 - 1e-6)).numpy()
    return np.where(clipped & (np.abs(codes - stored) <= 1), stored, codes)


def _learned_clip(vector: Vector) -> None:
    levels = tuple(float(level) for level in vector["levels"])
    x = torch.from_numpy(vector["x"]).requires_grad_()
    alpha = torch.tensor(vector.scalar("alpha"), requires_grad=True)
    y = learned_clip(x, alpha, levels=levels, published=True)
    grad_x, grad_alpha = torch.autograd.grad(y, (x, alpha), torch.from_numpy(vector["grad_out"]))
    vector.close("y", y.detach().numpy(), rtol=1e-5)
    vector.close_to_largest("grad_x", grad_x.numpy(), relative=1e-4)
    vector.close("grad_alpha", grad_alpha.numpy(), rtol=1e-3)


# By the beginning of the name after `wq_`.
WEIGHTS: dict[str, Callable[[Vector], None]] = {
    "sawb_symm_": _stateful,
    "meanabs_noclip_": _unclipped,
    "meanabs_": _stateful,
    "sawb_nobuffer_": _one_shot,
    "sawb_2bit_fourlevel": _four_level,
    "sawb_channelwise_": _channelwise,
    "stats_": _statistics,
    "ternary_": _ternary,
    "nearest_grid_": _learned_clip,
}

ACTIVATIONS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "pact": lambda x, alpha, bits: activations.pact(x, alpha, bits=bits, published=True),
    "rcf": lambda x, alpha, bits: activations.rcf(x, alpha, bits=bits, published=True),
    "roundclip": lambda x, alpha, bits: activations.round_clip(x, alpha, bits=bits, published=True),
}
